//! Walking a tree in the order in which it is written.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::{Mode, OFlags};

use super::TarError;
use super::tree::{failed, io};
use crate::root_dir::{EntryType, Metadata, sorted_names, stat_at};
use crate::xattr::{self, Attribute, Mark};
use crate::{Flavour, root_dir};

/// What the tree is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// A layer directory with the marks of overlayfs.
    Layer(Flavour),
    /// A merged tree.
    Merged,
}

/// One thing found.
#[derive(Debug)]
pub(super) struct Found<'a> {
    /// Below the root, without leading slash; empty for the root itself.
    pub(super) path: &'a [u8],
    pub(super) metadata: Metadata,
    /// Those that belong into an image, sorted.
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// The target of a symbolic link.
    pub(super) link: Vec<u8>,
    /// The opened file, for regular files.
    pub(super) file: Option<OwnedFd>,
    pub(super) kind: FoundKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FoundKind {
    /// A file, directory, link, device, pipe or socket of the content.
    Entry,
    /// A directory that hides what is below.
    OpaqueDirectory,
    /// A mark that something below is deleted.
    Whiteout,
}

/// Calls `each` for everything below `root`: a directory before what is in it, names sorted bytewise. The root itself
/// comes first if the layer has something to say about it.
pub(super) fn walk(
    root: BorrowedFd<'_>,
    form: Form,
    each: &mut dyn FnMut(Found<'_>) -> Result<(), TarError>,
) -> Result<(), TarError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::openat(root, ".", flags, Mode::empty()).map_err(|e| failed("open", b"/", e))?;
    let marks = Marks::of(form);
    let attributes =
        xattr::of_descriptor(root.as_fd()).map_err(|error| io("read attributes of", b"/", error))?;
    let (declares, opaque) = (marks.has(&attributes, &marks.root), marks.has(&attributes, &marks.opaque));
    if declares || opaque {
        let stat = rustix::fs::fstat(&root).map_err(|error| failed("examine", b"/", error))?;
        each(Found {
            path: b"",
            metadata: Metadata::from_stat(&stat).map_err(|error| io("examine", b"/", error))?,
            xattrs: for_image(attributes),
            link: Vec::new(),
            file: None,
            kind: if opaque { FoundKind::OpaqueDirectory } else { FoundKind::Entry },
        })?;
    }
    Walk { form, marks, each }.directory(root.as_fd(), &mut Vec::new())
}

/// The names of overlayfs's marks; none in a merged tree, where such names are anybody's.
struct Marks {
    opaque: Option<OsString>,
    root: Option<OsString>,
}

impl Marks {
    fn of(form: Form) -> Self {
        let name = |mark: Mark| match form {
            Form::Layer(flavour) => Some(OsString::from(mark.name(flavour))),
            Form::Merged => None,
        };
        Self { opaque: name(Mark::Opaque), root: name(Mark::DeclaresRoot) }
    }

    fn has(&self, attributes: &[Attribute], mark: &Option<OsString>) -> bool {
        let Some(mark) = mark else { return false };
        attributes.iter().any(|(name, value)| name == mark && value == b"y")
    }
}

struct Walk<'a> {
    form: Form,
    marks: Marks,
    each: &'a mut dyn FnMut(Found<'_>) -> Result<(), TarError>,
}

impl Walk<'_> {
    fn directory(&mut self, directory: BorrowedFd<'_>, path: &mut Vec<u8>) -> Result<(), TarError> {
        let names = sorted_names(directory).map_err(|error| io("read directory", path, error))?;
        let length = path.len();
        for name in names {
            if length > 0 {
                path.push(b'/');
            }
            path.extend_from_slice(name.as_bytes());
            self.entry(directory, &name, path)?;
            path.truncate(length);
        }
        Ok(())
    }

    fn entry(&mut self, parent: BorrowedFd<'_>, name: &OsStr, path: &mut Vec<u8>) -> Result<(), TarError> {
        let metadata = stat_at(parent, name).map_err(|error| io("examine", path, error))?;
        if metadata.is_whiteout() && matches!(self.form, Form::Layer(_)) {
            let found = Found {
                path,
                metadata,
                xattrs: Vec::new(),
                link: Vec::new(),
                file: None,
                kind: FoundKind::Whiteout,
            };
            return (self.each)(found);
        }
        let open = |flags: OFlags| {
            let flags = flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(parent, name, flags, Mode::empty())
                .map_err(|error| failed("open", path, error))
        };
        let opened = match metadata.entry_type {
            EntryType::File => Some(open(OFlags::NONBLOCK)?),
            EntryType::Directory => Some(open(OFlags::DIRECTORY)?),
            _ => None,
        };
        let attributes = match &opened {
            Some(descriptor) => xattr::of_open(descriptor.as_fd()),
            None => xattr::of_path(&xattr::path_at(parent, name.as_bytes())),
        };
        let attributes = attributes.map_err(|error| io("read attributes of", path, error))?;
        let link = match metadata.entry_type {
            EntryType::Symlink => rustix::fs::readlinkat(parent, name, Vec::new())
                .map_err(|error| failed("read link", path, error))?
                .into_bytes(),
            _ => Vec::new(),
        };
        let opaque = metadata.is_dir() && self.marks.has(&attributes, &self.marks.opaque);
        let (file, directory) = if metadata.is_dir() { (None, opened) } else { (opened, None) };
        (self.each)(Found {
            path,
            metadata,
            xattrs: for_image(attributes),
            link,
            file,
            kind: if opaque { FoundKind::OpaqueDirectory } else { FoundKind::Entry },
        })?;
        match directory {
            Some(directory) => self.directory(directory.as_fd(), path),
            None => Ok(()),
        }
    }
}

/// The attributes that an image carries: what users set, and file capabilities without the id of a namespace.
/// Everything else (labels of security modules, `trusted.*`, access lists by numeric id) belongs to the host.
pub(super) fn for_image(attributes: Vec<Attribute>) -> Vec<(Vec<u8>, Vec<u8>)> {
    attributes
        .into_iter()
        .filter(|(name, _)| !xattr::is_overlay(name) && !name.as_bytes().contains(&b'='))
        .filter_map(|(name, value)| match name.as_bytes() {
            b"security.capability" => Some((name.as_bytes().to_vec(), xattr::portable_capability(&value))),
            bytes if bytes.starts_with(b"user.") => Some((bytes.to_vec(), value)),
            _ => None,
        })
        .collect()
}

/// The metadata of an opened file, to see that it is what was examined.
pub(super) fn metadata_of_open(file: BorrowedFd<'_>) -> std::io::Result<Metadata> {
    root_dir::Metadata::from_stat(&rustix::fs::fstat(file)?)
}
