//! Progress on a terminal: what is finished scrolls away above a region that is redrawn.
//!
//! Nothing here touches the terminal. [`Tty::frame`] answers the bytes that bring the screen from the last frame to
//! the next, so that whoever owns the terminal writes them at once, and tests can apply them to a screen of their own.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::time::Duration;

use strake_engine::{Event, Explanation};
use strake_graph::StepId;

use super::model::{self, Steps, Transfer, Transfers};
use super::text;

/// The most lines of output that are shown of one running step.
const TAIL_MAX: usize = 6;

/// The size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    /// Characters in a line.
    pub(crate) columns: usize,
    /// Lines.
    pub(crate) rows: usize,
}

/// The state of the region, and the lines that will be printed above it.
#[derive(Debug, Default)]
pub(crate) struct Tty {
    steps: Steps,
    running: Vec<Running>,
    transfers: Transfers,
    finished: usize,
    phase: Option<String>,
    /// Lines that are final and not printed yet, with their style.
    above: Vec<(Style, String, String)>,
    /// The widths of the region's lines as they are on the screen now.
    drawn: Vec<usize>,
    colour: bool,
    explain: bool,
    wall_clock: u64,
    title: &'static str,
}

#[derive(Debug)]
struct Running {
    id: StepId,
    tail: VecDeque<String>,
    waiting: Option<strake_engine::Holder>,
}

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Plain,
    Dim,
    Done,
    Warning,
    Error,
}

impl Style {
    /// Select Graphic Rendition parameters (ECMA-48).
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Dim => "2",
            Self::Done => "34",
            Self::Warning => "33",
            Self::Error => "31",
        }
    }
}

impl Tty {
    /// `title` is the verb of the head line; `explain` shows all reasons of all steps; `wall_clock` is now, in
    /// seconds since 1970.
    pub(crate) fn new(title: &'static str, colour: bool, explain: bool, wall_clock: u64) -> Self {
        Self { title, colour, explain, wall_clock, ..Self::default() }
    }

    /// Takes note of an event. `now` is the time since the start.
    pub(crate) fn event(&mut self, now: Duration, event: &Event) {
        match event {
            Event::Planned(steps) => self.steps.plan(steps),
            Event::StepStarted(id) => {
                self.steps.start(*id, now);
                self.running(*id).waiting = None;
            }
            Event::StepCached(id) => self.end(*id, Style::Done, "CACHED ", String::new()),
            Event::StepWaiting(id, holder) => {
                self.steps.start(*id, now);
                self.running(*id).waiting = Some(holder.clone());
            }
            Event::StepOutput(id, stream, bytes) => {
                let mut lines = Vec::new();
                self.steps.lines(*id, *stream, bytes, |line| lines.push(line));
                let tail = &mut self.running(*id).tail;
                tail.extend(lines);
                while tail.len() > TAIL_MAX {
                    tail.pop_front();
                }
            }
            Event::StepFinished(id, took) => self.end(*id, Style::Done, "", text::elapsed(*took)),
            Event::StepFailed(id, _) => {
                let age = text::elapsed(self.steps.age(*id, now));
                self.end(*id, Style::Error, "ERROR ", age);
            }
            Event::StepCanceled(id) => {
                let age = text::elapsed(self.steps.age(*id, now));
                self.end(*id, Style::Warning, "CANCELED ", age);
            }
            Event::StepExplained(id, why) => self.explained(*id, why),
            Event::TransferStarted { id, what, kind, total } => {
                self.transfers.insert(*id, Transfer::new(*kind, what, *total, now));
            }
            Event::TransferProgress(id, done) => {
                if let Some(transfer) = self.transfers.get_mut(id) {
                    transfer.done = *done;
                }
            }
            Event::TransferFinished(id, moved) => self.transferred(now, *id, *moved),
            Event::TransferFailed(id) => {
                if let Some(transfer) = self.transfers.remove(id) {
                    self.above.push((Style::Error, format!(" => ERROR {}", transfer.what), String::new()));
                }
            }
            Event::Warning(warning) => {
                let text = format!("warning: {}", text::clean(warning.as_bytes()));
                self.above.push((Style::Warning, text, String::new()));
            }
            Event::Phase(what) => self.phase = Some(text::clean(what.as_bytes())),
        }
    }

    fn running(&mut self, id: StepId) -> &mut Running {
        let at = self.running.iter().position(|running| running.id == id).unwrap_or_else(|| {
            self.running.push(Running { id, tail: VecDeque::new(), waiting: None });
            self.running.len() - 1
        });
        &mut self.running[at]
    }

    fn end(&mut self, id: StepId, style: Style, word: &str, right: String) {
        self.running.retain(|running| running.id != id);
        self.finished += 1;
        let line = format!(" => {word}{}", self.steps.title(id));
        self.above.push((style, line, right));
    }

    fn explained(&mut self, id: StepId, why: &Explanation) {
        let lines = model::explanation(why, self.wall_clock);
        let shown = match why {
            _ if self.explain => lines.len(),
            Explanation::Changed(_) => 1,
            _ => 0,
        };
        if shown == 0 {
            return;
        }
        let title = self.steps.title(id).to_owned();
        self.above.push((Style::Plain, format!(" => {title}"), String::new()));
        let more = lines.len() - shown;
        for line in lines.into_iter().take(shown) {
            self.above.push((Style::Dim, format!("    {line}"), String::new()));
        }
        if more > 0 {
            let text = format!("    and {more} more differences (--explain)");
            self.above.push((Style::Dim, text, String::new()));
        }
    }

    fn transferred(&mut self, now: Duration, id: strake_engine::TransferId, moved: bool) {
        let Some(transfer) = self.transfers.remove(&id) else { return };
        let took = text::elapsed(now.saturating_sub(transfer.since));
        let bytes = text::size(transfer.done.max(transfer.total.unwrap_or(0)));
        let (line, right) = if moved {
            (format!(" => {} {bytes}", transfer.what), took)
        } else {
            (format!(" => {} (already there)", transfer.what), String::new())
        };
        self.above.push((Style::Dim, line, right));
    }

    /// The bytes that bring the screen up to date.
    pub(crate) fn frame(&mut self, now: Duration, size: Size) -> String {
        let mut out = String::new();
        self.erase(&mut out, size);
        self.print_above(&mut out, size);
        let region = self.region(now, size);
        for (style, left, right) in &region {
            let line = self.line(*style, left, right, size);
            self.drawn.push(text::width(&line.1));
            out.push_str(&line.0);
            out.push_str("\r\n");
        }
        out
    }

    /// The bytes that leave only what is final on the screen.
    pub(crate) fn finish(&mut self, now: Duration, size: Size) -> String {
        let mut out = String::new();
        self.erase(&mut out, size);
        self.print_above(&mut out, size);
        if self.finished > 0 {
            let head = self.head(now);
            out.push_str(&self.line(Style::Plain, &head, "", size).0);
            out.push_str("\r\n");
        }
        out
    }

    /// The bytes that take the region off the screen and print what is final, so that other text can follow.
    pub(crate) fn suspend(&mut self, size: Size) -> String {
        let mut out = String::new();
        self.erase(&mut out, size);
        self.print_above(&mut out, size);
        out
    }

    /// Takes the region off the screen. A terminal that became narrower has wrapped its lines, so each may be
    /// several now.
    fn erase(&mut self, out: &mut String, size: Size) {
        let rows: usize = self.drawn.iter().map(|width| width.div_ceil(size.columns.max(1)).max(1)).sum();
        self.drawn.clear();
        if rows > 0 {
            let _ = write!(out, "\x1b[{rows}A\r\x1b[J");
        }
    }

    fn print_above(&mut self, out: &mut String, size: Size) {
        for (style, left, right) in std::mem::take(&mut self.above) {
            out.push_str(&self.line(style, &left, &right, size).0);
            out.push_str("\r\n");
        }
    }

    /// The region's lines: head, running steps with the end of their output, transfers.
    fn region(&self, now: Duration, size: Size) -> Vec<(Style, String, String)> {
        if self.running.is_empty()
            && self.transfers.is_empty()
            && self.phase.is_none()
            && self.steps.count() == 0
        {
            return Vec::new();
        }
        let mut lines = vec![(Style::Plain, self.head(now), String::new())];
        // The last row stays free, so that the cursor's line below the region does not scroll the screen.
        let room = size.rows.saturating_sub(2);
        let fixed = self.running.len() + self.transfers.len();
        let spare = room.saturating_sub(fixed);
        let tail_room = spare.checked_div(self.running.len()).unwrap_or(0).min(TAIL_MAX);
        for running in &self.running {
            let age = text::elapsed(self.steps.age(running.id, now));
            lines.push((Style::Plain, format!(" => {}", self.steps.title(running.id)), age));
            if let Some(holder) = running.waiting.as_ref().filter(|_| tail_room > 0) {
                let text = model::waiting(holder, self.wall_clock + now.as_secs());
                lines.push((Style::Dim, format!("    {text}"), String::new()));
            }
            let skip = running.tail.len().saturating_sub(tail_room);
            let tail = running.tail.iter().skip(skip);
            lines.extend(tail.map(|line| (Style::Dim, format!("    {line}"), String::new())));
        }
        for transfer in self.transfers.values() {
            lines.push((Style::Plain, format!(" => {}", transfer.what), transfer.progress(now)));
        }
        if lines.len() > room.max(1) {
            let hidden = lines.len() - room.max(1) + 1;
            lines.truncate(room.max(1) - 1);
            lines.push((Style::Dim, format!("    … and {hidden} more lines"), String::new()));
        }
        lines
    }

    fn head(&self, now: Duration) -> String {
        let mut head = format!("[+] {} {}", self.title, text::elapsed(now));
        let count = self.steps.count();
        if count > 0 {
            let _ = write!(head, " ({}/{count})", self.finished.min(count));
        }
        if let Some(phase) = &self.phase {
            let _ = write!(head, " {phase}");
        }
        head
    }

    /// One line with its right part at the right edge, as it is sent and as it is seen.
    fn line(&self, style: Style, left: &str, right: &str, size: Size) -> (String, String) {
        // The last column stays free: terminals differ in when they wrap.
        let columns = size.columns.saturating_sub(1);
        let right_width = text::width(right);
        let seen = if right.is_empty() || right_width + 8 > columns {
            text::cut(left, columns)
        } else {
            let left = text::cut(left, columns - right_width - 1);
            let gap = columns - right_width - text::width(&left);
            format!("{left}{}{right}", " ".repeat(gap))
        };
        let code = style.code();
        let sent = match self.colour && !code.is_empty() {
            true => format!("\x1b[{code}m{seen}\x1b[0m"),
            false => seen.clone(),
        };
        (sent, seen)
    }
}
