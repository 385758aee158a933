//! Outputs of a build and of `save`: archives and files.
//!
//! Everything streams, and nothing is seen half-written: a file is written beside its place and renamed when it is
//! complete; what goes to a pipe is complete before its first byte is sent.

mod archive;
mod dest;
mod layout;
mod local;
mod paths;

use std::path::PathBuf;

use strake_oci::{Compression, Descriptor, ImageId, Reference};
use strake_store::LayerId;
use strake_store::tar::{DiffOptions, flatten};

use crate::event::{Event, TransferKind};
use crate::image::{self, Dest, ImageError};

use crate::request::Environment;
pub(crate) use archive::blob_name;
pub(crate) use layout::Layout;

pub use paths::{PathCopy, Wanted, copy_paths};

/// Where an image or the files of a stage go, and in which form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// An OCI image layout (image-spec v1.1 `image-layout.md`) as a tar.
    Oci {
        /// Where to.
        dest: Dest,
        /// How layers that have no blob yet are compressed.
        compression: Compression,
    },
    /// An OCI image layout as a directory; images that it holds under other names stay.
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
    /// Into a directory, over what is there; files belong to the caller.
    Local(PathBuf),
}

/// What was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    /// The manifests, in the order of the images, for outputs that have them.
    pub manifests: Vec<Descriptor>,
    /// Bytes written.
    pub bytes: u64,
    /// What could not be written as it is, for people to read.
    pub notes: Vec<String>,
}

/// Writes images, each with its names, as one output. Only archives and layouts take several.
///
/// # Errors
/// When a layer's content cannot be had, or the output cannot be written.
pub fn write(
    env: &Environment<'_>,
    images: &[(ImageId, Vec<Reference>)],
    output: &Output,
) -> Result<Written, ImageError> {
    match output {
        Output::Oci { dest, compression } => {
            dest::write_file(env, dest, |file| archive::write_layout_tar(env, images, *compression, file))
        }
        Output::OciDirectory { dest, compression } => {
            archive::write_layout_directory(env, images, *compression, dest)
        }
        Output::Docker { dest } => {
            dest::write_file(env, dest, |file| archive::write_docker(env, images, file))
        }
        Output::Tree(tree) => {
            let [(id, _)] = images else {
                return Err(ImageError::Usage("only one image can be written as files".to_owned()));
            };
            write_tree(env, &image::materialise(env, *id)?, None, tree)
        }
    }
}

/// Writes the merged file system of `layers`, bottom first. Times later than `source_date_epoch` are written as
/// that.
///
/// # Errors
/// As [`write`].
pub fn write_tree(
    env: &Environment<'_>,
    layers: &[LayerId],
    source_date_epoch: Option<i64>,
    output: &TreeOutput,
) -> Result<Written, ImageError> {
    image::ensure_layers(env, layers)?;
    let view = env.store.open_view(layers)?;
    match output {
        TreeOutput::Local(dest) => {
            (env.events)(Event::Phase(format!("writing files to {}", dest.display())));
            local::write(env, view.root(), dest, source_date_epoch)
        }
        TreeOutput::Tar(dest) => dest::write_file(env, dest, |file| {
            let options = DiffOptions { clamp_mtime: source_date_epoch };
            let transfer = image::Transfer::start(env, TransferKind::Export, "file system".to_owned(), None);
            let out = transfer.writer(std::io::BufWriter::with_capacity(1 << 20, file));
            let stats = flatten(&view, out, &options)
                .map_err(|error| ImageError::malformed("file system to be written", error))?;
            Ok(Written { manifests: Vec::new(), bytes: stats.bytes, notes: stats.notes })
        }),
    }
}
