use std::fmt;

use serde::{Deserialize, Serialize};

/// A media type as written in a descriptor (image-spec v1.1 `media-types.md`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MediaType(pub String);

/// How a layer blob is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// A plain tar.
    None,
    /// gzip (RFC 1952), possibly of several members.
    Gzip,
    /// Zstandard (RFC 8478).
    Zstd,
}

impl MediaType {
    /// `application/vnd.oci.image.index.v1+json`
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// `application/vnd.oci.image.manifest.v1+json`
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// `application/vnd.oci.image.config.v1+json`
    pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// `application/vnd.oci.image.layer.v1.tar`
    pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    /// `application/vnd.oci.image.layer.v1.tar+gzip`
    pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    /// `application/vnd.oci.image.layer.v1.tar+zstd`
    pub const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
    /// Docker's manifest list.
    pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// Docker's image manifest, schema 2.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker's image configuration.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// Docker's plain layer.
    pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
    /// Docker's gzip layer.
    pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    /// Docker's zstd layer.
    pub const DOCKER_LAYER_ZSTD: &str = "application/vnd.docker.image.rootfs.diff.tar.zstd";

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is an image index or a manifest list.
    pub fn is_index(&self) -> bool {
        matches!(self.as_str(), Self::OCI_INDEX | Self::DOCKER_INDEX)
    }

    /// Whether this is the manifest of one image.
    pub fn is_manifest(&self) -> bool {
        matches!(self.as_str(), Self::OCI_MANIFEST | Self::DOCKER_MANIFEST)
    }

    /// Whether this is an image configuration.
    pub fn is_config(&self) -> bool {
        matches!(self.as_str(), Self::OCI_CONFIG | Self::DOCKER_CONFIG)
    }

    /// The compression of a layer, or `None` when this is no layer that strake can read.
    pub fn layer_compression(&self) -> Option<Compression> {
        match self.as_str() {
            Self::OCI_LAYER | Self::DOCKER_LAYER => Some(Compression::None),
            Self::OCI_LAYER_GZIP | Self::DOCKER_LAYER_GZIP => Some(Compression::Gzip),
            Self::OCI_LAYER_ZSTD | Self::DOCKER_LAYER_ZSTD => Some(Compression::Zstd),
            _ => None,
        }
    }

    /// The OCI media type of a layer of this compression.
    pub fn oci_layer(compression: Compression) -> Self {
        Self::from(match compression {
            Compression::None => Self::OCI_LAYER,
            Compression::Gzip => Self::OCI_LAYER_GZIP,
            Compression::Zstd => Self::OCI_LAYER_ZSTD,
        })
    }

    /// Docker's media type of a layer of this compression.
    pub fn docker_layer(compression: Compression) -> Self {
        Self::from(match compression {
            Compression::None => Self::DOCKER_LAYER,
            Compression::Gzip => Self::DOCKER_LAYER_GZIP,
            Compression::Zstd => Self::DOCKER_LAYER_ZSTD,
        })
    }
}

impl From<&str> for MediaType {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl PartialEq<str> for MediaType {
    fn eq(&self, other: &str) -> bool {
        self.0 == other
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layer_types_name_their_compression_in_both_vocabularies() {
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            assert_eq!(MediaType::oci_layer(compression).layer_compression(), Some(compression));
            assert_eq!(MediaType::docker_layer(compression).layer_compression(), Some(compression));
        }
        assert_eq!(MediaType::from(MediaType::OCI_CONFIG).layer_compression(), None);
    }
}
