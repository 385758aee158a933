//! `COPY` and `ADD`: which files, and how they become a layer.
//!
//! Three stages, so that a hit costs no more than a stat walk:
//!
//! 1. [`CopyPlan::resolve`] finds what the sources select, from scanned trees alone. It looks at no destination,
//!    so it can run before any layer below is real.
//! 2. [`CopyPlan::listing`] puts the selected files, with their digests, into a [`Listing`]. Its digest goes into
//!    the signature; it is kept with the record so that a later miss can name the very file that differs.
//! 3. [`copy`] lays the files out over the tree below and writes the new layer directly into an overlay upper
//!    directory: every directory is made first, files are written or hard-linked from an earlier layer on all
//!    cores, directories get their attributes last.
//!
//! Where builders differ, BuildKit's behaviour as observed is followed: a source link is followed within its
//! root; a directory is copied by content, its own mode and owner are dropped, those of directories inside are
//! kept and overwrite what exists; new parents belong to `--chown`; hard links within one source stay.
//! Unlike docker, several files copied to a path that is no directory are refused instead of overwriting
//! each other, and names that mean deletion in a layer (`.wh.…`) are refused.

mod archive;
mod layer_tar;
mod layout;
mod listing;
mod mode;
mod owner;
mod place;
mod plan;
#[cfg(test)]
mod tests;
mod write;

use std::io;
use std::path::Path;

use strake_graph::CopyOp;
use strake_store::{Flavour, RootDir, TarError};

use crate::build_context::{AtPath, SourceError, shown};
use crate::clock::now_ns;

pub use layer_tar::LayerTar;
pub(crate) use layout::Layout;
pub use listing::{Change, ChangeKind, LayerFiles, Listed, ListedKind, Listing, ListingError};
pub(crate) use owner::{Owner, user_owner};
pub(crate) use place::{Placed, PlacedFiles, literal, place, write_aside};
pub use plan::{CopyPlan, selection_key};
pub(crate) use write::write_layer;

/// Where a copy goes.
#[derive(Debug, Clone, Copy)]
pub struct CopyTarget<'a> {
    /// The empty directory that becomes the layer, in overlay form.
    pub upper: &'a Path,
    /// The merged tree of the layers below; none over `scratch`.
    pub below: Option<&'a RootDir>,
    /// An empty directory on the file system of `upper` for archives to be unpacked in; the caller removes it.
    pub scratch: &'a Path,
    /// An earlier layer whose equal files are hard-linked instead of being written again.
    pub previous: Option<Previous<'a>>,
    /// Of the store: an archive's devices cannot be made in a user namespace and are left out there.
    pub flavour: Flavour,
}

/// A layer that an earlier copy wrote.
#[derive(Debug, Clone, Copy)]
pub struct Previous<'a> {
    /// Its directory, on the file system of the new one; nobody changes it.
    pub dir: &'a Path,
    /// What the earlier copy said it wrote.
    pub files: &'a LayerFiles,
}

/// What a copy did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Copied {
    /// Which regular files of known digest are in the layer, for [`Previous`] of a later copy.
    pub files: LayerFiles,
    /// Files, links and directories in the layer, those copied up from below included.
    pub entries: u64,
    /// Bytes of regular files that were written.
    pub bytes: u64,
    /// Files that were hard-linked from the earlier layer.
    pub linked: u64,
    /// The tar that the layer would be written as, when that could be told without reading the layer.
    pub tar: Option<LayerTar>,
    /// What the user should know: what was left out, and why.
    pub notes: Vec<String>,
}

/// Why a copy is not possible.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// A source selects nothing.
    #[error("`{pattern}` not found in {place}{hint}")]
    NotFound {
        /// The source as written.
        pattern: String,
        /// Where it was looked for.
        place: &'static str,
        /// What may be the reason.
        hint: String,
    },
    /// The destination does not fit.
    #[error("copy to {}: {problem}", shown(path))]
    Destination {
        /// The path in the image.
        path: Vec<u8>,
        /// What is wrong.
        problem: &'static str,
    },
    /// The owner cannot be determined.
    #[error("owner `{spec}`: {problem}")]
    Owner {
        /// As written.
        spec: String,
        /// What is wrong.
        problem: String,
    },
    /// A file of the layer cannot be written, or one below it not be read.
    #[error("{action} {} of the image: {source}", shown(path))]
    Io {
        /// What was being done.
        action: &'static str,
        /// The path in the image.
        path: Vec<u8>,
        /// What the system said.
        source: io::Error,
    },
    /// A source cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// An archive cannot be unpacked.
    #[error("unpack {}: {source}", shown(path))]
    Archive {
        /// The archive's path in its tree.
        path: Vec<u8>,
        /// What is wrong with it.
        source: TarError,
    },
}

impl AtPath for CopyError {
    fn at_path(action: &'static str, path: Vec<u8>, source: io::Error) -> Self {
        Self::Io { action, path, source }
    }
}

/// Writes the layer of a copy.
///
/// # Errors
/// When the destination does not fit the tree below, the owner is unknown, a source changed since it was
/// scanned, or a file cannot be read or written. The upper directory is then to be discarded.
pub fn copy(op: &CopyOp, plan: &CopyPlan, target: &CopyTarget<'_>) -> Result<Copied, CopyError> {
    let owner = op.chown.as_deref().map(|spec| owner::copy_owner(spec, target.below)).transpose()?;
    let archives = if op.unpack { archive::unpack_all(plan, target)? } else { Vec::new() };
    let mut layout = Layout::new(target.below, owner, op.chmod.as_ref());
    plan.place(op, &archives, &mut layout)?;
    let mut copied = write_layer(&layout, target.upper, target.below, target.previous, now_ns())?;
    copied.notes.extend(plan.notes.iter().chain(archives.iter().flat_map(|archive| &archive.notes)).cloned());
    Ok(copied)
}
