//! The files of a mapping at a commit, or what changed since another one, as the engine takes them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use strake_engine::files::{Becomes, FileChange, FileSet};
use strake_frontend::stagefile::Selection;
use strake_frontend::stagefile::lower::WantedFiles;
use strake_git::{BlobId, Change, CommitId, FileMode, GitError, Repository, RepositoryPath, State};

use crate::failure::Failure;

/// The largest target of a symbolic link (`PATH_MAX`).
const TARGET_MAX: u64 = 4096;

/// How a pointer of git-lfs begins, which a repository has in the place of a file that is kept elsewhere.
const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// Pointers of git-lfs among the files that a stage placed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pointers(Arc<Mutex<BTreeSet<String>>>);

impl Pointers {
    fn add(&self, path: &[u8]) {
        let mut found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        found.insert(String::from_utf8_lossy(path).into_owned());
    }

    /// What to say of them, if there are any.
    pub(crate) fn warning(&self) -> Option<String> {
        let found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let first = found.first()?;
        let others = match found.len() - 1 {
            0 => String::new(),
            others => format!(" and {others} more"),
        };
        let path: String = first.chars().filter(|letter| !letter.is_control()).collect();
        Some(format!(
            "{path}{others}: the repository has only a pointer of git-lfs, and so has the image; fetch the content in a \
             command (git lfs pull), or keep it in git"
        ))
    }
}

/// Passes everything on, and keeps how it begins.
struct Beginning<'a> {
    out: &'a mut dyn io::Write,
    kept: Vec<u8>,
}

impl io::Write for Beginning<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        let missing = POINTER.len() - self.kept.len();
        self.kept.extend_from_slice(&bytes[..count.min(missing)]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// What a stage places of one mapping. `pointers` gets the files that turn out to be pointers while they are placed.
///
/// # Errors
/// When the repository cannot be read.
pub(crate) fn file_set(
    repository: &Arc<Repository>,
    selection: &Selection,
    wanted: &WantedFiles,
    pointers: Pointers,
) -> Result<FileSet, GitError> {
    let add = RepositoryPath::parse(&selection.add)?;
    let to = CommitId::from_hex(&wanted.to)?;
    let filter = selection.filter();
    let selects = |path: &[u8]| filter.matches(path);
    let may_descend = |folder: &[u8]| filter.may_match_below(folder);
    let selected = strake_git::Selection { selects: &selects, may_descend: &may_descend };
    let changes = match &wanted.from {
        Some(from) => repository.changes(CommitId::from_hex(from)?, to, &add, selected)?,
        None => {
            let files = repository.files(to, &add, selected)?.into_iter();
            files.map(|file| Change { path: file.path, old: None, new: Some(file.version) }).collect()
        }
    };
    let is_file = repository.state(to, &add)? == State::File;
    let mut blobs = Vec::new();
    let changes = changes.into_iter().map(|change| become_of(repository, change, is_file, &mut blobs));
    let changes: Vec<FileChange> = changes.collect::<Result<_, _>>()?;
    let (repository, mtime) = (Arc::clone(repository), repository.commit_time(to)?);
    let content = move |name: &str, out: &mut dyn io::Write| {
        let file = name.parse::<usize>().ok().and_then(|index| blobs.get(index));
        let (blob, path) = file.ok_or_else(|| io::Error::other("a content that nobody named"))?;
        let mut out = Beginning { out, kept: Vec::new() };
        repository.read(*blob, &mut out).map_err(io::Error::other)?;
        if out.kept == POINTER {
            pointers.add(path);
        }
        Ok(())
    };
    Ok(FileSet { changes, mtime, content: Box::new(content) })
}

/// Makes sure that no file of a mapping stands where another mapping or import has, or passes through, a directory. A
/// patch would put it in the place of all that is there, and what the image holds would depend on which commits were
/// built before.
///
/// # Errors
/// The file in the way.
pub(crate) fn keep_ways_free(set: &FileSet, to: &str, others: &[&str]) -> Result<(), Failure> {
    let to = to.trim_end_matches('/');
    let mut ways: BTreeMap<&[u8], &str> = BTreeMap::new();
    for other in others {
        let Some(below) = other.strip_prefix(to).filter(|below| below.starts_with('/')) else { continue };
        let ends = below.match_indices('/').map(|(at, _)| at).skip(1).chain([below.len()]);
        ways.extend(ends.map(|end| (&below.as_bytes()[1..end], *other)));
        ways.insert(b"", *other);
    }
    for change in set.changes.iter().filter(|change| change.becomes != Becomes::Nothing) {
        if let Some(other) = ways.get(&change.path[..]) {
            let path = format!("{to}/{}", String::from_utf8_lossy(&change.path));
            let message = format!(
                "{} is no directory in the repository, but {other} needs one there",
                path.trim_end_matches('/')
            );
            return Err(
                Failure::input(message).hint("leave it out with `excludePaths`, or choose another target")
            );
        }
    }
    Ok(())
}

fn become_of(
    repository: &Repository,
    change: Change,
    is_file: bool,
    blobs: &mut Vec<(BlobId, Vec<u8>)>,
) -> Result<FileChange, GitError> {
    let becomes = match change.new {
        None => Becomes::Nothing,
        Some(version) => match version.mode {
            FileMode::Symlink => {
                let mut target = Vec::new();
                if repository.size(version.blob)? <= TARGET_MAX {
                    repository.read(version.blob, &mut target)?;
                }
                Becomes::Link { target }
            }
            FileMode::Regular | FileMode::Executable => {
                blobs.push((version.blob, change.path.clone()));
                let mode = if version.mode == FileMode::Executable { 0o755 } else { 0o644 };
                Becomes::File { mode, content: (blobs.len() - 1).to_string() }
            }
        },
    };
    // A mapping of one file goes by the name it is given, not by its own.
    Ok(FileChange { path: if is_file { Vec::new() } else { change.path }, becomes })
}
