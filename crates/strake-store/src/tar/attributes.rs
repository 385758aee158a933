//! Owner, mode, extended attributes and times, in the order that keeps them.

use std::ffi::OsStr;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::{AtFlags, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::TarError;
use super::tree::failed;
use crate::root_dir::Metadata;
use crate::xattr;

/// What a file has beside its content.
#[derive(Debug, Clone)]
pub(super) struct Attributes {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Seconds since 1970 and nanoseconds.
    pub(super) mtime: (i64, u32),
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Who writes, and what could not be written.
#[derive(Debug)]
pub(super) struct Setter {
    /// New files belong to this user and group already.
    owner: (u32, u32),
    pub(super) notes: Vec<String>,
}

/// The most remarks kept; a layer of a million odd files needs no million lines.
const NOTES_MAX: usize = 100;

/// How a file is reached.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place<'a> {
    /// An open file or directory.
    Open(BorrowedFd<'a>),
    /// Anything else: a name in an open directory. Links are not followed.
    Named(BorrowedFd<'a>, &'a OsStr),
}

impl Attributes {
    /// Those of an existing file.
    pub(super) fn of(metadata: &Metadata, xattrs: Vec<xattr::Attribute>) -> Self {
        let xattrs = xattrs.into_iter().filter(|(name, _)| !xattr::is_overlay(name));
        Self {
            mode: metadata.mode,
            uid: metadata.uid,
            gid: metadata.gid,
            mtime: (
                metadata.mtime_s,
                u32::try_from(metadata.mtime_ns.rem_euclid(1_000_000_000)).unwrap_or(0),
            ),
            xattrs: xattrs.map(|(name, value)| (name.as_bytes().to_vec(), value)).collect(),
        }
    }
}

impl Setter {
    pub(super) fn new() -> Self {
        let owner = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        Self { owner, notes: Vec::new() }
    }

    pub(super) fn note(&mut self, note: impl FnOnce() -> String) {
        if self.notes.len() < NOTES_MAX {
            self.notes.push(note());
        }
    }

    /// Sets everything: owner first, since that clears setuid, setgid and capabilities; times last, since all the
    /// rest changes them.
    pub(super) fn set(
        &mut self,
        place: Place<'_>,
        path: &[u8],
        attributes: &Attributes,
        is_link: bool,
    ) -> Result<(), TarError> {
        self.set_owner(place, path, attributes)?;
        if !is_link {
            let mode = Mode::from_raw_mode(attributes.mode);
            let result = match place {
                Place::Open(file) => rustix::fs::fchmod(file, mode),
                Place::Named(directory, name) => rustix::fs::chmodat(directory, name, mode, AtFlags::empty()),
            };
            result.map_err(|error| failed("set the mode of", path, error))?;
        }
        for (name, value) in &attributes.xattrs {
            self.set_xattr(place, path, name, value)?;
        }
        let (seconds, nanoseconds) = attributes.mtime;
        let time = Timespec { tv_sec: seconds, tv_nsec: i64::from(nanoseconds) };
        let times = Timestamps { last_access: time, last_modification: time };
        let result = match place {
            Place::Open(file) => rustix::fs::futimens(file, &times),
            Place::Named(directory, name) => {
                rustix::fs::utimensat(directory, name, &times, AtFlags::SYMLINK_NOFOLLOW)
            }
        };
        result.map_err(|error| failed("set the time of", path, error))
    }

    fn set_owner(&self, place: Place<'_>, path: &[u8], attributes: &Attributes) -> Result<(), TarError> {
        let (uid, gid) = (attributes.uid, attributes.gid);
        let is_new_file = matches!(place, Place::Open(_));
        if (uid, gid) == self.owner && is_new_file {
            return Ok(());
        }
        let (user, group) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        let result = match place {
            Place::Open(file) => rustix::fs::fchown(file, user, group),
            Place::Named(directory, name) => {
                rustix::fs::chownat(directory, name, user, group, AtFlags::SYMLINK_NOFOLLOW)
            }
        };
        result.map_err(|error| match error {
            Errno::INVAL => TarError::Entry {
                path: super::escape(path),
                problem: format!(
                    "its owner {uid}:{gid} has no place among the subordinate ids of this user; \
                     widen the ranges in /etc/subuid and /etc/subgid"
                ),
            },
            error => failed("set the owner of", path, error),
        })
    }

    fn set_xattr(
        &mut self,
        place: Place<'_>,
        path: &[u8],
        name: &[u8],
        value: &[u8],
    ) -> Result<(), TarError> {
        let os_name = OsStr::from_bytes(name);
        let remark = |why: &str| format!("{}: attribute {} {why}", super::escape(path), super::escape(name));
        if xattr::is_overlay(os_name) {
            self.note(|| remark("is overlayfs's own and was left out"));
            return Ok(());
        }
        let portable;
        let value = if name == b"security.capability" {
            portable = xattr::portable_capability(value);
            &portable[..]
        } else {
            value
        };
        let result = match place {
            Place::Open(file) => rustix::fs::fsetxattr(file, os_name, value, XattrFlags::empty()),
            Place::Named(directory, file) => {
                xattr::set(&xattr::path_at(directory, file.as_bytes()), os_name, value)
            }
        };
        match result {
            Ok(()) => Ok(()),
            // The file system or the user namespace does not have it: the content is worth more than the mark.
            Err(Errno::NOTSUP | Errno::PERM | Errno::INVAL) => {
                self.note(|| remark("is not possible here and was left out"));
                Ok(())
            }
            Err(error) => Err(failed("set an attribute of", path, error)),
        }
    }
}
