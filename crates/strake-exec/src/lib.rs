//! One process in one container.
//!
//! This crate knows no images, layers or digests: it gets a root file system, mounts and a process
//! ([`Container`]), runs it ([`Executor::run`]) and says how it ended ([`ExitStatus`]).

mod cancel;
mod error;
mod init;
mod mount;
mod network;
mod own;
mod process;
mod runc;
mod seccomp;
mod session;
mod sys;
mod terminal;
pub mod user;
pub mod userns;
mod wire;

use std::fmt::{self, Debug};

pub use cancel::Cancel;
pub use error::{Errno, ExecError};
pub use init::init_main;
pub use own::{Options, OwnExecutor};
pub use process::{Container, ExitStatus, HostEntry, Mount, MountKind, Network, Process, Rootfs};
pub use runc::RuncExecutor;

/// First argument of the hidden mode in which the program becomes the init process of a container.
/// `main` calls [`init_main`] at once when it sees it, before it starts a thread or reads anything.
pub const INIT_ARG: &str = "__strake-init";

/// The oldest Linux that containers can be run on, as `major.minor`: the first with `mount_setattr(2)`.
pub const OLDEST_LINUX: &str = "5.12";

/// Runs one process in one container.
pub trait Executor: Send + Sync + Debug {
    /// Runs `container` to its end. When this returns, in whatever way, no process of the container is left
    /// and nothing is mounted; an overlay's upper directory holds only what the process changed.
    ///
    /// # Errors
    /// [`ExecError`] when the process could not be started or the run was cancelled. A process that fails is
    /// no error.
    fn run(&self, container: &Container, io: Io<'_>, cancel: &Cancel) -> Result<ExitStatus, ExecError>;
}

/// Which of the two outputs of a process; with a terminal all output is [`Stream::Stdout`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Receives output as it comes, in pieces of at most 64 KiB that may end anywhere. A slow sink slows the process.
pub type OutputSink<'a> = &'a mut (dyn FnMut(Stream, &[u8]) + 'a);

/// Standard input, output and error of a container's process.
pub struct Io<'a> {
    /// Receives the output.
    pub output: OutputSink<'a>,
    /// Where input comes from.
    pub stdin: Stdin,
}

impl Debug for Io<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Io").field("stdin", &self.stdin).finish_non_exhaustive()
    }
}

/// Standard input of a container's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stdin {
    /// Empty.
    Null,
    /// The program's own standard input. With [`Process::terminal`] it is forwarded to the container's terminal.
    Inherit,
    /// The program's own terminal, in raw mode for the time of the run; needs [`Process::terminal`].
    /// Falls back to [`Stdin::Inherit`] when standard input is no terminal.
    Terminal,
}
