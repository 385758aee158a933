//! The text of one template file, and places in it.

use crate::error::Place;

/// A file of templates as it was added.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) name: String,
    pub(crate) text: String,
    /// Where each line starts, in bytes.
    line_starts: Vec<usize>,
}

impl Source {
    pub(crate) fn new(name: &str, text: &str) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Self { name: name.into(), text: text.into(), line_starts: std::iter::once(0).chain(breaks).collect() }
    }

    /// The line of a byte, from 1.
    pub(crate) fn line(&self, at: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= at)
    }

    /// The first character of a line that is no blank; the end of a line of blanks.
    pub(crate) fn start_of_content(&self, line: usize) -> Place {
        let start = self.line_starts.get(line - 1).copied().unwrap_or(self.text.len());
        let text = self.text[start..].lines().next().unwrap_or_default();
        self.place(start + text.len() - text.trim_start().len())
    }

    pub(crate) fn place(&self, at: usize) -> Place {
        let line = self.line(at);
        let before = &self.text.as_bytes()[self.line_starts[line - 1]..at.min(self.text.len())];
        // Bytes that continue a character do not count, so a place within one is still well defined.
        let column = before.iter().filter(|byte| *byte & 0xC0 != 0x80).count() + 1;
        Place { template: self.name.clone(), line, column }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_count_from_one_and_in_characters() {
        let source = Source::new("t", "ab\nä€x\n");
        let at = |at| {
            let place = source.place(at);
            (place.line, place.column)
        };
        assert_eq!(at(0), (1, 1));
        assert_eq!(at(2), (1, 3));
        assert_eq!(at(3), (2, 1));
        assert_eq!(at(8), (2, 3));
        assert_eq!(at(10), (3, 1));
    }
}
