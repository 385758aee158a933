//! The mounts of a container, made from inside its own mount namespace.
//!
//! Every mount goes to a descriptor that was resolved inside the new root, never to a path that the image could
//! redirect. Mount points that the image lacks come from a *stub*: a directory of empty mount points that lies
//! below all layers of the overlay, so nothing has to be made in the upper directory. Where the stub does not
//! reach (the image has a symbolic link on the way, the stack is full, or the root is a plain directory), the
//! mount point is made in the root and reported as a [`Trace`], which the caller removes after the run.
//!
//! All of the executor's own files (stub, private views, `/etc/hosts`, secrets) live in one file system in memory,
//! the *scratch*. It is mounted over a directory that only this container uses, in a namespace that nobody else
//! sees, and is out of reach once the root has been changed.

mod overlay;
mod root;
mod scratch;
mod sources;
mod standard;
mod target;
mod trace;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

pub(crate) use root::{Root, build, enter};
pub(crate) use scratch::Scratch;
pub(crate) use sources::{HostPlaces, Source, prepare};
pub(crate) use standard::console;
pub(crate) use target::open_beneath;
pub(crate) use trace::{Trace, clean};

use crate::error::{Errno, ExecError};
use crate::sys::{self, MountAttributes, Recursive};

/// A new file system, not attached anywhere. `options` are key and value; a value of `None` is a flag.
fn new_file_system(
    kind: &str,
    options: &[(&str, Option<&str>)],
    attributes: MountAttrFlags,
) -> Result<OwnedFd, Errno> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        match value {
            Some(value) => fsconfig_set_string(context.as_fd(), *key, *value)?,
            None => fsconfig_set_flag(context.as_fd(), *key)?,
        }
    }
    fsconfig_create(context.as_fd())?;
    Ok(fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// Attaches a mount to the place behind `target`.
pub(crate) fn attach(mount: impl AsFd, target: impl AsFd) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(mount.as_fd(), "", target.as_fd(), "", flags)?)
}

/// A second mount of the file or directory behind `place`, not attached anywhere.
fn clone_mount(place: impl AsFd) -> Result<OwnedFd, Errno> {
    let flags =
        OpenTreeFlags::AT_EMPTY_PATH | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::OPEN_TREE_CLONE;
    match open_tree(place.as_fd(), "", flags) {
        Ok(mount) => Ok(mount),
        // In a user namespace the mounts below are locked to this one and can only come along.
        Err(rustix::io::Errno::INVAL) => {
            Ok(open_tree(place.as_fd(), "", flags | OpenTreeFlags::AT_RECURSIVE)?)
        }
        Err(errno) => Err(errno.into()),
    }
}

/// As [`clone_mount`], for a path of the host.
fn clone_mount_at(path: &Path) -> Result<OwnedFd, Errno> {
    let place = rustix::fs::open(
        path,
        rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )?;
    clone_mount(place)
}

/// A read-only mount of one file, through which nobody can write to it. See [`crate::OwnExecutor`].
pub(crate) fn read_only_view(file: &Path) -> Result<OwnedFd, Errno> {
    let view = clone_mount_at(file)?;
    sys::mount_setattr(&view, MountAttributes::READ_ONLY, Recursive::No)?;
    Ok(view)
}

/// Mounts the `/proc` of this pid namespace over the present one, which shows another.
pub(crate) fn replace_proc() -> Result<(), ExecError> {
    let place = rustix::fs::open(
        "/proc",
        rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )
    .map_err(|errno| mount_error("proc", "/proc", errno))?;
    new_file_system("proc", &[], MountAttrFlags::empty())
        .and_then(|proc| attach(proc, place))
        .map_err(|errno| mount_error("proc", "/proc", errno))
}

/// Permission bits; bits that are none are dropped.
fn mode(bits: u32) -> rustix::fs::Mode {
    rustix::fs::Mode::from_bits_truncate(bits)
}

/// Whether the file behind `file` is a directory.
fn is_directory(file: BorrowedFd<'_>) -> Result<bool, Errno> {
    let stat = rustix::fs::fstat(file)?;
    Ok(rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Directory)
}

fn mount_error(what: &str, target: &str, errno: impl Into<Errno>) -> ExecError {
    ExecError::setup(format!("mount {what} on {target}"), errno)
}
