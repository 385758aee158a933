//! Whose word an image rests on that was made here of others.
//!
//! An image that was fetched says whose it is by the seal of its manifest, which the store keeps. One that was made
//! here has none; it is as good as what it was made of. So whoever makes one notes which keys all of that was signed
//! with. Where there is neither, nobody is known to have looked.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use strake_oci::{ImageId, Reference};
use strake_store::Store;

use super::error::ImageError;
use super::{record, resolve};
use crate::request::Environment;
use crate::signing::{self, TrustedKey};

/// The document that holds an [`Origin`]; the key is the hex form of the image's id.
pub(super) const ORIGIN: &str = "origin";

/// The keys that vouch for what an image was made of, besides this machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    keys: BTreeSet<String>,
}

impl Origin {
    /// Adds what another image rests on.
    pub fn and(&mut self, other: Self) {
        self.keys.extend(other.keys);
    }

    /// Whether all that it rests on is trusted. Without keys everybody is.
    fn is_trusted(&self, trusted: &[TrustedKey]) -> bool {
        let is_trusted = |id: &String| trusted.iter().any(|key| key.id() == *id);
        trusted.is_empty() || self.keys.iter().all(is_trusted)
    }
}

pub(super) fn find(
    env: &Environment<'_>,
    name: &Reference,
    id: ImageId,
    trusted: &[TrustedKey],
) -> Result<Option<Origin>, ImageError> {
    if let Some(noted) = noted(env.store, id)?.filter(|origin| origin.is_trusted(trusted)) {
        return Ok(Some(noted));
    }
    let manifest = record::name_record(env.store, name)?.and_then(|record| record.manifest);
    let kept = resolve::kept_manifest(env, manifest.as_ref(), id)?;
    let signed_by = kept.and_then(|(_, _, manifest)| signing::verify(trusted, &manifest).ok());
    Ok(signed_by.map(|key| Origin { keys: BTreeSet::from([key]) }))
}

fn noted(store: &Store, id: ImageId) -> Result<Option<Origin>, ImageError> {
    let document = store.index().get(ORIGIN, &id.0.hex())?;
    // What cannot be read was written by another version: as good as absent.
    Ok(document.and_then(|document| serde_json::from_slice(&document.body).ok()))
}

pub(super) fn put(store: &Store, id: ImageId, origin: &Origin) -> Result<(), ImageError> {
    let body = serde_json::to_vec(origin).expect("keys have names of text");
    Ok(store.index().put(ORIGIN, &id.0.hex(), &body, &[])?)
}
