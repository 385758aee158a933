//! The file systems that every container has: `/proc`, `/dev`, `/sys`, and three files in `/etc`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, makedev};
use rustix::io::Errno as Os;
use rustix::mount::MountAttrFlags as Attr;

use super::target::{Kind, Tree, open_beneath};
use super::{Scratch, attach, clone_mount, clone_mount_at, is_directory, mode, mount_error, new_file_system};
use crate::error::{Errno, ExecError};
use crate::sys::{self, MountAttributes, Recursive};

/// Hidden in `/proc`, as Docker does it: they tell about the host, or act on it.
const MASKED_IN_PROC: [&str; 9] =
    ["acpi", "asound", "interrupts", "kcore", "keys", "latency_stats", "sched_debug", "scsi", "timer_list"];
const MASKED_IN_SYS: [&str; 2] = ["firmware", "devices/virtual/powercap"];
/// Readable, but writing them would act on the host.
const READ_ONLY_IN_PROC: [&str; 5] = ["bus", "fs", "irq", "sys", "sysrq-trigger"];
/// Name, major and minor number.
const DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
const LINKS: [(&str, &str); 6] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
];
/// The group `tty` everywhere; a user namespace may not have it.
const TTY_GROUP: &str = "5";
const SHM_BYTES: &str = "67108864";

/// The three files over `/etc`, as names in the scratch.
pub(super) const ETC_FILES: [&str; 3] = ["hosts", "hostname", "resolv.conf"];

/// Mounts all of them. The files of `/etc` must be in the scratch.
pub(super) fn mount_all(tree: &Tree<'_>, scratch: &Scratch) -> Result<(), ExecError> {
    let dev = mount_dev(tree)?;
    mount_proc(tree, &dev, scratch)?;
    mount_sys(tree, &dev, scratch)?;
    for name in ETC_FILES {
        let target = format!("/etc/{name}");
        let place = tree.place(&target, Kind::File)?;
        let failed = |errno: Errno| mount_error(name, &target, errno);
        let file = clone_mount_at(&scratch.path(name)).map_err(failed)?;
        attach(&file, &place).map_err(failed)?;
    }
    Ok(())
}

fn mount_dev(tree: &Tree<'_>) -> Result<OwnedFd, ExecError> {
    let failed = |errno: Errno| mount_error("tmpfs", "/dev", errno);
    let place = tree.system_directory("dev")?;
    let options = [("mode", Some("0755")), ("size", Some("67108864"))];
    let attributes = Attr::MOUNT_ATTR_NOSUID | Attr::MOUNT_ATTR_NOEXEC;
    let dev = new_file_system("tmpfs", &options, attributes).map_err(failed)?;
    attach(&dev, &place).map_err(failed)?;
    for (name, major, minor) in DEVICES {
        device(&dev, name, major, minor)
            .map_err(|errno| ExecError::setup(format!("make /dev/{name}"), errno))?;
    }
    for (name, link) in LINKS {
        rustix::fs::symlinkat(link, &dev, name).map_err(|errno| failed(errno.into()))?;
    }
    mount_in_dev(&dev, "pts", || {
        let pts = |options: &[(&str, Option<&str>)]| {
            new_file_system("devpts", options, Attr::MOUNT_ATTR_NOSUID | Attr::MOUNT_ATTR_NOEXEC)
        };
        let base = [("newinstance", None), ("ptmxmode", Some("0666")), ("mode", Some("0620"))];
        let with_group = [base.as_slice(), &[("gid", Some(TTY_GROUP))]].concat();
        pts(&with_group).or_else(|_| pts(&base))
    })?;
    let all = Attr::MOUNT_ATTR_NOSUID | Attr::MOUNT_ATTR_NODEV | Attr::MOUNT_ATTR_NOEXEC;
    mount_in_dev(&dev, "shm", || {
        new_file_system("tmpfs", &[("mode", Some("1777")), ("size", Some(SHM_BYTES))], all)
    })?;
    mount_in_dev(&dev, "mqueue", || new_file_system("mqueue", &[], all))?;
    Ok(dev)
}

/// Makes a device; in a user namespace, where that is not allowed, shows the host's.
fn device(dev: &OwnedFd, name: &str, major: u32, minor: u32) -> Result<(), Errno> {
    match rustix::fs::mknodat(dev, name, FileType::CharacterDevice, mode(0o666), makedev(major, minor)) {
        Ok(()) => return Ok(()),
        Err(Os::PERM) => {}
        Err(errno) => return Err(errno.into()),
    }
    rustix::fs::mknodat(dev, name, FileType::RegularFile, mode(0o666), 0)?;
    let place =
        rustix::fs::openat(dev, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let host = clone_mount_at(&std::path::Path::new("/dev").join(name))?;
    sys::mount_setattr(&host, MountAttributes::NO_SUID.and(MountAttributes::NO_EXEC), Recursive::No)?;
    attach(&host, &place)
}

fn mount_in_dev(
    dev: &OwnedFd,
    name: &str,
    make: impl FnOnce() -> Result<OwnedFd, Errno>,
) -> Result<(), ExecError> {
    let failed = |errno: Errno| mount_error("a file system", &format!("/dev/{name}"), errno);
    rustix::fs::mkdirat(dev, name, mode(0o755)).map_err(|errno| failed(errno.into()))?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let place = rustix::fs::openat(dev, name, flags, Mode::empty()).map_err(|errno| failed(errno.into()))?;
    attach(make().map_err(failed)?, &place).map_err(failed)
}

fn mount_proc(tree: &Tree<'_>, dev: &OwnedFd, scratch: &Scratch) -> Result<(), ExecError> {
    let failed = |errno: Errno| mount_error("proc", "/proc", errno);
    let place = tree.system_directory("proc")?;
    let attributes = Attr::MOUNT_ATTR_NOSUID | Attr::MOUNT_ATTR_NODEV | Attr::MOUNT_ATTR_NOEXEC;
    let proc = new_file_system("proc", &[], attributes).map_err(|errno| {
        failed(errno).remedy("inside another container its /proc must not be masked, e.g. docker run --security-opt systempaths=unconfined")
    })?;
    attach(&proc, &place).map_err(failed)?;
    for name in READ_ONLY_IN_PROC {
        read_only(&proc, name)
            .map_err(|errno| mount_error("itself read-only", &format!("/proc/{name}"), errno))?;
    }
    for name in MASKED_IN_PROC {
        mask(&proc, name, dev, scratch)
            .map_err(|errno| mount_error("a mask", &format!("/proc/{name}"), errno))?;
    }
    Ok(())
}

fn mount_sys(tree: &Tree<'_>, dev: &OwnedFd, scratch: &Scratch) -> Result<(), ExecError> {
    let failed = |errno: Errno| mount_error("sysfs", "/sys", errno);
    let place = tree.system_directory("sys")?;
    let attributes =
        Attr::MOUNT_ATTR_RDONLY | Attr::MOUNT_ATTR_NOSUID | Attr::MOUNT_ATTR_NODEV | Attr::MOUNT_ATTR_NOEXEC;
    let sys = match new_file_system("sysfs", &[], attributes) {
        Ok(sys) => sys,
        // A new one belongs to a network namespace, and the host's is not ours in a user namespace.
        Err(_) => host_sys().map_err(failed)?,
    };
    attach(&sys, &place).map_err(failed)?;
    for name in MASKED_IN_SYS {
        mask(&sys, name, dev, scratch)
            .map_err(|errno| mount_error("a mask", &format!("/sys/{name}"), errno))?;
    }
    Ok(())
}

fn host_sys() -> Result<OwnedFd, Errno> {
    let sys = clone_mount_at(std::path::Path::new("/sys"))?;
    let attributes = MountAttributes::READ_ONLY
        .and(MountAttributes::NO_SUID)
        .and(MountAttributes::NO_DEV)
        .and(MountAttributes::NO_EXEC);
    sys::mount_setattr(&sys, attributes, Recursive::Yes)?;
    Ok(sys)
}

/// The place of a name in a kernel file system; `None` if this kernel has no such thing.
fn kernel_place(file_system: &OwnedFd, name: &str) -> Result<Option<OwnedFd>, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    match open_beneath(file_system.as_fd(), name, OFlags::PATH, resolve) {
        Ok(place) => Ok(Some(place)),
        Err(Os::NOENT | Os::NOTDIR) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

fn read_only(proc: &OwnedFd, name: &str) -> Result<(), Errno> {
    let Some(place) = kernel_place(proc, name)? else { return Ok(()) };
    let same = clone_mount(&place)?;
    // Flags of the original are repeated: a user namespace may not take them away.
    let attributes = MountAttributes::READ_ONLY
        .and(MountAttributes::NO_SUID)
        .and(MountAttributes::NO_DEV)
        .and(MountAttributes::NO_EXEC);
    sys::mount_setattr(&same, attributes, Recursive::No)?;
    attach(&same, &place)
}

/// Hides a file behind `/dev/null`, a directory behind an empty one.
fn mask(file_system: &OwnedFd, name: &str, dev: &OwnedFd, scratch: &Scratch) -> Result<(), Errno> {
    let Some(place) = kernel_place(file_system, name)? else { return Ok(()) };
    let cover = if is_directory(place.as_fd())? {
        let empty = clone_mount_at(&scratch.path("empty"))?;
        sys::mount_setattr(&empty, MountAttributes::READ_ONLY, Recursive::No)?;
        empty
    } else {
        clone_mount(rustix::fs::openat(dev, "null", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)?
    };
    attach(&cover, &place)
}

/// Shows the terminal `slave` as `/dev/console` in the current root.
pub(crate) fn console(slave: BorrowedFd<'_>) -> Result<(), ExecError> {
    let failed = |errno: Errno| mount_error("the terminal", "/dev/console", errno);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    rustix::fs::open("/dev/console", flags, mode(0o600)).map_err(|errno| failed(errno.into()))?;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let place =
        rustix::fs::open("/dev/console", flags, Mode::empty()).map_err(|errno| failed(errno.into()))?;
    attach(clone_mount(slave).map_err(failed)?, place).map_err(failed)
}
