//! What a tar leaves to the layers below.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::attributes::{Attributes, Place, Setter};
use super::tree::{Dir, Tree, failed, io, join, split};
use super::{Applied, TarError, escape};
use crate::root_dir::{EntryType, Metadata, sorted_names};
use crate::xattr::{self, Mark};
use crate::{Flavour, LayerId, RootDir, Store, StoreError};

/// The most symbolic links followed for one path, as in the kernel.
const LINKS_MAX: u32 = 40;

/// Gives a layer directory what its tar left to the layers `below` (bottom first): the attributes of directories that
/// it does not have itself, the true place of directories that are symbolic links below, the files it links to.
///
/// # Errors
/// When a layer below is missing, a hard link names no file, or the directory cannot be written.
pub fn settle(
    store: &Store,
    layer_dir: &Path,
    below: &[LayerId],
    applied: &Applied,
) -> Result<(), StoreError> {
    let mut layers = Vec::new();
    for layer in below.iter().rev() {
        let path = store.layer_dir(layer);
        layers.push(RootDir::open(&path).map_err(|_| StoreError::NoLayer(layer.clone()))?);
    }
    let below = Below { layers, flavour: store.flavour() };
    settle_on(&below, layer_dir, applied)
        .map_err(|source| StoreError::Tar { what: format!("settle {}", layer_dir.display()), source })
}

fn settle_on(below: &Below, layer_dir: &Path, applied: &Applied) -> Result<(), TarError> {
    let mut settler =
        Settler { below, tree: Tree::open(layer_dir)?, setter: Setter::new(), copies: BTreeMap::new() };
    for (link, target) in &applied.deferred_links {
        settler.link(link.as_os_str().as_bytes(), target.as_os_str().as_bytes())?;
    }
    let mut pending: BTreeSet<Vec<u8>> =
        applied.implicit_dirs.iter().map(|path| path.as_os_str().as_bytes().to_vec()).collect();
    let mut attributes = BTreeMap::new();
    // Shallow ones first: where one is a link below, those in it move with it.
    while let Some(path) = pending.pop_first() {
        if let Some(found) = settler.directory(&path, &mut pending)? {
            attributes.insert(path, found);
        }
        pending.append(&mut settler.tree.implicit);
    }
    for (path, attributes) in attributes.iter().rev() {
        settler.set(path, attributes)?;
    }
    Ok(())
}

struct Settler<'a> {
    below: &'a Below,
    tree: Tree,
    setter: Setter,
    /// Where the copy of a linked file is.
    copies: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Settler<'_> {
    /// Looks what a directory that had to be made is below; answers its attributes.
    fn directory(
        &mut self,
        path: &[u8],
        pending: &mut BTreeSet<Vec<u8>>,
    ) -> Result<Option<Attributes>, TarError> {
        if !self.is_directory_here(path)? {
            return Ok(None);
        }
        let Some((layer, metadata)) = self.below.lookup(path)? else { return Ok(None) };
        match metadata.entry_type {
            EntryType::Directory => self.below.attributes(layer, path, &metadata).map(Some),
            EntryType::Symlink => {
                if let Some(target) = self.below.resolve(path)?.filter(|target| target != path) {
                    self.relocate(path, &target)?;
                    // What was made below the old place is made below the new one now.
                    let moved: Vec<_> = pending
                        .iter()
                        .filter_map(|other| other.strip_prefix(&[path, b"/"].concat()[..]))
                        .map(|rest| join(&target, rest))
                        .collect();
                    pending.extend(moved);
                    pending.insert(target);
                }
                Ok(None)
            }
            // The layer puts a directory where a file was.
            _ => Ok(None),
        }
    }

    fn is_directory_here(&self, path: &[u8]) -> Result<bool, TarError> {
        match open_plain(self.tree.root().as_fd(), path, OFlags::PATH | OFlags::DIRECTORY) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(false),
            Err(error) => Err(failed("open", path, error)),
        }
    }

    fn set(&mut self, path: &[u8], attributes: &Attributes) -> Result<(), TarError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let directory = match open_plain(self.tree.root().as_fd(), path, flags) {
            Err(Errno::NOENT) => return Ok(()),
            result => result.map_err(|error| failed("open", path, error))?,
        };
        let place = Place::Named(directory.as_fd(), OsStr::new("."));
        self.setter.set(place, path, attributes, false)
    }

    /// Moves everything in the directory `from` of the layer into `to`.
    fn relocate(&mut self, from: &[u8], to: &[u8]) -> Result<(), TarError> {
        let target = self.tree.directory(to)?;
        let source = self.tree.directory(from)?;
        if target.path == source.path || super::tree::is_below_or_same(&target.path, &source.path) {
            let problem = "the directory is a link into itself in the layers below".to_owned();
            return Err(TarError::Entry { path: escape(from), problem });
        }
        self.merge(&source, &target)?;
        let (parent, name) = split(from);
        let parent = self.tree.directory(parent)?;
        if let Some(metadata) = self.tree.examine(&parent, name)? {
            self.tree.remove(&parent, name, &metadata)?;
        }
        Ok(())
    }

    fn merge(&mut self, source: &Dir, target: &Dir) -> Result<(), TarError> {
        let readable = open_plain(source.as_fd(), b"", OFlags::RDONLY | OFlags::DIRECTORY)
            .map_err(|error| failed("open", &source.path, error))?;
        let names = sorted_names(readable.as_fd()).map_err(|error| io("read", &source.path, error))?;
        for name in names {
            let bytes = name.as_bytes();
            let moved = self.tree.examine(source, bytes)?;
            let existing = self.tree.examine(target, bytes)?;
            let both = moved.zip(existing).filter(|(moved, existing)| moved.is_dir() && existing.is_dir());
            if both.is_some() {
                let source = self.tree.directory(&source.child_path(bytes))?;
                let target = self.tree.directory(&target.child_path(bytes))?;
                self.merge(&source, &target)?;
                continue;
            }
            if let Some(existing) = existing {
                self.tree.remove(target, bytes, &existing)?;
            }
            rustix::fs::renameat(source.as_fd(), &name, target.as_fd(), &name)
                .map_err(|error| failed("move", &source.child_path(bytes), error))?;
        }
        Ok(())
    }

    /// Copies the file of a layer below that a hard link names; several links to it share the copy.
    fn link(&mut self, path: &[u8], target: &[u8]) -> Result<(), TarError> {
        let missing = || TarError::Entry {
            path: escape(path),
            problem: format!("hard link to `{}`, which does not exist", escape(target)),
        };
        let (parent, name) = split(target);
        let parent = self.below.resolve(parent)?.ok_or_else(missing)?;
        let target = join(&parent, name);
        let (layer, metadata) = self.below.lookup(&target)?.ok_or_else(missing)?;
        if metadata.is_dir() {
            let problem = format!("hard link to `{}`, which is a directory", escape(&target));
            return Err(TarError::Entry { path: escape(path), problem });
        }
        let (parent, name) = split(path);
        let parent = self.tree.directory(parent)?;
        if let Some(copy) = self.copies.get(&target).cloned() {
            let (copy_parent, copy_name) = split(&copy);
            let from = self.tree.directory(copy_parent)?;
            let (copy_name, name) = (OsStr::from_bytes(copy_name), OsStr::from_bytes(name));
            return rustix::fs::linkat(from.as_fd(), copy_name, parent.as_fd(), name, AtFlags::empty())
                .map_err(|error| failed("link", path, error));
        }
        self.copy(&parent, name, layer, &target, &metadata)?;
        self.copies.insert(target, path.to_vec());
        Ok(())
    }

    fn copy(
        &mut self,
        parent: &Dir,
        name: &[u8],
        layer: usize,
        target: &[u8],
        metadata: &Metadata,
    ) -> Result<(), TarError> {
        let path = parent.child_path(name);
        let name = OsStr::from_bytes(name);
        let attributes = self.below.attributes(layer, target, metadata)?;
        let made = |result: Result<(), Errno>| result.map_err(|error| failed("create", &path, error));
        let node = |file_type| {
            let mode = Mode::from_raw_mode(0o600);
            rustix::fs::mknodat(parent.as_fd(), name, file_type, mode, metadata.rdev)
        };
        match metadata.entry_type {
            EntryType::File => {
                let from =
                    open_plain(self.below.layers[layer].as_fd(), target, OFlags::RDONLY | OFlags::NOFOLLOW)
                        .map_err(|error| failed("open", target, error))?;
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let to = rustix::fs::openat(parent.as_fd(), name, flags, Mode::from_raw_mode(0o600))
                    .map_err(|error| failed("create", &path, error))?;
                let mut to = File::from(to);
                std::io::copy(&mut File::from(from), &mut to).map_err(|error| io("copy", target, error))?;
                return self.setter.set(Place::Open(to.as_fd()), &path, &attributes, false);
            }
            EntryType::Symlink => {
                let link = self.below.read_link(layer, target)?;
                made(rustix::fs::symlinkat(OsStr::from_bytes(&link), parent.as_fd(), name))?;
            }
            EntryType::CharDevice => made(node(FileType::CharacterDevice))?,
            EntryType::BlockDevice => made(node(FileType::BlockDevice))?,
            EntryType::Fifo => made(node(FileType::Fifo))?,
            EntryType::Socket => made(node(FileType::Socket))?,
            EntryType::Directory => return Err(failed("copy", target, Errno::ISDIR)),
        }
        let is_link = metadata.entry_type == EntryType::Symlink;
        self.setter.set(Place::Named(parent.as_fd(), name), &path, &attributes, is_link)
    }
}

/// The layers below, looked at without mounting them.
struct Below {
    /// Uppermost first.
    layers: Vec<RootDir>,
    flavour: Flavour,
}

impl Below {
    /// What stands at a path whose directories are no links, and in which layer; a link at the end is not followed.
    fn lookup(&self, path: &[u8]) -> Result<Option<(usize, Metadata)>, TarError> {
        for (at, layer) in self.layers.iter().enumerate() {
            match self.lookup_in(layer, path).map_err(|error| io("examine", path, error))? {
                InLayer::Found(metadata) => return Ok(Some((at, metadata))),
                InLayer::Hidden => return Ok(None),
                InLayer::Absent => {}
            }
        }
        Ok(None)
    }

    fn lookup_in(&self, layer: &RootDir, path: &[u8]) -> std::io::Result<InLayer> {
        match open_plain(layer.as_fd(), path, OFlags::PATH | OFlags::NOFOLLOW) {
            Ok(descriptor) => {
                let metadata = Metadata::from_stat(&rustix::fs::fstat(&descriptor)?)?;
                return Ok(if metadata.is_whiteout() { InLayer::Hidden } else { InLayer::Found(metadata) });
            }
            // A file, link or whiteout stands where the path goes through.
            Err(Errno::NOTDIR | Errno::LOOP) => return Ok(InLayer::Hidden),
            Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let mut above = split(path).0;
        loop {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
            if let Ok(directory) = open_plain(layer.as_fd(), above, flags) {
                let opaque = Mark::Opaque.name(self.flavour);
                let attributes = xattr::of_descriptor(directory.as_fd())?;
                if attributes.iter().any(|(name, value)| *name == *opaque && value == b"y") {
                    return Ok(InLayer::Hidden);
                }
            }
            if above.is_empty() {
                return Ok(InLayer::Absent);
            }
            above = split(above).0;
        }
    }

    /// The path without links of the directory (or anything) at `path`. What is missing is taken as it is written.
    fn resolve(&self, path: &[u8]) -> Result<Option<Vec<u8>>, TarError> {
        let mut pending: Vec<Vec<u8>> = reversed(path);
        let mut resolved = Vec::new();
        let mut links = 0;
        while let Some(component) = pending.pop() {
            if component == b".." {
                resolved = split(&resolved).0.to_vec();
                continue;
            }
            let candidate = join(&resolved, &component);
            match self.lookup(&candidate)? {
                Some((layer, metadata)) if metadata.entry_type == EntryType::Symlink => {
                    links += 1;
                    if links > LINKS_MAX {
                        return Err(failed("follow", path, Errno::LOOP));
                    }
                    let target = self.read_link(layer, &candidate)?;
                    if target.starts_with(b"/") {
                        resolved.clear();
                    }
                    pending.extend(reversed(&target));
                }
                Some((_, metadata)) if !metadata.is_dir() && !pending.is_empty() => return Ok(None),
                _ => resolved = candidate,
            }
        }
        Ok(Some(resolved))
    }

    fn read_link(&self, layer: usize, path: &[u8]) -> Result<Vec<u8>, TarError> {
        let link = open_plain(self.layers[layer].as_fd(), path, OFlags::PATH | OFlags::NOFOLLOW)
            .map_err(|error| failed("open", path, error))?;
        let target = rustix::fs::readlinkat(&link, c"", Vec::new());
        Ok(target.map_err(|error| failed("read link", path, error))?.into_bytes())
    }

    fn attributes(&self, layer: usize, path: &[u8], metadata: &Metadata) -> Result<Attributes, TarError> {
        let file = open_plain(self.layers[layer].as_fd(), path, OFlags::PATH | OFlags::NOFOLLOW)
            .map_err(|error| failed("open", path, error))?;
        let xattrs =
            xattr::of_descriptor(file.as_fd()).map_err(|error| io("read attributes of", path, error))?;
        Ok(Attributes::of(metadata, xattrs))
    }
}

/// What one layer says of a path.
enum InLayer {
    Found(Metadata),
    /// The layer has or deletes something that hides what is below.
    Hidden,
    /// The layer says nothing.
    Absent,
}

fn reversed(path: &[u8]) -> Vec<Vec<u8>> {
    let parts = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".");
    let mut parts: Vec<_> = parts.map(<[u8]>::to_vec).collect();
    parts.reverse();
    parts
}

/// Opens a path that must have no links in it.
fn open_plain(root: std::os::fd::BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let name = if path.is_empty() { OsStr::new(".") } else { OsStr::from_bytes(path) };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    // NO_SYMLINKS would refuse a link at the end even where it is not to be followed.
    let (parent, last) = split(path);
    if parent.is_empty() {
        return rustix::fs::openat2(
            root,
            name,
            flags | OFlags::CLOEXEC | OFlags::NOFOLLOW,
            Mode::empty(),
            resolve,
        );
    }
    let strict = resolve | ResolveFlags::NO_SYMLINKS;
    let above = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = rustix::fs::openat2(root, OsStr::from_bytes(parent), above, Mode::empty(), strict)?;
    let last = OsStr::from_bytes(last);
    rustix::fs::openat2(parent, last, flags | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty(), resolve)
}
