//! From a compressed layer to a layer directory in one stream.
use std::io::Read;

use strake_oci::{ChainId, Compression, DiffId};

use crate::{LayerId, Store, StoreError};

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

/// A layer that is unpacked, but does not yet stand on the layers below.
#[derive(Debug)]
pub struct Unpacked {}

impl Unpacked {
    /// The name it has or will have.
    pub fn id(&self) -> &LayerId {
        unimplemented!()
    }
    /// Takes from the layers below what the tar left to them, and puts the layer in place.
    ///
    /// # Errors
    /// When a layer below is missing, or the layer links to files that are not there.
    pub fn finish(self, _store: &Store, _below: &[LayerId]) -> Result<LayerId, StoreError> {
        unimplemented!()
    }
}

/// Unpacks one layer: decompress, verify the diff ID, write. The layers below need not be there yet, so the
/// layers of an image can be unpacked at the same time and then finished in order.
///
/// # Errors
/// When the stream fails, is not what `expect` says, or cannot be written.
pub fn unpack(
    _store: &Store,
    _chain: ChainId,
    _expect: DiffId,
    _compression: Compression,
    _reader: impl Read + Send,
    _options: &UnpackOptions,
) -> Result<Unpacked, StoreError> {
    unimplemented!()
}

/// [`unpack`] and [`Unpacked::finish`] in one, for a layer whose layers below are all there.
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
