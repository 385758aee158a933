//! Snapshots as plain copies, for places where an overlay cannot be: inside most containers, on file systems that
//! overlayfs does not take as upper.
//!
//! Layers have the same form as ever. To run a step they are merged into one directory by copying (cloning where the
//! file system can). Afterwards that directory is compared with what is remembered of it from before the step:
//! inode and change time tell what was touched, and what was is moved into the layer.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode};

use super::{
    ActiveSnapshot, Prepared, SnapshotMount, Snapshotter, SnapshotterKind, layer_dirs, place, remove,
};
use crate::layout::{Shared, TempDir, make_private_dir};
use crate::root_dir::{EntryType, Metadata};
use crate::xattr::{self, Mark};
use crate::{Flavour, LayerId, StoreError, View};

/// A change within one tick of the clock after the copy could carry the copy's own time, so the step waits it out.
const CLOCK_TICK: Duration = Duration::from_millis(12);

#[derive(Debug)]
pub(super) struct Copy {
    shared: Arc<Shared>,
}

impl Copy {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

/// A merged directory and what it was like before the step.
#[derive(Debug)]
pub(super) struct Merged {
    directory: PathBuf,
    before: BTreeMap<PathBuf, Before>,
}

/// What is remembered of one path.
#[derive(Debug, PartialEq, Eq)]
struct Before {
    metadata: Metadata,
    /// Of directories only, whose change time says nothing of their own attributes.
    attributes: Vec<xattr::Attribute>,
}

impl Snapshotter for Copy {
    fn kind(&self) -> SnapshotterKind {
        SnapshotterKind::Copy
    }

    fn prepare(&self, parents: &[LayerId]) -> Result<ActiveSnapshot, StoreError> {
        let lowers = layer_dirs(&self.shared, parents)?;
        let mut active = Prepared::directory(&self.shared, parents)?;
        let directory = active.home.join("merged");
        merge(&lowers, &directory, self.shared.flavour)?;
        if lowers.is_empty() {
            xattr::copy_all(&active.upper, &directory).map_err(StoreError::io("prepare", &directory))?;
        }
        let mut before = BTreeMap::new();
        remember(&directory, Path::new(""), &mut before).map_err(StoreError::io("examine", &directory))?;
        std::thread::sleep(CLOCK_TICK);
        active.mount = SnapshotMount::Directory(directory.clone());
        active.merged = Some(Merged { directory, before });
        Ok(active)
    }

    fn commit(&self, mut active: ActiveSnapshot) -> Result<LayerId, StoreError> {
        if let Some(merged) = active.merged.take() {
            let differ = Differ { merged: &merged, upper: &active.upper, flavour: self.shared.flavour };
            differ.directory(Path::new("")).map_err(StoreError::io("compare", &merged.directory))?;
            self.shared.discard(&merged.directory);
        }
        place(&active)
    }

    fn view(&self, layers: &[LayerId]) -> Result<View, StoreError> {
        let lowers = layer_dirs(&self.shared, layers)?;
        let temp = TempDir::new(&self.shared)?;
        let tree = temp.path().join("tree");
        merge(&lowers, &tree, self.shared.flavour)?;
        View::of_copy(temp, &tree)
    }

    fn remove(&self, layer: &LayerId) -> Result<(), StoreError> {
        remove(&self.shared, layer)
    }
}

/// Copies layers, bottom first, over each other into the new directory `to`.
fn merge(lowers: &[PathBuf], to: &Path, flavour: Flavour) -> Result<(), StoreError> {
    make_private_dir(to)?;
    for lower in lowers {
        let mut links = HashMap::new();
        merge_directory(lower, to, flavour, &mut links).map_err(StoreError::io("copy", lower))?;
    }
    Ok(())
}

/// Copies one directory of a layer over `to`. Every directory on the way down was made or found to be one by this
/// function, so no link is ever followed.
fn merge_directory(
    from: &Path,
    to: &Path,
    flavour: Flavour,
    links: &mut HashMap<u64, PathBuf>,
) -> io::Result<()> {
    for entry in std::fs::read_dir(from)? {
        let name = entry?.file_name();
        let (source, target) = (from.join(&name), to.join(&name));
        let metadata = metadata_of(&source)?;
        let existing = metadata_of(&target).ok();
        let hides = !metadata.is_dir() || xattr::overlay_mark(&source, flavour, Mark::Opaque)?;
        if let Some(existing) = existing
            && (hides || !existing.is_dir())
        {
            remove_tree(&target, existing)?;
        }
        if metadata.is_whiteout() {
            continue;
        }
        if metadata.is_dir() {
            match std::fs::create_dir(&target) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => merge_directory(&source, &target, flavour, links)?,
            }
        } else if let Some(first) = links.get(&metadata.ino) {
            std::fs::hard_link(first, &target)?;
        } else {
            copy_entry(&source, &target, &metadata)?;
            if metadata.nlink > 1 {
                links.insert(metadata.ino, target);
            }
        }
    }
    // Last, since all that was written into the directory changed its times.
    xattr::copy_all(from, to)
}

/// Copies anything but a directory, with all attributes.
pub(crate) fn copy_entry(source: &Path, target: &Path, metadata: &Metadata) -> io::Result<()> {
    match metadata.entry_type {
        EntryType::File => copy_content(source, target)?,
        EntryType::Symlink => std::os::unix::fs::symlink(std::fs::read_link(source)?, target)?,
        EntryType::Directory => return Err(io::ErrorKind::IsADirectory.into()),
        other => {
            let file_type = match other {
                EntryType::CharDevice => FileType::CharacterDevice,
                EntryType::BlockDevice => FileType::BlockDevice,
                EntryType::Socket => FileType::Socket,
                _ => FileType::Fifo,
            };
            rustix::fs::mknodat(CWD, target, file_type, Mode::from_raw_mode(0o600), metadata.rdev)?;
        }
    }
    xattr::copy_all(source, target)
}

/// Shares the blocks where the file system can; otherwise the kernel copies (`copy_file_range`), or we do.
fn copy_content(source: &Path, target: &Path) -> io::Result<()> {
    let mut from = std::fs::File::open(source)?;
    let mut to = std::fs::File::create_new(target)?;
    if rustix::fs::ioctl_ficlone(&to, &from).is_err() {
        io::copy(&mut from, &mut to)?;
    }
    Ok(())
}

fn metadata_of(path: &Path) -> io::Result<Metadata> {
    Metadata::from_stat(&rustix::fs::lstat(path)?)
}

fn remove_tree(path: &Path, metadata: Metadata) -> io::Result<()> {
    if metadata.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }
}

fn remember(root: &Path, path: &Path, into: &mut BTreeMap<PathBuf, Before>) -> io::Result<()> {
    let place = root.join(path);
    let metadata = metadata_of(&place)?;
    let attributes = if metadata.is_dir() { xattr::of_path(&place)? } else { Vec::new() };
    if metadata.is_dir() {
        for entry in std::fs::read_dir(&place)? {
            remember(root, &path.join(entry?.file_name()), into)?;
        }
    }
    into.insert(path.to_owned(), Before { metadata, attributes });
    Ok(())
}

/// Moves what a step changed into the layer.
struct Differ<'a> {
    merged: &'a Merged,
    upper: &'a Path,
    flavour: Flavour,
}

impl Differ<'_> {
    /// Compares a directory that was there before and still is.
    fn directory(&self, path: &Path) -> io::Result<()> {
        let place = self.merged.directory.join(path);
        let before = &self.merged.before[path];
        let now = metadata_of(&place)?;
        let attributes = xattr::of_path(&place)?;
        let same = |a: &Metadata, b: &Metadata| (a.mode, a.uid, a.gid) == (b.mode, b.uid, b.gid);
        let touched = !same(&before.metadata, &now)
            || before.metadata.mtime_ns != now.mtime_ns
            || before.attributes != attributes;
        if touched {
            self.make_directory(path)?;
        }
        let names: BTreeSet<OsString> =
            std::fs::read_dir(&place)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>()?;
        for name in &names {
            self.entry(&path.join(name))?;
        }
        for name in self.names_before(path).filter(|name| !names.contains(*name)) {
            self.make_directory(path)?;
            let whiteout = self.upper.join(path).join(name);
            rustix::fs::mknodat(CWD, &whiteout, FileType::CharacterDevice, Mode::empty(), 0)?;
        }
        if let Ok(kept) = metadata_of(&self.upper.join(path))
            && kept.is_dir()
        {
            // Moving things out changed the times, which were noted before.
            set_times(&place, &now)?;
            xattr::copy_all(&place, &self.upper.join(path))?;
        }
        Ok(())
    }

    fn entry(&self, path: &Path) -> io::Result<()> {
        let place = self.merged.directory.join(path);
        let now = metadata_of(&place)?;
        let before = self.merged.before.get(path).map(|before| before.metadata);
        match before {
            Some(before) if before.is_dir() && now.is_dir() && before.ino == now.ino => {
                return self.directory(path);
            }
            Some(before) if !now.is_dir() && before.ino == now.ino && before.ctime_ns == now.ctime_ns => {
                return Ok(());
            }
            _ => {}
        }
        let parent = path.parent().unwrap_or(Path::new(""));
        self.make_directory(parent)?;
        std::fs::rename(&place, self.upper.join(path))?;
        if now.is_dir() && before.is_some() {
            xattr::set_overlay_mark(&self.upper.join(path), self.flavour, Mark::Opaque)?;
        }
        Ok(())
    }

    /// Makes a directory and its parents in the layer. Their attributes follow in [`Differ::directory`].
    fn make_directory(&self, path: &Path) -> io::Result<()> {
        let mut place = self.upper.to_owned();
        for name in path {
            place.push(name);
            match std::fs::create_dir(&place) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// The names that were in a directory before the step.
    fn names_before<'a>(&'a self, path: &'a Path) -> impl Iterator<Item = &'a OsStr> {
        // In the order of paths, everything below a directory follows it without a gap.
        let below = self.merged.before.range(path.to_owned()..).skip(1);
        below
            .take_while(move |(other, _)| other.starts_with(path))
            .filter(move |(other, _)| other.parent() == Some(path))
            .filter_map(|(other, _)| other.file_name())
            .filter(|name| !name.as_bytes().is_empty())
    }
}

fn set_times(path: &Path, metadata: &Metadata) -> io::Result<()> {
    let time = rustix::fs::Timespec {
        tv_sec: metadata.mtime_ns.div_euclid(1_000_000_000),
        tv_nsec: metadata.mtime_ns.rem_euclid(1_000_000_000),
    };
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    Ok(rustix::fs::utimensat(CWD, path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)?)
}
