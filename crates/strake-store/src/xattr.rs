//! Extended attributes, and copying all attributes of a file to another.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use crate::Flavour;

/// The largest value and the largest list of names that the kernel knows (`XATTR_SIZE_MAX`).
const VALUE_MAX: usize = 65_536;

/// An attribute: name and value.
pub(crate) type Attribute = (OsString, Vec<u8>);

/// All attributes of what a descriptor names, sorted; `O_PATH` descriptors will do.
pub(crate) fn of_descriptor(descriptor: BorrowedFd<'_>) -> io::Result<Vec<Attribute>> {
    // The link of /proc leads to the very object, and an attribute call on it follows no further link.
    read_all(&PathBuf::from(format!("/proc/self/fd/{}", descriptor.as_raw_fd())), Follow::Yes)
}

/// All attributes of an open file or directory, sorted.
pub(crate) fn of_open(file: BorrowedFd<'_>) -> io::Result<Vec<Attribute>> {
    // Most files have none, which one call on the descriptor tells.
    let mut small = [0_u8; 512];
    match rustix::fs::flistxattr(file, &mut small[..]) {
        Ok(0) | Err(Errno::NOTSUP) => Ok(Vec::new()),
        _ => of_descriptor(file),
    }
}

/// All attributes of what a host path names, sorted; a link at the end is not followed.
pub(crate) fn of_path(path: &Path) -> io::Result<Vec<Attribute>> {
    read_all(path, Follow::No)
}

/// Whether the last component of a path may be a link that is followed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Follow {
    Yes,
    No,
}

fn read_all(path: &Path, follow: Follow) -> io::Result<Vec<Attribute>> {
    let mut small = [0_u8; 512];
    let list = |buffer: &mut [u8]| match follow {
        Follow::Yes => rustix::fs::listxattr(path, buffer),
        Follow::No => rustix::fs::llistxattr(path, buffer),
    };
    let names = match list(&mut small) {
        Ok(0) | Err(Errno::NOTSUP) => return Ok(Vec::new()),
        Ok(length) => small[..length].to_vec(),
        Err(Errno::RANGE) => {
            let mut large = vec![0; VALUE_MAX];
            let length = list(&mut large)?;
            large.truncate(length);
            large
        }
        Err(error) => return Err(error.into()),
    };
    let mut attributes = Vec::new();
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let name = OsStr::from_bytes(name);
        match value(path, name, follow) {
            Ok(value) => attributes.push((name.to_owned(), value)),
            // Removed between the two calls.
            Err(Errno::NODATA) => {}
            Err(error) => return Err(error.into()),
        }
    }
    attributes.sort_unstable();
    Ok(attributes)
}

fn value(path: &Path, name: &OsStr, follow: Follow) -> Result<Vec<u8>, Errno> {
    let get = |buffer: &mut [u8]| match follow {
        Follow::Yes => rustix::fs::getxattr(path, name, buffer),
        Follow::No => rustix::fs::lgetxattr(path, name, buffer),
    };
    let mut small = [0_u8; 512];
    match get(&mut small) {
        Ok(length) => Ok(small[..length].to_vec()),
        Err(Errno::RANGE) => {
            let mut large = vec![0; VALUE_MAX];
            let length = get(&mut large)?;
            large.truncate(length);
            Ok(large)
        }
        Err(error) => Err(error),
    }
}

/// Whether an attribute is overlayfs's own and must never leave the store or come in.
pub(crate) fn is_overlay(name: &OsStr) -> bool {
    name.as_bytes().starts_with(b"trusted.overlay.") || name.as_bytes().starts_with(b"user.overlay.")
}

/// Sets an attribute of what a host path names, not following a link at the end.
pub(crate) fn set(path: &Path, name: &OsStr, value: &[u8]) -> Result<(), Errno> {
    rustix::fs::lsetxattr(path, name, value, XattrFlags::empty())
}

/// The value that a mark of overlayfs has on a directory.
pub(crate) fn overlay_mark(path: &Path, flavour: Flavour, mark: Mark) -> io::Result<bool> {
    let name = mark.name(flavour);
    match value(path, OsStr::new(&name), Follow::No) {
        Ok(value) => Ok(value == b"y"),
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Marks a directory.
pub(crate) fn set_overlay_mark(path: &Path, flavour: Flavour, mark: Mark) -> io::Result<()> {
    Ok(set(path, OsStr::new(&mark.name(flavour)), b"y")?)
}

/// What can be said of a directory in overlay form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    /// It hides the directory of the same name below; this is overlayfs's own.
    Opaque,
    /// It is the root of a layer whose tar has an entry for the root. Only strake reads it; it is kept in
    /// overlayfs's name space because overlayfs hides everything there from those who look at the merged tree.
    DeclaresRoot,
}

impl Mark {
    pub(crate) fn name(self, flavour: Flavour) -> String {
        let name = match self {
            Self::Opaque => "opaque",
            Self::DeclaresRoot => "strake-root",
        };
        format!("{}{name}", flavour.overlay_prefix())
    }
}

/// Copies owner, mode, attributes and times, except overlayfs's own attributes. Neither path may be replaced
/// meanwhile; links at the end are not followed.
pub(crate) fn copy_all(from: &Path, to: &Path) -> io::Result<()> {
    let stat = rustix::fs::lstat(from)?;
    let owner = (Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)));
    rustix::fs::chownat(CWD, to, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)?;
    let is_link = stat.st_mode & 0o170_000 == 0o120_000;
    if !is_link {
        rustix::fs::chmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    }
    for (name, value) in of_path(from)?.iter().filter(|(name, _)| !is_overlay(name)) {
        set(to, name, value)?;
    }
    let time = |seconds, nanoseconds| Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec.cast_signed()),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec.cast_signed()),
    };
    Ok(rustix::fs::utimensat(CWD, to, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// A name in a directory as a host path, for attribute calls, which have no `at` form. The parent is an open
/// descriptor, so nobody can lead the path elsewhere.
pub(crate) fn path_at(directory: BorrowedFd<'_>, name: &[u8]) -> PathBuf {
    let mut path = format!("/proc/self/fd/{}/", directory.as_raw_fd()).into_bytes();
    path.extend_from_slice(name);
    PathBuf::from(OsString::from_vec(path))
}

/// A file capability (`security.capability`) in the form that has no owner: version 3 carries the id of a user
/// namespace's root, which means nothing elsewhere (capabilities(7)).
pub(crate) fn portable_capability(value: &[u8]) -> Vec<u8> {
    const REVISION_3: u8 = 3;
    const REVISION_2: u8 = 2;
    let mut value = value.to_vec();
    if value.len() == 24 && value[3] == REVISION_3 {
        value[3] = REVISION_2;
        value.truncate(20);
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_3_capabilities_lose_their_owner() {
        let mut three = vec![1, 0, 0, 3];
        three.extend([7; 16]);
        let mut two = vec![1, 0, 0, 2];
        two.extend([7; 16]);
        three.extend([0xe8, 3, 0, 0]);
        assert_eq!(portable_capability(&three), two);
        assert_eq!(portable_capability(&two), two);
        assert_eq!(portable_capability(b"odd"), b"odd");
    }
}
