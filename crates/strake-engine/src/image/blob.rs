//! Blobs of layers in the store, made when nothing else will do.

use std::io;

use strake_oci::Compression;
use strake_store::LayerBlob;

use super::content;
use super::error::ImageError;
use super::push::find_local;
use super::record::{self, ImageLayer};
use super::stream;
use crate::event::TransferKind;
use crate::request::Environment;

/// Makes sure that the store has a blob of a layer in this compression.
pub(crate) fn store_layer(
    env: &Environment<'_>,
    layer: &ImageLayer,
    compression: Compression,
) -> Result<LayerBlob, ImageError> {
    if let Some(blob) = find_local(env, layer, Some(compression))? {
        return Ok(blob);
    }
    let what = || format!("layer {}", layer.diff_id.0.short());
    content::with_tar(env, TransferKind::Export, layer.diff_id, Some(layer), |tar| {
        let (writer, outcome) = stream::make_into(env.store.blobs().writer()?, compression, |compressor| {
            io::copy(tar, compressor).map(drop)
        })
        .map_err(|error| ImageError::malformed(what(), error))?;
        writer.commit(Some(outcome.digest))?;
        let blob = content::blob_of(&outcome, compression);
        record::put_blob(env.store, layer.diff_id, &blob)?;
        Ok(blob)
    })
}
