//! The developer mode: the work tree as a commit of its own (stage-file.md §12).

use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use gix_hash::ObjectId;

use crate::error::GitError;
use crate::id::CommitId;
use crate::repository::Repository;
use crate::scratch::{quoted_path, write_object};

impl Repository {
    /// Makes a commit of what is in the work tree: changed, removed and added files, but for ignored ones. Its parent is
    /// HEAD, whose time it has, so equal files give an equal commit. Afterwards it is found here like all others.
    ///
    /// New objects go into the directory `objects`, which is made, and which must be kept as long as the commit is to be
    /// read; [`Self::borrow_objects`] makes them known to a repository opened later. The repository itself, its index
    /// included, stays as it is. Filters that git applies when a file is added (line ends, LFS) are applied. The file
    /// `left_out`, if it is in the work tree, counts as it is in the index: added only if it was added before.
    ///
    /// # Errors
    ///
    /// [`GitError::NotARepository`] when it is bare, [`GitError::Program`], [`GitError::Io`].
    pub fn commit_worktree(&self, objects: &Path, left_out: Option<&Path>) -> Result<CommitId, GitError> {
        let worktree = self.worktree().ok_or_else(|| GitError::NotARepository {
            path: self.git_dir.clone(),
            reason: "it has no work tree".to_owned(),
        })?;
        fs::create_dir_all(objects.join("pack"))
            .map_err(GitError::io(format!("make the directory {}", objects.display())))?;
        let tree = self.write_worktree(worktree, objects, left_out)?;
        let head = self.head()?;
        let content = self.commit_content(&tree, head)?;
        let commit =
            write_object(objects, self.objects.hash(), gix_object::Kind::Commit, content.as_bytes())?;
        self.borrow_objects(objects)?;
        Ok(CommitId(commit))
    }

    /// Reads objects from one more directory, one that [`Self::commit_worktree`] filled.
    ///
    /// # Errors
    ///
    /// [`GitError::Io`] when there is no such directory.
    pub fn borrow_objects(&self, objects: &Path) -> Result<(), GitError> {
        self.objects.add(objects)
    }

    fn write_worktree(
        &self,
        worktree: &Path,
        objects: &Path,
        left_out: Option<&Path>,
    ) -> Result<ObjectId, GitError> {
        let index = self.copy_of_index()?;
        let alternates = OsString::from_vec(quoted_path(&self.common_dir.join("objects")));
        let command = || {
            let mut command = self.git.command();
            // In so many words, so that no configuration means another work tree.
            command.env("GIT_DIR", &self.git_dir).env("GIT_WORK_TREE", worktree);
            command.env("GIT_INDEX_FILE", index.path()).env("GIT_OBJECT_DIRECTORY", objects);
            command.env("GIT_ALTERNATE_OBJECT_DIRECTORIES", &alternates).current_dir(worktree);
            command.args(["-c", "advice.addEmbeddedRepo=false", "-c", "core.splitIndex=false"]);
            command
        };
        let mut add = command();
        add.args(["add", "--all", "--", "."]);
        if let Some(path) = left_out.and_then(|path| relative(path, worktree)) {
            let mut pattern = OsString::from(":(exclude,top,literal)");
            pattern.push(path);
            add.arg(pattern);
        }
        self.git.answer(&mut add, "read the work tree")?;
        let printed = self.git.answer(command().arg("write-tree"), "write the tree of the work tree")?;
        ObjectId::from_hex(printed.trim_ascii()).map_err(|error| GitError::Program {
            doing: "write the tree of the work tree".to_owned(),
            message: format!("not an id: {error}"),
        })
    }

    /// With what the index knows of unchanged files, those need not be read again.
    fn copy_of_index(&self) -> Result<tempfile::NamedTempFile, GitError> {
        let doing = || format!("copy the index {}", self.git_dir.join("index").display());
        let mut copy = tempfile::Builder::new()
            .prefix("strake-git-index-")
            .tempfile_in(self.git.scratch())
            .map_err(GitError::io(doing()))?;
        match fs::File::open(self.git_dir.join("index")) {
            Ok(mut index) => {
                std::io::copy(&mut index, copy.as_file_mut()).map_err(GitError::io(doing()))?;
                copy.as_file_mut().flush().map_err(GitError::io(doing()))?;
            }
            // git takes an index that is not there for an empty one, but not an empty file.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                fs::remove_file(copy.path()).map_err(GitError::io(doing()))?;
            }
            Err(error) => return Err(GitError::io(doing())(error)),
        }
        Ok(copy)
    }

    fn commit_content(&self, tree: &ObjectId, head: Option<CommitId>) -> Result<String, GitError> {
        let (parent, time) = match head {
            Some(head) => (format!("parent {head}\n"), self.commit_time(head)?),
            None => (String::new(), 0),
        };
        let who = format!("strake <strake> {time} +0000");
        Ok(format!("tree {tree}\n{parent}author {who}\ncommitter {who}\n\nwork tree\n"))
    }
}

/// A file as seen from the work tree; nothing if it is elsewhere. The folder that it is in must be there.
fn relative(path: &Path, worktree: &Path) -> Option<PathBuf> {
    let folder = path.parent()?.canonicalize().ok()?;
    let below = folder.strip_prefix(worktree.canonicalize().ok()?).ok()?;
    Some(below.join(path.file_name()?))
}
