use std::path::PathBuf;

use strake_exec::{ExecError, ExitStatus};
use strake_graph::{Span, StepId};
use strake_store::{ActiveSnapshot, StoreError};

use crate::build_context::SourceError;
use crate::image::{ImageError, ImageErrorKind};
use crate::lock::LockError;
use crate::step::copy::CopyError;

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The process of a `RUN` failed.
    #[error("{}", .0)]
    Failed(Box<StepFailure>),
    /// A step could not be carried out.
    #[error("{label}: {source}")]
    Step {
        /// The step.
        step: StepId,
        /// The instruction.
        label: String,
        /// Where it stands.
        span: Span,
        /// What went wrong.
        #[source]
        source: Box<StepError>,
    },
    /// Somebody stopped the build.
    #[error("the build was stopped")]
    Cancelled,
    /// What was found in the cache was removed by somebody else, again and again.
    #[error("cached results are being removed while the build uses them")]
    Pruned,
    /// All steps are done, but their result cannot be had, or not be compared with what is published.
    #[error(transparent)]
    Share(Box<StepError>),
    /// The local store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl BuildError {
    /// Whether what the build stood on was removed under its feet, so that another try finds it gone and builds it.
    pub(crate) fn is_pruned(&self) -> bool {
        match self {
            Self::Pruned | Self::Store(StoreError::NoLayer(_)) => true,
            Self::Step { source, .. } => source.is_pruned(),
            Self::Failed(_) | Self::Cancelled | Self::Share(_) | Self::Store(_) => false,
        }
    }
}

impl StepError {
    /// As [`BuildError::is_pruned`].
    pub(crate) fn is_pruned(&self) -> bool {
        match self {
            Self::Pruned | Self::Store(StoreError::NoLayer(_)) => true,
            Self::Image(error) => matches!(**error, ImageError::Store(StoreError::NoLayer(_))),
            _ => false,
        }
    }
}

/// The process of a `RUN` ran and failed.
#[derive(Debug, thiserror::Error)]
#[error("process {command:?} {}", ending(*.exit))]
pub struct StepFailure {
    /// The step.
    pub step: StepId,
    /// The instruction.
    pub label: String,
    /// The stage.
    pub stage: String,
    /// Where the instruction stands.
    pub span: Span,
    /// What was run, in words.
    pub command: String,
    /// How it ended.
    pub exit: ExitStatus,
    /// The file with its output, complete up to 64 MiB.
    pub log: PathBuf,
    /// The last of its output, at most 16 KiB.
    pub tail: Vec<u8>,
    /// The root file system as it left it. It never becomes a layer, and is discarded when this is dropped.
    pub left: ActiveSnapshot,
}

fn ending(exit: ExitStatus) -> String {
    match exit {
        ExitStatus::Exited(code) => format!("did not complete successfully: exit code {code}"),
        ExitStatus::Signaled(signal) => format!("was killed by signal {signal}"),
    }
}

/// Why a step could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The container.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// The files to copy.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// An image.
    #[error(transparent)]
    Image(Box<ImageError>),
    /// The local store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A lock.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A secret that must be there is not.
    #[error("secret `{0}` was not given (--secret id={0},src=FILE)")]
    Secret(String),
    /// A build context that was not given.
    #[error("build context `{0}` was not given")]
    Context(String),
    /// What a process left behind cannot be a layer.
    #[error("keep the layer: {0}")]
    Layer(#[from] strake_store::TarError),
    /// A file of the engine's own.
    #[error("{what} {path}: {source}")]
    File {
        /// What was being done.
        what: &'static str,
        /// To which file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// What the step stands on was removed by somebody else meanwhile.
    #[error("the result of an earlier step was removed meanwhile")]
    Pruned,
    /// The build was stopped meanwhile.
    #[error("stopped")]
    Cancelled,
    /// The process ran and failed; becomes [`BuildError::Failed`].
    #[error("{}", ending(.0.exit))]
    Process(Box<ProcessFailure>),
}

impl StepError {
    /// Whether it only says that the build was stopped.
    pub(crate) fn is_cancelled(&self) -> bool {
        match self {
            Self::Cancelled | Self::Copy(CopyError::Source(SourceError::Stopped)) => true,
            Self::Image(error) => error.kind() == ImageErrorKind::Canceled,
            _ => false,
        }
    }
}

impl From<ImageError> for StepError {
    fn from(error: ImageError) -> Self {
        Self::Image(Box::new(error))
    }
}

/// What a failed process leaves behind.
#[derive(Debug)]
pub struct ProcessFailure {
    pub(crate) command: String,
    pub(crate) exit: ExitStatus,
    pub(crate) log: PathBuf,
    pub(crate) tail: Vec<u8>,
    pub(crate) left: ActiveSnapshot,
}
