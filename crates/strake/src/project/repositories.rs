//! The repositories that mappings take files from.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use strake_frontend::stagefile::plan::Mode;
use strake_frontend::stagefile::{GitSource, RemoteReference, slug};
use strake_git::{CommitId, RemoteClone, RemoteSource, Repository, Revision};
use strake_store::TempDir;

use super::memory::Memory;
use super::{Project, git_failure};
use crate::failure::Failure;
use crate::session::Session;

/// The version of the layout of clones below the build directory.
const LAYOUT: &str = "1";

/// Whether repositories elsewhere are asked for what is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// They are.
    Network,
    /// Only what is here counts.
    Local,
}

/// A repository at its current commit.
#[derive(Debug, Clone)]
pub(super) struct Opened {
    pub(super) repository: Arc<Repository>,
    /// None in a repository without commits.
    pub(super) commit: Option<CommitId>,
    /// Names it in what is remembered.
    pub(super) place: String,
}

/// Opens repositories when they are asked for first.
#[derive(Debug)]
pub(super) struct Repositories<'a> {
    pub(super) project: &'a Project,
    pub(super) session: Option<&'a Session>,
    pub(super) mode: Mode,
    pub(super) reach: Reach,
    pub(super) opened: BTreeMap<GitSource, Opened>,
    /// Holds commits of what is not committed, while nothing may be kept.
    objects: Option<TempDir>,
}

impl<'a> Repositories<'a> {
    pub(super) fn new(project: &'a Project, session: Option<&'a Session>, mode: Mode, reach: Reach) -> Self {
        Self { project, session, mode, reach, opened: BTreeMap::new(), objects: None }
    }

    /// The same for somebody else. What is kept for a dry run only stays here.
    pub(super) fn another(&self) -> Self {
        Self { opened: self.opened.clone(), objects: None, ..*self }
    }

    /// A repository at its current commit.
    ///
    /// # Errors
    /// When it is not there or cannot be read.
    pub(super) fn open(&mut self, source: &GitSource, memory: &Memory<'_>) -> Result<Opened, Failure> {
        if let Some(opened) = self.opened.get(source) {
            return Ok(opened.clone());
        }
        let opened = match source {
            GitSource::Local => self.own()?,
            GitSource::Remote { url, reference } => self.remote(source, url, reference, memory)?,
        };
        self.opened.insert(source.clone(), opened.clone());
        Ok(opened)
    }

    fn own(&mut self) -> Result<Opened, Failure> {
        let Some(repository) = self.project.repository.clone() else {
            let dir = self.project.dir.display();
            let message =
                format!("the stage file maps files of the project's repository, but {dir} is in none");
            return Err(Failure::input(message).hint("git init, git add and git commit make one"));
        };
        let commit = match self.mode {
            Mode::Committed => repository.head().map_err(git_failure)?,
            Mode::Developer => Some(self.commit_worktree(&repository)?),
        };
        let place = repository.worktree().unwrap_or(&self.project.dir).display().to_string();
        Ok(Opened { repository, commit, place })
    }

    /// Later builds must find these commits: stages record them. A dry run leaves none behind.
    fn commit_worktree(&mut self, repository: &Repository) -> Result<CommitId, Failure> {
        let kept = self.project.build_dir.join("dev-objects");
        let directory = match (self.reach, self.session) {
            (Reach::Local, Some(session)) => {
                if kept.is_dir() {
                    repository.borrow_objects(&kept).map_err(git_failure)?;
                }
                self.objects.insert(session.store.temp_dir()?).path().join("objects")
            }
            _ => kept,
        };
        if let Some(parent) = directory.parent() {
            std::fs::create_dir_all(parent).map_err(|error| Failure::file("create", parent, &error))?;
        }
        // What we wrote ourselves is no file of the project.
        let rendered = self.project.dir.join(&self.project.text.name);
        repository.commit_worktree(&directory, Some(&rendered)).map_err(git_failure)
    }

    fn remote(
        &self,
        source: &GitSource,
        url: &str,
        reference: &RemoteReference,
        memory: &Memory<'_>,
    ) -> Result<Opened, Failure> {
        let name =
            source.name().ok_or_else(|| Failure::input(format!("no name can be made of the URL {url}")))?;
        let directory =
            self.project.build_dir.join("remote_git_repo").join(LAYOUT).join(slug(&name)).join(scheme(url));
        let place = directory.display().to_string();
        let revision = match reference {
            RemoteReference::Head => Revision::RemoteHead,
            RemoteReference::Branch(name) => Revision::Branch(name.clone()),
            RemoteReference::Tag(name) => Revision::Tag(name.clone()),
            RemoteReference::Commit(id) => Revision::Commit(CommitId::from_hex(id).map_err(git_failure)?),
        };
        let question = format!("current-v1 {url} {revision:?}");
        let remote = RemoteSource { url: url.to_owned(), revision };
        let (repository, commit) = match self.reach {
            Reach::Network => {
                let clone =
                    RemoteClone::update(&remote, &directory, self.project.ssh.access(), &self.project.git)
                        .map_err(git_failure)?;
                memory.put(&place, &question, clone.commit.to_string().as_bytes());
                (clone.repository, clone.commit)
            }
            Reach::Local => self.fetched(&directory, url, memory.get(&place, &question))?,
        };
        let repository = repository.with_submodules(self.project.submodules.clone());
        Ok(Opened { repository: Arc::new(repository), commit: Some(commit), place })
    }

    /// What an earlier build fetched.
    fn fetched(
        &self,
        directory: &Path,
        url: &str,
        commit: Option<Vec<u8>>,
    ) -> Result<(Repository, CommitId), Failure> {
        let commit = commit.and_then(|text| CommitId::from_hex(&String::from_utf8(text).ok()?).ok());
        let repository = Repository::open(directory, &self.project.git).ok();
        match (repository, commit) {
            (Some(repository), Some(commit)) if repository.exists(commit) => Ok((repository, commit)),
            _ => {
                let failure =
                    Failure::input(format!("{url} was never fetched, and a dry run does not fetch it"));
                Err(failure.hint("build once without --dry-run"))
            }
        }
    }
}

/// How a repository is reached, as a part of a path.
fn scheme(url: &str) -> &str {
    match url.split_once("://") {
        Some((scheme @ ("http" | "https" | "ssh" | "git" | "file"), _)) => scheme,
        None if url.starts_with('/') => "file",
        _ => "ssh",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemes_are_parts_of_paths() {
        for (url, expected) in [
            ("https://h/a/b.git", "https"),
            ("git@h:a/b.git", "ssh"),
            ("ssh://h/a/b.git", "ssh"),
            ("/srv/a/b.git", "file"),
            ("file:///srv/a/b.git", "file"),
            ("../../x://y", "ssh"),
        ] {
            assert_eq!(scheme(url), expected, "{url}");
        }
    }
}
