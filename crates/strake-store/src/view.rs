//! A merged tree to read.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, OpenTreeFlags, UnmountFlags};

use crate::layout::{Shared, TempDir};
use crate::{Flavour, RootDir, StoreError};

/// What the overlays of strake are mounted with; the kernel's defaults differ between distributions. With `userxattr`
/// the kernel refuses `redirect_dir=off`, and `nofollow` means the same for what is written.
fn options(flavour: Flavour) -> [(&'static str, &'static str); 4] {
    let redirect = match flavour {
        Flavour::Trusted => "off",
        Flavour::User => "nofollow",
    };
    [("index", "off"), ("redirect_dir", redirect), ("metacopy", "off"), ("xino", "off")]
}

/// The longest string that `fsconfig` takes, the final zero byte not counted.
const PARAMETER_MAX: usize = 255;

/// The merged tree of some layers, read-only. It is mounted nowhere and ends when dropped.
#[derive(Debug)]
pub struct View {
    root: RootDir,
    /// The copy that is the tree, where there is no overlayfs.
    _copy: Option<TempDir>,
}

impl View {
    /// The tree.
    pub fn root(&self) -> &RootDir {
        &self.root
    }

    /// A directory as it is.
    pub(crate) fn of_directory(path: &Path) -> Result<Self, StoreError> {
        let root = RootDir::open(path).map_err(StoreError::io("open", path))?;
        Ok(Self { root, _copy: None })
    }

    /// A temporary directory that lives as long as the view.
    pub(crate) fn of_copy(temp: TempDir, tree: &Path) -> Result<Self, StoreError> {
        let root = RootDir::open(tree).map_err(StoreError::io("open", tree))?;
        Ok(Self { root, _copy: Some(temp) })
    }

    /// An overlay of at least two directories, bottom first.
    pub(crate) fn overlay(shared: &Arc<Shared>, lowers: &[PathBuf]) -> Result<Self, StoreError> {
        let root = match mount_overlay(shared.flavour, lowers, None, &shared.root) {
            Err(StoreError::Io { source, .. }) if is_unknown_option(&source) => {
                mount_classic(shared, lowers)?
            }
            result => result?,
        };
        Ok(Self { root: RootDir::new(root), _copy: None })
    }
}

fn is_unknown_option(error: &std::io::Error) -> bool {
    error.raw_os_error() == Some(Errno::INVAL.raw_os_error())
}

/// Mounts an overlay that is attached nowhere. `place` is named in errors.
pub(crate) fn mount_overlay(
    flavour: Flavour,
    lowers: &[PathBuf],
    upper_and_work: Option<(&Path, &Path)>,
    place: &Path,
) -> Result<OwnedFd, StoreError> {
    let failed = || StoreError::sys("mount an overlay in", place);
    let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(failed())?;
    let set = |key: &str, value: &Path| rustix::mount::fsconfig_set_string(&context, key, value);
    set("source", Path::new("strake")).map_err(failed())?;
    for (key, value) in options(flavour) {
        set(key, Path::new(value)).map_err(failed())?;
    }
    if flavour == Flavour::User {
        rustix::mount::fsconfig_set_flag(&context, "userxattr").map_err(failed())?;
    }
    // Descriptors behind shortened paths must live until the mount is made.
    let mut held = Vec::new();
    for lower in lowers.iter().rev() {
        set("lowerdir+", &short(lower, &mut held)?).map_err(failed())?;
    }
    if let Some((upper, work)) = upper_and_work {
        set("upperdir", &short(upper, &mut held)?).map_err(failed())?;
        set("workdir", &short(work, &mut held)?).map_err(failed())?;
        // Nothing written through such a mount outlives it; without this, unmounting would sync the whole disk.
        rustix::mount::fsconfig_set_flag(&context, "volatile").map_err(failed())?;
    }
    rustix::mount::fsconfig_create(&context).map_err(failed())?;
    let attributes = match upper_and_work {
        Some(_) => MountAttrFlags::empty(),
        None => MountAttrFlags::MOUNT_ATTR_RDONLY,
    };
    let attributes = attributes | MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes).map_err(failed())
}

/// A path that `fsconfig` takes: itself, or one through a descriptor when it is too long.
fn short(path: &Path, held: &mut Vec<OwnedFd>) -> Result<PathBuf, StoreError> {
    if path.as_os_str().len() <= PARAMETER_MAX {
        return Ok(path.to_owned());
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory =
        rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(StoreError::sys("open", path))?;
    let through = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
    held.push(directory);
    Ok(through)
}

/// For kernels before 6.8, which do not know `lowerdir+`: mounts the overlay for a moment at a private directory
/// of the store and takes a detached copy of the mount. The option string has room for about seventy layers.
fn mount_classic(shared: &Arc<Shared>, lowers: &[PathBuf]) -> Result<OwnedFd, StoreError> {
    let place = TempDir::new(shared)?;
    let failed = || StoreError::sys("mount an overlay at", place.path());
    let mut lowerdir = String::new();
    for lower in lowers.iter().rev() {
        let path = lower.to_str().filter(|path| !path.contains([':', ',', '\\']));
        let Some(path) = path else {
            return Err(failed()(Errno::INVAL));
        };
        lowerdir.push_str(if lowerdir.is_empty() { "" } else { ":" });
        lowerdir.push_str(path);
    }
    let mut options = format!("lowerdir={lowerdir}");
    for (key, value) in self::options(shared.flavour) {
        options.push_str(&format!(",{key}={value}"));
    }
    if shared.flavour == Flavour::User {
        options.push_str(",userxattr");
    }
    if options.len() >= 4096 {
        let limit = lowers.len() * 4000 / options.len();
        return Err(StoreError::TooManyLayers { count: lowers.len(), limit });
    }
    let options = std::ffi::CString::new(options).expect("a path of the store has no zero byte");
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount("strake", place.path(), "overlay", flags, options.as_c_str()).map_err(failed())?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = rustix::mount::open_tree(CWD, place.path(), flags).map_err(failed());
    rustix::mount::unmount(place.path(), UnmountFlags::DETACH).map_err(failed())?;
    tree
}
