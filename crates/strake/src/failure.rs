//! Why a command did not do what was asked, and the exit status that follows.

use std::fmt::Display;
use std::path::Path;

use strake_engine::image::{ImageError, ImageErrorKind};
use strake_registry::{ErrorKind, RegistryError};
use strake_store::StoreError;

/// What to do when the disk is full.
const ROOM: &str = "`strake du` shows what takes space, `strake prune` gives it back";

/// Whose fault it is. Decides the exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The process of a step failed.
    Step,
    /// What was given is wrong.
    Input,
    /// The machine, a registry or the disk does not play along.
    Environment,
    /// strake does not do what it should.
    Bug,
    /// Somebody pressed Ctrl-C.
    Interrupted,
    /// Somebody sent SIGTERM or SIGHUP.
    Terminated,
}

impl Kind {
    /// The exit status.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Step => 1,
            Self::Input => 2,
            Self::Environment => 3,
            Self::Bug => 4,
            Self::Interrupted => 130,
            Self::Terminated => 143,
        }
    }

    /// The word for it in JSON.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Step => "step",
            Self::Input => "input",
            Self::Environment => "environment",
            Self::Bug => "bug",
            Self::Interrupted => "interrupted",
            Self::Terminated => "terminated",
        }
    }
}

/// Why a command did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Whose fault it is.
    pub(crate) kind: Kind,
    /// `what: why`, lower case, without a full stop.
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) hints: Vec<String>,
    /// What is shown in front of the message: diagnostics, an excerpt, the last lines of output.
    pub(crate) body: String,
    /// The exit code of the step's own process, and where its complete log lies.
    pub(crate) step: Option<StepEnd>,
}

/// How the process of a failed step ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StepEnd {
    /// Its exit code, or 128 plus the signal.
    pub(crate) code: i32,
    /// Its output, as far as it is kept.
    pub(crate) log: std::path::PathBuf,
}

impl Failure {
    /// A failure of some kind.
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hints: Vec::new(), body: String::new(), step: None }
    }

    /// What was given is wrong.
    pub(crate) fn input(message: impl Into<String>) -> Self {
        Self::new(Kind::Input, message)
    }

    /// The machine does not play along.
    pub(crate) fn environment(message: impl Into<String>) -> Self {
        Self::new(Kind::Environment, message)
    }

    /// The same with advice.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// The same about something: `what: why`.
    #[must_use]
    pub(crate) fn about(mut self, what: impl Display) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// A file that was named by the user could not be read or written: theirs to correct when it is not there,
    /// the machine's fault otherwise.
    pub(crate) fn file(action: &str, path: &Path, error: &std::io::Error) -> Self {
        use std::io::ErrorKind as Io;
        let kind = match error.kind() {
            Io::NotFound | Io::NotADirectory | Io::IsADirectory | Io::InvalidInput | Io::InvalidData => {
                Kind::Input
            }
            _ => Kind::Environment,
        };
        Self::new(kind, format!("{action} {}: {}", path.display(), reason(error)))
    }
}

/// What the system said, without Rust's `(os error 2)`.
pub(crate) fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    let plain = text.split(" (os error").next().unwrap_or(&text);
    // The system begins its texts with a capital; ours are fragments.
    let mut letters = plain.chars();
    match (letters.next(), letters.clone().next()) {
        (Some(first), Some(second)) if first.is_uppercase() && second.is_lowercase() => {
            format!("{}{}", first.to_lowercase(), letters.as_str())
        }
        _ => plain.to_owned(),
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let failure = Self::environment(chain(&error));
        match &error {
            StoreError::Io { source, path, .. } => with_disk_hint(failure, source, path),
            _ => failure,
        }
    }
}

impl Failure {
    /// The same with what to do when the disk is full, if that is at the bottom of an error.
    pub(crate) fn with_room_hint(self, error: &(dyn std::error::Error + 'static)) -> Self {
        use std::io::ErrorKind as Io;
        let is_full = |cause: &(dyn std::error::Error + 'static)| {
            let error = cause.downcast_ref::<std::io::Error>();
            error.is_some_and(|error| matches!(error.kind(), Io::StorageFull | Io::QuotaExceeded))
        };
        let mut causes = std::iter::successors(Some(error), |error| error.source());
        if causes.any(is_full) { self.hint(ROOM) } else { self }
    }
}

/// The two answers of the system that a user can do something about.
fn with_disk_hint(failure: Failure, error: &std::io::Error, path: &Path) -> Failure {
    use std::io::ErrorKind as Io;
    match error.kind() {
        Io::StorageFull | Io::QuotaExceeded => failure.hint(ROOM),
        Io::PermissionDenied | Io::ReadOnlyFilesystem => failure.hint(format!(
            "the store must be writable for you: {}; choose another with --root DIR or STRAKE_ROOT",
            path.display()
        )),
        _ => failure,
    }
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
        let kind = if error.kind == ErrorKind::Cancelled { Kind::Interrupted } else { Kind::Environment };
        let mut failure = Self::new(kind, format!("{}: {}", error.operation, error.detail));
        failure.hints.extend(error.hint);
        failure
    }
}

impl From<ImageError> for Failure {
    fn from(error: ImageError) -> Self {
        let kind = match error.kind() {
            ImageErrorKind::Input => Kind::Input,
            ImageErrorKind::Environment => Kind::Environment,
            ImageErrorKind::Canceled => Kind::Interrupted,
        };
        match error {
            ImageError::Registry(error) => error.into(),
            ImageError::Store(error) => error.into(),
            ImageError::Io { action, path, source } => Self::file(action, &path, &source),
            other => Self::new(kind, chain(&other)),
        }
    }
}

/// An error with its causes, as `what: why`, each said once.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("read manifest")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn causes_are_said_once() {
        assert_eq!(chain(&Outer(std::io::Error::other("disk on fire"))), "read manifest: disk on fire");
        assert_eq!(chain(&std::io::Error::other(Outer(std::io::Error::other("x")))), "read manifest: x");
    }

    #[test]
    fn a_full_disk_is_found_at_the_bottom_of_an_error() {
        let full = || Outer(std::io::Error::from_raw_os_error(28));
        let hints = |error: &(dyn std::error::Error + 'static)| {
            Failure::environment("write").with_room_hint(error).hints.join("")
        };
        assert_eq!(hints(&full()), ROOM);
        assert_eq!(hints(&Outer(std::io::Error::other(full()))), ROOM, "as a reader hands it on");
        assert_eq!(hints(&Outer(std::io::Error::from_raw_os_error(5))), "");
    }

    #[test]
    fn files_that_are_not_there_are_the_users_to_correct() {
        let error = std::io::Error::from_raw_os_error(2);
        let failure = Failure::file("read", Path::new("/x"), &error);
        assert_eq!(failure.message, "read /x: no such file or directory");
        assert_eq!(failure.kind.code(), 2);
        assert_eq!(
            Failure::file("read", Path::new("/x"), &std::io::Error::from_raw_os_error(13)).kind.code(),
            3
        );
    }
}
