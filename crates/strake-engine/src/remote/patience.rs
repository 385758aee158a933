//! Trying once more to publish what other machines may be waiting for.
//!
//! Whoever waits for the lock of a step finds nothing when its holder could not publish, and carries it out again. A
//! registry that is being restarted is away for seconds, and a step may have taken an hour. So the holder tries again
//! before it lets go, for a time that the step is worth, and all steps of a build together no longer than [`LONGEST`].

use std::time::Duration;

use strake_graph::Step;
use strake_oci::Reference;
use strake_registry::{ErrorKind, RegistryError};

use super::{Remote, name};
use crate::cache::CacheRecord;
use crate::image::ImageError;

/// How long a build tries again, all in all.
pub(super) const LONGEST: Duration = Duration::from_secs(20);

/// The pause before the first try; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// How often it is seen whether the build was stopped.
const GLANCE: Duration = Duration::from_millis(100);

/// How many times as long as it took to make a step its publication may be tried again.
const WORTH: u32 = 4;

impl Remote<'_> {
    /// Publishes a step with `push`, and tries again where others may wait for it and the registry is out of reach for
    /// the moment.
    pub(super) fn patiently<T>(
        &self,
        step: &Step,
        record: &CacheRecord,
        repository: &Reference,
        push: impl Fn() -> Result<T, ImageError>,
    ) -> Result<T, ImageError> {
        let is_awaited = self.is_awaited(repository);
        let mut worth = Duration::from_millis(record.millis).saturating_mul(WORTH);
        let mut pause = FIRST_PAUSE;
        let mut result = push();
        while let Err(ImageError::Registry(error)) = &result
            && is_awaited
            && may_pass(error)
            && self.has_patience(pause, &mut worth)
        {
            if pause == FIRST_PAUSE {
                let label = &step.label;
                self.warn(format!(
                    "{error}; publishing `{label}` is tried again: other machines may wait for it"
                ));
            }
            if !self.rest(pause) {
                break;
            }
            result = push();
            pause *= 2;
        }
        result
    }

    /// Whether other machines may wait for what is published in a repository.
    fn is_awaited(&self, repository: &Reference) -> bool {
        let sharing = &self.request.sharing;
        sharing.locks.is_some() && sharing.repository.as_ref() == Some(repository)
    }

    /// Whether a repository that failed just now is worth a try all the same: others may wait, and it fails at once.
    pub(super) fn is_worth_a_try(&self, repository: &Reference) -> bool {
        let state = self.state();
        let known = state.repositories.get(&name(repository));
        let fails_at_once = known.is_some_and(|known| !known.is_closed && !known.is_silent);
        fails_at_once && state.patience >= FIRST_PAUSE && self.is_awaited(repository)
    }

    /// Takes a pause from what a step is worth, and from what a build has for all.
    fn has_patience(&self, pause: Duration, worth: &mut Duration) -> bool {
        let mut state = self.state();
        let (Some(left), Some(left_of_all)) = (worth.checked_sub(pause), state.patience.checked_sub(pause))
        else {
            return false;
        };
        (*worth, state.patience) = (left, left_of_all);
        true
    }

    /// Waits; not to the end when the build is stopped.
    fn rest(&self, pause: Duration) -> bool {
        let mut left = pause;
        while !left.is_zero() && !self.environment.cancellation.is_requested() {
            let glance = left.min(GLANCE);
            std::thread::sleep(glance);
            left -= glance;
        }
        left.is_zero()
    }
}

/// Whether there may be an answer in a moment. Who says nothing was waited for already.
fn may_pass(error: &RegistryError) -> bool {
    matches!(error.kind, ErrorKind::Unavailable | ErrorKind::Unreachable)
}
