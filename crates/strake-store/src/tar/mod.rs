//! Layers as tar streams and as directories.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use strake_oci::Digest;

use crate::{Flavour, LayerId, Store, StoreError, View};

/// What is wrong with a tar, or with writing or reading its files.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// A file operation failed.
    #[error("{action} {path}: {source}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// The path inside the layer.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The stream is not a proper tar, or asks for something that is refused.
    #[error("tar entry `{path}`: {problem}")]
    Entry {
        /// The path as the tar gives it, with odd bytes escaped.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The stream cannot be read as tar at all.
    #[error("tar at byte {offset}: {problem}")]
    Malformed {
        /// Where in the uncompressed stream.
        offset: u64,
        /// What is wrong there.
        problem: String,
    },
    /// A limit was reached.
    #[error("the tar has more than {limit} {what}, the limit set for one layer")]
    Limit {
        /// What is limited.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
}

/// How to apply a tar.
#[derive(Debug, Clone, Copy)]
pub struct ApplyOptions {
    /// Which attributes mark opaque directories.
    pub flavour: Flavour,
    /// The most bytes that all files may have together, holes counted.
    pub max_bytes: u64,
    /// The most entries.
    pub max_entries: u64,
    /// What names with `.wh.` mean: whiteouts in a layer, plain names in an archive added by ADD.
    pub whiteouts: Whiteouts,
}

/// What a name that begins with `.wh.` means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whiteouts {
    /// Deletes what is below, as in a layer.
    Layer,
    /// Is a file like any other, as in an archive that is added.
    Plain,
}

/// What applying a tar did.
#[derive(Debug, Clone, Default)]
pub struct Applied {
    /// How many entries it had.
    pub entries: u64,
    /// The bytes of its files, holes counted.
    pub bytes: u64,
    /// Directories that entries needed and the tar did not have; the empty path is the root.
    pub implicit_dirs: Vec<PathBuf>,
    /// Hard links to files that the tar does not have: (new name, target).
    pub deferred_links: Vec<(PathBuf, PathBuf)>,
    /// What was left out, for people to read; at most one hundred.
    pub notes: Vec<String>,
}

/// How to write a tar.
#[derive(Debug, Clone, Copy, Default)]
pub struct DiffOptions {
    /// Times later than this, in seconds since 1970, are written as this (`SOURCE_DATE_EPOCH`).
    pub clamp_mtime: Option<i64>,
}

/// What was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DiffStats {
    /// Entries, whiteouts included.
    pub entries: u64,
    /// Bytes of the tar.
    pub bytes: u64,
    /// What could not be expressed, for people to read.
    pub notes: Vec<String>,
}

/// Writes the uncompressed tar `reader` as a layer directory in overlay form into the empty directory `dest`.
///
/// # Errors
/// When the tar is malformed, hostile or too large, or a file cannot be written.
pub fn apply(_reader: impl Read, _dest: &Path, _options: &ApplyOptions) -> Result<Applied, TarError> {
    unimplemented!()
}

/// Gives a layer directory what its tar left to the layers below: the attributes of directories it does not
/// have itself, the true place of directories that are symbolic links below, the files it links to.
///
/// # Errors
/// When a layer below is missing, or a link names no file.
pub fn settle(
    _store: &Store,
    _layer_dir: &Path,
    _below: &[LayerId],
    _applied: &Applied,
) -> Result<(), StoreError> {
    unimplemented!()
}

/// Writes a layer directory as a deterministic tar.
///
/// # Errors
/// When a file cannot be read or changes meanwhile, or `out` fails.
pub fn diff(_layer_dir: &Path, _out: impl Write, _options: &DiffOptions) -> Result<DiffStats, TarError> {
    unimplemented!()
}

/// Writes a merged tree as a deterministic tar.
///
/// # Errors
/// As [`diff`].
pub fn flatten(_view: &View, _out: impl Write, _options: &DiffOptions) -> Result<DiffStats, TarError> {
    unimplemented!()
}

/// The digest of what is in a layer directory, without times: the same for two layers that do the same.
///
/// # Errors
/// When a file cannot be read.
pub fn content_digest(_layer_dir: &Path) -> Result<Digest, TarError> {
    unimplemented!()
}
