//! Bytes by digest.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

use strake_oci::{Digest, Hasher};

use crate::StoreError;
use crate::layout::Shared;

/// The blobs of a store.
#[derive(Debug)]
pub struct Blobs {
    shared: Arc<Shared>,
}

/// A blob in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobInfo {
    /// The digest of its bytes.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
}

impl Blobs {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The blob's size when it is in the store.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn find(&self, digest: &Digest) -> Result<Option<BlobInfo>, StoreError> {
        let Some(size) = self.shared.index.blob_size(digest)? else { return Ok(None) };
        // A file that somebody removed or cut short by hand is not there either.
        let metadata = std::fs::metadata(self.path(digest));
        let intact = metadata.is_ok_and(|metadata| metadata.len() == size);
        Ok(intact.then_some(BlobInfo { digest: *digest, size }))
    }

    /// Whether the blob is in the store.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn has(&self, digest: &Digest) -> Result<bool, StoreError> {
        Ok(self.find(digest)?.is_some())
    }

    /// Marks blobs as used now, so that a collection running beside keeps them as long as this process has the
    /// store open. Answers for each whether it is there.
    ///
    /// # Errors
    /// When the index cannot be written.
    pub fn touch(&self, digests: &[Digest]) -> Result<Vec<bool>, StoreError> {
        let mut present = self.shared.index.touch_blobs(digests)?;
        for (digest, present) in digests.iter().zip(&mut present) {
            *present = *present && self.has(digest)?;
        }
        Ok(present)
    }

    /// Where the blob lies, whether or not it is there.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.shared.blob_path(digest)
    }

    /// Opens a blob; reading to the end checks its digest and fails with `InvalidData` when it is wrong.
    ///
    /// # Errors
    /// [`StoreError::NoBlob`] when it is not there.
    pub fn open(&self, digest: &Digest) -> Result<BlobReader, StoreError> {
        let path = self.path(digest);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::NoBlob(*digest));
            }
            Err(error) => return Err(StoreError::io("open", &path)(error)),
        };
        let size = file.metadata().map_err(StoreError::io("examine", &path))?.len();
        Ok(BlobReader { file, size, expected: *digest, hasher: Some(Hasher::new()) })
    }

    /// The bytes of a small blob, verified.
    ///
    /// # Errors
    /// When it is missing, larger than `max` bytes, or damaged; a damaged blob is removed, so that the next
    /// attempt fetches it anew.
    pub fn read_verified(&self, digest: &Digest, max: u64) -> Result<Vec<u8>, StoreError> {
        let path = self.path(digest);
        let reader = self.open(digest)?;
        if reader.size > max {
            let message = format!("it has {} bytes, at most {max} were expected", reader.size);
            let error = io::Error::new(io::ErrorKind::FileTooLarge, message);
            return Err(StoreError::io("read the blob", &path)(error));
        }
        let mut content = Vec::new();
        reader.file.take(max + 1).read_to_end(&mut content).map_err(StoreError::io("read", &path))?;
        let actual = Digest::of(&content);
        if actual != *digest {
            self.delete(digest)?;
            return Err(StoreError::Mismatch { what: format!("blob {digest}"), expected: *digest, actual });
        }
        Ok(content)
    }

    /// A writer for a new blob; dropped uncommitted, it leaves nothing.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn writer(&self) -> Result<BlobWriter, StoreError> {
        let path = self.shared.leased_path("tmp")?;
        let file = File::create_new(&path).map_err(StoreError::io("create", &path))?;
        let shared = self.shared.clone();
        Ok(BlobWriter { shared, path, file, hasher: Hasher::new(), size: 0, placed: false })
    }

    /// Stores bytes at hand.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn write(&self, bytes: &[u8]) -> Result<BlobInfo, StoreError> {
        let digest = Digest::of(bytes);
        if self.touch(&[digest])? == [true] {
            return Ok(BlobInfo { digest, size: bytes.len() as u64 });
        }
        let mut writer = self.writer()?;
        writer.write_all(bytes).map_err(StoreError::io("write", &writer.path))?;
        writer.commit(Some(digest))
    }

    /// Removes a blob, if it is there.
    ///
    /// # Errors
    /// When the index cannot be written.
    pub fn delete(&self, digest: &Digest) -> Result<(), StoreError> {
        self.shared.index.forget_blob(digest)?;
        let discard = |digest: &Digest| self.shared.discard(&self.path(digest));
        self.shared.index.take_away(&[], &[*digest], |_| {}, discard)
    }

    /// All blobs, sorted by digest.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn list(&self) -> Result<Vec<BlobInfo>, StoreError> {
        self.shared.index.blob_list()
    }
}

/// Reads a blob and checks its digest at the end.
#[derive(Debug)]
pub struct BlobReader {
    file: File,
    size: u64,
    expected: Digest,
    hasher: Option<Hasher>,
}

impl BlobReader {
    /// The blob's size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let count = self.file.read(buffer)?;
        if count > 0 {
            if let Some(hasher) = &mut self.hasher {
                hasher.update(&buffer[..count]);
            }
            return Ok(count);
        }
        if let Some(hasher) = self.hasher.take() {
            let actual = hasher.finish();
            if actual != self.expected {
                let message = format!("blob {} is damaged: its bytes have {actual}", self.expected);
                return Err(io::Error::new(io::ErrorKind::InvalidData, message));
            }
        }
        Ok(0)
    }
}

/// Receives a new blob and hashes it on the way.
#[derive(Debug)]
pub struct BlobWriter {
    shared: Arc<Shared>,
    path: PathBuf,
    file: File,
    hasher: Hasher,
    size: u64,
    placed: bool,
}

impl BlobWriter {
    /// Puts the blob in its place and records it. It is not synced, see `layout`.
    ///
    /// # Errors
    /// [`StoreError::Mismatch`] when the bytes are not `expected`.
    pub fn commit(mut self, expected: Option<Digest>) -> Result<BlobInfo, StoreError> {
        let digest = std::mem::take(&mut self.hasher).finish();
        if let Some(expected) = expected.filter(|expected| *expected != digest) {
            let what = "content received".to_owned();
            return Err(StoreError::Mismatch { what, expected, actual: digest });
        }
        let blob = BlobInfo { digest, size: self.size };
        let place = self.shared.blob_path(&digest);
        self.shared.index.commit_blob(blob, || {
            std::fs::rename(&self.path, &place).map_err(StoreError::io("put in place", &place))
        })?;
        self.placed = true;
        Ok(blob)
    }

    /// How many bytes were written so far.
    pub fn size(&self) -> u64 {
        self.size
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        if !self.placed {
            // The sweep removes it otherwise.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
