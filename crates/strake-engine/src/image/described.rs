//! Sending an image that no name of this store stands for, such as that of a step.

use std::collections::BTreeMap;

use strake_oci::{Compression, Descriptor, DiffId, Digest, ImageManifest, MediaType, Reference};

use super::error::ImageError;
use super::push::{Job, resending, run_all};
use super::record::ImageLayer;
use super::there::There;
use crate::request::Environment;
use crate::signing::SigningKey;

/// An image, ready to be sent.
pub(crate) struct Described<'a> {
    /// Bottom first.
    pub(crate) layers: &'a [ImageLayer],
    /// The bytes of its configuration.
    pub(crate) config: &'a [u8],
    /// The annotations of its manifest.
    pub(crate) annotations: &'a BTreeMap<String, String>,
    /// What its manifest is signed with.
    pub(crate) signing_key: Option<&'a SigningKey>,
}

impl Described<'_> {
    /// The manifest that names these blobs.
    pub(crate) fn manifest(&self, config: Descriptor, layers: Vec<Descriptor>) -> ImageManifest {
        let mut manifest = ImageManifest::oci(config, layers);
        manifest.annotations.clone_from(self.annotations);
        if let Some(key) = self.signing_key {
            key.sign(&mut manifest);
        }
        manifest
    }
}

/// Blobs of an image that are in its repository.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    pub(crate) layers: BTreeMap<DiffId, Descriptor>,
    pub(crate) config: Option<Descriptor>,
}

/// What a described image became.
pub(crate) struct PushedDescribed {
    pub(crate) manifest: Descriptor,
    /// The blobs of its layers.
    pub(crate) layers: BTreeMap<DiffId, Descriptor>,
}

/// Sends the configuration of an image and those of its layers that are `wanted` before its manifest may follow.
///
/// # Errors
/// When the content of a layer cannot be had, or the registry refuses.
pub(crate) fn push_ahead(
    env: &Environment<'_>,
    repository: &Reference,
    image: &Described<'_>,
    compression: Compression,
    wanted: impl Fn(&DiffId) -> bool,
) -> Result<Sent, ImageError> {
    let config = Descriptor::of(MediaType::OCI_CONFIG, image.config);
    let layers: Vec<&ImageLayer> = image.layers.iter().filter(|layer| wanted(&layer.diff_id)).collect();
    let mut jobs: Vec<Job<'_>> = layers.iter().map(|layer| Job::Layer(layer, None)).collect();
    jobs.push(Job::Config(image.config, &config));
    let pushed = run_all(env, repository, compression, &jobs, &There::default())?;
    let descriptors = pushed.into_iter().map(|blob| blob.descriptor);
    let layers = layers.into_iter().map(|layer| layer.diff_id).zip(descriptors).collect();
    Ok(Sent { layers, config: Some(config) })
}

/// Sends an image to the repository of a name, where only its digest stands for it. Of what is said to be `sent`
/// nothing is asked.
///
/// # Errors
/// As [`push_described`].
pub(crate) fn push_untagged(
    env: &Environment<'_>,
    repository: &Reference,
    image: &Described<'_>,
    compression: Compression,
    sent: Sent,
) -> Result<PushedDescribed, ImageError> {
    push_as(env, repository, image, compression, sent, |digest| repository.with_digest(digest))
}

/// Sends an image to a repository. Of what is said to be `sent` nothing is asked.
///
/// # Errors
/// When the content of a layer cannot be had, or the registry refuses.
pub(crate) fn push_described(
    env: &Environment<'_>,
    reference: &Reference,
    image: &Described<'_>,
    compression: Compression,
    sent: Sent,
) -> Result<PushedDescribed, ImageError> {
    push_as(env, reference, image, compression, sent, |_| reference.clone())
}

fn push_as(
    env: &Environment<'_>,
    reference: &Reference,
    image: &Described<'_>,
    compression: Compression,
    sent: Sent,
    name: impl Fn(Digest) -> Reference,
) -> Result<PushedDescribed, ImageError> {
    let mut believed = Some(sent);
    resending(|_| {
        // What was said to be there may be what is missing.
        let sent = believed.take().unwrap_or_default();
        push_once(env, reference, image, compression, sent, &name)
    })
}

fn push_once(
    env: &Environment<'_>,
    reference: &Reference,
    image: &Described<'_>,
    compression: Compression,
    mut sent: Sent,
    name: &impl Fn(Digest) -> Reference,
) -> Result<PushedDescribed, ImageError> {
    let is_whole = image.layers.iter().all(|layer| sent.layers.contains_key(&layer.diff_id));
    let config = match sent.config.filter(|_| is_whole) {
        Some(config) => config,
        None => {
            let known = &sent.layers;
            let is_unknown = |diff_id: &DiffId| !known.contains_key(diff_id);
            let more = push_ahead(env, reference, image, compression, is_unknown)?;
            sent.layers.extend(more.layers);
            more.config.expect("a configuration is sent with the layers")
        }
    };
    let descriptor = |layer: &ImageLayer| sent.layers[&layer.diff_id].clone();
    let manifest = image.manifest(config, image.layers.iter().map(descriptor).collect());
    let media_type = MediaType::from(MediaType::OCI_MANIFEST);
    let bytes = manifest.to_bytes();
    let descriptor = env.registry.push_manifest(&name(Digest::of(&bytes)), &media_type, &bytes)?;
    Ok(PushedDescribed { manifest: Descriptor { media_type, ..descriptor }, layers: sent.layers })
}
