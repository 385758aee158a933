//! How large a difference is as a patch (stage-file.md §7.5).
//!
//! Only the number of full MiB counts. A bound computed from the sizes of the blobs answers the usual case, a small
//! difference, without making a patch. Otherwise git makes it, from two trees that hold the changed files and nothing
//! else, so that the selection needs no translation into git's own patterns.

use std::collections::BTreeMap;
use std::io::{self, Write};

use crate::changes::Change;
use crate::error::GitError;
use crate::id::CommitId;
use crate::path::RepositoryPath;
use crate::repository::Repository;
use crate::scratch::Scratch;
use crate::selection::Selection;
use crate::tree::FileVersion;

const MIB: u64 = 1 << 20;
/// Of the headers of one file, without its name: ids in full, modes, words, and twice over for a file that becomes a
/// symbolic link.
const HEADERS: u64 = 2048;
/// How often a name occurs in the headers of a file, times four for its quoting, times two as above.
const NAMES: u64 = 6 * 4 * 2;

impl Repository {
    /// The size of the selected difference below `add` as a patch, in full MiB: floor(bytes / 1,048,576). This is the
    /// only dependency of the stage `g_a_post_setup_patch`.
    ///
    /// # Errors
    ///
    /// As [`Self::files`], and [`GitError::Program`].
    pub fn patch_steps(
        &self,
        from: CommitId,
        to: CommitId,
        add: &RepositoryPath,
        selection: Selection<'_>,
    ) -> Result<u64, GitError> {
        let changes = self.changes(from, to, add, selection)?;
        if self.size_bound(&changes)? < MIB {
            return Ok(0);
        }
        Ok(self.size_of_patch(&changes)? / MIB)
    }

    /// The size of the same patch in bytes: whole-file context, binary files included, renames off, paths relative to
    /// `add`. The compressed parts of binary files may differ by a few bytes between versions of git.
    ///
    /// # Errors
    ///
    /// As [`Self::files`], and [`GitError::Program`].
    pub fn patch_size(
        &self,
        from: CommitId,
        to: CommitId,
        add: &RepositoryPath,
        selection: Selection<'_>,
    ) -> Result<u64, GitError> {
        self.size_of_patch(&self.changes(from, to, add, selection)?)
    }

    /// At least the size of the patch. Text grows by one byte a line, of which there are at most as many as bytes, and
    /// binary content by a quarter and a fiftieth.
    fn size_bound(&self, changes: &[Change]) -> Result<u64, GitError> {
        let mut bound = 0u64;
        for change in changes {
            for version in [change.old, change.new].into_iter().flatten() {
                bound = bound.saturating_add(self.size(version.blob)?.saturating_mul(2));
            }
            bound = bound.saturating_add(HEADERS + change.path.len() as u64 * NAMES);
            if bound >= MIB {
                break;
            }
        }
        Ok(bound)
    }

    fn size_of_patch(&self, changes: &[Change]) -> Result<u64, GitError> {
        if changes.is_empty() {
            return Ok(0);
        }
        let scratch = Scratch::borrowing(&self.objects, &self.git)?;
        let old =
            write_trees(&scratch, changes.iter().filter_map(|change| Some((&change.path, change.old?))))?;
        let new =
            write_trees(&scratch, changes.iter().filter_map(|change| Some((&change.path, change.new?))))?;
        let mut command = scratch.command(&self.git);
        command.args(["diff-tree", "-r", "-p", "--binary", "--full-index", "--no-renames", "--no-ext-diff"]);
        command.args(["--no-textconv", "--no-color", "-U999999999"]).args([old.to_string(), new.to_string()]);
        let mut counter = Counter(0);
        self.git.run(&mut command, "measure the patch between two commits", &mut counter)?;
        Ok(counter.0)
    }
}

/// The entries of directories that are being put together, by path.
type Directories<'a> = BTreeMap<&'a [u8], Vec<(Vec<u8>, &'static str, gix_hash::ObjectId)>>;

/// Writes trees that hold exactly these files, and answers the root.
fn write_trees<'a>(
    scratch: &Scratch,
    files: impl Iterator<Item = (&'a Vec<u8>, FileVersion)>,
) -> Result<gix_hash::ObjectId, GitError> {
    let mut directories: Directories<'_> = BTreeMap::from([(&b""[..], Vec::new())]);
    for (path, version) in files {
        let (parent, name) = split(path);
        make_parents(&mut directories, parent);
        directories.entry(parent).or_default().push((name.to_vec(), version.mode.octal(), version.blob.0));
    }
    // What lies deeper has a longer path that sorts later, so going backwards every directory is complete.
    while let Some((path, entries)) = directories.pop_last() {
        let tree = scratch.write_tree(&tree_content(entries))?;
        if path.is_empty() {
            return Ok(tree);
        }
        let (parent, name) = split(path);
        directories.entry(parent).or_default().push((name.to_vec(), "40000", tree));
    }
    unreachable!("the root is always there and comes last")
}

fn make_parents<'a>(directories: &mut Directories<'a>, mut path: &'a [u8]) {
    while !directories.contains_key(path) {
        directories.insert(path, Vec::new());
        path = split(path).0;
    }
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

/// In git's order, where the name of a directory ends with a slash.
fn tree_content(mut entries: Vec<(Vec<u8>, &'static str, gix_hash::ObjectId)>) -> Vec<u8> {
    entries.sort_by_cached_key(|(name, mode, _)| {
        let mut key = name.clone();
        key.extend((*mode == "40000").then_some(b'/'));
        key
    });
    let mut content = Vec::new();
    for (name, mode, id) in entries {
        content.extend_from_slice(mode.as_bytes());
        content.push(b' ');
        content.extend_from_slice(&name);
        content.push(0);
        content.extend_from_slice(id.as_slice());
    }
    content
}

struct Counter(u64);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
