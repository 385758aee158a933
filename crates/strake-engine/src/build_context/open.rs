//! Opening below a directory, without following a single link and without ever blocking.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use strake_store::root_dir::Metadata;

/// Paths are handed to the kernel in pieces of at most this many bytes, well below its limit of 4,096.
const PIECE: usize = 4000;

/// Opens `path` below `root`. The path names no link anywhere; of any length.
pub(crate) fn open_beneath(root: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let mut folder: Option<OwnedFd> = None;
    let mut rest = path;
    while rest.len() > PIECE {
        let end = rest[..PIECE].iter().rposition(|byte| *byte == b'/').ok_or(Errno::NAMETOOLONG)?;
        let from = folder.as_ref().map_or(root, AsFd::as_fd);
        folder = Some(open_piece(from, &rest[..end], OFlags::PATH | OFlags::DIRECTORY)?);
        rest = &rest[end + 1..];
    }
    open_piece(folder.as_ref().map_or(root, AsFd::as_fd), rest, flags)
}

/// Opens a file for reading; a pipe or device in its place does not block, and is for the caller to notice.
pub(crate) fn open_file_beneath(root: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Errno> {
    open_beneath(root, path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)
}

fn open_piece(from: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let path = OsStr::from_bytes(if path.is_empty() { b"." } else { path });
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    // EAGAIN is the kernel's answer when something was renamed during the walk; it asks for another try.
    for _ in 0..64 {
        match rustix::fs::openat2(from, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN) => {}
            result => return result,
        }
    }
    Err(Errno::AGAIN)
}

/// What an open descriptor is.
pub(crate) fn sys_stat(descriptor: impl AsFd) -> Result<Metadata, Errno> {
    let stat = rustix::fs::fstat(descriptor)?;
    Metadata::from_stat(&stat).map_err(|_| Errno::NOTSUP)
}
