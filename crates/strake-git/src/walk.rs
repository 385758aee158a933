//! Walking two trees at once, and only where they differ.
//!
//! Listing the files of a commit is the same walk with nothing on the other side. The walk keeps its own stack, so no
//! depth of directories can exhaust that of the thread, and it spends from a budget, so that a few small trees that
//! name one another thousands of times cannot keep it busy for years.

use std::ops::ControlFlow;

use crate::changes::Change;
use crate::error::{GitError, quoted};
use crate::id::CommitId;
use crate::path::{RepositoryPath, joined};
use crate::repository::Repository;
use crate::selection::Selection;
use crate::tree::{Directory, Node, NodeKind};

/// git's own default for `core.maxTreeDepth`, and as deep as a path of 4,096 bytes can be.
const DEEPEST: usize = 2048;
/// Longer paths cannot be used on Linux.
const LONGEST_PATH: usize = 4095;
/// All entries looked at in one walk: a few times the files of the largest known repositories.
const MOST_ENTRIES: u64 = 10_000_000;
/// The bytes of all paths handed on or gone into.
const MOST_PATH_BYTES: usize = 1 << 30;

/// Hands on what differs below `add`, in no order, until told to stop.
pub(crate) fn walk(
    repository: &Repository,
    sides: (Option<CommitId>, CommitId),
    add: &RepositoryPath,
    selection: Selection<'_>,
    found: &mut dyn FnMut(Change) -> ControlFlow<()>,
) -> Result<(), GitError> {
    let old = match sides.0 {
        Some(commit) => repository.locate(commit, add)?,
        None => None,
    };
    let new = repository.locate(sides.1, add)?;
    let mut walk = Walk { repository, add, selection, found, waiting: Vec::new(), entries: 0, path_bytes: 0 };
    let mut flow = walk.compare(Vec::new(), 0, old.as_ref(), new.as_ref())?;
    while let (ControlFlow::Continue(()), Some(pair)) = (flow, walk.waiting.pop()) {
        flow = walk.descend(&pair)?;
    }
    Ok(())
}

struct Walk<'a> {
    repository: &'a Repository,
    add: &'a RepositoryPath,
    selection: Selection<'a>,
    found: &'a mut dyn FnMut(Change) -> ControlFlow<()>,
    waiting: Vec<Pair>,
    entries: u64,
    path_bytes: usize,
}

/// The directories at one path on both sides.
struct Pair {
    path: Vec<u8>,
    depth: usize,
    old: Option<Directory>,
    new: Option<Directory>,
}

impl Walk<'_> {
    fn descend(&mut self, pair: &Pair) -> Result<ControlFlow<()>, GitError> {
        self.repository.git.check_cancelled()?;
        let old = self.entries(pair.old.as_ref())?;
        let new = self.entries(pair.new.as_ref())?;
        let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
        loop {
            let name = match (old.peek(), new.peek()) {
                (None, None) => return Ok(ControlFlow::Continue(())),
                (Some((name, _)), None) | (None, Some((name, _))) => name,
                (Some((one, _)), Some((other, _))) => one.min(other),
            };
            let one = old.next_if(|(known, _)| known == name).map(|(_, node)| node);
            let other = new.next_if(|(known, _)| known == name).map(|(_, node)| node);
            let path = joined(&pair.path, name);
            if self.compare(path, pair.depth + 1, one, other)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
    }

    /// Hands on the files of a path and remembers its directories, unless both sides are equal.
    fn compare(
        &mut self,
        path: Vec<u8>,
        depth: usize,
        old: Option<&Node>,
        new: Option<&Node>,
    ) -> Result<ControlFlow<()>, GitError> {
        if old.zip(new).is_some_and(|(old, new)| old.equals(new)) {
            return Ok(ControlFlow::Continue(()));
        }
        self.remember_directories(&path, depth, old, new)?;
        let (old, new) = (old.and_then(Node::file), new.and_then(Node::file));
        // A mapping of one file tests and reports its base name.
        let path = if depth == 0 { self.add.base_name().to_vec() } else { path };
        if (old.is_none() && new.is_none()) || !(self.selection.selects)(&path) {
            return Ok(ControlFlow::Continue(()));
        }
        self.spend(&path)?;
        Ok((self.found)(Change { path, old, new }))
    }

    fn remember_directories(
        &mut self,
        path: &[u8],
        depth: usize,
        old: Option<&Node>,
        new: Option<&Node>,
    ) -> Result<(), GitError> {
        let is_directory = |node: &&Node| matches!(node.kind, NodeKind::Directory | NodeKind::Gitlink);
        let (old, new) = (old.filter(is_directory), new.filter(is_directory));
        if (old.is_none() && new.is_none()) || (depth > 0 && !(self.selection.may_descend)(path)) {
            return Ok(());
        }
        if depth > DEEPEST || path.len() > LONGEST_PATH {
            let what = format!("the directory {}", quoted(path));
            let limit = format!("{DEEPEST} directories or {LONGEST_PATH} bytes");
            return Err(GitError::TooLarge { what, limit });
        }
        self.spend(path)?;
        let full = joined_paths(self.add.as_bytes(), path);
        let open = |node: Option<&Node>| match node {
            Some(node) => self.repository.directory(node, &full),
            None => Ok(None),
        };
        let (old, new) = (open(old)?, open(new)?);
        self.waiting.push(Pair { path: path.to_vec(), depth, old, new });
        Ok(())
    }

    fn spend(&mut self, path: &[u8]) -> Result<(), GitError> {
        self.path_bytes += path.len();
        if self.path_bytes > MOST_PATH_BYTES {
            return Err(too_many(format!("{MOST_PATH_BYTES} bytes of paths")));
        }
        Ok(())
    }

    fn entries(&mut self, directory: Option<&Directory>) -> Result<Vec<(Vec<u8>, Node)>, GitError> {
        let Some(directory) = directory else { return Ok(Vec::new()) };
        let entries = self.repository.entries(directory)?;
        self.entries += 1 + entries.len() as u64;
        if self.entries > MOST_ENTRIES {
            return Err(too_many(format!("{MOST_ENTRIES} entries")));
        }
        Ok(entries)
    }
}

fn too_many(limit: String) -> GitError {
    GitError::TooLarge { what: "the trees of a commit".to_owned(), limit }
}

fn joined_paths(base: &[u8], below: &[u8]) -> Vec<u8> {
    if below.is_empty() { base.to_vec() } else { joined(base, below) }
}
