//! What is said of a text as a whole: its encoding, the language it asks for, and which warnings it wants.

use std::collections::BTreeSet;

use strake_graph::Span;
use strake_oci::Reference;

use crate::{Diagnostic, Severity};

/// Says what is wrong with the bytes as text; answers whether reading them makes sense at all.
pub(super) fn encoding(bytes: &[u8], diagnostics: &mut Vec<Diagnostic>) -> bool {
    if bytes.starts_with(&[0xFF, 0xFE]) || bytes.starts_with(&[0xFE, 0xFF]) {
        diagnostics.push(
            Diagnostic::error(
                "invalid-utf8",
                Span::default(),
                "the text is not UTF-8 but seems to be UTF-16",
            )
            .hint("save the file as UTF-8"),
        );
        return false;
    }
    if let Err(error) = std::str::from_utf8(bytes) {
        // The text is kept with U+FFFD in place of what is wrong; up to the first of these offsets agree.
        let at = error.valid_up_to();
        diagnostics.push(
            Diagnostic::error("invalid-utf8", Span::new(at, at + 3), "the text is not UTF-8 here")
                .hint("save the file as UTF-8"),
        );
    }
    let text = String::from_utf8_lossy(bytes);
    if let Some(at) = text.find('\0') {
        diagnostics.push(Diagnostic::error("nul", Span::new(at, at + 1), "the text holds a NUL character"));
    }
    true
}

/// `# syntax=`: the language of `docker/dockerfile:1` is built in, other frontends would have to be run.
pub(super) fn syntax(directive: Option<&(String, Span)>, diagnostics: &mut Vec<Diagnostic>) {
    let Some((value, span)) = directive else { return };
    let name = value.split_whitespace().next().unwrap_or_default();
    let is_built_in = name.parse::<Reference>().is_ok_and(|reference| {
        let repository = reference.repository();
        let is_dockerfile = ["docker/dockerfile", "docker/dockerfile-upstream"].iter().any(|known| {
            // Mirrors keep the last two parts of the name.
            repository.strip_suffix(known).is_some_and(|prefix| prefix.is_empty() || prefix.ends_with('/'))
        });
        let version = reference.tag().is_none_or(|tag| {
            let major = tag.split(['.', '-']).next().unwrap_or_default();
            matches!(major, "1" | "latest" | "labs" | "master" | "experimental")
        });
        is_dockerfile && version
    });
    if !is_built_in {
        diagnostics.push(
            Diagnostic::error("foreign-frontend", *span, format!("frontend `{name}` is not built in"))
                .hint("strake reads the language of docker/dockerfile:1; remove the line if the file is written in it"),
        );
    }
}

/// `# check=`: which warnings are wanted.
#[derive(Debug, Clone, Default)]
pub(super) struct Checks {
    skip_all: bool,
    skip: BTreeSet<String>,
    are_errors: bool,
}

impl Checks {
    /// Reads `skip=all`, `skip=JSONArgsRecommended,StageNameCasing;error=true`.
    pub(super) fn parse(directive: Option<&(String, Span)>, diagnostics: &mut Vec<Diagnostic>) -> Self {
        let mut checks = Self::default();
        let Some((value, span)) = directive else { return checks };
        for part in value.split(';').map(str::trim).filter(|part| !part.is_empty()) {
            match part.split_once('=').map(|(name, value)| (name.trim(), value.trim())) {
                Some(("skip", "all")) => checks.skip_all = true,
                Some(("skip", names)) => checks.skip.extend(names.split(',').map(|name| code(name.trim()))),
                Some(("error", "true")) => checks.are_errors = true,
                Some(("error", "false")) => checks.are_errors = false,
                Some(("experimental", _)) => {}
                _ => diagnostics.push(
                    Diagnostic::error("invalid-check", *span, format!("`{part}` is no option of `check`"))
                        .hint("for example check=skip=JSONArgsRecommended;error=true"),
                ),
            }
        }
        checks
    }

    /// Takes out the warnings that are not wanted; makes errors of the others if that is.
    pub(super) fn filter(&self, diagnostics: &mut Vec<Diagnostic>) {
        diagnostics.retain(|diagnostic| {
            diagnostic.is_error() || !(self.skip_all || self.skip.contains(diagnostic.code))
        });
        if self.are_errors {
            diagnostics.iter_mut().for_each(|diagnostic| diagnostic.severity = Severity::Error);
        }
    }
}

/// The name of one of BuildKit's checks as a code: `JSONArgsRecommended` is `json-args-recommended`.
fn code(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    let mut code = String::new();
    for (at, letter) in letters.iter().enumerate() {
        let before = at.checked_sub(1).and_then(|at| letters.get(at));
        let after = letters.get(at + 1);
        let begins = before.is_some_and(|before| before.is_lowercase())
            || (before.is_some_and(|before| before.is_uppercase())
                && after.is_some_and(|after| after.is_lowercase()));
        if letter.is_uppercase() && begins {
            code.push('-');
        }
        code.extend(letter.to_lowercase());
    }
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_checks_are_codes() {
        assert_eq!(code("JSONArgsRecommended"), "json-args-recommended");
        assert_eq!(code("UndefinedVar"), "undefined-var");
        assert_eq!(code("FromAsCasing"), "from-as-casing");
        assert_eq!(code("undefined-var"), "undefined-var");
    }

    #[test]
    fn only_the_built_in_frontend_is_known() {
        let check = |value: &str, expect| {
            let mut diagnostics = Vec::new();
            syntax(Some(&(value.to_owned(), Span::default())), &mut diagnostics);
            assert_eq!(diagnostics.is_empty(), expect, "{value}");
        };
        check("docker/dockerfile:1", true);
        check("docker/dockerfile:1.7-labs", true);
        check("docker/dockerfile", true);
        check("docker.io/docker/dockerfile:1.4", true);
        check("mirror.example/hub/docker/dockerfile:1", true);
        check("docker/dockerfile-upstream:master", true);
        check("docker/dockerfile:0.9", false);
        check("docker/dockerfile:2", false);
        check("example/mydocker/dockerfile:1", false);
        check("example/frontend", false);
        check("UPPER", false);
    }
}
