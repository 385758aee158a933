//! Compression of layers on all cores, and decompression of whatever comes in.
//!
//! What is written is cut into chunks, the chunks are compressed on all cores, and the results are put out in order,
//! while other threads hash both sides. The number of chunks under way is bounded, so memory does not grow with the
//! layer. Each chunk becomes a gzip member or a zstd frame of its own: both formats allow any number in a file and every
//! reader of layers takes them. The bytes depend on the content, the level and the versions of the libraries only, never
//! on how many threads there were.

use std::fmt;
use std::io::{self, BufReader, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use libdeflater::{CompressionLvl, Compressor as Deflater};
use strake_oci::{Compression, DiffId, Digest, Hasher};

/// Small enough that a few per core are no burden, large enough that starting anew costs under one percent.
const GZIP_CHUNK: usize = 1 << 20;

/// Zstandard gains more from what came before, so its chunks are larger.
const ZSTD_CHUNK: usize = 4 << 20;

/// libdeflate's level 4 is as small as zlib's level 6 and twice as fast.
const GZIP_LEVEL: i32 = 4;
const ZSTD_LEVEL: i32 = 3;

/// The largest window that a zstd frame may ask for: 2^27 bytes, as in `zstd -d`.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// How to compress.
#[derive(Debug, Clone, Copy)]
pub struct CompressOptions {
    /// The format.
    pub compression: Compression,
    /// The level of the format; a sensible one when not given (gzip 4 of 1 to 12, zstd 3 of 1 to 22).
    pub level: Option<i32>,
    /// How many threads compress; all cores when not given.
    pub threads: Option<usize>,
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

/// A chunk on its way to a compressing thread, and where its result is awaited.
type Work = (Arc<Vec<u8>>, SyncSender<io::Result<Vec<u8>>>);

/// Compresses what is written to it on several threads and hashes both sides on the way.
///
/// Dropped without [`Compressor::finish`], it stops; what the writer has got by then is incomplete.
pub struct Compressor<W: Write> {
    chunk: Vec<u8>,
    chunk_size: usize,
    uncompressed_size: u64,
    compression: Compression,
    channels: Option<Channels>,
    workers: Vec<JoinHandle<()>>,
    hasher: Option<JoinHandle<Digest>>,
    output: Option<JoinHandle<Output<W>>>,
}

struct Channels {
    work: SyncSender<Work>,
    hash: SyncSender<Arc<Vec<u8>>>,
    results: SyncSender<Receiver<io::Result<Vec<u8>>>>,
}

/// What the writing thread hands back.
struct Output<W> {
    writer: W,
    digest: Digest,
    size: u64,
    result: io::Result<()>,
}

impl<W: Write> fmt::Debug for Compressor<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compressor")
            .field("uncompressed_size", &self.uncompressed_size)
            .finish_non_exhaustive()
    }
}

impl<W: Write + Send + 'static> Compressor<W> {
    /// Starts the threads.
    ///
    /// # Errors
    /// When a thread cannot be started or the level does not exist.
    pub fn new(writer: W, options: &CompressOptions) -> io::Result<Self> {
        let encoder = Encoder::new(options)?;
        let threads = options.threads.unwrap_or_else(crate::threads).clamp(1, 64);
        let chunk_size = match options.compression {
            Compression::Zstd => ZSTD_CHUNK,
            Compression::Gzip | Compression::None => GZIP_CHUNK,
        };
        let (work, work_receiver) = sync_channel::<Work>(1);
        // Results wait in the order of the input. As many may be under way as there are threads, and one more.
        let (results, result_receiver) = sync_channel(threads);
        let (hash, hash_receiver) = sync_channel::<Arc<Vec<u8>>>(2);
        let work_receiver = Arc::new(Mutex::new(work_receiver));
        let start = |name: &str| std::thread::Builder::new().name(name.to_owned());
        let workers = (0..threads)
            .map(|_| {
                let receiver = work_receiver.clone();
                start("compress").spawn(move || compress_chunks(&receiver, encoder))
            })
            .collect::<io::Result<Vec<_>>>()?;
        let hasher = start("hash").spawn(move || {
            let mut hasher = Hasher::new();
            hash_receiver.into_iter().for_each(|chunk| hasher.update(&chunk));
            hasher.finish()
        })?;
        let output = start("write").spawn(move || write_results(writer, &result_receiver))?;
        Ok(Self {
            chunk: Vec::with_capacity(chunk_size),
            chunk_size,
            uncompressed_size: 0,
            compression: options.compression,
            channels: Some(Channels { work, hash, results }),
            workers,
            hasher: Some(hasher),
            output: Some(output),
        })
    }

    /// Compresses the rest and returns the writer, not flushed.
    ///
    /// # Errors
    /// When the writer failed.
    pub fn finish(mut self) -> io::Result<(W, CompressedInfo)> {
        // A compressed file has at least one member, even of nothing.
        let needs_member = self.uncompressed_size == 0 && self.compression != Compression::None;
        if !self.chunk.is_empty() || needs_member {
            // A failure shows in the writing thread's result.
            let _ = self.send_chunk();
        }
        self.channels = None;
        let ended = || io::Error::other("a thread of the compression ended unexpectedly");
        for worker in std::mem::take(&mut self.workers) {
            worker.join().map_err(|_| ended())?;
        }
        let diff_id = self.hasher.take().ok_or_else(ended)?.join().map_err(|_| ended())?;
        let output = self.output.take().ok_or_else(ended)?.join().map_err(|_| ended())?;
        output.result?;
        let info = CompressedInfo {
            diff_id: DiffId(diff_id),
            uncompressed_size: self.uncompressed_size,
            digest: output.digest,
            size: output.size,
        };
        Ok((output.writer, info))
    }

    fn send_chunk(&mut self) -> io::Result<()> {
        let chunk = std::mem::replace(&mut self.chunk, Vec::with_capacity(self.chunk_size));
        let chunk = Arc::new(chunk);
        let (sender, receiver) = sync_channel(1);
        let channels = self.channels.as_ref().ok_or(io::ErrorKind::BrokenPipe)?;
        // Each of these fails only when the other side has given up because the writer failed.
        let gone = || io::Error::new(io::ErrorKind::BrokenPipe, "the writer behind the compression failed");
        channels.results.send(receiver).map_err(|_| gone())?;
        channels.hash.send(chunk.clone()).map_err(|_| gone())?;
        channels.work.send((chunk, sender)).map_err(|_| gone())
    }
}

impl<W: Write + Send + 'static> Write for Compressor<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(self.chunk_size - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..count]);
        self.uncompressed_size += count as u64;
        if self.chunk.len() == self.chunk_size {
            self.send_chunk()?;
        }
        Ok(count)
    }

    /// Does nothing: cutting chunks short would change the bytes.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Puts out the results in order. After a failure nothing more is taken, which stops the others.
fn write_results<W: Write>(mut writer: W, results: &Receiver<Receiver<io::Result<Vec<u8>>>>) -> Output<W> {
    let (mut hasher, mut size) = (Hasher::new(), 0);
    let mut write = || -> io::Result<()> {
        for result in results {
            let ended = |_| io::Error::other("a compressing thread ended unexpectedly");
            let bytes = result.recv().map_err(ended)??;
            writer.write_all(&bytes)?;
            hasher.update(&bytes);
            size += bytes.len() as u64;
        }
        Ok(())
    };
    let result = write();
    Output { writer, digest: hasher.finish(), size, result }
}

fn compress_chunks(work: &Mutex<Receiver<Work>>, encoder: Encoder) {
    let mut state = encoder.state();
    loop {
        let next = work.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((chunk, result)) = next else { return };
        // Nobody waits for the result when the writer has failed.
        let _ = result.send(state.compress(&chunk));
    }
}

/// What to do with each chunk.
#[derive(Debug, Clone, Copy)]
enum Encoder {
    None,
    Gzip(CompressionLvl),
    Zstd(i32),
}

/// An encoder's working memory, one for each thread.
enum State {
    None,
    Gzip(Deflater),
    Zstd(io::Result<zstd::bulk::Compressor<'static>>),
}

impl Encoder {
    fn new(options: &CompressOptions) -> io::Result<Self> {
        let no_level = |level: i32| {
            let message = format!("there is no compression level {level}");
            io::Error::new(io::ErrorKind::InvalidInput, message)
        };
        Ok(match options.compression {
            Compression::None => Self::None,
            Compression::Gzip => {
                let level = options.level.unwrap_or(GZIP_LEVEL);
                Self::Gzip(CompressionLvl::new(level).map_err(|_| no_level(level))?)
            }
            Compression::Zstd => {
                let level = options.level.unwrap_or(ZSTD_LEVEL);
                let known = zstd::compression_level_range().contains(&level);
                Self::Zstd(if known { level } else { return Err(no_level(level)) })
            }
        })
    }

    fn state(self) -> State {
        match self {
            Self::None => State::None,
            Self::Gzip(level) => State::Gzip(Deflater::new(level)),
            Self::Zstd(level) => State::Zstd(zstd::bulk::Compressor::new(level)),
        }
    }
}

impl State {
    fn compress(&mut self, chunk: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Self::None => Ok(chunk.to_vec()),
            Self::Gzip(deflater) => {
                let mut bytes = vec![0; deflater.gzip_compress_bound(chunk.len())];
                let length = deflater.gzip_compress(chunk, &mut bytes).map_err(io::Error::other)?;
                bytes.truncate(length);
                Ok(bytes)
            }
            Self::Zstd(Ok(compressor)) => compressor.compress(chunk),
            Self::Zstd(Err(error)) => Err(io::Error::new(error.kind(), error.to_string())),
        }
    }
}

/// The formats that ADD unpacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// Not compressed.
    None,
    /// gzip, of any number of members.
    Gzip,
    /// bzip2, of any number of streams.
    Bzip2,
    /// xz, of any number of streams.
    Xz,
    /// Zstandard, of any number of frames.
    Zstd,
}

impl From<Compression> for Codec {
    fn from(compression: Compression) -> Self {
        match compression {
            Compression::None => Self::None,
            Compression::Gzip => Self::Gzip,
            Compression::Zstd => Self::Zstd,
        }
    }
}

/// The compression that the first bytes of a file betray; ten bytes are enough.
pub fn detect(prefix: &[u8]) -> Codec {
    match prefix {
        [0x1f, 0x8b, 8, ..] => Codec::Gzip,
        [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, 0x59, 0x26, 0x53, 0x59, ..] => Codec::Bzip2,
        // An empty bzip2 stream has the end marker at once.
        [b'B', b'Z', b'h', b'1'..=b'9', 0x17, 0x72, 0x45, 0x38, 0x50, 0x90, ..] => Codec::Bzip2,
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Codec::Xz,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Codec::Zstd,
        _ => Codec::None,
    }
}

/// The most memory that an xz stream may ask for, in bytes: its largest preset needs 65 MiB.
const XZ_MEMORY_MAX: u64 = 128 << 20;

/// Decompresses, with bounded memory.
///
/// # Errors
/// When the decoder cannot be set up.
pub fn decoder<'a>(reader: impl Read + Send + 'a, codec: Codec) -> io::Result<Box<dyn Read + Send + 'a>> {
    let buffered = |reader| BufReader::with_capacity(128 * 1024, reader);
    Ok(match codec {
        Codec::None => Box::new(reader),
        Codec::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(buffered(reader))),
        Codec::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(buffered(reader))),
        Codec::Xz => {
            let flags = liblzma::stream::CONCATENATED;
            let stream = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY_MAX, flags);
            let stream = stream.map_err(io::Error::other)?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(buffered(reader), stream))
        }
        Codec::Zstd => {
            let mut decoder = zstd::stream::Decoder::with_buffer(buffered(reader))?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
            Box::new(decoder)
        }
    })
}

/// Decompresses a layer, with bounded memory.
///
/// # Errors
/// When the decoder cannot be set up.
pub fn decompress<'a>(
    reader: impl Read + Send + 'a,
    compression: Compression,
) -> io::Result<Box<dyn Read + Send + 'a>> {
    decoder(reader, compression.into())
}

#[cfg(test)]
mod tests;
