//! The init mode of the program: a fresh copy with one thread, which may therefore fork and set up namespaces.
//!
//! It becomes two processes. The *monitor* stays outside: it waits, reports how the container ended, and kills it when the executor's end of the control socket closes. The *first process* enters
//! the namespaces, makes the mounts, gives up its rights and becomes the container's own process, with pid 1:
//! as in Docker, orphans are its children, and when it ends the kernel kills and reaps all that is left.

mod files;
mod first;
mod identity;
mod program;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};
use rustix::thread::UnshareFlags;

use crate::error::ExecError;
use crate::network;
use crate::process::ExitStatus;
use crate::sys::{self, Fork};
use crate::wire::{self, Message};

pub(crate) use identity::CAPABILITY_NAMES;
pub(crate) use program::replace;

/// Exit code of an init process that could not even read its instructions.
const NO_INSTRUCTIONS: i32 = 125;

/// The init mode of the program: never returns. See [`crate::INIT_ARG`].
pub fn init_main() -> ! {
    sys::close_from(3);
    let Ok(control) = sys::take_stdin() else { sys::exit(NO_INSTRUCTIONS) };
    // Signals of the terminal are for the program, which decides what becomes of the container.
    let _ = rustix::process::setsid();
    let _ = rustix::process::chdir("/");
    rustix::process::umask(Mode::empty());
    if std::env::args_os().nth(2).is_some_and(|argument| argument == network::KEEPER_ARG) {
        network::keeper_main(control.as_fd());
    }
    if let Err(error) = monitor(control.as_fd()) {
        wire::report(control.as_fd(), &Message::Failed(error), None);
    }
    sys::exit(0)
}

fn monitor(control: BorrowedFd<'_>) -> Result<(), ExecError> {
    let (instructions, network, stdin) = wire::receive_instructions(control)
        .map_err(|error| ExecError::internal(format!("read instructions: {error}")))?;
    let null = null_device()?;
    sys::set_standard_stream(&null, 0).map_err(|errno| ExecError::setup("close standard input", errno))?;
    sys::unshare(UnshareFlags::NEWPID)
        .map_err(|errno| ExecError::setup("make a pid namespace", errno).remedy("run as root or rootless"))?;
    let first = match sys::fork().map_err(|errno| ExecError::setup("fork", errno))? {
        Fork::Child => first::run(control, &instructions, network, stdin),
        Fork::Parent(pid) => pid,
    };
    drop((network, stdin, instructions));
    for stream in [1, 2] {
        sys::set_standard_stream(&null, stream).map_err(|errno| ExecError::setup("close output", errno))?;
    }
    let first = First::new(first)?;
    wire::report(control, &Message::Process, Some(first.pidfd.as_fd()));
    let status = first.wait(control)?;
    wire::report(control, &Message::Ended(status), None);
    Ok(())
}

fn null_device() -> Result<OwnedFd, ExecError> {
    rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| ExecError::setup("open /dev/null", errno))
}

/// The first process of the container; killed when dropped.
struct First {
    pidfd: OwnedFd,
}

impl First {
    fn new(pid: Pid) -> Result<Self, ExecError> {
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())
            .map_err(|errno| ExecError::setup("open the first process", errno))?;
        Ok(Self { pidfd })
    }

    /// Waits for the end of the container, and brings it about when the executor is gone.
    fn wait(&self, control: BorrowedFd<'_>) -> Result<ExitStatus, ExecError> {
        let failed = |errno| ExecError::setup("wait for the container", errno);
        let mut watched =
            [PollFd::new(&self.pidfd, PollFlags::IN), PollFd::new(&control, PollFlags::empty())];
        rustix::io::retry_on_intr(|| poll(&mut watched, None)).map_err(failed)?;
        if watched[0].revents().is_empty() {
            let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
        }
        let status = rustix::io::retry_on_intr(|| {
            rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED)
        });
        let status = status.map_err(failed)?.ok_or_else(|| ExecError::internal("no exit status"))?;
        Ok(match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => ExitStatus::Exited(code),
            (None, signal) => ExitStatus::Signaled(signal.unwrap_or(libc::SIGKILL)),
        })
    }
}

impl Drop for First {
    fn drop(&mut self) {
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
    }
}
