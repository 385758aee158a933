//! The root of a container: made, filled with mounts, entered.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::mount::UnmountFlags;

use super::overlay::{MAX_LOWERS, Overlay};
use super::sources::{HostPlaces, Source};
use super::standard::{self, ETC_FILES};
use super::target::{Kind, Tree};
use super::trace::Trace;
use super::{Scratch, attach, clone_mount, mount_error};
use crate::error::{Errno, ExecError};
use crate::process::{Container, Mount, Rootfs};
use crate::sys::{self, MountAttributes, Recursive};

/// Standard mount points.
const SYSTEM_DIRECTORIES: [&str; 4] = ["dev", "etc", "proc", "sys"];

/// The root of a container, attached in the scratch.
#[derive(Debug)]
pub(crate) struct Root {
    mount: OwnedFd,
}

/// Mounts the root file system itself, with the stub where possible. `report` hears of everything that the caller
/// must remove later, before it is made.
pub(crate) fn build(
    container: &Container,
    places: &HostPlaces,
    scratch: &Scratch,
    sources: &[Source],
    report: &dyn Fn(Trace),
) -> Result<Root, ExecError> {
    let mount = match &container.rootfs {
        Rootfs::Overlay { lowers, user_xattr, volatile, .. } => {
            let mut stack: Vec<&Path> = lowers.iter().rev().map(PathBuf::as_path).collect();
            let stub = scratch.path("stub");
            if stack.len() < MAX_LOWERS {
                make_stub(scratch, &container.mounts, sources, report)?;
                stack.push(&stub);
            }
            let pair = places.upper_and_work();
            let overlay = Overlay {
                lowers: stack,
                upper_and_work: pair.as_ref().map(|(upper, work)| (upper.as_path(), work.as_path())),
                user_xattr: *user_xattr,
                volatile: *volatile,
            };
            overlay.mount(scratch)?
        }
        Rootfs::Directory(directory) => {
            let failed = |errno: Errno| mount_error(&directory.display().to_string(), "/", errno);
            clone_mount(&places.root).map_err(failed)?
        }
    };
    let place = scratch.directory("root")?;
    attach(&mount, &place).map_err(|errno| ExecError::setup("attach the root file system", errno))?;
    Ok(Root { mount })
}

/// Makes the empty mount points that lie below all layers.
fn make_stub(
    scratch: &Scratch,
    mounts: &[Mount],
    sources: &[Source],
    report: &dyn Fn(Trace),
) -> Result<(), ExecError> {
    let mut directories: BTreeSet<String> = SYSTEM_DIRECTORIES.map(str::to_owned).into();
    let mut files: BTreeSet<String> = ETC_FILES.iter().map(|name| format!("etc/{name}")).collect();
    for (mount, source) in mounts.iter().zip(sources) {
        let names: Vec<&str> = mount.target.split('/').filter(|name| !matches!(*name, "" | ".")).collect();
        // A target with `..` may mean anything once there are symbolic links: it is resolved in the real root.
        if names.contains(&"..") || names.is_empty() {
            continue;
        }
        let parents = names.len() - 1;
        directories.extend((1..=parents).map(|depth| names[..depth].join("/")));
        if source.directory {
            directories.insert(names.join("/"))
        } else {
            files.insert(names.join("/"))
        };
    }
    drop(scratch.directory("stub")?);
    for directory in &directories {
        drop(scratch.directory(&format!("stub/{directory}"))?);
        report(Trace::Stub { path: directory.clone() });
    }
    // Where a file and a directory are wanted in one place, the mount of the file will say so.
    for file in files.iter().filter(|file| !directories.contains(*file)) {
        drop(scratch.file(&format!("stub/{file}"), b"", 0o644)?);
    }
    Ok(())
}

impl Root {
    /// The root directory.
    pub(crate) fn directory(&self) -> BorrowedFd<'_> {
        self.mount.as_fd()
    }

    /// Makes all mounts of the container in the root.
    pub(crate) fn furnish(
        &self,
        container: &Container,
        places: &HostPlaces,
        scratch: &Scratch,
        sources: &[Source],
        report: &dyn Fn(Trace),
    ) -> Result<(), ExecError> {
        let tree = Tree::new(self.mount.as_fd(), places.root.as_fd(), report)?;
        standard::mount_all(&tree, scratch)?;
        for (mount, source) in container.mounts.iter().zip(sources) {
            let place = tree.place(&mount.target, Kind::of(source.directory))?;
            attach(&source.mount, &place).map_err(|errno| mount_error(&source.what, &mount.target, errno))?;
        }
        if container.read_only {
            sys::mount_setattr(tree.root(), MountAttributes::READ_ONLY, Recursive::No)
                .map_err(|errno| ExecError::setup("make the root file system read-only", errno))?;
        }
        Ok(())
    }

    /// Makes the mount points only, for a runtime that mounts by itself.
    pub(crate) fn make_mount_points(
        &self,
        container: &Container,
        places: &HostPlaces,
        sources: &[Source],
        report: &dyn Fn(Trace),
    ) -> Result<(), ExecError> {
        let tree = Tree::new(self.mount.as_fd(), places.root.as_fd(), report)?;
        for name in SYSTEM_DIRECTORIES {
            drop(tree.system_directory(name)?);
        }
        for name in ETC_FILES {
            drop(tree.place(&format!("/etc/{name}"), Kind::File)?);
        }
        for (mount, source) in container.mounts.iter().zip(sources) {
            drop(tree.place(&mount.target, Kind::of(source.directory))?);
        }
        Ok(())
    }
}

/// Makes `root` the root of this process and leaves the old one behind for good.
pub(crate) fn enter(root: Root) -> Result<(), ExecError> {
    let failed = |what: &'static str| move |errno: rustix::io::Errno| ExecError::setup(what, errno);
    rustix::process::fchdir(&root.mount).map_err(failed("enter the new root"))?;
    // With equal arguments the old root comes to lie over the new one, from where it is taken away at once.
    rustix::process::pivot_root(".", ".").map_err(failed("change the root"))?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).map_err(failed("leave the old root"))?;
    rustix::process::chdir("/").map_err(failed("enter the new root"))
}
