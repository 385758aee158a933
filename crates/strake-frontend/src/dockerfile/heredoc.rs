//! Heredocs: which an instruction declares.

use strake_graph::Span;

use crate::Diagnostic;
use crate::dockerfile::expand::{Env, Style, expand};
use crate::dockerfile::lex::Joined;
use crate::dockerfile::words;

/// A document inside an instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Heredoc {
    /// The delimiter, unquoted; also the name of the file it becomes.
    pub(super) name: String,
    /// Whether variables in it are replaced by `COPY` and `ADD` (no part of the delimiter is quoted).
    pub(super) expands: bool,
    /// `<<-`: tabs at the start of lines do not count.
    pub(super) strip_tabs: bool,
    /// The body as written, line ends included.
    pub(super) content: String,
    /// The word that declares it.
    pub(super) span: Span,
}

impl Heredoc {
    /// The body as it is meant: without tabs in front if the operator says so.
    pub(super) fn body(&self) -> String {
        if !self.strip_tabs {
            return self.content.clone();
        }
        self.content.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
    }
}

/// The heredocs that an instruction declares, bodies still empty. Only `RUN`, `COPY` and `ADD` can have them, also
/// behind `ONBUILD`, and only if their arguments are not a JSON array.
pub(super) fn declared(line: &Joined, diagnostics: &mut Vec<Diagnostic>) -> Vec<Heredoc> {
    let text = line.as_str();
    if !text.contains("<<") {
        return Vec::new();
    }
    let (mut keyword, mut rest) = words::split_keyword(text);
    if keyword.eq_ignore_ascii_case("ONBUILD") {
        (keyword, rest) = words::split_keyword(rest);
    }
    if !["RUN", "COPY", "ADD"].iter().any(|name| keyword.eq_ignore_ascii_case(name)) {
        return Vec::new();
    }
    let arguments = words::split_flags(rest).1;
    if matches!(words::json_array(arguments), words::Json::Strings(_)) {
        return Vec::new();
    }
    let style = Style { raw_quotes: true, raw_escapes: true, keep_unset: true, ..Style::new('\\') };
    let Ok(expansion) = expand(text, style, &Env::default()) else { return Vec::new() };
    let mut found = Vec::new();
    let mut cursor = 0;
    for word in &expansion.words {
        // Words keep quotes, escapes and variables, so each stands in the text as it is.
        let at =
            text.get(cursor..).and_then(|rest| rest.find(word.as_str())).map_or(cursor, |at| cursor + at);
        cursor = (at + word.len()).min(text.len());
        match parse(word) {
            Ok(Some(heredoc)) => found.push(Heredoc { span: line.span(at..cursor), ..heredoc }),
            Ok(None) => {}
            Err(reason) => {
                diagnostics.push(Diagnostic::error("invalid-heredoc", line.span(at..cursor), reason))
            }
        }
    }
    found
}

/// Takes `3<<-"EOF"` apart; `None` if the word (or text) is nothing of the kind.
pub(super) fn parse(word: &str) -> Result<Option<Heredoc>, String> {
    let digits = word.bytes().take_while(u8::is_ascii_digit).count();
    let Some(rest) = word[digits..].strip_prefix("<<") else { return Ok(None) };
    let (strip_tabs, rest) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    if rest.is_empty() || rest.contains('<') {
        return Ok(None);
    }
    let style = Style { keep_unset: true, ..Style::new('\\') };
    let words_of = |style| expand(rest, style, &Env::default()).map_err(|error| error.to_string());
    let unquoted = words_of(style)?.words;
    let quoted = words_of(Style { raw_quotes: true, ..style })?.words;
    let ([name], [raw]) = (unquoted.as_slice(), quoted.as_slice()) else { return Ok(None) };
    let quotes = |text: &str| text.matches(['\'', '"']).count();
    Ok(Some(Heredoc {
        expands: quotes(name) == quotes(raw),
        name: name.clone(),
        strip_tabs,
        content: String::new(),
        span: Span::default(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(word: &str, expect: Option<(&str, bool, bool)>) {
        let parsed = parse(word).unwrap();
        let parsed =
            parsed.as_ref().map(|heredoc| (heredoc.name.as_str(), heredoc.expands, heredoc.strip_tabs));
        assert_eq!(parsed, expect, "{word}");
    }

    #[test]
    fn words_are_told_apart() {
        check("<<EOF", Some(("EOF", true, false)));
        check("3<<-EOF", Some(("EOF", true, true)));
        check("<<'EOF'", Some(("EOF", false, false)));
        check("<<E\"O\"F", Some(("EOF", false, false)));
        check("<<<EOF", None);
        check("a<<EOF", None);
        check("<<EOF cat", None);
        check("<<", None);
        check("<<-", None);
        assert!(parse("<<'EOF").is_err());
    }
}
