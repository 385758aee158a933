//! Documents, and what is known of layers and blobs.
use strake_oci::{Digest, DiffId};

use crate::{LayerBlob, LayerId, LayerInfo, StoreError};

/// What a document stands on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Link {
    /// A layer directory of this store.
    Layer(LayerId),
    /// A blob; it need not be in this store.
    Blob(Digest),
    /// Another document.
    Document {
        /// Its kind.
        kind: String,
        /// Its key.
        key: String,
    },
}

/// A small document whose meaning only the caller knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// The bytes that were put.
    pub body: Vec<u8>,
    /// When it was put, in nanoseconds since 1970.
    pub created_ns: i64,
    /// When it was last used, in nanoseconds since 1970.
    pub used_ns: i64,
}

/// A document with its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentEntry {
    /// The key.
    pub key: String,
    /// The document.
    pub document: Document,
}

/// A document to put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDocument {
    /// What kind of document; each kind has its own keys.
    pub kind: String,
    /// Its name within the kind.
    pub key: String,
    /// Its content.
    pub body: Vec<u8>,
    /// What it stands on: kept as long as the document is.
    pub links: Vec<Link>,
}

/// The index of a store.
#[derive(Debug)]
pub struct Index {}

impl Index {
    /// The document, if there is one.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn get(&self, _kind: &str, _key: &str) -> Result<Option<Document>, StoreError> {
        unimplemented!()
    }
    /// What the document stands on; empty when there is no such document.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn links(&self, _kind: &str, _key: &str) -> Result<Vec<Link>, StoreError> {
        unimplemented!()
    }
    /// Puts a document, replacing one of the same key.
    ///
    /// # Errors
    /// [`StoreError::NoLayer`] when it links a layer that is not there; otherwise when the index cannot be written.
    pub fn put(&self, _kind: &str, _key: &str, _body: &[u8], _links: &[Link]) -> Result<(), StoreError> {
        unimplemented!()
    }
    /// Puts several documents in one transaction: all or none.
    ///
    /// # Errors
    /// As [`Index::put`].
    pub fn put_many(&self, _documents: &[NewDocument]) -> Result<(), StoreError> {
        unimplemented!()
    }
    /// Marks documents, and all the layers and blobs they link, as used now, so that a collection running beside
    /// keeps them. Answers for each whether it is (still) there: what is not must be treated as never found.
    ///
    /// # Errors
    /// When the index cannot be written.
    pub fn touch_many(&self, _documents: &[(&str, &str)]) -> Result<Vec<bool>, StoreError> {
        unimplemented!()
    }
    /// Removes a document; answers whether there was one.
    ///
    /// # Errors
    /// When the index cannot be written.
    pub fn delete(&self, _kind: &str, _key: &str) -> Result<bool, StoreError> {
        unimplemented!()
    }
    /// All documents of a kind, sorted by key.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn list(&self, _kind: &str) -> Result<Vec<DocumentEntry>, StoreError> {
        unimplemented!()
    }
    /// The documents of a kind whose key begins with `prefix`, sorted by key.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn list_prefix(&self, _kind: &str, _prefix: &str) -> Result<Vec<DocumentEntry>, StoreError> {
        unimplemented!()
    }
    /// What is known of a layer directory; nothing when it is not there.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn layer(&self, _layer: &LayerId) -> Result<Option<LayerInfo>, StoreError> {
        unimplemented!()
    }
    /// Records the digest and size in bytes of a layer's tar.
    ///
    /// # Errors
    /// [`StoreError::NoLayer`] when it is not there; otherwise when the index cannot be written.
    pub fn set_layer_diff_id(&self, _l: &LayerId, _d: DiffId, _size: u64) -> Result<(), StoreError> {
        unimplemented!()
    }
    /// Records the content digest of a layer.
    ///
    /// # Errors
    /// As [`Index::set_layer_diff_id`].
    pub fn set_layer_content(&self, _layer: &LayerId, _content: Digest) -> Result<(), StoreError> {
        unimplemented!()
    }
    /// Records a blob, here or elsewhere, that holds the tar `diff_id`.
    ///
    /// # Errors
    /// When the index cannot be written.
    pub fn add_layer_blob(&self, _diff_id: DiffId, _blob: &LayerBlob) -> Result<(), StoreError> {
        unimplemented!()
    }
    /// The blobs known to hold the tar `diff_id`.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn layer_blobs(&self, _diff_id: DiffId) -> Result<Vec<LayerBlob>, StoreError> {
        unimplemented!()
    }
    /// The layer directories whose tar is `diff_id`.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn layer_by_diff_id(&self, _diff_id: DiffId) -> Result<Vec<LayerId>, StoreError> {
        unimplemented!()
    }
    /// What was remembered of the files below a directory; empty when nothing was.
    /// `root_key` is any text that names the directory.
    pub fn stat_cache(&self, _root_key: &str) -> StatCache {
        unimplemented!()
    }
    /// Remembers what is known of the files below a directory.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save_stat_cache(&self, _root_key: &str, _cache: &StatCache) -> Result<(), StoreError> {
        unimplemented!()
    }
}

/// What can be known of a file without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileStat {
    /// The device it lies on.
    pub dev: u64,
    /// Its inode.
    pub ino: u64,
    /// Its size in bytes.
    pub size: u64,
    /// Time of last modification, in nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Time of last change of content or attributes, in nanoseconds since 1970.
    pub ctime_ns: i64,
}

/// Digests of files by path, believed only while nothing about the file has changed.
#[derive(Debug, Clone, Default)]
pub struct StatCache {}

impl StatCache {
    /// The digest of the file at `path`, if it is the very file that was hashed.
    pub fn get(&self, _path: &[u8], _stat: &FileStat) -> Option<[u8; 32]> {
        unimplemented!()
    }
    /// Remembers a digest. `read_ns` is the time just before reading began; a file changed too shortly before
    /// that is not remembered, as a later change might not show in its times.
    pub fn put(&mut self, _path: &[u8], _stat: &FileStat, _digest: [u8; 32], _read_ns: i64) {
        unimplemented!()
    }
}
