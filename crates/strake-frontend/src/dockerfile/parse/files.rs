//! `COPY` and `ADD`.

use strake_graph::Span;

use crate::Diagnostic;
use crate::dockerfile::ast::{CopyAst, CopySourceAst, Word};
use crate::dockerfile::heredoc::{self, Heredoc};
use crate::dockerfile::parse::Request;
use crate::dockerfile::parse::flags::Flags;
use crate::dockerfile::parse::run::check_file_name;

pub(super) fn parse_copy(request: &Request<'_>, flags: &mut Flags<'_>) -> Result<CopyAst, Diagnostic> {
    let from = flags.one("from");
    let (chown, chmod, link) = common(flags);
    flags.refuse("parents", "copy each directory by an instruction of its own");
    let (sources, destination) = sources(request)?;
    if let Some(from) = from.as_ref().filter(|from| from.text.contains('$')) {
        let message = "variables are not replaced in `--from`";
        return Err(Diagnostic::error("variable-in-from", from.span, message)
            .hint("give the image a stage of its own: FROM $IMAGE AS name"));
    }
    if let Some(from) = from.as_ref().filter(|from| from.text.is_empty()) {
        return Err(Diagnostic::error("missing-flag-value", from.span, "flag `--from` lacks a value"));
    }
    Ok(CopyAst { sources, destination, from, chown, chmod, checksum: None, link, unpack: None })
}

pub(super) fn parse_add(request: &Request<'_>, flags: &mut Flags<'_>) -> Result<CopyAst, Diagnostic> {
    let (chown, chmod, link) = common(flags);
    let checksum = flags.one("checksum");
    flags.refuse("keep-git-dir", "ADD of git repositories is not supported yet");
    let unpack = flags.boolean("unpack").map(|(unpack, _)| unpack);
    let (sources, destination) = sources(request)?;
    Ok(CopyAst { sources, destination, from: None, chown, chmod, checksum, link, unpack })
}

/// `--chown`, `--chmod` and `--link`; and those of both instructions that cannot be honoured yet.
fn common(flags: &mut Flags<'_>) -> (Option<Word>, Option<Word>, Option<Span>) {
    let chown = flags.one("chown");
    let chmod = flags.one("chmod");
    let link = flags.boolean("link").filter(|(is_on, _)| *is_on).map(|(_, span)| span);
    flags.refuse("exclude", "exclude the files in .dockerignore");
    (chown, chmod, link)
}

fn sources(request: &Request<'_>) -> Result<(Vec<CopySourceAst>, Word), Diagnostic> {
    let mut words = request.word_list()?;
    let destination = words.pop();
    let Some(destination) = destination.filter(|_| !words.is_empty()) else {
        return Err(request.missing("a source and a destination"));
    };
    // Heredocs were found in the same words by the lexer; those of a JSON array are names like any other.
    let mut declared: Vec<Option<&Heredoc>> = request.heredocs.iter().map(Some).collect();
    if !declared.is_empty() && matches!(heredoc::parse(&destination.text), Ok(Some(_))) {
        let message = format!("a heredoc cannot be the destination of {}", request.name);
        return Err(Diagnostic::error("invalid-heredoc", destination.span, message));
    }
    let mut sources = Vec::new();
    for word in words {
        let parsed = if declared.is_empty() { None } else { heredoc::parse(&word.text).ok().flatten() };
        let found = parsed.and_then(|parsed| {
            let slot =
                declared.iter_mut().find(|slot| slot.is_some_and(|heredoc| heredoc.name == parsed.name));
            slot.and_then(Option::take)
        });
        match found {
            Some(heredoc) => {
                check_file_name(heredoc)?;
                sources.push(CopySourceAst::Heredoc(heredoc.clone()));
            }
            None => sources.push(CopySourceAst::Path(word)),
        }
    }
    Ok((sources, destination))
}
