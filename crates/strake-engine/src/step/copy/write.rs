//! Writes a layout into an overlay upper directory.
//!
//! Directories are made first, private to us; files are written on all cores, in batches that share an open
//! directory; then hard links; then directories get their attributes, deepest first, so that what is written into
//! them does not spoil their times. What the process's file mode mask says does not matter: every mode is set
//! explicitly. Owner first, then mode (changing the owner clears setuid), then attributes, then time.
//!
//! The tar that the layer will be is made on the way (see [`super::layer_tar`]), so that no file is opened once more for it.
//!
//! A file of a context is hashed again while it is written, and refused when the digest is not the one that the
//! signature was made of: what the layer holds is what was promised, whatever happens to the files meanwhile.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags,
};
use rustix::io::Errno;
use strake_store::RootDir;
use strake_store::root_dir::{EntryType, Metadata};
use strake_store::tar::EntryHead;

use super::layer_tar::{LayerTar, TarOrder, TarPart};
use super::layout::{Content, DirAttributes, LayerDir, Layout, Leaf};
use super::plan::join;
use super::{Copied, CopyError, LayerFiles, Owner, Previous};
use crate::build_context::{
    AtPath, Entry, EntryKind, FileDigest, Origin, SourceError, SourceTree, by_components, open_beneath,
    open_file_beneath, read_hashed, sys_stat,
};

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY);

/// Files and directories that one thread takes at once: enough to open a directory only now and then, few enough to
/// share the work.
const BATCH: usize = 64;

/// Files of at most this many bytes are read at once, straight into the tar.
const SMALL: u64 = 256 << 10;

/// Bytes of a large file that are copied at once.
const LARGE_PIECE: usize = 128 << 10;
/// Bytes that the kernel copies without being asked whether to go on.
const COPIED_AT_ONCE: u64 = 16 << 20;

/// Writes the layer. What is made on the way has the time `made_ns`, in nanoseconds since 1970.
pub(crate) fn write_layer(
    layout: &Layout<'_>,
    upper: &Path,
    below: Option<&RootDir>,
    previous: Option<Previous<'_>>,
    made_ns: i64,
) -> Result<Copied, CopyError> {
    let upper = rustix::fs::openat(CWD, upper, DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(CopyError::sys("open the layer directory for", b""))?;
    let creator = creator(&upper).map_err(CopyError::sys("look at the layer directory of", b""))?;
    let previous = previous.as_ref().map(Farm::open).transpose()?;
    let writer = Writer { upper, below, previous, creator, time_ns: made_ns };
    for dir in &layout.dirs[1..] {
        writer.make_dir(dir)?;
    }
    let items = in_tar_order(layout);
    let (written, tar) = writer.write_all(&items, is_predictable(layout))?;
    let linked_names = writer.make_links(layout)?;
    for dir in layout.dirs.iter().rev() {
        writer.finish_dir(dir)?;
    }
    let entries = layout.dirs.iter().map(|dir| 1 + dir.leaves.len() as u64).sum();
    let bytes = written.bytes + linked_names.bytes;
    let files = layer_files(layout);
    Ok(Copied { files, entries, bytes, linked: written.linked, tar, notes: Vec::new() })
}

/// A directory of the layer, or something in one.
#[derive(Debug)]
struct Item<'l, 'a> {
    path: Vec<u8>,
    dir: &'l LayerDir<'a>,
    /// The name in the directory and what it is to be; none for the directory itself.
    leaf: Option<(&'l [u8], &'l Leaf<'a>)>,
}

/// Everything but the root, in the order of the tar.
fn in_tar_order<'l, 'a>(layout: &'l Layout<'a>) -> Vec<Item<'l, 'a>> {
    let mut items = Vec::new();
    for dir in &layout.dirs {
        if !dir.path.is_empty() {
            items.push(Item { path: dir.path.clone(), dir, leaf: None });
        }
        let leaf = |(name, leaf): (&'l std::borrow::Cow<'a, [u8]>, &'l Leaf<'a>)| Item {
            path: join(&dir.path, name),
            dir,
            leaf: Some((name.as_ref(), leaf)),
        };
        items.extend(dir.leaves.iter().map(leaf));
    }
    items.sort_by(|one, other| by_components(&one.path, &other.path));
    items
}

/// Whether what the tar says of every file is known before the file is there. Which name of a file with several ones
/// carries the data is seen in the finished directory, and so is what an archive brought along.
fn is_predictable(layout: &Layout<'_>) -> bool {
    let is_plain =
        |leaf: &Leaf<'_>| leaf.link.is_none() && !leaf.adopt && !matches!(leaf.content, Content::Whiteout);
    layout.dirs.iter().flat_map(|dir| dir.leaves.values()).all(is_plain)
}

/// Which files of the layer have which content, as far as it is known. What has extended attributes is left out: a later
/// layer cannot link it without them.
fn layer_files(layout: &Layout<'_>) -> LayerFiles {
    let mut files = LayerFiles::default();
    for dir in &layout.dirs {
        for (name, leaf) in &dir.leaves {
            if let Content::Entry { tree, index } = leaf.content
                && let Some(digest) = tree.digest(index)
                && leaf.link.is_none()
                && tree.entries()[index].xattrs.is_empty()
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
    /// The merged tree of the layers below.
    below: Option<&'a RootDir>,
    previous: Option<Farm<'a>>,
    creator: Option<Owner>,
    /// The time of whatever brings none along, in nanoseconds since 1970.
    time_ns: i64,
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

/// A directory that files come from, while it is open.
type OpenSource<'a> = (&'a SourceTree, &'a [u8], OwnedFd);

/// The directory of an entry of a source.
fn source_of<'o, 'a>(
    open: &'o mut Option<OpenSource<'a>>,
    tree: &'a SourceTree,
    entry: &'a Entry,
) -> Result<BorrowedFd<'o>, CopyError> {
    let (folder, _) = split(&entry.path);
    if open.as_ref().is_none_or(|(of, path, _)| !std::ptr::eq(*of, tree) || *path != folder) {
        let opened = open_beneath(tree.root().as_fd(), folder, OFlags::PATH | OFlags::DIRECTORY)
            .map_err(SourceError::sys("open directory", folder))?;
        *open = Some((tree, folder, opened));
    }
    Ok(open.as_ref().expect("it was opened just above").2.as_fd())
}

/// A directory that files go to, while it is open, and the same one of the earlier layer.
type OpenTarget<'l> = (&'l [u8], OwnedFd, Option<OwnedFd>);

/// The directories that one thread has open.
#[derive(Default)]
struct OpenDirs<'l, 'a> {
    source: Option<OpenSource<'a>>,
    target: Option<OpenTarget<'l>>,
}

impl Writer<'_> {
    fn make_dir(&self, dir: &LayerDir<'_>) -> Result<(), CopyError> {
        let (parent, name) = split(&dir.path);
        let failed = || CopyError::sys("make directory", &dir.path);
        let parent = open_beneath(self.upper.as_fd(), parent, OFlags::PATH | OFlags::DIRECTORY)
            .map_err(|error| failed()(error))?;
        rustix::fs::mkdirat(parent, OsStr::from_bytes(name), Mode::RWXU).map_err(failed())
    }

    /// Writes all files on all cores, and hashes the tar meanwhile if it can be known.
    fn write_all(
        &self,
        items: &[Item<'_, '_>],
        is_predictable: bool,
    ) -> Result<(Written, Option<LayerTar>), CopyError> {
        if !is_predictable {
            return Ok((self.write_batches(items, None)?, None));
        }
        let (order, pieces) = TarOrder::new();
        std::thread::scope(|scope| {
            let hashing = scope.spawn(|| order.hash(pieces));
            let written = self.write_batches(items, Some(&order));
            let is_complete = order.finish();
            let tar = hashing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            Ok((written?, is_complete.then_some(tar)))
        })
    }

    fn write_batches(&self, items: &[Item<'_, '_>], tar: Option<&TarOrder>) -> Result<Written, CopyError> {
        let batches: Vec<_> = items.chunks(BATCH).collect();
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let next = AtomicUsize::new(0);
        let failed = AtomicBool::new(false);
        let result = Mutex::new(Ok(Written::default()));
        let work = || {
            let mut open = OpenDirs::default();
            let mut scratch = Vec::new();
            let mut written = Ok(Written::default());
            while let Ok(sum) = &mut written
                && !failed.load(Ordering::Relaxed)
            {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some(batch) = batches.get(number) else { break };
                let mut part = TarPart::new(tar, number, std::mem::take(&mut scratch));
                match self.write_batch(batch, &mut open, &mut part) {
                    Ok(more) => {
                        *sum = sum.plus(&more);
                        scratch = part.complete();
                    }
                    Err(error) => written = Err(error),
                }
            }
            if written.is_err() {
                failed.store(true, Ordering::Relaxed);
                tar.iter().for_each(|tar| tar.abandon());
            }
            let mut result = result.lock().unwrap_or_else(PoisonError::into_inner);
            match (&mut *result, written) {
                (Ok(sum), Ok(written)) => *sum = sum.plus(&written),
                (Ok(_), Err(error)) => *result = Err(error),
                (Err(_), _) => {}
            }
        };
        std::thread::scope(|scope| {
            // This thread takes its share.
            (1..threads.min(batches.len())).for_each(|_| drop(scope.spawn(work)));
            work();
        });
        result.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_batch<'l, 'a>(
        &self,
        items: &'l [Item<'l, 'a>],
        open: &mut OpenDirs<'l, 'a>,
        tar: &mut TarPart<'_>,
    ) -> Result<Written, CopyError> {
        let mut written = Written::default();
        for item in items {
            let Some((name, leaf)) = item.leaf else {
                self.describe_dir(item.dir, tar)?;
                continue;
            };
            if leaf.link.is_some() {
                continue;
            }
            if let Content::Entry { tree, .. } = leaf.content {
                tree.check()?;
            }
            self.describe_leaf(&item.path, leaf, tar);
            let (into, earlier) = self.target(item.dir, &mut open.target)?;
            if let Some(earlier) = earlier
                && self.link_earlier(item, earlier, into, tar)
            {
                written.linked += 1;
                continue;
            }
            let new = New { writer: self, into, dir: &item.dir.path, name, leaf };
            written.bytes += new.write(&mut open.source, tar)?;
        }
        Ok(written)
    }

    /// The directory that files go to, and the same one of the earlier layer.
    fn target<'o, 'l>(
        &self,
        dir: &'l LayerDir<'_>,
        open: &'o mut Option<OpenTarget<'l>>,
    ) -> Result<(BorrowedFd<'o>, Option<BorrowedFd<'o>>), CopyError> {
        if open.as_ref().is_none_or(|(path, ..)| *path != &dir.path[..]) {
            let flags = OFlags::PATH | OFlags::DIRECTORY;
            let into = open_beneath(self.upper.as_fd(), &dir.path, flags)
                .map_err(CopyError::sys("open directory", &dir.path))?;
            let earlier = self
                .previous
                .as_ref()
                .and_then(|farm| open_beneath(farm.root.as_fd(), &dir.path, flags).ok());
            *open = Some((&dir.path, into, earlier));
        }
        let (_, into, earlier) = open.as_ref().expect("it was opened just above");
        Ok((into.as_fd(), earlier.as_ref().map(AsFd::as_fd)))
    }

    fn describe_dir(&self, dir: &LayerDir<'_>, tar: &mut TarPart<'_>) -> Result<(), CopyError> {
        if !tar.is_wanted() {
            return Ok(());
        }
        let (mode, owner, mtime_ns, xattrs) = match (dir.attributes, self.below) {
            (DirAttributes::New { mode, owner }, _) => (mode, owner, self.time_ns, Vec::new()),
            (DirAttributes::Source { tree, index, mode, owner }, _) => {
                let entry = &tree.entries()[index];
                (mode, owner, entry.mtime_ns, entry.xattrs.clone())
            }
            (DirAttributes::Below, None) => unreachable!("only the root is below when nothing is"),
            (DirAttributes::Below, Some(below)) => {
                let (metadata, xattrs) = attributes_below(dir, below)?;
                let owner = Owner { uid: metadata.uid, gid: metadata.gid };
                (metadata.mode, owner, metadata.mtime_ns, xattrs)
            }
        };
        tar.head(
            &EntryHead {
                path: &dir.path,
                entry_type: EntryType::Directory,
                mode,
                uid: owner.uid,
                gid: owner.gid,
                size: 0,
                mtime_s: seconds(mtime_ns),
                rdev: 0,
                link: b"",
            },
            &xattrs,
        );
        Ok(())
    }

    fn describe_leaf(&self, path: &[u8], leaf: &Leaf<'_>, tar: &mut TarPart<'_>) {
        if !tar.is_wanted() {
            return;
        }
        let mut head = EntryHead {
            path,
            entry_type: EntryType::File,
            mode: leaf.mode,
            uid: leaf.owner.uid,
            gid: leaf.owner.gid,
            size: 0,
            mtime_s: seconds(self.time_ns),
            rdev: 0,
            link: b"",
        };
        match leaf.content {
            Content::Whiteout => unreachable!("a layout with marks of deletion has no predictable tar"),
            Content::Inline(content) => {
                head.size = content.len() as u64;
                tar.head(&head, &[]);
            }
            Content::Entry { tree, index } => {
                let entry = &tree.entries()[index];
                head.mtime_s = seconds(entry.mtime_ns);
                match &entry.kind {
                    EntryKind::File => head.size = entry.size,
                    EntryKind::Symlink { target } => {
                        (head.entry_type, head.link) = (EntryType::Symlink, target);
                    }
                    EntryKind::CharDevice { rdev } => {
                        (head.entry_type, head.rdev) = (EntryType::CharDevice, *rdev);
                    }
                    EntryKind::BlockDevice { rdev } => {
                        (head.entry_type, head.rdev) = (EntryType::BlockDevice, *rdev);
                    }
                    EntryKind::Fifo => head.entry_type = EntryType::Fifo,
                    EntryKind::Directory => unreachable!("directories are never leaves of a layout"),
                }
                tar.head(&head, &entry.xattrs);
            }
        }
    }

    /// Links a file from the earlier layer if it is equal in all respects. Whatever goes wrong, the file is written.
    fn link_earlier(
        &self,
        item: &Item<'_, '_>,
        earlier: BorrowedFd<'_>,
        into: BorrowedFd<'_>,
        tar: &mut TarPart<'_>,
    ) -> bool {
        let Some((name, leaf)) = item.leaf else { return false };
        let Content::Entry { tree, index } = leaf.content else { return false };
        let entry = &tree.entries()[index];
        let known = self.previous.as_ref().and_then(|farm| farm.files.get(&item.path));
        if known.is_none() || known != tree.digest(index) || !entry.xattrs.is_empty() || leaf.adopt {
            return false;
        }
        let name = OsStr::from_bytes(name);
        let Ok(stat) = rustix::fs::statat(earlier, name, AtFlags::SYMLINK_NOFOLLOW) else { return false };
        let Ok(old) = Metadata::from_stat(&stat) else { return false };
        let is_equal = old.entry_type == EntryType::File
            && (old.mode, old.uid, old.gid) == (leaf.mode, leaf.owner.uid, leaf.owner.gid)
            && (old.size, old.mtime_ns) == (entry.size, entry.mtime_ns);
        let is_linked = is_equal && rustix::fs::linkat(earlier, name, into, name, AtFlags::empty()).is_ok();
        if is_linked && tar.is_wanted() {
            let opened = open_file_beneath(earlier, name.as_bytes()).map(File::from).map_err(io::Error::from);
            let go_on = || tree.check().map_err(io::Error::other);
            // What cannot be read here will be found out when the directory is read.
            if opened.and_then(|file| tar.content_of(file, entry.size, go_on)).is_err() {
                tar.spoil();
            }
        }
        is_linked
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
            let mut source = None;
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
                    written.bytes += new.write(&mut source, &mut TarPart::new(None, 0, Vec::new()))?;
                }
            }
        }
        Ok(written)
    }

    fn finish_dir(&self, dir: &LayerDir<'_>) -> Result<(), CopyError> {
        let failed = || CopyError::sys("set the attributes of", &dir.path);
        let directory = open_beneath(self.upper.as_fd(), &dir.path, DIRECTORY).map_err(failed())?;
        match (dir.attributes, self.below) {
            (DirAttributes::New { mode, owner }, _) => {
                set_owner_and_mode(&directory, owner, mode).map_err(failed())?;
                rustix::fs::futimens(&directory, &times(self.time_ns)).map_err(failed())
            }
            (DirAttributes::Source { tree, index, mode, owner }, _) => {
                let entry = &tree.entries()[index];
                set_owner_and_mode(&directory, owner, mode).map_err(failed())?;
                set_xattrs(&directory, &entry.xattrs).map_err(failed())?;
                rustix::fs::futimens(&directory, &times(entry.mtime_ns)).map_err(failed())
            }
            (DirAttributes::Below, None) => Ok(()),
            (DirAttributes::Below, Some(below)) => {
                let (metadata, xattrs) = attributes_below(dir, below)?;
                let owner = Owner { uid: metadata.uid, gid: metadata.gid };
                set_owner_and_mode(&directory, owner, metadata.mode).map_err(failed())?;
                set_xattrs(&directory, &xattrs).map_err(failed())?;
                rustix::fs::futimens(&directory, &times(metadata.mtime_ns)).map_err(failed())
            }
        }
    }
}

/// Extended attributes by name.
type Xattrs = Vec<(OsString, Vec<u8>)>;

/// The attributes of the directory of the same path in the merged tree of the layers below.
fn attributes_below(dir: &LayerDir<'_>, below: &RootDir) -> Result<(Metadata, Xattrs), CopyError> {
    let path = Path::new(OsStr::from_bytes(&dir.path));
    let metadata = below.stat(path).map_err(CopyError::io("stat", &dir.path))?;
    let xattrs = below.xattrs(path).map_err(CopyError::io("read the attributes of", &dir.path))?;
    Ok((metadata, xattrs))
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
    fn write(&self, source: &mut Option<OpenSource<'a>>, tar: &mut TarPart<'_>) -> Result<u64, CopyError> {
        let (tree, index) = match self.leaf.content {
            Content::Inline(content) => {
                let file = self.create()?;
                (&file).write_all(content).map_err(self.io("write"))?;
                tar.content(content);
                tar.pad(content.len() as u64);
                self.finish_file(&file, None)?;
                return Ok(content.len() as u64);
            }
            Content::Whiteout => {
                self.make_node(FileType::CharacterDevice, 0)?;
                return Ok(0);
            }
            Content::Entry { tree, index } => (tree, index),
        };
        let entry = &tree.entries()[index];
        let from = source_of(source, tree, entry)?;
        if self.leaf.adopt {
            self.adopt(from, entry)?;
            return Ok(if entry.kind == EntryKind::File { entry.size } else { 0 });
        }
        match &entry.kind {
            EntryKind::File => {
                let file = self.create()?;
                self.copy_content(tree, index, from, &file, tar)?;
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
        tar: &mut TarPart<'_>,
    ) -> Result<(), CopyError> {
        let entry = &tree.entries()[index];
        let (_, name) = split(&entry.path);
        let mut source =
            open_file_beneath(from, name).map(File::from).map_err(SourceError::sys("open", &entry.path))?;
        let is_file = sys_stat(&source).is_ok_and(|metadata| metadata.entry_type == EntryType::File);
        let changed = || CopyError::from(SourceError::Changed { path: entry.path.clone() });
        if !is_file {
            return Err(changed());
        }
        // The layers of a stage never change, so what they hold has to be neither hashed nor compared.
        let expected = match tree.origin() {
            Origin::Stage => None,
            Origin::Context => Some(tree.digest(index).ok_or_else(changed)?),
        };
        let is_as_promised = |digest: FileDigest| expected.is_none_or(|expected| expected == digest);
        if entry.size <= SMALL {
            let read = tar.read_small(&mut source, entry.size).map_err(self.io("copy to"))?;
            if let Some(bytes) = read {
                (&mut &*to).write_all(bytes).map_err(self.io("write"))?;
                let is_kept = expected.is_none() || is_as_promised(FileDigest::of(bytes));
                tar.keep_small(entry.size);
                return if is_kept { Ok(()) } else { Err(changed()) };
            }
            // It is shorter than the system said, or has a size that the system does not know: only reading tells.
            tar.spoil();
            source.rewind().map_err(self.io("copy to"))?;
        }
        if expected.is_none() {
            let written = copy_from_stage(tree, source, entry.size, to, tar);
            tree.check()?;
            return written.map_err(self.io("write"));
        }
        let mut output = to;
        let mut length = 0;
        let digest = read_hashed(source, &mut Vec::new(), |piece| {
            tree.check().map_err(io::Error::other)?;
            length += piece.len() as u64;
            tar.content(piece);
            output.write_all(piece)
        });
        tree.check()?;
        if !is_as_promised(digest.map_err(self.io("copy to"))?) {
            return Err(changed());
        }
        tar.pad_if(entry.size, length);
        Ok(())
    }

    fn finish_file(&self, file: &File, entry: Option<&Entry>) -> Result<(), CopyError> {
        let result = (|| {
            // New files belong to their creator; asking for that again would cost a system call for each.
            if Some(self.leaf.owner) != self.writer.creator {
                let (uid, gid) = ids(self.leaf.owner);
                rustix::fs::fchown(file, uid, gid)?;
            }
            rustix::fs::fchmod(file, Mode::from_raw_mode(self.leaf.mode))?;
            if let Some(entry) = entry {
                set_xattrs(file, &entry.xattrs)?;
            }
            let time_ns = entry.map_or(self.writer.time_ns, |entry| entry.mtime_ns);
            rustix::fs::futimens(file, &times(time_ns))
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

/// Shares the blocks where the file system can, and copies otherwise: in the kernel when nobody wants the bytes.
fn copy_from_stage(
    tree: &SourceTree,
    mut from: File,
    size: u64,
    mut to: &File,
    tar: &mut TarPart<'_>,
) -> io::Result<()> {
    let go_on = || tree.check().map_err(io::Error::other);
    if rustix::fs::ioctl_ficlone(to, &from).is_ok() {
        return if tar.is_wanted() { tar.content_of(from, size, go_on) } else { Ok(()) };
    }
    if !tar.is_wanted() {
        while io::copy(&mut (&from).take(COPIED_AT_ONCE), &mut to)? > 0 {
            go_on()?;
        }
        return Ok(());
    }
    let mut length = 0;
    let mut buffer = vec![0; LARGE_PIECE];
    loop {
        go_on()?;
        let count = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        length += count as u64;
        tar.content(&buffer[..count]);
        to.write_all(&buffer[..count])?;
    }
    tar.pad_if(size, length);
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

/// Whole seconds, rounded down, as a tar has them.
fn seconds(time_ns: i64) -> i64 {
    time_ns.div_euclid(1_000_000_000)
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
