use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Descriptor, MediaType};

/// The manifest of one image (image-spec v1.1 `manifest.md`, and docker's schema 2, which has the same shape).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageManifest {
    /// Always 2.
    pub schema_version: u32,
    /// The manifest's own media type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<MediaType>,
    /// The type of an artifact that is no image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The image configuration.
    pub config: Descriptor,
    /// The layers, bottom first.
    pub layers: Vec<Descriptor>,
    /// Another manifest that this one speaks about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Free key-value pairs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// Several manifests under one name (image-spec v1.1 `image-index.md`, and docker's manifest list).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageIndex {
    /// Always 2.
    pub schema_version: u32,
    /// The index's own media type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<MediaType>,
    /// The manifests, in order of preference.
    pub manifests: Vec<Descriptor>,
    /// Free key-value pairs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// Either kind of document that a name can stand for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParsedManifest {
    /// One image.
    Image(Box<ImageManifest>),
    /// A choice of images.
    Index(ImageIndex),
}

/// Why bytes are not a manifest that strake reads.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Larger than registries must accept.
    #[error("manifest of {0} bytes is larger than 4 MiB")]
    Large(usize),
    /// Not JSON, or not of this shape.
    #[error("malformed manifest: {0}")]
    Json(#[from] serde_json::Error),
    /// Schema 1 or an unknown future one.
    #[error("manifest schema version {0} is not supported, only 2 is")]
    Schema(u64),
    /// A media type that is neither manifest nor index.
    #[error("`{0}` is neither an image manifest nor an index")]
    MediaType(String),
    /// Both `layers` and `manifests`, or neither: what it is would depend on who reads it.
    #[error("document is ambiguous: exactly one of `layers` and `manifests` must be present")]
    Ambiguous,
    /// More layers than any kernel can stack.
    #[error("manifest has {0} layers, more than the 500 that can be stacked")]
    Layers(usize),
}

impl ImageManifest {
    /// The most layers that overlayfs stacks.
    pub const MAX_LAYERS: usize = 500;

    /// An OCI manifest.
    pub fn oci(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(MediaType::OCI_MANIFEST.into()),
            artifact_type: None,
            config,
            layers,
            subject: None,
            annotations: BTreeMap::new(),
        }
    }

    /// The bytes to store and send.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a manifest has only string keys")
    }
}

impl ImageIndex {
    /// An OCI index.
    pub fn oci(manifests: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(MediaType::OCI_INDEX.into()),
            manifests,
            annotations: BTreeMap::new(),
        }
    }

    /// The bytes to store and send.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("an index has only string keys")
    }
}

impl ParsedManifest {
    /// The largest document that is read, in bytes (distribution-spec v1.1 §Pushing Manifests).
    pub const MAX_SIZE: usize = 4 << 20;

    /// Reads a manifest or an index. `media_type` is what the transport said it is, if it said anything.
    ///
    /// # Errors
    /// When the document is too large, not JSON, of an unknown kind, or could be read as either kind (CVE-2021-41190).
    pub fn parse(bytes: &[u8], media_type: Option<&str>) -> Result<Self, ManifestError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Shape {
            schema_version: u64,
            media_type: Option<String>,
            layers: Option<serde::de::IgnoredAny>,
            manifests: Option<serde::de::IgnoredAny>,
        }
        if bytes.len() > Self::MAX_SIZE {
            return Err(ManifestError::Large(bytes.len()));
        }
        let shape: Shape = serde_json::from_slice(bytes)?;
        if shape.schema_version != 2 {
            return Err(ManifestError::Schema(shape.schema_version));
        }
        let is_index = match (shape.layers.is_some(), shape.manifests.is_some()) {
            (true, false) => false,
            (false, true) => true,
            _ => return Err(ManifestError::Ambiguous),
        };
        for claim in [shape.media_type.as_deref(), media_type].into_iter().flatten() {
            let claim = MediaType::from(claim);
            if !claim.is_index() && !claim.is_manifest() {
                return Err(ManifestError::MediaType(claim.0));
            }
            if claim.is_index() != is_index {
                return Err(ManifestError::Ambiguous);
            }
        }
        if is_index {
            return Ok(Self::Index(serde_json::from_slice(bytes)?));
        }
        let manifest: ImageManifest = serde_json::from_slice(bytes)?;
        if manifest.layers.len() > ImageManifest::MAX_LAYERS {
            return Err(ManifestError::Layers(manifest.layers.len()));
        }
        Ok(Self::Image(Box::new(manifest)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Digest;

    fn manifest() -> ImageManifest {
        ImageManifest::oci(Descriptor::of(MediaType::OCI_CONFIG, b"{}"), vec![])
    }

    #[test]
    fn reads_what_it_writes() {
        let bytes = manifest().to_bytes();
        assert_eq!(
            ParsedManifest::parse(&bytes, Some(MediaType::OCI_MANIFEST)).unwrap(),
            ParsedManifest::Image(Box::new(manifest()))
        );
        let index = ImageIndex::oci(vec![Descriptor::new(MediaType::OCI_MANIFEST, Digest::of(&bytes), 1)]);
        assert_eq!(ParsedManifest::parse(&index.to_bytes(), None).unwrap(), ParsedManifest::Index(index));
    }

    #[test]
    fn a_document_that_could_be_both_is_refused() {
        let both = br#"{"schemaVersion":2,"layers":[],"manifests":[],"config":{}}"#;
        assert!(matches!(ParsedManifest::parse(both, None), Err(ManifestError::Ambiguous)));
        let bytes = manifest().to_bytes();
        assert!(matches!(
            ParsedManifest::parse(&bytes, Some(MediaType::OCI_INDEX)),
            Err(ManifestError::Ambiguous)
        ));
        assert!(matches!(ParsedManifest::parse(&bytes, Some("text/html")), Err(ManifestError::MediaType(_))));
        let old = br#"{"schemaVersion":1,"fsLayers":[]}"#;
        assert!(matches!(ParsedManifest::parse(old, None), Err(ManifestError::Schema(1))));
    }
}
