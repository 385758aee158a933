//! Rendered text → documents → trees of nodes with spans.
//!
//! Tokens and nesting come from `saphyr-parser`: its events carry the style of every scalar and where it stands.
//! What a plain scalar *means* is decided here ([`scalar`]), because the stage file is YAML 1.1 as Go's `yaml.v2`
//! read it: `yes` is a truth value, `0755` is 493, a date is text.
//!
//! The text is cut into documents first ([`split`]), so that a broken document does not hide the errors of the
//! others. A tree is bounded in depth, and in size after all aliases were followed.

mod read;
mod scalar;
mod split;
#[cfg(test)]
mod tests;

use strake_graph::Span;

pub(super) use read::read;
pub(super) use scalar::{Scalar, Value};
pub(super) use split::documents;

/// Something in a document, with its place in the rendered text.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) span: Span,
    pub(super) kind: Kind,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    Scalar(Scalar),
    List(Vec<Node>),
    /// In the order of the text; what `<<` brought in is at the end. No key occurs twice.
    Map(Vec<Entry>),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub(super) key: Scalar,
    pub(super) key_span: Span,
    pub(super) node: Node,
}

impl Node {
    /// What this is, to tell people.
    pub(super) fn describe(&self) -> String {
        match &self.kind {
            Kind::List(_) => "a list".into(),
            Kind::Map(_) => "a map".into(),
            Kind::Scalar(scalar) => scalar.describe(),
        }
    }

    /// Whether this is `~` or nothing at all.
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.kind, Kind::Scalar(scalar) if scalar.value == Value::Null)
    }
}
