//! Compression of layers on all cores, and decompression of whatever comes in.
use std::io::{self, Read, Write};

use strake_oci::{Compression, DiffId, Digest};

/// How to compress.
#[derive(Debug, Clone, Copy)]
pub struct CompressOptions {
    /// The format.
    pub compression: Compression,
    /// The level of the format; a sensible one when not given (gzip 4, zstd 3).
    pub level: Option<i32>,
    /// How many threads compress; all cores when not given.
    pub threads: Option<usize>,
}

/// Compresses what is written to it on several threads and hashes both sides on the way.
#[derive(Debug)]
pub struct Compressor<W: Write> {
    _writer: W,
}

/// What went through a [`Compressor`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompressedInfo {
    /// The digest of what was written in.
    pub diff_id: DiffId,
    /// Bytes written in.
    pub uncompressed_size: u64,
    /// The digest of what came out.
    pub digest: Digest,
    /// Bytes that came out.
    pub size: u64,
}

impl<W: Write + Send + 'static> Compressor<W> {
    /// Starts the threads.
    ///
    /// # Errors
    /// When a thread cannot be started or the level does not exist.
    pub fn new(_writer: W, _options: &CompressOptions) -> io::Result<Self> {
        unimplemented!()
    }
    /// Compresses the rest and returns the writer, not flushed.
    ///
    /// # Errors
    /// When the writer failed.
    pub fn finish(self) -> io::Result<(W, CompressedInfo)> {
        unimplemented!()
    }
}

impl<W: Write + Send + 'static> Write for Compressor<W> {
    fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
        unimplemented!()
    }
    fn flush(&mut self) -> io::Result<()> {
        unimplemented!()
    }
}

/// The formats that ADD unpacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// Not compressed.
    None,
    /// gzip, of any number of members.
    Gzip,
    /// bzip2.
    Bzip2,
    /// xz.
    Xz,
    /// Zstandard, of any number of frames.
    Zstd,
}

/// The compression that the first bytes of a file betray; eight bytes are enough.
pub fn detect(_prefix: &[u8]) -> Codec {
    unimplemented!()
}

/// Decompresses, with bounded memory.
///
/// # Errors
/// When the decoder cannot be set up.
pub fn decoder<'a>(_reader: impl Read + Send + 'a, _codec: Codec) -> io::Result<Box<dyn Read + Send + 'a>> {
    unimplemented!()
}

/// Decompresses a layer, with bounded memory.
///
/// # Errors
/// When the decoder cannot be set up.
pub fn decompress<'a>(
    _reader: impl Read + Send + 'a,
    _compression: Compression,
) -> io::Result<Box<dyn Read + Send + 'a>> {
    unimplemented!()
}
