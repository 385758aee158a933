//! Writes a layout into an overlay upper directory.
//!
//! Directories are made first, private to us; files are written on all cores, in batches that share an open
//! directory; then hard links; then directories get their attributes, deepest first, so that what is written into
//! them does not spoil their times. What the process's file mode mask says does not matter: every mode is set
//! explicitly. Owner first, then mode (changing the owner clears setuid), then attributes, then time.
//!
//! A file of a context is hashed again while it is written, and refused when the digest is not the one that the
//! signature was made of: what the layer holds is what was promised, whatever happens to the files meanwhile.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rayon::prelude::*;
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags,
};
use rustix::io::Errno;
use strake_store::RootDir;
use strake_store::root_dir::{EntryType, Metadata};

use super::layout::{Content, DirAttributes, LayerDir, Layout, Leaf};
use super::plan::join;
use super::{Copied, CopyError, LayerFiles, Owner, Previous};
use crate::build_context::{
    AtPath, Entry, EntryKind, Origin, SourceError, SourceTree, open_beneath, open_file_beneath, read_hashed,
    sys_stat,
};

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY);

/// Files that one thread takes at once: enough to open a directory only now and then, few enough to share the work.
const BATCH: usize = 64;

/// Bytes that the kernel copies without being asked whether to go on.
const COPIED_AT_ONCE: u64 = 16 << 20;

/// Writes the layer.
pub(crate) fn write_layer(
    layout: &Layout<'_>,
    upper: &Path,
    below: Option<&RootDir>,
    previous: Option<Previous<'_>>,
) -> Result<Copied, CopyError> {
    let upper = rustix::fs::openat(CWD, upper, DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(CopyError::sys("open the layer directory for", b""))?;
    let creator = creator(&upper).map_err(CopyError::sys("look at the layer directory of", b""))?;
    let previous = previous.as_ref().map(Farm::open).transpose()?;
    let writer = Writer { upper, previous, creator };
    for dir in &layout.dirs[1..] {
        writer.make_dir(dir)?;
    }
    let batches: Vec<(&LayerDir<'_>, Vec<Item<'_, '_>>)> = layout.dirs.iter().flat_map(batches).collect();
    let written = batches
        .into_par_iter()
        .with_max_len(1)
        .map_init(Vec::new, |buffer, (dir, items)| writer.write_batch(dir, &items, buffer))
        .try_reduce(Written::default, |one, other| Ok(one.plus(&other)))?;
    let linked_names = writer.make_links(layout)?;
    for dir in layout.dirs.iter().rev() {
        writer.finish_dir(dir, below)?;
    }
    let entries = layout.dirs.iter().map(|dir| 1 + dir.leaves.len() as u64).sum();
    let bytes = written.bytes + linked_names.bytes;
    Ok(Copied { files: layer_files(layout), entries, bytes, linked: written.linked, notes: Vec::new() })
}

/// A name in a directory and what it is to be.
type Item<'l, 'a> = (&'l [u8], &'l Leaf<'a>);

fn batches<'l, 'a>(dir: &'l LayerDir<'a>) -> Vec<(&'l LayerDir<'a>, Vec<Item<'l, 'a>>)> {
    let items: Vec<Item<'_, '_>> = dir.leaves.iter().map(|(name, leaf)| (name.as_ref(), leaf)).collect();
    items.chunks(BATCH).map(|chunk| (dir, chunk.to_vec())).collect()
}

/// Which files of the layer have which content, as far as it is known.
fn layer_files(layout: &Layout<'_>) -> LayerFiles {
    let mut files = LayerFiles::default();
    for dir in &layout.dirs {
        for (name, leaf) in &dir.leaves {
            if let Content::Entry { tree, index } = leaf.content
                && let Some(digest) = tree.digest(index)
                && leaf.link.is_none()
            {
                files.insert(join(&dir.path, name), digest);
            }
        }
    }
    files
}

/// Whom the system makes the owner of new files; nobody that could be relied on where directories hand on a group.
fn creator(upper: &OwnedFd) -> Result<Option<Owner>, Errno> {
    const SET_GROUP: u32 = 0o2000;
    let inherits = sys_stat(upper)?.mode & SET_GROUP != 0;
    let owner = Owner { uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw() };
    Ok((!inherits).then_some(owner))
}

struct Writer<'a> {
    upper: OwnedFd,
    previous: Option<Farm<'a>>,
    creator: Option<Owner>,
}

/// An earlier layer to link files from.
struct Farm<'a> {
    root: OwnedFd,
    files: &'a LayerFiles,
}

impl<'a> Farm<'a> {
    fn open(previous: &Previous<'a>) -> Result<Self, CopyError> {
        let root = rustix::fs::openat(CWD, previous.dir, DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(CopyError::sys("open the earlier layer for", b""))?;
        Ok(Self { root, files: previous.files })
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Written {
    bytes: u64,
    linked: u64,
}

impl Written {
    fn plus(self, other: &Self) -> Self {
        Self { bytes: self.bytes + other.bytes, linked: self.linked + other.linked }
    }
}

/// The directories that the files of one batch come from, as far as they are open.
#[derive(Default)]
struct OpenSources<'t> {
    parent: Option<(&'t SourceTree, &'t [u8], OwnedFd)>,
}

impl<'t> OpenSources<'t> {
    /// The directory of an entry.
    fn parent(&mut self, tree: &'t SourceTree, entry: &'t Entry) -> Result<BorrowedFd<'_>, CopyError> {
        let (folder, _) = split(&entry.path);
        let is_open =
            self.parent.as_ref().is_some_and(|(open, path, _)| std::ptr::eq(*open, tree) && *path == folder);
        if !is_open {
            let flags = OFlags::PATH | OFlags::DIRECTORY;
            let opened = open_beneath(tree.root().as_fd(), folder, flags)
                .map_err(SourceError::sys("open directory", folder))?;
            self.parent = Some((tree, folder, opened));
        }
        Ok(self.parent.as_ref().expect("it was opened just above").2.as_fd())
    }
}

impl Writer<'_> {
    fn make_dir(&self, dir: &LayerDir<'_>) -> Result<(), CopyError> {
        let (parent, name) = split(&dir.path);
        let failed = || CopyError::sys("make directory", &dir.path);
        let parent = open_beneath(self.upper.as_fd(), parent, OFlags::PATH | OFlags::DIRECTORY)
            .map_err(|error| failed()(error))?;
        rustix::fs::mkdirat(parent, OsStr::from_bytes(name), Mode::RWXU).map_err(failed())
    }

    fn write_batch(
        &self,
        dir: &LayerDir<'_>,
        items: &[Item<'_, '_>],
        buffer: &mut Vec<u8>,
    ) -> Result<Written, CopyError> {
        let into = open_beneath(self.upper.as_fd(), &dir.path, OFlags::PATH | OFlags::DIRECTORY)
            .map_err(CopyError::sys("open directory", &dir.path))?;
        let earlier = self.previous.as_ref().and_then(|farm| {
            open_beneath(farm.root.as_fd(), &dir.path, OFlags::PATH | OFlags::DIRECTORY).ok()
        });
        let mut sources = OpenSources::default();
        let mut written = Written::default();
        for (name, leaf) in items {
            if leaf.link.is_some() {
                continue;
            }
            if let Content::Entry { tree, .. } = leaf.content {
                tree.check()?;
            }
            if let Some(earlier) = &earlier
                && self.link_earlier(dir, earlier.as_fd(), into.as_fd(), name, leaf)
            {
                written.linked += 1;
                continue;
            }
            let new = New { writer: self, into: into.as_fd(), dir: &dir.path, name, leaf };
            written.bytes += new.write(&mut sources, buffer)?;
        }
        Ok(written)
    }

    /// Links a file from the earlier layer if it is equal in all respects. Whatever goes wrong, the file is written.
    fn link_earlier(
        &self,
        dir: &LayerDir<'_>,
        earlier: BorrowedFd<'_>,
        into: BorrowedFd<'_>,
        name: &[u8],
        leaf: &Leaf<'_>,
    ) -> bool {
        let Content::Entry { tree, index } = leaf.content else { return false };
        let entry = &tree.entries()[index];
        let known = self.previous.as_ref().and_then(|farm| farm.files.get(&join(&dir.path, name)));
        if known.is_none() || known != tree.digest(index) || !entry.xattrs.is_empty() || leaf.adopt {
            return false;
        }
        let name = OsStr::from_bytes(name);
        let Ok(stat) = rustix::fs::statat(earlier, name, AtFlags::SYMLINK_NOFOLLOW) else { return false };
        let Ok(old) = Metadata::from_stat(&stat) else { return false };
        let is_equal = old.entry_type == EntryType::File
            && (old.mode, old.uid, old.gid) == (leaf.mode, leaf.owner.uid, leaf.owner.gid)
            && (old.size, old.mtime_ns) == (entry.size, entry.mtime_ns);
        is_equal && rustix::fs::linkat(earlier, name, into, name, AtFlags::empty()).is_ok()
    }

    /// Gives files their further names. Where the first one is not what it was when the layout began, because
    /// another source overwrote it, the file is written once more.
    fn make_links(&self, layout: &Layout<'_>) -> Result<Written, CopyError> {
        let has_links = |dir: &&LayerDir<'_>| dir.leaves.values().any(|leaf| leaf.link.is_some());
        let mut written = Written::default();
        let mut firsts: Option<HashMap<&[u8], &LayerDir<'_>>> = None;
        for dir in layout.dirs.iter().filter(has_links) {
            let dirs =
                firsts.get_or_insert_with(|| layout.dirs.iter().map(|dir| (&dir.path[..], dir)).collect());
            let into = open_beneath(self.upper.as_fd(), &dir.path, OFlags::PATH | OFlags::DIRECTORY)
                .map_err(CopyError::sys("open directory", &dir.path))?;
            let mut sources = OpenSources::default();
            for (name, leaf) in &dir.leaves {
                let Some(first) = &leaf.link else { continue };
                let (folder, first_name) = split(first);
                let now = dirs.get(folder).and_then(|dir| dir.leaves.get(first_name));
                if now.is_some_and(|now| now.link.is_none() && is_same_file(now, leaf)) {
                    let from = open_beneath(self.upper.as_fd(), folder, OFlags::PATH | OFlags::DIRECTORY)
                        .map_err(CopyError::sys("open directory", folder))?;
                    let (from_name, name) = (OsStr::from_bytes(first_name), OsStr::from_bytes(name));
                    rustix::fs::linkat(from, from_name, &into, name, AtFlags::empty())
                        .map_err(CopyError::sys("link", first))?;
                } else {
                    let new = New { writer: self, into: into.as_fd(), dir: &dir.path, name, leaf };
                    written.bytes += new.write(&mut sources, &mut Vec::new())?;
                }
            }
        }
        Ok(written)
    }

    fn finish_dir(&self, dir: &LayerDir<'_>, below: Option<&RootDir>) -> Result<(), CopyError> {
        let path = Path::new(OsStr::from_bytes(&dir.path));
        let failed = || CopyError::sys("set the attributes of", &dir.path);
        let directory = open_beneath(self.upper.as_fd(), &dir.path, DIRECTORY).map_err(failed())?;
        match (dir.attributes, below) {
            (DirAttributes::New { mode, owner }, _) => {
                set_owner_and_mode(&directory, owner, mode).map_err(failed())
            }
            (DirAttributes::Source { tree, index, mode, owner }, _) => {
                let entry = &tree.entries()[index];
                set_owner_and_mode(&directory, owner, mode).map_err(failed())?;
                set_xattrs(&directory, &entry.xattrs).map_err(failed())?;
                rustix::fs::futimens(&directory, &times(entry.mtime_ns)).map_err(failed())
            }
            (DirAttributes::Below, None) => Ok(()),
            (DirAttributes::Below, Some(below)) => {
                let metadata = below.stat(path).map_err(CopyError::io("stat", &dir.path))?;
                let xattrs =
                    below.xattrs(path).map_err(CopyError::io("read the attributes of", &dir.path))?;
                let owner = Owner { uid: metadata.uid, gid: metadata.gid };
                set_owner_and_mode(&directory, owner, metadata.mode).map_err(failed())?;
                set_xattrs(&directory, &xattrs).map_err(failed())?;
                rustix::fs::futimens(&directory, &times(metadata.mtime_ns)).map_err(failed())
            }
        }
    }
}

fn is_same_file(one: &Leaf<'_>, other: &Leaf<'_>) -> bool {
    let (Content::Entry { tree: a, index: i }, Content::Entry { tree: b, index: j }) =
        (one.content, other.content)
    else {
        return false;
    };
    let (first, second) = (&a.entries()[i], &b.entries()[j]);
    std::ptr::eq(a, b)
        && (first.dev, first.ino) == (second.dev, second.ino)
        && (one.mode, one.owner) == (other.mode, other.owner)
}

/// One file about to come into being.
struct New<'n, 'a> {
    writer: &'n Writer<'n>,
    into: BorrowedFd<'n>,
    dir: &'n [u8],
    name: &'n [u8],
    leaf: &'n Leaf<'a>,
}

impl<'a> New<'_, 'a> {
    /// Answers how many bytes were written.
    fn write(&self, sources: &mut OpenSources<'a>, buffer: &mut Vec<u8>) -> Result<u64, CopyError> {
        let (tree, index) = match self.leaf.content {
            Content::Inline(content) => {
                let file = self.create()?;
                (&file).write_all(content).map_err(self.io("write"))?;
                self.finish_file(&file, None)?;
                return Ok(content.len() as u64);
            }
            Content::Entry { tree, index } => (tree, index),
        };
        let entry = &tree.entries()[index];
        let from = sources.parent(tree, entry)?;
        if self.leaf.adopt {
            self.adopt(from, entry)?;
            return Ok(if entry.kind == EntryKind::File { entry.size } else { 0 });
        }
        match &entry.kind {
            EntryKind::File => {
                let file = self.create()?;
                self.copy_content(tree, index, from, &file, buffer)?;
                self.finish_file(&file, Some(entry))?;
                return Ok(entry.size);
            }
            EntryKind::Symlink { target } => {
                let target = OsStr::from_bytes(target);
                rustix::fs::symlinkat(target, self.into, self.name()).map_err(self.sys("make the link"))?;
            }
            EntryKind::CharDevice { rdev } => self.make_node(FileType::CharacterDevice, *rdev)?,
            EntryKind::BlockDevice { rdev } => self.make_node(FileType::BlockDevice, *rdev)?,
            EntryKind::Fifo => self.make_node(FileType::Fifo, 0)?,
            EntryKind::Directory => unreachable!("directories are never leaves of a layout"),
        }
        self.finish_other(entry)?;
        Ok(0)
    }

    fn name(&self) -> &OsStr {
        OsStr::from_bytes(self.name)
    }

    fn sys(&self, action: &'static str) -> impl FnOnce(Errno) -> CopyError + use<> {
        CopyError::sys(action, &join(self.dir, self.name))
    }

    fn io(&self, action: &'static str) -> impl FnOnce(io::Error) -> CopyError + use<> {
        CopyError::io(action, &join(self.dir, self.name))
    }

    fn create(&self) -> Result<File, CopyError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(self.into, self.name(), flags, Mode::RUSR | Mode::WUSR);
        file.map(File::from).map_err(|error| self.sys("create")(error))
    }

    fn copy_content(
        &self,
        tree: &SourceTree,
        index: usize,
        from: BorrowedFd<'_>,
        to: &File,
        buffer: &mut Vec<u8>,
    ) -> Result<(), CopyError> {
        let entry = &tree.entries()[index];
        let (_, name) = split(&entry.path);
        let source =
            open_file_beneath(from, name).map(File::from).map_err(SourceError::sys("open", &entry.path))?;
        let is_file = sys_stat(&source).is_ok_and(|metadata| metadata.entry_type == EntryType::File);
        let changed = || SourceError::Changed { path: entry.path.clone() };
        if !is_file {
            return Err(changed().into());
        }
        match (tree.origin(), tree.digest(index)) {
            // The layers of a stage never change, so nothing has to be looked at.
            (Origin::Stage, _) => {
                let written = clone_or_copy(tree, source, to);
                tree.check()?;
                written.map_err(|error| self.io("write")(error))
            }
            (Origin::Context, expected) => {
                let mut output = to;
                let digest = read_hashed(source, buffer, |piece| {
                    tree.check().map_err(io::Error::other)?;
                    output.write_all(piece)
                });
                tree.check()?;
                let digest = digest.map_err(|error| self.io("copy to")(error))?;
                if Some(digest) == expected { Ok(()) } else { Err(changed().into()) }
            }
        }
    }

    fn finish_file(&self, file: &File, entry: Option<&Entry>) -> Result<(), CopyError> {
        let result = (|| {
            // New files belong to their creator; asking for that again would cost a system call for each.
            if Some(self.leaf.owner) != self.writer.creator {
                let (uid, gid) = ids(self.leaf.owner);
                rustix::fs::fchown(file, uid, gid)?;
            }
            rustix::fs::fchmod(file, Mode::from_raw_mode(self.leaf.mode))?;
            let Some(entry) = entry else { return Ok(()) };
            set_xattrs(file, &entry.xattrs)?;
            rustix::fs::futimens(file, &times(entry.mtime_ns))
        })();
        result.map_err(|error| self.sys("set the attributes of")(error))
    }

    fn make_node(&self, file_type: FileType, rdev: u64) -> Result<(), CopyError> {
        rustix::fs::mknodat(self.into, self.name(), file_type, Mode::RUSR, rdev)
            .map_err(self.sys("make the device or pipe"))
    }

    /// Attributes of what cannot be opened without consequences.
    fn finish_other(&self, entry: &Entry) -> Result<(), CopyError> {
        let result = (|| {
            let (uid, gid) = ids(self.leaf.owner);
            rustix::fs::chownat(self.into, self.name(), uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
            if !matches!(entry.kind, EntryKind::Symlink { .. }) {
                let mode = Mode::from_raw_mode(self.leaf.mode);
                rustix::fs::chmodat(self.into, self.name(), mode, AtFlags::empty())?;
            }
            // No system call sets attributes of a link by directory and name.
            let path = Path::new("/proc/self/fd").join(self.into.as_raw_fd().to_string()).join(self.name());
            for (name, value) in &entry.xattrs {
                rustix::fs::lsetxattr(&path, name, value, XattrFlags::empty())?;
            }
            let times = times(entry.mtime_ns);
            rustix::fs::utimensat(self.into, self.name(), &times, AtFlags::SYMLINK_NOFOLLOW)
        })();
        result.map_err(|error| self.sys("set the attributes of")(error))
    }

    /// Moves a file that was unpacked for us; its attributes are set again only where the instruction says so.
    fn adopt(&self, from: BorrowedFd<'_>, entry: &Entry) -> Result<(), CopyError> {
        let (_, old_name) = split(&entry.path);
        rustix::fs::renameat(from, OsStr::from_bytes(old_name), self.into, self.name())
            .map_err(self.sys("move into place"))?;
        let is_as_it_was =
            (entry.mode, entry.uid, entry.gid) == (self.leaf.mode, self.leaf.owner.uid, self.leaf.owner.gid);
        if is_as_it_was { Ok(()) } else { self.finish_other(entry) }
    }
}

/// Shares the blocks where the file system can, and copies in the kernel otherwise.
fn clone_or_copy(tree: &SourceTree, from: File, mut to: &File) -> io::Result<()> {
    if rustix::fs::ioctl_ficlone(to, &from).is_ok() {
        return Ok(());
    }
    while io::copy(&mut (&from).take(COPIED_AT_ONCE), &mut to)? > 0 {
        tree.check().map_err(io::Error::other)?;
    }
    Ok(())
}

fn ids(owner: Owner) -> (Option<Uid>, Option<Gid>) {
    (Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)))
}

fn set_owner_and_mode(file: impl AsFd, owner: Owner, mode: u32) -> Result<(), Errno> {
    let (uid, gid) = ids(owner);
    rustix::fs::fchown(&file, uid, gid)?;
    rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))
}

fn set_xattrs(file: impl AsFd, xattrs: &[(OsString, Vec<u8>)]) -> Result<(), Errno> {
    for (name, value) in xattrs {
        let bytes = name.as_bytes();
        if !bytes.starts_with(b"trusted.overlay.") && !bytes.starts_with(b"user.overlay.") {
            rustix::fs::fsetxattr(&file, name, value, XattrFlags::empty())?;
        }
    }
    Ok(())
}

/// Only the time of modification; when a file was read is nobody's business.
fn times(mtime_ns: i64) -> Timestamps {
    const SECOND: i64 = 1_000_000_000;
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec {
            tv_sec: mtime_ns.div_euclid(SECOND),
            tv_nsec: mtime_ns.rem_euclid(SECOND),
        },
    }
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}
