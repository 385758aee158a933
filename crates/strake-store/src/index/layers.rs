//! What is known of layer directories and blobs.

use rusqlite::{OptionalExtension, params};
use strake_oci::{Compression, DiffId, Digest};

use super::{Index, WriteError, digest_of, signed, unsigned};
use crate::clock::now_ns;
use crate::{BlobInfo, LayerBlob, LayerId, LayerInfo, StoreError};

/// What is recorded of a layer when it is put in place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct LayerRow {
    /// The digest of its tar, where the layer came from one.
    pub(crate) diff_id: Option<DiffId>,
    /// The size of that tar in bytes.
    pub(crate) tar_size: Option<u64>,
}

impl Index {
    /// What is known of a layer directory; nothing when it is not there.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn layer(&self, layer: &LayerId) -> Result<Option<LayerInfo>, StoreError> {
        let found = self.read("read a layer", |connection| {
            let query = "SELECT diff_id, tar_size, content, size_on_disk, boot_id, created_ns, used_ns
                         FROM layer WHERE id = ?1";
            connection
                .prepare_cached(query)?
                .query_row([layer.as_str()], |row| {
                    let digest = |column: usize| {
                        row.get::<_, Option<Vec<u8>>>(column)?.map(|bytes| digest_of(&bytes)).transpose()
                    };
                    Ok(LayerInfo {
                        diff_id: digest(0)?.map(DiffId),
                        tar_size: row.get::<_, Option<i64>>(1)?.map(unsigned),
                        content: digest(2)?,
                        size_on_disk: row.get::<_, Option<i64>>(3)?.map(unsigned),
                        boot_id: row.get(4)?,
                        created_ns: row.get(5)?,
                        used_ns: row.get(6)?,
                        blobs: Vec::new(),
                    })
                })
                .optional()
        })?;
        let Some(mut info) = found else { return Ok(None) };
        if let Some(diff_id) = info.diff_id {
            info.blobs = self.layer_blobs(diff_id)?;
        }
        Ok(Some(info))
    }

    /// Records the digest and size in bytes of a layer's tar.
    ///
    /// # Errors
    /// [`StoreError::NoLayer`] when it is not there; otherwise when the index cannot be written.
    pub fn set_layer_diff_id(
        &self,
        layer: &LayerId,
        diff_id: DiffId,
        tar_size: u64,
    ) -> Result<(), StoreError> {
        self.write("record a diff ID", |transaction, _| {
            let changed = transaction
                .prepare_cached("UPDATE layer SET diff_id = ?2, tar_size = ?3 WHERE id = ?1")?
                .execute(params![layer.as_str(), diff_id.0.as_bytes(), signed(tar_size)])?;
            expect_layer(layer, changed)
        })
    }

    /// Records the content digest of a layer.
    ///
    /// # Errors
    /// As [`Index::set_layer_diff_id`].
    pub fn set_layer_content(&self, layer: &LayerId, content: Digest) -> Result<(), StoreError> {
        self.write("record a content digest", |transaction, _| {
            let changed = transaction
                .prepare_cached("UPDATE layer SET content = ?2 WHERE id = ?1")?
                .execute(params![layer.as_str(), content.as_bytes()])?;
            expect_layer(layer, changed)
        })
    }

    /// Layers whose size on disk nobody has counted.
    pub(crate) fn layers_without_size(&self) -> Result<Vec<LayerId>, StoreError> {
        let names: Vec<String> = self.read("list layers", |connection| {
            let query = "SELECT id FROM layer WHERE size_on_disk IS NULL ORDER BY id";
            connection.prepare_cached(query)?.query_map([], |row| row.get(0))?.collect()
        })?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// Records how many bytes layers take on disk.
    pub(crate) fn set_layer_sizes(&self, sizes: &[(LayerId, u64)]) -> Result<(), StoreError> {
        if sizes.is_empty() {
            return Ok(());
        }
        self.write("record the size of layers", |transaction, _| {
            let query = "UPDATE layer SET size_on_disk = ?2 WHERE id = ?1";
            let mut statement = transaction.prepare_cached(query)?;
            for (layer, size) in sizes {
                statement.execute(params![layer.as_str(), signed(*size)])?;
            }
            Ok(())
        })
    }

    /// Records a blob, here or elsewhere, that holds the tar `diff_id`.
    ///
    /// # Errors
    /// When the index cannot be written.
    pub fn add_layer_blob(&self, diff_id: DiffId, blob: &LayerBlob) -> Result<(), StoreError> {
        self.write("record the blob of a layer", |transaction, _| {
            let code = match blob.compression {
                Compression::None => 0,
                Compression::Gzip => 1,
                Compression::Zstd => 2,
            };
            transaction
                .prepare_cached(
                    "INSERT OR IGNORE INTO layer_blob(diff_id, digest, size, compression) VALUES(?1, ?2, ?3, ?4)",
                )?
                .execute(params![diff_id.0.as_bytes(), blob.digest.as_bytes(), signed(blob.size), code])?;
            Ok(())
        })
    }

    /// The blobs known to hold the tar `diff_id`, in the order in which they became known; not all need be local.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn layer_blobs(&self, diff_id: DiffId) -> Result<Vec<LayerBlob>, StoreError> {
        self.read("read the blobs of a layer", |connection| {
            let query =
                "SELECT digest, size, compression FROM layer_blob WHERE diff_id = ?1 ORDER BY position";
            connection
                .prepare_cached(query)?
                .query_map([diff_id.0.as_bytes()], |row| {
                    Ok(LayerBlob {
                        digest: digest_of(&row.get::<_, Vec<u8>>(0)?)?,
                        size: unsigned(row.get(1)?),
                        compression: match row.get::<_, i64>(2)? {
                            1 => Compression::Gzip,
                            2 => Compression::Zstd,
                            _ => Compression::None,
                        },
                    })
                })?
                .collect()
        })
    }

    /// The layer directories whose tar is `diff_id`, sorted.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn layer_by_diff_id(&self, diff_id: DiffId) -> Result<Vec<LayerId>, StoreError> {
        let names: Vec<String> = self.read("find a layer by diff ID", |connection| {
            connection
                .prepare_cached("SELECT id FROM layer WHERE diff_id = ?1 ORDER BY id")?
                .query_map([diff_id.0.as_bytes()], |row| row.get(0))?
                .collect()
        })?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// Whether the layer is in the store.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn has_layer(&self, layer: &LayerId) -> Result<bool, StoreError> {
        self.read("look for a layer", |connection| {
            connection.prepare_cached("SELECT 1 FROM layer WHERE id = ?1")?.exists([layer.as_str()])
        })
    }

    /// Marks a layer as used now; answers whether it is (still) there.
    ///
    /// # Errors
    /// When the index cannot be written.
    pub fn touch_layer(&self, layer: &LayerId) -> Result<bool, StoreError> {
        let now = now_ns();
        self.write("mark a layer as used", |transaction, sequence| {
            let query = "UPDATE layer SET used_ns = max(used_ns, ?2), used_seq = ?3 WHERE id = ?1";
            Ok(transaction.prepare_cached(query)?.execute(params![layer.as_str(), now, sequence])? > 0)
        })
    }

    /// Records a layer while holding the write lock, after `place` has put its directory there.
    /// When the layer is recorded already, `place` is not called and the answer is `false`.
    pub(crate) fn commit_layer(
        &self,
        layer: &LayerId,
        row: LayerRow,
        place: impl FnOnce() -> Result<(), StoreError>,
    ) -> Result<bool, StoreError> {
        let now = now_ns();
        self.write("record a layer", |transaction, sequence| {
            let touch = "UPDATE layer SET used_ns = max(used_ns, ?2), used_seq = ?3 WHERE id = ?1";
            if transaction.prepare_cached(touch)?.execute(params![layer.as_str(), now, sequence])? > 0 {
                return Ok(false);
            }
            place()?;
            let query = "INSERT INTO layer(id, diff_id, tar_size, boot_id, created_ns, used_ns, used_seq)
                         VALUES(?1, ?2, ?3, ?4, ?5, ?5, ?6)";
            let diff_id = row.diff_id.map(|diff_id| *diff_id.0.as_bytes());
            let tar_size = row.tar_size.map(signed);
            transaction.prepare_cached(query)?.execute(params![
                layer.as_str(),
                diff_id,
                tar_size,
                self.boot_id,
                now,
                sequence
            ])?;
            Ok(true)
        })
    }

    /// Forgets layers and blobs. Their files go in a second transaction, see [`Index::take_away`].
    pub(crate) fn forget_layer(&self, layer: &LayerId) -> Result<(), StoreError> {
        self.write("forget a layer", |transaction, _| {
            transaction.prepare_cached("DELETE FROM layer WHERE id = ?1")?.execute([layer.as_str()])?;
            Ok(())
        })
    }

    /// Calls `discard_layer` and `discard_blob` for those of the given that are (still) not recorded, while nobody
    /// can record them.
    pub(crate) fn take_away(
        &self,
        layers: &[LayerId],
        blobs: &[Digest],
        mut discard_layer: impl FnMut(&LayerId),
        mut discard_blob: impl FnMut(&Digest),
    ) -> Result<(), StoreError> {
        self.write("take away files", |transaction, _| {
            let mut known = transaction.prepare_cached("SELECT 1 FROM layer WHERE id = ?1")?;
            for layer in layers {
                if !known.exists([layer.as_str()])? {
                    discard_layer(layer);
                }
            }
            let mut known = transaction.prepare_cached("SELECT 1 FROM blob WHERE digest = ?1")?;
            for blob in blobs {
                if !known.exists([blob.as_bytes()])? {
                    discard_blob(blob);
                }
            }
            Ok(())
        })
    }

    /// Records a blob while holding the write lock, after `place` has put its file there.
    pub(crate) fn commit_blob(
        &self,
        blob: BlobInfo,
        place: impl FnOnce() -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let now = now_ns();
        self.write("record a blob", |transaction, sequence| {
            place()?;
            let query = "INSERT INTO blob(digest, size, boot_id, created_ns, used_ns, used_seq)
                         VALUES(?1, ?2, ?3, ?4, ?4, ?5) ON CONFLICT(digest) DO UPDATE SET
                         size = excluded.size, boot_id = excluded.boot_id, used_ns = max(used_ns, ?4),
                         used_seq = ?5";
            let parameters = params![blob.digest.as_bytes(), signed(blob.size), self.boot_id, now, sequence];
            transaction.prepare_cached(query)?.execute(parameters)?;
            Ok(())
        })
    }

    /// The size of a recorded blob.
    pub(crate) fn blob_size(&self, digest: &Digest) -> Result<Option<u64>, StoreError> {
        self.read("look for a blob", |connection| {
            connection
                .prepare_cached("SELECT size FROM blob WHERE digest = ?1")?
                .query_row([digest.as_bytes()], |row| row.get(0).map(unsigned))
                .optional()
        })
    }

    /// All recorded blobs, sorted by digest.
    pub(crate) fn blob_list(&self) -> Result<Vec<BlobInfo>, StoreError> {
        self.read("list blobs", |connection| {
            connection
                .prepare_cached("SELECT digest, size FROM blob ORDER BY digest")?
                .query_map([], |row| {
                    let digest = digest_of(&row.get::<_, Vec<u8>>(0)?)?;
                    Ok(BlobInfo { digest, size: unsigned(row.get(1)?) })
                })?
                .collect()
        })
    }

    /// Marks blobs as used now; answers for each whether it is (still) there.
    pub(crate) fn touch_blobs(&self, digests: &[Digest]) -> Result<Vec<bool>, StoreError> {
        let now = now_ns();
        self.write("mark blobs as used", |transaction, sequence| {
            let query = "UPDATE blob SET used_ns = max(used_ns, ?2), used_seq = ?3 WHERE digest = ?1";
            let mut statement = transaction.prepare_cached(query)?;
            digests
                .iter()
                .map(|digest| Ok(statement.execute(params![digest.as_bytes(), now, sequence])? > 0))
                .collect()
        })
    }

    /// Forgets a blob; its file goes afterwards, see [`Index::take_away`].
    pub(crate) fn forget_blob(&self, digest: &Digest) -> Result<(), StoreError> {
        self.write("forget a blob", |transaction, _| {
            transaction.prepare_cached("DELETE FROM blob WHERE digest = ?1")?.execute([digest.as_bytes()])?;
            Ok(())
        })
    }
}

fn expect_layer(layer: &LayerId, changed: usize) -> Result<(), WriteError> {
    if changed == 0 {
        return Err(StoreError::NoLayer(layer.clone()).into());
    }
    Ok(())
}
