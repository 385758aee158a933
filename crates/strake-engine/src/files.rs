//! Files that the caller hands to a build: what a repository has at a commit, or what changed since another one.

use std::fmt;
use std::io::{self, Write};

/// Writes the content of a file that the caller knows by this name.
pub type ReadContent = dyn Fn(&str, &mut dyn Write) -> io::Result<()> + Send + Sync;

/// Files to be put into a tree, and names to be removed from it.
pub struct FileSet {
    /// Sorted by path, each path once.
    pub changes: Vec<FileChange>,
    /// The time that all files and new directories get, in seconds since 1970.
    pub mtime: i64,
    /// Where contents come from.
    pub content: Box<ReadContent>,
}

/// What becomes of one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileChange {
    /// Relative to where the set is placed; bytes, since names need not be text. Empty for a set that is one file.
    pub path: Vec<u8>,
    /// What is there afterwards.
    pub becomes: Becomes,
}

/// What a name of a [`FileSet`] becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Becomes {
    /// A regular file.
    File {
        /// The low twelve bits of its mode.
        mode: u32,
        /// What [`FileSet::content`] knows it by.
        content: String,
    },
    /// A symbolic link.
    Link {
        /// Where it points, as written.
        target: Vec<u8>,
    },
    /// Nothing. Directories that have nothing left go too.
    Nothing,
}

impl fmt::Debug for FileSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileSet").field("changes", &self.changes.len()).finish_non_exhaustive()
    }
}
