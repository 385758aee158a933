//! Bytes by digest.
use std::io::{self, Read, Write};
use std::path::PathBuf;

use strake_oci::Digest;

use crate::StoreError;

/// The blobs of a store.
#[derive(Debug)]
pub struct Blobs {}

/// A blob in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobInfo {
    /// The digest of its bytes.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
}

impl Blobs {
    /// The blob's size when it is in the store.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn find(&self, _digest: &Digest) -> Result<Option<BlobInfo>, StoreError> {
        unimplemented!()
    }
    /// Whether the blob is in the store.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn has(&self, _digest: &Digest) -> Result<bool, StoreError> {
        unimplemented!()
    }
    /// Where the blob lies, whether or not it is there.
    pub fn path(&self, _digest: &Digest) -> PathBuf {
        unimplemented!()
    }
    /// Opens a blob; reading to the end checks its digest and fails with `InvalidData` when it is wrong.
    ///
    /// # Errors
    /// [`StoreError::NoBlob`] when it is not there.
    pub fn open(&self, _digest: &Digest) -> Result<BlobReader, StoreError> {
        unimplemented!()
    }
    /// The bytes of a small blob, verified.
    ///
    /// # Errors
    /// When it is missing, larger than `max` bytes, or damaged (it is then removed).
    pub fn read_verified(&self, _digest: &Digest, _max: u64) -> Result<Vec<u8>, StoreError> {
        unimplemented!()
    }
    /// A writer for a new blob; dropped uncommitted, it leaves nothing.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn writer(&self) -> Result<BlobWriter, StoreError> {
        unimplemented!()
    }
    /// Stores bytes at hand.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn write(&self, _bytes: &[u8]) -> Result<BlobInfo, StoreError> {
        unimplemented!()
    }
    /// Removes a blob, if it is there.
    ///
    /// # Errors
    /// When the index cannot be written.
    pub fn delete(&self, _digest: &Digest) -> Result<(), StoreError> {
        unimplemented!()
    }
    /// All blobs, sorted by digest.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn list(&self) -> Result<Vec<BlobInfo>, StoreError> {
        unimplemented!()
    }
}

/// Reads a blob and checks its digest at the end.
#[derive(Debug)]
pub struct BlobReader {}

impl BlobReader {
    /// The blob's size in bytes.
    pub fn size(&self) -> u64 {
        unimplemented!()
    }
}

impl Read for BlobReader {
    fn read(&mut self, _buffer: &mut [u8]) -> io::Result<usize> {
        unimplemented!()
    }
}

/// Receives a new blob.
#[derive(Debug)]
pub struct BlobWriter {}

impl BlobWriter {
    /// Puts the blob in its place, durable as the decision record says, and records it.
    ///
    /// # Errors
    /// [`StoreError::Mismatch`] when the bytes are not `expected`.
    pub fn commit(self, _expected: Option<Digest>) -> Result<BlobInfo, StoreError> {
        unimplemented!()
    }
}

impl Write for BlobWriter {
    fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
        unimplemented!()
    }
    fn flush(&mut self) -> io::Result<()> {
        unimplemented!()
    }
}
