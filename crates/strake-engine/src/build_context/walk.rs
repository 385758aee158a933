//! The walk over a tree: directories in parallel, each opened once, everything in it looked at once.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, FileType, OFlags, RawDir};
use strake_graph::pattern::Glob;
use strake_store::root_dir::{EntryType, Metadata};

use super::{AtPath, Entry, EntryKind, Origin, SourceError, SourceTree, open_beneath};

/// Room for the names of one `getdents` call; a few hundred names.
const NAMES_BYTES: usize = 32 * 1024;

/// A directory to look into.
struct Folder {
    path: Vec<u8>,
    /// Whether a pattern matched it or something above: then all of it is wanted.
    selected: bool,
}

/// An entry, and whether it is only here because something below it may be.
struct Candidate {
    entry: Entry,
    provisional: bool,
}

struct Walk<'a> {
    tree: &'a SourceTree,
    wanted: &'a [Glob],
    listings: Mutex<HashMap<Vec<u8>, Vec<Candidate>>>,
    error: Mutex<Option<SourceError>>,
    failed: AtomicBool,
}

/// All entries that the patterns can reach, in order.
pub(super) fn walk(tree: &SourceTree, wanted: &[Glob]) -> Result<Vec<Entry>, SourceError> {
    let walk = Walk {
        tree,
        wanted,
        listings: Mutex::default(),
        error: Mutex::default(),
        failed: AtomicBool::new(false),
    };
    let selected = wanted.iter().any(|glob| glob.as_literal() == Some(b""));
    if !wanted.is_empty() {
        rayon::scope(|scope| walk.enter(scope, Folder { path: Vec::new(), selected }));
    }
    if let Some(error) = walk.error.into_inner().expect(NO_PANIC) {
        return Err(error);
    }
    Ok(in_order(walk.listings.into_inner().expect(NO_PANIC)))
}

const NO_PANIC: &str = "a panic of a scoped thread has been passed on before";

impl<'a> Walk<'a> {
    fn enter<'scope>(&'scope self, scope: &rayon::Scope<'scope>, folder: Folder) {
        if self.failed.load(Ordering::Relaxed) {
            return;
        }
        match self.list(&folder) {
            Ok((candidates, folders)) => {
                for folder in folders {
                    scope.spawn(move |scope| self.enter(scope, folder));
                }
                self.listings.lock().expect(NO_PANIC).insert(folder.path, candidates);
            }
            Err(error) => {
                self.failed.store(true, Ordering::Relaxed);
                self.error.lock().expect(NO_PANIC).get_or_insert(error);
            }
        }
    }

    fn list(&self, folder: &Folder) -> Result<(Vec<Candidate>, Vec<Folder>), SourceError> {
        self.tree.check()?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let directory = open_beneath(self.tree.root.as_fd(), &folder.path, flags)
            .map_err(SourceError::sys("open directory", &folder.path))?;
        let mut candidates = Vec::new();
        let mut folders = Vec::new();
        let mut names = Vec::with_capacity(NAMES_BYTES);
        let mut names = RawDir::new(&directory, names.spare_capacity_mut());
        while let Some(name) = names.next() {
            let name = name.map_err(SourceError::sys("read directory", &folder.path))?;
            let bytes = name.file_name().to_bytes();
            if bytes == b"." || bytes == b".." || name.file_type() == FileType::Socket {
                continue;
            }
            let path = join(&folder.path, bytes);
            let Some(interest) = self.interest(folder, &path, name.file_type()) else { continue };
            let Some(entry) = self.entry(&directory, OsStr::from_bytes(bytes), path)? else { continue };
            let is_dir = entry.kind == EntryKind::Directory;
            if interest.only_below && !is_dir {
                continue;
            }
            if is_dir && interest.descend {
                folders.push(Folder { path: entry.path.clone(), selected: interest.selected });
            }
            candidates.push(Candidate { entry, provisional: interest.only_below });
        }
        candidates.sort_unstable_by(|one, other| one.entry.path.cmp(&other.entry.path));
        Ok((candidates, folders))
    }

    /// Whether and why anybody wants to know of a path.
    fn interest(&self, folder: &Folder, path: &[u8], file_type: FileType) -> Option<Interest> {
        let selected = folder.selected || self.wanted.iter().any(|glob| glob.matches_or_parent(path));
        let reachable = selected || self.wanted.iter().any(|glob| glob.may_match_below(path));
        // What only leads to something wanted is a directory, or a link that stands for one.
        if !reachable
            || (!selected
                && !matches!(file_type, FileType::Directory | FileType::Symlink | FileType::Unknown))
        {
            return None;
        }
        let ignore = &self.tree.ignore;
        if ignore.is_empty() || !ignore.ignores(path) {
            return Some(Interest { selected, descend: true, only_below: false });
        }
        let descend = ignore.may_descend(path);
        descend.then_some(Interest { selected, descend, only_below: true })
    }

    fn entry(&self, directory: &OwnedFd, name: &OsStr, path: Vec<u8>) -> Result<Option<Entry>, SourceError> {
        let stat = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(SourceError::sys("stat", &path))?;
        let metadata = Metadata::from_stat(&stat).map_err(SourceError::io("stat", &path))?;
        let Some(kind) = kind(directory.as_fd(), name, &path, &metadata)? else { return Ok(None) };
        let mut entry = Entry {
            path,
            kind,
            mode: metadata.mode,
            uid: 0,
            gid: 0,
            size: metadata.size,
            mtime_ns: metadata.mtime_ns,
            ctime_ns: metadata.ctime_ns,
            dev: metadata.dev,
            ino: metadata.ino,
            nlink: metadata.nlink,
            xattrs: Vec::new(),
        };
        if self.tree.origin == Origin::Stage {
            (entry.uid, entry.gid) = (metadata.uid, metadata.gid);
            entry.xattrs = self.xattrs(&entry.path)?;
        }
        Ok(Some(entry))
    }

    /// The attributes that belong to the file, not to the overlay it is seen through.
    fn xattrs(&self, path: &[u8]) -> Result<Vec<(std::ffi::OsString, Vec<u8>)>, SourceError> {
        let mut xattrs = self
            .tree
            .root
            .xattrs(Path::new(OsStr::from_bytes(path)))
            .map_err(SourceError::io("read the attributes of", path))?;
        xattrs.retain(|(name, _)| {
            let name = name.as_bytes();
            !name.starts_with(b"trusted.overlay.") && !name.starts_with(b"user.overlay.")
        });
        Ok(xattrs)
    }
}

struct Interest {
    selected: bool,
    descend: bool,
    /// The entry is ignored itself; only what an exception brings back below it counts.
    only_below: bool,
}

fn kind(
    directory: BorrowedFd<'_>,
    name: &OsStr,
    path: &[u8],
    metadata: &Metadata,
) -> Result<Option<EntryKind>, SourceError> {
    Ok(Some(match metadata.entry_type {
        EntryType::File => EntryKind::File,
        EntryType::Directory => EntryKind::Directory,
        EntryType::Symlink => {
            let target = rustix::fs::readlinkat(directory, name, Vec::new())
                .map_err(SourceError::sys("read the link", path))?;
            EntryKind::Symlink { target: target.into_bytes() }
        }
        EntryType::CharDevice => EntryKind::CharDevice { rdev: metadata.rdev },
        EntryType::BlockDevice => EntryKind::BlockDevice { rdev: metadata.rdev },
        EntryType::Fifo => EntryKind::Fifo,
        EntryType::Socket => return Ok(None),
    }))
}

fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(folder.len() + 1 + name.len());
    path.extend_from_slice(folder);
    if !folder.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

/// Puts the listings together, each behind its directory, and drops ignored directories without content.
fn in_order(mut listings: HashMap<Vec<u8>, Vec<Candidate>>) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::with_capacity(listings.values().map(Vec::len).sum());
    let root = listings.remove(&[][..]).unwrap_or_default();
    let mut pending = vec![(root.into_iter(), None)];
    while let Some((candidates, provisional)) = pending.last_mut() {
        if let Some(candidate) = candidates.next() {
            let below = listings.remove(&candidate.entry.path);
            let at = candidate.provisional.then_some(entries.len());
            entries.push(candidate.entry);
            match below {
                Some(below) => pending.push((below.into_iter(), at)),
                None => entries.truncate(at.unwrap_or(entries.len())),
            }
        } else {
            if *provisional == entries.len().checked_sub(1) && provisional.is_some() {
                entries.pop();
            }
            pending.pop();
        }
    }
    entries
}
