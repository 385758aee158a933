//! What an image in a registry says of the steps that made it.
//!
//! A step is published as an image of its whole stack. An annotation of the manifest holds a [`CacheDocument`]: for
//! each layer its diff ID and content, and the records of the step and of those below it. So one manifest is enough to
//! know all of a stage, and no layer has to be fetched for that. Whoever reads it believes the records as far as its
//! writers are trusted; the bytes of the layers are checked against their diff IDs when something stands on them.

use serde::{Deserialize, Serialize};
use strake_oci::{DiffId, Digest, ImageManifest};
use strake_store::LayerBlob;

use crate::signature::{Part, Signature};

/// The annotation of a manifest that holds a [`CacheDocument`] as JSON.
pub(crate) const ANNOTATION: &str = "dev.strake.cache";

/// The largest document that is written as an annotation, in bytes. Registries must take manifests of 4 MiB; the
/// records of a hundred steps have some fifty KiB.
const MAX_ANNOTATION: usize = 1 << 20;

const VERSION: u32 = 1;

/// What is known of the layers of a manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct CacheDocument {
    version: u32,
    /// One for each layer of the manifest, in its order.
    pub(crate) layers: Vec<SharedLayer>,
    /// The step that the image is the result of, then those below it, nearest first.
    pub(crate) steps: Vec<SharedStep>,
    /// The latest time in the layers that steps made, when that was limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) epoch: Option<i64>,
}

/// A layer as its maker knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SharedLayer {
    pub(crate) diff_id: DiffId,
    /// Its content without times, when a step made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) content: Option<Digest>,
}

/// The record of a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SharedStep {
    pub(crate) signature: Signature,
    pub(crate) canonical: Signature,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) base: Option<Signature>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) below: Option<Signature>,
    /// Its stack: how many of the layers, from the bottom.
    pub(crate) depth: usize,
    /// What its signature is made of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) parts: Vec<Part>,
    /// Seconds since the Unix epoch.
    pub(crate) built: u64,
    pub(crate) millis: u64,
}

/// Why an image is not what it was looked up as.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    #[error("it does not say what step it is the result of")]
    Silent,
    #[error("what it says of itself cannot be read: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error("it was written by a newer strake (version {0} of its records)")]
    Version(u32),
    #[error("it says that it is the result of step {0}")]
    Other(Signature),
    #[error("its signature does not follow from the parts it names")]
    Parts,
    #[error("its records name {said} layers, but it has {has}")]
    Layers { said: usize, has: usize },
    #[error("a layer of the kind `{0}` cannot be unpacked")]
    Kind(String),
    #[error("its times are limited to {0:?}")]
    Epoch(Option<i64>),
}

impl CacheDocument {
    pub(crate) fn new(layers: Vec<SharedLayer>, steps: Vec<SharedStep>, epoch: Option<i64>) -> Self {
        Self { version: VERSION, layers, steps, epoch }
    }

    /// As an annotation; without the steps below where they would make it too large.
    pub(crate) fn to_annotation(&self) -> String {
        let whole = serde_json::to_string(self).expect("a document has only string keys");
        if whole.len() <= MAX_ANNOTATION {
            return whole;
        }
        let mut short = self.clone();
        short.steps.truncate(1);
        for step in &mut short.steps {
            step.parts.clear();
        }
        serde_json::to_string(&short).expect("a document has only string keys")
    }

    /// Reads what a manifest says, and checks that it fits the manifest and speaks of the step that was asked for.
    ///
    /// # Errors
    /// When it is not the result of the step, or not to be used.
    pub(crate) fn of_manifest(
        manifest: &ImageManifest,
        wanted: Signature,
        epoch: Option<i64>,
    ) -> Result<(Self, Vec<(DiffId, LayerBlob)>), Unusable> {
        let (document, layers) = Self::of_image(manifest, epoch)?;
        match document.steps.first() {
            Some(own) if own.signature != wanted => Err(Unusable::Other(own.signature)),
            _ => Ok((document, layers)),
        }
    }

    /// Reads what an image says of the steps that made it, whatever they are.
    ///
    /// # Errors
    /// When it says nothing, or nothing that fits.
    pub(crate) fn of_image(
        manifest: &ImageManifest,
        epoch: Option<i64>,
    ) -> Result<(Self, Vec<(DiffId, LayerBlob)>), Unusable> {
        let text = manifest.annotations.get(ANNOTATION).ok_or(Unusable::Silent)?;
        let document: Self = serde_json::from_str(text)?;
        document.check(manifest, epoch)?;
        let layers = document.layers.iter().zip(&manifest.layers);
        let layers = layers.map(|(said, layer)| {
            let kind = || Unusable::Kind(layer.media_type.to_string());
            let compression = layer.media_type.layer_compression().ok_or_else(kind)?;
            Ok((said.diff_id, LayerBlob { digest: layer.digest, size: layer.size, compression }))
        });
        let layers = layers.collect::<Result<_, Unusable>>()?;
        Ok((document, layers))
    }

    fn check(&self, manifest: &ImageManifest, epoch: Option<i64>) -> Result<(), Unusable> {
        if self.version != VERSION {
            return Err(Unusable::Version(self.version));
        }
        if self.steps.is_empty() {
            return Err(Unusable::Silent);
        }
        let is_made_up =
            |step: &SharedStep| !step.parts.is_empty() && Signature::of(&step.parts) != step.signature;
        if self.steps.iter().any(is_made_up) {
            return Err(Unusable::Parts);
        }
        let has = manifest.layers.len();
        if self.layers.len() != has || has > ImageManifest::MAX_LAYERS {
            return Err(Unusable::Layers { said: self.layers.len(), has });
        }
        // The step's own layer is the last one; every step below ends further down.
        let mut above = has + 1;
        for step in &self.steps {
            if step.depth == 0 || step.depth >= above || (above > has && step.depth != has) {
                return Err(Unusable::Layers { said: step.depth, has });
            }
            above = step.depth;
        }
        if self.epoch != epoch {
            return Err(Unusable::Epoch(self.epoch));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use strake_oci::{Descriptor, MediaType};

    use super::*;

    fn layer(content: &[u8]) -> Descriptor {
        Descriptor::of(MediaType::OCI_LAYER_GZIP, content)
    }

    fn step(parts: &[Part], depth: usize) -> SharedStep {
        let signature = Signature::of(parts);
        SharedStep {
            signature,
            canonical: signature,
            base: None,
            below: None,
            depth,
            parts: parts.to_vec(),
            built: 7,
            millis: 8,
        }
    }

    fn document() -> (CacheDocument, ImageManifest) {
        let shared = |text: &[u8]| SharedLayer { diff_id: DiffId(Digest::of(text)), content: None };
        let parts = [Part::new("kind", "run")];
        let below = [Part::new("kind", "copy")];
        let document = CacheDocument::new(
            vec![shared(b"1"), shared(b"2")],
            vec![step(&parts, 2), step(&below, 1)],
            None,
        );
        let config = Descriptor::of(MediaType::OCI_CONFIG, b"{}");
        let mut manifest = ImageManifest::oci(config, vec![layer(b"one"), layer(b"two")]);
        manifest.annotations.insert(ANNOTATION.to_owned(), document.to_annotation());
        (document, manifest)
    }

    /// Reads the document after `change`.
    fn read(change: impl FnOnce(&mut CacheDocument, &mut ImageManifest)) -> Result<CacheDocument, Unusable> {
        let (mut document, mut manifest) = document();
        let wanted = document.steps[0].signature;
        change(&mut document, &mut manifest);
        manifest.annotations.insert(ANNOTATION.to_owned(), document.to_annotation());
        CacheDocument::of_manifest(&manifest, wanted, None).map(|(document, _)| document)
    }

    #[test]
    fn what_was_written_is_read() {
        let (document, manifest) = document();
        let (read, layers) =
            CacheDocument::of_manifest(&manifest, document.steps[0].signature, None).unwrap();
        assert_eq!(read, document);
        assert_eq!(layers[1].1.digest, manifest.layers[1].digest);
    }

    #[test]
    fn another_step_is_refused() {
        let (_, manifest) = document();
        let other = Signature::of(&[Part::new("kind", "other")]);
        let refused = CacheDocument::of_manifest(&manifest, other, None);
        assert!(matches!(refused, Err(Unusable::Other(_))));
        assert!(matches!(read(|document, _| document.steps[0].parts[0].value += "x"), Err(Unusable::Parts)));
    }

    #[test]
    fn what_does_not_fit_the_manifest_is_refused() {
        assert!(read(|_, _| ()).is_ok());
        for broken in [
            read(|_, manifest| manifest.layers.truncate(1)),
            read(|document, _| document.layers.truncate(1)),
            read(|document, _| document.steps[0].depth = 1),
            read(|document, _| document.steps[1].depth = 2),
            read(|document, _| document.steps[1].depth = 0),
            read(|document, _| document.steps[0].depth = 3),
        ] {
            assert!(matches!(broken, Err(Unusable::Layers { .. })), "{broken:?}");
        }
        assert!(matches!(read(|document, _| document.steps.clear()), Err(Unusable::Silent)));
        assert!(matches!(read(|document, _| document.version = 2), Err(Unusable::Version(2))));
        assert!(matches!(read(|document, _| document.epoch = Some(1)), Err(Unusable::Epoch(Some(1)))));
        let kind = read(|_, manifest| manifest.layers[0].media_type = "text/plain".into());
        assert!(matches!(kind, Err(Unusable::Kind(_))), "{kind:?}");
    }

    #[test]
    fn a_document_that_is_too_large_says_only_the_least() {
        let (mut document, _) = document();
        document.steps[1].parts = vec![Part::new("kind", "x".repeat(MAX_ANNOTATION))];
        let short: CacheDocument = serde_json::from_str(&document.to_annotation()).unwrap();
        assert_eq!((short.steps.len(), short.layers.len()), (1, 2));
    }
}
