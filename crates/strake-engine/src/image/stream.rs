//! A layer directory as a stream of bytes: written as a tar, hashed and compressed on other threads while somebody
//! reads the result.

use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use strake_oci::{Compression, DiffId, Digest, Hasher};
use strake_store::compress::{CompressOptions, Compressor};
use strake_store::tar::{DiffOptions, diff};

/// Pieces that wait to be read. With pieces of at most 256 KiB a stream holds two MiB at most here.
const QUEUE: usize = 8;
const PIECE: usize = 256 << 10;

/// A directory that is to be written as a tar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TarSource {
    pub(crate) directory: PathBuf,
    pub(crate) clamp: Option<i64>,
}

impl TarSource {
    /// Writes the tar, without knowing what it will be.
    pub(crate) fn write(&self, out: impl Write) -> io::Result<u64> {
        let options = DiffOptions { clamp_mtime: self.clamp };
        diff(&self.directory, out, &options).map(|stats| stats.bytes).map_err(io::Error::other)
    }

    /// The digest of the tar and its size in bytes. Reading files and hashing them take about the same time, so each
    /// has a thread.
    pub(crate) fn digest(&self) -> io::Result<(DiffId, u64)> {
        let (sender, pieces) = sync_channel::<Vec<u8>>(QUEUE);
        std::thread::scope(|scope| {
            let hashing = scope.spawn(move || {
                let mut hasher = Hasher::new();
                pieces.iter().for_each(|piece| hasher.update(&piece));
                hasher.finish()
            });
            let mut out = PieceWriter { sender, piece: Vec::new() };
            let size = self.write(&mut out);
            let flushed = out.flush();
            // The hashing thread ends when nobody can send any more.
            drop(out);
            let digest = hashing.join().map_err(|_| io::Error::other("the hashing thread failed"))?;
            flushed?;
            Ok((DiffId(digest), size?))
        })
    }
}

/// What went through a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) diff_id: DiffId,
    pub(crate) tar_size: u64,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

/// The bytes of a layer while they are made. Reading past the last byte fails unless the tar was `expect`.
pub(crate) struct LayerStream {
    pieces: Receiver<Vec<u8>>,
    current: Vec<u8>,
    position: usize,
    maker: Option<JoinHandle<io::Result<Outcome>>>,
    outcome: Option<Outcome>,
    expect: Option<DiffId>,
}

impl LayerStream {
    /// The uncompressed tar of a directory.
    pub(crate) fn plain(source: TarSource, expect: DiffId) -> Self {
        Self::compressed(source, expect, Compression::None)
    }

    /// The compressed tar of a directory.
    pub(crate) fn compressed(source: TarSource, expect: DiffId, compression: Compression) -> Self {
        Self::new(source, Some(expect), compression)
    }

    fn new(source: TarSource, expect: Option<DiffId>, compression: Compression) -> Self {
        let (sender, pieces) = sync_channel(QUEUE);
        let maker = std::thread::spawn(move || {
            let out = PieceWriter { sender, piece: Vec::new() };
            let made = make_into(out, compression, |compressor| source.write(compressor).map(drop));
            made.map(|(_, outcome)| outcome)
        });
        Self { pieces, current: Vec::new(), position: 0, maker: Some(maker), outcome: None, expect }
    }

    /// The compressed tar of a directory of which nothing is recorded.
    pub(crate) fn of_unknown(source: TarSource, compression: Compression) -> Self {
        Self::new(source, None, compression)
    }

    /// What it was; only after it was read to its end.
    pub(crate) fn outcome(&self) -> Option<Outcome> {
        self.outcome
    }

    fn finish(&mut self) -> io::Result<()> {
        let Some(maker) = self.maker.take() else { return Ok(()) };
        let outcome =
            maker.join().map_err(|_| io::Error::other("the thread that writes the tar failed"))??;
        if let Some(expect) = self.expect.filter(|expect| *expect != outcome.diff_id) {
            return Err(changed(expect, outcome.diff_id));
        }
        self.outcome = Some(outcome);
        Ok(())
    }
}

fn changed(expect: DiffId, actual: DiffId) -> io::Error {
    let text =
        format!("layer content is {actual}, not {expect} as recorded; the layer in the store was changed");
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// Compresses what `write` writes into `out`, which is flushed and returned.
pub(crate) fn make_into<W: Write + Send + 'static>(
    out: W,
    compression: Compression,
    write: impl FnOnce(&mut Compressor<W>) -> io::Result<()>,
) -> io::Result<(W, Outcome)> {
    let options = CompressOptions { compression, level: None, threads: None };
    let mut compressor = Compressor::new(out, &options)?;
    write(&mut compressor)?;
    let (mut out, seen) = compressor.finish()?;
    out.flush()?;
    let (tar_size, size) = (seen.uncompressed_size, seen.size);
    Ok((out, Outcome { diff_id: seen.diff_id, tar_size, digest: seen.digest, size }))
}

impl Read for LayerStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.position == self.current.len() {
            match self.pieces.recv() {
                Ok(piece) => (self.current, self.position) = (piece, 0),
                Err(_) => return self.finish().map(|()| 0),
            }
        }
        let count = buffer.len().min(self.current.len() - self.position);
        buffer[..count].copy_from_slice(&self.current[self.position..self.position + count]);
        self.position += count;
        Ok(count)
    }
}

impl Drop for LayerStream {
    fn drop(&mut self) {
        // A maker that nobody reads from fails at its next piece; it must not outlive the store's guards.
        self.pieces = sync_channel(0).1;
        if let Some(maker) = self.maker.take() {
            drop(maker.join());
        }
    }
}

/// The writing end of a stream.
struct PieceWriter {
    sender: SyncSender<Vec<u8>>,
    piece: Vec<u8>,
}

impl Write for PieceWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(PIECE - self.piece.len());
        self.piece.reserve_exact(PIECE - self.piece.len());
        self.piece.extend_from_slice(&bytes[..count]);
        if self.piece.len() == PIECE {
            self.flush()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::take(&mut self.piece);
        self.sender.send(piece).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// Passes a tar on and fails at its end unless it is the expected one.
pub(crate) struct Verified<R> {
    reader: R,
    hasher: Option<Hasher>,
    expect: DiffId,
}

impl<R> Verified<R> {
    pub(crate) fn new(reader: R, expect: DiffId) -> Self {
        Self { reader, hasher: Some(Hasher::new()), expect }
    }
}

impl<R: Read> Read for Verified<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        match &mut self.hasher {
            Some(hasher) if count > 0 => hasher.update(&buffer[..count]),
            Some(_) if !buffer.is_empty() => {
                let actual = self.hasher.take().map(|hasher| DiffId(hasher.finish()));
                if let Some(actual) = actual
                    && actual != self.expect
                {
                    return Err(changed(self.expect, actual));
                }
            }
            _ => {}
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tar_that_is_another_fails_at_its_end() {
        let expect = DiffId(Digest::of(b"abc"));
        let mut text = String::new();
        Verified::new(&b"abc"[..], expect).read_to_string(&mut text).unwrap();
        assert_eq!(text, "abc");
        let error = Verified::new(&b"abd"[..], expect).read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
