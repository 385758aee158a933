//! Some paths of an image in a directory of the caller.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use strake_oci::ImageId;
use strake_store::RootDir;
use strake_store::root_dir::Metadata;

use super::Written;
use super::local::{Links, Place, Writer, open_top};
use crate::event::Event;
use crate::image::{self, ImageError};
use crate::request::Environment;

/// A path of an image that is to be copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathCopy {
    /// Where it is in the image. Links are followed within the image, also at the end, as `COPY` does.
    pub path: PathBuf,
    /// What of it.
    pub wanted: Wanted,
}

/// What of a path is copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// The file or directory, under this name.
    Itself(OsString),
    /// What the directory holds.
    Content,
}

/// Copies paths of an image into the directory `dest`, over what is there; files belong to the caller. A link that would
/// lead out of `dest` is left out, and named in the notes.
///
/// # Errors
/// When the image has no such path, before anything is written; when a layer's content cannot be had, or `dest` cannot
/// be written.
pub fn copy_paths(
    env: &Environment<'_>,
    image: ImageId,
    copies: &[PathCopy],
    dest: &Path,
) -> Result<Written, ImageError> {
    let layers = image::materialise(env, image)?;
    let view = env.store.open_view(&layers)?;
    let root = view.root();
    let found = copies.iter().map(|copy| find(root, copy)).collect::<Result<Vec<_>, _>>()?;
    let mut names = BTreeSet::new();
    for copy in copies {
        if let Wanted::Itself(name) = &copy.wanted
            && !names.insert(name)
        {
            let text = format!("two of the paths would become {}", Path::new(name).display());
            return Err(ImageError::Usage(text));
        }
    }
    (env.events)(Event::Phase(format!("writing files to {}", dest.display())));
    let mut writer = Writer::new(env, root, dest, Links::Inside)?;
    let top = open_top(dest)?;
    let to = Place { directory: top.as_fd(), depth: 0 };
    for (copy, (path, metadata)) in copies.iter().zip(&found) {
        match &copy.wanted {
            Wanted::Itself(name) => writer.entry(to, name, path, metadata)?,
            Wanted::Content => writer.children(to, path)?,
        }
    }
    Ok(writer.written)
}

/// Where a path really is, without links, and what is there.
fn find(root: &RootDir, copy: &PathCopy) -> Result<(PathBuf, Metadata), ImageError> {
    let refused = |reason: &str| ImageError::Usage(format!("{}: {reason}", copy.path.display()));
    let path = root.resolve(&copy.path).map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => {
            refused("there is no such file or directory in the image")
        }
        _ => ImageError::io("find in the image", &copy.path)(error),
    })?;
    let metadata = root.stat(&path).map_err(ImageError::io("read", &path))?;
    match copy.wanted {
        Wanted::Content if !metadata.is_dir() => Err(refused("it is no directory, so it holds nothing")),
        _ => Ok((path, metadata)),
    }
}
