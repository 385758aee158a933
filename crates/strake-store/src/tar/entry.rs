//! What the tar of a layer says of a file.
//!
//! [`diff`](super::diff) reads a directory for that. Whoever writes the directory knows it already, and can make the
//! tar in the same pass, byte for byte the same.

use std::ffi::OsString;
use std::io;

use super::walk::for_image;
use super::write::{Header, encode};
use crate::root_dir::EntryType;

/// A file of a layer as its tar describes it; not a further name of a file that has several.
#[derive(Debug, Clone, Copy)]
pub struct EntryHead<'a> {
    /// Below the root of the layer, without leading or trailing slash; empty for the root itself.
    pub path: &'a [u8],
    /// What it is.
    pub entry_type: EntryType,
    /// The low twelve bits of its mode.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// The bytes that follow, for a regular file; anything else has none.
    pub size: u64,
    /// Time of last modification in whole seconds since 1970, rounded down.
    pub mtime_s: i64,
    /// The device number, for a device.
    pub rdev: u64,
    /// Where it points, for a symbolic link.
    pub link: &'a [u8],
}

impl<'a> EntryHead<'a> {
    /// Appends what stands before the content in the tar. Of `xattrs` only those that belong into an image are taken.
    ///
    /// # Errors
    /// For a socket, which a tar cannot hold.
    pub fn encode(&self, xattrs: &[(OsString, Vec<u8>)], out: &mut Vec<u8>) -> io::Result<()> {
        let mut xattrs = for_image(xattrs.to_vec());
        xattrs.sort_unstable();
        encode(&self.header(&xattrs, &mut Vec::new())?, out);
        Ok(())
    }

    /// The header. `xattrs` are those of the image, sorted by name; `name` receives the path as a tar has it.
    pub(super) fn header<'h>(
        &self,
        xattrs: &'h [(Vec<u8>, Vec<u8>)],
        name: &'h mut Vec<u8>,
    ) -> io::Result<Header<'h>>
    where
        'a: 'h,
    {
        name.extend_from_slice(self.path);
        if self.entry_type == EntryType::Directory {
            name.extend_from_slice(if self.path.is_empty() { b"./" } else { b"/" });
        }
        let is_device = matches!(self.entry_type, EntryType::CharDevice | EntryType::BlockDevice);
        Ok(Header {
            path: name,
            link: self.link,
            flag: flag_of(self.entry_type)?,
            mode: if self.entry_type == EntryType::Symlink { 0o777 } else { self.mode },
            uid: self.uid,
            gid: self.gid,
            size: if self.entry_type == EntryType::File { self.size } else { 0 },
            mtime: self.mtime_s,
            device: if is_device {
                (rustix::fs::major(self.rdev), rustix::fs::minor(self.rdev))
            } else {
                (0, 0)
            },
            xattrs,
        })
    }
}

/// The type flag of POSIX ustar. Sockets have none: they mean nothing without their process.
fn flag_of(entry_type: EntryType) -> io::Result<u8> {
    Ok(match entry_type {
        EntryType::File => b'0',
        EntryType::Symlink => b'2',
        EntryType::CharDevice => b'3',
        EntryType::BlockDevice => b'4',
        EntryType::Directory => b'5',
        EntryType::Fifo => b'6',
        EntryType::Socket => {
            let message = "a socket cannot be archived";
            return Err(io::Error::new(io::ErrorKind::Unsupported, message));
        }
    })
}
