//! Where the content of a layer can be had, and having it.
//!
//! A layer that was *built* can be written as a tar again at any time, and always as the same one. A layer that came
//! *from elsewhere* cannot: its tar had an order and a form of its own, which its directory does not tell. Its bytes
//! must come from a blob.

use std::collections::BTreeSet;
use std::io::Read;
use std::sync::atomic::AtomicBool;

use strake_oci::{Compression, Descriptor, DiffId, Digest, ImageId, MediaType, Reference};
use strake_store::compress::decompress;
use strake_store::{LayerBlob, LayerId, StoreError};

use super::error::ImageError;
use super::record::{self, ImageLayer};
use super::stream::{LayerStream, Outcome, TarSource};
use super::transfer::Transfer;
use crate::event::TransferKind;
use crate::request::Environment;

/// One way to the content of a layer.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// A blob in the store.
    Blob(LayerBlob),
    /// The directory of a layer that was built here.
    Directory(TarSource),
    /// A blob in a repository.
    Remote { repository: Reference, blob: LayerBlob },
}

/// All known ways, best first.
pub(crate) fn sources(
    env: &Environment<'_>,
    diff_id: DiffId,
    built: Option<&ImageLayer>,
) -> Result<Vec<Source>, StoreError> {
    let blobs = blobs(env, diff_id)?;
    let mut sources = Vec::new();
    for blob in &blobs {
        if env.store.blobs().has(&blob.digest)? {
            sources.push(Source::Blob(blob.clone()));
        }
    }
    sources.extend(directory(env, diff_id, built)?.map(Source::Directory));
    for blob in &blobs {
        let places = record::places(env.store, blob.digest)?;
        sources
            .extend(places.into_iter().map(|repository| Source::Remote { repository, blob: blob.clone() }));
    }
    Ok(sources)
}

/// The directory that can be written as this very tar.
pub(crate) fn directory(
    env: &Environment<'_>,
    diff_id: DiffId,
    built: Option<&ImageLayer>,
) -> Result<Option<TarSource>, StoreError> {
    let source = |layer: &LayerId, clamp| TarSource { directory: env.store.layer_dir(layer), clamp };
    if let Some(layer) = built
        && is_built(&layer.layer)
        && env.store.index().layer(&layer.layer)?.is_some()
    {
        return Ok(Some(source(&layer.layer, layer.clamp)));
    }
    let layers = env.store.index().layer_by_diff_id(diff_id)?;
    Ok(layers.iter().find(|layer| is_built(layer)).map(|layer| source(layer, None)))
}

/// The blobs that may be named in a manifest as this layer, here or in repositories. What was seen to hold the layer
/// comes before what is only said to; where two manifests say different things, the content is fetched to find out.
pub(crate) fn trusted_blobs(env: &Environment<'_>, layer: &ImageLayer) -> Result<Vec<LayerBlob>, ImageError> {
    let seen = env.store.index().layer_blobs(layer.diff_id)?;
    if !seen.is_empty() {
        return Ok(seen);
    }
    let claims = record::claims(env.store, layer.diff_id)?;
    if claims.len() < 2 {
        return Ok(claims);
    }
    with_tar(env, TransferKind::Pull, layer.diff_id, Some(layer), |tar| {
        let copied = std::io::copy(tar, &mut std::io::sink());
        copied
            .map(drop)
            .map_err(|error| ImageError::malformed(format!("layer {}", layer.diff_id.0.short()), error))
    })?;
    Ok(env.store.index().layer_blobs(layer.diff_id)?)
}

/// Whether a layer was built here; those from elsewhere are named by their chain.
fn is_built(layer: &LayerId) -> bool {
    !layer.as_str().starts_with("sha256-")
}

/// The descriptor of a blob that holds a layer.
pub(crate) fn describe(blob: &LayerBlob) -> Descriptor {
    Descriptor::new(MediaType::oci_layer(blob.compression).as_str(), blob.digest, blob.size)
}

/// The blobs of layers of an image that are not unpacked, and not to be had.
pub(super) fn lost_blobs(env: &Environment<'_>, id: ImageId) -> Result<BTreeSet<Digest>, ImageError> {
    let mut lost = BTreeSet::new();
    for ImageLayer { layer, diff_id, .. } in
        record::image(env.store, id)?.iter().flat_map(|image| &image.layers)
    {
        if env.store.index().has_layer(layer)? {
            continue;
        }
        let blobs = blobs(env, *diff_id)?;
        let mut is_lost = true;
        for blob in &blobs {
            is_lost &= !is_anywhere(env, blob.digest)?;
        }
        if is_lost {
            lost.extend(blobs.iter().map(|blob| blob.digest));
        }
    }
    Ok(lost)
}

/// Whether a blob is in the store, or in a repository that is known to have had it.
pub(crate) fn is_anywhere(env: &Environment<'_>, digest: Digest) -> Result<bool, ImageError> {
    if env.store.blobs().has(&digest)? {
        return Ok(true);
    }
    let places = record::places(env.store, digest)?;
    Ok(places.iter().any(|repository| env.registry.has_blob(repository, digest).unwrap_or(false)))
}

/// The blobs that hold a layer, or are said to.
pub(crate) fn blobs(env: &Environment<'_>, diff_id: DiffId) -> Result<Vec<LayerBlob>, StoreError> {
    let mut blobs = env.store.index().layer_blobs(diff_id)?;
    for claim in record::claims(env.store, diff_id)? {
        if !blobs.iter().any(|blob| blob.digest == claim.digest) {
            blobs.push(claim);
        }
    }
    Ok(blobs)
}

/// Calls `use_it` with the content of a layer as stored somewhere, trying one source after the other. `use_it` must
/// fail unless the content is the layer's: the source is believed from then on.
pub(crate) fn with_source<T>(
    env: &Environment<'_>,
    kind: TransferKind,
    diff_id: DiffId,
    sources: &[Source],
    stop: &AtomicBool,
    mut use_it: impl FnMut(&mut (dyn Read + Send), Compression) -> Result<T, ImageError>,
) -> Result<T, ImageError> {
    let mut failure = None;
    for source in sources {
        match open_and_use(env, kind, diff_id, source, stop, &mut use_it) {
            Ok(value) => return Ok(value),
            Err(_) if env.cancellation.is_requested() => return Err(ImageError::Canceled),
            // The first error is the one of the best source.
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    Err(failure.unwrap_or_else(|| gone(diff_id)))
}

fn gone(diff_id: DiffId) -> ImageError {
    ImageError::LayerGone {
        diff_id: diff_id.0.short(),
        tried: "no repository is known to have it".to_owned(),
    }
}

fn open_and_use<T>(
    env: &Environment<'_>,
    kind: TransferKind,
    diff_id: DiffId,
    source: &Source,
    stop: &AtomicBool,
    use_it: &mut impl FnMut(&mut (dyn Read + Send), Compression) -> Result<T, ImageError>,
) -> Result<T, ImageError> {
    let what = |digest: Digest| format!("layer {}", digest.short());
    match source {
        Source::Blob(blob) => {
            let reader = env.store.blobs().open(&blob.digest)?;
            let transfer = Transfer::start(env, kind, what(blob.digest), Some(blob.size));
            let value = use_it(&mut transfer.reader(reader, stop), blob.compression)?;
            record::put_blob(env.store, diff_id, blob)?;
            Ok(value)
        }
        Source::Directory(tar) => {
            let transfer = Transfer::start(env, kind, what(diff_id.0), None);
            let mut stream = LayerStream::plain(tar.clone(), diff_id);
            use_it(&mut transfer.reader(&mut stream, stop), Compression::None)
        }
        Source::Remote { repository, blob } => {
            let reader = env.registry.open_blob(repository, &describe(blob))?;
            let transfer = Transfer::start(env, kind, what(blob.digest), Some(blob.size));
            let value = use_it(&mut transfer.reader(reader, stop), blob.compression)?;
            record::put_blob(env.store, diff_id, blob)?;
            Ok(value)
        }
    }
}

/// Calls `use_it` with the uncompressed tar of a layer; reading to its end fails unless it is that very tar.
pub(crate) fn with_tar<T>(
    env: &Environment<'_>,
    kind: TransferKind,
    diff_id: DiffId,
    built: Option<&ImageLayer>,
    mut use_it: impl FnMut(&mut (dyn Read + Send)) -> Result<T, ImageError>,
) -> Result<T, ImageError> {
    let sources = sources(env, diff_id, built)?;
    with_source(env, kind, diff_id, &sources, &AtomicBool::new(false), |reader, compression| {
        let tar = decompress(reader, compression)
            .map_err(|error| ImageError::malformed(format!("layer {}", diff_id.0.short()), error))?;
        use_it(&mut super::stream::Verified::new(tar, diff_id))
    })
}

/// What a finished stream turned out to be, as a blob.
pub(crate) fn blob_of(outcome: &Outcome, compression: Compression) -> LayerBlob {
    LayerBlob { digest: outcome.digest, size: outcome.size, compression }
}
