//! What has been rendered, and where each line of it comes from.
//!
//! A line comes from where its first character that is no blank comes from. That is kept as *runs*: from this line of the
//! text on, lines follow the lines of a source (literal text), or all come from one place (what an action printed).

use std::sync::Arc;

use crate::error::{Fault, Place};
use crate::limits::{Meter, NODE};
use crate::source::Source;

/// A rendered text that knows where its lines come from.
#[derive(Debug)]
pub struct Rendered {
    /// The text.
    pub text: String,
    origins: Origins,
}

impl Rendered {
    /// Where a line of the text, counted from 1, comes from: the place of its first character that is no blank. For literal
    /// text that is the line of the template; for what an action printed, the action. `None` for a line that is not there.
    pub fn origin(&self, line: usize) -> Option<Place> {
        self.origins.find(line)
    }
}

#[derive(Debug, Default)]
struct Origins {
    sources: Vec<Arc<Source>>,
    /// In the order of their lines, at most one for each.
    runs: Vec<Run>,
    last_line: usize,
}

#[derive(Debug, Clone, Copy)]
struct Run {
    /// The line of the rendered text from which it counts.
    line: usize,
    source: usize,
    at: usize,
    kind: RunKind,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum RunKind {
    /// Each line comes from the next line of the source.
    Follows,
    /// All lines come from one place.
    Stays,
}

impl Origins {
    fn find(&self, line: usize) -> Option<Place> {
        if line == 0 || line > self.last_line {
            return None;
        }
        let run = self.runs[..self.runs.partition_point(|run| run.line <= line)].last()?;
        let source = &self.sources[run.source];
        let place = source.place(run.at);
        match line - run.line {
            0 => Some(place),
            _ if run.kind == RunKind::Stays => Some(place),
            further => Some(source.start_of_content(place.line + further)),
        }
    }

    fn source(&mut self, source: &Arc<Source>) -> usize {
        // The sources of a set are few, and the one used last is the likeliest.
        match self.sources.iter().rposition(|known| Arc::ptr_eq(known, source)) {
            Some(index) => index,
            None => {
                self.sources.push(source.clone());
                self.sources.len() - 1
            }
        }
    }

    fn begin(&mut self, run: Run) {
        if self.runs.last().is_some_and(|last| last.line == run.line) {
            self.runs.pop();
        }
        self.runs.push(run);
    }
}

/// A text being rendered.
pub(crate) struct Output<'a> {
    text: String,
    meter: &'a Meter,
    /// Nothing for a text that becomes a value: values do not know where they come from.
    origins: Option<Origins>,
    line: usize,
    /// Whether the current line has more than blanks.
    has_content: bool,
}

impl<'a> Output<'a> {
    /// For a text that becomes a value.
    pub(crate) fn plain(meter: &'a Meter) -> Self {
        Self { text: String::new(), meter, origins: None, line: 1, has_content: false }
    }

    /// For the text that the caller gets.
    pub(crate) fn traced(meter: &'a Meter) -> Self {
        Self { origins: Some(Origins::default()), ..Self::plain(meter) }
    }

    pub(crate) fn into_text(self) -> String {
        self.text
    }

    pub(crate) fn finish(self) -> Rendered {
        let mut origins = self.origins.unwrap_or_default();
        origins.last_line = self.text.lines().count();
        Rendered { text: self.text, origins }
    }

    /// Literal text, which stands at `at` of its source.
    pub(crate) fn literal(&mut self, text: &str, source: &Arc<Source>, at: usize) -> Result<(), Fault> {
        self.append(text, source, at, RunKind::Follows)
    }

    /// What the action at `at` printed.
    pub(crate) fn value(&mut self, text: &str, source: &Arc<Source>, at: usize) -> Result<(), Fault> {
        self.append(text, source, at, RunKind::Stays)
    }

    fn append(&mut self, text: &str, source: &Arc<Source>, at: usize, kind: RunKind) -> Result<(), Fault> {
        self.meter.fits(self.text.len() + text.len())?;
        self.meter.charge(text.len())?;
        if self.origins.is_some() && !text.is_empty() {
            self.meter.charge(NODE)?;
            self.trace(text, source, at, kind);
        }
        self.text.push_str(text);
        Ok(())
    }

    fn trace(&mut self, text: &str, source: &Arc<Source>, at: usize, kind: RunKind) {
        let Some(origins) = &mut self.origins else { return };
        let index = origins.source(source);
        let mut lines = text.splitn(2, '\n');
        let (first, rest) = (lines.next().unwrap_or_default(), lines.next());
        let has_content = !first.trim().is_empty();
        // Where a piece that starts at `offset` of the text begins to say something.
        let place = |offset: usize, piece: &str| match kind {
            RunKind::Follows => at + offset + blanks_before_content(piece),
            RunKind::Stays => at,
        };
        if !self.has_content && (has_content || rest.is_some() || origins.runs.is_empty()) {
            origins.begin(Run { line: self.line, source: index, at: place(0, first), kind });
        }
        let Some(rest) = rest else {
            self.has_content |= has_content;
            return;
        };
        let second = rest.split('\n').next().unwrap_or_default();
        origins.begin(Run { line: self.line + 1, source: index, at: place(first.len() + 1, second), kind });
        self.line += 1 + rest.bytes().filter(|byte| *byte == b'\n').count();
        self.has_content = rest.rsplit('\n').next().is_some_and(|last| !last.trim().is_empty());
    }
}

/// How many bytes of blanks stand before the first other character; none if there is no other.
fn blanks_before_content(text: &str) -> usize {
    match text.trim_start() {
        "" => 0,
        content => text.len() - content.len(),
    }
}
