//! Progress as lines, as BuildKit's `plain` prints them: for logs and pipes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use strake_engine::{Event, TransferId};
use strake_graph::StepId;

use super::model::{self, Steps, Transfer, Transfers};
use super::text;

/// A transfer that takes longer than this says how far it is, this often.
const TRANSFER_NEWS: Duration = Duration::from_secs(5);

/// Prints every event as one or more lines, complete.
#[derive(Debug, Default)]
pub(crate) struct Plain {
    steps: Steps,
    transfers: Transfers,
    told: BTreeMap<TransferId, Duration>,
    numbers: BTreeMap<Item, usize>,
    /// What the last line was about, as long as more may come.
    current: Option<Item>,
    phase: Option<(String, Duration)>,
    explain: bool,
    wall_clock: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Item {
    Step(StepId),
    Transfer(TransferId),
    Phase(String),
}

impl Plain {
    /// `explain` shows all reasons of all steps; `wall_clock` is now, in seconds since 1970.
    pub(crate) fn new(explain: bool, wall_clock: u64) -> Self {
        Self { explain, wall_clock, ..Self::default() }
    }

    /// What to print for an event. `now` is the time since the start.
    pub(crate) fn event(&mut self, now: Duration, event: &Event) -> String {
        let mut out = String::new();
        match event {
            Event::Planned(steps) => self.steps.plan(steps),
            Event::StepStarted(id) => {
                self.steps.start(*id, now);
                self.open(&mut out, &Item::Step(*id));
            }
            Event::StepCached(id) => self.close(&mut out, *id, "CACHED"),
            Event::StepWaiting(id, holder) => {
                let text = model::waiting(holder, self.wall_clock + now.as_secs());
                self.say(&mut out, &Item::Step(*id), &text);
            }
            Event::StepOutput(id, stream, bytes) => {
                let mut lines = Vec::new();
                self.steps.lines(*id, *stream, bytes, |line| lines.push(line));
                self.output(&mut out, now, *id, &lines);
            }
            Event::StepFinished(id, took) => {
                self.rest(&mut out, now, *id);
                self.close(&mut out, *id, &format!("DONE {}", text::elapsed(*took)));
            }
            Event::StepFailed(id, why) => {
                self.rest(&mut out, now, *id);
                self.close(&mut out, *id, &format!("ERROR: {}", text::clean(why.as_bytes())));
            }
            Event::StepCanceled(id) => {
                self.rest(&mut out, now, *id);
                self.close(&mut out, *id, "CANCELED");
            }
            Event::StepExplained(id, why) => self.explained(&mut out, *id, why),
            Event::TransferStarted { id, what, kind, total } => {
                self.transfers.insert(*id, Transfer::new(*kind, what, *total, now));
                self.told.insert(*id, now);
            }
            Event::TransferProgress(id, done) => self.transfer(&mut out, now, *id, *done),
            Event::TransferFinished(id, moved) => self.transferred(&mut out, now, *id, *moved),
            Event::TransferFailed(id) => {
                if self.transfers.contains_key(id) {
                    self.say(&mut out, &Item::Transfer(*id), "FAILED");
                    self.leave(&mut out);
                    self.forget(*id);
                }
            }
            Event::Warning(warning) => {
                self.leave(&mut out);
                let _ = writeln!(out, "warning: {}", text::clean(warning.as_bytes()));
            }
            Event::Phase(what) => {
                self.end_phase(&mut out, now);
                self.open(&mut out, &Item::Phase(what.clone()));
                self.phase = Some((what.clone(), now));
            }
        }
        out
    }

    /// What to print at the end.
    pub(crate) fn finish(&mut self, now: Duration) -> String {
        let mut out = String::new();
        self.end_phase(&mut out, now);
        self.leave(&mut out);
        out
    }

    fn number(&mut self, item: &Item) -> usize {
        let next = self.numbers.len() + 1;
        *self.numbers.entry(item.clone()).or_insert(next)
    }

    fn title(&self, item: &Item) -> String {
        match item {
            Item::Step(id) => self.steps.title(*id).to_owned(),
            Item::Transfer(id) => {
                self.transfers.get(id).map_or_else(String::new, |transfer| transfer.what.clone())
            }
            Item::Phase(what) => text::clean(what.as_bytes()),
        }
    }

    /// Makes sure that the last line is about `item`.
    fn open(&mut self, out: &mut String, item: &Item) {
        if self.current.as_ref() == Some(item) {
            return;
        }
        self.leave(out);
        let number = self.number(item);
        let _ = writeln!(out, "#{number} {}", self.title(item));
        self.current = Some(item.clone());
    }

    /// An empty line between two items.
    fn leave(&mut self, out: &mut String) {
        if self.current.take().is_some() {
            out.push('\n');
        }
    }

    fn say(&mut self, out: &mut String, item: &Item, text: &str) {
        self.open(out, item);
        let _ = writeln!(out, "#{} {text}", self.number(item));
    }

    fn close(&mut self, out: &mut String, id: StepId, text: &str) {
        self.say(out, &Item::Step(id), text);
        self.leave(out);
    }

    fn output(&mut self, out: &mut String, now: Duration, id: StepId, lines: &[String]) {
        let age = self.steps.age(id, now).as_secs_f64();
        for line in lines {
            self.say(out, &Item::Step(id), &format!("{age:.3} {line}"));
        }
    }

    fn rest(&mut self, out: &mut String, now: Duration, id: StepId) {
        let lines = self.steps.rest(id);
        self.output(out, now, id, &lines);
    }

    fn explained(&mut self, out: &mut String, id: StepId, why: &strake_engine::Explanation) {
        let lines = model::explanation(why, self.wall_clock);
        // A step that was never built needs no explanation unless one was asked for.
        let shown = match why {
            strake_engine::Explanation::Changed(_) if !self.explain => 1,
            _ if !self.explain => 0,
            _ => lines.len(),
        };
        for line in lines.iter().take(shown) {
            self.say(out, &Item::Step(id), line);
        }
        if shown > 0 && shown < lines.len() {
            let more = format!("not cached: and {} more (--explain)", lines.len() - shown);
            self.say(out, &Item::Step(id), &more);
        }
    }

    fn transfer(&mut self, out: &mut String, now: Duration, id: TransferId, done: u64) {
        let Some(transfer) = self.transfers.get_mut(&id) else { return };
        transfer.done = done;
        let progress = transfer.progress(now);
        let told = self.told.entry(id).or_insert(now);
        if now.saturating_sub(*told) >= TRANSFER_NEWS {
            *told = now;
            self.say(out, &Item::Transfer(id), &progress);
        }
    }

    fn transferred(&mut self, out: &mut String, now: Duration, id: TransferId, moved: bool) {
        let Some(transfer) = self.transfers.get(&id) else { return };
        let took = text::elapsed(now.saturating_sub(transfer.since));
        let bytes = text::size(transfer.done.max(transfer.total.unwrap_or(0)));
        let text = if moved { format!("DONE {bytes} {took}") } else { "already there".to_owned() };
        self.say(out, &Item::Transfer(id), &text);
        self.leave(out);
        self.forget(id);
    }

    fn forget(&mut self, id: TransferId) {
        self.transfers.remove(&id);
        self.told.remove(&id);
    }

    fn end_phase(&mut self, out: &mut String, now: Duration) {
        if let Some((what, since)) = self.phase.take() {
            let took = text::elapsed(now.saturating_sub(since));
            self.say(out, &Item::Phase(what), &format!("DONE {took}"));
            self.leave(out);
        }
    }
}
