//! The mounts that a caller asks for, before they have a place.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::mount::MountAttrFlags;

use super::overlay::Overlay;
use super::target::open_beneath;
use super::{Scratch, attach, clone_mount, clone_mount_at, is_directory, mount_error, new_file_system};
use crate::error::{Errno, ExecError};
use crate::process::{Container, Mount, MountKind, Rootfs};
use crate::sys::{self, MountAttributes, Recursive};

/// A mount that is complete but not attached anywhere.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) mount: OwnedFd,
    pub(crate) directory: bool,
    /// For messages.
    pub(crate) what: String,
}

/// Places of the host, found before the scratch hides one of them.
#[derive(Debug)]
pub(crate) struct HostPlaces {
    /// The upper directory, or the directory that is the root.
    pub(super) root: OwnedFd,
    /// The work directory of the overlay, over which the scratch is mounted.
    work: Option<OwnedFd>,
    /// The source of each bind mount, by its number.
    binds: BTreeMap<usize, OwnedFd>,
}

impl HostPlaces {
    /// Finds the places that `container` names.
    pub(crate) fn find(container: &Container) -> Result<Self, ExecError> {
        let (Rootfs::Overlay { upper: root, .. } | Rootfs::Directory(root)) = &container.rootfs;
        let open = |path: &Path, flags: OFlags| {
            rustix::fs::open(path, flags | OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        };
        let root = open(root, OFlags::DIRECTORY)
            .map_err(|errno| ExecError::setup(format!("open {}", root.display()), errno))?;
        let work = match &container.rootfs {
            Rootfs::Directory(_) => None,
            Rootfs::Overlay { work, .. } => Some(
                open(work, OFlags::DIRECTORY)
                    .map_err(|errno| ExecError::setup(format!("open {}", work.display()), errno))?,
            ),
        };
        let mut binds = BTreeMap::new();
        for (number, mount) in container.mounts.iter().enumerate() {
            if let MountKind::Bind { source } = &mount.kind {
                let place = open(source, OFlags::empty())
                    .map_err(|errno| mount_error(&source.display().to_string(), &mount.target, errno))?;
                binds.insert(number, place);
            }
        }
        Ok(Self { root, work, binds })
    }

    /// Upper and work directory under names that the scratch cannot hide.
    pub(super) fn upper_and_work(&self) -> Option<(PathBuf, PathBuf)> {
        let name = |place: &OwnedFd| PathBuf::from(format!("/proc/self/fd/{}", place.as_raw_fd()));
        Some((name(&self.root), name(self.work.as_ref()?)))
    }
}

/// Prepares every mount in order.
pub(crate) fn prepare(
    mounts: &[Mount],
    places: &HostPlaces,
    scratch: &Scratch,
) -> Result<Vec<Source>, ExecError> {
    mounts.iter().enumerate().map(|(number, mount)| prepare_one(number, mount, places, scratch)).collect()
}

fn prepare_one(
    number: usize,
    mount: &Mount,
    places: &HostPlaces,
    scratch: &Scratch,
) -> Result<Source, ExecError> {
    let target = &mount.target;
    let (what, tree) = match &mount.kind {
        MountKind::Bind { source } => {
            let what = source.display().to_string();
            let place = places.binds.get(&number).expect("every bind mount was found before");
            (what.clone(), clone_mount(place).map_err(|errno| mount_error(&what, target, errno))?)
        }
        MountKind::Layers { lowers, user_xattr, source, scratch: writable } => {
            let scratch_pair = writable.as_ref().filter(|_| !mount.read_only);
            let view = view(number, lowers, *user_xattr, scratch_pair, scratch)?;
            (source.clone(), inside(&view, source).map_err(|errno| mount_error(source, target, errno))?)
        }
        MountKind::Tmpfs { size, mode } => ("tmpfs".to_owned(), tmpfs(*size, *mode, target)?),
        MountKind::File { content, mode, uid, gid } => {
            let name = format!("file{number}");
            drop(scratch.file(&name, content, *mode)?);
            let what = "file in memory".to_owned();
            let tree = scratch
                .give(&name, *uid, *gid, *mode)
                .and_then(|()| clone_mount_at(&scratch.path(&name)))
                .map_err(|errno| mount_error(&what, target, errno))?;
            (what, tree)
        }
    };
    let mut attributes = MountAttributes::NO_SUID.and(MountAttributes::NO_DEV);
    if mount.read_only {
        attributes = attributes.and(MountAttributes::READ_ONLY);
    }
    let failed = |errno: Errno| mount_error(&what, target, errno);
    sys::mount_setattr(&tree, attributes, Recursive::Yes).map_err(failed)?;
    let directory = is_directory(tree.as_fd()).map_err(failed)?;
    Ok(Source { mount: tree, directory, what })
}

/// An overlay of its own, attached in the scratch: a part of it can only be taken from an attached mount.
fn view(
    number: usize,
    lowers: &[PathBuf],
    user_xattr: bool,
    writable: Option<&(PathBuf, PathBuf)>,
    scratch: &Scratch,
) -> Result<OwnedFd, ExecError> {
    let empty = scratch.path("empty");
    // Without an upper directory overlayfs wants two others, so an empty one goes to the bottom.
    let lowers: Vec<&Path> = lowers.iter().rev().map(PathBuf::as_path).chain([empty.as_path()]).collect();
    let upper_and_work = writable.map(|(upper, work)| (upper.as_path(), work.as_path()));
    let overlay = Overlay { lowers, upper_and_work, user_xattr, volatile: false };
    let mount = overlay.mount(scratch)?;
    let place = scratch.directory(&format!("view{number}"))?;
    attach(&mount, &place).map_err(|errno| ExecError::setup("attach a view of layers", errno))?;
    Ok(mount)
}

/// The file or directory at `source`, whose symbolic links cannot lead out of the view.
fn inside(view: &OwnedFd, source: &str) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    clone_mount(open_beneath(view.as_fd(), source.trim_start_matches('/'), OFlags::PATH, resolve)?)
}

fn tmpfs(size: Option<u64>, mode: u32, target: &str) -> Result<OwnedFd, ExecError> {
    let mode = format!("{:o}", mode & 0o7777);
    let size = size.map(|bytes| bytes.to_string());
    let mut options = vec![("mode", Some(mode.as_str()))];
    options.extend(size.as_deref().map(|bytes| ("size", Some(bytes))));
    new_file_system("tmpfs", &options, MountAttrFlags::empty())
        .map_err(|errno| mount_error("tmpfs", target, errno))
}
