//! Work that nobody should wait for: removing what was discarded, syncing what was written.

use std::fs::TryLockError;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use strake_oci::Digest;

use crate::expire::Expiry;
use crate::layout::Shared;
use crate::lease::{self, LiveLeases};
use crate::recover::names_in;
use crate::{LayerId, Store, StoreError};

/// What a sweep did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SweepReport {
    /// Directories and files removed from the trash.
    pub discarded: usize,
    /// Left-overs of processes that were killed.
    pub abandoned: usize,
    /// Logs, remembered digests and lock files that nobody asked for in a long time.
    pub expired: usize,
    /// Layers and blobs now known to be on the disk for good.
    pub synced: usize,
}

impl Store {
    /// Deletes what was discarded or left behind by killed processes, logs and remembered digests that nobody asked
    /// for in 30 days, remembered digests of directories that are gone, and makes durable what was written.
    ///
    /// Slow by nature: meant for a process of its own at low priority, or for the end of a long command. Without it
    /// a store works, but loses after a reboot what was never synced. When another process sweeps already, nothing
    /// is done.
    ///
    /// # Errors
    /// When the index cannot be written.
    pub fn sweep(&self) -> Result<SweepReport, StoreError> {
        let path = self.lock_dir().join("sweep");
        let file = std::fs::File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(StoreError::io("open", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(SweepReport::default()),
            Err(TryLockError::Error(error)) => return Err(StoreError::io("lock", &path)(error)),
        }
        let shared = self.shared();
        // What gives space back comes first: on a full disk nothing can be recorded.
        let abandoned = discard_abandoned(shared)? + discard_unrecorded(shared)?;
        let expired = Expiry::sweep(shared);
        let discarded = empty_trash(shared)?;
        let synced = sync(shared)?;
        shared.index.checkpoint()?;
        Ok(SweepReport { discarded, abandoned, expired, synced })
    }

    /// Whether [`Store::sweep`] has something worth doing. Takes microseconds.
    pub fn needs_sweep(&self) -> bool {
        let trash = std::fs::read_dir(self.root().join("trash"));
        let has_trash = trash.is_ok_and(|mut entries| entries.next().is_some());
        let unsynced = || self.index().unsynced();
        has_trash || unsynced().is_ok_and(|found| !found.layers.is_empty() || !found.blobs.is_empty())
    }
}

/// Everything that was in place before `syncfs` began is on the disk when it returns.
fn sync(shared: &Shared) -> Result<usize, StoreError> {
    let unsynced = shared.index.unsynced()?;
    let count = unsynced.layers.len() + unsynced.blobs.len();
    if count > 0 {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(&shared.root, flags, Mode::empty());
        let directory = directory.map_err(StoreError::sys("open", &shared.root))?;
        rustix::fs::syncfs(&directory).map_err(StoreError::sys("sync", &shared.root))?;
        shared.index.mark_synced(&unsynced.layers, &unsynced.blobs)?;
    }
    Ok(count)
}

/// Files that carry the name of a lease nobody holds.
fn discard_abandoned(shared: &Shared) -> Result<usize, StoreError> {
    let mut count = 0;
    for folder in ["active", "tmp"] {
        let folder = shared.root.join(folder);
        // Names first, leases second: a lease is there before any file that carries its name.
        let names: Vec<String> = names_in(&folder)?.collect();
        let leases = lease::live(&shared.root)?;
        for name in names.iter().filter(|name| !is_held(&leases, name)) {
            shared.discard(&folder.join(name));
            count += 1;
        }
    }
    Ok(count)
}

fn is_held(leases: &LiveLeases, name: &str) -> bool {
    leases.names.contains(name.split('-').next().unwrap_or(name))
}

/// Files in place that no record names: their writer died between the two.
fn discard_unrecorded(shared: &Shared) -> Result<usize, StoreError> {
    let layers: Vec<LayerId> =
        names_in(&shared.root.join("layers"))?.filter_map(|name| name.parse().ok()).collect();
    let blobs: Vec<Digest> = names_in(&shared.root.join("blobs/sha256"))?
        .filter_map(|name| Digest::from_hex(&name).ok())
        .collect();
    let (known_layers, known_blobs) = shared.index.recorded()?;
    let layers: Vec<_> = layers.into_iter().filter(|layer| !known_layers.contains(layer)).collect();
    let blobs: Vec<_> = blobs.into_iter().filter(|blob| !known_blobs.contains(blob)).collect();
    if layers.is_empty() && blobs.is_empty() {
        return Ok(0);
    }
    let count = std::cell::Cell::new(0);
    let discard = |path: &Path| {
        shared.discard(path);
        count.set(count.get() + 1);
    };
    shared.index.take_away(
        &layers,
        &blobs,
        |layer| discard(&shared.layer_home(layer)),
        |blob| discard(&shared.blob_path(blob)),
    )?;
    Ok(count.get())
}

fn empty_trash(shared: &Shared) -> Result<usize, StoreError> {
    let trash = shared.root.join("trash");
    let mut count = 0;
    for name in names_in(&trash)? {
        let path = trash.join(name);
        let is_dir = std::fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_dir());
        let removed = if is_dir { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        match removed {
            Ok(()) => count += 1,
            Err(error) => tracing::warn!(path = %path.display(), %error, "cannot remove"),
        }
    }
    Ok(count)
}
