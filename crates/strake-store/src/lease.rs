//! Which processes have a store open.

use std::collections::BTreeSet;
use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use crate::StoreError;
use crate::layout::random_name;

/// The presence of a process, visible to others as a locked file. The kernel unlocks it when the process ends,
/// however that happens.
#[derive(Debug)]
pub(crate) struct Lease {
    name: String,
    path: PathBuf,
    _locked: File,
}

impl Lease {
    /// Announces this process. `sequence` is the number of the index's last transaction: what is used later than
    /// that is protected from collection.
    pub(crate) fn acquire(root: &Path, sequence: i64) -> Result<Self, StoreError> {
        let folder = root.join("leases");
        let name = random_name().map_err(StoreError::io("find a name in", &folder))?;
        let path = folder.join(&name);
        // Locked before it is visible under `leases`, so that nobody can take it for the lease of a dead process.
        // A sweep may take the still unlocked file in `tmp` for a left-over, so try again when it is gone.
        for _ in 0..16 {
            let aside = root.join("tmp").join(&name);
            let mut file = File::create(&aside).map_err(StoreError::io("create", &aside))?;
            file.lock().map_err(StoreError::io("lock", &aside))?;
            let text = format!("{sequence} {}\n", std::process::id());
            match file.write_all(text.as_bytes()) {
                // Who comes to make room must come in. A lease that says nothing protects everything.
                Err(error) if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {}
                written => written.map_err(StoreError::io("write", &aside))?,
            }
            match std::fs::rename(&aside, &path) {
                Ok(()) => return Ok(Self { name, path, _locked: file }),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(StoreError::io("create", &path)(error)),
            }
        }
        Err(StoreError::io("create", &path)(ErrorKind::ResourceBusy.into()))
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Left behind, it is removed by the next sweep.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The leases of all living processes.
#[derive(Debug, Default)]
pub(crate) struct LiveLeases {
    /// Their names.
    pub(crate) names: BTreeSet<String>,
    /// The smallest sequence number among them: what was used later stays.
    pub(crate) oldest: Option<i64>,
}

/// Looks which leases are held, and removes those of dead processes.
pub(crate) fn live(root: &Path) -> Result<LiveLeases, StoreError> {
    let folder = root.join("leases");
    let mut found = LiveLeases::default();
    for entry in std::fs::read_dir(&folder).map_err(StoreError::io("read", &folder))? {
        let entry = entry.map_err(StoreError::io("read", &folder))?;
        let path = entry.path();
        let Ok(file) = File::open(&path) else { continue };
        match file.try_lock() {
            Ok(()) => {
                // Names are random and used once, so nobody can be about to lock the file that is removed here.
                let _ = std::fs::remove_file(&path);
            }
            // A lease that cannot be examined counts as held.
            Err(TryLockError::WouldBlock | TryLockError::Error(_)) => {
                let text = std::fs::read_to_string(&path).unwrap_or_default();
                let sequence = text.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0);
                found.oldest = Some(found.oldest.map_or(sequence, |oldest: i64| oldest.min(sequence)));
                found.names.insert(entry.file_name().to_string_lossy().into_owned());
            }
        }
    }
    Ok(found)
}
