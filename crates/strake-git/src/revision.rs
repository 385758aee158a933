//! From names to commits.

use std::collections::BTreeMap;

use gix_hash::ObjectId;
use gix_object::Kind;
use gix_ref::Target;

use crate::error::{GitError, quoted};
use crate::id::{CommitId, TreeId};
use crate::objects::{corrupt, missing};
use crate::repository::Repository;

/// Symbolic references and tags of tags are followed this far.
const LONGEST_CHAIN: usize = 16;

/// Which commit is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revision {
    /// This commit.
    Commit(CommitId),
    /// The commit a tag stands for, peeled.
    Tag(String),
    /// A branch of the remote `origin`.
    Branch(String),
    /// The branch the remote `origin` recommends.
    RemoteHead,
}

impl Revision {
    /// In words, for messages.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Commit(id) => format!("the commit {id}"),
            Self::Tag(name) => format!("the tag {}", quoted(name.as_bytes())),
            Self::Branch(name) => format!("the branch {}", quoted(name.as_bytes())),
            Self::RemoteHead => "the default branch".to_owned(),
        }
    }

    /// The reference that stands for it in a clone; none for a commit.
    fn reference(&self) -> Option<String> {
        match self {
            Self::Commit(_) => None,
            Self::Tag(name) => Some(format!("refs/tags/{name}")),
            Self::Branch(name) => Some(format!("refs/remotes/origin/{name}")),
            Self::RemoteHead => Some("refs/remotes/origin/HEAD".to_owned()),
        }
    }
}

/// A kind of references.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum References {
    /// Tags.
    Tags,
    /// Branches of the remote `origin`, as of the last fetch.
    RemoteBranches,
}

impl References {
    fn prefix(self) -> &'static str {
        match self {
            Self::Tags => "refs/tags/",
            Self::RemoteBranches => "refs/remotes/origin/",
        }
    }
}

/// What is needed of a commit.
pub(crate) struct Commit {
    pub(crate) tree: ObjectId,
    pub(crate) parents: Vec<ObjectId>,
    pub(crate) time: i64,
    pub(crate) message: Vec<u8>,
}

impl Repository {
    /// The commit that is checked out; `None` in a repository without commits.
    ///
    /// # Errors
    ///
    /// [`GitError::Missing`], [`GitError::Corrupt`].
    pub fn head(&self) -> Result<Option<CommitId>, GitError> {
        let id = self.follow("HEAD")?;
        id.map(|id| self.peel(id)).transpose()
    }

    /// The branch that is checked out; `None` if HEAD is detached.
    ///
    /// # Errors
    ///
    /// [`GitError::UnknownRevision`] when HEAD cannot be read.
    pub fn branch(&self) -> Result<Option<String>, GitError> {
        let Some(Target::Symbolic(name)) = self.reference("HEAD")? else { return Ok(None) };
        let name = name.as_bstr().to_string();
        Ok(name.strip_prefix("refs/heads/").map(str::to_owned))
    }

    /// The commit that is meant.
    ///
    /// # Errors
    ///
    /// [`GitError::UnknownRevision`] when there is none, [`GitError::Missing`], [`GitError::Corrupt`].
    pub fn resolve(&self, revision: &Revision) -> Result<CommitId, GitError> {
        let unknown = |reason: &str| GitError::UnknownRevision {
            name: revision.describe(),
            place: self.git_dir.display().to_string(),
            reason: reason.to_owned(),
        };
        match (revision, revision.reference()) {
            (_, Some(reference)) => {
                let id = self.follow(&reference)?.ok_or_else(|| unknown("there is no such reference"))?;
                self.peel(id)
            }
            (Revision::Commit(id), None) if self.exists(*id) => Ok(*id),
            _ => Err(unknown("there is no such commit")),
        }
    }

    /// The names of all references of a kind, without what their kind begins with.
    ///
    /// # Errors
    ///
    /// [`GitError::UnknownRevision`] when they cannot be read.
    pub fn names(&self, references: References) -> Result<Vec<String>, GitError> {
        let prefix = references.prefix();
        let (git_dir, common_dir) = (self.git_dir.clone(), self.common_dir.clone());
        let refs = gix_ref::file::Store::for_linked_worktree(git_dir, common_dir, self.objects.hash());
        let bad = |error: &dyn std::fmt::Display| self.bad_reference(prefix, &error.to_string());
        let platform = refs.iter().map_err(|error| bad(&error))?;
        let mut names = Vec::new();
        for found in platform.all().map_err(|error| bad(&error))? {
            let name = found.map_err(|error| bad(&error))?.name.as_bstr().to_string();
            names.extend(name.strip_prefix(prefix).filter(|name| *name != "HEAD").map(str::to_owned));
        }
        Ok(names)
    }

    /// The commits that the references of a kind stand for, by name without what their kind begins with. References to
    /// something else than a commit are left out.
    ///
    /// # Errors
    ///
    /// [`GitError::UnknownRevision`] when they cannot be read, [`GitError::Missing`].
    pub fn heads(&self, references: References) -> Result<BTreeMap<String, CommitId>, GitError> {
        let mut heads = BTreeMap::new();
        for name in self.names(references)? {
            let Some(id) = self.follow(&format!("{}{name}", references.prefix()))? else { continue };
            match self.peel(id) {
                Ok(commit) => drop(heads.insert(name, commit)),
                Err(GitError::Corrupt { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(heads)
    }

    /// Whether a commit is in the repository, for example one that was recorded earlier (stage-file.md §7.7).
    #[must_use]
    pub fn exists(&self, commit: CommitId) -> bool {
        self.objects.exists(&commit.0) && self.commit(&commit.0).is_ok()
    }

    /// When the commit was made, in seconds since 1970-01-01 UTC, as its committer says.
    ///
    /// # Errors
    ///
    /// [`GitError::Missing`], [`GitError::Corrupt`].
    pub fn commit_time(&self, commit: CommitId) -> Result<i64, GitError> {
        Ok(self.commit(&commit.0)?.time)
    }

    /// The root tree of a commit: equal for commits with equal files, whatever their history.
    ///
    /// # Errors
    ///
    /// [`GitError::Missing`], [`GitError::Corrupt`].
    pub fn tree(&self, commit: CommitId) -> Result<TreeId, GitError> {
        Ok(TreeId(self.commit(&commit.0)?.tree))
    }

    pub(crate) fn commit(&self, id: &ObjectId) -> Result<Commit, GitError> {
        let bytes = self.objects.structure(id, Kind::Commit)?;
        parse_commit(&bytes, self.objects.hash())
            .ok_or_else(|| corrupt("commit", id, &"its header is damaged"))
    }

    /// The id a reference has, through symbolic references.
    fn follow(&self, name: &str) -> Result<Option<ObjectId>, GitError> {
        let mut name = name.to_owned();
        for _ in 0..LONGEST_CHAIN {
            match self.reference(&name)? {
                None => return Ok(None),
                Some(Target::Object(id)) => return Ok(Some(id)),
                Some(Target::Symbolic(next)) => name = next.as_bstr().to_string(),
            }
        }
        Err(self.bad_reference(&name, "symbolic references go in a circle"))
    }

    /// What a reference holds.
    fn reference(&self, name: &str) -> Result<Option<Target>, GitError> {
        let (git_dir, common_dir) = (self.git_dir.clone(), self.common_dir.clone());
        let refs = gix_ref::file::Store::for_linked_worktree(git_dir, common_dir, self.objects.hash());
        let full = gix_ref::FullName::try_from(name)
            .map_err(|error| self.bad_reference(name, &format!("it is not a valid name: {error}")))?;
        let found =
            refs.try_find(full.as_ref()).map_err(|error| self.bad_reference(name, &error.to_string()))?;
        Ok(found.filter(|found| found.name == full).map(|found| found.target))
    }

    fn bad_reference(&self, name: &str, reason: &str) -> GitError {
        GitError::UnknownRevision {
            name: format!("the reference {}", quoted(name.as_bytes())),
            place: self.git_dir.display().to_string(),
            reason: quoted(reason.as_bytes()),
        }
    }

    /// The commit an object stands for: itself, or what a tag points to.
    pub(crate) fn peel(&self, mut id: ObjectId) -> Result<CommitId, GitError> {
        for _ in 0..LONGEST_CHAIN {
            match self.objects.header(&id)? {
                Some((Kind::Tag, _)) => {
                    let bytes = self.objects.structure(&id, Kind::Tag)?;
                    let target = header(&bytes, "object").and_then(|hex| ObjectId::from_hex(hex).ok());
                    id = target.ok_or_else(|| corrupt("tag", &id, &"its header is damaged"))?;
                }
                Some((Kind::Commit, _)) => return Ok(CommitId(id)),
                Some(_) => return Err(corrupt("commit", &id, &"the reference leads to something else")),
                None => return Err(missing("commit", &id)),
            }
        }
        Err(corrupt("tag", &id, &"too many tags point to one another"))
    }
}

/// Reads what is needed, and forgives what is not: histories contain every kind of malformed author.
fn parse_commit(bytes: &[u8], hash: gix_hash::Kind) -> Option<Commit> {
    let (head, message) = match bytes.windows(2).position(|pair| pair == b"\n\n") {
        Some(end) => (&bytes[..end], &bytes[end + 2..]),
        None => (bytes, &[][..]),
    };
    let id = |hex: &[u8]| ObjectId::from_hex(hex).ok().filter(|id| id.kind() == hash);
    let mut lines = head.split(|byte| *byte == b'\n');
    let tree = id(lines.next()?.strip_prefix(b"tree ")?)?;
    let mut parents = Vec::new();
    let mut time = 0;
    for line in lines {
        if let Some(parent) = line.strip_prefix(b"parent ") {
            parents.push(id(parent)?);
        } else if let Some(committer) = line.strip_prefix(b"committer ") {
            time = parse_time(committer).unwrap_or(0);
            break;
        }
    }
    Some(Commit { tree, parents, time, message: message.to_vec() })
}

/// `Name <mail> 1234567890 +0100`, of which the number counts.
fn parse_time(committer: &[u8]) -> Option<i64> {
    let end = committer.iter().rposition(|byte| *byte == b'>')?;
    let text = std::str::from_utf8(&committer[end + 1..]).ok()?;
    text.split_whitespace().next()?.parse().ok()
}

fn header<'a>(bytes: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let line = bytes.split(|byte| *byte == b'\n').next()?;
    line.strip_prefix(name.as_bytes())?.strip_prefix(b" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREE: &str = "tree 0123456789012345678901234567890123456789\n";

    fn parse(rest: &str) -> Option<Commit> {
        parse_commit(format!("{TREE}{rest}").as_bytes(), gix_hash::Kind::Sha1)
    }

    #[test]
    fn commits_are_read_however_their_authors_look() {
        let parent = "parent 1123456789012345678901234567890123456789\n";
        let commit =
            parse(&format!("{parent}author <<>\ncommitter A <a> b> 12 +0100\ngpgsig x\n\nhello\n\nx"));
        let commit = commit.unwrap();
        assert_eq!((commit.parents.len(), commit.time), (1, 12));
        assert_eq!(commit.message, b"hello\n\nx");
        assert_eq!(parse("committer nobody\n").unwrap().time, 0);
        assert!(parse("parent 12\n").is_none());
        assert!(parse_commit(b"", gix_hash::Kind::Sha1).is_none());
        assert!(parse_commit(TREE.as_bytes(), gix_hash::Kind::Sha256).is_none());
    }
}
