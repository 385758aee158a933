use std::io;
use std::path::{Path, PathBuf};

use strake_oci::{Platform, Reference};
use strake_registry::{ErrorKind, RegistryError};
use strake_store::{StoreError, TarError};

use crate::lock::LockError;

/// Why something with an image did not work.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// No image of this name or id is in the store, and the registry has none either or was not to be asked.
    #[error("image {name}: not found {looked}; {hint}")]
    NotFound {
        /// What was asked for, as typed.
        name: String,
        /// Where it was looked for.
        looked: &'static str,
        /// What to do.
        hint: String,
    },
    /// An id that more than one image begins with.
    #[error("image id {prefix} is ambiguous: {} begin with it; give more digits", candidates.join(", "))]
    Ambiguous {
        /// What was typed.
        prefix: String,
        /// Some of the ids.
        candidates: Vec<String>,
    },
    /// The image exists, but not for this platform.
    #[error(
        "image {reference}: no variant for {wanted}, only {}; choose one of these with --platform",
        list(available)
    )]
    Platform {
        /// Which image.
        reference: String,
        /// What was needed.
        wanted: Box<Platform>,
        /// What there is.
        available: Vec<Platform>,
    },
    /// A manifest, configuration or archive is not what the specification allows.
    #[error("{what}: {problem}")]
    Malformed {
        /// Which document, and where it came from.
        what: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The request makes no sense as it stands.
    #[error("{0}")]
    Usage(String),
    /// The registry did not do what was asked.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The store did not do what was asked.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A layer's content is nowhere to be had.
    #[error(
        "layer {diff_id}: its content is neither in the store nor in a known repository ({tried}); pull or build the image again"
    )]
    LayerGone {
        /// The layer.
        diff_id: String,
        /// Where it was looked for.
        tried: String,
    },
    /// A file outside the store could not be read or written.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was being done, as a verb phrase.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A lock could not be taken.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The build was stopped.
    #[error("canceled")]
    Canceled,
}

/// What kind of failure an [`ImageError`] is, for exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageErrorKind {
    /// What was given is wrong: a name, a platform, an archive.
    Input,
    /// The machine or the registry is at fault.
    Environment,
    /// Somebody stopped it.
    Canceled,
}

impl ImageError {
    /// Whether the content of a layer may be what could not be had.
    pub fn is_lost_content(&self) -> bool {
        match self {
            Self::LayerGone { .. } => true,
            // What is passed on from one repository to another fails on the reading side.
            Self::Registry(error) => matches!(error.kind, ErrorKind::NotFound | ErrorKind::Local),
            _ => false,
        }
    }

    /// Whether a layer itself is gone or damaged. Otherwise whoever has it may only not have answered.
    pub(crate) fn is_bad_layer(&self) -> bool {
        match self {
            Self::Registry(error) => {
                use ErrorKind as Kind;
                matches!(error.kind, Kind::NotFound | Kind::Corrupt | Kind::Malformed | Kind::TooLarge)
            }
            other => other.is_about_content(),
        }
    }

    /// What kind of failure it is.
    pub fn kind(&self) -> ImageErrorKind {
        match self {
            Self::NotFound { .. }
            | Self::Ambiguous { .. }
            | Self::Platform { .. }
            | Self::Malformed { .. }
            | Self::Usage(_) => ImageErrorKind::Input,
            Self::Canceled => ImageErrorKind::Canceled,
            Self::Registry(error) if error.kind == ErrorKind::Cancelled => ImageErrorKind::Canceled,
            Self::Registry(_) | Self::Store(_) | Self::Lock(_) | Self::LayerGone { .. } | Self::Io { .. } => {
                ImageErrorKind::Environment
            }
        }
    }

    /// Whether the content of an image cannot be had, or is not what it should be. Otherwise the machine or the user is
    /// at fault, and another image would not help.
    pub fn is_about_content(&self) -> bool {
        match self {
            Self::LayerGone { .. } | Self::Malformed { .. } | Self::Platform { .. } => true,
            Self::Registry(error) => !matches!(error.kind, ErrorKind::Cancelled | ErrorKind::Local),
            Self::Store(StoreError::Tar { source, .. }) => !matches!(source, TarError::Io { .. }),
            Self::Store(error) => {
                matches!(error, StoreError::NoBlob(_) | StoreError::NoLayer(_) | StoreError::Mismatch { .. })
            }
            _ => false,
        }
    }

    pub(crate) fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::Io { action, path, source }
    }

    pub(crate) fn malformed(what: impl Into<String>, problem: impl ToString) -> Self {
        Self::Malformed { what: what.into(), problem: problem.to_string() }
    }

    pub(crate) fn unknown(name: &str) -> Self {
        Self::NotFound {
            name: name.to_owned(),
            looked: "in the local store",
            hint: "`strake images` lists what is there, `strake pull` gets it from its registry".to_owned(),
        }
    }

    pub(crate) fn unknown_anywhere(reference: &Reference) -> Self {
        Self::NotFound {
            name: reference.familiar(),
            looked: "in the local store nor in its registry",
            hint: format!("check the spelling, and that {} is the registry you mean", reference.registry()),
        }
    }
}

fn list(platforms: &[Platform]) -> String {
    let names: Vec<String> = platforms.iter().map(ToString::to_string).collect();
    names.join(", ")
}
