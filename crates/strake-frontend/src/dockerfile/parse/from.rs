//! `FROM`.

use crate::Diagnostic;
use crate::dockerfile::ast::{StageAst, Word};
use crate::dockerfile::parse::Request;
use crate::dockerfile::parse::flags::Flags;
use crate::dockerfile::words;

pub(super) fn parse(
    request: &Request<'_>,
    flags: &mut Flags<'_>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Result<StageAst, Diagnostic> {
    let platform = flags.one("platform");
    let words: Vec<&str> = words::by_blanks(request.arguments).collect();
    let (base, name) = match words[..] {
        [base] => (base, None),
        [base, keyword, name] if keyword.eq_ignore_ascii_case("AS") => {
            check_casing(request, keyword, diagnostics);
            (base, Some(stage_name(request, name, diagnostics)?))
        }
        [] => {
            return Err(request
                .missing("an image, a stage or `scratch`")
                .hint("for example `FROM debian:12`"));
        }
        _ => {
            let message = "FROM takes one image, or an image, AS and a name";
            return Err(Diagnostic::error("invalid-from", request.arguments_span(), message)
                .hint("write `FROM IMAGE` or `FROM IMAGE AS NAME`"));
        }
    };
    Ok(StageAst {
        base: request.word(base),
        platform,
        name,
        is_broken: false,
        span: request.span,
        instructions: Vec::new(),
    })
}

/// The stage of a `FROM` that could not be read: the instructions below it belong to it, and others may name it.
pub(super) fn broken(request: &Request<'_>) -> StageAst {
    let words: Vec<&str> = words::by_blanks(request.arguments).collect();
    let keyword = words.iter().position(|word| word.eq_ignore_ascii_case("AS"));
    let place = keyword.map_or(words.len().saturating_sub(1).max(1), |keyword| keyword + 1);
    let name = words.get(place).map(|name| Word { text: name.to_lowercase(), span: request.span_of(name) });
    StageAst {
        base: request.word(request.arguments),
        platform: None,
        name,
        is_broken: true,
        span: request.span,
        instructions: Vec::new(),
    }
}

fn check_casing(request: &Request<'_>, keyword: &str, diagnostics: &mut Vec<Diagnostic>) {
    let from = request.line.as_str().trim_start().get(..4).unwrap_or_default();
    let upper = |text: &str| text.bytes().all(|byte| byte.is_ascii_uppercase());
    if upper(from) != upper(keyword) {
        let message = format!("`{keyword}` and `{from}` are written in different cases");
        diagnostics.push(Diagnostic::warning("from-as-casing", request.span_of(keyword), message));
    }
}

/// A stage's name in lower case: a letter, then letters, digits, `-`, `_` and `.`.
fn stage_name(
    request: &Request<'_>,
    written: &str,
    diagnostics: &mut Vec<Diagnostic>,
) -> Result<Word, Diagnostic> {
    let span = request.span_of(written);
    let text = written.to_lowercase();
    let fine = text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.bytes().all(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'.')
        });
    if !fine {
        let message = format!("`{written}` is not a stage name");
        return Err(Diagnostic::error("invalid-stage-name", span, message)
            .hint("a name begins with a letter and holds letters, digits and - _ ."));
    }
    if text != written {
        let message = format!("stage name `{written}` should be in lower case");
        diagnostics.push(Diagnostic::warning("stage-name-casing", span, message));
    }
    if matches!(text.as_str(), "scratch" | "context") {
        let message = format!("stage name `{text}` is reserved");
        diagnostics.push(Diagnostic::warning("reserved-stage-name", span, message));
    }
    Ok(Word { text, span })
}
