//! With whom the steps of a build are shared.

use std::sync::Arc;

use strake_oci::{Compression, Reference};

use super::{CachePlace, CacheTarget, MountSharing};
use crate::lock::SharedLocks;
use crate::signing::{SigningKey, TrustedKey};

/// Where the steps of a build are shared with other machines.
#[derive(Debug, Clone)]
pub struct Sharing {
    /// Steps are looked for and published here.
    pub repository: Option<Reference>,
    /// Asked before it, and given all that is published; nothing is lost with them.
    pub caches: Vec<Reference>,
    /// Asked after it, never written to; what is used from here is published in `repository`.
    pub secondary: Vec<Reference>,
    /// Whether the cache mounts of steps are kept in `repository` too.
    pub mounts: Option<MountSharing>,
    /// Caches that are read before anything is built.
    pub from: Vec<CachePlace>,
    /// Caches that are written when all is built.
    pub to: Vec<CacheTarget>,
    /// Whether the image of a target is to carry the records of its steps.
    pub inline: bool,
    /// What is published is signed with this key.
    pub signing_key: Option<SigningKey>,
    /// If there are any, only what was signed with one of these keys is used.
    pub trusted_keys: Vec<TrustedKey>,
    /// Who keeps the locks that machines share.
    pub locks: Option<Arc<SharedLocks>>,
    /// How layers that have no blob yet are compressed.
    pub compression: Compression,
}

impl Default for Sharing {
    /// With nobody.
    fn default() -> Self {
        Self {
            repository: None,
            caches: Vec::new(),
            secondary: Vec::new(),
            mounts: None,
            from: Vec::new(),
            to: Vec::new(),
            inline: false,
            signing_key: None,
            trusted_keys: Vec::new(),
            locks: None,
            compression: Compression::Gzip,
        }
    }
}

impl Sharing {
    /// Where steps are looked for, nearest first.
    pub(super) fn sources(&self) -> impl Iterator<Item = &Reference> {
        self.caches.iter().chain(&self.repository).chain(&self.secondary)
    }

    /// Where steps are published.
    pub(super) fn destinations(&self) -> impl Iterator<Item = &Reference> {
        self.repository.iter().chain(&self.caches)
    }
}
