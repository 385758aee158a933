//! What goes wrong, and where.

use std::fmt;

/// A place in the text of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The name of the template's file, as it was added. Text given to `tpl` is called `tpl`.
    pub template: String,
    /// The line, from 1.
    pub line: usize,
    /// The character in the line, from 1.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}:{}", self.template, self.line, self.column)
    }
}

/// Which kind of trouble an error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The text is not a template.
    Syntax,
    /// A template asked for something that cannot be had.
    Evaluation,
    /// A template called `fail`: the message is its author's own.
    Failed,
    /// A template did too much; see [`crate::Limits`].
    Limit,
}

/// Why a template could not be parsed or rendered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {message}")]
pub struct TemplateError {
    /// Which kind of trouble it is.
    pub kind: ErrorKind,
    /// Where it happened.
    pub place: Place,
    /// What happened.
    pub message: String,
    /// What to do about it, where that is known.
    pub hint: Option<String>,
    /// The `include`, `template` and `tpl` that led to the place, the innermost first.
    pub called_from: Vec<Place>,
}

/// An error before the place is known.
#[derive(Debug)]
pub(crate) struct Fault {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
}

/// The longest message, in bytes: it may quote values, and those may be long.
const MAX_MESSAGE: usize = 8192;

impl Fault {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self::of_kind(ErrorKind::Evaluation, message)
    }

    pub(crate) fn of_kind(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None }
    }

    pub(crate) fn limit(message: impl Into<String>) -> Self {
        Self::of_kind(ErrorKind::Limit, message)
    }

    pub(crate) fn hint(mut self, text: impl Into<String>) -> Self {
        self.hint = Some(text.into());
        self
    }

    /// Says which function it was, unless the message is its author's own.
    pub(crate) fn in_function(mut self, name: &str) -> Self {
        if self.kind != ErrorKind::Failed {
            self.message = format!("{name}: {}", self.message);
        }
        self
    }

    pub(crate) fn at(self, place: Place) -> Box<TemplateError> {
        let Self { kind, mut message, hint } = self;
        if message.len() > MAX_MESSAGE {
            message.truncate(message.floor_char_boundary(MAX_MESSAGE));
            message.push('…');
        }
        Box::new(TemplateError { kind, place, message, hint, called_from: Vec::new() })
    }
}
