//! Our own executor: the caller's half.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::OnceLock;

use crate::wire::Runner;
use crate::{Cancel, Container, ExecError, Executor, ExitStatus, Io, mount, network, session};

/// Runs containers through a fresh copy of this program in its `init` mode.
///
/// The copy is started from a read-only view of the program's file. A hostile image can make the kernel run the
/// init process's own file inside the container (a script with the first line `#!/proc/self/exe`); through such a
/// view it cannot be opened for writing.
#[derive(Debug)]
pub struct OwnExecutor {
    program: PathBuf,
    options: Options,
    view: OnceLock<Option<OwnedFd>>,
    network: OnceLock<Option<String>>,
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
        Self { program, options, view: OnceLock::new(), network: OnceLock::new() }
    }

    /// Whether [`crate::Network::Private`] works here, or else why not. Looked at once, then remembered. The look
    /// is a quick one; [`ExecError::PrivateNetwork`] is still possible.
    ///
    /// # Errors
    /// The reason in words, fit for a message to the user.
    pub fn private_network_available(&self) -> Result<(), String> {
        match self.network.get_or_init(|| network::obstacle(self.options.pasta.as_deref())) {
            None => Ok(()),
            Some(reason) => Err(reason.clone()),
        }
    }

    /// The path from which the init process is started.
    fn program(&self) -> PathBuf {
        let view = self.view.get_or_init(|| mount::read_only_view(&self.program).ok());
        match view {
            // The spawned process has a copy of our descriptors until it executes the program.
            Some(view) => PathBuf::from(format!("/proc/self/fd/{}", view.as_raw_fd())),
            None => self.program.clone(),
        }
    }
}

impl Executor for OwnExecutor {
    fn run(&self, container: &Container, io: Io<'_>, cancel: &Cancel) -> Result<ExitStatus, ExecError> {
        let runner = Runner::Own { unfiltered: self.options.unfiltered, pasta: self.options.pasta.clone() };
        session::run(&self.program(), container, &runner, io, cancel)
    }
}
