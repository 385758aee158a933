//! Snapshots as overlay mounts: the upper directory is the layer.

use std::path::Path;
use std::sync::Arc;

use super::{
    ActiveSnapshot, Prepared, SnapshotMount, Snapshotter, SnapshotterKind, layer_dirs, place, remove,
};
use crate::layout::{Shared, TempDir, make_private_dir};
use crate::view;
use crate::{Flavour, LayerId, StoreError, View};

#[derive(Debug)]
pub(super) struct Overlay {
    shared: Arc<Shared>,
}

impl Overlay {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

impl Snapshotter for Overlay {
    fn kind(&self) -> SnapshotterKind {
        SnapshotterKind::Overlay
    }

    fn prepare(&self, parents: &[LayerId]) -> Result<ActiveSnapshot, StoreError> {
        let mut lowers = layer_dirs(&self.shared, parents)?;
        if lowers.is_empty() {
            lowers.push(self.shared.empty_dir());
        }
        let mut active = Prepared::directory(&self.shared, parents)?;
        let work = active.home.join("work");
        make_private_dir(&work)?;
        let upper = active.upper.clone();
        let user_xattr = self.shared.flavour == Flavour::User;
        active.mount = SnapshotMount::Overlay { lowers, upper, work, user_xattr };
        Ok(active)
    }

    fn commit(&self, active: ActiveSnapshot) -> Result<LayerId, StoreError> {
        if let SnapshotMount::Overlay { work, .. } = &active.mount {
            remove_work(&self.shared, work);
        }
        place(&active)
    }

    fn view(&self, layers: &[LayerId]) -> Result<View, StoreError> {
        let mut lowers = layer_dirs(&self.shared, layers)?;
        if lowers.is_empty() {
            return View::of_directory(&self.shared.empty_dir());
        }
        if lowers.len() == 1 {
            // An overlay needs two directories, and a layer alone would show its whiteouts.
            lowers.insert(0, self.shared.empty_dir());
        }
        View::overlay(&self.shared, &lowers)
    }

    fn remove(&self, layer: &LayerId) -> Result<(), StoreError> {
        remove(&self.shared, layer)
    }
}

/// The kernel leaves an empty directory in the work directory, or none if nothing was mounted.
fn remove_work(shared: &Shared, work: &Path) {
    // What cannot be removed like this is discarded, so the results need no look.
    let _ = std::fs::remove_dir(work.join("work"));
    if std::fs::remove_dir(work).is_err() {
        shared.discard(work);
    }
}

/// The kernel refuses a work directory that was used without syncing, lest somebody trusts what a crash has torn.
/// Nothing has crashed here: this process has seen the mount end.
pub(super) fn renew_work(shared: &Shared, work: &Path) -> Result<(), StoreError> {
    remove_work(shared, work);
    make_private_dir(work)
}

/// Mounts a writable overlay inside the store, nowhere, to see whether that is possible.
pub(super) fn is_possible(shared: &Arc<Shared>) -> bool {
    let attempt = || -> Result<(), StoreError> {
        let temp = TempDir::new(shared)?;
        let [upper, work] = ["upper", "work"].map(|name| temp.path().join(name));
        make_private_dir(&upper)?;
        make_private_dir(&work)?;
        view::mount_overlay(shared.flavour, &[shared.empty_dir()], Some((&upper, &work)), temp.path())?;
        Ok(())
    };
    match attempt() {
        Ok(()) => true,
        Err(error) => {
            tracing::info!(%error, "overlayfs is not possible here, layers are copied instead");
            false
        }
    }
}
