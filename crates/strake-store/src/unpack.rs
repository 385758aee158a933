//! From a compressed layer to a layer directory in one stream.
//!
//! Three threads work at the same time: one decompresses (the slowest part), one hashes what comes out, one writes the
//! files. Buffers go round between them, so memory is bounded.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use strake_oci::{ChainId, Compression, DiffId, Hasher};

use crate::index::LayerRow;
use crate::tar::{self, Applied, ApplyOptions, TarError, Whiteouts};
use crate::{ActiveSnapshot, LayerId, Store, StoreError, compress};

/// What goes from thread to thread at once.
const PIECE: usize = 256 * 1024;

/// How many pieces may wait for each thread.
const PIECES: usize = 4;

/// Bytes of headers and padding that an entry may have on top of its content, for the limit of the whole stream.
const OVERHEAD: u64 = 4096;

/// Limits for unpacking.
#[derive(Debug, Clone, Copy)]
pub struct UnpackOptions {
    /// The most bytes that the files of one layer may have together, holes counted.
    pub max_bytes: u64,
    /// The most entries that one layer may have.
    pub max_entries: u64,
}

impl Default for UnpackOptions {
    fn default() -> Self {
        Self { max_bytes: 1 << 40, max_entries: 20_000_000 }
    }
}

/// A layer that is unpacked, but does not yet stand on the layers below. Dropped, it leaves nothing.
#[derive(Debug)]
pub struct Unpacked {
    id: LayerId,
    /// Nothing when the store had the layer already.
    work: Option<(ActiveSnapshot, Applied)>,
}

impl Unpacked {
    /// The name it has or will have.
    pub fn id(&self) -> &LayerId {
        &self.id
    }

    /// What could not be unpacked as it is, for people to read.
    pub fn notes(&self) -> &[String] {
        self.work.as_ref().map_or(&[], |(_, applied)| &applied.notes)
    }

    /// Takes from the layers below (bottom first) what the tar left to them, and puts the layer in place.
    ///
    /// # Errors
    /// When a layer below is missing, or the layer links to files that are not there.
    pub fn finish(self, store: &Store, below: &[LayerId]) -> Result<LayerId, StoreError> {
        if let Some((active, applied)) = self.work {
            tar::settle(store, active.upper(), below, &applied)?;
            store.snapshots().commit(active)?;
        }
        Ok(self.id)
    }
}

/// Unpacks one layer: decompress, verify the diff ID, write. The layers below need not be there yet, so the layers of
/// an image can be unpacked at the same time and then finished in order.
///
/// When the store has the layer already, nothing is read. Two processes may unpack the same layer at once; one of the
/// results is used.
///
/// # Errors
/// When the stream fails, is not what `expect` says, is malformed or too large, or cannot be written.
pub fn unpack(
    store: &Store,
    chain: ChainId,
    expect: DiffId,
    compression: Compression,
    reader: impl Read + Send,
    options: &UnpackOptions,
) -> Result<Unpacked, StoreError> {
    let id = LayerId::of_chain(&chain);
    if store.index().touch_layer(&id)? {
        return Ok(Unpacked { id, work: None });
    }
    let mut active = store.prepare_layer()?;
    let apply = ApplyOptions {
        flavour: store.flavour(),
        max_bytes: options.max_bytes,
        max_entries: options.max_entries,
        whiteouts: Whiteouts::Layer,
    };
    let stream_max = options.max_bytes.saturating_add(options.max_entries.saturating_mul(OVERHEAD));
    let (applied, hashed) = std::thread::scope(|scope| {
        let (to_hash, hash_input) = sync_channel(PIECES);
        let (to_apply, apply_input) = sync_channel(PIECES);
        let inflate = scope.spawn(move || inflate(reader, compression, stream_max, &to_hash, &to_apply));
        let hash = scope.spawn(move || hash(&hash_input));
        let applied = tar::apply(Pieces::new(apply_input), active.upper(), &apply);
        // Once the receiving side is gone, the inflating thread only feeds the hash.
        let ended = |_| io::Error::other("a thread of the unpacking ended unexpectedly");
        let inflated = inflate.join().map_err(ended).flatten();
        let hashed = hash.join().map_err(ended);
        (applied, inflated.and(hashed))
    });
    let what = || format!("unpack layer {expect}");
    // An error of the stream is the cause of whatever the reading of the tar ran into.
    let (diff_id, tar_size) = hashed.map_err(|error| StoreError::Tar {
        what: what(),
        source: TarError::Malformed { offset: 0, problem: error.to_string() },
    })?;
    if diff_id != expect {
        let (expected, actual) = (expect.0, diff_id.0);
        return Err(StoreError::Mismatch { what: what(), expected, actual });
    }
    let applied = applied.map_err(|source| StoreError::Tar { what: what(), source })?;
    active.describe(id.clone(), LayerRow { diff_id: Some(diff_id), tar_size: Some(tar_size) });
    Ok(Unpacked { id, work: Some((active, applied)) })
}

/// [`unpack`] and [`Unpacked::finish`] in one, for a layer whose layers below (bottom first) are all there.
///
/// # Errors
/// As those two.
pub fn unpack_layer(
    store: &Store,
    below: &[LayerId],
    chain: ChainId,
    expect: DiffId,
    compression: Compression,
    reader: impl Read + Send,
) -> Result<LayerId, StoreError> {
    unpack(store, chain, expect, compression, reader, &UnpackOptions::default())?.finish(store, below)
}

type Piece = Arc<Vec<u8>>;

/// Reads to the end, even when the tar ended earlier or was refused: the digest covers every byte.
fn inflate(
    reader: impl Read + Send,
    compression: Compression,
    max: u64,
    to_hash: &SyncSender<Piece>,
    to_apply: &SyncSender<Piece>,
) -> io::Result<()> {
    let mut reader = compress::decompress(reader, compression)?;
    let mut total = 0_u64;
    let mut wanted = true;
    loop {
        let mut piece = Vec::with_capacity(PIECE);
        let length = reader.by_ref().take(PIECE as u64).read_to_end(&mut piece)?;
        if length == 0 {
            return Ok(());
        }
        total += length as u64;
        if total > max {
            let message = format!("the layer has more than {max} bytes, the limit set for one layer");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
        }
        let piece = Arc::new(piece);
        wanted = wanted && to_apply.send(piece.clone()).is_ok();
        if to_hash.send(piece).is_err() {
            return Ok(());
        }
    }
}

fn hash(pieces: &Receiver<Piece>) -> (DiffId, u64) {
    let (mut hasher, mut size) = (Hasher::new(), 0);
    for piece in pieces {
        hasher.update(&piece);
        size += piece.len() as u64;
    }
    (DiffId(hasher.finish()), size)
}

/// Reads what arrives in pieces.
struct Pieces {
    receiver: Receiver<Piece>,
    current: Piece,
    taken: usize,
}

impl Pieces {
    fn new(receiver: Receiver<Piece>) -> Self {
        Self { receiver, current: Piece::default(), taken: 0 }
    }
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.current.len() {
            match self.receiver.recv() {
                Ok(piece) => (self.current, self.taken) = (piece, 0),
                Err(_) => return Ok(0),
            }
        }
        let rest = &self.current[self.taken..];
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        self.taken += length;
        Ok(length)
    }
}
