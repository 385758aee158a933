//! The digests of files.
//!
//! BLAKE3, not SHA-256: these digests never leave this machine's store and no specification asks for one. It is
//! three times as fast on one core here, and a cold copy of a large tree is mostly hashing.

use std::io::{self, Read};
use std::os::fd::AsFd;

use rayon::prelude::*;
use strake_store::{FileStat, StatCache};

use super::{AtPath, Entry, EntryKind, SourceError, SourceTree, open_file_beneath, sys_stat};

/// Bytes read at once: large enough to make system calls cheap, small enough for a core's own cache.
const PIECE: usize = 128 * 1024;

/// The BLAKE3 digest of a file's content. Internal to strake: never in an image or on a wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileDigest(pub [u8; 32]);

impl FileDigest {
    /// The digest of bytes in memory.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

impl SourceTree {
    /// Sees to it that the digests of the files among `indices` are known: from `cache` where the file is
    /// the very one that was read before, by reading otherwise, on all cores. Answers how many were read.
    ///
    /// `read_ns` is a time before anything was read, in nanoseconds since 1970; new digests go to the cache with it.
    ///
    /// # Errors
    /// When a file cannot be read, or is not the file that was scanned any more; [`SourceError::Stopped`].
    pub fn digest_files(
        &self,
        indices: impl IntoIterator<Item = usize>,
        cache: Option<&mut StatCache>,
        read_ns: i64,
    ) -> Result<usize, SourceError> {
        let is_unknown = |index: &usize| {
            self.entries[*index].kind == EntryKind::File && self.digests[*index].get().is_none()
        };
        let mut unknown: Vec<usize> = indices.into_iter().filter(is_unknown).collect();
        unknown.sort_unstable();
        unknown.dedup();
        if let Some(cache) = cache.as_deref() {
            unknown.retain(|index| {
                let entry = &self.entries[*index];
                let known = cache.get(&entry.path, &entry.stat());
                known.is_none_or(|digest| self.digests[*index].set(FileDigest(digest)).is_err())
            });
        }
        let digests: Vec<FileDigest> = unknown
            .par_iter()
            .with_max_len(64)
            .map_init(Vec::new, |buffer, index| self.read(&self.entries[*index], buffer))
            .collect::<Result<_, _>>()?;
        if let Some(cache) = cache {
            for (index, digest) in unknown.iter().zip(&digests) {
                let entry = &self.entries[*index];
                cache.put(&entry.path, &entry.stat(), digest.0, read_ns);
            }
        }
        let read = digests.len();
        for (index, digest) in unknown.into_iter().zip(digests) {
            // Somebody else may have set it meanwhile; it is the same digest then.
            let _ = self.digests[index].set(digest);
        }
        Ok(read)
    }

    /// The digest of a file, once [`SourceTree::digest_files`] was asked for it.
    pub fn digest(&self, index: usize) -> Option<FileDigest> {
        self.digests[index].get().copied()
    }

    fn read(&self, entry: &Entry, buffer: &mut Vec<u8>) -> Result<FileDigest, SourceError> {
        self.check()?;
        let file = open_file_beneath(self.root.as_fd(), &entry.path)
            .map(std::fs::File::from)
            .map_err(SourceError::sys("open", &entry.path))?;
        check_unchanged(entry, &file)?;
        let digest = read_hashed(&file, buffer, |_| self.check().map_err(io::Error::other));
        self.check()?;
        let digest = digest.map_err(SourceError::io("read", &entry.path))?;
        check_unchanged(entry, &file)?;
        Ok(digest)
    }
}

/// Whether an open file is still what was scanned.
fn check_unchanged(entry: &Entry, file: impl AsFd) -> Result<(), SourceError> {
    let metadata = sys_stat(file).map_err(SourceError::sys("stat", &entry.path))?;
    let now = FileStat {
        dev: metadata.dev,
        ino: metadata.ino,
        size: metadata.size,
        mtime_ns: metadata.mtime_ns,
        ctime_ns: metadata.ctime_ns,
    };
    if now == entry.stat() { Ok(()) } else { Err(SourceError::Changed { path: entry.path.clone() }) }
}

/// Reads to the end, hands each piece to `each`, and answers the digest of all of it.
pub(crate) fn read_hashed(
    mut file: impl Read,
    buffer: &mut Vec<u8>,
    mut each: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<FileDigest> {
    buffer.resize(PIECE, 0);
    let mut hasher = blake3::Hasher::new();
    loop {
        let count = match file.read(buffer) {
            Ok(0) => return Ok(FileDigest(*hasher.finalize().as_bytes())),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hasher.update(&buffer[..count]);
        each(&buffer[..count])?;
    }
}

impl Entry {
    /// What the store remembers files by.
    pub fn stat(&self) -> FileStat {
        FileStat {
            dev: self.dev,
            ino: self.ino,
            size: self.size,
            mtime_ns: self.mtime_ns,
            ctime_ns: self.ctime_ns,
        }
    }
}
