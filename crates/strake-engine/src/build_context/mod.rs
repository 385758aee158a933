//! What files a source of a copy has: a build context on the host, or the tree of another stage or image.
//!
//! A [`SourceTree`] is scanned only where the patterns of the graph can reach, in parallel, without following
//! links and without opening anything but directories. Regular files are read when somebody asks for their digests
//! ([`SourceTree::digest_files`]), on all cores, and not at all when the store remembers the very same file.
//!
//! A context gives paths, types, permissions, content and times. Owners are dropped (everything belongs to root, as
//! docker does it) and so are extended attributes: neither the classic builder nor BuildKit takes them from
//! a context, and keeping them would make the result depend on the machine. Another stage gives all of them.
//! Sockets never take part, since a layer cannot hold them. Hard links are known within one tree.

mod digest;
mod open;
mod resolve;
#[cfg(test)]
mod tests;
mod walk;

use std::ffi::{OsStr, OsString};
use std::io;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::OnceLock;

use rustix::io::Errno;
use strake_graph::pattern::{Glob, GlobError, IgnoreRules};
use strake_store::{RootDir, View};

use crate::request::Cancellation;
pub use digest::FileDigest;
pub(crate) use digest::read_hashed;
pub(crate) use open::{open_beneath, open_file_beneath, sys_stat};
pub use resolve::{Found, Lookup};

/// The files of a build context or of another stage, as far as somebody may copy them.
#[derive(Debug)]
pub struct SourceTree {
    origin: Origin,
    root: RootDir,
    ignore: IgnoreRules,
    /// Sorted by components: whatever is below a directory comes right after it.
    entries: Vec<Entry>,
    digests: Vec<OnceLock<FileDigest>>,
    /// Asked for each directory, each file, and each piece of a large one.
    cancellation: Cancellation,
}

/// Where the files of a tree come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A directory of the host.
    Context,
    /// The result of another stage, or an image.
    Stage,
}

/// One file, directory or link of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The path below the root; bytes, since names need not be text.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// The low twelve bits of its mode.
    pub mode: u32,
    /// Owner; 0 in a context.
    pub uid: u32,
    /// Group; 0 in a context.
    pub gid: u32,
    /// Size in bytes.
    pub size: u64,
    /// Time of last modification, in nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Time of last change of content or attributes, in nanoseconds since 1970.
    pub ctime_ns: i64,
    /// The device it lies on.
    pub dev: u64,
    /// Its inode.
    pub ino: u64,
    /// How many names the file has; more than one makes it a candidate for a hard link.
    pub nlink: u64,
    /// Extended attributes, sorted by name; none in a context.
    pub xattrs: Vec<(OsString, Vec<u8>)>,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink {
        /// Where it points, as written.
        target: Vec<u8>,
    },
    /// A character device.
    CharDevice {
        /// The device number.
        rdev: u64,
    },
    /// A block device.
    BlockDevice {
        /// The device number.
        rdev: u64,
    },
    /// A named pipe.
    Fifo,
}

/// Why the files of a source cannot be known.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A file or directory cannot be read.
    #[error("{action} {}: {source}{}", shown(path), hint(source))]
    Io {
        /// What was being done.
        action: &'static str,
        /// The path below the root of the tree.
        path: Vec<u8>,
        /// What the system said.
        source: io::Error,
    },
    /// A file was not the same before and after it was read.
    #[error(
        "read {}: the file changed while it was being read; let the writer finish and build again",
        shown(path)
    )]
    Changed {
        /// The path below the root of the tree.
        path: Vec<u8>,
    },
    /// Somebody stopped the build.
    #[error("stopped")]
    Stopped,
    /// A pattern is not one.
    #[error(transparent)]
    Pattern(#[from] GlobError),
}

/// A path for people: text, with what is not text or not printable escaped; the root is `/`.
pub(crate) fn shown(path: &[u8]) -> String {
    if path.is_empty() {
        return "/".to_owned();
    }
    let mut text = String::new();
    for chunk in path.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() {
                text.extend(character.escape_default())
            } else {
                text.push(character)
            }
        }
        chunk.invalid().iter().for_each(|byte| text.push_str(&format!("\\x{byte:02x}")));
    }
    text
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "; make it readable, or name it in .dockerignore when the build does not need it"
        }
        io::ErrorKind::NotFound => "; it vanished while the build was looking at it",
        _ => "",
    }
}

/// An error that says what was being done to the file at a path, here or in a layer.
pub(crate) trait AtPath: Sized {
    /// The error.
    fn at_path(action: &'static str, path: Vec<u8>, source: io::Error) -> Self;

    /// Makes one of an error of the standard library.
    fn io(action: &'static str, path: &[u8]) -> impl FnOnce(io::Error) -> Self + use<Self> {
        let path = path.to_vec();
        move |source| Self::at_path(action, path, source)
    }

    /// Makes one of an error of a system call.
    fn sys(action: &'static str, path: &[u8]) -> impl FnOnce(Errno) -> Self + use<Self> {
        let of_io = Self::io(action, path);
        move |error| of_io(error.into())
    }
}

impl AtPath for SourceError {
    fn at_path(action: &'static str, path: Vec<u8>, source: io::Error) -> Self {
        Self::Io { action, path, source }
    }
}

impl SourceTree {
    /// Scans a build context: what the patterns can select, less what is ignored. With `cancellation` this is stopped,
    /// and so is later reading of the tree's files.
    ///
    /// # Errors
    /// When a directory that is wanted cannot be read, or something vanishes meanwhile.
    pub fn of_context(
        root: &Path,
        ignore: &IgnoreRules,
        wanted: &[Glob],
        cancellation: &Cancellation,
    ) -> Result<Self, SourceError> {
        let root = RootDir::open(root).map_err(SourceError::io("open the build context", b""))?;
        Self::scan(Origin::Context, root, ignore.clone(), wanted, cancellation)
    }

    /// Scans the merged tree of a stage or image: what the patterns can select.
    ///
    /// # Errors
    /// As [`SourceTree::of_context`].
    pub fn of_stage(view: &View, wanted: &[Glob], cancellation: &Cancellation) -> Result<Self, SourceError> {
        let root = view.root().open_dir(Path::new("")).map_err(SourceError::io("open the stage", b""))?;
        Self::of_stage_root(root, wanted, cancellation)
    }

    /// As [`SourceTree::of_stage`], for a tree that is a directory.
    ///
    /// # Errors
    /// As [`SourceTree::of_context`].
    pub fn of_stage_root(
        root: RootDir,
        wanted: &[Glob],
        cancellation: &Cancellation,
    ) -> Result<Self, SourceError> {
        Self::scan(Origin::Stage, root, IgnoreRules::default(), wanted, cancellation)
    }

    fn scan(
        origin: Origin,
        root: RootDir,
        ignore: IgnoreRules,
        wanted: &[Glob],
        cancellation: &Cancellation,
    ) -> Result<Self, SourceError> {
        let cancellation = cancellation.clone();
        let mut tree = Self { origin, root, ignore, entries: Vec::new(), digests: Vec::new(), cancellation };
        let mut reach = wanted.to_vec();
        loop {
            tree.entries = walk::walk(&tree, &reach)?;
            // A link on the way of a pattern may lead to where nobody has looked yet. Each round follows one link
            // more, and a chain of more than forty links leads nowhere.
            let further: Vec<Glob> = wanted
                .iter()
                .flat_map(|pattern| tree.lookup(pattern).detours)
                .filter(|detour| !reach.contains(detour))
                .collect();
            if further.is_empty() {
                break;
            }
            reach.extend(further);
        }
        tree.digests = tree.entries.iter().map(|_| OnceLock::new()).collect();
        Ok(tree)
    }

    /// Whether to go on; asked by whatever takes long.
    pub(crate) fn check(&self) -> Result<(), SourceError> {
        if self.cancellation.is_requested() { Err(SourceError::Stopped) } else { Ok(()) }
    }

    /// What stops work on the tree.
    pub(crate) fn cancellation(&self) -> &Cancellation {
        &self.cancellation
    }

    /// Where the files come from.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// The root, to read files.
    pub fn root(&self) -> &RootDir {
        &self.root
    }

    /// The rules by which files were left out.
    pub fn ignore(&self) -> &IgnoreRules {
        &self.ignore
    }

    /// All entries, sorted by components; the root itself is not among them.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The index of the entry at exactly this path.
    pub fn find(&self, path: &[u8]) -> Option<usize> {
        self.entries.binary_search_by(|entry| by_components(&entry.path, path)).ok()
    }

    /// Whether something is at a path: as it was scanned or, where nobody looked, as it is now.
    pub(crate) fn is_there(&self, path: &[u8]) -> bool {
        let is_gone =
            |error: io::Error| matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
        let found = || self.root.stat(Path::new(OsStr::from_bytes(path)));
        self.find(path).is_some() || !found().is_err_and(is_gone)
    }

    /// The entries below a directory; all for the root.
    pub fn below(&self, directory: &[u8]) -> Range<usize> {
        if directory.is_empty() {
            return 0..self.entries.len();
        }
        let is_before = |entry: &Entry| by_components(&entry.path, directory).is_le();
        let start = self.entries.partition_point(is_before);
        let inside = |entry: &Entry| {
            entry.path.strip_prefix(directory).is_some_and(|rest| rest.first() == Some(&b'/'))
        };
        start..start + self.entries[start..].partition_point(inside)
    }
}

/// The order of paths in which a directory's content follows it directly.
pub(crate) fn by_components(one: &[u8], other: &[u8]) -> std::cmp::Ordering {
    let differing = one.iter().zip(other).position(|(a, b)| a != b);
    let Some(at) = differing else { return one.len().cmp(&other.len()) };
    // Zero is in no name, so a separator sorts before everything.
    let rank = |byte: u8| if byte == b'/' { 0 } else { byte };
    rank(one[at]).cmp(&rank(other[at]))
}
