//! The answers to what plans ask of git.

use std::cell::Cell;
use std::collections::BTreeSet;

use strake_frontend::stagefile::plan::{
    CommitQuestion, CommitState, Difference, Facts, MappingKind, MappingState, Need, Watched,
};
use strake_frontend::stagefile::{GitSource, Selection};
use strake_git::{
    Ancestry, CommitId, DependencyPattern, GitError, Memo, RepositoryPath, Selection as Chosen, State,
};
use strake_graph::pattern::PathFilter;
use strake_oci::Digest;

use super::git_failure;
use super::memory::Memory;
use super::repositories::{Opened, Repositories};
use crate::failure::Failure;
use crate::report;

const MIB: u64 = 1 << 20;

/// Finds answers, each once.
#[derive(Debug)]
pub(super) struct Answers<'a> {
    pub(super) repositories: Repositories<'a>,
    pub(super) memory: Memory<'a>,
    /// Whether the sizes of several patches are added up: then each must be exact.
    pub(super) sums: bool,
    /// What was warned of.
    pub(super) warned: BTreeSet<String>,
}

impl<'a> Answers<'a> {
    /// The same for somebody else.
    pub(super) fn another(&self) -> Self {
        Self {
            repositories: self.repositories.another(),
            memory: self.memory.another(),
            sums: self.sums,
            warned: self.warned.clone(),
        }
    }

    /// Answers what is asked of git.
    ///
    /// # Errors
    /// When a repository is not there or cannot be read.
    pub(super) fn answer(&mut self, need: Need, facts: &mut Facts) -> Result<(), Failure> {
        match need {
            Need::Mapping(selection) => {
                let state = self.mapping(&selection)?;
                facts.mappings.insert(selection, state);
            }
            Need::Watched(watched) => {
                let checksum = self.watched(&watched)?;
                facts.watched.insert(watched, checksum);
            }
            Need::Reset(source) => {
                let commit = self.reset(&source)?;
                facts.resets.insert(source, commit);
            }
            Need::PatchSize(difference) => {
                let size = self.patch_size(&difference)?;
                facts.patch_sizes.insert(difference, size);
            }
            Need::Unchanged(difference) => {
                let is_unchanged = self.is_unchanged(&difference)?;
                facts.unchanged.insert(difference, is_unchanged);
            }
            Need::Commit(question) => {
                let state = self.commit_state(&question)?;
                facts.commits.insert(question, state);
            }
            Need::Stage(_) => {}
        }
        Ok(())
    }

    fn open(&mut self, source: &GitSource) -> Result<Opened, Failure> {
        self.repositories.open(source, &self.memory)
    }

    fn mapping(&mut self, selection: &Selection) -> Result<MappingState, Failure> {
        let opened = self.open(&selection.source)?;
        let Some(commit) = opened.commit else { return Ok(MappingState::Empty) };
        let add = add(selection)?;
        let kind = match opened.repository.state(commit, &add).map_err(git_failure)? {
            State::Absent => return Ok(MappingState::Empty),
            State::File => MappingKind::File,
            State::Directory => MappingKind::Directory,
        };
        // Only whether there is a file at all is asked, so the walk takes nothing after the first.
        let filter = selection.filter();
        let found = Cell::new(false);
        let selects = |path: &[u8]| !found.get() && filter.matches(path) && !found.replace(true);
        let may_descend = |folder: &[u8]| !found.get() && filter.may_match_below(folder);
        let first = Chosen { selects: &selects, may_descend: &may_descend };
        let files = opened.repository.files(commit, &add, first).map_err(git_failure)?;
        if files.is_empty() {
            return Ok(MappingState::Empty);
        }
        Ok(MappingState::Present { commit: commit.to_string(), kind })
    }

    fn watched(&mut self, watched: &Watched) -> Result<Option<String>, Failure> {
        let opened = self.open(&watched.selection.source)?;
        let Some(commit) = opened.commit else { return Ok(None) };
        let filters: Vec<PathFilter> = watched
            .patterns
            .iter()
            .map(|pattern| PathFilter::new([pattern], Vec::<&str>::new()))
            .collect::<Result<_, _>>()
            .map_err(|error| Failure::input(format!("watched files: {error}")))?;
        let closures: Vec<_> = filters
            .iter()
            .map(|filter| {
                (move |path: &[u8]| filter.matches(path), move |folder: &[u8]| filter.may_match_below(folder))
            })
            .collect();
        let patterns: Vec<_> = watched
            .patterns
            .iter()
            .zip(&closures)
            .map(|(text, (selects, may_descend))| DependencyPattern {
                text,
                matches: Chosen { selects, may_descend },
            })
            .collect();
        let filter = watched.selection.filter();
        let selects = |path: &[u8]| filter.matches(path);
        let may_descend = |folder: &[u8]| filter.may_match_below(folder);
        let text = filter_text(&watched.selection);
        let get = |key: &str| self.memory.get(&opened.place, key);
        let put = |key: &str, answer: &[u8]| self.memory.put(&opened.place, key, answer);
        let found = opened
            .repository
            .dependency_checksum(
                commit,
                &add(&watched.selection)?,
                &patterns,
                (&text, Chosen { selects: &selects, may_descend: &may_descend }),
                Memo { get: &get, put: &put },
            )
            .map_err(git_failure)?;
        for index in found.iter().flat_map(|found| &found.unmatched) {
            let add = &watched.selection.add;
            let pattern = &watched.patterns[*index];
            self.warn(format!("stageDependencies: the pattern {pattern} below {add} matches no file"));
        }
        Ok(found.map(|found| found.checksum))
    }

    fn reset(&mut self, source: &GitSource) -> Result<Option<String>, Failure> {
        let opened = self.open(source)?;
        let Some(commit) = opened.commit else { return Ok(None) };
        let get = |key: &str| self.memory.get(&opened.place, key);
        let put = |key: &str, answer: &[u8]| self.memory.put(&opened.place, key, answer);
        let memo = Memo { get: &get, put: &put };
        let reset = opened.repository.reset_commit(commit, memo).map_err(git_failure)?;
        if reset.commit.is_none() && reset.is_cut {
            self.warn(
                "the repository is a shallow clone: a commit that asks for a reset may be beyond its history"
                    .to_owned(),
            );
        }
        Ok(reset.commit.map(|commit| commit.to_string()))
    }

    fn patch_size(&mut self, difference: &Difference) -> Result<u64, Failure> {
        let sums = self.sums;
        let question = question("patch-size-v1", difference);
        let answer = |opened: &Opened, from, to, add: &RepositoryPath, chosen: Chosen<'_>| match sums {
            true => opened.repository.patch_size(from, to, add, chosen),
            // Only full MiB count, and without them no patch has to be made.
            false => opened.repository.patch_steps(from, to, add, chosen).map(|steps| steps * MIB),
        };
        let question = format!("{question}{}", if sums { " exact" } else { "" });
        self.compare(difference, &question, 0, answer)
    }

    fn is_unchanged(&mut self, difference: &Difference) -> Result<bool, Failure> {
        let question = question("differs-v1", difference);
        let answer = |opened: &Opened, from, to, add: &RepositoryPath, chosen: Chosen<'_>| {
            opened.repository.differs(from, to, add, chosen).map(u64::from)
        };
        Ok(self.compare(difference, &question, 1, answer)? == 0)
    }

    /// Asks about two commits, at most once. A commit that is not there is answered with `missing`.
    fn compare(
        &mut self,
        difference: &Difference,
        question: &str,
        missing: u64,
        answer: impl FnOnce(&Opened, CommitId, CommitId, &RepositoryPath, Chosen<'_>) -> Result<u64, GitError>,
    ) -> Result<u64, Failure> {
        let opened = self.open(&difference.selection.source)?;
        let id = |text: &str| CommitId::from_hex(text).ok().filter(|id| opened.repository.exists(*id));
        let (Some(from), Some(to)) = (id(&difference.from), id(&difference.to)) else { return Ok(missing) };
        let add = add(&difference.selection)?;
        let filter = difference.selection.filter();
        let selects = |path: &[u8]| filter.matches(path);
        let may_descend = |folder: &[u8]| filter.may_match_below(folder);
        let chosen = Chosen { selects: &selects, may_descend: &may_descend };
        self.memory
            .number(&opened.place, question, || answer(&opened, from, to, &add, chosen))
            .map_err(git_failure)
    }

    fn commit_state(&mut self, asked: &CommitQuestion) -> Result<CommitState, Failure> {
        let opened = self.open(&asked.selection.source)?;
        let id = |text: &str| CommitId::from_hex(text).ok().filter(|id| opened.repository.exists(*id));
        let (Some(commit), Some(current)) = (id(&asked.commit), id(&asked.current)) else {
            return Ok(CommitState::Missing);
        };
        let question = format!("ancestor-v1 {commit} {current}");
        let mut is_cut = false;
        let find = || match opened.repository.is_ancestor(commit, current)? {
            Ancestry::Ancestor => Ok(1),
            Ancestry::NotAncestor => Ok(0),
            Ancestry::CutOff => {
                is_cut = true;
                Ok(0)
            }
        };
        let is_ancestor = self.memory.number(&opened.place, &question, find).map_err(git_failure)?;
        if is_cut {
            self.warn(format!(
                "the repository is a shallow clone: whether {commit} is part of its history cannot be told, so \
                 stages made at it are not used; git fetch --unshallow gets the rest"
            ));
        }
        if is_ancestor != 1 {
            return Ok(CommitState::Foreign);
        }
        let is_at_hand = self.is_at_hand(&opened, asked, commit, current)?;
        Ok(if is_at_hand { CommitState::Ancestor } else { CommitState::Missing })
    }

    /// Whether what changed since a commit can be told. A submodule that it bound may be gone, or have been replaced by
    /// another one; then what was made of it cannot be brought up to date.
    fn is_at_hand(
        &mut self,
        opened: &Opened,
        asked: &CommitQuestion,
        commit: CommitId,
        current: CommitId,
    ) -> Result<bool, Failure> {
        let submodules = RepositoryPath::parse("/.gitmodules").map_err(git_failure)?;
        if opened.repository.state(commit, &submodules).map_err(git_failure)? == State::Absent {
            return Ok(true);
        }
        let CommitQuestion { selection, commit: from, current: to } = asked;
        let between = Difference { selection: selection.clone(), from: from.clone(), to: to.clone() };
        let question = question("readable-v1", &between);
        let add = add(selection)?;
        let filter = selection.filter();
        let selects = |path: &[u8]| filter.matches(path);
        let may_descend = |folder: &[u8]| filter.may_match_below(folder);
        let chosen = Chosen { selects: &selects, may_descend: &may_descend };
        let changes = || opened.repository.changes(commit, current, &add, chosen).map(|_| 1);
        match self.memory.number(&opened.place, &question, changes) {
            Ok(_) => Ok(true),
            Err(error @ GitError::Submodule { .. }) => {
                self.warn(format!("stages with files of the commit {commit} are not used: {error}"));
                Ok(false)
            }
            Err(error) => Err(git_failure(error)),
        }
    }

    /// Says something once.
    pub(super) fn warn(&mut self, text: String) {
        if !self.warned.contains(&text) {
            report::warn(&text);
            self.warned.insert(text);
        }
    }
}

fn add(selection: &Selection) -> Result<RepositoryPath, Failure> {
    RepositoryPath::parse(&selection.add).map_err(git_failure)
}

/// All that decides which files are meant.
fn filter_text(selection: &Selection) -> String {
    let exclude: Vec<_> = selection.exclude.iter().chain(&selection.yields).collect();
    format!("{:?} {exclude:?}", selection.include)
}

fn question(what: &str, difference: &Difference) -> String {
    let Difference { selection, from, to } = difference;
    let files = format!("{:?} {}", selection.add, filter_text(selection));
    format!("{what} {} {from} {to}", Digest::of(files.as_bytes()).hex())
}
