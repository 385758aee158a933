//! Opening a store whose index is gone or damaged, and the first opening after a reboot.

use std::fs::File;
use std::path::{Path, PathBuf};

use strake_oci::Digest;

use crate::index::{LayerRow, Recovery, damage_mark};
use crate::layout::{Shared, random_name};
use crate::{BlobInfo, Index, LayerId, StoreError};

/// The name of the file beside a layer's directory that tells what the index would.
pub(crate) const SIDECAR: &str = "layer.json";

/// What a sidecar holds.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct Sidecar {
    /// What is recorded of the layer.
    #[serde(flatten)]
    pub(crate) row: LayerRow,
    /// The boot during which it was written.
    pub(crate) boot_id: String,
}

/// Opens the index; a damaged one is set aside, and one made anew is filled from what lies on the disk.
pub(crate) fn open_index(root: &Path, boot_id: &str) -> Result<Index, StoreError> {
    let database = root.join("index.db");
    let open = || Index::open(&database, &root.join("stat"), boot_id.to_owned());
    let marked = damage_mark(&database).exists();
    if !marked && database.exists() {
        match open() {
            Ok((index, false)) => return Ok(index),
            Ok((_, true)) | Err(StoreError::IndexDamaged { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    // One process repairs, the others wait and then find it done.
    let _repair = lock(root, "repair")?;
    if damage_mark(&database).exists() {
        set_aside(&database)?;
    }
    let (index, _) = open()?;
    adopt(root, &index)?;
    Ok(index)
}

fn lock(root: &Path, name: &str) -> Result<File, StoreError> {
    let path = root.join("locks").join(name);
    let options = File::options().create(true).truncate(false).write(true).clone();
    let file = options.open(&path).map_err(StoreError::io("open", &path))?;
    file.lock().map_err(StoreError::io("lock", &path))?;
    Ok(file)
}

fn set_aside(database: &Path) -> Result<(), StoreError> {
    let name = random_name().map_err(StoreError::io("name", database))?;
    let aside = database.with_extension(format!("damaged-{name}"));
    match std::fs::rename(database, &aside) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(StoreError::io("set aside", database)(error));
        }
        _ => {}
    }
    for extension in ["db-wal", "db-shm"] {
        // The log belongs to the damaged file; kept beside the new one it would be played into that.
        let _ = std::fs::remove_file(database.with_extension(extension));
    }
    let mark = damage_mark(database);
    std::fs::remove_file(&mark).map_err(StoreError::io("remove", &mark))?;
    tracing::warn!(
        aside = %aside.display(),
        "the index was damaged: set aside; layers and blobs are kept, image names and cache records are lost"
    );
    Ok(())
}

/// Records the layers and blobs that lie on the disk.
fn adopt(root: &Path, index: &Index) -> Result<(), StoreError> {
    let layers: Vec<_> = names_in(&root.join("layers"))?
        .filter_map(|name| {
            let layer: LayerId = name.parse().ok()?;
            let home = root.join("layers").join(&name);
            let sidecar = std::fs::read(home.join(SIDECAR)).ok()?;
            let sidecar: Sidecar = serde_json::from_slice(&sidecar).ok()?;
            home.join("fs").is_dir().then_some((layer, sidecar.row, Some(sidecar.boot_id)))
        })
        .collect();
    let folder = root.join("blobs/sha256");
    let blobs: Vec<_> = names_in(&folder)?
        .filter_map(|name| {
            let digest = Digest::from_hex(&name).ok()?;
            let size = std::fs::metadata(folder.join(&name)).ok()?.len();
            Some(BlobInfo { digest, size })
        })
        .collect();
    if layers.is_empty() && blobs.is_empty() {
        return Ok(());
    }
    tracing::warn!(layers = layers.len(), blobs = blobs.len(), "the index was missing: rebuilt");
    index.adopt(&layers, &blobs)
}

/// The names in a directory of the store that are text, as all of ours are.
pub(crate) fn names_in(folder: &Path) -> Result<impl Iterator<Item = String> + use<>, StoreError> {
    let entries = std::fs::read_dir(folder).map_err(StoreError::io("read", folder))?;
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()))
}

/// Deals with what earlier boots left unsynced, once per boot.
pub(crate) fn after_reboot(shared: &Shared) -> Result<(), StoreError> {
    if shared.index.unsynced_of_earlier_boots()?.is_none() {
        return Ok(());
    }
    let _recovery = lock(&shared.root, "repair")?;
    let Some(mut lost) = shared.index.unsynced_of_earlier_boots()? else { return Ok(()) };
    lost.blobs.retain(|digest| !is_intact(&shared.blob_path(digest), digest));
    // SQLite may have lost the transaction that forgot a file, while the file itself is gone.
    let (layers, blobs) = shared.index.recorded()?;
    lost.layers.extend(layers.into_iter().filter(|layer| !shared.layer_dir(layer).is_dir()));
    lost.blobs.extend(blobs.into_iter().filter(|digest| !shared.blob_path(digest).is_file()));
    shared.index.recovered(&lost)?;
    if !lost.layers.is_empty() || !lost.blobs.is_empty() {
        let (layers, blobs) = (lost.layers.len(), lost.blobs.len());
        tracing::warn!(layers, blobs, "not known to have reached the disk before the last reboot: dropped");
    }
    take_away(shared, &lost)
}

fn take_away(shared: &Shared, lost: &Recovery) -> Result<(), StoreError> {
    shared.index.take_away(
        &lost.layers,
        &lost.blobs,
        |layer| shared.discard(&shared.layer_home(layer)),
        |digest| shared.discard(&shared.blob_path(digest)),
    )
}

/// Whether the file has the digest that its name promises.
pub(crate) fn is_intact(path: &PathBuf, digest: &Digest) -> bool {
    let Ok(mut file) = File::open(path) else { return false };
    let mut hasher = strake_oci::Hasher::new();
    std::io::copy(&mut file, &mut hasher).is_ok() && hasher.finish() == *digest
}
