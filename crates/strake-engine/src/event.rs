//! What happens during a build, for whoever shows it. Events are data; `tracing` is for developers.

use crate::clock::{host_name, now};
use std::time::Duration;

use strake_graph::{Span, StepId};

/// Receives events, from any thread. It must not block for long.
pub type Events<'a> = dyn Fn(Event) + Sync + 'a;

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// What the targets need, before anything else is said of these steps.
    Planned(Vec<PlannedStep>),
    /// Work on a step began.
    StepStarted(StepId),
    /// An earlier result is used.
    StepCached(StepId),
    /// Somebody else is building the step; sent again when the holder changes.
    StepWaiting(StepId, Holder),
    /// A piece of a step's output, not necessarily a whole line.
    StepOutput(StepId, Stream, Vec<u8>),
    /// A step is done.
    StepFinished(StepId, Duration),
    /// A step failed; the error itself is the result of the build.
    StepFailed(StepId, String),
    /// A step was stopped because the build was.
    StepCanceled(StepId),
    /// Why a step was or was not cached.
    StepExplained(StepId, Explanation),
    /// Bytes begin to move.
    TransferStarted {
        /// Tells transfers apart.
        id: TransferId,
        /// What moves: a short text such as `layer 3a5f…`.
        what: String,
        /// Which way.
        kind: TransferKind,
        /// How many bytes there are, if that is known.
        total: Option<u64>,
    },
    /// Bytes moved since the transfer began.
    TransferProgress(TransferId, u64),
    /// A transfer is over; `false` when there was nothing to do.
    TransferFinished(TransferId, bool),
    /// A transfer broke off; the error itself is the result of whatever needed it.
    TransferFailed(TransferId),
    /// Something the user should know; said once.
    Warning(String),
    /// A stage of the program that takes a while outside any step: `exporting layers`.
    Phase(String),
}

/// One step as it will be shown.
#[derive(Debug, Clone)]
pub struct PlannedStep {
    /// The step.
    pub id: StepId,
    /// The stage it belongs to.
    pub stage: String,
    /// The instruction on one line.
    pub label: String,
    /// `(2, 5)`: the second of the stage's five.
    pub position: Option<(u32, u32)>,
    /// Where it stands in its file.
    pub span: Span,
}

/// Where output came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Tells transfers apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransferId(pub u64);

/// What kind of work moves bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransferKind {
    /// From a registry.
    Pull,
    /// To a registry.
    Push,
    /// Into a file or directory.
    Export,
    /// From a build context or archive.
    Import,
}

/// Who holds the lock of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Process id, on this host.
    pub pid: u32,
    /// Host name.
    pub host: String,
    /// Since when, seconds since the Unix epoch.
    pub since: u64,
    /// What it is building, for people.
    pub what: String,
}

impl Holder {
    /// This process, from now on.
    pub fn of_this_process(what: &str) -> Self {
        let (pid, host, since) = (std::process::id(), host_name(), now());
        Self { pid, host, since, what: what.to_owned() }
    }
}

/// Why a step was or was not cached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Explanation {
    /// The very signature is known.
    Hit {
        /// Seconds since the Unix epoch at which the result was made.
        built: u64,
    },
    /// Nothing like it was ever built here.
    NeverBuilt,
    /// It was asked not to look.
    NoCache,
    /// Something is different from the nearest earlier build: one line for each difference, most telling first,
    /// such as `file src/main.rs: content changed` or `ARG VERSION: 1 → 2`.
    Changed(Vec<String>),
    /// The result was known but is gone (pruned, or lost in a crash).
    Gone,
}
