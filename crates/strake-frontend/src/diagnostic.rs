//! What is said about a text, with the place it is said about.

use strake_graph::Span;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The text cannot be used.
    Error,
    /// The text can be used, but probably does not mean what its author thinks.
    Warning,
}

/// One thing to say about a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// A stable name in lower case with hyphens, for example `unknown-instruction`. Checks that BuildKit has too
    /// carry its name in this spelling (`UndefinedVar` is `undefined-var`).
    pub code: &'static str,
    /// What is wrong: a lower-case fragment without a full stop.
    pub message: String,
    /// Where.
    pub span: Span,
    /// What to do about it.
    pub hint: Option<String>,
    /// Other places that have to do with it.
    pub notes: Vec<Note>,
}

/// Another place that has to do with a diagnostic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// What is there.
    pub message: String,
    /// Where.
    pub span: Span,
}

impl Diagnostic {
    /// An error.
    pub fn error(code: &'static str, span: Span, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { severity: Severity::Error, code, message, span, hint: None, notes: Vec::new() }
    }

    /// A warning.
    pub fn warning(code: &'static str, span: Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, span, message) }
    }

    /// The same with advice.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same with one more place.
    #[must_use]
    pub fn note(mut self, span: Span, message: impl Into<String>) -> Self {
        self.notes.push(Note { message: message.into(), span });
        self
    }

    /// Takes control characters out of what is said: it may quote a hostile text, and is printed on terminals.
    pub(crate) fn make_printable(&mut self) {
        let texts = std::iter::once(&mut self.message).chain(&mut self.hint);
        for text in texts.chain(self.notes.iter_mut().map(|note| &mut note.message)) {
            if text.chars().any(char::is_control) {
                *text = text
                    .chars()
                    .map(|letter| if letter.is_control() { '\u{fffd}' } else { letter })
                    .collect();
            }
        }
    }

    /// Whether this is an error.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// A place as people count: line and column from 1; a column is one character, not one byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The line, from 1.
    pub line: usize,
    /// The character within the line, from 1.
    pub column: usize,
}

/// Finds lines and columns of byte offsets in logarithmic time (plus the length of the line for the column).
#[derive(Debug, Clone)]
pub struct LineIndex {
    /// The offset of the first byte of each line.
    starts: Vec<usize>,
    length: usize,
}

impl LineIndex {
    /// Looks for line ends (`\n`) once.
    pub fn new(text: &str) -> Self {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Self { starts: std::iter::once(0).chain(ends).collect(), length: text.len() }
    }

    /// The number of lines; a text that ends in a line end has an empty last line.
    pub fn lines(&self) -> usize {
        self.starts.len()
    }

    /// The line that byte `offset` is in, from 1. Offsets behind the text are in the last line.
    pub fn line(&self, offset: usize) -> usize {
        self.starts.partition_point(|start| *start <= offset)
    }

    /// The bytes of a line (from 1), its line end included; `None` if there is no such line.
    pub fn span(&self, line: usize) -> Option<Span> {
        let start = *self.starts.get(line.checked_sub(1)?)?;
        Some(Span::new(start, self.starts.get(line).copied().unwrap_or(self.length)))
    }

    /// Line and column of byte `offset` of the text this index was made from.
    pub fn position(&self, text: &str, offset: usize) -> Position {
        let line = self.line(offset);
        let start = self.starts.get(line - 1).copied().unwrap_or(0);
        let before = text.as_bytes().get(start..offset.min(text.len())).unwrap_or_default();
        // Counting the bytes that begin a character also works for an offset within one.
        let column = before.iter().filter(|byte| (**byte & 0xC0) != 0x80).count() + 1;
        Position { line, column }
    }
}

/// The nearest of `names` if it is near enough to be meant: at most a third of its letters differ.
pub(crate) fn nearest<'a>(written: &str, names: &[&'a str]) -> Option<&'a str> {
    // Nobody mistypes a name into something of this length, and the distance is quadratic.
    if written.len() > 64 {
        return None;
    }
    let distances = names.iter().map(|name| (distance(written, name), *name));
    distances.min().filter(|(distance, name)| *distance <= (name.len() / 3).clamp(1, 3)).map(|(_, name)| name)
}

/// The number of letters to change, add, drop or swap with a neighbour, without regard to case.
fn distance(a: &str, b: &str) -> usize {
    let letters = |text: &str| text.chars().flat_map(char::to_lowercase).collect::<Vec<_>>();
    let (a, b) = (letters(a), letters(b));
    let mut before = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let changed = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = changed.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_from_one_in_characters() {
        let text = "ab\nä\u{20ac}c\n\nx";
        let index = LineIndex::new(text);
        let at = |offset| {
            let position = index.position(text, offset);
            (position.line, position.column)
        };
        assert_eq!(at(0), (1, 1));
        assert_eq!(at(2), (1, 3));
        assert_eq!(at(3), (2, 1));
        assert_eq!(at(8), (2, 3));
        assert_eq!(at(10), (3, 1));
        assert_eq!(at(11), (4, 1));
        assert_eq!(at(99), (4, 2));
        assert_eq!(index.lines(), 4);
        assert_eq!(index.span(1), Some(Span::new(0, 3)));
        assert_eq!(index.span(4), Some(Span::new(11, 12)));
        assert_eq!(index.span(0), None);
        assert_eq!(index.span(5), None);
    }

    #[test]
    fn near_names_are_found_and_far_ones_are_not() {
        let names = ["COPY", "RUN", "ENTRYPOINT", "EXPOSE"];
        assert_eq!(nearest("COYP", &names), Some("COPY"));
        assert_eq!(nearest("run", &names), Some("RUN"));
        assert_eq!(nearest("ENTRPOINT", &names), Some("ENTRYPOINT"));
        assert_eq!(nearest("INSTALL", &names), None);
        assert_eq!(nearest("", &names), None);
        assert_eq!(nearest(&"R".repeat(1_000_000), &names), None);
    }
}
