//! Directories that steps run on.
use std::fmt::Debug;
use std::path::{Path, PathBuf};

use crate::{LayerId, StoreError, View};

/// Which snapshotter a store uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SnapshotterChoice {
    /// Overlayfs where the store's file system can hold one (found out by mounting), copies otherwise.
    #[default]
    Automatic,
    /// Overlayfs or an error.
    Overlay,
    /// Plain copies, with reflinks where the file system has them.
    Copy,
}

/// Which snapshotter is at work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotterKind {
    /// Overlayfs.
    Overlay,
    /// Plain copies.
    Copy,
}

/// Makes root file systems for steps and keeps what the steps changed as layers.
pub trait Snapshotter: Send + Sync + Debug {
    /// Which of the implementations this is.
    fn kind(&self) -> SnapshotterKind;
    /// A writable file system on top of `parents`, bottom first.
    ///
    /// # Errors
    /// When a parent is missing or the directories cannot be made.
    fn prepare(&self, parents: &[LayerId]) -> Result<ActiveSnapshot, StoreError>;
    /// Keeps what was changed, as a new layer. Nothing may be mounted on the snapshot any more.
    ///
    /// # Errors
    /// When the layer cannot be put in place or recorded; the snapshot is then discarded.
    fn commit(&self, active: ActiveSnapshot) -> Result<LayerId, StoreError>;
    /// The merged tree of `layers`, bottom first, to read.
    ///
    /// # Errors
    /// When a layer is missing or the mount fails.
    fn view(&self, layers: &[LayerId]) -> Result<View, StoreError>;
    /// Forgets a layer and discards its directory.
    ///
    /// # Errors
    /// When the index cannot be written.
    fn remove(&self, layer: &LayerId) -> Result<(), StoreError>;
}

/// How the executor obtains the root file system of an active snapshot, in its own mount namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnapshotMount {
    /// Mount an overlay with `index=off,redirect_dir=off,metacopy=off,xino=off`.
    Overlay {
        /// The read-only directories, bottom first; at least one.
        lowers: Vec<PathBuf>,
        /// Receives the changes.
        upper: PathBuf,
        /// For the kernel's use.
        work: PathBuf,
        /// Whether to give the option `userxattr`.
        user_xattr: bool,
    },
    /// Use this directory itself, as a bind mount.
    Directory(PathBuf),
}

/// A snapshot that is being written; goes to the trash when dropped without commit.
#[derive(Debug)]
pub struct ActiveSnapshot {}

impl ActiveSnapshot {
    /// The name that the layer will have.
    pub fn id(&self) -> &LayerId {
        unimplemented!()
    }
    /// How to obtain the root file system.
    pub fn mount(&self) -> SnapshotMount {
        unimplemented!()
    }
    /// The directory that becomes the layer, in overlay form: what is written here is the layer.
    /// Not to be touched while the snapshot is mounted.
    pub fn upper(&self) -> &Path {
        unimplemented!()
    }
}
