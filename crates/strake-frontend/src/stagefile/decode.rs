//! From nodes to values, saying everything that is wrong on the way.

use std::collections::BTreeMap;

use strake_graph::Span;
use strake_graph::pattern::Glob;

use super::yaml::{Entry, Kind, Node};
use crate::Diagnostic;
use crate::diagnostic::nearest;

/// A value and where it was read.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Spanned<T> {
    pub(super) value: T,
    pub(super) span: Span,
}

/// Collects what is wrong.
#[derive(Debug)]
pub(super) struct Decoder<'d> {
    diagnostics: &'d mut Vec<Diagnostic>,
}

/// The entries of a map by their keys, all of which are known.
#[derive(Debug)]
pub(super) struct Fields<'n> {
    entries: BTreeMap<&'static str, &'n Entry>,
    pub(super) span: Span,
}

impl<'n> Fields<'n> {
    /// The value of a key; nothing if it is absent or `~`.
    pub(super) fn get(&self, key: &str) -> Option<&'n Node> {
        self.entries.get(key).map(|entry| &entry.node).filter(|node| !node.is_null())
    }

    /// The value of a key, even if it is `~`.
    pub(super) fn written(&self, key: &str) -> Option<&'n Entry> {
        self.entries.get(key).copied()
    }

    /// Where a key with a value stands.
    pub(super) fn key_span(&self, key: &str) -> Option<Span> {
        self.get(key).and_then(|_| self.written(key)).map(|entry| entry.key_span)
    }
}

impl<'d> Decoder<'d> {
    pub(super) fn new(diagnostics: &'d mut Vec<Diagnostic>) -> Self {
        Self { diagnostics }
    }

    pub(super) fn push(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    pub(super) fn error(&mut self, code: &'static str, span: Span, message: impl Into<String>) {
        self.push(Diagnostic::error(code, span, message));
    }

    /// A map that has no other keys than `known`. `section` says what it is, as in "`git` has no key `x`".
    pub(super) fn fields<'n>(
        &mut self,
        node: &'n Node,
        section: &str,
        known: &[&'static str],
    ) -> Option<Fields<'n>> {
        let Kind::Map(all) = &node.kind else {
            let message = format!("{section} is a map, not {}", node.describe());
            self.error("wrong-type", node.span, message);
            return None;
        };
        let mut entries = BTreeMap::new();
        for entry in all {
            if let Some(key) = known.iter().find(|key| **key == entry.key.text) {
                entries.insert(*key, entry);
                continue;
            }
            let written = &entry.key.text;
            let diagnostic =
                Diagnostic::error("unknown-key", entry.key_span, format!("{section} has no key `{written}`"));
            // A file with that many errors is not mistyped, and comparing takes time.
            let near = if self.diagnostics.len() < 100 { nearest(written, known) } else { None };
            let hint = match near {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known are {}", list(known)),
            };
            self.push(diagnostic.hint(hint));
        }
        Some(Fields { entries, span: node.span })
    }

    /// The entries of a list.
    pub(super) fn items<'n>(&mut self, node: &'n Node, section: &str) -> &'n [Node] {
        let Kind::List(nodes) = &node.kind else {
            let diagnostic = Diagnostic::error(
                "wrong-type",
                node.span,
                format!("{section} is a list, not {}", node.describe()),
            );
            self.push(diagnostic.hint("begin each entry with `- `"));
            return &[];
        };
        nodes
    }

    /// A text where nothing else makes sense: numbers and truth values are taken as they were written.
    pub(super) fn text(&mut self, node: &Node, key: &str) -> Option<Spanned<String>> {
        match &node.kind {
            Kind::Scalar(scalar) if !node.is_null() => {
                Some(Spanned { value: scalar.text.clone(), span: node.span })
            }
            _ => {
                self.error("wrong-type", node.span, format!("`{key}` is a text, not {}", node.describe()));
                None
            }
        }
    }

    /// The text of a key, if it is there.
    pub(super) fn text_of(&mut self, fields: &Fields<'_>, key: &str) -> Option<Spanned<String>> {
        fields.get(key).and_then(|node| self.text(node, key))
    }

    /// One text or a list of texts; nothing but texts.
    pub(super) fn texts_of(&mut self, fields: &Fields<'_>, key: &str) -> Vec<Spanned<String>> {
        fields.get(key).map_or_else(Vec::new, |node| self.texts(node, key))
    }

    /// As [`Decoder::texts_of`], for a node.
    pub(super) fn texts(&mut self, node: &Node, key: &str) -> Vec<Spanned<String>> {
        let nodes = match &node.kind {
            Kind::List(nodes) => nodes.as_slice(),
            _ => std::slice::from_ref(node),
        };
        let mut texts = Vec::new();
        for node in nodes {
            match &node.kind {
                Kind::Scalar(scalar) if scalar.as_text().is_some() => {
                    texts.push(Spanned { value: scalar.text.clone(), span: node.span });
                }
                kind => {
                    let message = format!("`{key}` is a text or a list of texts, not {}", node.describe());
                    let diagnostic = Diagnostic::error("wrong-type", node.span, message);
                    self.push(match kind {
                        Kind::Scalar(scalar) if !scalar.text.is_empty() => {
                            diagnostic.hint(format!("write it in quotes: \"{}\"", scalar.text))
                        }
                        _ => diagnostic,
                    });
                }
            }
        }
        texts
    }

    /// A path of an image or repository: absolute, plain, without a slash at the end.
    pub(super) fn absolute_of(&mut self, fields: &Fields<'_>, key: &str) -> Option<Spanned<String>> {
        let text = self.text_of(fields, key)?;
        if !text.value.starts_with('/') {
            let message = format!("`{key}` is an absolute path, not `{}`", text.value);
            let diagnostic = Diagnostic::error("path-not-absolute", text.span, message);
            self.push(diagnostic.hint(format!("write `/{}`", text.value.trim_start_matches("./"))));
            return None;
        }
        if !self.is_plain(&text, key) {
            return None;
        }
        let parts: Vec<_> = text.value.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
        Some(Spanned { value: format!("/{}", parts.join("/")), span: text.span })
    }

    /// Patterns below a folder.
    pub(super) fn patterns_of(&mut self, fields: &Fields<'_>, key: &str) -> Vec<String> {
        let texts = self.texts_of(fields, key);
        let mut patterns = Vec::new();
        for text in texts {
            if text.value.starts_with('/') {
                let message = format!("`{key}` takes paths relative to `add`, not `{}`", text.value);
                let diagnostic = Diagnostic::error("path-not-relative", text.span, message);
                self.push(diagnostic.hint("leave out the slash in front"));
                continue;
            }
            if text.value.is_empty() {
                self.error("invalid-pattern", text.span, format!("`{key}` has an empty path"));
                continue;
            }
            match Glob::new(&text.value) {
                Err(error) => self.error("invalid-pattern", text.span, error.to_string()),
                Ok(_) if self.is_plain(&text, key) => patterns.push(text.value),
                Ok(_) => {}
            }
        }
        patterns
    }

    fn is_plain(&mut self, text: &Spanned<String>, key: &str) -> bool {
        let plain = text.value.split('/').all(|part| part != "..") && !text.value.contains('\0');
        if !plain {
            self.error("path-not-plain", text.span, format!("`{key}` must not lead upwards with `..`"));
        }
        plain
    }
}

/// `a`, `b` and `c`
pub(super) fn list(names: &[&str]) -> String {
    let quoted: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}
