use std::io;
use std::path::{Path, PathBuf};

use strake_oci::Digest;

use crate::{LayerId, TarError};

/// Why the store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file operation failed.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was being done, as a verb phrase.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The store was written by a strake with another layout.
    #[error(
        "store {}: layout version {found}, but this strake knows version {known} only; \
         use the strake that made it, or another store directory", root.display()
    )]
    Version {
        /// The store.
        root: PathBuf,
        /// The version that its version file names.
        found: String,
        /// The version that this program writes.
        known: u32,
    },
    /// The store belongs to the other kind of user: layers unpacked as root and in a user namespace differ.
    #[error(
        "store {}: made {found}, cannot be used {wanted}; its layers carry other attributes and owners: \
         choose another store directory", root.display()
    )]
    Flavour {
        /// The store.
        root: PathBuf,
        /// How the store was made.
        found: crate::Flavour,
        /// How it would be used now.
        wanted: crate::Flavour,
    },
    /// The index refused.
    #[error("{action} in the index: {source}")]
    Index {
        /// What was being done.
        action: &'static str,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The index is damaged; the next opening of the store sets it aside and rebuilds it.
    #[error("the index {} is damaged ({reason}); run the command again, it is then rebuilt", path.display())]
    IndexDamaged {
        /// The database file.
        path: PathBuf,
        /// What SQLite said.
        reason: String,
    },
    /// The blob is not in the store.
    #[error("blob {0} is not in the store")]
    NoBlob(Digest),
    /// Content does not have the digest it was promised to have.
    #[error("{what}: expected {expected}, but the bytes have {actual}")]
    Mismatch {
        /// Which content.
        what: String,
        /// What it should be.
        expected: Digest,
        /// What it is.
        actual: Digest,
    },
    /// The layer is not in the store.
    #[error("layer {0} is not in the store")]
    NoLayer(LayerId),
    /// More layers than one overlay mount can hold.
    #[error("{count} layers are too many for one mount (at most {limit}); squash some of them")]
    TooManyLayers {
        /// How many there are.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
    /// A layer could not be unpacked, or written as tar.
    #[error("{what}: {source}")]
    Tar {
        /// Which layer.
        what: String,
        /// What is wrong with it.
        source: TarError,
    },
}

impl StoreError {
    /// Wraps a failed operation on `path`, for `map_err`.
    pub(crate) fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::Io { action, path, source }
    }

    /// As [`StoreError::io`], for system calls made through `rustix`.
    pub(crate) fn sys(
        action: &'static str,
        path: impl AsRef<Path>,
    ) -> impl FnOnce(rustix::io::Errno) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::Io { action, path, source: source.into() }
    }
}
