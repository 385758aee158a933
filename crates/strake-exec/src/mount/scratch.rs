//! The file system in memory that holds what the executor itself adds to a container.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid};
use rustix::mount::MountAttrFlags;

use super::{attach, mode, new_file_system};
use crate::error::{Errno, ExecError};

/// The scratch, mounted over a directory of the host in this mount namespace only.
#[derive(Debug)]
pub(crate) struct Scratch {
    root: OwnedFd,
    path: PathBuf,
}

impl Scratch {
    /// Mounts a scratch over `place`.
    pub(crate) fn over(place: &Path) -> Result<Self, ExecError> {
        let failed = |errno: Errno| ExecError::setup(format!("mount tmpfs on {}", place.display()), errno);
        let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
        let root = new_file_system("tmpfs", &[("mode", Some("0755"))], attributes).map_err(failed)?;
        let target =
            rustix::fs::open(place, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .map_err(|errno| failed(errno.into()))?;
        attach(&root, &target).map_err(failed)?;
        Ok(Self { root, path: place.to_owned() })
    }

    /// Its root directory.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// The path by which the kernel finds `name` in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Makes a directory, with all that are missing on the way.
    pub(crate) fn directory(&self, name: &str) -> Result<OwnedFd, ExecError> {
        let failed = |errno| ExecError::setup(format!("make {name} in memory"), errno);
        for (end, _) in name.match_indices('/').chain([(name.len(), "")]) {
            match rustix::fs::mkdirat(self.fd(), &name[..end], mode(0o755)) {
                Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                Err(errno) => return Err(failed(errno)),
            }
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(self.fd(), name, flags, Mode::empty()).map_err(failed)
    }

    /// Makes a file with this content; the directory must exist.
    pub(crate) fn file(&self, name: &str, content: &[u8], bits: u32) -> Result<OwnedFd, ExecError> {
        let failed = |errno: Errno| ExecError::setup(format!("make {name} in memory"), errno);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file =
            rustix::fs::openat(self.fd(), name, flags, mode(0o600)).map_err(|errno| failed(errno.into()))?;
        let mut rest = content;
        while !rest.is_empty() {
            let written = rustix::io::retry_on_intr(|| rustix::io::write(&file, rest));
            rest = &rest[written.map_err(|errno| failed(errno.into()))?..];
        }
        rustix::fs::fchmod(&file, mode(bits)).map_err(|errno| failed(errno.into()))?;
        Ok(file)
    }

    /// The place of a file.
    pub(crate) fn open(&self, name: &str) -> Result<OwnedFd, ExecError> {
        rustix::fs::openat(self.fd(), name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| ExecError::setup(format!("open {name} in memory"), errno))
    }

    /// Gives a file away. The mode is set afterwards, as a change of owner clears parts of it.
    pub(crate) fn give(&self, name: &str, uid: u32, gid: u32, bits: u32) -> Result<(), Errno> {
        if (uid, gid) != (0, 0) {
            let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
            rustix::fs::chownat(self.fd(), name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Ok(rustix::fs::chmodat(self.fd(), name, mode(bits), AtFlags::empty())?)
    }
}
