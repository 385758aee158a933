//! The digest of what is in a layer, without the times that nobody chose.
//!
//! Two executions of a step rarely write the same times, but often the same content. This digest is equal exactly when
//! the layers do the same to what is below them: paths, types, modes, owners, contents, link targets, attributes,
//! devices, hard links, whiteouts and opaque directories, and of the times those that are not just when the step ran:
//! whoever sets a time (`touch -d`, `tar -x`, `cp -p`) means it, and what is built on top may go by it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use strake_oci::{Digest, Hasher};

use super::tree::{failed, io};
use super::walk::{Form, FoundKind, walk};
use super::{TarError, escape};
use crate::root_dir::{EntryType, Metadata};
use crate::{Flavour, RootDir};

/// Changed whenever the same content gets another digest.
const DOMAIN: &[u8] = b"strake layer content v2\0";

/// Larger files are hashed in pieces of this size, each read while the one before is hashed by the page cache's grace.
const PIECE: usize = 256 * 1024;

/// How much earlier than a clock's answer the time of a file may be that was written after it, in nanoseconds: the kernel
/// takes the time of its last tick.
const TICK_NS: i64 = 20_000_000;

/// Which times count.
#[derive(Debug, Clone, Copy)]
pub enum Times<'a> {
    /// None.
    Ignored,
    /// Those that a step chose itself.
    Chosen {
        /// Before it began, in nanoseconds since 1970.
        began_ns: i64,
        /// After it ended.
        ended_ns: i64,
        /// What is below the layer: a file that is changed without being written keeps its time.
        below: Option<&'a RootDir>,
    },
}

impl Times<'_> {
    fn has_chosen(self, path: &[u8], metadata: &Metadata) -> bool {
        let Self::Chosen { began_ns, ended_ns, below } = self else { return false };
        let is_of_the_step = (began_ns.saturating_sub(TICK_NS)..=ended_ns).contains(&metadata.mtime_ns);
        let is_kept = |below: &RootDir| {
            let earlier = below.stat(Path::new(OsStr::from_bytes(path)));
            earlier.is_ok_and(|earlier| earlier.mtime_ns == metadata.mtime_ns)
        };
        !is_of_the_step && !below.is_some_and(is_kept)
    }
}

/// One entry, encoded except for the digest of its content.
struct Item {
    encoded: Vec<u8>,
    /// The path of a regular file that has content.
    file: Option<Vec<u8>>,
}

/// The digest of what is in a layer directory: the same for two layers that do the same. File contents are hashed on all
/// cores.
///
/// # Errors
/// When a file cannot be read, or has a name that a layer cannot hold.
pub fn content_digest(layer_dir: &Path, times: Times<'_>) -> Result<Digest, TarError> {
    let flavour = Flavour::of_layer_dir(layer_dir);
    let root = RootDir::open(layer_dir).map_err(|error| io("open", b"/", error))?;
    let mut items = Vec::new();
    // The first name of each file that has several.
    let mut firsts: HashMap<(u64, u64), Vec<u8>> = HashMap::new();
    walk(root.as_fd(), Form::Layer(flavour), &mut |found| {
        let mut encoded = Vec::with_capacity(64 + found.path.len());
        text(&mut encoded, found.path);
        if found.kind == FoundKind::Whiteout {
            encoded.push(b'w');
            items.push(Item { encoded, file: None });
            return Ok(());
        }
        if is_whiteout_name(found.path) {
            let problem = "a layer cannot hold a name that begins with `.wh.`: it means deletion there";
            return Err(TarError::Entry { path: escape(found.path), problem: problem.to_owned() });
        }
        encode(&mut encoded, &found.metadata, &found.link, &found.xattrs);
        encoded.push(u8::from(found.kind == FoundKind::OpaqueDirectory));
        let metadata = &found.metadata;
        if times.has_chosen(found.path, metadata) {
            encoded.push(b't');
            encoded.extend_from_slice(&metadata.mtime_s.to_le_bytes());
        }
        if !metadata.is_dir() && metadata.nlink > 1 {
            match firsts.entry((metadata.dev, metadata.ino)) {
                Entry::Occupied(first) => {
                    encoded.push(b'h');
                    text(&mut encoded, first.get());
                    items.push(Item { encoded, file: None });
                    return Ok(());
                }
                Entry::Vacant(first) => drop(first.insert(found.path.to_vec())),
            }
        }
        let has_content = metadata.entry_type == EntryType::File && metadata.size > 0;
        let file = has_content.then(|| found.path.to_vec());
        items.push(Item { encoded, file });
        Ok(())
    })?;
    let contents = hash_contents(&root, &items)?;
    let mut hasher = Hasher::new();
    hasher.update(DOMAIN);
    for (item, content) in items.iter().zip(&contents) {
        hasher.update(&(item.encoded.len() as u64).to_le_bytes());
        hasher.update(&item.encoded);
        hasher.update(content);
    }
    Ok(hasher.finish())
}

/// Whether a layer's tar would say with this name that something else is gone (image-spec v1.1 `layer.md` §Whiteouts).
fn is_whiteout_name(path: &[u8]) -> bool {
    path.rsplit(|byte| *byte == b'/').next().is_some_and(|name| name.starts_with(b".wh."))
}

fn encode(into: &mut Vec<u8>, metadata: &Metadata, link: &[u8], xattrs: &[(Vec<u8>, Vec<u8>)]) {
    into.push(match metadata.entry_type {
        EntryType::File => b'f',
        EntryType::Directory => b'd',
        EntryType::Symlink => b'l',
        EntryType::CharDevice => b'c',
        EntryType::BlockDevice => b'b',
        EntryType::Fifo => b'p',
        EntryType::Socket => b's',
    });
    let is_link = metadata.entry_type == EntryType::Symlink;
    let is_file = metadata.entry_type == EntryType::File;
    let mode = if is_link { 0o777 } else { metadata.mode };
    for number in [mode, metadata.uid, metadata.gid] {
        into.extend_from_slice(&number.to_le_bytes());
    }
    into.extend_from_slice(&(if is_file { metadata.size } else { 0 }).to_le_bytes());
    into.extend_from_slice(&metadata.rdev.to_le_bytes());
    text(into, link);
    into.extend_from_slice(&(xattrs.len() as u64).to_le_bytes());
    for (name, value) in xattrs {
        text(into, name);
        text(into, value);
    }
}

fn text(into: &mut Vec<u8>, text: &[u8]) {
    into.extend_from_slice(&(text.len() as u64).to_le_bytes());
    into.extend_from_slice(text);
}

/// BLAKE3 of every item's content, of 32 zero bytes for what has none.
fn hash_contents(root: &RootDir, items: &[Item]) -> Result<Vec<[u8; 32]>, TarError> {
    let files: Vec<(usize, &[u8])> =
        items.iter().enumerate().filter_map(|(at, item)| Some((at, item.file.as_deref()?))).collect();
    let next = AtomicUsize::new(0);
    let failure = Mutex::new(None);
    let work = || {
        let mut buffer = vec![0; PIECE];
        let mut done = Vec::new();
        while let Some((at, path)) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            match hash_file(root, path, &mut buffer) {
                Ok(digest) => done.push((*at, digest)),
                Err(error) => {
                    next.store(files.len(), Ordering::Relaxed);
                    *failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(error);
                }
            }
        }
        done
    };
    let threads = if files.len() < 64 { 1 } else { crate::threads() };
    let mut contents = vec![[0; 32]; items.len()];
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut done = work();
        for other in others {
            done.extend(other.join().unwrap_or_default());
        }
        done.into_iter().for_each(|(at, digest)| contents[at] = digest);
    });
    match failure.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(contents),
    }
}

fn hash_file(root: &RootDir, path: &[u8], buffer: &mut [u8]) -> Result<[u8; 32], TarError> {
    use std::io::Read as _;
    let mut file = File::from(open_plain(root, path)?);
    let mut hasher = blake3::Hasher::new();
    loop {
        match file.read(buffer) {
            Ok(0) => return Ok(*hasher.finalize().as_bytes()),
            Ok(count) => {
                hasher.update(&buffer[..count]);
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(io("read", path, error)),
        }
    }
}

/// Opens a file by a path that has no links.
fn open_plain(root: &RootDir, path: &[u8]) -> Result<OwnedFd, TarError> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let name = OsStr::from_bytes(path);
    rustix::fs::openat2(root.as_fd(), name, flags, Mode::empty(), resolve)
        .map_err(|error| failed("open", path, error))
}
