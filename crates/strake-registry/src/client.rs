use std::io::{self, Read, Write};
use std::path::PathBuf;

use strake_oci::{Descriptor, Digest, MediaType, Reference};

use crate::{ErrorKind, Notice, Progress, RegistryConfig, RegistryError, Transfers};

/// Talks to any number of registries (distribution-spec v1.1). Every function blocks; any number of threads may call
/// at once.
#[derive(Debug)]
pub struct Client {}

/// A manifest or index as the registry sent it, its digest verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawManifest {
    /// Media type as the registry said it, digest and size as computed from the bytes.
    pub descriptor: Descriptor,
    /// The document.
    pub bytes: Vec<u8>,
}

/// Where the bytes of a blob to push come from.
pub enum BlobSource<'a> {
    /// A file of known content.
    File {
        /// Where it lies.
        path: PathBuf,
        /// What it holds.
        descriptor: Descriptor,
    },
    /// Bytes at hand, such as an image config.
    Bytes {
        /// The content.
        bytes: Vec<u8>,
        /// What it is.
        descriptor: Descriptor,
    },
    /// Content that is being made right now, in the same pass as it is sent.
    Stream {
        /// Gives the bytes, once.
        reader: Box<dyn Read + Send + 'a>,
        /// Says what they were, after the reader's end.
        finish: Box<dyn FnOnce() -> io::Result<Descriptor> + Send + 'a>,
    },
}

/// How a blob came to be in the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It was there.
    Existed,
    /// The registry linked it from another repository.
    Mounted,
    /// It was sent.
    Uploaded,
}

/// A blob that now is in the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushedBlob {
    /// What it is.
    pub descriptor: Descriptor,
    /// How it came there.
    pub how: Pushed,
}

/// A blob while it arrives. Reading past the last byte fails unless size and digest were right, so whoever reads to
/// the end without an error has the true content.
#[derive(Debug)]
pub struct BlobReader {}

impl Read for BlobReader {
    fn read(&mut self, _buffer: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl std::fmt::Debug for BlobSource<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BlobSource")
    }
}

fn unfinished(operation: &str) -> RegistryError {
    RegistryError {
        kind: ErrorKind::Unavailable,
        operation: operation.to_owned(),
        detail: "the registry client is still being written".to_owned(),
        hint: None,
    }
}

impl Client {
    /// Makes a client. Cheap: no thread, no connection, no file is touched before the first request.
    pub fn new(config: RegistryConfig) -> Self {
        Self::with_notices(config, |_| {})
    }

    /// Like [`Client::new`], and `notices` hears of retries and skipped mirrors, on any thread.
    pub fn with_notices(_config: RegistryConfig, _notices: impl Fn(&Notice) + Send + Sync + 'static) -> Self {
        Self {}
    }

    /// What this client has done so far.
    pub fn transfers(&self) -> Transfers {
        Transfers::default()
    }

    /// Makes every running and later call end with [`ErrorKind::Cancelled`].
    pub fn cancel(&self) {}

    /// Gets a manifest by tag or digest; `None` when there is none.
    ///
    /// # Errors
    /// Every [`ErrorKind`] but `NotFound`.
    pub fn resolve(&self, _reference: &Reference) -> Result<Option<RawManifest>, RegistryError> {
        Err(unfinished("pull manifest"))
    }

    /// Asks for the descriptor of a manifest without its content; `None` when there is none.
    ///
    /// The digest is the registry's word: good for comparing, never for trusting content.
    ///
    /// # Errors
    /// As [`Client::resolve`].
    pub fn head(&self, _reference: &Reference) -> Result<Option<Descriptor>, RegistryError> {
        Err(unfinished("look up manifest"))
    }

    /// Whether a repository has a blob.
    ///
    /// # Errors
    /// As [`Client::resolve`].
    pub fn has_blob(&self, _repository: &Reference, _digest: Digest) -> Result<bool, RegistryError> {
        Err(unfinished("look up blob"))
    }

    /// Writes a blob to `out`. When this returns without error, size and digest were right; otherwise what was
    /// written is not to be used.
    ///
    /// # Errors
    /// Any [`ErrorKind`]; `Corrupt` when the content is not what the descriptor says.
    pub fn fetch_blob(
        &self,
        _repository: &Reference,
        _descriptor: &Descriptor,
        _out: &mut dyn Write,
        _progress: &dyn Progress,
    ) -> Result<(), RegistryError> {
        Err(unfinished("pull blob"))
    }

    /// Opens a blob for reading while it arrives.
    ///
    /// # Errors
    /// As [`Client::fetch_blob`], for what happens before the first byte. Later failures are `io::Error`s that hold
    /// a [`RegistryError`].
    pub fn open_blob(
        &self,
        _repository: &Reference,
        _descriptor: &Descriptor,
    ) -> Result<BlobReader, RegistryError> {
        Err(unfinished("pull blob"))
    }

    /// Brings a blob into a repository: nothing if it is there, a mount if one of `mount_from` (other repositories
    /// of the same registry) has it, an upload otherwise.
    ///
    /// # Errors
    /// Any [`ErrorKind`]; `Local` when the source cannot be read.
    pub fn push_blob(
        &self,
        _repository: &Reference,
        _source: BlobSource<'_>,
        _mount_from: &[Reference],
        _progress: &dyn Progress,
    ) -> Result<PushedBlob, RegistryError> {
        Err(unfinished("push blob"))
    }

    /// Stores a manifest or index under the reference's tag, or under its digest if it has one.
    ///
    /// # Errors
    /// Any [`ErrorKind`]; `Corrupt` when the registry says it stored something else.
    pub fn push_manifest(
        &self,
        _reference: &Reference,
        _media_type: &MediaType,
        _bytes: &[u8],
    ) -> Result<Descriptor, RegistryError> {
        Err(unfinished("push manifest"))
    }

    /// All tags of a repository, in the registry's order; `None` when the repository does not exist.
    ///
    /// # Errors
    /// As [`Client::resolve`].
    pub fn list_tags(&self, _repository: &Reference) -> Result<Option<Vec<String>>, RegistryError> {
        Err(unfinished("list tags"))
    }

    /// Deletes a manifest by digest, or a tag where the registry supports it; `false` when it was not there.
    ///
    /// # Errors
    /// As [`Client::resolve`].
    pub fn delete_manifest(&self, _reference: &Reference) -> Result<bool, RegistryError> {
        Err(unfinished("delete manifest"))
    }
}
