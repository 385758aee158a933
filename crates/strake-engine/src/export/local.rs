//! Files of a stage in a directory of the caller.
//!
//! The rules are those of buildx's local exporter: what is there stays unless the stage has something of the same
//! name; files belong to the caller, with the modes and times they have in the stage. Beyond that nothing hostile in
//! the stage can reach outside: every directory is opened by descriptor without following links, a link found in the
//! way is replaced and never followed, and set-user-ID bits, which would now mean the caller, are dropped.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, fchmod, mkdirat, mknodat, openat,
    renameat, statat, symlinkat, unlinkat, utimensat,
};
use strake_store::RootDir;
use strake_store::root_dir::{EntryType, Metadata};

use super::Written;
use crate::event::TransferKind;
use crate::image::{ImageError, Transfer};
use crate::request::Environment;
use strake_registry::Progress as _;

/// As many notes as a person reads.
const MAX_NOTES: usize = 100;
/// The name that a file has until it is complete.
const ASIDE: &str = ".strake-output";
const SPECIAL_BITS: u32 = 0o6000;

pub(super) fn write(
    env: &Environment<'_>,
    root: &RootDir,
    dest: &Path,
    clamp: Option<i64>,
) -> Result<Written, ImageError> {
    std::fs::create_dir_all(dest).map_err(ImageError::io("create directory", dest))?;
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(dest, flags, Mode::empty())
        .map_err(|error| ImageError::io("open directory", dest)(error.into()))?;
    let transfer = Transfer::start(env, TransferKind::Export, format!("files to {}", dest.display()), None);
    let mut writer = Writer { env, root, dest, clamp, transfer, written: Written::default() };
    writer.children(directory.as_fd(), Path::new(""))?;
    Ok(writer.written)
}

struct Writer<'a> {
    env: &'a Environment<'a>,
    root: &'a RootDir,
    dest: &'a Path,
    clamp: Option<i64>,
    transfer: Transfer<'a>,
    written: Written,
}

impl Writer<'_> {
    fn children(&mut self, directory: BorrowedFd<'_>, path: &Path) -> Result<(), ImageError> {
        if self.env.cancellation.is_requested() {
            return Err(ImageError::Canceled);
        }
        let entries = self.root.read_dir(path).map_err(|error| self.failed("read", path, error))?;
        for entry in entries {
            let path = path.join(&entry.name);
            let metadata = self.root.stat(&path).map_err(|error| self.failed("read", &path, error))?;
            self.entry(directory, &entry.name, &path, &metadata)?;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        directory: BorrowedFd<'_>,
        name: &OsStr,
        path: &Path,
        metadata: &Metadata,
    ) -> Result<(), ImageError> {
        let result = match metadata.entry_type {
            EntryType::Directory => return self.directory(directory, name, path, metadata),
            EntryType::File => self.file(directory, name, path, metadata),
            EntryType::Symlink => self.symlink(directory, name, path),
            kind => self.node(directory, name, path, metadata, kind),
        };
        result.map_err(|error| self.failed("write", path, error))
    }

    fn directory(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &OsStr,
        path: &Path,
        metadata: &Metadata,
    ) -> Result<(), ImageError> {
        let made =
            make_directory(parent, name).map_err(|error| self.failed("create directory", path, error))?;
        self.children(made.as_fd(), path)?;
        fchmod(&made, Mode::from_raw_mode(self.mode(path, metadata)))
            .and_then(|()| rustix::fs::futimens(&made, &self.times(metadata)))
            .map_err(|error| self.failed("write", path, error.into()))
    }

    fn file(
        &mut self,
        directory: BorrowedFd<'_>,
        name: &OsStr,
        path: &Path,
        metadata: &Metadata,
    ) -> io::Result<()> {
        let mut from = self.root.open_file(path)?;
        remove_aside(directory)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut to = File::from(openat(directory, ASIDE, flags, Mode::from_raw_mode(0o600))?);
        let count = io::copy(&mut from, &mut to)?;
        fchmod(&to, Mode::from_raw_mode(self.mode(path, metadata)))?;
        rustix::fs::futimens(&to, &self.times(metadata))?;
        self.written.bytes += count;
        self.transfer.advance(count);
        place(directory, name)
    }

    fn symlink(&mut self, directory: BorrowedFd<'_>, name: &OsStr, path: &Path) -> io::Result<()> {
        let target = self.root.read_link(path)?;
        remove_aside(directory)?;
        symlinkat(&target, directory, ASIDE)?;
        place(directory, name)
    }

    fn node(
        &mut self,
        directory: BorrowedFd<'_>,
        name: &OsStr,
        path: &Path,
        metadata: &Metadata,
        kind: EntryType,
    ) -> io::Result<()> {
        let kind = match kind {
            EntryType::Fifo => FileType::Fifo,
            // A device of the host, or a socket that nobody listens on, is nothing a build can hand out.
            _ => {
                self.note(path, "left out: devices and sockets are not written to a directory");
                return Ok(());
            }
        };
        remove_aside(directory)?;
        mknodat(directory, ASIDE, kind, Mode::from_raw_mode(self.mode(path, metadata)), 0)?;
        utimensat(directory, ASIDE, &self.times(metadata), AtFlags::SYMLINK_NOFOLLOW)?;
        place(directory, name)
    }

    fn mode(&mut self, path: &Path, metadata: &Metadata) -> u32 {
        let mode = metadata.mode & 0o7777;
        let special = mode & SPECIAL_BITS;
        if special != 0 && !metadata.is_dir() {
            self.note(
                path,
                "written without its set-user-ID and set-group-ID bits: the file belongs to you now",
            );
            return mode & !special;
        }
        mode
    }

    fn times(&self, metadata: &Metadata) -> Timestamps {
        let omit = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
        let seconds = metadata.mtime_ns.div_euclid(1_000_000_000);
        let modified = match self.clamp {
            Some(clamp) if seconds >= clamp => Timespec { tv_sec: clamp, tv_nsec: 0 },
            _ => Timespec { tv_sec: seconds, tv_nsec: metadata.mtime_ns.rem_euclid(1_000_000_000) },
        };
        Timestamps { last_access: omit, last_modification: modified }
    }

    fn note(&mut self, path: &Path, text: &str) {
        if self.written.notes.len() < MAX_NOTES {
            self.written.notes.push(format!("/{}: {text}", path.display()));
        }
    }

    fn failed(&self, action: &'static str, path: &Path, error: io::Error) -> ImageError {
        let place: PathBuf = self.dest.join(path);
        ImageError::io(action, place)(error)
    }
}

/// Opens a directory of this name, made where there is none, in place of whatever else has the name.
fn make_directory(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) if FileType::from_raw_mode(found.st_mode) == FileType::Directory => {}
        Ok(_) => {
            unlinkat(parent, name, AtFlags::empty())?;
            mkdirat(parent, name, Mode::from_raw_mode(0o700))?;
        }
        Err(rustix::io::Errno::NOENT) => mkdirat(parent, name, Mode::from_raw_mode(0o700))?,
        Err(error) => return Err(error.into()),
    }
    Ok(openat(parent, name, flags, Mode::empty())?)
}

/// Removes what an interrupted run left.
fn remove_aside(directory: BorrowedFd<'_>) -> io::Result<()> {
    match unlinkat(directory, ASIDE, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Gives the finished file its name, in place of what had it. A directory is never removed for a file.
fn place(directory: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    let placed = renameat(directory, ASIDE, directory, name);
    if placed.is_err() {
        drop(remove_aside(directory));
    }
    placed.map_err(|error| match error {
        rustix::io::Errno::ISDIR => io::Error::other("there is a directory of this name; remove it first"),
        error => error.into(),
    })
}
