//! What has happened so far, as the ways to show it need it.

use std::collections::BTreeMap;
use std::time::Duration;

use strake_engine::{Explanation, Holder, PlannedStep, Stream, TransferId, TransferKind};
use strake_graph::StepId;

use super::text::{self, Lines};

/// Names of steps and pieces of their output, by step.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    titles: BTreeMap<StepId, String>,
    started: BTreeMap<StepId, Duration>,
    output: BTreeMap<StepId, [Lines; 2]>,
}

impl Steps {
    /// Learns what will be done.
    pub(crate) fn plan(&mut self, steps: &[PlannedStep]) {
        self.titles.extend(steps.iter().map(|step| (step.id, title(step))));
    }

    /// How many steps there are.
    pub(crate) fn count(&self) -> usize {
        self.titles.len()
    }

    /// `[builder 2/4] RUN make`.
    pub(crate) fn title(&self, id: StepId) -> &str {
        self.titles.get(&id).map_or("[step]", String::as_str)
    }

    /// Notes when work on a step began, the first time.
    pub(crate) fn start(&mut self, id: StepId, now: Duration) {
        self.started.entry(id).or_insert(now);
    }

    /// How long the step has been worked on.
    pub(crate) fn age(&self, id: StepId, now: Duration) -> Duration {
        now.saturating_sub(self.started.get(&id).copied().unwrap_or(now))
    }

    /// The lines that a piece of output completes.
    pub(crate) fn lines(&mut self, id: StepId, stream: Stream, bytes: &[u8], line: impl FnMut(String)) {
        let index = usize::from(stream == Stream::Stderr);
        self.output.entry(id).or_default()[index].push(bytes, line);
    }

    /// The lines that were never ended.
    pub(crate) fn rest(&mut self, id: StepId) -> Vec<String> {
        let Some(mut lines) = self.output.remove(&id) else { return Vec::new() };
        lines.iter_mut().filter_map(Lines::rest).collect()
    }
}

fn title(step: &PlannedStep) -> String {
    let label = text::clean(step.label.as_bytes());
    let stage = text::clean(step.stage.as_bytes());
    match step.position {
        Some((number, count)) => format!("[{stage} {number}/{count}] {label}"),
        None if stage.is_empty() => format!("[internal] {label}"),
        None => format!("[{stage}] {label}"),
    }
}

/// One transfer under way.
#[derive(Debug, Clone)]
pub(crate) struct Transfer {
    /// `pull layer 3a5f…`.
    pub(crate) what: String,
    /// Bytes in all, if known.
    pub(crate) total: Option<u64>,
    /// Bytes so far.
    pub(crate) done: u64,
    /// When it began.
    pub(crate) since: Duration,
}

impl Transfer {
    /// A transfer that begins.
    pub(crate) fn new(kind: TransferKind, what: &str, total: Option<u64>, now: Duration) -> Self {
        Self { what: format!("{} {}", verb(kind), text::clean(what.as_bytes())), total, done: 0, since: now }
    }

    /// `12.3 MB / 40.1 MB  8.2 MB/s`.
    pub(crate) fn progress(&self, now: Duration) -> String {
        let mut line = text::size(self.done);
        if let Some(total) = self.total {
            line.push_str(" / ");
            line.push_str(&text::size(total));
        }
        let millis = u64::try_from(now.saturating_sub(self.since).as_millis()).unwrap_or(u64::MAX);
        // A rate over less than this says nothing.
        if millis >= 200 && self.done > 0 {
            let rate = u128::from(self.done) * 1000 / u128::from(millis);
            line.push_str(&format!("  {}/s", text::size(u64::try_from(rate).unwrap_or(u64::MAX))));
        }
        line
    }
}

/// Transfers under way.
pub(crate) type Transfers = BTreeMap<TransferId, Transfer>;

/// What is done with the bytes.
pub(crate) fn verb(kind: TransferKind) -> &'static str {
    match kind {
        TransferKind::Pull => "pull",
        TransferKind::Push => "push",
        TransferKind::Export => "export",
        TransferKind::Import => "import",
    }
}

/// Why a step was or was not cached, in lines.
pub(crate) fn explanation(why: &Explanation, wall_clock: u64) -> Vec<String> {
    match why {
        Explanation::Hit { built } => {
            vec![format!("cached: the same step was built {}", text::ago(wall_clock.saturating_sub(*built)))]
        }
        Explanation::NeverBuilt => vec!["not cached: nothing like it was built here before".to_owned()],
        Explanation::NoCache => vec!["not cached: --no-cache".to_owned()],
        Explanation::Gone => vec!["not cached: its result was removed since".to_owned()],
        Explanation::Changed(differences) => {
            differences.iter().map(|line| format!("not cached: {}", text::clean(line.as_bytes()))).collect()
        }
    }
}

/// Whom a step waits for.
pub(crate) fn waiting(holder: &Holder, wall_clock: u64) -> String {
    let Holder { pid, host, since, what } = holder;
    let (host, what) = (text::clean(host.as_bytes()), text::clean(what.as_bytes()));
    let seconds = wall_clock.saturating_sub(*since);
    format!("waiting for process {pid} on {host}, which is building {what} (since {seconds}s)")
}
