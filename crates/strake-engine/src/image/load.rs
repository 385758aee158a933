//! Images from archives.

use std::io;

use serde::Deserialize;
use strake_oci::{
    Compression, Descriptor, DiffId, Digest, ImageIndex, ImageManifest, ParsedManifest, Platform, Reference,
};
use strake_store::LayerBlob;

use super::archive::Archive;
use super::error::ImageError;
use super::import::open_compressed;
use super::record::{self, ImageRecord, MAX_CONFIG, NewImage};
use super::types::Loaded;
use super::{resolve, stream};
use crate::event::{Event, TransferKind};
use crate::image::transfer::Transfer;
use crate::request::Environment;

/// The annotation with the full name of an image in a layout, as docker and containerd write it.
pub(crate) const FULL_NAME: &str = "io.containerd.image.name";
/// The annotation with the tag of an image in a layout (image-spec v1.1 `annotations.md`).
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";

const MAX_MANIFEST: u64 = ParsedManifest::MAX_SIZE as u64;

pub(crate) fn load(env: &Environment<'_>, archive: &Archive) -> Result<Vec<Loaded>, ImageError> {
    let pending = if archive.has("index.json") && archive.has("oci-layout") {
        read_layout(env, archive)?
    } else if archive.has("manifest.json") {
        read_docker(env, archive)?
    } else {
        let problem = "it has neither index.json (OCI layout) nor manifest.json (docker archive); \
                       a plain file system is read by `strake import`";
        return Err(ImageError::malformed(archive.what(), problem));
    };
    if pending.is_empty() {
        return Err(ImageError::malformed(archive.what(), "it holds no image"));
    }
    // Unpacked before anything has a name: unpacking is what checks the content.
    for image in &pending {
        let layers: Vec<_> = image.record.layers.iter().map(|layer| layer.layer.clone()).collect();
        record::put_image(env.store, &image.as_new(&[]))?;
        super::ensure_layers(env, &layers)?;
    }
    pending
        .iter()
        .map(|image| {
            let id = record::put_image(env.store, &image.as_new(&image.names))?;
            Ok(Loaded { id, names: image.names.clone() })
        })
        .collect()
}

/// An image of the archive whose blobs are in the store.
struct Pending {
    config: Vec<u8>,
    record: ImageRecord,
    manifest: Option<(Descriptor, Vec<u8>)>,
    names: Vec<Reference>,
}

impl Pending {
    fn as_new<'a>(&'a self, names: &'a [Reference]) -> NewImage<'a> {
        NewImage {
            config: &self.config,
            record: self.record.clone(),
            manifest: self
                .manifest
                .as_ref()
                .map(|(descriptor, bytes)| (descriptor.clone(), bytes.as_slice())),
            answered: None,
            names,
        }
    }
}

fn read_layout(env: &Environment<'_>, archive: &Archive) -> Result<Vec<Pending>, ImageError> {
    let bytes = archive.read("index.json", MAX_MANIFEST)?;
    let what = format!("{}: index.json", archive.what());
    let index: ImageIndex =
        serde_json::from_slice(&bytes).map_err(|error| ImageError::malformed(what, error))?;
    index.manifests.iter().map(|entry| read_layout_image(env, archive, entry)).collect()
}

fn read_layout_image(
    env: &Environment<'_>,
    archive: &Archive,
    entry: &Descriptor,
) -> Result<Pending, ImageError> {
    let (descriptor, bytes, manifest) = layout_manifest(archive, entry)?;
    let what = format!("{}: manifest {}", archive.what(), descriptor.digest.short());
    if !manifest.config.media_type.is_config() {
        let problem = format!("it is an artifact ({}), not an image", manifest.config.media_type);
        return Err(ImageError::malformed(what, problem));
    }
    let config_bytes = layout_bytes(archive, &manifest.config, MAX_CONFIG)?;
    let config = record::parse_config(&config_bytes, &what)?;
    resolve::check_layers(&manifest, &config, &what)?;
    for (layer, diff_id) in manifest.layers.iter().zip(&config.rootfs.diff_ids) {
        copy_blob(env, archive, layer, *diff_id)?;
    }
    Ok(Pending {
        config: config_bytes,
        record: ImageRecord::of_chain(&config.rootfs.diff_ids),
        manifest: Some((descriptor, bytes)),
        names: layout_names(env, entry),
    })
}

/// The manifest behind an entry, by way of an index when the entry is for several platforms.
fn layout_manifest(
    archive: &Archive,
    entry: &Descriptor,
) -> Result<(Descriptor, Vec<u8>, ImageManifest), ImageError> {
    let what = |digest: Digest| format!("{}: manifest {}", archive.what(), digest.short());
    let mut descriptor = entry.clone();
    for _ in 0..3 {
        let bytes = layout_bytes(archive, &descriptor, MAX_MANIFEST)?;
        let parsed = ParsedManifest::parse(&bytes, Some(descriptor.media_type.as_str()))
            .map_err(|error| ImageError::malformed(what(descriptor.digest), error))?;
        match parsed {
            ParsedManifest::Image(manifest) => {
                let plain =
                    Descriptor::new(descriptor.media_type.as_str(), descriptor.digest, bytes.len() as u64);
                return Ok((plain, bytes, *manifest));
            }
            ParsedManifest::Index(index) => {
                let host = Platform::host();
                let chosen = resolve::choose_entry(&index, &host).ok_or_else(|| {
                    ImageError::malformed(what(descriptor.digest), format!("no image for {host} in it"))
                })?;
                descriptor = chosen.clone();
            }
        }
    }
    Err(ImageError::malformed(what(entry.digest), "too many indexes one in another"))
}

fn layout_names(env: &Environment<'_>, entry: &Descriptor) -> Vec<Reference> {
    let full = entry.annotations.get(FULL_NAME);
    // A bare tag names no repository; such an image is loaded without a name.
    let named = full.or_else(|| entry.annotations.get(REF_NAME).filter(|name| name.contains(['/', ':'])));
    parse_names(env, named.into_iter())
}

fn parse_names<'a>(env: &Environment<'_>, names: impl Iterator<Item = &'a String>) -> Vec<Reference> {
    let mut parsed = Vec::new();
    for name in names {
        match name.parse::<Reference>() {
            Ok(reference) => parsed.push(reference),
            Err(error) => (env.events)(Event::Warning(format!("a name in the archive is left out: {error}"))),
        }
    }
    parsed
}

fn blob_name(digest: Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn layout_bytes(archive: &Archive, descriptor: &Descriptor, max: u64) -> Result<Vec<u8>, ImageError> {
    let name = blob_name(descriptor.digest);
    let bytes = archive.read(&name, max)?;
    let actual = Digest::of(&bytes);
    if actual != descriptor.digest {
        return Err(ImageError::malformed(archive.what(), format!("file {name} has the digest {actual}")));
    }
    Ok(bytes)
}

/// Brings the blob of a layer into the store, verified.
fn copy_blob(
    env: &Environment<'_>,
    archive: &Archive,
    layer: &Descriptor,
    diff_id: DiffId,
) -> Result<(), ImageError> {
    if !env.store.blobs().has(&layer.digest)? {
        let mut writer = env.store.blobs().writer()?;
        let name = blob_name(layer.digest);
        let transfer = Transfer::start(
            env,
            TransferKind::Import,
            format!("layer {}", layer.digest.short()),
            Some(layer.size),
        );
        let stop = std::sync::atomic::AtomicBool::new(false);
        let mut reader = transfer.reader(archive.file(&name)?, &stop);
        io::copy(&mut reader, &mut writer)
            .map_err(|error| ImageError::malformed(archive.what(), format!("file {name}: {error}")))?;
        writer.commit(Some(layer.digest))?;
    }
    let compression = layer.media_type.layer_compression().unwrap_or(Compression::None);
    let blob = LayerBlob { digest: layer.digest, size: layer.size, compression };
    Ok(record::put_claim(env.store, diff_id, &blob)?)
}

/// An entry of a docker archive's `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerEntry {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

fn read_docker(env: &Environment<'_>, archive: &Archive) -> Result<Vec<Pending>, ImageError> {
    let bytes = archive.read("manifest.json", MAX_MANIFEST)?;
    let what = format!("{}: manifest.json", archive.what());
    let entries: Vec<DockerEntry> =
        serde_json::from_slice(&bytes).map_err(|error| ImageError::malformed(what, error))?;
    entries.iter().map(|entry| read_docker_image(env, archive, entry)).collect()
}

fn read_docker_image(
    env: &Environment<'_>,
    archive: &Archive,
    entry: &DockerEntry,
) -> Result<Pending, ImageError> {
    let bytes = archive.read(&entry.config, MAX_CONFIG)?;
    let what = format!("{}: {}", archive.what(), entry.config);
    let config = record::parse_config(&bytes, &what)?;
    let layers = entry.layers.as_deref().unwrap_or_default();
    let diff_ids = &config.rootfs.diff_ids;
    if layers.len() != diff_ids.len() {
        let problem = format!("it has {} layers, but manifest.json names {}", diff_ids.len(), layers.len());
        return Err(ImageError::malformed(what, problem));
    }
    for (name, diff_id) in layers.iter().zip(diff_ids) {
        keep_layer(env, archive, name, *diff_id)?;
    }
    Ok(Pending {
        record: ImageRecord::of_chain(diff_ids),
        config: bytes,
        manifest: None,
        names: parse_names(env, entry.repo_tags.iter().flatten()),
    })
}

/// Keeps the tar of a layer as a blob. Its directory could not give the same bytes again, and without them the image
/// could never be saved or pushed as what it is. Zstandard costs the least time for what it saves.
fn keep_layer(
    env: &Environment<'_>,
    archive: &Archive,
    name: &str,
    diff_id: DiffId,
) -> Result<(), ImageError> {
    for blob in env.store.index().layer_blobs(diff_id)? {
        if env.store.blobs().has(&blob.digest)? {
            return Ok(());
        }
    }
    let failed = |error: io::Error| ImageError::malformed(archive.what(), format!("file {name}: {error}"));
    let transfer = Transfer::start(env, TransferKind::Import, format!("layer {}", diff_id.0.short()), None);
    let stop = std::sync::atomic::AtomicBool::new(false);
    let mut tar = open_compressed(transfer.reader(archive.file(name)?, &stop), archive.what())?;
    let writer = env.store.blobs().writer()?;
    let (writer, outcome) =
        stream::make_into(writer, Compression::Gzip, |compressor| io::copy(&mut tar, compressor).map(drop))
            .map_err(failed)?;
    if outcome.diff_id != diff_id {
        let problem = format!("file {name} is {}, but the configuration says {diff_id}", outcome.diff_id);
        return Err(ImageError::malformed(archive.what(), problem));
    }
    writer.commit(Some(outcome.digest))?;
    let blob = LayerBlob { digest: outcome.digest, size: outcome.size, compression: Compression::Gzip };
    Ok(record::put_blob(env.store, diff_id, &blob)?)
}
