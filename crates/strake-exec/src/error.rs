//! Why a container could not be run. The same values travel from the init process to the caller.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::user::UserError;

/// An error number of the kernel. Displays as the system's text for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Errno(pub i32);

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        std::io::Error::from_raw_os_error(self.0).fmt(f)
    }
}

impl std::error::Error for Errno {}

impl From<rustix::io::Errno> for Errno {
    fn from(errno: rustix::io::Errno) -> Self {
        Self(errno.raw_os_error())
    }
}

/// A failure to run a container. The process's own failures are [`crate::ExitStatus`] values, never errors.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum ExecError {
    /// The description cannot be carried out by anybody: an empty command, a NUL byte, a relative path.
    #[error("{what}: {why}")]
    Invalid {
        /// The part of the description.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// The system refused something the container needs.
    #[error("{what}: {errno}{}", remedy.as_ref().map(|r| format!(" ({r})")).unwrap_or_default())]
    Setup {
        /// What was being done, and to what.
        what: String,
        /// The system's answer.
        errno: Errno,
        /// What to do about it, where that is known.
        remedy: Option<String>,
    },
    /// The root file system has something in the place of a standard directory that must not be mounted over.
    #[error("{path} in the root file system is {found}, not a directory: refusing to mount over it")]
    HostileRoot {
        /// The path inside the root file system.
        path: String,
        /// What was found there.
        found: String,
    },
    /// The user or group cannot be resolved.
    #[error(transparent)]
    User(#[from] UserError),
    /// The working directory does not exist or cannot be entered.
    #[error("working directory {cwd}: {errno}")]
    WorkingDirectory {
        /// The directory as given.
        cwd: String,
        /// The system's answer.
        errno: Errno,
    },
    /// The program exists nowhere in the search path, or not at its given path.
    #[error("executable {program:?} not found{}", path.as_ref().map(|p| format!(" in PATH={p}")).unwrap_or_default())]
    NotFound {
        /// The first argument.
        program: String,
        /// The search path, if one was used.
        path: Option<String>,
    },
    /// The program is there, but its interpreter (of a script, or the dynamic linker) is not.
    #[error("executable {program:?}: its interpreter {interpreter} does not exist in the image")]
    NoInterpreter {
        /// The file that was found.
        program: String,
        /// The interpreter, as far as it could be read from the file.
        interpreter: String,
    },
    /// The program is there but may not be executed by this user.
    #[error("executable {program:?}: {errno}")]
    NotExecutable {
        /// The file that was found.
        program: String,
        /// The system's answer.
        errno: Errno,
    },
    /// The kernel does not understand the program.
    #[error("executable {program:?}: exec format error{hint}")]
    Format {
        /// The file that was found.
        program: String,
        /// A guess at the reason, with its leading separator; may be empty.
        hint: String,
    },
    /// A network of its own was asked for and cannot be had; the caller may choose another network.
    #[error("private network: {reason}")]
    PrivateNetwork {
        /// Why not.
        reason: String,
    },
    /// The run was cancelled; every process of the container is gone.
    #[error("cancelled")]
    Cancelled,
    /// The executor itself went wrong: its init process died or spoke nonsense.
    #[error("container init: {reason}")]
    Internal {
        /// What was seen.
        reason: String,
    },
}

impl ExecError {
    /// What a shell answers where it cannot start its command: 127 when there is no such program, 126 when there is
    /// one that cannot be executed. `None` for failures that are not the command's.
    pub fn command_status(&self) -> Option<u8> {
        match self {
            Self::NotFound { .. } | Self::NoInterpreter { .. } => Some(127),
            Self::NotExecutable { .. } | Self::Format { .. } => Some(126),
            _ => None,
        }
    }

    pub(crate) fn setup(what: impl Into<String>, errno: impl Into<Errno>) -> Self {
        Self::Setup { what: what.into(), errno: errno.into(), remedy: None }
    }

    pub(crate) fn setup_io(what: impl Into<String>, error: &std::io::Error) -> Self {
        Self::setup(what, Errno(error.raw_os_error().unwrap_or(libc::EIO)))
    }

    pub(crate) fn remedy(self, text: impl Into<String>) -> Self {
        match self {
            Self::Setup { what, errno, .. } => Self::Setup { what, errno, remedy: Some(text.into()) },
            other => other,
        }
    }

    pub(crate) fn internal(reason: impl Into<String>) -> Self {
        Self::Internal { reason: reason.into() }
    }

    pub(crate) fn invalid(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Invalid { what: what.into(), why: why.into() }
    }
}
