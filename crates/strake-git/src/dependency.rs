//! The checksum of the files a user stage depends on (stage-file.md §8.4).

use std::io::{self, Write};

use sha2::{Digest, Sha256};

use crate::error::{GitError, quoted};
use crate::id::CommitId;
use crate::memo::Memo;
use crate::path::{RepositoryPath, joined};
use crate::repository::Repository;
use crate::selection::Selection;
use crate::tree::{FileEntry, Node, NodeKind};

/// One pattern of `stageDependencies`.
#[derive(Debug, Clone, Copy)]
pub struct DependencyPattern<'a> {
    /// The pattern as it was written: part of the key under which the checksum is remembered.
    pub text: &'a str,
    /// Which paths, relative to `add`, it matches, also as files of a directory it matches.
    pub matches: Selection<'a>,
}

/// What came of the patterns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DependencyChecksum {
    /// SHA-256 in 64 lower-case hexadecimal digits.
    pub checksum: String,
    /// Indices of the patterns that matched no selected file: worth a warning each.
    pub unmatched: Vec<usize>,
}

impl Repository {
    /// The checksum of the selected files below `add` that a pattern matches; `None` without a pattern.
    ///
    /// Over the files, sorted by path: path from the root of the repository, git's mode in octal, content or link target,
    /// without separators. `filter_text` says what `filter` does, for the key; the checksum is remembered for the tree
    /// (not the commit) and computed once.
    ///
    /// # Errors
    ///
    /// As [`Self::files`] and [`Self::read`].
    pub fn dependency_checksum(
        &self,
        commit: CommitId,
        add: &RepositoryPath,
        patterns: &[DependencyPattern<'_>],
        filter: (&str, Selection<'_>),
        memo: Memo<'_>,
    ) -> Result<Option<DependencyChecksum>, GitError> {
        if patterns.is_empty() {
            return Ok(None);
        }
        let node = self.locate(commit, add)?;
        let key = key(node.as_ref(), add, patterns, filter.0);
        if let Some(known) = (memo.get)(&key).and_then(|known| decode(&known, patterns.len())) {
            return Ok(Some(known));
        }
        let files = self.dependencies(commit, add, patterns, filter.1)?;
        let is_file = node.is_some_and(|node| matches!(node.kind, NodeKind::File(_)));
        let base = if is_file { parent(add.as_bytes()) } else { add.as_bytes() };
        let result = DependencyChecksum {
            checksum: self.checksum(base, &files)?,
            unmatched: unmatched(patterns, &files),
        };
        (memo.put)(&key, &encode(&result));
        Ok(Some(result))
    }

    fn dependencies(
        &self,
        commit: CommitId,
        add: &RepositoryPath,
        patterns: &[DependencyPattern<'_>],
        filter: Selection<'_>,
    ) -> Result<Vec<FileEntry>, GitError> {
        let selects = |path: &[u8]| {
            (filter.selects)(path) && patterns.iter().any(|pattern| (pattern.matches.selects)(path))
        };
        let may_descend = |path: &[u8]| {
            (filter.may_descend)(path) && patterns.iter().any(|pattern| (pattern.matches.may_descend)(path))
        };
        self.files(commit, add, Selection { selects: &selects, may_descend: &may_descend })
    }

    fn checksum(&self, base: &[u8], files: &[FileEntry]) -> Result<String, GitError> {
        let mut hasher = Hasher(Sha256::new());
        for file in files {
            hasher.0.update(joined(base, &file.path));
            hasher.0.update(file.version.mode.octal());
            self.read(file.version.blob, &mut hasher)?;
        }
        Ok(hex(hasher.0))
    }
}

fn unmatched(patterns: &[DependencyPattern<'_>], files: &[FileEntry]) -> Vec<usize> {
    let matches_none =
        |pattern: &DependencyPattern<'_>| !files.iter().any(|file| (pattern.matches.selects)(&file.path));
    (0..patterns.len()).filter(|index| matches_none(&patterns[*index])).collect()
}

/// All the checksum depends on. Each part is preceded by its length, so that no two lists are written alike.
fn key(
    node: Option<&Node>,
    add: &RepositoryPath,
    patterns: &[DependencyPattern<'_>],
    filter: &str,
) -> String {
    let mut hasher = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hasher.update((bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    part(match node.map(|node| node.kind) {
        None => b"absent",
        Some(NodeKind::Directory) => b"directory",
        Some(NodeKind::Gitlink) => b"submodule",
        Some(NodeKind::File(mode)) => mode.octal().as_bytes(),
    });
    part(node.map_or(&[], |node| node.id.as_slice()));
    part(add.as_bytes());
    part(filter.as_bytes());
    for pattern in patterns {
        part(pattern.text.as_bytes());
    }
    format!("dependency-v1:{}", hex(hasher))
}

/// The checksum, then the indices, separated by blanks.
fn encode(result: &DependencyChecksum) -> Vec<u8> {
    let indices = result.unmatched.iter().map(|index| format!(" {index}"));
    format!("{}{}", result.checksum, indices.collect::<String>()).into_bytes()
}

fn decode(bytes: &[u8], patterns: usize) -> Option<DependencyChecksum> {
    let mut words = std::str::from_utf8(bytes).ok()?.split(' ');
    let checksum =
        words.next().filter(|word| word.len() == 64 && word.bytes().all(|b| b.is_ascii_hexdigit()))?;
    let indices: Result<Vec<usize>, _> = words.map(str::parse).collect();
    let unmatched = indices.ok().filter(|indices| indices.iter().all(|index| *index < patterns));
    let Some(unmatched) = unmatched else {
        tracing::debug!("forget a damaged checksum: {}", quoted(bytes));
        return None;
    };
    Some(DependencyChecksum { checksum: checksum.to_owned(), unmatched })
}

fn parent(path: &[u8]) -> &[u8] {
    path.iter().rposition(|byte| *byte == b'/').map_or(&[], |slash| &path[..slash])
}

fn hex(hasher: Sha256) -> String {
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

struct Hasher(Sha256);

impl Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_remembered_is_read_back_and_damage_is_not() {
        let result = DependencyChecksum { checksum: "ab".repeat(32), unmatched: vec![0, 2] };
        assert_eq!(decode(&encode(&result), 3), Some(result.clone()));
        assert_eq!(decode(&encode(&result), 2), None);
        let none = DependencyChecksum { unmatched: Vec::new(), ..result };
        assert_eq!(decode(&encode(&none), 0), Some(none));
        for damaged in [&b""[..], b"ab", b"\xff", format!("{} x", "ab".repeat(32)).as_bytes()] {
            assert_eq!(decode(damaged, 3), None);
        }
    }
}
