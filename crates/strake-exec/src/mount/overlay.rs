//! Overlay mounts, by the new mount interface and, on kernels before 6.8, by the old one.

use std::fmt::Write as _;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno as Os;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen,
};

use super::{Scratch, clone_mount};
use crate::OLDEST_LINUX;
use crate::error::{Errno, ExecError};

/// The kernel's bound on lower directories (`OVL_MAX_STACK`).
pub(super) const MAX_LOWERS: usize = 500;

/// Longest value in bytes that `fsconfig` takes; longer paths are named by a descriptor.
const MAX_STRING: usize = 255;

/// The kernel's defaults for these are build options; all four would change what the upper directory means.
/// Redirects are neither made nor followed: `off` would still follow them on some kernels, and is refused there
/// together with `userxattr`.
const PLAIN: [(&str, &str); 4] =
    [("index", "off"), ("redirect_dir", "nofollow"), ("metacopy", "off"), ("xino", "off")];

/// A stack of directories to be mounted as one.
#[derive(Debug)]
pub(super) struct Overlay<'a> {
    /// Top first, unlike in the public types: the order in which the kernel is told.
    pub(super) lowers: Vec<&'a Path>,
    pub(super) upper_and_work: Option<(&'a Path, &'a Path)>,
    pub(super) user_xattr: bool,
    pub(super) volatile: bool,
}

impl Overlay<'_> {
    /// Mounts the stack, not attached anywhere. The places of its directories are found now: what is mounted over
    /// them later has no effect.
    pub(super) fn mount(&self, scratch: &Scratch) -> Result<OwnedFd, ExecError> {
        if self.lowers.len() > MAX_LOWERS {
            let why = format!("{} directories, overlayfs takes {MAX_LOWERS}", self.lowers.len());
            return Err(ExecError::invalid("layers of the root file system", why));
        }
        match self.configure() {
            Ok(mount) => Ok(mount),
            Err(Failure::NoLowerdirPlus) => self.mount_the_old_way(scratch),
            Err(Failure::Step(what, errno)) => Err(self.explain(what, errno)),
        }
    }

    fn configure(&self) -> Result<OwnedFd, Failure> {
        let at = |what: String| move |errno: Os| Failure::Step(what, errno);
        let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(at("open overlayfs".into()))?;
        let mut long = Vec::new();
        let mut set = |key: &str, value: &Path| {
            if value.as_os_str().len() <= MAX_STRING {
                return fsconfig_set_string(context.as_fd(), key, value);
            }
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let directory = rustix::fs::open(value, flags, Mode::empty())?;
            let result =
                fsconfig_set_string(context.as_fd(), key, format!("/proc/self/fd/{}", directory.as_raw_fd()));
            long.push(directory);
            result
        };
        for (number, lower) in self.lowers.iter().enumerate() {
            set("lowerdir+", lower).map_err(|errno| match (number, errno) {
                // The first one is refused by kernels that do not know the key; a missing path is ENOENT.
                (0, Os::INVAL) => Failure::NoLowerdirPlus,
                _ => Failure::Step(format!("lower directory {}", lower.display()), errno),
            })?;
        }
        if let Some((upper, work)) = self.upper_and_work {
            set("upperdir", upper).map_err(at(format!("upper directory {}", upper.display())))?;
            set("workdir", work).map_err(at(format!("work directory {}", work.display())))?;
        }
        for (key, value) in PLAIN {
            set(key, Path::new(value)).map_err(at(format!("{key}={value}")))?;
        }
        for flag in self.flags() {
            fsconfig_set_flag(context.as_fd(), flag).map_err(at(flag.into()))?;
        }
        fsconfig_create(context.as_fd()).map_err(at("create".into()))?;
        fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
            .map_err(at("mount".into()))
    }

    fn flags(&self) -> impl Iterator<Item = &'static str> {
        let volatile = self.volatile && self.upper_and_work.is_some();
        self.user_xattr.then_some("userxattr").into_iter().chain(volatile.then_some("volatile"))
    }

    /// `mount(2)` takes 4 KiB of options, so every directory is named by a descriptor: room for about 200 of them.
    fn mount_the_old_way(&self, scratch: &Scratch) -> Result<OwnedFd, ExecError> {
        let mut open = Vec::new();
        let mut name = |path: &Path| -> Result<PathBuf, ExecError> {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let directory = rustix::fs::open(path, flags, Mode::empty())
                .map_err(|errno| self.explain(format!("directory {}", path.display()), errno))?;
            let name = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
            open.push(directory);
            Ok(name)
        };
        let mut options = String::from("lowerdir=");
        for (number, lower) in self.lowers.iter().enumerate() {
            let separator = if number == 0 { "" } else { ":" };
            let _ = write!(options, "{separator}{}", name(lower)?.display());
        }
        if let Some((upper, work)) = self.upper_and_work {
            let _ = write!(options, ",upperdir={},workdir={}", name(upper)?.display(), name(work)?.display());
        }
        for (key, value) in PLAIN {
            let _ = write!(options, ",{key}={value}");
        }
        for flag in self.flags() {
            let _ = write!(options, ",{flag}");
        }
        let place = scratch.directory("overlay")?;
        let options = std::ffi::CString::new(options).map_err(|_| ExecError::internal("NUL in a number"))?;
        rustix::mount::mount(
            "overlay",
            scratch.path("overlay"),
            "overlay",
            MountFlags::empty(),
            Some(&*options),
        )
        .map_err(|errno| self.explain("mount(2)".into(), errno))?;
        // The descriptor was opened before the mount, so the mount is looked up once more.
        drop(place);
        let mounted = scratch.directory("overlay")?;
        clone_mount(mounted).map_err(|errno| ExecError::setup("take the overlay", errno))
    }

    fn explain(&self, what: String, errno: Os) -> ExecError {
        let error = ExecError::setup(
            format!("mount an overlay of {} directories: {what}", self.lowers.len()),
            Errno::from(errno),
        );
        match errno {
            Os::NODEV => error.remedy("the kernel has no overlayfs: load the module overlay"),
            Os::PERM => error.remedy(format!(
                "overlayfs in a user namespace needs Linux {OLDEST_LINUX} or newer"
            )),
            Os::INVAL if self.upper_and_work.is_some() => error.remedy(
                "the upper directory may lie on an overlay itself, or the work directory was used with volatile",
            ),
            _ => error,
        }
    }
}

enum Failure {
    NoLowerdirPlus,
    Step(String, Os),
}
