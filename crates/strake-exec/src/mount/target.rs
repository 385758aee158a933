//! Finding, and where needed making, the place of a mount inside a root that may be hostile.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, StatxFlags, Timestamps};
use rustix::io::Errno as Os;

use super::trace::{Copied, Meta, Trace};
use super::{is_directory, mode};
use crate::error::{Errno, ExecError};

/// As many symbolic links as the kernel follows.
const MAX_LINKS: usize = 40;
const PROC_MAGIC: rustix::fs::FsWord = 0x9FA0;
const SYSFS_MAGIC: rustix::fs::FsWord = 0x6265_6572;

/// What a mount needs to be placed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    File,
}

impl Kind {
    pub(super) fn of(directory: bool) -> Self {
        if directory { Self::Directory } else { Self::File }
    }
}

/// The root of a container, mounted but not yet entered.
pub(super) struct Tree<'a> {
    root: BorrowedFd<'a>,
    mount_id: u64,
    /// Where things made in the root end up: the upper directory, or the root directory itself.
    upper: BorrowedFd<'a>,
    report: &'a dyn Fn(Trace),
}

impl<'a> Tree<'a> {
    pub(super) fn new(
        root: BorrowedFd<'a>,
        upper: BorrowedFd<'a>,
        report: &'a dyn Fn(Trace),
    ) -> Result<Self, ExecError> {
        let mount_id =
            mount_id(root).map_err(|errno| ExecError::setup("look at the root file system", errno))?;
        Ok(Self { root, mount_id, upper, report })
    }

    pub(super) fn root(&self) -> BorrowedFd<'a> {
        self.root
    }

    /// The place of `target`, whose symbolic links are followed inside the root. What is missing is made.
    pub(super) fn place(&self, target: &str, kind: Kind) -> Result<OwnedFd, ExecError> {
        let place = match self.find(target) {
            Err(Os::NOENT) => self.make(target, kind)?,
            Err(errno) => return Err(ExecError::setup(format!("find mount point {target}"), errno)),
            Ok(place) => place,
        };
        self.check(target, &place, kind)?;
        Ok(place)
    }

    fn find(&self, target: &str) -> Result<OwnedFd, Os> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        open_beneath(self.root, target.trim_start_matches('/'), OFlags::PATH, resolve)
    }

    fn check(&self, target: &str, place: &OwnedFd, kind: Kind) -> Result<(), ExecError> {
        let failed = |errno: Errno| ExecError::setup(format!("look at mount point {target}"), errno);
        let magic = rustix::fs::fstatfs(place).map_err(|errno| failed(errno.into()))?.f_type;
        if [PROC_MAGIC, SYSFS_MAGIC].contains(&magic) {
            return Err(ExecError::invalid(
                format!("mount point {target}"),
                "lies in /proc or /sys, where nothing may be mounted",
            ));
        }
        match (kind, is_directory(place.as_fd()).map_err(failed)?) {
            (Kind::Directory, true) | (Kind::File, false) => Ok(()),
            (Kind::Directory, false) => Err(failed(Os::NOTDIR.into())),
            (Kind::File, true) => Err(failed(Os::ISDIR.into())),
        }
    }

    /// The place of a standard directory, which the image must not have made anything but a directory.
    pub(super) fn system_directory(&self, name: &str) -> Result<OwnedFd, ExecError> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        match open_beneath(self.root, name, OFlags::PATH | OFlags::DIRECTORY, resolve) {
            Ok(place) => Ok(place),
            Err(Os::NOENT) => self.make(name, Kind::Directory),
            Err(Os::LOOP | Os::NOTDIR) => {
                Err(ExecError::HostileRoot { path: format!("/{name}"), found: self.describe(name) })
            }
            Err(errno) => Err(ExecError::setup(format!("find /{name}"), errno)),
        }
    }

    fn describe(&self, name: &str) -> String {
        match rustix::fs::readlinkat(self.root, name, Vec::new()) {
            Ok(link) => format!("a symbolic link to {}", link.to_string_lossy()),
            Err(_) => "no directory".to_owned(),
        }
    }

    /// Walks to `target` one name at a time and makes what is missing.
    fn make(&self, target: &str, kind: Kind) -> Result<OwnedFd, ExecError> {
        let failed = |errno: Os| ExecError::setup(format!("make mount point {target}"), errno);
        let root = rustix::io::fcntl_dupfd_cloexec(self.root, 3).map_err(failed)?;
        let mut walked: Vec<(String, OwnedFd)> = vec![(String::new(), root)];
        let mut names: VecDeque<String> = target.split('/').map(str::to_owned).collect();
        let mut links = 0;
        while let Some(name) = names.pop_front() {
            match name.as_str() {
                "" | "." => continue,
                ".." => {
                    walked.truncate(walked.len().saturating_sub(1).max(1));
                    continue;
                }
                _ => {}
            }
            let directory = walked.last().map(|(_, fd)| fd.as_fd()).unwrap_or(self.root);
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let found = match rustix::fs::openat(directory, name.as_str(), flags, Mode::empty()) {
                Ok(found) => found,
                Err(Os::NOENT) => {
                    let last = names.iter().all(|rest| rest.is_empty() || rest == ".");
                    self.make_one(&walked, &name, if last { kind } else { Kind::Directory })
                        .map_err(failed)?;
                    rustix::fs::openat(directory, name.as_str(), flags, Mode::empty()).map_err(failed)?
                }
                Err(errno) => return Err(failed(errno)),
            };
            let stat = rustix::fs::fstat(&found).map_err(failed)?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
                walked.push((name, found));
                continue;
            }
            links += 1;
            if links > MAX_LINKS {
                return Err(failed(Os::LOOP));
            }
            let link = rustix::fs::readlinkat(&found, "", Vec::new()).map_err(failed)?;
            let link = link.into_string().map_err(|_| failed(Os::ILSEQ))?;
            if link.starts_with('/') {
                walked.truncate(1);
            }
            for part in link.rsplit('/') {
                names.push_front(part.to_owned());
            }
        }
        Ok(walked.pop().expect("the root is never popped").1)
    }

    /// Makes one empty file or directory, and leaves the times of the directory as they were.
    fn make_one(&self, walked: &[(String, OwnedFd)], name: &str, kind: Kind) -> Result<(), Os> {
        let (_, directory) = walked.last().expect("the root is always there");
        let before = rustix::fs::fstat(directory)?;
        let ours = mount_id(directory.as_fd())? == self.mount_id;
        if ours {
            let parents: Vec<&str> = walked[1..].iter().map(|(name, _)| name.as_str()).collect();
            let path = [parents.as_slice(), &[name]].concat().join("/");
            let copied_up = self.will_be_copied_up(walked)?;
            (self.report)(Trace::Made { path, directory: kind == Kind::Directory, copied_up });
        }
        match kind {
            Kind::Directory => rustix::fs::mkdirat(directory, name, mode(0o755))?,
            Kind::File => {
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                drop(rustix::fs::openat(directory, name, flags, mode(0o644))?);
            }
        }
        if ours {
            rustix::fs::utimensat(directory, ".", &times(&before), AtFlags::empty())?;
        }
        Ok(())
    }

    /// Directories on the way that the upper directory does not have yet, deepest first.
    fn will_be_copied_up(&self, walked: &[(String, OwnedFd)]) -> Result<Vec<Copied>, Os> {
        let mut copied = Vec::new();
        for depth in (2..=walked.len()).rev() {
            let names: Vec<&str> = walked[1..depth].iter().map(|(name, _)| name.as_str()).collect();
            let path = names.join("/");
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
            match open_beneath(self.upper, &path, OFlags::PATH | OFlags::DIRECTORY, resolve) {
                Ok(_) => break,
                Err(Os::NOENT) => {
                    copied.push(Copied { meta: Meta::read(walked[depth - 1].1.as_fd())?, path })
                }
                Err(errno) => return Err(errno),
            }
        }
        Ok(copied)
    }
}

/// Opens `path` under the rules of `resolve`. The kernel asks for a repetition when something was renamed meanwhile.
pub(crate) fn open_beneath(
    directory: BorrowedFd<'_>,
    path: &str,
    flags: OFlags,
    resolve: ResolveFlags,
) -> Result<OwnedFd, Os> {
    let path = if path.is_empty() { "." } else { path };
    for _ in 0..64 {
        match rustix::fs::openat2(directory, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Os::AGAIN | Os::INTR) => {}
            result => return result,
        }
    }
    Err(Os::AGAIN)
}

pub(super) fn times(stat: &rustix::fs::Stat) -> Timestamps {
    let time = |tv_sec, tv_nsec| rustix::fs::Timespec { tv_sec, tv_nsec };
    // The kernel counts nanoseconds below one second, in a type that differs between architectures.
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec as _),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec as _),
    }
}

fn mount_id(place: BorrowedFd<'_>) -> Result<u64, Os> {
    let stat = rustix::fs::statx(place, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?;
    Ok(stat.stx_mnt_id)
}
