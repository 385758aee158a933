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

mod archive;
mod blob;
mod commit;
pub(crate) mod content;
mod described;
mod error;
mod import;
mod load;
mod materialise;
mod names;
mod origin;
mod push;
pub(crate) mod record;
mod remote;
pub(crate) mod resolve;
mod stream;
mod there;
mod transfer;
mod types;

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use strake_oci::{DiffId, Digest, ImageConfig, ImageId, Platform, Reference};
use strake_store::LayerId;

use crate::request::{Environment, StageOutput};
use crate::signing::TrustedKey;

pub use error::{ImageError, ImageErrorKind};
pub use origin::Origin;
pub use remote::RemoteImage;
pub use types::{
    ArchiveFormat, CommitOptions, Dest, HistoryRow, ImageSummary, ImportOptions, Loaded, LocalImage,
    PullPolicy, PushOptions, PushStatistics, PushedImage, Removed, ResolvedImage,
};

pub(crate) use archive::Archive;
pub(crate) use blob::store_layer;
pub(crate) use commit::{describe_layers, known_diff_ids};
pub(crate) use described::{Described, Sent, push_ahead, push_described, push_untagged};
pub(crate) use load::{FULL_NAME, REF_NAME};
pub(crate) use materialise::{Unmade, ensure_layers as try_layers};
pub(crate) use names::load as load_record;
pub(crate) use push::SharedReader;
pub(crate) use record::ImageLayer;
pub(crate) use stream::{LayerStream, TarSource};
pub(crate) use transfer::Transfer;

/// Finds out what a name stands for on a platform: a local name first, unless `policy` says otherwise, then the
/// registry (its mirrors before it). Of a registry's image only manifest and configuration are fetched.
///
/// # Errors
/// When there is no such image, none for the platform, or its documents are not to be trusted.
pub fn resolve(
    env: &Environment<'_>,
    reference: &Reference,
    platform: &Platform,
    policy: PullPolicy,
) -> Result<ResolvedImage, ImageError> {
    resolve::resolve(env, reference, platform, policy)
}

/// Looks at an image in a registry: manifest and configuration, no layer. `None` when there is none. Nothing is kept.
///
/// # Errors
/// When the registry does not answer, there is none for the platform, or its documents are not to be trusted.
pub fn peek(
    env: &Environment<'_>,
    reference: &Reference,
    platform: &Platform,
) -> Result<Option<RemoteImage>, ImageError> {
    remote::peek(env, reference, platform)
}

/// Takes an image over that was looked at, under these names. Its layers stay where they are until one is needed.
///
/// # Errors
/// When the store cannot be written.
pub fn adopt(
    env: &Environment<'_>,
    found: &RemoteImage,
    names: &[Reference],
) -> Result<ResolvedImage, ImageError> {
    remote::adopt(env, found, names)
}

/// What vouches for an image that has this name: what was noted when it was made, or the seal of the manifest that it
/// was fetched with. `None` when nobody is known to, or nobody of those who are trusted. Without keys all are who were
/// noted.
///
/// # Errors
/// When the store cannot be read.
pub fn origin(
    env: &Environment<'_>,
    name: &Reference,
    id: ImageId,
    trusted: &[TrustedKey],
) -> Result<Option<Origin>, ImageError> {
    origin::find(env, name, id, trusted)
}

/// Notes what an image that was made here rests on.
///
/// # Errors
/// When the store cannot be written.
pub fn put_origin(env: &Environment<'_>, id: ImageId, origin: &Origin) -> Result<(), ImageError> {
    origin::put(env.store, id, origin)
}

/// Marks an image as used just now, so that a collection running beside keeps it. Answers whether it is still there.
pub(crate) fn touch(env: &Environment<'_>, id: ImageId, layers: &[LayerId]) -> Result<bool, ImageError> {
    Ok(record::touch(env.store, id, layers)?)
}

/// The layers of an image, bottom first, without making sure that they are unpacked.
///
/// # Errors
/// When there is no such image.
pub fn layers(env: &Environment<'_>, id: ImageId) -> Result<Vec<LayerId>, ImageError> {
    let record = record::image(env.store, id)?.ok_or_else(|| ImageError::unknown(&id.0.short()))?;
    Ok(record.layers.into_iter().map(|layer| layer.layer).collect())
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

/// The diff IDs that the layers of an image have in one that is made of them with this `SOURCE_DATE_EPOCH`; nothing when
/// they were never found out, so that there is no such image.
///
/// # Errors
/// When there is no such image, or the store cannot be read.
pub fn diff_ids_with(
    env: &Environment<'_>,
    id: ImageId,
    epoch: Option<i64>,
) -> Result<Option<Vec<DiffId>>, ImageError> {
    known_diff_ids(env, &layers(env, id)?, epoch)
}

/// The blobs of an image's layers that are needed and that neither the store nor a repository that is known to have had
/// them has now. A repository that does not answer is not counted among those that have one.
///
/// # Errors
/// When there is no such image, or the store cannot be read.
pub fn lost_blobs(env: &Environment<'_>, id: ImageId) -> Result<BTreeSet<Digest>, ImageError> {
    content::lost_blobs(env, id)
}

/// Whether a blob is in the store, or in a repository that is known to have had it.
///
/// # Errors
/// When the store cannot be read. A repository that does not answer does not have it.
pub fn is_anywhere(env: &Environment<'_>, digest: Digest) -> Result<bool, ImageError> {
    content::is_anywhere(env, digest)
}

/// Makes sure that these layers, bottom first, are unpacked: fetches what is missing, several at once, each as one
/// stream from the registry into files. What another process is fetching already is awaited.
///
/// # Errors
/// When the content of a layer cannot be had, is not what its digest says, or cannot be written.
pub fn ensure_layers(env: &Environment<'_>, layers: &[LayerId]) -> Result<(), ImageError> {
    materialise::ensure_layers(env, layers).map_err(|unmade| unmade.error)
}

/// Gets an image from its registry, layers included, and gives it the name it was asked for by. If the layers cannot
/// be had, the name stands for what it stood for before.
///
/// # Errors
/// As [`resolve`] and [`ensure_layers`].
pub fn pull(
    env: &Environment<'_>,
    reference: &Reference,
    platform: &Platform,
) -> Result<ResolvedImage, ImageError> {
    let before = record::name_record(env.store, reference)?;
    let resolved = resolve(env, reference, platform, PullPolicy::Always)?;
    match materialise(env, resolved.id) {
        Ok(_) => Ok(resolved),
        Err(error) => {
            names::give_back(env, reference, resolved.id, before.as_ref())?;
            Err(error)
        }
    }
}

/// Sends the image of a local name to the registry of that name. What the registry has is not sent again; an image
/// that was pulled keeps its manifest and so its digest.
///
/// # Errors
/// When there is no such image, the content of a layer cannot be had, or the registry refuses.
pub fn push(
    env: &Environment<'_>,
    reference: &Reference,
    options: &PushOptions,
) -> Result<PushedImage, ImageError> {
    push::push(env, reference, options)
}

/// Sends the image of the local name `source` to a registry as `target`, which does not become a local name.
///
/// # Errors
/// As [`push`].
pub fn push_as(
    env: &Environment<'_>,
    source: &Reference,
    target: &Reference,
    options: &PushOptions,
) -> Result<PushedImage, ImageError> {
    push::push_named(env, source, target, options)
}

/// Finds a local image by what was typed: a name, an id with or without `sha256:`, or at least four digits that
/// begin an id.
///
/// # Errors
/// When there is none, or the digits fit several.
pub fn find(env: &Environment<'_>, text: &str) -> Result<LocalImage, ImageError> {
    names::find(env, text)
}

/// Gives an image another name. Whatever had that name loses it.
///
/// # Errors
/// When there is no image `source`, or `target` has a digest.
pub fn tag(env: &Environment<'_>, source: &str, target: &Reference) -> Result<(), ImageError> {
    names::tag(env, source, target)
}

/// Takes a name from an image, or with an id all names; an image without names is removed. Layers go with the next
/// prune.
///
/// # Errors
/// When there is no such image, or an id has several names and `force` was not given.
pub fn remove(env: &Environment<'_>, text: &str, force: Force) -> Result<Removed, ImageError> {
    names::remove(env, text, force)
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
pub fn list(env: &Environment<'_>) -> Result<Vec<ImageSummary>, ImageError> {
    names::list(env)
}

/// What is known of an image, in the shape of `docker image inspect`: one object.
///
/// # Errors
/// When there is no such image.
pub fn inspect(env: &Environment<'_>, text: &str) -> Result<serde_json::Value, ImageError> {
    names::inspect(env, text)
}

/// The configuration of an image.
///
/// # Errors
/// When there is no such image.
pub fn config(env: &Environment<'_>, id: ImageId) -> Result<ImageConfig, ImageError> {
    Ok(record::config(env.store, id)?.0)
}

/// What made each layer, newest first.
///
/// # Errors
/// When there is no such image.
pub fn history(env: &Environment<'_>, text: &str) -> Result<Vec<HistoryRow>, ImageError> {
    names::history(env, text)
}

/// Makes an image of one layer from the tar of a file system, compressed or not.
///
/// # Errors
/// When it is no tar, is hostile, or cannot be stored.
pub fn import(
    env: &Environment<'_>,
    tar: impl Read + Send,
    options: &ImportOptions,
) -> Result<ImageId, ImageError> {
    import::import(env, tar, options)
}

/// Loads every image of an archive: an OCI layout (a directory, or a tar) or a docker archive, compressed or not.
///
/// # Errors
/// When it is neither, is damaged or hostile, or cannot be stored. Nothing is named then.
pub fn load(env: &Environment<'_>, path: &Path) -> Result<Vec<Loaded>, ImageError> {
    load::load(env, &archive::Archive::open(env, path)?)
}

/// As [`load`], from a stream such as standard input.
///
/// # Errors
/// As [`load`].
pub fn load_stream(env: &Environment<'_>, archive: impl Read + Send) -> Result<Vec<Loaded>, ImageError> {
    load::load(env, &archive::Archive::spool(env, "the archive".to_owned(), archive)?)
}

/// Makes an image of a finished stage and names it. The diff IDs that are not known are computed; no blob is
/// written.
///
/// # Errors
/// When a layer is gone, history and layers do not fit each other, or the store cannot be written.
pub fn commit_stage(
    env: &Environment<'_>,
    stage: &StageOutput,
    names: &[Reference],
    options: &CommitOptions,
) -> Result<ImageId, ImageError> {
    commit::commit_stage(env, stage, names, options)
}

/// The time as images state it: RFC 3339 in UTC.
pub fn rfc3339(time: SystemTime) -> String {
    crate::clock::rfc3339(time.duration_since(UNIX_EPOCH).unwrap_or_default())
}
