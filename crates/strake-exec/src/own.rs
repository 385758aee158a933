//! Our own executor: the caller's half.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crate::network::PrivateNetwork;
use crate::wire::Runner;
use crate::{Cancel, Container, ExecError, Executor, ExitStatus, Io, Network, mount, network, session};

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
    idle_networks: Mutex<Vec<PrivateNetwork>>,
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
        Self {
            program,
            options,
            view: OnceLock::new(),
            network: OnceLock::new(),
            idle_networks: Mutex::default(),
        }
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

    /// A network that nobody uses: one that an earlier container had, or a new one.
    fn take_network(&self) -> Result<PrivateNetwork, ExecError> {
        if let Some(network) = self.idle_networks().pop() {
            return Ok(network);
        }
        let Some(pasta) = &self.options.pasta else {
            return Err(ExecError::PrivateNetwork {
                reason: "no network program (pasta) is known".to_owned(),
            });
        };
        PrivateNetwork::start(&self.program(), pasta)
    }

    fn idle_networks(&self) -> MutexGuard<'_, Vec<PrivateNetwork>> {
        // The list is whole after each single push and pop.
        self.idle_networks.lock().unwrap_or_else(PoisonError::into_inner)
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
        let runner = Runner::Own { unfiltered: self.options.unfiltered };
        let private = match container.network {
            Network::Private => Some(self.take_network()?),
            Network::Host | Network::None => None,
        };
        let namespace = private.as_ref().map(PrivateNetwork::namespace);
        let result = session::run(&self.program(), container, &runner, namespace, io, cancel);
        // After a failure of ours nobody knows what state the network is in.
        if let (Some(private), Ok(_)) = (private, &result) {
            self.idle_networks().push(private);
        }
        result
    }
}
