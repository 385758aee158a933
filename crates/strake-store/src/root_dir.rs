//! Access inside a tree that somebody hostile may have made.
//!
//! Every path is resolved by the kernel with `openat2` and `RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS`:
//! absolute links and `..` stay inside, and the links of `/proc` are refused. Nothing here ever builds a host
//! path from a guest path.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// The longest path that is resolved, in bytes (`PATH_MAX`).
const PATH_MAX: usize = 4096;

/// The most symbolic links followed for one path, as in the kernel.
const LINKS_MAX: u32 = 40;

/// The root of a tree; all access to it is confined to it.
#[derive(Debug)]
pub struct RootDir(OwnedFd);

/// What a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryType {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

impl EntryType {
    /// The type in the mode of a `stat` structure, if it is one of the seven.
    pub fn of_mode(mode: u32) -> Option<Self> {
        Some(match rustix::fs::FileType::from_raw_mode(mode) {
            rustix::fs::FileType::RegularFile => Self::File,
            rustix::fs::FileType::Directory => Self::Directory,
            rustix::fs::FileType::Symlink => Self::Symlink,
            rustix::fs::FileType::CharacterDevice => Self::CharDevice,
            rustix::fs::FileType::BlockDevice => Self::BlockDevice,
            rustix::fs::FileType::Fifo => Self::Fifo,
            rustix::fs::FileType::Socket => Self::Socket,
            _ => return None,
        })
    }
}

/// What is known of a file without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metadata {
    /// What it is.
    pub entry_type: EntryType,
    /// Permissions with setuid, setgid and sticky: the low twelve bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Size in bytes.
    pub size: u64,
    /// The device it lies on.
    pub dev: u64,
    /// Its inode.
    pub ino: u64,
    /// How many names it has.
    pub nlink: u64,
    /// The device that it is, for device files.
    pub rdev: u64,
    /// Time of last modification, in nanoseconds since 1970; saturates in the year 2262.
    pub mtime_ns: i64,
    /// The same in whole seconds since 1970, for any year.
    pub mtime_s: i64,
    /// Time of last change of content or attributes, in nanoseconds since 1970.
    pub ctime_ns: i64,
}

impl Metadata {
    /// From a `stat` structure.
    ///
    /// # Errors
    /// When the file type is none of the seven.
    pub fn from_stat(stat: &rustix::fs::Stat) -> io::Result<Self> {
        let entry_type = EntryType::of_mode(stat.st_mode)
            .ok_or_else(|| io::Error::new(io::ErrorKind::Unsupported, "unknown file type"))?;
        Ok(Self {
            entry_type,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            dev: stat.st_dev,
            ino: stat.st_ino,
            nlink: widen(stat.st_nlink),
            rdev: stat.st_rdev,
            mtime_ns: nanoseconds(stat.st_mtime, stat.st_mtime_nsec),
            mtime_s: stat.st_mtime,
            ctime_ns: nanoseconds(stat.st_ctime, stat.st_ctime_nsec),
        })
    }

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.entry_type == EntryType::Directory
    }

    /// Whether this is how overlayfs spells "deleted" in a layer directory: character device 0:0.
    pub fn is_whiteout(&self) -> bool {
        self.entry_type == EntryType::CharDevice && self.rdev == 0
    }
}

/// The number of links has another width on other processors.
fn widen(number: impl Into<u64>) -> u64 {
    number.into()
}

/// Saturates, since a file system may hold any time.
fn nanoseconds(seconds: i64, nanos: impl TryInto<i64>) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos.try_into().unwrap_or(0))
}

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirEntry {
    /// The name, never `.` or `..`.
    pub name: OsString,
}

impl RootDir {
    /// Takes an open directory as root.
    pub fn new(directory: OwnedFd) -> Self {
        Self(directory)
    }

    /// Opens a host directory as root. `path` itself is trusted.
    ///
    /// # Errors
    /// When it is not a directory or cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::openat(CWD, path, flags, Mode::empty())?))
    }

    /// Opens a regular file for reading, following links within the root. Never blocks on a pipe.
    ///
    /// # Errors
    /// When there is none, or it is not a regular file.
    pub fn open_file(&self, path: &Path) -> io::Result<File> {
        let descriptor = self.open_at(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
        let metadata = Metadata::from_stat(&rustix::fs::fstat(&descriptor)?)?;
        match metadata.entry_type {
            EntryType::File => Ok(File::from(descriptor)),
            EntryType::Directory => Err(Errno::ISDIR.into()),
            _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")),
        }
    }

    /// Opens a directory as a new root, following links within this one.
    ///
    /// # Errors
    /// When there is none.
    pub fn open_dir(&self, path: &Path) -> io::Result<Self> {
        Ok(Self(self.open_at(path, OFlags::RDONLY | OFlags::DIRECTORY)?))
    }

    /// What `path` names; a symbolic link at the end is not followed.
    ///
    /// # Errors
    /// When there is nothing.
    pub fn stat(&self, path: &Path) -> io::Result<Metadata> {
        let descriptor = self.open_at(path, OFlags::PATH | OFlags::NOFOLLOW)?;
        Metadata::from_stat(&rustix::fs::fstat(&descriptor)?)
    }

    /// What `path` names after following all links within the root.
    ///
    /// # Errors
    /// When there is nothing.
    pub fn stat_following(&self, path: &Path) -> io::Result<Metadata> {
        let descriptor = self.open_at(path, OFlags::PATH)?;
        Metadata::from_stat(&rustix::fs::fstat(&descriptor)?)
    }

    /// The target of a symbolic link, as written.
    ///
    /// # Errors
    /// When there is none.
    pub fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        let descriptor = self.open_at(path, OFlags::PATH | OFlags::NOFOLLOW)?;
        let target = rustix::fs::readlinkat(&descriptor, c"", Vec::new())?;
        Ok(PathBuf::from(OsString::from_vec(target.into_bytes())))
    }

    /// The whole content of a regular file of at most `max` bytes.
    ///
    /// # Errors
    /// `FileTooLarge` when it is larger; otherwise as [`RootDir::open_file`].
    pub fn read_bounded(&self, path: &Path, max: u64) -> io::Result<Vec<u8>> {
        use io::Read as _;
        let mut content = Vec::new();
        self.open_file(path)?.take(max.saturating_add(1)).read_to_end(&mut content)?;
        if content.len() as u64 > max {
            let message = format!("larger than {max} bytes");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
        }
        Ok(content)
    }

    /// The path below the root, without links and dots, of what `path` names. No leading slash; empty for the
    /// root itself.
    ///
    /// # Errors
    /// When there is nothing, or too many links.
    pub fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        self.resolve_with(path, Missing::Refuse)
    }

    /// As [`RootDir::resolve`], but what is missing is taken as it is written, as the place of something new.
    ///
    /// # Errors
    /// When there are too many links, or a file stands where a directory is needed.
    pub fn resolve_new(&self, path: &Path) -> io::Result<PathBuf> {
        self.resolve_with(path, Missing::Keep)
    }

    fn resolve_with(&self, path: &Path, missing: Missing) -> io::Result<PathBuf> {
        let mut pending: Vec<OsString> = components_reversed(path)?;
        let mut resolved = PathBuf::new();
        let mut links = 0;
        while let Some(component) = pending.pop() {
            if component == ".." {
                resolved.pop();
                continue;
            }
            let candidate = resolved.join(&component);
            match self.stat(&candidate) {
                Ok(metadata) if metadata.entry_type == EntryType::Symlink => {
                    links += 1;
                    if links > LINKS_MAX {
                        return Err(Errno::LOOP.into());
                    }
                    let target = self.read_link(&candidate)?;
                    if target.is_absolute() {
                        resolved = PathBuf::new();
                    }
                    pending.extend(components_reversed(&target)?);
                }
                Ok(metadata) if !metadata.is_dir() && !pending.is_empty() => {
                    return Err(Errno::NOTDIR.into());
                }
                Ok(_) => resolved = candidate,
                Err(error) if error.kind() == io::ErrorKind::NotFound && missing == Missing::Keep => {
                    resolved = candidate;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(resolved)
    }

    /// The names in a directory, sorted bytewise.
    ///
    /// # Errors
    /// When there is no such directory.
    pub fn read_dir(&self, path: &Path) -> io::Result<impl Iterator<Item = DirEntry> + use<>> {
        let directory = self.open_at(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        Ok(sorted_names(directory.as_fd())?.into_iter().map(|name| DirEntry { name }))
    }

    /// The extended attributes of what `path` names, not following a link at the end, sorted by name.
    ///
    /// # Errors
    /// When there is nothing, or the attributes cannot be read.
    pub fn xattrs(&self, path: &Path) -> io::Result<Vec<(OsString, Vec<u8>)>> {
        let descriptor = self.open_at(path, OFlags::PATH | OFlags::NOFOLLOW)?;
        crate::xattr::of_descriptor(descriptor.as_fd())
    }

    /// Opens `path` within the root with the given flags; always close-on-exec.
    pub(crate) fn open_at(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        Ok(open_in_root(&self.0, relative(path)?, flags)?)
    }
}

/// Opens a relative path within `root` with the given flags; always close-on-exec.
pub(crate) fn open_in_root(root: impl AsFd, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    // EAGAIN is the kernel's answer when something was renamed during the walk; it asks for another try.
    for _ in 0..64 {
        match rustix::fs::openat2(&root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN) => {}
            result => return result,
        }
    }
    Err(Errno::AGAIN)
}

impl AsFd for RootDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What to do with a component that does not exist.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    Refuse,
    Keep,
}

/// `.` for an empty path, since `openat2` refuses that; paths beyond `PATH_MAX` are refused here.
fn relative(path: &Path) -> io::Result<&Path> {
    if path.as_os_str().len() >= PATH_MAX {
        return Err(Errno::NAMETOOLONG.into());
    }
    Ok(if path.as_os_str().is_empty() { Path::new(".") } else { path })
}

/// The components of a path that mean something, last first.
fn components_reversed(path: &Path) -> io::Result<Vec<OsString>> {
    relative(path)?;
    let mut parts: Vec<OsString> = path
        .components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some(OsStr::from_bytes(b"..").to_owned()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        })
        .collect();
    parts.reverse();
    Ok(parts)
}

/// The names in an open directory, sorted bytewise.
pub(crate) fn sorted_names(directory: BorrowedFd<'_>) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name.to_vec()));
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// What a name in an open directory is; links are not followed.
pub(crate) fn stat_at(directory: BorrowedFd<'_>, name: &OsStr) -> io::Result<Metadata> {
    Metadata::from_stat(&rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?)
}
