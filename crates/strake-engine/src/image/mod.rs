//! Images: where they come from, how the store knows them, how they leave.
//!
//! An image is a document in the store's index. It holds the digest of the configuration (which *is* the image's
//! id) and names each layer by diff ID and by layer directory. Nothing says that those directories exist: an image
//! that was pulled is known as soon as manifest and configuration are here, and each layer is fetched when
//! something must stand on it, or never. Names are documents of their own, each the root of what it keeps alive.
//!
//! ```text
//! name "docker.io/library/debian:12" ──► image <id> ──► chain sha256-<ChainId> (diff ID, what is below)
//!      └► manifest blob, as pulled          └► config blob      └► blob-at "<digest> <repository>"
//! ```
//!
//! The content of a layer can be had from three places, in this order: a blob in the store, the layer's directory
//! (written as a tar again, and for the same bytes because that is deterministic), a repository that is known to
//! have a blob of it. Whatever the place, what arrives is checked against the diff ID.

mod error;
mod types;

use std::io::Read;
use std::path::Path;
use std::time::SystemTime;

use strake_oci::{ImageId, Platform, Reference};
use strake_store::LayerId;

use crate::request::{Environment, StageOutput};

pub use error::{ImageError, ImageErrorKind};
pub use types::{
    ArchiveFormat, CommitOptions, Dest, HistoryRow, ImageSummary, ImportOptions, Loaded, LocalImage,
    PullPolicy, PushOptions, PushStatistics, PushedImage, Removed, ResolvedImage,
};

fn unfinished<T>() -> Result<T, ImageError> {
    Err(ImageError::Usage("this part of strake is still being written".to_owned()))
}

/// Finds out what a name stands for on a platform: a local name first, unless `policy` says otherwise, then the
/// registry (its mirrors before it). Of a registry's image only manifest and configuration are fetched.
///
/// # Errors
/// When there is no such image, none for the platform, or its documents are not to be trusted.
pub fn resolve(
    _env: &Environment<'_>,
    _reference: &Reference,
    _platform: &Platform,
    _policy: PullPolicy,
) -> Result<ResolvedImage, ImageError> {
    unfinished()
}

/// The layers of an image, bottom first, without making sure that they are unpacked.
///
/// # Errors
/// When there is no such image.
pub fn layers(_env: &Environment<'_>, _id: ImageId) -> Result<Vec<LayerId>, ImageError> {
    unfinished()
}

/// Makes sure that all layers of an image are unpacked, and returns them, bottom first.
///
/// # Errors
/// As [`ensure_layers`].
pub fn materialise(env: &Environment<'_>, id: ImageId) -> Result<Vec<LayerId>, ImageError> {
    let layers = layers(env, id)?;
    ensure_layers(env, &layers)?;
    Ok(layers)
}

/// Makes sure that these layers, bottom first, are unpacked: fetches what is missing, several at once, each as one
/// stream from the registry into files. What another process is fetching already is awaited.
///
/// # Errors
/// When the content of a layer cannot be had, is not what its digest says, or cannot be written.
pub fn ensure_layers(_env: &Environment<'_>, _layers: &[LayerId]) -> Result<(), ImageError> {
    unfinished()
}

/// Gets an image from its registry, layers included, and gives it the name it was asked for by.
///
/// # Errors
/// As [`resolve`] and [`ensure_layers`].
pub fn pull(
    env: &Environment<'_>,
    reference: &Reference,
    platform: &Platform,
) -> Result<ResolvedImage, ImageError> {
    let resolved = resolve(env, reference, platform, PullPolicy::Always)?;
    materialise(env, resolved.id)?;
    Ok(resolved)
}

/// Sends the image of a local name to the registry of that name. What the registry has is not sent again; an image
/// that was pulled keeps its manifest and so its digest.
///
/// # Errors
/// When there is no such image, the content of a layer cannot be had, or the registry refuses.
pub fn push(
    _env: &Environment<'_>,
    _reference: &Reference,
    _options: &PushOptions,
) -> Result<PushedImage, ImageError> {
    unfinished()
}

/// Finds a local image by what was typed: a name, an id with or without `sha256:`, or at least four digits that
/// begin an id.
///
/// # Errors
/// When there is none, or the digits fit several.
pub fn find(_env: &Environment<'_>, _text: &str) -> Result<LocalImage, ImageError> {
    unfinished()
}

/// Gives an image another name. Whatever had that name loses it.
///
/// # Errors
/// When there is no image `source`, or `target` has a digest.
pub fn tag(_env: &Environment<'_>, _source: &str, _target: &Reference) -> Result<(), ImageError> {
    unfinished()
}

/// Takes a name from an image, or with an id all names; an image without names is removed. Layers go with the next
/// prune.
///
/// # Errors
/// When there is no such image, or an id has several names and `force` was not given.
pub fn remove(_env: &Environment<'_>, _text: &str, _force: Force) -> Result<Removed, ImageError> {
    unfinished()
}

/// Whether to do what is probably not meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Force {
    /// Do.
    Yes,
    /// Refuse.
    No,
}

/// All images, newest first.
///
/// # Errors
/// When the index cannot be read.
pub fn list(_env: &Environment<'_>) -> Result<Vec<ImageSummary>, ImageError> {
    unfinished()
}

/// What is known of an image, in the shape of `docker image inspect`: one object.
///
/// # Errors
/// When there is no such image.
pub fn inspect(_env: &Environment<'_>, _text: &str) -> Result<serde_json::Value, ImageError> {
    unfinished()
}

/// What made each layer, newest first.
///
/// # Errors
/// When there is no such image.
pub fn history(_env: &Environment<'_>, _text: &str) -> Result<Vec<HistoryRow>, ImageError> {
    unfinished()
}

/// Makes an image of one layer from the tar of a file system, compressed or not.
///
/// # Errors
/// When it is no tar, is hostile, or cannot be stored.
pub fn import(
    _env: &Environment<'_>,
    _tar: impl Read + Send,
    _options: &ImportOptions,
) -> Result<ImageId, ImageError> {
    unfinished()
}

/// Loads every image of an archive: an OCI layout (a directory, or a tar) or a docker archive, compressed or not.
///
/// # Errors
/// When it is neither, is damaged or hostile, or cannot be stored. Nothing is named then.
pub fn load(_env: &Environment<'_>, _path: &Path) -> Result<Vec<Loaded>, ImageError> {
    unfinished()
}

/// As [`load`], from a stream such as standard input.
///
/// # Errors
/// As [`load`].
pub fn load_stream(_env: &Environment<'_>, _archive: impl Read + Send) -> Result<Vec<Loaded>, ImageError> {
    unfinished()
}

/// Makes an image of a finished stage and names it. The diff IDs that are not known are computed; no blob is
/// written.
///
/// # Errors
/// When a layer is gone, history and layers do not fit each other, or the store cannot be written.
pub fn commit_stage(
    _env: &Environment<'_>,
    _stage: &StageOutput,
    _names: &[Reference],
    _options: &CommitOptions,
) -> Result<ImageId, ImageError> {
    unfinished()
}

/// The time as images state it: RFC 3339 in UTC.
pub fn rfc3339(_time: SystemTime) -> String {
    String::new()
}
