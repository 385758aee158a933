//! Files of a commit, and what changed between two.

use std::ops::ControlFlow;

use crate::error::GitError;
use crate::id::CommitId;
use crate::path::RepositoryPath;
use crate::repository::Repository;
use crate::selection::Selection;
use crate::tree::{FileEntry, FileVersion};
use crate::walk::walk;

/// A file that is not the same in two commits. At least one side is there; a move is a removal and an addition.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// Relative to `add`; for a mapping of one file its base name. Need not be UTF-8.
    pub path: Vec<u8>,
    /// What it was.
    pub old: Option<FileVersion>,
    /// What it is now.
    pub new: Option<FileVersion>,
}

impl Repository {
    /// The selected files below `add` in a commit, sorted by the bytes of their paths; none when `add` is absent.
    ///
    /// # Errors
    ///
    /// [`GitError::Missing`], [`GitError::Corrupt`], [`GitError::Path`] for names no honest tree has,
    /// [`GitError::Submodule`], [`GitError::TooLarge`], [`GitError::Canceled`].
    pub fn files(
        &self,
        commit: CommitId,
        add: &RepositoryPath,
        selection: Selection<'_>,
    ) -> Result<Vec<FileEntry>, GitError> {
        let mut files = Vec::new();
        walk(self, (None, commit), add, selection, &mut |change| {
            files.extend(change.new.map(|version| FileEntry { path: change.path, version }));
            ControlFlow::Continue(())
        })?;
        files.sort_unstable();
        Ok(files)
    }

    /// The selected files below `add` that differ, sorted by the bytes of their paths. Directories with equal trees are
    /// not read.
    ///
    /// # Errors
    ///
    /// As [`Self::files`].
    pub fn changes(
        &self,
        from: CommitId,
        to: CommitId,
        add: &RepositoryPath,
        selection: Selection<'_>,
    ) -> Result<Vec<Change>, GitError> {
        let mut changes = Vec::new();
        walk(self, (Some(from), to), add, selection, &mut |change| {
            changes.push(change);
            ControlFlow::Continue(())
        })?;
        changes.sort_unstable();
        Ok(changes)
    }

    /// Whether [`Self::changes`] would answer anything; stops at the first difference.
    ///
    /// # Errors
    ///
    /// As [`Self::files`].
    pub fn differs(
        &self,
        from: CommitId,
        to: CommitId,
        add: &RepositoryPath,
        selection: Selection<'_>,
    ) -> Result<bool, GitError> {
        let mut differs = false;
        walk(self, (Some(from), to), add, selection, &mut |_| {
            differs = true;
            ControlFlow::Break(())
        })?;
        Ok(differs)
    }
}
