//! Terminals: the container's own, and the program's, which becomes a window on it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::pty::OpenptFlags;
use rustix::termios::{OptionalActions, Termios, Winsize};

use crate::error::ExecError;
use crate::sys;

/// Opens a terminal in the container's own `/dev/pts`, makes it the controlling terminal and the standard streams
/// of this process, and returns its master side. The process must lead a session and still be root.
pub(crate) fn open_inside(uid: u32, size: Option<(u16, u16)>) -> Result<OwnedFd, ExecError> {
    let failed = |what: &'static str| move |errno: rustix::io::Errno| ExecError::setup(what, errno);
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master =
        rustix::fs::open("/dev/pts/ptmx", flags, Mode::empty()).map_err(failed("open a terminal"))?;
    rustix::pty::unlockpt(&master).map_err(failed("unlock the terminal"))?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave =
        rustix::pty::ioctl_tiocgptpeer(&master, flags).map_err(failed("open the terminal's other side"))?;
    if uid != 0 {
        rustix::fs::fchown(&slave, Some(rustix::fs::Uid::from_raw(uid)), None)
            .map_err(failed("give the terminal to the user"))?;
    }
    if let Some((ws_row, ws_col)) = size {
        rustix::termios::tcsetwinsize(&master, Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 })
            .map_err(failed("set the size of the terminal"))?;
    }
    crate::mount::console(slave.as_fd())?;
    rustix::process::ioctl_tiocsctty(&slave).map_err(failed("control the terminal"))?;
    for stream in 0..=2 {
        sys::set_standard_stream(&slave, stream)
            .map_err(|errno| ExecError::setup("connect the terminal", errno))?;
    }
    Ok(master)
}

/// The program's own terminal in raw mode, put back when dropped.
#[derive(Debug)]
pub(crate) struct RawMode {
    before: Termios,
}

impl RawMode {
    /// Takes the terminal over; `None` if standard input is none.
    pub(crate) fn enter() -> Option<Self> {
        let before = rustix::termios::tcgetattr(rustix::stdio::stdin()).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Drain, &raw).ok()?;
        Some(Self { before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // If the terminal is gone there is nothing to put back.
        let _ = rustix::termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Drain, &self.before);
    }
}

/// Rows and columns of the program's terminal.
pub(crate) fn size() -> Option<(u16, u16)> {
    let size = rustix::termios::tcgetwinsize(rustix::stdio::stdin()).ok()?;
    Some((size.ws_row, size.ws_col)).filter(|size| *size != (0, 0))
}

/// Gives the container's terminal the size of the program's, if that has changed since `last`.
pub(crate) fn forward_size(master: BorrowedFd<'_>, last: &mut Option<(u16, u16)>) {
    let Some(new) = size().filter(|new| *last != Some(*new)) else { return };
    *last = Some(new);
    let (ws_row, ws_col) = new;
    let _ = rustix::termios::tcsetwinsize(master, Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 });
}
