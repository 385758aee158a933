//! Walking the history: who descends from whom.
//!
//! Both ends are walked at once, youngest commits first, until nothing is left that only the newer end reaches. So the
//! cost is that of the commits made since the two parted: nothing for equal commits, a handful for a commit and its
//! parent. Dates only decide the order. Wrong ones, as clocks produce them, cost time, at worst that of walking the
//! whole history, and never the truth. Where git has written a commit-graph, its generation numbers cut the walk short
//! too, and commits are not unpacked.

use std::collections::{BinaryHeap, HashMap};
use std::fs;
use std::ops::ControlFlow;

use gix_hash::ObjectId;

use crate::error::GitError;
use crate::id::CommitId;
use crate::repository::Repository;

/// Whether one commit descends from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ancestry {
    /// It does, or they are the same.
    Ancestor,
    /// It does not.
    NotAncestor,
    /// Not as far as the history goes back here: the repository is a shallow clone.
    CutOff,
}

impl Ancestry {
    /// Whether it certainly does.
    #[must_use]
    pub fn is_ancestor(self) -> bool {
        self == Self::Ancestor
    }
}

/// A commit as the history sees it.
pub(crate) struct Link {
    pub(crate) parents: Vec<ObjectId>,
    time: i64,
    /// Larger than that of every parent; the largest number when it is not known.
    generation: u32,
}

const UNKNOWN: u32 = u32::MAX;

/// Reached from the newer end, from the older one.
const NEW: u8 = 1;
const OLD: u8 = 2;

impl Repository {
    /// Whether `old` is `new` or an ancestor of it. An `old` that does not exist is no ancestor.
    ///
    /// The cost is that of the commits made since the two parted; at worst, with misleading dates, all of history.
    ///
    /// # Errors
    ///
    /// [`GitError::Missing`] for a `new` or a parent that does not exist, [`GitError::Corrupt`], [`GitError::Canceled`].
    pub fn is_ancestor(&self, old: CommitId, new: CommitId) -> Result<Ancestry, GitError> {
        if old == new {
            return Ok(Ancestry::Ancestor);
        }
        if !self.exists(old) {
            return Ok(Ancestry::NotAncestor);
        }
        let mut walk = HistoryWalk::new(self)?;
        let floor = walk.link(&old.0)?.generation;
        if floor != UNKNOWN && walk.link(&new.0)?.generation <= floor {
            return Ok(Ancestry::NotAncestor);
        }
        let mut is_ancestor = false;
        let _ = walk.new_commits(new, Some(old), &mut |_, link| {
            is_ancestor = link.parents.contains(&old.0);
            // Commits come by generation, and none this far back can reach the old one.
            let is_below = floor != UNKNOWN && link.generation <= floor;
            if is_ancestor || is_below { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        Ok(match (is_ancestor, walk.is_cut) {
            (true, _) => Ancestry::Ancestor,
            (false, true) => Ancestry::CutOff,
            (false, false) => Ancestry::NotAncestor,
        })
    }

    /// Hands on the commits that `head` reaches with the times they were made at, in seconds since 1970, youngest first,
    /// until `visit` breaks. Of those made before `since` some are handed on as well, so that single wrong dates hide
    /// nothing: the walk ends after a thousand of them.
    ///
    /// # Errors
    ///
    /// [`GitError::Missing`] for a commit that does not exist, [`GitError::Corrupt`], [`GitError::Canceled`].
    pub fn walk_back(
        &self,
        head: CommitId,
        since: i64,
        visit: &mut dyn FnMut(CommitId, i64) -> ControlFlow<()>,
    ) -> Result<(), GitError> {
        const OLDER: usize = 1_000;
        let mut older = 0;
        let _ = HistoryWalk::new(self)?.new_commits(head, None, &mut |id, link| {
            older += usize::from(link.time < since);
            if older > OLDER { ControlFlow::Break(()) } else { visit(CommitId(id), link.time) }
        })?;
        Ok(())
    }

    /// Whether the history is cut off somewhere: what cannot be reached here may exist all the same.
    ///
    /// # Errors
    ///
    /// [`GitError::Io`] when the list of the cuts cannot be read.
    pub fn is_shallow(&self) -> Result<bool, GitError> {
        Ok(!read_shallow(self)?.is_empty())
    }

    fn commit_graph(&self) -> Option<&gix_commitgraph::Graph> {
        let open = || {
            let info = self.common_dir.join("objects/info");
            gix_commitgraph::Graph::from_info_dir(&info, self.objects.hash()).ok()
        };
        self.graph.get_or_init(open).as_ref()
    }
}

/// One walk through the history of a repository.
pub(crate) struct HistoryWalk<'a> {
    repository: &'a Repository,
    graph: Option<&'a gix_commitgraph::Graph>,
    /// Commits whose parents a shallow clone does not have, sorted.
    shallow: Vec<ObjectId>,
    /// Whether the walk came to one of them.
    pub(crate) is_cut: bool,
    /// Whether the walk came to the commit that was given as known.
    pub(crate) reached_known: bool,
}

impl<'a> HistoryWalk<'a> {
    pub(crate) fn new(repository: &'a Repository) -> Result<Self, GitError> {
        let shallow = read_shallow(repository)?;
        // git writes no commit-graph in a shallow clone, and does not believe one that is there.
        let graph = if shallow.is_empty() { repository.commit_graph() } else { None };
        Ok(Self { repository, graph, shallow, is_cut: false, reached_known: false })
    }

    /// Hands on commits that `new` reaches, `new` first, and none twice. Commits that `known` reaches are left out, but for
    /// some when dates mislead.
    pub(crate) fn new_commits(
        &mut self,
        new: CommitId,
        known: Option<CommitId>,
        visit: &mut dyn FnMut(ObjectId, &Link) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, GitError> {
        let mut frontier = Frontier::default();
        frontier.reach(new.0, NEW, || self.link(&new.0))?;
        if let Some(known) = known {
            frontier.reach(known.0, OLD, || self.link(&known.0))?;
        }
        while frontier.has_new() {
            self.repository.git.check_cancelled()?;
            let Some((id, flags, link)) = frontier.take() else { break };
            if flags == NEW && visit(id, &link).is_break() {
                return Ok(ControlFlow::Break(()));
            }
            if flags == NEW && self.shallow.binary_search(&id).is_ok() {
                self.is_cut = true;
            }
            self.reached_known |= flags == NEW && known.is_some_and(|known| link.parents.contains(&known.0));
            for parent in link.parents {
                frontier.reach(parent, flags, || self.link(&parent))?;
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    pub(crate) fn link(&self, id: &ObjectId) -> Result<Link, GitError> {
        if let Some(link) = self.graph.and_then(|graph| from_graph(graph, id)) {
            return Ok(link);
        }
        let commit = self.repository.commit(id)?;
        let is_cut = self.shallow.binary_search(id).is_ok();
        let parents = if is_cut { Vec::new() } else { commit.parents };
        Ok(Link { parents, time: commit.time, generation: UNKNOWN })
    }
}

/// Anything odd about the graph, and the commit itself is asked.
fn from_graph(graph: &gix_commitgraph::Graph, id: &ObjectId) -> Option<Link> {
    let commit = graph.commit_by_id(id)?;
    let positions: Result<Vec<_>, _> = commit.iter_parents().collect();
    let parents = positions.ok()?.into_iter().map(|position| graph.id_at(position).to_owned()).collect();
    let time = i64::try_from(commit.committer_timestamp()).ok()?;
    let generation = if commit.generation() == 0 { UNKNOWN } else { commit.generation() };
    Some(Link { parents, time, generation })
}

fn read_shallow(repository: &Repository) -> Result<Vec<ObjectId>, GitError> {
    let path = repository.common_dir.join("shallow");
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(GitError::io(format!("read {}", path.display()))(error)),
    };
    let lines = text.split(|byte| *byte == b'\n').filter_map(|line| ObjectId::from_hex(line).ok());
    let mut ids: Vec<ObjectId> = lines.collect();
    ids.sort_unstable();
    Ok(ids)
}

/// Commits that were reached and not yet gone beyond, youngest first.
#[derive(Default)]
struct Frontier {
    queue: BinaryHeap<(u32, i64, ObjectId)>,
    reached: HashMap<ObjectId, Reached>,
    /// How many waiting commits only the newer end reaches.
    new: usize,
}

struct Reached {
    flags: u8,
    /// While it waits in the queue.
    link: Option<Link>,
}

impl Frontier {
    fn has_new(&self) -> bool {
        self.new > 0
    }

    /// Notes from where a commit is reached. One that was gone beyond already must be gone beyond again when that is news.
    fn reach(
        &mut self,
        id: ObjectId,
        flags: u8,
        link: impl FnOnce() -> Result<Link, GitError>,
    ) -> Result<(), GitError> {
        let reached = self.reached.entry(id).or_insert(Reached { flags: 0, link: None });
        if reached.flags | flags == reached.flags {
            return Ok(());
        }
        let (was_new, is_waiting) = (reached.flags == NEW, reached.link.is_some());
        reached.flags |= flags;
        let is_new = reached.flags == NEW;
        if !is_waiting {
            let link = link()?;
            self.queue.push((link.generation, link.time, id));
            reached.link = Some(link);
            self.new += usize::from(is_new);
        } else if was_new && !is_new {
            self.new -= 1;
        }
        Ok(())
    }

    fn take(&mut self) -> Option<(ObjectId, u8, Link)> {
        let (_, _, id) = self.queue.pop()?;
        let reached = self.reached.get_mut(&id)?;
        let link = reached.link.take()?;
        self.new -= usize::from(reached.flags == NEW);
        Some((id, reached.flags, link))
    }
}
