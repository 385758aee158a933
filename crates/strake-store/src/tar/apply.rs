//! From a tar to a layer directory in overlay form.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Seek as _, SeekFrom, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::attributes::{Attributes, Place, Setter};
use super::read::{Entry, Kind, TarReader};
use super::tree::{Dir, Tree, failed, io, is_below_or_same, split};
use super::{Applied, ApplyOptions, TarError, Whiteouts, escape};
use crate::root_dir::{Metadata, open_in_root};
use crate::xattr::Mark;
use crate::{Flavour, xattr};

/// The longest path, in bytes (`PATH_MAX`).
const PATH_MAX: usize = 4096;

/// Writes the uncompressed tar `reader` below the directory `dest`, as a layer in overlay form or as plain files.
///
/// What stands there already is replaced, except that a directory replaces no directory. Nothing outside `dest` is
/// ever touched. After an error `dest` holds part of the content and should be discarded.
///
/// # Errors
/// When the tar is malformed, hostile or too large, or a file cannot be written.
pub fn apply(reader: impl Read, dest: &Path, options: &ApplyOptions) -> Result<Applied, TarError> {
    let mut tar = TarReader::new(reader);
    let mut applier = Applier {
        tree: Tree::open(dest)?,
        setter: Setter::new(),
        options,
        directories: BTreeMap::new(),
        opaque: Vec::new(),
        applied: Applied::default(),
    };
    while let Some(entry) = tar.next()? {
        applier.entry(&entry, &mut tar)?;
    }
    applier.finish(dest)
}

struct Applier<'a> {
    tree: Tree,
    setter: Setter,
    options: &'a ApplyOptions,
    /// What directories of the tar get at the end, when nothing is written into them any more.
    directories: BTreeMap<Vec<u8>, Attributes>,
    /// Directories that hide what is below.
    opaque: Vec<Vec<u8>>,
    applied: Applied,
}

impl Applier<'_> {
    fn entry<R: Read>(&mut self, entry: &Entry, tar: &mut TarReader<R>) -> Result<(), TarError> {
        self.count(entry)?;
        let path = clean(&entry.path, &entry.path)?;
        let attributes = self.attributes(entry)?;
        if path.is_empty() {
            return self.root(entry, attributes);
        }
        let (parent, name) = split(&path);
        if self.options.whiteouts == Whiteouts::Layer && name.starts_with(b".wh.") {
            let parent = self.tree.directory(parent)?;
            return self.whiteout(&parent, name, entry);
        }
        if let Kind::Other(code) = entry.kind {
            self.setter.note(|| format!("{}: entry type {:?} was left out", escape(&path), char::from(code)));
            return Ok(());
        }
        if self.is_impossible_device(entry, &path) {
            return Ok(());
        }
        let parent = self.tree.directory(parent)?;
        match entry.kind {
            Kind::Directory => self.directory(&parent, name, attributes),
            Kind::File => self.file(&parent, name, entry, &attributes, tar),
            Kind::HardLink => self.hard_link(&parent, name, entry),
            _ => self.special(&parent, name, entry, &attributes),
        }
    }

    fn count(&mut self, entry: &Entry) -> Result<(), TarError> {
        self.applied.entries += 1;
        if self.applied.entries > self.options.max_entries {
            return Err(TarError::Limit { what: "entries", limit: self.options.max_entries });
        }
        self.applied.bytes = self.applied.bytes.saturating_add(entry.size);
        if self.applied.bytes > self.options.max_bytes {
            return Err(TarError::Limit { what: "bytes in its files", limit: self.options.max_bytes });
        }
        Ok(())
    }

    fn attributes(&self, entry: &Entry) -> Result<Attributes, TarError> {
        // The largest number means "leave as it is" to the kernel.
        let id = |id: u64| u32::try_from(id).ok().filter(|id| *id != u32::MAX);
        let (Some(uid), Some(gid)) = (id(entry.uid), id(entry.gid)) else {
            let problem = format!("its owner {}:{} is not an owner", entry.uid, entry.gid);
            return Err(TarError::Entry { path: escape(&entry.path), problem });
        };
        let xattrs = entry.xattrs.clone();
        Ok(Attributes { mode: entry.mode, uid, gid, mtime: entry.mtime, xattrs })
    }

    /// An entry for the root itself, `./` or `/`.
    fn root(&mut self, entry: &Entry, attributes: Attributes) -> Result<(), TarError> {
        if entry.kind != Kind::Directory {
            let problem = "only a directory can stand at the root".to_owned();
            return Err(TarError::Entry { path: escape(&entry.path), problem });
        }
        self.directories.insert(Vec::new(), attributes);
        Ok(())
    }

    /// `.wh.NAME` deletes `NAME` below, `.wh..wh..opq` everything below (image-spec v1.1 `layer.md` §Whiteouts).
    /// Neither touches what this very layer brings.
    fn whiteout(&mut self, parent: &Rc<Dir>, name: &[u8], entry: &Entry) -> Result<(), TarError> {
        let hidden = &name[b".wh.".len()..];
        if hidden == b".wh..opq" {
            self.opaque.push(parent.path.clone());
            return Ok(());
        }
        if hidden.starts_with(b".wh.") {
            // What else begins like that is aufs's own bookkeeping.
            return Ok(());
        }
        if hidden.is_empty() || hidden == b"." || hidden == b".." {
            let problem = "a whiteout that names nothing".to_owned();
            return Err(TarError::Entry { path: escape(&entry.path), problem });
        }
        match self.tree.examine(parent, hidden)? {
            Some(existing) if existing.is_dir() => self.opaque.push(parent.child_path(hidden)),
            Some(_) => {}
            None => {
                let mode = Mode::empty();
                rustix::fs::mknodat(parent.as_fd(), os(hidden), FileType::CharacterDevice, mode, 0)
                    .map_err(|error| failed("create a whiteout for", &parent.child_path(hidden), error))?;
            }
        }
        Ok(())
    }

    /// Devices cannot be made in a user namespace; and 0:0 is how overlayfs spells a whiteout, so that an entry
    /// like that would delete what is below without saying so.
    fn is_impossible_device(&mut self, entry: &Entry, path: &[u8]) -> bool {
        if !matches!(entry.kind, Kind::CharDevice | Kind::BlockDevice) {
            return false;
        }
        let why = if entry.kind == Kind::CharDevice && entry.device == (0, 0) {
            "character device 0:0"
        } else if self.options.flavour == Flavour::User {
            "device, which an ordinary user cannot make,"
        } else {
            return false;
        };
        self.setter.note(|| format!("{}: {why} was left out", escape(path)));
        true
    }

    fn directory(&mut self, parent: &Rc<Dir>, name: &[u8], attributes: Attributes) -> Result<(), TarError> {
        let path = parent.child_path(name);
        let make = || rustix::fs::mkdirat(parent.as_fd(), os(name), Mode::from_raw_mode(0o700));
        match make() {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                let existing = self.tree.examine(parent, name)?;
                if let Some(existing) = existing.filter(|existing| !existing.is_dir()) {
                    self.replace(parent, name, &existing)?;
                    make().map_err(|error| failed("create directory", &path, error))?;
                    if existing.is_whiteout() {
                        self.opaque.push(path.clone());
                    }
                }
            }
            Err(error) => return Err(failed("create directory", &path, error)),
        }
        self.tree.implicit.remove(&path);
        self.directories.insert(path, attributes);
        Ok(())
    }

    fn file<R: Read>(
        &mut self,
        parent: &Rc<Dir>,
        name: &[u8],
        entry: &Entry,
        attributes: &Attributes,
        tar: &mut TarReader<R>,
    ) -> Result<(), TarError> {
        let path = parent.child_path(name);
        let file = self.create(parent, name, || {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(parent.as_fd(), os(name), flags, Mode::from_raw_mode(0o600))
        })?;
        let mut file = File::from(file);
        match &entry.sparse {
            None => copy_data(tar, &mut file, u64::MAX, &path)?,
            Some(map) => {
                for (offset, length) in map {
                    file.seek(SeekFrom::Start(*offset)).map_err(|error| io("write", &path, error))?;
                    copy_data(tar, &mut file, *length, &path)?;
                }
                file.set_len(entry.size).map_err(|error| io("write", &path, error))?;
            }
        }
        self.setter.set(Place::Open(file.as_fd()), &path, attributes, false)
    }

    /// Links to a file of this layer are made at once; links to one below wait until that is there.
    fn hard_link(&mut self, parent: &Rc<Dir>, name: &[u8], entry: &Entry) -> Result<(), TarError> {
        let path = parent.child_path(name);
        let target = clean(&entry.link, &entry.path)?;
        let refuse = |problem: &str| {
            let problem = format!("hard link to `{}`: {problem}", escape(&entry.link));
            Err(TarError::Entry { path: escape(&entry.path), problem })
        };
        if target.is_empty() {
            return refuse("that is the root");
        }
        if target == path {
            return refuse("that is itself");
        }
        let (target_parent, target_name) = split(&target);
        let Some(target_parent) = self.existing_directory(target_parent)? else {
            return self.defer_link(parent, name, target);
        };
        match self.tree.examine(&target_parent, target_name)? {
            Some(found) if found.is_dir() => return refuse("that is a directory"),
            Some(found) if found.is_whiteout() => return refuse("this layer deletes it"),
            Some(found) => {
                let same = self.tree.examine(parent, name)?;
                if same.is_some_and(|same| (same.dev, same.ino) == (found.dev, found.ino)) {
                    return Ok(());
                }
            }
            None => return self.defer_link(parent, name, target),
        }
        self.create(parent, name, || {
            let (from, to) = (target_parent.as_fd(), parent.as_fd());
            rustix::fs::linkat(from, os(target_name), to, os(name), AtFlags::empty())
        })
    }

    /// The directory, if this layer has it; unlike [`Tree::directory`] nothing is made.
    fn existing_directory(&mut self, path: &[u8]) -> Result<Option<Rc<Dir>>, TarError> {
        let root = self.tree.root();
        if path.is_empty() {
            return Ok(Some(root));
        }
        match open_in_root(root.as_fd(), Path::new(os(path)), OFlags::PATH | OFlags::DIRECTORY) {
            // It exists, so this makes nothing and finds the same.
            Ok(_) => self.tree.directory(path).map(Some),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(error) => Err(failed("open", path, error)),
        }
    }

    fn defer_link(&mut self, parent: &Rc<Dir>, name: &[u8], target: Vec<u8>) -> Result<(), TarError> {
        if let Some(existing) = self.tree.examine(parent, name)? {
            self.replace(parent, name, &existing)?;
        }
        self.applied.deferred_links.push((to_path(&parent.child_path(name)), to_path(&target)));
        Ok(())
    }

    /// Links, devices and pipes.
    fn special(
        &mut self,
        parent: &Rc<Dir>,
        name: &[u8],
        entry: &Entry,
        attributes: &Attributes,
    ) -> Result<(), TarError> {
        let path = parent.child_path(name);
        let is_link = entry.kind == Kind::Symlink;
        if is_link && (entry.link.is_empty() || entry.link.contains(&0)) {
            let problem = "a symbolic link that leads nowhere".to_owned();
            return Err(TarError::Entry { path: escape(&path), problem });
        }
        let (major, minor) = entry.device;
        let device = rustix::fs::makedev(major, minor);
        self.create(parent, name, || {
            let node = |file_type, device| {
                rustix::fs::mknodat(parent.as_fd(), os(name), file_type, Mode::from_raw_mode(0o600), device)
            };
            match entry.kind {
                Kind::Symlink => rustix::fs::symlinkat(os(&entry.link), parent.as_fd(), os(name)),
                Kind::CharDevice => node(FileType::CharacterDevice, device),
                Kind::BlockDevice => node(FileType::BlockDevice, device),
                _ => node(FileType::Fifo, 0),
            }
        })?;
        self.setter.set(Place::Named(parent.as_fd(), os(name)), &path, attributes, is_link)
    }

    /// Makes something at a name, replacing what an earlier entry put there.
    fn create<T>(
        &mut self,
        parent: &Rc<Dir>,
        name: &[u8],
        make: impl Fn() -> Result<T, Errno>,
    ) -> Result<T, TarError> {
        let failed = |error| failed("create", &parent.child_path(name), error);
        match make() {
            Err(Errno::EXIST) => {
                if let Some(existing) = self.tree.examine(parent, name)? {
                    self.replace(parent, name, &existing)?;
                }
                make().map_err(failed)
            }
            result => result.map_err(failed),
        }
    }

    fn replace(&mut self, parent: &Rc<Dir>, name: &[u8], existing: &Metadata) -> Result<(), TarError> {
        let path = parent.child_path(name);
        if existing.is_dir() {
            self.directories.retain(|other, _| !is_below_or_same(other, &path));
            self.opaque.retain(|other| !is_below_or_same(other, &path));
        }
        // A link that waits for this name has been replaced as well.
        self.applied.deferred_links.retain(|(link, _)| !is_below_or_same(link.as_os_str().as_bytes(), &path));
        self.tree.remove(parent, name, existing)
    }

    /// Gives directories what they get, deepest first, so that writing into one changes no time already set.
    fn finish(mut self, dest: &Path) -> Result<Applied, TarError> {
        let layer = self.options.whiteouts == Whiteouts::Layer;
        let mut opaque = std::mem::take(&mut self.opaque);
        opaque.append(&mut self.tree.replaced);
        for path in opaque.iter().filter(|_| layer) {
            let directory = self.open_plain(path)?;
            let name = Mark::Opaque.name(self.options.flavour);
            rustix::fs::fsetxattr(&directory, name, b"y", rustix::fs::XattrFlags::empty())
                .map_err(|error| failed("mark as opaque", path, error))?;
        }
        let root_is_declared = self.directories.contains_key(&b""[..]);
        if root_is_declared && layer {
            xattr::set_overlay_mark(dest, self.options.flavour, Mark::DeclaresRoot)
                .map_err(|error| io("mark", b"/", error))?;
        }
        let implicit = std::mem::take(&mut self.tree.implicit);
        let unknown = Attributes { mode: 0o755, uid: 0, gid: 0, mtime: (0, 0), xattrs: Vec::new() };
        let mut directories = std::mem::take(&mut self.directories);
        for path in &implicit {
            directories.entry(path.clone()).or_insert_with(|| unknown.clone());
        }
        for (path, attributes) in directories.iter().rev() {
            let directory = self.open_plain(path)?;
            // Directories may have been there before, with another owner, so this is not a new file.
            let place = Place::Named(directory.as_fd(), OsStr::new("."));
            self.setter.set(place, path, attributes, false)?;
        }
        self.applied.implicit_dirs = implicit.iter().map(|path| to_path(path)).collect();
        if !root_is_declared {
            self.applied.implicit_dirs.insert(0, PathBuf::new());
        }
        self.applied.notes = self.setter.notes;
        Ok(self.applied)
    }

    /// Opens a directory by a path that has no links.
    fn open_plain(&self, path: &[u8]) -> Result<std::os::fd::OwnedFd, TarError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let name = if path.is_empty() { OsStr::new(".") } else { os(path) };
        rustix::fs::openat2(self.tree.root().as_fd(), name, flags, Mode::empty(), resolve)
            .map_err(|error| failed("open", path, error))
    }
}

/// At most `limit` bytes of the current entry into a file.
fn copy_data<R: Read>(
    tar: &mut TarReader<R>,
    file: &mut File,
    mut limit: u64,
    path: &[u8],
) -> Result<(), TarError> {
    while limit > 0 {
        let piece = tar.data()?;
        let length = piece.len().min(usize::try_from(limit).unwrap_or(usize::MAX));
        if length == 0 {
            return Ok(());
        }
        file.write_all(&piece[..length]).map_err(|error| io("write", path, error))?;
        tar.consume(length);
        limit -= length as u64;
    }
    Ok(())
}

/// A path of a tar without leading slashes, dots and trailing slashes. What could mean a place outside is refused.
fn clean(path: &[u8], entry: &[u8]) -> Result<Vec<u8>, TarError> {
    let refuse = |problem: &str| Err(TarError::Entry { path: escape(entry), problem: problem.to_owned() });
    if path.contains(&0) {
        return refuse("a name with a zero byte");
    }
    if path.len() >= PATH_MAX {
        return refuse("a path of more than 4095 bytes");
    }
    let mut clean = Vec::with_capacity(path.len());
    for component in path.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => return refuse("a path with `..`"),
            // The longest name there is, deleted, has a whiteout that is longer still.
            name if name.strip_prefix(b".wh.").unwrap_or(name).len() > 255 => {
                return refuse("a name of more than 255 bytes");
            }
            name => {
                if !clean.is_empty() {
                    clean.push(b'/');
                }
                clean.extend_from_slice(name);
            }
        }
    }
    Ok(clean)
}

fn os(name: &[u8]) -> &OsStr {
    OsStr::from_bytes(name)
}

fn to_path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(std::ffi::OsString::from_vec(bytes.to_vec()))
}
