//! A private repository that borrows the objects of another one.
//!
//! The git program is made to look at objects through it. So it obeys no configuration, attribute, hook or ownership of
//! the repository the objects come from, and whatever it writes goes away with the directory.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use gix_hash::ObjectId;
use gix_object::Write as _;

use crate::error::GitError;
use crate::objects::Objects;
use crate::program::GitProgram;

#[derive(Debug)]
pub(crate) struct Scratch {
    directory: tempfile::TempDir,
    hash: gix_hash::Kind,
}

impl Scratch {
    pub(crate) fn borrowing(objects: &Objects, git: &GitProgram) -> Result<Self, GitError> {
        let directory = tempfile::Builder::new()
            .prefix("strake-git-")
            .tempdir_in(git.scratch())
            .map_err(GitError::io(format!("make a private directory in {}", git.scratch().display())))?;
        make_bare(directory.path(), objects.hash(), "")?;
        let alternates = alternates(&objects.directories());
        write(&directory.path().join("objects/info/alternates"), &alternates)?;
        Ok(Self { directory, hash: objects.hash() })
    }

    pub(crate) fn command(&self, git: &GitProgram) -> Command {
        git.isolated_command(self.directory.path())
    }

    pub(crate) fn write_tree(&self, content: &[u8]) -> Result<ObjectId, GitError> {
        write_object(&self.directory.path().join("objects"), self.hash, gix_object::Kind::Tree, content)
    }
}

/// Writes a loose object. Both the directory and the content are ours.
pub(crate) fn write_object(
    objects: &Path,
    hash: gix_hash::Kind,
    kind: gix_object::Kind,
    content: &[u8],
) -> Result<ObjectId, GitError> {
    let store = gix_odb::loose::Store::at(objects, hash);
    store.write_buf(kind, content).map_err(|error| GitError::Io {
        doing: format!("write an object into {}", objects.display()),
        source: std::io::Error::other(error.to_string()),
    })
}

/// Makes an empty bare repository, without any of the templates of this machine. `remote` is what follows in its
/// configuration.
pub(crate) fn make_bare(directory: &Path, hash: gix_hash::Kind, remote: &str) -> Result<(), GitError> {
    for inner in ["objects/info", "objects/pack", "refs/heads", "refs/tags"] {
        let inner = directory.join(inner);
        fs::create_dir_all(&inner)
            .map_err(GitError::io(format!("make the directory {}", inner.display())))?;
    }
    write(&directory.join("config"), bare_config(hash, remote).as_bytes())?;
    write(&directory.join("HEAD"), b"ref: refs/heads/none\n")
}

pub(crate) fn bare_config(hash: gix_hash::Kind, remote: &str) -> String {
    let version = u8::from(hash != gix_hash::Kind::Sha1);
    let mut text = format!("[core]\n\trepositoryformatversion = {version}\n\tbare = true\n");
    if version == 1 {
        let _ = writeln!(text, "[extensions]\n\tobjectFormat = {hash}");
    }
    text + remote
}

fn write(path: &Path, content: &[u8]) -> Result<(), GitError> {
    fs::write(path, content).map_err(GitError::io(format!("write {}", path.display())))
}

/// One directory a line.
fn alternates(directories: &[PathBuf]) -> Vec<u8> {
    let mut text = Vec::new();
    for directory in directories {
        text.extend_from_slice(&quoted_path(directory));
        text.push(b'\n');
    }
    text
}

/// As git reads the paths of alternates in files and variables.
pub(crate) fn quoted_path(path: &Path) -> Vec<u8> {
    let mut text = vec![b'"'];
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'"' | b'\\' => text.extend_from_slice(&[b'\\', *byte]),
            b'\n' => text.extend_from_slice(b"\\n"),
            _ => text.push(*byte),
        }
    }
    text.push(b'"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_alternates_are_quoted() {
        assert_eq!(alternates(&[PathBuf::from("/a\"b\\c\nd")]), b"\"/a\\\"b\\\\c\\nd\"\n");
    }

    #[test]
    fn another_hash_function_is_an_extension() {
        assert!(!bare_config(gix_hash::Kind::Sha1, "").contains("extensions"));
        let config = bare_config(gix_hash::Kind::Sha256, "x");
        assert!(config.contains("repositoryformatversion = 1"));
        assert!(config.ends_with("objectFormat = sha256\nx"), "{config}");
    }
}
