//! Entries of a registry that turned out to be no good, and what makes them good again.
//!
//! A manifest is cheap to read and says what there is; that a layer is gone is found out only when something must stand
//! on it. Then the step that it belongs to is forgotten and carried out here. The steps above it are as good as they
//! were: each has a layer of its own, and where what was made in place of the lost one is equal, they go on top of that
//! and are published anew ([`Remote::note_mended`]). Other machines do the same: so whoever gets the lock of such a step
//! looks whether the entry has changed meanwhile ([`Remote::fetch_again`]).

use std::collections::BTreeSet;
use std::fmt::Display;

use strake_oci::{Digest, Reference};
use strake_registry::RegistryError;
use strake_store::{LayerBlob, LayerId, StoreError};

use super::Remote;
use crate::cache::LocalCache;
use crate::error::StepError;
use crate::image::{content, record};
use crate::signature::Signature;

/// How often an entry may turn out to be no good before nobody looks at it any more.
const CHANCES: usize = 2;

/// Why a layer cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lost {
    /// It is not there.
    Gone,
    /// It is not what it should be.
    Damaged,
    /// Whoever has it does not answer.
    Unreachable,
}

/// An entry whose layer could not be had.
#[derive(Debug)]
pub(super) struct Rejected {
    /// Whether it counts as not there.
    is_off: bool,
    times: usize,
    why: Lost,
    /// The blobs that its own layer was to be had from.
    blobs: BTreeSet<Digest>,
}

impl<'a> Remote<'a> {
    /// Looks for a step once more, with its lock: another machine may have put right what was found to be no good, or
    /// put another entry in its place.
    ///
    /// # Errors
    /// As [`Remote::fetch`].
    pub(crate) fn fetch_again(&self, signature: Signature) -> Result<bool, StepError> {
        let has_chances = {
            let state = self.state();
            let rejected = state.rejected.get(&signature).filter(|rejected| rejected.is_off);
            rejected.is_none_or(|rejected| rejected.times < CHANCES && rejected.why != Lost::Unreachable)
        };
        if has_chances { self.fetch_where(signature, Self::is_mended) } else { Ok(false) }
    }

    /// Whether an entry was no good.
    pub(crate) fn is_off(&self, signature: Signature) -> bool {
        self.state().rejected.get(&signature).is_some_and(|rejected| rejected.is_off)
    }

    /// Whether the layer of a step that was no good is another one now, or there again.
    fn is_mended(
        &self,
        repository: &Reference,
        signature: Signature,
        own: &LayerBlob,
    ) -> Result<bool, RegistryError> {
        let same = {
            let state = self.state();
            let rejected = state.rejected.get(&signature).filter(|rejected| rejected.is_off);
            rejected.filter(|rejected| rejected.blobs.contains(&own.digest)).map(|rejected| rejected.why)
        };
        let is_mended = match same {
            None => true,
            Some(Lost::Gone) => self.hurried.has_blob(repository, own.digest)?,
            Some(Lost::Damaged | Lost::Unreachable) => false,
        };
        if is_mended && let Some(rejected) = self.state().rejected.get_mut(&signature) {
            rejected.is_off = false;
        }
        Ok(is_mended)
    }

    /// Forgets steps whose layers cannot be had. Answers whether there was anything to forget.
    pub(crate) fn reject(
        &self,
        steps: &[(Signature, LayerId)],
        why: Lost,
        error: &dyn Display,
    ) -> Result<bool, StoreError> {
        let cache = LocalCache::new(self.environment.store.index());
        for (signature, layer) in steps {
            if self.is_off(*signature) && self.has_lost(std::slice::from_ref(layer)) {
                // Another step of this try stood on it, too.
                continue;
            }
            let blobs = self.blobs_of(layer)?;
            cache.forget(*signature)?;
            let mut state = self.state();
            let times = state.rejected.get(signature).map_or(0, |rejected| rejected.times) + 1;
            state.rejected.insert(*signature, Rejected { is_off: true, times, why, blobs });
            state.refuted += usize::from(times <= CHANCES);
            state.shared.remove(signature);
            state.lost.insert(layer.clone());
            // A manifest has named a layer that is not there. What else it was wrong about nobody knows.
            state.repositories.values_mut().for_each(|known| known.layers.clear());
        }
        if !steps.is_empty() {
            self.warn(format!("a step from a registry cannot be used and is built here: {error}"));
        }
        Ok(!steps.is_empty())
    }

    /// Why a layer cannot be had that somebody answered about.
    pub(crate) fn why_lost(&self, layer: &LayerId) -> Result<Lost, StepError> {
        for blob in self.blobs_of(layer)? {
            if content::is_anywhere(&self.hurried(), blob)? {
                return Ok(Lost::Damaged);
            }
        }
        Ok(Lost::Gone)
    }

    fn blobs_of(&self, layer: &LayerId) -> Result<BTreeSet<Digest>, StoreError> {
        let store = self.environment.store;
        let Some((diff_id, _)) = record::chain(store, layer)? else { return Ok(BTreeSet::new()) };
        Ok(content::blobs(self.environment, diff_id)?.iter().map(|blob| blob.digest).collect())
    }

    /// Whether one of these layers could not be had.
    pub(crate) fn has_lost(&self, layers: &[LayerId]) -> bool {
        let state = self.state();
        !state.lost.is_empty() && layers.iter().any(|layer| state.lost.contains(layer))
    }

    /// Notes that a step stands on other layers now than its entry says, so that the entry is written anew.
    pub(crate) fn note_mended(&self, signature: Signature) {
        let mut state = self.state();
        state.shared.remove(&signature);
        state.mended.insert(signature);
    }

    /// Whether the entry of a step is to be written anew although there is one. Nobody would trust what took the place of
    /// one that somebody trusts, without a key.
    pub(super) fn is_to_be_mended(&self, signature: Signature) -> bool {
        let sharing = &self.request.sharing;
        let may_sign = sharing.trusted_keys.is_empty() || sharing.signing_key.is_some();
        may_sign && self.state().mended.contains(&signature)
    }
}
