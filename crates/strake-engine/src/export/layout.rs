//! An OCI image layout that is built up image by image.

use std::path::{Path, PathBuf};

use strake_oci::{Compression, Descriptor, ImageIndex, MediaType};

use super::archive::{DirectorySink, LAYOUT, Sink, blob_name, write_layer};
use crate::image::{Described, ImageError};
use crate::request::Environment;

/// A layout in a directory. It is valid at every moment: what its index names is there before the index is.
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    /// Makes the directory unless it is there.
    pub(crate) fn create(root: &Path) -> Result<Self, ImageError> {
        let blobs = root.join("blobs/sha256");
        std::fs::create_dir_all(&blobs).map_err(ImageError::io("create directory", &blobs))?;
        Ok(Self { root: root.to_owned() })
    }

    /// Writes the blobs of an image.
    pub(crate) fn add(
        &self,
        env: &Environment<'_>,
        image: &Described<'_>,
        compression: Compression,
    ) -> Result<Descriptor, ImageError> {
        let mut sink = DirectorySink { root: &self.root };
        let mut layers = Vec::with_capacity(image.layers.len());
        for layer in image.layers {
            layers.push(write_layer(env, layer, compression, &mut sink)?);
        }
        let config = Descriptor::of(MediaType::OCI_CONFIG, image.config);
        sink.bytes(&blob_name(config.digest), image.config)?;
        let bytes = image.manifest(config, layers).to_bytes();
        let descriptor = Descriptor::of(MediaType::OCI_MANIFEST, &bytes);
        sink.bytes(&blob_name(descriptor.digest), &bytes)?;
        Ok(descriptor)
    }

    /// Makes the images visible, in place of those that were there.
    pub(crate) fn finish(self, index: &ImageIndex) -> Result<(), ImageError> {
        let mut sink = DirectorySink { root: &self.root };
        sink.bytes("oci-layout", LAYOUT)?;
        sink.bytes("index.json", &index.to_bytes())
    }
}
