//! Objects by id, from one or several object directories, each checked against its id.

use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gix_hash::ObjectId;
use gix_object::{Exists, Find, Kind};
use gix_odb::Header;

use crate::error::GitError;

/// The largest blob that is held in memory; larger ones are streamed through the git program. A few at once do no harm.
pub(crate) const LARGEST_BLOB_IN_MEMORY: u64 = 8 << 20;
/// Commits, tags and trees are read whole. A directory of a million files has about 50 MiB.
const LARGEST_STRUCTURE: u64 = 64 << 20;
/// One allocation for packed data, which may be the base of a difference. What needs more is left to the git program.
const LARGEST_ALLOCATION: usize = 512 << 20;

const NOT_HERE: &str = "in a shallow or partial clone, fetch the rest: git fetch --unshallow, or git fetch --refetch --no-filter; otherwise check it: git fsck";

/// Object directories that are searched one after another: that of the repository, then those of its submodules and of
/// the developer mode. An id means the same content in all of them.
pub(crate) struct Objects {
    hash: gix_hash::Kind,
    stores: Mutex<Vec<ObjectStore>>,
}

struct ObjectStore {
    directory: PathBuf,
    handle: gix_odb::HandleArc,
}

impl Objects {
    pub(crate) fn open(directory: &Path, hash: gix_hash::Kind) -> Result<Self, GitError> {
        let objects = Self { hash, stores: Mutex::new(Vec::new()) };
        objects.add(directory)?;
        Ok(objects)
    }

    /// Searches one more directory from now on.
    pub(crate) fn add(&self, directory: &Path) -> Result<(), GitError> {
        if self.directories().iter().any(|known| known == directory) {
            return Ok(());
        }
        let options = gix_odb::store::init::Options {
            alloc_limit_bytes: Some(LARGEST_ALLOCATION),
            ..Default::default()
        };
        let store =
            gix_odb::Store::at_opts(directory.to_owned(), self.hash, &mut std::iter::empty(), options)
                .map_err(GitError::io(format!("open the objects in {}", directory.display())))?;
        let handle = Arc::new(store).to_cache_arc();
        self.stores().push(ObjectStore { directory: directory.to_owned(), handle });
        Ok(())
    }

    pub(crate) fn hash(&self) -> gix_hash::Kind {
        self.hash
    }

    pub(crate) fn directories(&self) -> Vec<PathBuf> {
        self.stores().iter().map(|store| store.directory.clone()).collect()
    }

    pub(crate) fn exists(&self, id: &ObjectId) -> bool {
        self.is_ours(id) && self.stores().iter().any(|store| store.handle.exists(id))
    }

    /// Kind and size in bytes, without reading the content.
    pub(crate) fn header(&self, id: &ObjectId) -> Result<Option<(Kind, u64)>, GitError> {
        if !self.is_ours(id) {
            return Ok(None);
        }
        for store in self.stores().iter() {
            if let Some(header) =
                store.handle.try_header(id).map_err(|error| corrupt("object", id, &error))?
            {
                return Ok(Some((header.kind(), header.size())));
            }
        }
        Ok(None)
    }

    /// The content of a commit, tag or tree.
    pub(crate) fn structure(&self, id: &ObjectId, kind: Kind) -> Result<Vec<u8>, GitError> {
        let (found, bytes) = self.read(id, LARGEST_STRUCTURE, name_of(kind))?;
        if found != kind {
            return Err(corrupt(name_of(kind), id, &format!("it is a {}", name_of(found))));
        }
        Ok(bytes)
    }

    /// Kind and content of an object of at most `limit` bytes.
    pub(crate) fn read(
        &self,
        id: &ObjectId,
        limit: u64,
        expected: &'static str,
    ) -> Result<(Kind, Vec<u8>), GitError> {
        let Some((_, size)) = self.header(id)? else {
            return Err(missing(expected, id));
        };
        if size > limit {
            let (what, limit) = (format!("{expected} {id}"), format!("{limit} bytes"));
            return Err(GitError::TooLarge { what, limit });
        }
        let mut bytes = Vec::new();
        let mut kind = None;
        for store in self.stores().iter() {
            let found =
                store.handle.try_find(id, &mut bytes).map_err(|error| corrupt(expected, id, &error))?;
            if let Some(found) = found {
                let (found, length) = (found.kind, found.data.len());
                bytes.truncate(length);
                kind = Some(found);
                break;
            }
        }
        let Some(kind) = kind else {
            return Err(missing(expected, id));
        };
        let actual = gix_object::compute_hash(self.hash, kind, &bytes);
        if actual.map_err(|error| corrupt(expected, id, &error))? != *id {
            return Err(corrupt(expected, id, &"its content has another id"));
        }
        Ok((kind, bytes))
    }

    /// An id of the other hash function names nothing here.
    fn is_ours(&self, id: &ObjectId) -> bool {
        id.kind() == self.hash
    }

    fn stores(&self) -> MutexGuard<'_, Vec<ObjectStore>> {
        self.stores.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Objects").field("directories", &self.directories()).finish()
    }
}

/// Passes a blob on and computes its id on the way.
pub(crate) struct HashedBlob<'a> {
    output: &'a mut dyn Write,
    hasher: gix_hash::Hasher,
}

impl<'a> HashedBlob<'a> {
    pub(crate) fn new(hash: gix_hash::Kind, size: u64, output: &'a mut dyn Write) -> Self {
        let mut hasher = gix_hash::hasher(hash);
        hasher.update(format!("blob {size}\0").as_bytes());
        Self { output, hasher }
    }

    pub(crate) fn finish(self, id: &ObjectId) -> Result<(), GitError> {
        let actual = self.hasher.try_finalize().map_err(|error| corrupt("blob", id, &error))?;
        if actual == *id { Ok(()) } else { Err(corrupt("blob", id, &"its content has another id")) }
    }
}

impl Write for HashedBlob<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.output.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

pub(crate) fn missing(kind: &'static str, id: &ObjectId) -> GitError {
    GitError::Missing { kind, id: id.to_string(), remedy: NOT_HERE }
}

pub(crate) fn corrupt(kind: &'static str, id: &ObjectId, reason: &impl fmt::Display) -> GitError {
    let reason = crate::error::quoted(reason.to_string().as_bytes());
    GitError::Corrupt { kind, id: id.to_string(), reason }
}

fn name_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Blob => "blob",
        Kind::Commit => "commit",
        Kind::Tag => "tag",
        Kind::Tree => "tree",
    }
}
