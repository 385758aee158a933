//! The directory of a store.
use std::fmt;
use std::path::{Path, PathBuf};

use strake_oci::Digest;

use crate::{ActiveSnapshot, Blobs, Index, LayerId, Snapshotter, SnapshotterChoice, StoreError, View};

/// Who can read the attributes that make a directory a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// Written by root of the machine: `trusted.overlay.*`.
    Trusted,
    /// Written inside a user namespace: `user.overlay.*`.
    User,
}

impl fmt::Display for Flavour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Trusted => "as root of the machine",
            Self::User => "by an ordinary user",
        })
    }
}

/// How to open a store.
#[derive(Debug, Clone, Copy, Default)]
pub struct StoreOptions {
    /// Which snapshotter to use.
    pub snapshotter: SnapshotterChoice,
}

/// A store on local disk, shared by any number of processes. Cloning gives another handle to the same store.
#[derive(Debug, Clone)]
pub struct Store {}

impl Store {
    /// Opens the store at `root`, creating it when there is none.
    ///
    /// # Errors
    /// When the directory cannot be made or used, belongs to another layout version or to the other flavour.
    pub fn open(_root: &Path, _options: &StoreOptions) -> Result<Self, StoreError> {
        unimplemented!()
    }
    /// The directory of the store.
    pub fn root(&self) -> &Path {
        unimplemented!()
    }
    /// Whose attributes the layers carry.
    pub fn flavour(&self) -> Flavour {
        unimplemented!()
    }
    /// Bytes by digest.
    pub fn blobs(&self) -> &Blobs {
        unimplemented!()
    }
    /// Directories that steps run on.
    pub fn snapshots(&self) -> &dyn Snapshotter {
        unimplemented!()
    }
    /// Documents and what is known of layers and blobs.
    pub fn index(&self) -> &Index {
        unimplemented!()
    }
    /// The directory of a committed layer, in overlay form.
    pub fn layer_dir(&self, _layer: &LayerId) -> PathBuf {
        unimplemented!()
    }
    /// The merged tree of `layers`, bottom first, to read.
    ///
    /// # Errors
    /// When a layer is missing or the mount fails.
    pub fn open_view(&self, _layers: &[LayerId]) -> Result<View, StoreError> {
        unimplemented!()
    }
    /// A new layer to be written directly, in overlay form, into [`ActiveSnapshot::upper`]; nothing is mounted.
    /// It is committed with [`Snapshotter::commit`].
    ///
    /// # Errors
    /// When its directory cannot be made.
    pub fn prepare_layer(&self) -> Result<ActiveSnapshot, StoreError> {
        unimplemented!()
    }
    /// Where lock files are kept; they are never deleted.
    pub fn lock_dir(&self) -> PathBuf {
        unimplemented!()
    }
    /// Where the output of steps is kept.
    pub fn log_dir(&self) -> PathBuf {
        unimplemented!()
    }
    /// The directory of a cache mount; the caller creates it.
    pub fn cache_mount_dir(&self, _id: &Digest) -> PathBuf {
        unimplemented!()
    }
    /// A new directory inside the store, on the same file system, that goes to the trash when dropped.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn temp_dir(&self) -> Result<TempDir, StoreError> {
        unimplemented!()
    }
    /// Moves `path`, which lies inside the store, out of the way at once; [`Store::sweep`] deletes it later.
    pub fn discard(&self, _path: &Path) {
        unimplemented!()
    }
    /// Deletes what was discarded or left behind by killed processes, and makes what was written durable.
    /// Slow by nature: meant for a process of its own, or for the end of a long command.
    ///
    /// # Errors
    /// When the index cannot be written.
    pub fn sweep(&self) -> Result<SweepReport, StoreError> {
        unimplemented!()
    }
    /// Whether [`Store::sweep`] has something worth doing.
    pub fn needs_sweep(&self) -> bool {
        unimplemented!()
    }
}

/// What a sweep did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SweepReport {
    /// Directories and files removed from the trash.
    pub discarded: usize,
    /// Left-overs of processes that were killed.
    pub abandoned: usize,
    /// Layers now known to be on the disk for good.
    pub synced: usize,
}

/// A directory inside the store that goes to the trash when dropped.
#[derive(Debug)]
pub struct TempDir {
    path: PathBuf,
}

impl TempDir {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// A new name of 128 random bits in hex.
pub(crate) fn random_name() -> std::io::Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(std::io::Error::other)?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}
