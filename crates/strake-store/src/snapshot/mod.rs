//! Directories that steps run on.

mod copy;
mod overlay;

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use strake_oci::DiffId;

use crate::index::LayerRow;
use crate::layout::{Shared, make_private_dir};
use crate::recover::{SIDECAR, Sidecar};
use crate::xattr::{self, Attribute, Mark};
use crate::{LayerId, StoreError, View};

/// The file system of a layer may have at most this many directories (`OVL_MAX_STACK`).
const LAYERS_MAX: usize = 500;

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

    /// Forgets a layer and discards its directory. Documents that link it must be gone already.
    ///
    /// # Errors
    /// When the index cannot be written.
    fn remove(&self, layer: &LayerId) -> Result<(), StoreError>;
}

/// How the executor obtains the root file system of an active snapshot, in its own mount namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnapshotMount {
    /// Mount an overlay with `index=off,redirect_dir=off,metacopy=off,xino=off`; with `userxattr` the kernel takes
    /// `redirect_dir=nofollow` only.
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
pub struct ActiveSnapshot {
    shared: Arc<Shared>,
    id: LayerId,
    home: PathBuf,
    upper: PathBuf,
    mount: SnapshotMount,
    row: LayerRow,
    root_before: Option<RootAttributes>,
    merged: Option<copy::Merged>,
}

impl ActiveSnapshot {
    /// The name that the layer will have.
    pub fn id(&self) -> &LayerId {
        &self.id
    }

    /// How to obtain the root file system.
    pub fn mount(&self) -> SnapshotMount {
        self.mount.clone()
    }

    /// The directory that becomes the layer, in overlay form: what is written here is the layer.
    /// Not to be touched while the snapshot is mounted; with a snapshot of the copying snapshotter only
    /// [`Store::prepare_layer`](crate::Store::prepare_layer) gives one that may be written.
    pub fn upper(&self) -> &Path {
        &self.upper
    }

    /// Readies the snapshot to be mounted once more, with what was written so far; nothing may have it mounted any more.
    ///
    /// # Errors
    /// When the directories cannot be made.
    pub fn renew(&self) -> Result<(), StoreError> {
        match &self.mount {
            SnapshotMount::Overlay { work, .. } => overlay::renew_work(&self.shared, work),
            SnapshotMount::Directory(_) => Ok(()),
        }
    }

    /// Says what the tar of the layer is, when whoever wrote the directory made it at the same time: the tar that
    /// [`tar::diff`](crate::tar::diff) would make of it.
    pub fn set_tar(&mut self, diff_id: DiffId, tar_size: u64) {
        self.row = LayerRow { diff_id: Some(diff_id), tar_size: Some(tar_size) };
    }

    /// Names the layer and what is known of its tar, before it is committed.
    pub(crate) fn describe(&mut self, id: LayerId, row: LayerRow) {
        self.id = id;
        self.row = row;
    }
}

impl Drop for ActiveSnapshot {
    fn drop(&mut self) {
        // After a commit the directory is elsewhere, and discarding what is not there does nothing.
        self.shared.discard(&self.home);
    }
}

/// Takes the snapshotter that was chosen.
pub(crate) fn choose(shared: &Arc<Shared>, choice: SnapshotterChoice) -> Box<dyn Snapshotter> {
    let overlay = match choice {
        SnapshotterChoice::Automatic => overlay::is_possible(shared),
        SnapshotterChoice::Overlay => true,
        SnapshotterChoice::Copy => false,
    };
    if overlay {
        Box::new(overlay::Overlay::new(shared.clone()))
    } else {
        Box::new(copy::Copy::new(shared.clone()))
    }
}

/// Makes the directories of active snapshots.
#[derive(Debug)]
pub(crate) struct Prepared;

impl Prepared {
    /// A snapshot that is the layer directory itself.
    pub(crate) fn directory(shared: &Arc<Shared>, below: &[LayerId]) -> Result<ActiveSnapshot, StoreError> {
        let home = shared.leased_path("active")?;
        make_private_dir(&home)?;
        let upper = home.join("fs");
        // From here on the guard discards what is made when something fails.
        let mut active = ActiveSnapshot {
            shared: shared.clone(),
            id: LayerId::random().map_err(StoreError::io("name", &home))?,
            mount: SnapshotMount::Directory(upper.clone()),
            upper,
            home,
            row: LayerRow::default(),
            root_before: None,
            merged: None,
        };
        make_private_dir(&active.upper)?;
        active.root_before = Some(begin_root(shared, &active.upper, below.last())?);
        Ok(active)
    }
}

/// What of a root directory matters; its times do not.
#[derive(Debug, PartialEq, Eq)]
struct RootAttributes {
    mode: u32,
    uid: u32,
    gid: u32,
    attributes: Vec<Attribute>,
}

impl RootAttributes {
    fn of(path: &Path) -> Result<Self, StoreError> {
        let stat = rustix::fs::lstat(path).map_err(StoreError::sys("examine", path))?;
        let mut attributes = xattr::of_path(path).map_err(StoreError::io("read attributes of", path))?;
        attributes.retain(|(name, _)| !xattr::is_overlay(name));
        Ok(Self { mode: stat.st_mode & 0o7777, uid: stat.st_uid, gid: stat.st_gid, attributes })
    }
}

/// In the merged tree the uppermost root directory decides, so a new one takes over the attributes of the one
/// below it; without any below it is an ordinary 0755.
fn begin_root(shared: &Shared, upper: &Path, below: Option<&LayerId>) -> Result<RootAttributes, StoreError> {
    match below {
        Some(layer) => {
            let from = existing_layer_dir(shared, layer)?;
            xattr::copy_all(&from, upper).map_err(StoreError::io("copy the attributes of / to", upper))?;
        }
        None => {
            let mode = rustix::fs::Mode::from_raw_mode(0o755);
            rustix::fs::chmod(upper, mode).map_err(StoreError::sys("set the mode of", upper))?;
        }
    }
    RootAttributes::of(upper)
}

/// The directories of layers, bottom first, all of which are there.
fn layer_dirs(shared: &Shared, layers: &[LayerId]) -> Result<Vec<PathBuf>, StoreError> {
    if layers.len() > LAYERS_MAX {
        return Err(StoreError::TooManyLayers { count: layers.len(), limit: LAYERS_MAX });
    }
    layers.iter().map(|layer| existing_layer_dir(shared, layer)).collect()
}

fn existing_layer_dir(shared: &Shared, layer: &LayerId) -> Result<PathBuf, StoreError> {
    let path = shared.layer_dir(layer);
    if path.is_dir() { Ok(path) } else { Err(StoreError::NoLayer(layer.clone())) }
}

/// Puts a finished layer directory in place and records it.
fn place(active: &ActiveSnapshot) -> Result<LayerId, StoreError> {
    let ActiveSnapshot { shared, id, home, upper, row, root_before, .. } = active;
    if root_before.as_ref().is_some_and(|before| RootAttributes::of(upper).is_ok_and(|now| now != *before)) {
        xattr::set_overlay_mark(upper, shared.flavour, Mark::DeclaresRoot)
            .map_err(StoreError::io("mark", upper))?;
    }
    let sidecar = Sidecar { row: *row, boot_id: shared.boot_id.clone() };
    let text = serde_json::to_vec(&sidecar).expect("a sidecar holds numbers and text only");
    let path = home.join(SIDECAR);
    std::fs::write(&path, text).map_err(StoreError::io("write", &path))?;
    let place = shared.layer_home(id);
    shared.index.commit_layer(id, *row, || {
        let rename = || {
            rustix::fs::renameat_with(
                rustix::fs::CWD,
                home,
                rustix::fs::CWD,
                &place,
                rustix::fs::RenameFlags::NOREPLACE,
            )
        };
        let renamed = match rename() {
            // Not recorded, so the left-over of a writer that was killed between renaming and recording.
            Err(rustix::io::Errno::EXIST) => {
                shared.discard(&place);
                rename()
            }
            result => result,
        };
        renamed.map_err(StoreError::sys("put in place", &place))
    })?;
    Ok(id.clone())
}

/// Forgets a layer, then takes its directory away.
fn remove(shared: &Shared, layer: &LayerId) -> Result<(), StoreError> {
    shared.index.forget_layer(layer)?;
    let discard = |layer: &LayerId| shared.discard(&shared.layer_home(layer));
    shared.index.take_away(std::slice::from_ref(layer), &[], discard, |_| {})
}
