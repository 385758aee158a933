//! Writing below a directory without ever leaving it.
//!
//! Every component of a path is opened by itself, relative to the directory above, never following a link; links are
//! read and followed here, within the root. So a link planted by an earlier entry, or by anybody, leads nowhere else.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::rc::Rc;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::{TarError, escape};
use crate::root_dir::{EntryType, Metadata, sorted_names, stat_at};

/// The most symbolic links followed for one path, as in the kernel.
const LINKS_MAX: u32 = 40;

/// The most directories kept open to find them again quickly.
const OPEN_MAX: usize = 128;

/// The longest path, in bytes (`PATH_MAX`).
const PATH_MAX: usize = 4096;

/// A directory inside the tree.
#[derive(Debug)]
pub(super) struct Dir {
    pub(super) descriptor: OwnedFd,
    /// Its path below the root without links; empty for the root.
    pub(super) path: Vec<u8>,
}

impl Dir {
    /// The path of something in this directory.
    pub(super) fn child_path(&self, name: &[u8]) -> Vec<u8> {
        join(&self.path, name)
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// A directory to write into, and which directories were made on the way.
#[derive(Debug)]
pub(super) struct Tree {
    root: Rc<Dir>,
    open: BTreeMap<Vec<u8>, Rc<Dir>>,
    /// Directories made because something had to be put into them.
    pub(super) implicit: BTreeSet<Vec<u8>>,
    /// Of these, the ones that stand where this layer deleted something.
    pub(super) replaced: Vec<Vec<u8>>,
}

impl Tree {
    pub(super) fn open(root: &Path) -> Result<Self, TarError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let descriptor = rustix::fs::open(root, flags, Mode::empty())
            .map_err(|error| failed("open", root.as_os_str().as_bytes(), error))?;
        let root = Rc::new(Dir { descriptor, path: Vec::new() });
        Ok(Self { root, open: BTreeMap::new(), implicit: BTreeSet::new(), replaced: Vec::new() })
    }

    pub(super) fn root(&self) -> Rc<Dir> {
        self.root.clone()
    }

    /// The directory at `path`, made if missing; links are followed within the tree.
    pub(super) fn directory(&mut self, path: &[u8]) -> Result<Rc<Dir>, TarError> {
        self.directory_after(path, &mut 0)
    }

    fn directory_after(&mut self, path: &[u8], links: &mut u32) -> Result<Rc<Dir>, TarError> {
        if path.is_empty() {
            return Ok(self.root());
        }
        if let Some(found) = self.open.get(path) {
            return Ok(found.clone());
        }
        let (parent, name) = split(path);
        let parent = self.directory_after(parent, links)?;
        let found = self.enter(&parent, name, links)?;
        if self.open.len() >= OPEN_MAX {
            self.open.clear();
        }
        self.open.insert(path.to_vec(), found.clone());
        Ok(found)
    }

    /// Goes one component down.
    fn enter(&mut self, parent: &Rc<Dir>, name: &[u8], links: &mut u32) -> Result<Rc<Dir>, TarError> {
        let path = parent.child_path(name);
        if path.len() >= PATH_MAX {
            return Err(failed("enter", &path, Errno::NAMETOOLONG));
        }
        let os_name = std::ffi::OsStr::from_bytes(name);
        let open = || {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(parent.as_fd(), os_name, flags, Mode::empty())
        };
        match open() {
            Ok(descriptor) => return Ok(Rc::new(Dir { descriptor, path })),
            Err(Errno::NOENT) => {}
            Err(Errno::NOTDIR | Errno::LOOP) => {
                let metadata =
                    stat_at(parent.as_fd(), os_name).map_err(|error| io("examine", &path, error))?;
                if metadata.entry_type == EntryType::Symlink {
                    return self.follow(parent, name, links);
                }
                if !metadata.is_whiteout() {
                    let problem = "a file stands where a directory is needed".to_owned();
                    return Err(TarError::Entry { path: escape(&path), problem });
                }
                rustix::fs::unlinkat(parent.as_fd(), os_name, AtFlags::empty())
                    .map_err(|error| failed("remove", &path, error))?;
                self.replaced.push(path.clone());
            }
            Err(error) => return Err(failed("open", &path, error)),
        }
        rustix::fs::mkdirat(parent.as_fd(), os_name, Mode::from_raw_mode(0o700))
            .map_err(|error| failed("create directory", &path, error))?;
        self.implicit.insert(path.clone());
        let descriptor = open().map_err(|error| failed("open", &path, error))?;
        Ok(Rc::new(Dir { descriptor, path }))
    }

    /// Follows a link to a directory, which is made if missing.
    fn follow(&mut self, parent: &Rc<Dir>, name: &[u8], links: &mut u32) -> Result<Rc<Dir>, TarError> {
        let path = parent.child_path(name);
        *links += 1;
        if *links > LINKS_MAX {
            return Err(failed("follow", &path, Errno::LOOP));
        }
        let target = rustix::fs::readlinkat(parent.as_fd(), std::ffi::OsStr::from_bytes(name), Vec::new())
            .map_err(|error| failed("read link", &path, error))?;
        let target = target.to_bytes();
        let mut current = if target.starts_with(b"/") { self.root() } else { parent.clone() };
        for component in target.split(|byte| *byte == b'/') {
            current = match component {
                b"" | b"." => current,
                // The path has no links in it, so the directory above is the path cut short.
                b".." => {
                    let above = split(&current.path).0.to_vec();
                    self.directory_after(&above, links)?
                }
                name => self.enter(&current, name, links)?,
            };
        }
        Ok(current)
    }

    /// What stands at a name, if anything.
    pub(super) fn examine(&self, parent: &Dir, name: &[u8]) -> Result<Option<Metadata>, TarError> {
        match stat_at(parent.as_fd(), std::ffi::OsStr::from_bytes(name)) {
            Ok(metadata) => Ok(Some(metadata)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io("examine", &parent.child_path(name), error)),
        }
    }

    /// Removes what stands at a name, with everything below.
    pub(super) fn remove(&mut self, parent: &Dir, name: &[u8], metadata: &Metadata) -> Result<(), TarError> {
        let path = parent.child_path(name);
        // A directory that is gone, or a link that leads elsewhere from now on, must not be found again.
        self.open.clear();
        if metadata.is_dir() {
            self.implicit.retain(|other| !is_below_or_same(other, &path));
            self.replaced.retain(|other| !is_below_or_same(other, &path));
        }
        remove_tree(parent.as_fd(), name, metadata).map_err(|error| io("remove", &path, error))
    }
}

/// Removes a name and what is below, following no link.
fn remove_tree(parent: BorrowedFd<'_>, name: &[u8], metadata: &Metadata) -> std::io::Result<()> {
    let name = std::ffi::OsStr::from_bytes(name);
    if !metadata.is_dir() {
        return Ok(rustix::fs::unlinkat(parent, name, AtFlags::empty())?);
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    for child in sorted_names(directory.as_fd())? {
        let metadata = stat_at(directory.as_fd(), &child)?;
        remove_tree(directory.as_fd(), child.as_bytes(), &metadata)?;
    }
    Ok(rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?)
}

/// Whether `path` is `directory` or lies in it.
pub(super) fn is_below_or_same(path: &[u8], directory: &[u8]) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// A clean path into its directory and its last component.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

pub(super) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, b"/", name].concat() }
}

pub(super) fn failed(action: &'static str, path: &[u8], error: Errno) -> TarError {
    io(action, path, error.into())
}

pub(super) fn io(action: &'static str, path: &[u8], source: std::io::Error) -> TarError {
    TarError::Io { action, path: escape(path), source }
}
