//! Trees: what they hold, and what lies at a path.

use std::rc::Rc;

use gix_hash::ObjectId;
use gix_object::tree::EntryKind;

use crate::error::{GitError, quoted};
use crate::id::{BlobId, CommitId};
use crate::objects::corrupt;
use crate::path::{RepositoryPath, joined, wrong_name};
use crate::repository::Repository;
use crate::submodule::Module;

/// What a file is, as git records it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileMode {
    /// A file.
    Regular,
    /// A file that may be executed.
    Executable,
    /// A symbolic link; its blob holds the target.
    Symlink,
}

impl FileMode {
    /// git's mode in octal: `100644`, `100755` or `120000`.
    #[must_use]
    pub fn octal(self) -> &'static str {
        match self {
            Self::Regular => "100644",
            Self::Executable => "100755",
            Self::Symlink => "120000",
        }
    }
}

/// A file in a commit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileEntry {
    /// Relative to `add`; for a mapping of one file its base name. Need not be UTF-8.
    pub path: Vec<u8>,
    /// What it is and what it contains.
    pub version: FileVersion,
}

/// What a file is and what it contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileVersion {
    /// What it is.
    pub mode: FileMode,
    /// Its content.
    pub blob: BlobId,
}

/// What a mapping's `add` is in a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nothing.
    Absent,
    /// A file or a symbolic link.
    File,
    /// A directory or a submodule.
    Directory,
}

/// What an entry of a tree is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NodeKind {
    Directory,
    File(FileMode),
    Gitlink,
}

/// Something at a path: its kind, its id, and the repository (outer, or a submodule) whose tree names it.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) kind: NodeKind,
    pub(crate) id: ObjectId,
    pub(crate) module: Rc<Module>,
}

impl Node {
    pub(crate) fn equals(&self, other: &Self) -> bool {
        (self.kind, self.id) == (other.kind, other.id)
    }

    pub(crate) fn file(&self) -> Option<FileVersion> {
        match self.kind {
            NodeKind::File(mode) => Some(FileVersion { mode, blob: BlobId(self.id) }),
            NodeKind::Directory | NodeKind::Gitlink => None,
        }
    }
}

/// A directory that can be read.
#[derive(Debug, Clone)]
pub(crate) struct Directory {
    pub(crate) tree: ObjectId,
    pub(crate) module: Rc<Module>,
}

impl Repository {
    /// What `add` is in a commit.
    ///
    /// # Errors
    ///
    /// [`GitError::Missing`], [`GitError::Corrupt`], [`GitError::Path`], [`GitError::Submodule`].
    pub fn state(&self, commit: CommitId, add: &RepositoryPath) -> Result<State, GitError> {
        Ok(match self.locate(commit, add)?.map(|node| node.kind) {
            None => State::Absent,
            Some(NodeKind::File(_)) => State::File,
            Some(NodeKind::Directory | NodeKind::Gitlink) => State::Directory,
        })
    }

    /// What lies at a path, through submodules but never through symbolic links.
    pub(crate) fn locate(&self, commit: CommitId, path: &RepositoryPath) -> Result<Option<Node>, GitError> {
        let root = self.commit(&commit.0)?.tree;
        let module = Rc::new(Module::outermost(root));
        let mut node = Node { kind: NodeKind::Directory, id: root, module };
        let mut walked = Vec::new();
        for name in path.names() {
            let Some(directory) = self.directory(&node, &walked)? else { return Ok(None) };
            let entries = self.entries(&directory)?;
            let Ok(index) = entries.binary_search_by(|(known, _)| known.as_slice().cmp(name)) else {
                return Ok(None);
            };
            node = entries[index].1.clone();
            walked = joined(&walked, name);
        }
        Ok(Some(node))
    }

    /// A node as a directory, entering a submodule; `None` for files. `path` counts from the outermost root.
    pub(crate) fn directory(&self, node: &Node, path: &[u8]) -> Result<Option<Directory>, GitError> {
        match node.kind {
            NodeKind::File(_) => Ok(None),
            NodeKind::Directory => Ok(Some(Directory { tree: node.id, module: Rc::clone(&node.module) })),
            NodeKind::Gitlink => self.enter_submodule(&node.module, path, node.id).map(Some),
        }
    }

    /// The entries of a directory, sorted by name, each name once.
    pub(crate) fn entries(&self, directory: &Directory) -> Result<Vec<(Vec<u8>, Node)>, GitError> {
        let tree = &directory.tree;
        let bytes = self.objects.structure(tree, gix_object::Kind::Tree)?;
        let mut entries = Vec::new();
        for entry in gix_object::TreeRefIter::from_bytes(&bytes, self.objects.hash()) {
            let entry = entry.map_err(|error| corrupt("tree", tree, &error))?;
            if let Some(reason) = wrong_name(entry.filename) {
                return Err(GitError::Path { path: quoted(entry.filename), reason });
            }
            let kind = match entry.mode.kind() {
                EntryKind::Tree => NodeKind::Directory,
                EntryKind::Blob => NodeKind::File(FileMode::Regular),
                EntryKind::BlobExecutable => NodeKind::File(FileMode::Executable),
                EntryKind::Link => NodeKind::File(FileMode::Symlink),
                EntryKind::Commit => NodeKind::Gitlink,
            };
            let node = Node { kind, id: entry.oid.to_owned(), module: Rc::clone(&directory.module) };
            entries.push((entry.filename.to_vec(), node));
        }
        entries.sort_by(|one, other| one.0.cmp(&other.0));
        if let Some(twice) = entries.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(corrupt("tree", tree, &format!("the name {} occurs twice", quoted(&twice[0].0))));
        }
        Ok(entries)
    }
}
