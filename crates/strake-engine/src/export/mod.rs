//! Outputs of a build or of `save`: archives and files.
//!
//! Everything streams, and nothing is seen half-written: a file is written beside its place and renamed when it is
//! complete.

use strake_oci::{Compression, ImageId, Reference};
use strake_store::LayerId;

use crate::image::ImageError;
use crate::request::Environment;

pub use crate::image::Dest;

use std::path::PathBuf;

/// Where an image or the files of a stage go, and in which form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// An OCI image layout as a tar.
    Oci {
        /// Where to.
        dest: Dest,
        /// How layers that have no blob yet are compressed.
        compression: Compression,
    },
    /// An OCI image layout as a directory; what it held before stays, `index.json` gets the new names.
    OciDirectory {
        /// Where to.
        dest: PathBuf,
        /// How layers that have no blob yet are compressed.
        compression: Compression,
    },
    /// What `docker load` reads.
    Docker {
        /// Where to.
        dest: Dest,
    },
    /// Files rather than an image.
    Tree(TreeOutput),
}

/// Where the files of a stage go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TreeOutput {
    /// One tar of the merged file system.
    Tar(Dest),
    /// Into a directory, over what is there.
    Local(PathBuf),
}

/// What was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    /// The manifest, for outputs that have one.
    pub manifest: Option<strake_oci::Descriptor>,
    /// Bytes written.
    pub bytes: u64,
    /// What could not be written as it is, for people to read.
    pub notes: Vec<String>,
}

/// Writes images, each with its names, as one output. Several only go into archives.
///
/// # Errors
/// When a layer's content cannot be had, or the output cannot be written.
pub fn write(
    _env: &Environment<'_>,
    _images: &[(ImageId, Vec<Reference>)],
    _output: &Output,
) -> Result<Written, ImageError> {
    Err(ImageError::Usage("this part of strake is still being written".to_owned()))
}

/// Writes the merged file system of `layers`, bottom first.
///
/// # Errors
/// As [`write`].
pub fn write_tree(
    _env: &Environment<'_>,
    _layers: &[LayerId],
    _source_date_epoch: Option<i64>,
    _output: &TreeOutput,
) -> Result<Written, ImageError> {
    Err(ImageError::Usage("this part of strake is still being written".to_owned()))
}
