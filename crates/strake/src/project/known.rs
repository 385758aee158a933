//! What the local store knows of the image of a stage.

use std::collections::BTreeMap;

use strake_engine::image::{self, HistoryRow, ImageError, RemoteImage};
use strake_engine::{Environment, TrustedKey};
use strake_frontend::stagefile::plan::{KnownStage, Presence};
use strake_oci::{ImageConfig, ImageId};
use strake_store::Store;

use crate::failure::Failure;
use crate::session::Session;

/// The largest image configuration that is read, in bytes.
const CONFIG_MAX: u64 = 8 << 20;

/// The image of a stage in the local store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StageImage {
    /// When it was made, and how large it is.
    pub(crate) made: Made,
    /// The same of the image below, which need not be in the store: its layers and its history are part of this one's.
    pub(crate) below: Option<Made>,
    /// Whether it is from here or from somebody who is trusted.
    pub(super) is_trusted: bool,
    labels: BTreeMap<String, String>,
}

/// When an image was made, and how large it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Made {
    /// In seconds since 1970.
    pub(crate) created: Option<i64>,
    /// All its layers, in bytes.
    pub(crate) size: Option<u64>,
}

impl StageImage {
    /// Looks for the image of this name or id, and signature. One that says of itself that it has another signature was given
    /// the name by mistake, and does not count.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) fn find(session: &Session, name: &str, signature: &str) -> Result<Option<Self>, Failure> {
        session.with(|env: &Environment<'_>| {
            let id = match image::find(env, name) {
                Ok(found) => found.id,
                Err(ImageError::NotFound { .. }) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            let config = image_config(env.store, id)?;
            if config.config.labels.get("strake-signature").is_some_and(|own| own != signature) {
                return Ok(None);
            }
            let rows = image::history(env, name)?;
            let made = made(&rows);
            let trusted = &session.settings.trusted_keys;
            let is_trusted = trusted.is_empty() || is_vouched_for(env, name, id, trusted)?;
            Ok(Some(Self {
                is_trusted,
                made: Made { created: seconds(config.created.as_deref()), ..made },
                below: (rows.len() > 1).then(|| self::made(&rows[1..])),
                labels: config.config.labels,
            }))
        })
    }

    /// An image in a repository: sizes are those of its layers as they are kept there.
    pub(super) fn remote(image: &RemoteImage) -> Self {
        let created = seconds(image.config.created.as_deref());
        let history = &image.config.history;
        let below_created = history.iter().rev().nth(1).and_then(|entry| seconds(entry.created.as_deref()));
        Self {
            made: Made { created, size: None },
            is_trusted: true,
            below: (history.len() > 1).then_some(Made { created: below_created, size: None }),
            labels: image.config.config.labels.clone(),
        }
    }

    /// As plans take it.
    pub(super) fn known(&self) -> KnownStage {
        KnownStage {
            presence: Presence::Usable,
            labels: self.labels.clone(),
            created: self.made.created,
            size: self.made.size,
        }
    }
}

fn is_vouched_for(
    env: &Environment<'_>,
    name: &str,
    id: ImageId,
    trusted: &[TrustedKey],
) -> Result<bool, ImageError> {
    match name.parse() {
        Ok(name) => Ok(image::origin(env, &name, id, trusted)?.is_some()),
        Err(_) => Ok(false),
    }
}

/// The configuration of an image.
///
/// # Errors
/// When it is not there or damaged.
pub(crate) fn image_config(store: &Store, id: ImageId) -> Result<ImageConfig, Failure> {
    let bytes = store.blobs().read_verified(&id.0, CONFIG_MAX)?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Failure::environment(format!("read the configuration of image {id}: {error}")))
}

/// Of the image whose history this is, newest first.
fn made(rows: &[HistoryRow]) -> Made {
    Made {
        created: seconds(rows.first().and_then(|row| row.created.as_deref())),
        size: rows.iter().map(|row| row.size).sum(),
    }
}

fn seconds(time: Option<&str>) -> Option<i64> {
    time?.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second)
}
