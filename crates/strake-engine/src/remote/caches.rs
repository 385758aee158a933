//! Caches that are kept as one thing: what `--cache-from` names is read, what `--cache-to` names is written.
//!
//! Such a cache is an OCI index of images of steps, the last one of each stage: in a registry under one tag, or as an
//! image layout in a directory. The image of a build itself can carry its records too (`type=inline`); then it is a
//! cache of the steps that it consists of.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use strake_graph::Step;
use strake_oci::{Descriptor, DiffId, Digest, ImageIndex, MediaType, ParsedManifest, Reference};
use strake_registry::RegistryError;
use strake_store::LayerBlob;

use super::document::{ANNOTATION, CacheDocument};
use super::{Remote, name};
use crate::cache::{LocalCache, Selected};
use crate::error::StepError;
use crate::event::Event;
use crate::export;
use crate::image::{self, Archive, Described, ImageError, Sent};
use crate::signature::Signature;

/// The annotation of an index that tells what copies selected, as JSON pairs.
const SELECTIONS: &str = "dev.strake.selections";

/// The most images that one cache is read for. A build has one for each stage.
const MAX_IMAGES: usize = 256;

/// A cache as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CachePlace {
    /// Under a tag in a registry.
    Registry(Reference),
    /// An OCI image layout in a directory.
    Directory(PathBuf),
}

/// A cache to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheTarget {
    /// Where to.
    pub place: CachePlace,
    /// What of the build.
    pub content: CacheContent,
    /// Whether a cache that cannot be written fails the build.
    pub on_error: OnError,
}

/// What of a build goes into a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheContent {
    /// The steps that the result consists of (`mode=min`).
    Result,
    /// All steps of all stages (`mode=max`).
    All,
}

/// What becomes of a build whose cache cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// It fails.
    Fail,
    /// It warns.
    Warn,
}

/// A step whose image goes into a cache.
pub(crate) struct Tip<'s> {
    pub(crate) step: &'s Step,
    pub(crate) signature: Signature,
}

/// Gets a document of a cache, with its media type; nothing when it is gone.
type Fetch<'a> = dyn Fn(&Descriptor) -> Result<Option<Document>, StepError> + 'a;

/// Takes over what an image says that was signed with this key.
type Keep<'a> = dyn Fn(CacheDocument, &[(DiffId, LayerBlob)], Option<String>) -> Result<(), StepError> + 'a;

type Document = (Vec<u8>, MediaType);

impl std::fmt::Display for CachePlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Registry(reference) => f.write_str(&reference.familiar()),
            Self::Directory(path) => write!(f, "{}", path.display()),
        }
    }
}

impl Remote<'_> {
    /// Records what the caches hold that the build was told of. Only the first call does anything. A cache that cannot
    /// be read is told of, and is as good as empty.
    ///
    /// # Errors
    /// When the build was stopped.
    pub(crate) fn read_caches(&self) -> Result<(), StepError> {
        let mut is_read = self.caches_read.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if std::mem::replace(&mut *is_read, true) {
            return Ok(());
        }
        for place in &self.request.sharing.from {
            let read = match place {
                CachePlace::Registry(reference) => self.read_registry(reference),
                CachePlace::Directory(path) => self.read_directory(path),
            };
            match read {
                Ok(true) => {}
                Ok(false) => self.phase(format!("there is no cache in {place} yet")),
                Err(error) if error.is_cancelled() => return Err(error),
                Err(error) => self.warn(format!("read the cache {place}: {error}; it is passed over")),
            }
        }
        Ok(())
    }

    fn read_registry(&self, reference: &Reference) -> Result<bool, StepError> {
        let registry = &self.hurried;
        let image = |error: RegistryError| StepError::from(ImageError::from(error));
        let Some(raw) = registry.resolve(reference).map_err(image)? else { return Ok(false) };
        let fetch = |descriptor: &Descriptor| {
            let found = registry.resolve(&reference.with_digest(descriptor.digest)).map_err(image)?;
            Ok(found.map(|raw| (raw.bytes, raw.descriptor.media_type)))
        };
        let keep = |document: CacheDocument, layers: &[(DiffId, LayerBlob)], signed_by| {
            Ok(self.record(Some(reference), None, document, layers, signed_by)?)
        };
        self.read(&reference.familiar(), (raw.bytes, raw.descriptor.media_type), &fetch, &keep)?;
        Ok(true)
    }

    fn read_directory(&self, path: &Path) -> Result<bool, StepError> {
        if !path.join("index.json").is_file() {
            return Ok(false);
        }
        let archive = Archive::open(self.environment, path)?;
        let bytes = archive.read("index.json", ParsedManifest::MAX_SIZE as u64)?;
        let fetch = |descriptor: &Descriptor| {
            let bytes =
                archive.read(&export::blob_name(descriptor.digest), ParsedManifest::MAX_SIZE as u64)?;
            match Digest::of(&bytes) == descriptor.digest {
                true => Ok(Some((bytes, descriptor.media_type.clone()))),
                false => Err(corrupt(path, descriptor.digest).into()),
            }
        };
        let keep = |document: CacheDocument, layers: &[(DiffId, LayerBlob)], signed_by| {
            for (_, blob) in layers {
                self.take_blob(&archive, blob)?;
            }
            Ok(self.record(None, None, document, layers, signed_by)?)
        };
        self.read(&path.display().to_string(), (bytes, MediaType::OCI_INDEX.into()), &fetch, &keep)?;
        Ok(true)
    }

    /// Copies a blob of a layout into the store, checked.
    fn take_blob(&self, archive: &Archive, blob: &LayerBlob) -> Result<(), StepError> {
        let blobs = self.environment.store.blobs();
        if blobs.has(&blob.digest)? {
            return Ok(());
        }
        let name = export::blob_name(blob.digest);
        let mut writer = blobs.writer()?;
        io::copy(&mut archive.file(&name)?, &mut writer)
            .map_err(|error| ImageError::malformed(archive.what(), format!("file {name}: {error}")))?;
        writer.commit(Some(blob.digest))?;
        Ok(())
    }

    /// Reads an index of images, or a single one.
    fn read(
        &self,
        what: &str,
        (bytes, media_type): Document,
        fetch: &Fetch<'_>,
        keep: &Keep<'_>,
    ) -> Result<(), StepError> {
        let malformed =
            |error: strake_oci::ManifestError| StepError::from(ImageError::malformed(what, error));
        let index = match ParsedManifest::parse(&bytes, Some(media_type.as_str())).map_err(malformed)? {
            ParsedManifest::Index(index) => index,
            ParsedManifest::Image(manifest) => {
                let found = CacheDocument::of_image(&manifest, self.request.epoch);
                let signed_by =
                    self.trust(manifest.as_ref()).map_err(|why| ImageError::malformed(what, why))?;
                let (document, layers) = found.map_err(|why| ImageError::malformed(what, why))?;
                return keep(document, &layers, signed_by);
            }
        };
        let signed_by = self.trust(&index).map_err(|why| ImageError::malformed(what, why))?;
        if let Some(text) = index.annotations.get(SELECTIONS)
            && let Ok(selections) = serde_json::from_str::<Vec<(Digest, Digest)>>(text)
        {
            let told = |digest| Selected { digest, told_by: Some(signed_by.clone()) };
            let selections = selections.into_iter().map(|(key, digest)| (key, told(digest)));
            self.state().selections.extend(selections);
        }
        for descriptor in index.manifests.iter().take(MAX_IMAGES) {
            let Some((bytes, media_type)) = fetch(descriptor)? else { continue };
            let parsed = ParsedManifest::parse(&bytes, Some(media_type.as_str())).map_err(malformed)?;
            let ParsedManifest::Image(manifest) = parsed else { continue };
            // Other images may stand beside ours.
            let signed_by = match self.trust(manifest.as_ref()) {
                Ok(signed_by) => signed_by,
                Err(why) => return Err(ImageError::malformed(what, why).into()),
            };
            match CacheDocument::of_image(&manifest, self.request.epoch) {
                Ok((document, layers)) => keep(document, &layers, signed_by)?,
                Err(why) => tracing::debug!("{what}: {}: {why}", descriptor.digest.short()),
            }
        }
        Ok(())
    }

    /// Writes a cache of finished steps.
    ///
    /// # Errors
    /// When it cannot be written, unless it was said that this is no reason to fail.
    pub(crate) fn write_cache(
        &self,
        target: &CacheTarget,
        tips: &[Tip<'_>],
        selections: &[(Digest, Digest)],
    ) -> Result<(), StepError> {
        self.phase(format!("writing the cache {}", target.place));
        let written = match &target.place {
            CachePlace::Registry(reference) => self.write_registry(reference, tips, selections),
            CachePlace::Directory(path) => self.write_directory(path, tips, selections),
        };
        match written {
            Err(error) if target.on_error == OnError::Warn && !error.is_cancelled() => {
                self.warn(format!("write the cache {}: {error}", target.place));
                Ok(())
            }
            other => other,
        }
    }

    fn write_registry(
        &self,
        reference: &Reference,
        tips: &[Tip<'_>],
        selections: &[(Digest, Digest)],
    ) -> Result<(), StepError> {
        let registry = self.environment.registry;
        let mut manifests = Vec::new();
        for tip in tips {
            let pushed = self.tip(tip, |described| {
                let sent = Sent { layers: self.known_layers(reference), config: None };
                let compression = self.request.sharing.compression;
                let pushed = image::push_untagged(self.environment, reference, described, compression, sent)?;
                self.note_layers(reference, &pushed.layers);
                Ok(pushed.manifest)
            })?;
            manifests.push(Descriptor { platform: Some(tip.step.platform.clone()), ..pushed });
        }
        let mut index = index(manifests, selections);
        self.sign(&mut index);
        let media_type = MediaType::from(MediaType::OCI_INDEX);
        registry.push_manifest(reference, &media_type, &index.to_bytes()).map_err(ImageError::from)?;
        tracing::debug!("wrote a cache of {} stages to {}", tips.len(), name(reference));
        Ok(())
    }

    fn write_directory(
        &self,
        path: &Path,
        tips: &[Tip<'_>],
        selections: &[(Digest, Digest)],
    ) -> Result<(), StepError> {
        let layout = export::Layout::create(path)?;
        let mut manifests = Vec::new();
        for tip in tips {
            let compression = self.request.sharing.compression;
            let manifest = self.tip(tip, |described| layout.add(self.environment, described, compression))?;
            manifests.push(Descriptor { platform: Some(tip.step.platform.clone()), ..manifest });
        }
        let mut index = index(manifests, selections);
        self.sign(&mut index);
        Ok(layout.finish(&index)?)
    }

    /// Does something with the image of a recorded step.
    fn tip<T>(
        &self,
        tip: &Tip<'_>,
        work: impl FnOnce(&Described<'_>) -> Result<T, ImageError>,
    ) -> Result<T, StepError> {
        let cache = LocalCache::new(self.environment.store.index());
        let record = cache.find(tip.signature)?.ok_or(StepError::Pruned)?;
        self.with_described(tip.step, tip.signature, &record, |described| Ok(work(described)?))
    }

    /// What the image of a finished build carries to be a cache of its own steps.
    pub(crate) fn inline(&self, signature: Signature) -> Result<BTreeMap<String, String>, StepError> {
        let cache = LocalCache::new(self.environment.store.index());
        let Some(record) = cache.find(signature)? else { return Ok(BTreeMap::new()) };
        let layers = image::describe_layers(self.environment, &record.layers, self.request.epoch)?;
        let document = self.document(signature, &record, &layers)?;
        Ok(BTreeMap::from([(ANNOTATION.to_owned(), document.to_annotation())]))
    }

    fn phase(&self, text: String) {
        (self.environment.events)(Event::Phase(text));
    }
}

fn index(manifests: Vec<Descriptor>, selections: &[(Digest, Digest)]) -> ImageIndex {
    let mut index = ImageIndex::oci(manifests);
    if !selections.is_empty() {
        let text = serde_json::to_string(selections).expect("digests are text");
        index.annotations.insert(SELECTIONS.to_owned(), text);
    }
    index
}

fn corrupt(path: &Path, digest: Digest) -> ImageError {
    ImageError::malformed(path.display().to_string(), format!("blob {} is damaged", digest.short()))
}
