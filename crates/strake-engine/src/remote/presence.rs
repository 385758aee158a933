//! What is in the repository of a build, and what cannot be there yet.

use std::time::{Duration, Instant};

use strake_graph::StepId;
use strake_oci::{Descriptor, ParsedManifest, Reference};
use strake_registry::RegistryError;

use super::Remote;
use super::publish::SHARED;
use crate::error::StepError;
use crate::signature::Signature;

/// How long what was nowhere is taken to be nowhere still, where no lock keeps others from publishing it.
const STILL_MISSING: Duration = Duration::from_secs(1);

/// How it is known that a step which this build publishes was nowhere before.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Missing {
    /// It was here before and may be there as well.
    Unknown,
    /// It was asked for at this time.
    Since(Instant),
    /// It was asked for with the lock that machines share, which we still have.
    Locked,
}

impl Missing {
    fn is_certain(&self) -> bool {
        match self {
            Self::Locked => true,
            Self::Since(asked) => asked.elapsed() < STILL_MISSING,
            Self::Unknown => false,
        }
    }
}

impl Remote<'_> {
    /// How it is known that nobody can have published what stands on `below`: this build is just publishing that, it
    /// was nowhere before, and whoever has made the step above had to have it.
    pub(crate) fn missing_above(&self, below: Signature) -> Option<Missing> {
        self.state().publishing.get(&below).copied().filter(|missing| missing.is_certain())
    }

    /// How it is known that a step is nowhere, if it was asked for a moment ago.
    pub(crate) fn just_missing(&self, signature: Signature) -> Option<Missing> {
        // An entry that was no good may have been put right meanwhile.
        let asked = if self.is_off(signature) { None } else { self.state().absent.get(&signature).copied() };
        let asked = asked.map(Missing::Since);
        asked.filter(Missing::is_certain)
    }

    /// Whether all who were asked for a step since then have said that they do not have it.
    pub(crate) fn was_absent_since(&self, signature: Signature, since: Instant) -> bool {
        self.state().absent.get(&signature).is_some_and(|asked| *asked >= since)
    }

    /// What of the steps that a successful build used is not in the repository: they were here before, or came from
    /// elsewhere. Targets that are there speak for all that was seen there once.
    pub(crate) fn missing(
        &self,
        targets: impl Iterator<Item = Signature>,
        used: impl Iterator<Item = (StepId, Signature)>,
    ) -> Result<Vec<(StepId, Signature)>, StepError> {
        let Some(repository) = &self.request.sharing.repository else { return Ok(Vec::new()) };
        let mut all_there = true;
        for target in targets {
            all_there &= self.is_shared(repository, target)?;
        }
        let mut missing = Vec::new();
        for (step, signature) in used {
            let tag = self.tag(repository, signature).to_string();
            if self.is_to_be_mended(signature) && !self.takes_nothing(repository) {
                missing.push((step, signature));
                continue;
            }
            let is_remembered = all_there && self.environment.store.index().get(SHARED, &tag)?.is_some();
            if !is_remembered && !self.is_shared(repository, signature)? && !self.takes_nothing(repository) {
                missing.push((step, signature));
            }
        }
        Ok(missing)
    }

    /// What a name stands for in the repository. Where trust matters, what nobody who is trusted wrote is not there.
    fn there(&self, tag: &Reference, signature: Signature) -> Result<Option<Descriptor>, RegistryError> {
        let registry = &self.hurried;
        if self.request.sharing.trusted_keys.is_empty() {
            return registry.head(tag);
        }
        let Some(raw) = registry.resolve(tag)? else { return Ok(None) };
        let parsed = ParsedManifest::parse(&raw.bytes, Some(raw.descriptor.media_type.as_str()));
        let is_trusted =
            matches!(&parsed, Ok(ParsedManifest::Image(manifest)) if self.trust(manifest.as_ref()).is_ok());
        if !is_trusted {
            self.state().distrusted.insert(signature);
            return Ok(None);
        }
        Ok(Some(raw.descriptor))
    }

    fn is_shared(&self, repository: &Reference, signature: Signature) -> Result<bool, StepError> {
        if self.state().shared.contains(&signature) {
            return Ok(true);
        }
        if self.is_paused(repository) {
            return Ok(false);
        }
        let tag = self.tag(repository, signature);
        match self.there(&tag, signature) {
            Ok(Some(found)) => {
                self.answered(repository);
                self.state().shared.insert(signature);
                let index = self.environment.store.index();
                index.put(SHARED, &tag.to_string(), found.digest.to_string().as_bytes(), &[])?;
                Ok(true)
            }
            Ok(None) => {
                self.answered(repository);
                Ok(false)
            }
            Err(error) => self.failed(repository, &error).map(|()| false),
        }
    }

    /// Whether the repository has a step, or cannot be asked.
    ///
    /// # Errors
    /// When the build was stopped, or the store cannot be written.
    pub(crate) fn is_there(&self, signature: Signature) -> Result<bool, StepError> {
        let Some(repository) = &self.request.sharing.repository else { return Ok(true) };
        Ok(self.is_shared(repository, signature)? || self.takes_nothing(repository))
    }

    /// Whether this build is just publishing a step, or knows that it is there.
    pub(crate) fn is_taken_care_of(&self, signature: Signature) -> bool {
        let state = self.state();
        state.shared.contains(&signature) || state.publishing.contains_key(&signature)
    }

    /// Whether a step is here that the repository was never seen to have.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) fn is_unheard_of(&self, signature: Signature) -> Result<bool, StepError> {
        let Some(repository) = &self.request.sharing.repository else { return Ok(false) };
        if self.is_taken_care_of(signature) {
            return Ok(false);
        }
        let tag = self.tag(repository, signature).to_string();
        Ok(self.environment.store.index().get(SHARED, &tag)?.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_nowhere_is_nowhere_while_it_is_locked_or_for_a_moment() {
        let long_ago = Instant::now().checked_sub(STILL_MISSING).unwrap();
        let known = [Missing::Locked, Missing::Since(long_ago), Missing::Unknown];
        assert_eq!(known.map(|known| known.is_certain()), [true, false, false]);
        let soon = Instant::now() + STILL_MISSING;
        assert!(Missing::Since(soon).is_certain());
    }
}
