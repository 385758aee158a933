//! `ARG`, `ENV`, `LABEL`, `EXPOSE`, `VOLUME` and `MAINTAINER`.

use crate::Diagnostic;
use crate::dockerfile::ast::{ArgItem, Pair, Word};
use crate::dockerfile::parse::Request;
use crate::dockerfile::words;

pub(super) fn parse_arg(request: &Request<'_>) -> Result<Vec<ArgItem>, Diagnostic> {
    let words = words::keeping_quotes(request.arguments, request.escape);
    if words.is_empty() {
        return Err(request.missing("a name"));
    }
    let item = |word: &str| {
        let (name, default) = match word.split_once('=') {
            Some((name, default)) => (name, Some(request.word(default))),
            None => (word, None),
        };
        if name.is_empty() {
            let message = "ARG lacks a name in front of `=`";
            return Err(Diagnostic::error("missing-name", request.span_of(word), message));
        }
        Ok(ArgItem { name: request.word(name), default })
    };
    words.into_iter().map(item).collect()
}

/// `NAME=value …`, or the old form `NAME value` whose value is the rest of the line. Which one is meant is decided
/// by the first word alone.
pub(super) fn parse_pairs(
    request: &Request<'_>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Result<Vec<Pair>, Diagnostic> {
    let words = words::keeping_quotes(request.arguments, request.escape);
    let Some(first) = words.first() else {
        return Err(request.missing("a name and a value"));
    };
    if !first.contains('=') {
        return legacy_pair(request, diagnostics).map(|pair| vec![pair]);
    }
    words.into_iter().map(|word| pair(request, word)).collect()
}

fn pair(request: &Request<'_>, word: &str) -> Result<Pair, Diagnostic> {
    let Some((name, value)) = word.split_once('=') else {
        let message = format!("`{word}` lacks a `=`: {} takes NAME=value", request.name);
        return Err(Diagnostic::error("missing-equals", request.span_of(word), message)
            .hint("quote values with blanks: NAME=\"two words\""));
    };
    if name.is_empty() {
        let message = format!("{} lacks a name in front of `=`", request.name);
        return Err(Diagnostic::error("missing-name", request.span_of(word), message));
    }
    Ok(Pair { key: request.word(name), value: request.word(value) })
}

fn legacy_pair(request: &Request<'_>, diagnostics: &mut Vec<Diagnostic>) -> Result<Pair, Diagnostic> {
    let (name, value) = words::split_keyword(request.arguments);
    if value.is_empty() {
        return Err(Diagnostic::error(
            "missing-value",
            request.span_of(name),
            format!("{} requires a name and a value", request.name),
        )
        .hint(format!("write `{} {name}=value`", request.name)));
    }
    let message = format!("`{} {name} value` is the old form without `=`", request.name);
    diagnostics.push(
        Diagnostic::warning("legacy-key-value-format", request.arguments_span(), message)
            .hint(format!("write `{} {name}=value`, quoted if it has blanks", request.name)),
    );
    Ok(Pair { key: request.word(name), value: request.word(value) })
}

pub(super) fn parse_expose(request: &Request<'_>) -> Result<Vec<Word>, Diagnostic> {
    let words: Vec<_> = words::by_blanks(request.arguments).map(|word| request.word(word)).collect();
    if words.is_empty() { Err(request.missing("a port")) } else { Ok(words) }
}

pub(super) fn parse_volume(request: &Request<'_>) -> Result<Vec<Word>, Diagnostic> {
    let words = request.word_list()?;
    if words.is_empty() {
        return Err(request.missing("a directory"));
    }
    if let Some(blank) = words.iter().find(|word| word.text.trim().is_empty()) {
        return Err(Diagnostic::error("empty-volume", blank.span, "VOLUME names an empty directory"));
    }
    Ok(words)
}

pub(super) fn parse_maintainer(
    request: &Request<'_>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Result<Word, Diagnostic> {
    let word = request.single("a name")?;
    diagnostics.push(
        Diagnostic::warning("maintainer-deprecated", request.keyword, "MAINTAINER is deprecated")
            .hint("use LABEL org.opencontainers.image.authors=…"),
    );
    Ok(word)
}
