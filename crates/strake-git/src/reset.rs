//! The commit that asks for a fresh archive (stage-file.md §7.7).
//!
//! Found breadth-first: of several, the one the fewest steps away; of those, the one reached through the earlier parent.
//! To know it without reading all messages again, the set of *all* such commits is remembered for one head. For the
//! next head only the messages of its new commits are read. With no or one such commit the set is the answer; only
//! with several are parents walked, and only as far as the nearest of them.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::ops::ControlFlow;

use gix_hash::ObjectId;

use crate::error::GitError;
use crate::history::HistoryWalk;
use crate::id::CommitId;
use crate::memo::Memo;
use crate::repository::Repository;

/// What a message must contain, anywhere.
const MARKS: [&[u8]; 4] = [b"[dapp reset]", b"[reset dapp]", b"[strake reset]", b"[reset strake]"];
const KEY: &str = "reset-v1";

/// The outcome of the search for a reset commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResetCommit {
    /// The nearest one, if there is one.
    pub commit: Option<CommitId>,
    /// Whether the history goes back further than the repository does, a shallow clone. There may be one beyond, and a
    /// machine with a full clone then comes to another signature: worth a warning if `commit` is `None`.
    pub is_cut: bool,
}

impl Repository {
    /// The newest commit reachable from `head`, breadth-first, whose message asks for a reset.
    ///
    /// The first time all messages are read; with the memo only those of commits that are new since. Only when the memo
    /// is of another branch, and that one was reset, is the history walked again, without reading messages.
    ///
    /// # Errors
    ///
    /// [`GitError::Missing`], [`GitError::Corrupt`], [`GitError::Canceled`].
    pub fn reset_commit(&self, head: CommitId, memo: Memo<'_>) -> Result<ResetCommit, GitError> {
        let remembered =
            (memo.get)(KEY).and_then(|text| Resets::decode(&text)).filter(|known| self.knows(known));
        let resets = match remembered {
            Some(known) if known.head == head => known,
            known => {
                let resets = self.find_resets(head, known)?;
                (memo.put)(KEY, &resets.encode());
                resets
            }
        };
        let commit = match resets.commits.len() {
            0 => None,
            1 => resets.commits.first().copied(),
            _ => self.nearest(head, &resets.commits)?,
        };
        Ok(ResetCommit { commit: commit.map(CommitId), is_cut: resets.is_cut })
    }

    /// What is remembered may be of a history that was rewritten and collected, or that was cut and is no more.
    fn knows(&self, known: &Resets) -> bool {
        let is_shallow = self.common_dir.join("shallow").exists();
        known.is_cut == is_shallow && self.exists(known.head)
    }

    fn find_resets(&self, head: CommitId, known: Option<Resets>) -> Result<Resets, GitError> {
        let mut walk = HistoryWalk::new(self)?;
        let mut commits = BTreeSet::new();
        let mut failure = None;
        let base = known.as_ref().map(|known| known.head);
        let _ = walk.new_commits(head, base, &mut |id, _| match self.commit(&id) {
            Ok(commit) => {
                commits.extend(asks_for_reset(&commit.message).then_some(id));
                ControlFlow::Continue(())
            }
            Err(error) => {
                failure = Some(error);
                ControlFlow::Break(())
            }
        })?;
        if let Some(error) = failure {
            return Err(error);
        }
        let mut is_cut = walk.is_cut;
        if let Some(known) = known {
            is_cut |= known.is_cut;
            for commit in known.commits {
                // On another branch each has to be looked at again.
                if walk.reached_known || self.is_ancestor(CommitId(commit), head)?.is_ancestor() {
                    commits.insert(commit);
                }
            }
        }
        Ok(Resets { head, is_cut, commits })
    }

    fn nearest(&self, head: CommitId, resets: &BTreeSet<ObjectId>) -> Result<Option<ObjectId>, GitError> {
        let walk = HistoryWalk::new(self)?;
        let mut reached = HashSet::from([head.0]);
        let mut waiting = VecDeque::from([head.0]);
        while let Some(id) = waiting.pop_front() {
            if resets.contains(&id) {
                return Ok(Some(id));
            }
            self.git.check_cancelled()?;
            let parents = walk.link(&id)?.parents;
            waiting.extend(parents.into_iter().filter(|parent| reached.insert(*parent)));
        }
        Ok(None)
    }
}

fn asks_for_reset(message: &[u8]) -> bool {
    MARKS.iter().any(|mark| message.windows(mark.len()).any(|window| window == *mark))
}

/// All reset commits a head reaches.
#[derive(Debug, PartialEq)]
struct Resets {
    head: CommitId,
    is_cut: bool,
    commits: BTreeSet<ObjectId>,
}

impl Resets {
    /// Lines: the head, `cut` or `whole`, then the commits.
    fn encode(&self) -> Vec<u8> {
        let cut = if self.is_cut { "cut" } else { "whole" };
        let commits: String = self.commits.iter().map(|id| format!("{id}\n")).collect();
        format!("{}\n{cut}\n{commits}", self.head).into_bytes()
    }

    fn decode(text: &[u8]) -> Option<Self> {
        let mut lines = std::str::from_utf8(text).ok()?.lines();
        let head = CommitId(ObjectId::from_hex(lines.next()?.as_bytes()).ok()?);
        let is_cut = match lines.next()? {
            "cut" => true,
            "whole" => false,
            _ => return None,
        };
        let commits: Result<_, _> = lines.map(|line| ObjectId::from_hex(line.as_bytes())).collect();
        Some(Self { head, is_cut, commits: commits.ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_found_anywhere_in_a_message() {
        assert!(asks_for_reset(b"Update\n\nplease [reset dapp] now"));
        assert!(asks_for_reset(b"[strake reset]"));
        assert!(!asks_for_reset(b"[dapp  reset] [Strake reset] strake reset"));
    }

    #[test]
    fn what_was_remembered_is_read_back_and_damage_is_not() {
        let id = |digit: &str| ObjectId::from_hex(digit.repeat(40).as_bytes()).unwrap();
        let commits = BTreeSet::from([id("b"), id("a")]);
        let resets = Resets { head: CommitId(id("c")), is_cut: true, commits };
        assert_eq!(Resets::decode(&resets.encode()), Some(resets));
        for damaged in [&b""[..], b"x\nwhole\n", format!("{}\nwhole\nx", "a".repeat(40)).as_bytes()] {
            assert_eq!(Resets::decode(damaged), None);
        }
    }
}
