//! What is done when the database is new beside old files, and after a reboot.

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension, params};
use strake_oci::Digest;

use super::{Index, LayerRow, digest_of, signed};
use crate::clock::now_ns;
use crate::{BlobInfo, LayerId, StoreError};

/// What is not known to have reached the disk before the machine went down.
#[derive(Debug, Default)]
pub(crate) struct Recovery {
    /// Layers that were never synced.
    pub(crate) layers: Vec<LayerId>,
    /// Blobs that were never synced.
    pub(crate) blobs: Vec<Digest>,
}

impl Index {
    /// What was written during an earlier boot and never synced; nothing when this boot was dealt with.
    pub(crate) fn unsynced_of_earlier_boots(&self) -> Result<Option<Recovery>, StoreError> {
        self.read("look for unsynced files", |connection| {
            let seen: Option<String> = connection
                .prepare_cached("SELECT value FROM meta WHERE key = 'boot'")?
                .query_row([], |row| row.get(0))
                .optional()?;
            if seen.as_deref() == Some(&self.boot_id) {
                return Ok(None);
            }
            let layers = strings(connection, "SELECT id FROM layer WHERE boot_id <> ?1", &self.boot_id)?;
            let blobs = digests(connection, "SELECT digest FROM blob WHERE boot_id <> ?1", &self.boot_id)?;
            let layers = layers.iter().filter_map(|name| name.parse().ok()).collect();
            Ok(Some(Recovery { layers, blobs }))
        })
    }

    /// Forgets what was lost, keeps what was verified, and remembers that this boot was dealt with.
    pub(crate) fn recovered(&self, lost: &Recovery) -> Result<(), StoreError> {
        self.write("record the recovery", |transaction, _| {
            for layer in &lost.layers {
                transaction.execute("DELETE FROM layer WHERE id = ?1", [layer.as_str()])?;
            }
            for blob in &lost.blobs {
                transaction.execute("DELETE FROM blob WHERE digest = ?1", [blob.as_bytes()])?;
            }
            // What was verified may still be in the page cache only, so it counts as written in this boot.
            transaction.execute("UPDATE blob SET boot_id = ?1 WHERE boot_id IS NOT NULL", [&self.boot_id])?;
            // Documents that stand on a lost layer are themselves lost: a record never names what is not there.
            transaction.execute(
                "DELETE FROM document WHERE id IN (SELECT document FROM link WHERE type = 0
                 AND target NOT IN (SELECT id FROM layer))",
                [],
            )?;
            transaction.execute("DELETE FROM link WHERE document NOT IN (SELECT id FROM document)", [])?;
            transaction.execute("INSERT OR REPLACE INTO meta VALUES('boot', ?1)", [&self.boot_id])?;
            Ok(())
        })
    }

    /// All layers and blobs that are recorded.
    pub(crate) fn recorded(&self) -> Result<(BTreeSet<LayerId>, BTreeSet<Digest>), StoreError> {
        self.read("list layers and blobs", |connection| {
            let layers = strings(connection, "SELECT id FROM layer WHERE ?1 = ?1", "")?;
            let blobs = digests(connection, "SELECT digest FROM blob WHERE ?1 = ?1", "")?;
            Ok((layers.iter().filter_map(|name| name.parse().ok()).collect(), blobs.into_iter().collect()))
        })
    }

    /// Records files that were found in place when the database was made anew.
    pub(crate) fn adopt(
        &self,
        layers: &[(LayerId, LayerRow, Option<String>)],
        blobs: &[BlobInfo],
    ) -> Result<(), StoreError> {
        let now = now_ns();
        self.write("rebuild", |transaction, sequence| {
            for (layer, row, boot_id) in layers {
                let diff_id = row.diff_id.map(|diff_id| *diff_id.0.as_bytes());
                transaction.execute(
                    "INSERT OR IGNORE INTO layer(id, diff_id, tar_size, boot_id, created_ns, used_ns, used_seq)
                     VALUES(?1, ?2, ?3, ?4, ?5, ?5, ?6)",
                    params![layer.as_str(), diff_id, row.tar_size.map(signed), boot_id, now, sequence],
                )?;
            }
            for blob in blobs {
                // Whether they were synced is not known any more: an empty boot id is older than every boot,
                // so they are verified before anything trusts them.
                transaction.execute(
                    "INSERT OR IGNORE INTO blob(digest, size, boot_id, created_ns, used_ns, used_seq)
                     VALUES(?1, ?2, '', ?3, ?3, ?4)",
                    params![blob.digest.as_bytes(), signed(blob.size), now, sequence],
                )?;
            }
            Ok(())
        })
    }

    /// Records that all that transactions up to `sequence` named has reached the disk; answers how many layers.
    pub(crate) fn mark_synced(&self, layers: &[LayerId], blobs: &[Digest]) -> Result<(), StoreError> {
        self.write("record what is synced", |transaction, _| {
            for layer in layers {
                transaction.execute("UPDATE layer SET boot_id = NULL WHERE id = ?1", [layer.as_str()])?;
            }
            for blob in blobs {
                transaction.execute("UPDATE blob SET boot_id = NULL WHERE digest = ?1", [blob.as_bytes()])?;
            }
            Ok(())
        })
    }

    /// What is recorded but not known to be on the disk for good.
    pub(crate) fn unsynced(&self) -> Result<Recovery, StoreError> {
        self.read("look for unsynced files", |connection| {
            let layers = strings(connection, "SELECT id FROM layer WHERE boot_id = ?1", &self.boot_id)?;
            let blobs = digests(connection, "SELECT digest FROM blob WHERE boot_id = ?1", &self.boot_id)?;
            Ok(Recovery { layers: layers.iter().filter_map(|name| name.parse().ok()).collect(), blobs })
        })
    }
}

fn strings(connection: &Connection, query: &str, parameter: &str) -> rusqlite::Result<Vec<String>> {
    connection.prepare(query)?.query_map([parameter], |row| row.get(0))?.collect()
}

fn digests(connection: &Connection, query: &str, parameter: &str) -> rusqlite::Result<Vec<Digest>> {
    connection.prepare(query)?.query_map([parameter], |row| digest_of(&row.get::<_, Vec<u8>>(0)?))?.collect()
}
