//! Files of a stage in a directory of the caller.
//!
//! The rules are those of buildx's local exporter: what is there stays unless the stage has something of the same
//! name; files belong to the caller, with the modes and times they have in the stage. Beyond that nothing hostile in
//! the stage can reach outside: every directory is opened by descriptor without following links, a link found in the
//! way is replaced and never followed, and set-user-ID bits, which would now mean the caller, are dropped.
//!
//! A file gets its name when it is complete. Until then it lies beside its place under a name that no other run uses.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

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
const SPECIAL_BITS: u32 = 0o6000;
/// As many bytes are copied between two looks at whether the user has had enough.
const CHUNK: u64 = 64 << 20;

/// What becomes of symbolic links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Links {
    /// They are written as they are, wherever they lead.
    AsTheyAre,
    /// One that would lead out of the destination is left out.
    Inside,
}

/// Writes all of `root` into the directory `dest`, which is made where there is none.
pub(super) fn write(
    env: &Environment<'_>,
    root: &RootDir,
    dest: &Path,
    clamp: Option<i64>,
) -> Result<Written, ImageError> {
    let mut writer = Writer { clamp, ..Writer::new(env, root, dest, Links::AsTheyAre)? };
    let top = open_top(dest)?;
    writer.children(Place { directory: top.as_fd(), depth: 0 }, Path::new(""))?;
    Ok(writer.written)
}

/// Opens the destination, made where there is none.
pub(super) fn open_top(dest: &Path) -> Result<OwnedFd, ImageError> {
    std::fs::create_dir_all(dest).map_err(ImageError::io("create directory", dest))?;
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    rustix::fs::open(dest, flags, Mode::empty())
        .map_err(|error| ImageError::io("open directory", dest)(error.into()))
}

/// A directory that is written into.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) directory: BorrowedFd<'a>,
    /// How many directories stand between it and the destination.
    pub(super) depth: usize,
}

/// Writes parts of a file system into a directory.
pub(super) struct Writer<'a> {
    env: &'a Environment<'a>,
    root: &'a RootDir,
    dest: &'a Path,
    clamp: Option<i64>,
    links: Links,
    /// The name that a file has until it is complete.
    aside: String,
    transfer: Transfer<'a>,
    pub(super) written: Written,
}

impl<'a> Writer<'a> {
    /// Nothing is written yet, and `dest` not made.
    pub(super) fn new(
        env: &'a Environment<'a>,
        root: &'a RootDir,
        dest: &'a Path,
        links: Links,
    ) -> Result<Self, ImageError> {
        let mut suffix = [0; 8];
        getrandom::fill(&mut suffix)
            .map_err(|error| ImageError::io("find a name in", dest)(io::Error::other(error)))?;
        let aside = format!(".strake-output-{:016x}", u64::from_le_bytes(suffix));
        let transfer =
            Transfer::start(env, TransferKind::Export, format!("files to {}", dest.display()), None);
        Ok(Self { env, root, dest, clamp: None, links, aside, transfer, written: Written::default() })
    }

    /// Writes what the directory `path` of the root holds.
    pub(super) fn children(&mut self, to: Place<'_>, path: &Path) -> Result<(), ImageError> {
        if self.env.cancellation.is_requested() {
            return Err(ImageError::Canceled);
        }
        let entries = self.root.read_dir(path).map_err(|error| self.failed("read", path, error))?;
        for entry in entries {
            let path = path.join(&entry.name);
            let metadata = self.root.stat(&path).map_err(|error| self.failed("read", &path, error))?;
            self.entry(to, &entry.name, &path, &metadata)?;
        }
        Ok(())
    }

    /// Writes `path` of the root, which is what `metadata` says, under a name.
    pub(super) fn entry(
        &mut self,
        to: Place<'_>,
        name: &OsStr,
        path: &Path,
        metadata: &Metadata,
    ) -> Result<(), ImageError> {
        let result = match metadata.entry_type {
            EntryType::Directory => return self.directory(to, name, path, metadata),
            EntryType::File => self.file(to.directory, name, path, metadata),
            EntryType::Symlink => self.symlink(to, name, path),
            kind => self.node(to.directory, name, path, metadata, kind),
        };
        result.map_err(|error| {
            // It may not even have been made.
            let _ = unlinkat(to.directory, &self.aside, AtFlags::empty());
            match self.env.cancellation.is_requested() {
                true => ImageError::Canceled,
                false => self.failed("write", path, error),
            }
        })
    }

    fn directory(
        &mut self,
        to: Place<'_>,
        name: &OsStr,
        path: &Path,
        metadata: &Metadata,
    ) -> Result<(), ImageError> {
        let made = make_directory(to.directory, name)
            .map_err(|error| self.failed("create directory", path, error))?;
        self.children(Place { directory: made.as_fd(), depth: to.depth + 1 }, path)?;
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
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut to = File::from(openat(directory, &self.aside, flags, Mode::from_raw_mode(0o600))?);
        self.copy(&mut from, &mut to)?;
        fchmod(&to, Mode::from_raw_mode(self.mode(path, metadata)))?;
        rustix::fs::futimens(&to, &self.times(metadata))?;
        self.place(directory, name)
    }

    /// In pieces, so that a large file does not hold up who wants to stop.
    fn copy(&mut self, from: &mut File, to: &mut File) -> io::Result<()> {
        loop {
            if self.env.cancellation.is_requested() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let count = io::copy(&mut from.take(CHUNK), to)?;
            self.written.bytes += count;
            self.transfer.advance(count);
            if count < CHUNK {
                return Ok(());
            }
        }
    }

    fn symlink(&mut self, to: Place<'_>, name: &OsStr, path: &Path) -> io::Result<()> {
        let target = self.root.read_link(path)?;
        if self.links == Links::Inside && leads_out(&target, to.depth) {
            let text = format!("left out: the link to {} leads out of the destination", target.display());
            self.note(path, &text);
            return Ok(());
        }
        symlinkat(&target, to.directory, &self.aside)?;
        self.place(to.directory, name)
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
        let mode = Mode::from_raw_mode(self.mode(path, metadata));
        mknodat(directory, &self.aside, kind, mode, 0)?;
        utimensat(directory, &self.aside, &self.times(metadata), AtFlags::SYMLINK_NOFOLLOW)?;
        self.place(directory, name)
    }

    /// Gives the finished file its name, in place of what had it. A directory is never removed for a file.
    fn place(&self, directory: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
        renameat(directory, &self.aside, directory, name).map_err(|error| match error {
            rustix::io::Errno::ISDIR => {
                io::Error::other("there is a directory of this name; remove it first")
            }
            error => error.into(),
        })
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

/// Whether a link in a directory this deep below the destination may lead out of it, whatever lies there. Leading `..`
/// climb directories that are known to be no links; behind a name, they may climb anything.
fn leads_out(target: &Path, depth: usize) -> bool {
    let (mut climbs, mut is_below) = (0, false);
    for component in target.components() {
        match component {
            Component::RootDir | Component::Prefix(_) => return true,
            Component::ParentDir if is_below => return true,
            Component::ParentDir => climbs += 1,
            Component::Normal(_) => is_below = true,
            Component::CurDir => {}
        }
    }
    climbs > depth
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_out_as_soon_as_they_may() {
        for (target, depth, expected) in [
            ("a", 0, false),
            ("./a/b", 0, false),
            ("..", 0, true),
            ("..", 1, false),
            ("../../a", 1, true),
            ("../../a", 2, false),
            ("./../a", 1, false),
            ("a/..", 5, true),
            ("/", 5, true),
            ("/etc/passwd", 5, true),
        ] {
            assert_eq!(leads_out(Path::new(target), depth), expected, "{target} at {depth}");
        }
    }
}
