//! What a stage file asks of git: which commit is current, which files it has below a path, what changed between two
//! commits, how large that difference is as a patch, and where a repository that lives elsewhere is kept.
//!
//! Reading is done in this process, from the object database; the `git` program is started for what reaches beyond it:
//! fetching, the exact size of a patch, blobs too large to hold in memory, and the work tree of the developer mode.
//! The program sees none of the caller's `GIT_*` variables, never asks, and never takes orders from the repository that
//! is read: what it has to look at, it looks at through a private repository that borrows the objects.
//!
//! Everything in a repository may have been written by somebody hostile. Objects are checked against their ids, names
//! that would leave the tree are refused, depth, size and number of what is walked are bounded.
//!
//! Start reading at [`Repository`].

mod changes;
mod dependency;
mod error;
mod history;
mod id;
mod memo;
mod objects;
mod patch;
mod path;
mod program;
mod remote;
mod repository;
mod reset;
mod revision;
mod scratch;
mod selection;
mod submodule;
mod tree;
mod url;
mod walk;
mod worktree;

pub use changes::Change;
pub use dependency::{DependencyChecksum, DependencyPattern};
pub use error::GitError;
pub use history::Ancestry;
pub use id::{BlobId, CommitId, TreeId};
pub use memo::Memo;
pub use path::RepositoryPath;
pub use program::{GitProgram, SshAccess};
pub use remote::{RemoteClone, RemoteSource};
pub use repository::Repository;
pub use reset::ResetCommit;
pub use revision::{References, Revision};
pub use selection::Selection;
pub use submodule::SubmoduleClones;
pub use tree::{FileEntry, FileMode, FileVersion, State};
