use std::sync::Arc;

/// Which line of which template each line of the rendered text came from, so that a place in what was rendered can
/// be told in the words of what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineOrigins {
    /// Where lines come from that are not listed: the stage file, by the same number.
    file: Arc<str>,
    lines: Vec<(Arc<str>, usize)>,
}

impl LineOrigins {
    /// For a text without templates: every line is the line of `file` with the same number.
    pub fn identity(file: impl Into<Arc<str>>) -> Self {
        Self { file: file.into(), lines: Vec::new() }
    }

    /// With the template's name and the line in it (from 1) for each line of the rendered text, from the first.
    pub fn new(file: impl Into<Arc<str>>, lines: impl IntoIterator<Item = (Arc<str>, usize)>) -> Self {
        Self { file: file.into(), lines: lines.into_iter().collect() }
    }

    /// The template and the line in it (from 1) that rendered line `line` (from 1) came from.
    pub fn origin(&self, line: usize) -> (&str, usize) {
        let known = line.checked_sub(1).and_then(|index| self.lines.get(index));
        known.map_or((&self.file, line), |(name, line)| (name, *line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_told_as_they_were_written() {
        let plain = LineOrigins::identity("dappfile.yaml");
        assert_eq!(plain.origin(7), ("dappfile.yaml", 7));
        let rendered =
            LineOrigins::new("dappfile.yaml", [("app.tmpl".into(), 3), ("dappfile.yaml".into(), 2)]);
        assert_eq!(rendered.origin(1), ("app.tmpl", 3));
        assert_eq!(rendered.origin(2), ("dappfile.yaml", 2));
        assert_eq!(rendered.origin(9), ("dappfile.yaml", 9));
        assert_eq!(rendered.origin(0), ("dappfile.yaml", 0));
    }
}
