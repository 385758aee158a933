//! Looking at an image in a registry, and taking it over.

use strake_oci::{Digest, ImageConfig, ImageManifest, Platform, Reference};
use strake_registry::RawManifest;

use super::error::ImageError;
use super::record::{self, ImageRecord, NewImage};
use super::resolve;
use super::types::ResolvedImage;
use crate::request::Environment;
use crate::signing::{self, TrustedKey};

/// An image in a registry: its manifest and its configuration. Nothing of it is kept in the store yet.
#[derive(Debug, Clone)]
pub struct RemoteImage {
    /// The configuration.
    pub config: ImageConfig,
    reference: Reference,
    /// What the registry answered to the name: the manifest, or the index that it was chosen from.
    answered: Digest,
    raw: RawManifest,
    manifest: ImageManifest,
    config_bytes: Vec<u8>,
}

impl RemoteImage {
    /// The digest of its manifest.
    pub fn digest(&self) -> Digest {
        self.raw.descriptor.digest
    }

    /// The digest that the tag stands for: of the manifest, or of the index that it was chosen from.
    pub fn answered(&self) -> Digest {
        self.answered
    }

    /// Why it is not from somebody who is trusted, if so. Without keys everybody is.
    pub fn distrust(&self, keys: &[TrustedKey]) -> Option<String> {
        if keys.is_empty() {
            return None;
        }
        signing::verify(keys, &self.manifest).err().map(|why| why.to_string())
    }

    /// The name it was asked for by.
    pub fn reference(&self) -> &Reference {
        &self.reference
    }
}

pub(crate) fn peek(
    env: &Environment<'_>,
    reference: &Reference,
    platform: &Platform,
) -> Result<Option<RemoteImage>, ImageError> {
    let Some(answer) = env.registry.resolve(reference)? else { return Ok(None) };
    let answered = answer.descriptor.digest;
    let (raw, manifest) = resolve::choose(env, reference, platform, answer)?;
    let config_bytes = resolve::config_bytes(env, reference, &manifest.config)?;
    let what = format!("configuration of {}", reference.familiar());
    let config = record::parse_config(&config_bytes, &what)?;
    resolve::check_layers(&manifest, &config, &format!("manifest {}", reference.familiar()))?;
    if !platform.accepts(&config.platform()) {
        return Err(resolve::no_variant(reference, platform, vec![config.platform()]));
    }
    Ok(Some(RemoteImage { config, reference: reference.clone(), answered, raw, manifest, config_bytes }))
}

pub(crate) fn adopt(
    env: &Environment<'_>,
    found: &RemoteImage,
    names: &[Reference],
) -> Result<ResolvedImage, ImageError> {
    let diff_ids = &found.config.rootfs.diff_ids;
    resolve::remember_blobs(env, &found.reference, &found.manifest, diff_ids)?;
    let id = record::put_image(
        env.store,
        &NewImage {
            config: &found.config_bytes,
            record: ImageRecord::of_chain(diff_ids),
            manifest: Some((found.raw.descriptor.clone(), &found.raw.bytes)),
            answered: Some(found.answered),
            names,
        },
    )?;
    Ok(ResolvedImage {
        reference: found.reference.clone(),
        id,
        config: found.config.clone(),
        manifest: Some(found.raw.descriptor.clone()),
    })
}
