//! Blobs, layers, index and garbage collection on local disk.
//!
//! The crate knows nothing of steps, stages or images: it keeps bytes by digest ([`Blobs`]), layers as
//! directories ([`Snapshotter`]), and small documents whose meaning only the caller knows ([`Index`]).
//! Start reading at [`Store`]; `layout` tells how a store looks on disk and why it survives crashes.

mod blob;
mod clock;
pub mod compress;
mod error;
mod expire;
pub mod gc;
mod index;
mod layer;
mod layout;
mod lease;
mod recover;
pub mod room;
pub mod root_dir;
mod snapshot;
mod sweep;
pub mod tar;
mod unpack;
mod view;
mod xattr;

pub use blob::{BlobInfo, BlobReader, BlobWriter, Blobs};
pub use error::StoreError;
pub use index::{Document, DocumentEntry, FileStat, Index, Link, NewDocument, StatCache};
pub use layer::{LayerBlob, LayerId, LayerIdError, LayerInfo};
pub use layout::{Flavour, Store, StoreOptions, TempDir};
pub use root_dir::RootDir;
pub use snapshot::{ActiveSnapshot, SnapshotMount, Snapshotter, SnapshotterChoice, SnapshotterKind};
pub use sweep::SweepReport;
pub use tar::TarError;
pub use unpack::{UnpackOptions, Unpacked, unpack, unpack_layer};
pub use view::View;

/// How many threads are worth starting for work that keeps a core busy.
pub(crate) fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
