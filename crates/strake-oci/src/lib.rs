//! Values of the OCI image and distribution specifications: digests, descriptors, manifests,
//! configurations, platforms and references.
//!
//! Nothing here does I/O. Everything that crosses to disk or wire in an OCI format is written by
//! the types of this crate, so that two parts of the program can never disagree on the bytes.

mod chain;
mod config;
mod descriptor;
mod digest;
mod manifest;
mod media_type;
mod platform;
mod reference;
mod text;

pub use chain::ChainId;
pub use config::{ContainerConfig, EmptyObject, HealthConfig, HistoryEntry, ImageConfig, RootFs, RootFsType};
pub use descriptor::Descriptor;
pub use digest::{DiffId, Digest, DigestError, Hasher, ImageId};
pub use manifest::{ImageIndex, ImageManifest, ManifestError, ParsedManifest};
pub use media_type::{Compression, MediaType};
pub use platform::{Platform, PlatformError};
pub use reference::{Reference, ReferenceError};
pub use text::one_line;
