//! The files of a mapping at a commit, or what changed since another one, as the engine takes them.

use std::io;
use std::sync::Arc;

use strake_engine::files::{Becomes, FileChange, FileSet};
use strake_frontend::stagefile::Selection;
use strake_frontend::stagefile::lower::WantedFiles;
use strake_git::{BlobId, Change, CommitId, FileMode, GitError, Repository, RepositoryPath, State};

/// The largest target of a symbolic link (`PATH_MAX`).
const TARGET_MAX: u64 = 4096;

/// What a stage places of one mapping.
///
/// # Errors
/// When the repository cannot be read.
pub(crate) fn file_set(
    repository: &Arc<Repository>,
    selection: &Selection,
    wanted: &WantedFiles,
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
        let blob = name.parse::<usize>().ok().and_then(|index| blobs.get(index));
        let blob = blob.ok_or_else(|| io::Error::other("a content that nobody named"))?;
        repository.read(*blob, out).map_err(io::Error::other)
    };
    Ok(FileSet { changes, mtime, content: Box::new(content) })
}

fn become_of(
    repository: &Repository,
    change: Change,
    is_file: bool,
    blobs: &mut Vec<BlobId>,
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
                blobs.push(version.blob);
                let mode = if version.mode == FileMode::Executable { 0o755 } else { 0o644 };
                Becomes::File { mode, content: (blobs.len() - 1).to_string() }
            }
        },
    };
    // A mapping of one file goes by the name it is given, not by its own.
    Ok(FileChange { path: if is_file { Vec::new() } else { change.path }, becomes })
}
