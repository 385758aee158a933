use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::SystemTime;

use crate::signing::SigningKey;
use strake_oci::{Compression, Descriptor, ImageConfig, ImageId, Platform, Reference};

/// What a name stands for.
#[derive(Debug, Clone)]
pub struct ResolvedImage {
    /// The name it was asked for by.
    pub reference: Reference,
    /// The digest of the configuration.
    pub id: ImageId,
    /// The configuration.
    pub config: ImageConfig,
    /// The manifest it was pulled by, if it was pulled or loaded.
    pub manifest: Option<Descriptor>,
}

/// When the registry is asked for an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PullPolicy {
    /// When there is no local image of the name for the platform.
    #[default]
    Missing,
    /// Always (`--pull`), so that a tag that moved is noticed.
    Always,
    /// Never.
    Never,
}

/// How to push.
#[derive(Debug, Clone)]
pub struct PushOptions {
    /// How layers that have no blob yet are compressed.
    pub compression: Compression,
    /// Annotations of the manifest.
    pub annotations: BTreeMap<String, String>,
    /// What the manifest is signed with; one that somebody else signed, or nobody, is written anew.
    pub signing_key: Option<SigningKey>,
    /// The tag was just seen to stand for nothing, and is not asked for again.
    pub is_tag_free: bool,
}

impl Default for PushOptions {
    fn default() -> Self {
        Self {
            compression: Compression::Gzip,
            annotations: BTreeMap::new(),
            signing_key: None,
            is_tag_free: false,
        }
    }
}

/// An image that is in its registry now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushedImage {
    /// Its manifest.
    pub descriptor: Descriptor,
    /// How the content came there.
    pub statistics: PushStatistics,
}

/// How content came into a repository. Bytes are those of the blobs, as compressed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PushStatistics {
    /// Blobs that were there.
    pub existed: u64,
    /// Blobs that the registry took from another of its repositories.
    pub mounted: u64,
    /// Blobs that were sent.
    pub uploaded: u64,
    /// Bytes that were sent.
    pub uploaded_bytes: u64,
}

/// An image found in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalImage {
    /// Its id.
    pub id: ImageId,
    /// The name it was found by, unless it was found by id.
    pub reference: Option<Reference>,
}

/// What [`remove`](super::remove) did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed {
    /// Names that no longer exist.
    pub untagged: Vec<String>,
    /// The image, when it had no other name.
    pub deleted: Option<ImageId>,
}

/// One row of `strake images`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSummary {
    /// Its id.
    pub id: ImageId,
    /// Its names in their short form, sorted; there may be none.
    pub names: Vec<String>,
    /// The digest of the manifest it was pulled by, if it was.
    pub manifest: Option<Descriptor>,
    /// When it was made, as its configuration says (RFC 3339).
    pub created: Option<String>,
    /// What it runs on.
    pub platform: Platform,
    /// The bytes of its layers: as files where unpacked, otherwise as blobs; `None` where neither is known.
    pub size: Option<u64>,
    /// How many layers it has.
    pub layers: usize,
    /// How many of them are unpacked.
    pub unpacked: usize,
}

/// One row of `strake history`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryRow {
    /// The image's id, on the topmost row only.
    pub id: Option<ImageId>,
    /// When, RFC 3339.
    pub created: Option<String>,
    /// The instruction.
    pub created_by: String,
    /// Bytes of the layer; zero for entries without one, `None` if not known yet.
    pub size: Option<u64>,
    /// A remark.
    pub comment: String,
}

/// What an imported image is like.
#[derive(Debug, Clone)]
pub struct ImportOptions {
    /// What to call it.
    pub names: Vec<Reference>,
    /// What it runs on.
    pub platform: Platform,
    /// When it was made.
    pub created: SystemTime,
    /// The remark in its history: where it came from.
    pub comment: String,
    /// How containers of it run.
    pub config: strake_oci::ContainerConfig,
}

/// An image that an archive held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Its id.
    pub id: ImageId,
    /// The names that the archive gave it; there may be none.
    pub names: Vec<Reference>,
}

/// Which kind of archive to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ArchiveFormat {
    /// What `docker load` reads.
    #[default]
    Docker,
    /// An OCI image layout (image-spec v1.1 `image-layout.md`) as a tar.
    Oci,
}

/// How a stage becomes an image.
#[derive(Debug, Clone, Copy)]
pub struct CommitOptions {
    /// The creation time when there is no `source_date_epoch`.
    pub created: SystemTime,
    /// `SOURCE_DATE_EPOCH`: the creation time, and the latest time that a file of the layers built here may have.
    /// Seconds since 1970.
    pub source_date_epoch: Option<i64>,
}

/// Where a written archive goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dest {
    /// Standard output.
    Stdout,
    /// A file; it appears complete or not at all.
    File(PathBuf),
}
