//! What mount points leave behind in the root file system, and how it is removed after the run.
//!
//! Only what is certainly ours goes: an entry we made that is still empty, and a directory that exists in the upper
//! directory only because of such an entry, if it is empty and has not changed in any of its metadata. Times of the
//! directories around are put back.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno as Os;
use serde::{Deserialize, Serialize};

use super::target::{open_beneath, times};
use crate::process::Rootfs;

/// Something that exists in the root file system for the sake of a mount.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Trace {
    /// A file or directory that was made. The path has no symbolic links and no leading slash.
    Made { path: String, directory: bool, copied_up: Vec<Copied> },
    /// A directory of the stub below all layers. It is in the upper directory only if the process changed its
    /// owner or mode while it had nothing of its own in it.
    Stub { path: String },
}

/// A directory that was copied to the upper directory because something was made in it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Copied {
    pub(super) path: String,
    pub(super) meta: Meta,
}

/// Everything about a directory but its entries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Meta {
    mode: u32,
    uid: u32,
    gid: u32,
    modified: (i64, i64),
    attributes: Vec<(String, Vec<u8>)>,
}

impl Meta {
    pub(super) fn read(directory: BorrowedFd<'_>) -> Result<Self, Os> {
        // The descriptor may be one that only names a place; attributes need one that is really open.
        let open = rustix::fs::openat(directory, ".", OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let stat = rustix::fs::fstat(&open)?;
        let modified = times(&stat).last_modification;
        Ok(Self {
            mode: stat.st_mode,
            uid: stat.st_uid,
            gid: stat.st_gid,
            modified: (modified.tv_sec, modified.tv_nsec),
            attributes: attributes(&open)?,
        })
    }
}

/// Extended attributes in order, without those that overlayfs keeps for itself; an opaque mark stays in, as it says
/// that the directory was replaced.
fn attributes(directory: &OwnedFd) -> Result<Vec<(String, Vec<u8>)>, Os> {
    let mut names = vec![0; 64 << 10];
    let length = match rustix::fs::flistxattr(directory, &mut names) {
        Ok(length) => length,
        Err(Os::NOTSUP) => return Ok(Vec::new()),
        Err(errno) => return Err(errno),
    };
    let mut found = Vec::new();
    for name in names[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        let name = String::from_utf8_lossy(name).into_owned();
        let internal = name.starts_with("trusted.overlay.") || name.starts_with("user.overlay.");
        if internal && !name.ends_with(".opaque") {
            continue;
        }
        let mut value = vec![0; 64 << 10];
        let length = rustix::fs::fgetxattr(directory, name.as_str(), &mut value)?;
        value.truncate(length);
        found.push((name, value));
    }
    found.sort();
    Ok(found)
}

/// Removes what the mounts of a container left in its root file system. Nothing may be mounted on it any more.
///
/// Failures are not reported: what stays is an empty mount point, and the next step may find the reason.
pub(crate) fn clean(rootfs: &Rootfs, traces: &[Trace]) {
    let (base, lowers) = match rootfs {
        Rootfs::Overlay { upper, lowers, .. } => (upper, lowers.as_slice()),
        Rootfs::Directory(directory) => (directory, [].as_slice()),
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(base) = rustix::fs::open(base, flags, Mode::empty()) else { return };
    for trace in traces.iter().rev() {
        let result = match trace {
            Trace::Made { path, directory, copied_up } => {
                remove_made(base.as_fd(), path, *directory, copied_up)
            }
            Trace::Stub { path } => remove_stub(base.as_fd(), path, lowers),
        };
        if let Err(errno) = result {
            tracing::debug!(?trace, %errno, "mount point left in place");
        }
    }
}

fn remove_made(base: BorrowedFd<'_>, path: &str, directory: bool, copied_up: &[Copied]) -> Result<(), Os> {
    remove_empty(base, path, directory)?;
    for copied in copied_up {
        let unchanged =
            open_plain(base, &copied.path).and_then(|found| Meta::read(found.as_fd()))? == copied.meta;
        if !unchanged {
            break;
        }
        remove_empty(base, &copied.path, true)?;
    }
    Ok(())
}

fn remove_stub(base: BorrowedFd<'_>, path: &str, lowers: &[std::path::PathBuf]) -> Result<(), Os> {
    match open_plain(base, path) {
        Err(Os::NOENT | Os::NOTDIR | Os::LOOP) => return Ok(()),
        found => drop(found?),
    }
    let in_image = lowers.iter().any(|lower| std::fs::symlink_metadata(lower.join(path)).is_ok());
    if in_image { Ok(()) } else { remove_empty(base, path, true) }
}

/// Removes an empty file or directory and puts back the times of the directory around it.
fn remove_empty(base: BorrowedFd<'_>, path: &str, directory: bool) -> Result<(), Os> {
    let as_path = Path::new(path);
    let parent = as_path.parent().and_then(Path::to_str).unwrap_or_default();
    let name = as_path.file_name().ok_or(Os::INVAL)?;
    let parent = open_plain(base, parent)?;
    let before = rustix::fs::fstat(&parent)?;
    if directory {
        rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR)?;
    } else {
        let stat = rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_size != 0 {
            return Err(Os::NOTEMPTY);
        }
        rustix::fs::unlinkat(&parent, name, AtFlags::empty())?;
    }
    rustix::fs::utimensat(&parent, ".", &times(&before), AtFlags::empty())
}

fn open_plain(base: BorrowedFd<'_>, path: &str) -> Result<OwnedFd, Os> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    open_beneath(base, path, OFlags::PATH | OFlags::DIRECTORY, resolve)
}
