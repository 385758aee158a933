//! From a name to a configuration.

use strake_oci::{
    Descriptor, DiffId, ImageConfig, ImageId, ImageIndex, ImageManifest, ParsedManifest, Platform, Reference,
};
use strake_registry::RawManifest;
use strake_store::LayerBlob;

use super::error::ImageError;
use super::record::{self, MAX_CONFIG, NameRecord};
use super::remote;
use super::types::{PullPolicy, ResolvedImage};
use crate::request::Environment;

/// How many indexes may stand one in another. The specification allows nesting; nobody is known to go beyond one.
const MAX_NESTING: usize = 3;

pub(crate) fn resolve(
    env: &Environment<'_>,
    reference: &Reference,
    platform: &Platform,
    policy: PullPolicy,
) -> Result<ResolvedImage, ImageError> {
    if policy != PullPolicy::Always
        && let Some(found) = local(env, reference)?
    {
        let is_fit = platform.accepts(&found.config.platform());
        if is_fit {
            return Ok(found);
        }
        if policy == PullPolicy::Never {
            return Err(no_variant(reference, platform, vec![found.config.platform()]));
        }
    }
    if policy == PullPolicy::Never {
        return Err(ImageError::unknown(&reference.familiar()));
    }
    remote(env, reference, platform)
}

/// What a name stands for in the store, if it is complete there.
pub(crate) fn local(
    env: &Environment<'_>,
    reference: &Reference,
) -> Result<Option<ResolvedImage>, ImageError> {
    let Some(name) = local_name(env, reference)? else { return Ok(None) };
    if record::image(env.store, name.image)?.is_none() || !env.store.blobs().has(&name.image.0)? {
        return Ok(None);
    }
    let (config, _) = record::config(env.store, name.image)?;
    Ok(Some(ResolvedImage { reference: reference.clone(), id: name.image, config, manifest: name.manifest }))
}

/// The record of a name. A reference with a digest is also met by any name of the repository that has it.
pub(crate) fn local_name(
    env: &Environment<'_>,
    reference: &Reference,
) -> Result<Option<NameRecord>, ImageError> {
    if let Some(record) = record::name_record(env.store, reference)? {
        return Ok(Some(record));
    }
    let Some(digest) = reference.digest() else { return Ok(None) };
    let same_repository = |other: &Reference| {
        (other.registry(), other.repository()) == (reference.registry(), reference.repository())
    };
    let names = record::names(env.store)?.into_iter();
    Ok(names
        .filter(|(name, _)| same_repository(name))
        .find(|(_, record)| record.has_digest(digest))
        .map(|(_, record)| record))
}

fn remote(
    env: &Environment<'_>,
    reference: &Reference,
    platform: &Platform,
) -> Result<ResolvedImage, ImageError> {
    let found = remote::peek(env, reference, platform)?;
    let found = found.ok_or_else(|| ImageError::unknown_anywhere(reference))?;
    remote::adopt(env, &found, std::slice::from_ref(reference))
}

/// Follows indexes to the manifest of the platform.
pub(super) fn choose(
    env: &Environment<'_>,
    reference: &Reference,
    platform: &Platform,
    mut answer: RawManifest,
) -> Result<(RawManifest, ImageManifest), ImageError> {
    let what = || format!("manifest {}", reference.familiar());
    for _ in 0..=MAX_NESTING {
        let parsed = ParsedManifest::parse(&answer.bytes, Some(answer.descriptor.media_type.as_str()))
            .map_err(|error| ImageError::malformed(what(), error))?;
        let index = match parsed {
            ParsedManifest::Image(manifest) => return Ok((answer, *manifest)),
            ParsedManifest::Index(index) => index,
        };
        let entry =
            choose_entry(&index, platform).ok_or_else(|| no_variant(reference, platform, offered(&index)))?;
        let pinned = reference.with_digest(entry.digest);
        answer = env.registry.resolve(&pinned)?.ok_or_else(|| {
            ImageError::malformed(
                what(),
                format!("the index names {}, which its registry does not have", entry.digest),
            )
        })?;
    }
    Err(ImageError::malformed(what(), format!("more than {MAX_NESTING} indexes one in another")))
}

/// The first entry for the platform; an entry that does not say its platform only where none says it.
pub(crate) fn choose_entry<'a>(index: &'a ImageIndex, platform: &Platform) -> Option<&'a Descriptor> {
    let images = || index.manifests.iter().filter(|entry| is_image(entry));
    images()
        .find(|entry| entry.platform.as_ref().is_some_and(|offered| platform.accepts(offered)))
        .or_else(|| images().find(|entry| entry.platform.is_none()))
}

/// Attestations stand in an index like images, of an `unknown` platform.
fn is_image(entry: &Descriptor) -> bool {
    let is_unknown = entry.platform.as_ref().is_some_and(|platform| platform.architecture == "unknown");
    !is_unknown
        && !entry.annotations.contains_key("vnd.docker.reference.type")
        && (entry.media_type.is_manifest() || entry.media_type.is_index())
}

fn offered(index: &ImageIndex) -> Vec<Platform> {
    index
        .manifests
        .iter()
        .filter(|entry| is_image(entry))
        .filter_map(|entry| entry.platform.clone())
        .collect()
}

pub(super) fn no_variant(reference: &Reference, wanted: &Platform, available: Vec<Platform>) -> ImageError {
    ImageError::Platform { reference: reference.familiar(), wanted: Box::new(wanted.clone()), available }
}

pub(super) fn config_bytes(
    env: &Environment<'_>,
    reference: &Reference,
    config: &Descriptor,
) -> Result<Vec<u8>, ImageError> {
    let what = || format!("manifest {}", reference.familiar());
    if !config.media_type.is_config() {
        let problem = format!("it is an artifact ({}), not an image", config.media_type);
        return Err(ImageError::malformed(what(), problem));
    }
    if config.size > MAX_CONFIG {
        let problem = format!("its configuration of {} bytes is larger than {MAX_CONFIG}", config.size);
        return Err(ImageError::malformed(what(), problem));
    }
    if env.store.blobs().has(&config.digest)? {
        return Ok(env.store.blobs().read_verified(&config.digest, MAX_CONFIG)?);
    }
    let mut bytes = Vec::new();
    env.registry.fetch_blob(reference, config, &mut bytes, &())?;
    Ok(bytes)
}

/// Checks that manifest and configuration fit each other and that every layer is of a kind that can be unpacked.
pub(crate) fn check_layers(
    manifest: &ImageManifest,
    config: &ImageConfig,
    what: &str,
) -> Result<(), ImageError> {
    let (in_manifest, in_config) = (manifest.layers.len(), config.rootfs.diff_ids.len());
    if in_manifest != in_config {
        let problem = format!("it has {in_manifest} layers, but its configuration has {in_config}");
        return Err(ImageError::malformed(what, problem));
    }
    for layer in &manifest.layers {
        if layer.media_type.layer_compression().is_none() {
            let problem = format!(
                "layer {} is of the kind `{}`, which cannot be unpacked",
                layer.digest.short(),
                layer.media_type
            );
            return Err(ImageError::malformed(what, problem));
        }
    }
    Ok(())
}

/// Remembers where the layers can be had.
pub(crate) fn remember_blobs(
    env: &Environment<'_>,
    repository: &Reference,
    manifest: &ImageManifest,
    diff_ids: &[DiffId],
) -> Result<(), ImageError> {
    for (layer, diff_id) in manifest.layers.iter().zip(diff_ids) {
        if let Some(compression) = layer.media_type.layer_compression() {
            let blob = LayerBlob { digest: layer.digest, size: layer.size, compression };
            record::put_claim(env.store, *diff_id, &blob)?;
            record::put_place(env.store, repository, layer.digest)?;
        }
    }
    Ok(record::put_place(env.store, repository, manifest.config.digest)?)
}

/// The manifest that a name was pulled by, if its bytes are still here.
pub(crate) fn kept_manifest(
    env: &Environment<'_>,
    descriptor: Option<&Descriptor>,
    id: ImageId,
) -> Result<Option<(Descriptor, Vec<u8>, ImageManifest)>, ImageError> {
    let Some(descriptor) = descriptor else { return Ok(None) };
    if !env.store.blobs().has(&descriptor.digest)? {
        return Ok(None);
    }
    let bytes = env.store.blobs().read_verified(&descriptor.digest, ParsedManifest::MAX_SIZE as u64)?;
    match ParsedManifest::parse(&bytes, Some(descriptor.media_type.as_str())) {
        Ok(ParsedManifest::Image(manifest)) if manifest.config.digest == id.0 => {
            Ok(Some((descriptor.clone(), bytes, *manifest)))
        }
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use strake_oci::MediaType;

    use super::*;

    fn entry(platform: Option<&str>) -> Descriptor {
        let mut entry = Descriptor::of(MediaType::OCI_MANIFEST, platform.unwrap_or_default().as_bytes());
        entry.platform = platform.map(|platform| platform.parse().unwrap());
        entry
    }

    fn chosen(entries: &[Descriptor], platform: &str) -> Option<usize> {
        let index = ImageIndex::oci(entries.to_vec());
        let chosen = choose_entry(&index, &platform.parse().unwrap())?;
        entries.iter().position(|entry| entry == chosen)
    }

    #[test]
    fn the_entry_of_the_platform_is_chosen() {
        let entries = [entry(Some("linux/arm64")), entry(Some("linux/amd64"))];
        assert_eq!(chosen(&entries, "linux/amd64"), Some(1));
        assert_eq!(chosen(&entries, "linux/arm64/v8"), Some(0));
        assert_eq!(chosen(&entries, "linux/s390x"), None);
    }

    #[test]
    fn an_entry_that_says_nothing_is_the_last_resort() {
        let entries = [entry(None), entry(Some("linux/amd64"))];
        assert_eq!(chosen(&entries, "linux/amd64"), Some(1));
        assert_eq!(chosen(&entries, "linux/arm64"), Some(0));
    }

    #[test]
    fn attestations_are_no_images() {
        let mut attestation = entry(Some("linux/amd64"));
        attestation.annotations =
            BTreeMap::from([("vnd.docker.reference.type".to_owned(), "attestation-manifest".to_owned())]);
        assert_eq!(chosen(&[attestation], "linux/amd64"), None);
        assert_eq!(chosen(&[entry(Some("unknown/unknown"))], "unknown/unknown"), None);
    }
}
