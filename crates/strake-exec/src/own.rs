//! Our own executor: the caller's half.

use std::path::PathBuf;

use crate::{Cancel, Container, ExecError, Executor, ExitStatus, Io};

/// Runs containers through a fresh copy of this program in its `init` mode.
#[derive(Debug, Clone)]
pub struct OwnExecutor {
    program: PathBuf,
    options: Options,
}

/// Choices that hold for all containers of an executor.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The `pasta` program for private networks; without it a private network is an error.
    pub pasta: Option<PathBuf>,
    /// Whether to leave out the system call filter. For debugging only.
    pub unfiltered: bool,
}

impl OwnExecutor {
    /// An executor that starts `program` (normally `/proc/self/exe`) with [`crate::INIT_ARG`].
    pub fn new(program: PathBuf, options: Options) -> Self {
        Self { program, options }
    }

    /// Whether [`crate::Network::Private`] works here, or else why not. Looked at once, then remembered.
    ///
    /// # Errors
    /// The reason in words, fit for a message to the user.
    pub fn private_network_available(&self) -> Result<(), String> {
        Err(format!("{:?}: not built yet", self.options.pasta))
    }
}

impl Executor for OwnExecutor {
    fn run(&self, _: &Container, _: Io<'_>, _: &Cancel) -> Result<ExitStatus, ExecError> {
        Err(ExecError::internal(format!("{}: not built yet", self.program.display())))
    }
}
