use std::fmt;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

use reqwest::Method;
use strake_oci::{Descriptor, Digest, MediaType, Reference};

use crate::auth::{Access, Scopes};
use crate::push::{Before, Push};
use crate::reader::BlobReader;
use crate::runtime::{Runtime, or_cancelled};
use crate::transport::{Call, Core, Target};
use crate::{ErrorKind, Notice, Progress, RegistryConfig, RegistryError, Transfers};

/// Talks to any number of registries (distribution-spec v1.1). Every function blocks; any number of threads may call
/// at once.
pub struct Client {
    core: Arc<Core>,
    runtime: Arc<Runtime>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("transfers", &self.transfers()).finish_non_exhaustive()
    }
}

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

/// What is said of a blob on its way.
fn of_blob(source: &BlobSource<'_>) -> String {
    match source {
        BlobSource::File { descriptor, .. } | BlobSource::Bytes { descriptor, .. } => {
            format!("blob {}", descriptor.digest)
        }
        BlobSource::Stream { .. } => "blob".to_owned(),
    }
}

impl fmt::Debug for BlobSource<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, descriptor } => f.debug_tuple("File").field(path).field(descriptor).finish(),
            Self::Bytes { descriptor, .. } => f.debug_tuple("Bytes").field(descriptor).finish(),
            Self::Stream { .. } => f.write_str("Stream"),
        }
    }
}

impl Client {
    /// Makes a client. Cheap: no thread, no connection, no file is touched before the first request.
    pub fn new(config: RegistryConfig) -> Self {
        Self::with_notices(config, |_| {})
    }

    /// Like [`Client::new`], and `notices` hears of retries and skipped mirrors, on any thread.
    pub fn with_notices(config: RegistryConfig, notices: impl Fn(&Notice) + Send + Sync + 'static) -> Self {
        Self { core: Arc::new(Core::new(config, Arc::new(notices))), runtime: Arc::new(Runtime::new()) }
    }

    /// This client for what can be done without, such as looking whether something is there already: a registry that
    /// says nothing is given up within a quarter of a minute, and in the middle of a transfer within a minute.
    /// Connections, tokens, counters and [`cancel`](Self::cancel) are those of this client.
    #[must_use]
    pub fn hurried(&self) -> Self {
        Self { core: Arc::new(self.core.hurried()), runtime: Arc::clone(&self.runtime) }
    }

    /// What this client has done so far.
    pub fn transfers(&self) -> Transfers {
        self.core.counters.snapshot()
    }

    /// Whether anything was asked that needed the network, so that threads were started.
    pub fn is_started(&self) -> bool {
        self.runtime.is_started()
    }

    /// Makes every running and later call end with [`ErrorKind::Cancelled`](crate::ErrorKind::Cancelled).
    pub fn cancel(&self) {
        self.runtime.cancel();
    }

    /// Gets a manifest by tag or digest; `None` when there is none. Its digest is computed from its bytes, and must
    /// be the reference's if that has one. Mirrors are asked first.
    ///
    /// # Errors
    /// Every [`ErrorKind`](crate::ErrorKind) but `NotFound` and `Local`.
    pub fn resolve(&self, reference: &Reference) -> Result<Option<RawManifest>, RegistryError> {
        self.runtime.block_on(&format!("pull manifest {reference}"), self.core.resolve(reference))
    }

    /// Gets a manifest as [`Client::resolve`] does, but from the registry itself: what is there before something is
    /// pushed, no mirror knows.
    ///
    /// # Errors
    /// As [`Client::resolve`].
    pub fn resolve_at_origin(&self, reference: &Reference) -> Result<Option<RawManifest>, RegistryError> {
        let operation = format!("look up manifest {reference}");
        let endpoint = self.core.origin(reference);
        self.runtime.block_on(&operation, self.core.manifest_at(&operation, &endpoint, reference))
    }

    /// Whether a repository has a manifest. Mirrors are not asked.
    ///
    /// # Errors
    /// As [`Client::resolve`].
    pub fn has_manifest(&self, reference: &Reference) -> Result<bool, RegistryError> {
        let operation = format!("look up manifest {reference}");
        let endpoint = self.core.origin(reference);
        let found = self.core.head_at(&operation, &endpoint, reference);
        Ok(self.runtime.block_on(&operation, found)?.is_some())
    }

    /// Asks for the descriptor of a manifest without its content; `None` when there is none.
    ///
    /// The digest is the registry's word: good for comparing, never for trusting content.
    ///
    /// # Errors
    /// As [`Client::resolve`].
    pub fn head(&self, reference: &Reference) -> Result<Option<Descriptor>, RegistryError> {
        self.runtime.block_on(&format!("look up manifest {reference}"), self.core.head(reference))
    }

    /// Whether a repository has a blob. Mirrors are not asked.
    ///
    /// # Errors
    /// As [`Client::resolve`].
    pub fn has_blob(&self, repository: &Reference, digest: Digest) -> Result<bool, RegistryError> {
        let endpoint = self.core.origin(repository);
        let scopes = Scopes::one(&endpoint.repository, Access::Pull);
        self.runtime.block_on("look up blob", self.core.has_blob(&endpoint, &scopes, digest))
    }

    /// Writes a blob to `out`. When this returns without error, size and digest were right; otherwise what was
    /// written is not to be used. A connection that breaks is resumed where it broke.
    ///
    /// # Errors
    /// Any [`ErrorKind`](crate::ErrorKind); `Corrupt` when the content is not what the descriptor says, `Local` when
    /// `out` fails.
    pub fn fetch_blob(
        &self,
        repository: &Reference,
        descriptor: &Descriptor,
        out: &mut dyn Write,
        progress: &dyn Progress,
    ) -> Result<(), RegistryError> {
        let mut reader = self.open_blob(repository, descriptor)?;
        while let Some(piece) = reader.next_piece()? {
            out.write_all(&piece).map_err(|error| {
                let operation = format!("pull blob {}", descriptor.digest);
                RegistryError::new(ErrorKind::Local, operation, format!("write it: {error}"))
            })?;
            progress.advance(piece.len() as u64);
        }
        Ok(())
    }

    /// Opens a blob for reading while it arrives. This returns at once; what goes wrong is told by the reads.
    ///
    /// # Errors
    /// `Local` when no thread can be started.
    pub fn open_blob(
        &self,
        repository: &Reference,
        descriptor: &Descriptor,
    ) -> Result<BlobReader, RegistryError> {
        let handle = self.runtime.handle()?;
        let (reader, pump, failure) = BlobReader::new(&self.core, repository, descriptor);
        let cancelled = self.runtime.cancellation();
        let operation = format!("pull blob {}", descriptor.digest);
        // Kept open until the failure is told, so that the reader never sees an end without its reason.
        let open = pump.sender.clone();
        handle.spawn(async move {
            if let Err(error) = or_cancelled(cancelled, &operation, pump.run()).await {
                let _ = failure.send(error);
            }
            drop(open);
        });
        Ok(reader)
    }

    /// Brings a blob into a repository: nothing if it is there, a mount if one of `mount_from` (other repositories
    /// of the same registry; the first three count) has it, an upload otherwise. Where `mount_from` names the
    /// repository itself, as one that had the blob once, it is asked for before a mount is.
    ///
    /// A stream is uploaded without asking first, as its digest is known only at its end. One of up to 1 MiB is read
    /// before anything is sent. When the connection of a longer one breaks, it is resumed from the last 16 MiB; a loss of more is an error with nothing stored.
    ///
    /// # Errors
    /// Any [`ErrorKind`](crate::ErrorKind); `Local` when the source cannot be read.
    pub fn push_blob(
        &self,
        repository: &Reference,
        source: BlobSource<'_>,
        mount_from: &[Reference],
        progress: &dyn Progress,
    ) -> Result<PushedBlob, RegistryError> {
        self.push_blob_where(repository, source, mount_from, progress, Before::Perhaps)
    }

    /// As [`Client::push_blob`], for a blob that nobody else can have sent, such as a document with the time of its
    /// making: unless `mount_from` names the repository itself it is not asked for, and one that is there all the same
    /// is sent in vain.
    ///
    /// # Errors
    /// As [`Client::push_blob`].
    pub fn push_new_blob(
        &self,
        repository: &Reference,
        source: BlobSource<'_>,
        mount_from: &[Reference],
        progress: &dyn Progress,
    ) -> Result<PushedBlob, RegistryError> {
        self.push_blob_where(repository, source, mount_from, progress, Before::Hardly)
    }

    fn push_blob_where(
        &self,
        repository: &Reference,
        source: BlobSource<'_>,
        mount_from: &[Reference],
        progress: &dyn Progress,
        before: Before,
    ) -> Result<PushedBlob, RegistryError> {
        let push = Push::new(&self.core, &self.runtime, repository, mount_from, &of_blob(&source), progress);
        push.blob(source, repository, mount_from, before)
    }

    /// Stores a manifest or index under the reference's digest if it has one, under its tag otherwise.
    ///
    /// # Errors
    /// Any [`ErrorKind`](crate::ErrorKind); `Corrupt` when the registry says it stored something else, `Refused` when
    /// it misses a blob or does not like the document.
    pub fn push_manifest(
        &self,
        reference: &Reference,
        media_type: &MediaType,
        bytes: &[u8],
    ) -> Result<Descriptor, RegistryError> {
        let what = format!("manifest {}", reference.selector());
        Push::new(&self.core, &self.runtime, reference, &[], &what, &())
            .manifest(reference, media_type, bytes)
    }

    /// All tags of a repository, in the registry's order; `None` when the repository does not exist.
    ///
    /// # Errors
    /// As [`Client::resolve`].
    pub fn list_tags(&self, repository: &Reference) -> Result<Option<Vec<String>>, RegistryError> {
        self.runtime.block_on("list tags", self.core.list_tags(repository))
    }

    /// Deletes a manifest by digest, or a tag where the registry supports that; `false` when it was not there.
    ///
    /// # Errors
    /// As [`Client::resolve`]; `Refused` where the registry does not delete.
    pub fn delete_manifest(&self, reference: &Reference) -> Result<bool, RegistryError> {
        let operation = format!("delete manifest {reference}");
        let endpoint = self.core.origin(reference);
        let scopes = Scopes::one(&endpoint.repository, Access::Delete);
        let target = Target::Path(format!("manifests/{}", reference.selector()));
        let call = Call::new(&operation, &endpoint, &scopes, Method::DELETE, target, &[200, 202, 204, 404]);
        Ok(self.runtime.block_on(&operation, self.core.request(&call))?.status != 404)
    }
}
