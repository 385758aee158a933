use std::collections::BTreeMap;

use super::super::{GitSource, Selection};

/// Something to find out before the signatures of an image are known.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Need {
    /// What a mapping takes at the current commit of its repository: [`Facts::mappings`].
    Mapping(Selection),
    /// The checksum of watched files: [`Facts::watched`].
    Watched(Watched),
    /// The newest commit reachable from the current one whose message asks for a fresh archive (reference §7.7):
    /// [`Facts::resets`].
    Reset(GitSource),
    /// The size of the filtered patch between two commits in bytes, with all lines of the files in it and with
    /// binary ones (reference §7.5): [`Facts::patch_sizes`].
    PatchSize(Difference),
    /// Whether the files of a mapping are the same in two commits: [`Facts::unchanged`].
    Unchanged(Difference),
    /// What is known under a signature: [`Facts::stages`].
    Stage(String),
    /// Whether a recorded commit is part of the history of the current one: [`Facts::commits`].
    Commit(CommitQuestion),
}

/// Files whose change makes a stage be assembled anew.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Watched {
    /// The mapping they belong to.
    pub selection: Selection,
    /// Patterns below `add`.
    pub patterns: Vec<String>,
}

/// Two commits of the repository of a mapping.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Difference {
    /// The mapping.
    pub selection: Selection,
    /// The older commit.
    pub from: String,
    /// The newer commit.
    pub to: String,
}

/// A commit that a stage records.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommitQuestion {
    /// The mapping that has files of it.
    pub selection: Selection,
    /// The commit.
    pub commit: String,
    /// The current commit.
    pub current: String,
}

/// The answers to [`Need`]s.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// To [`Need::Mapping`].
    pub mappings: BTreeMap<Selection, MappingState>,
    /// To [`Need::Watched`] (reference §8.4); `None` if nothing is to be watched.
    pub watched: BTreeMap<Watched, Option<String>>,
    /// To [`Need::Reset`].
    pub resets: BTreeMap<GitSource, Option<String>>,
    /// To [`Need::PatchSize`], in bytes.
    pub patch_sizes: BTreeMap<Difference, u64>,
    /// To [`Need::Unchanged`].
    pub unchanged: BTreeMap<Difference, bool>,
    /// To [`Need::Stage`].
    pub stages: BTreeMap<String, Option<KnownStage>>,
    /// To [`Need::Commit`].
    pub commits: BTreeMap<CommitQuestion, CommitState>,
}

/// What a mapping takes at the current commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MappingState {
    /// The repository has no commits, or no file of the current one is taken.
    Empty,
    /// Files are taken.
    Present {
        /// The current commit.
        commit: String,
        /// What `add` is in it.
        kind: MappingKind,
    },
}

/// What the `add` of a mapping is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MappingKind {
    /// A single file, or link.
    File,
    /// A directory.
    Directory,
}

impl MappingKind {
    /// As labels say it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Directory => "directory",
        }
    }
}

/// How a recorded commit stands to the current one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitState {
    /// It is the current one, or one of its ancestors.
    Ancestor,
    /// It exists, on another line of history.
    Foreign,
    /// The repository does not have it.
    Missing,
}

/// A stage image that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownStage {
    /// Whether more than this is to be had of it.
    pub presence: Presence,
    /// The labels of the image.
    pub labels: BTreeMap<String, String>,
    /// When it was made, in seconds since 1970.
    pub created: Option<i64>,
    /// The size of all its layers in bytes.
    pub size: Option<u64>,
}

/// Whether a known stage can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// The next stage can be assembled on it.
    Usable,
    /// Only what it records is known. That decides signatures, but nothing can stand on it.
    Recorded,
}

impl KnownStage {
    /// The commit that the files of a mapping have in this image.
    pub fn commit(&self, params_hash: &str) -> Option<&str> {
        self.git_label(params_hash, "commit")
    }

    /// What the `add` of a mapping was when its files were put into this image: `file` or `directory`.
    pub fn kind(&self, params_hash: &str) -> Option<&str> {
        self.git_label(params_hash, "type")
    }

    fn git_label(&self, params_hash: &str, what: &str) -> Option<&str> {
        let label = |prefix| self.labels.get(&format!("{prefix}-git-{params_hash}-{what}"));
        label("strake").or_else(|| label("dapp")).map(String::as_str)
    }
}
