//! The referee: an installed runc behind the same seam.

use std::path::PathBuf;

use crate::{Cancel, Container, ExecError, Executor, ExitStatus, Io};

/// Runs containers with an installed runc. Private networks and terminals are not offered.
#[derive(Debug, Clone)]
pub struct RuncExecutor {
    program: PathBuf,
    runc: PathBuf,
}

impl RuncExecutor {
    /// An executor that starts `program` (normally `/proc/self/exe`) to prepare mounts for `runc`.
    pub fn new(program: PathBuf, runc: PathBuf) -> Self {
        Self { program, runc }
    }
}

impl Executor for RuncExecutor {
    fn run(&self, _: &Container, _: Io<'_>, _: &Cancel) -> Result<ExitStatus, ExecError> {
        Err(ExecError::internal(format!("{} {}: not built yet", self.program.display(), self.runc.display())))
    }
}
