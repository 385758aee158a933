//! Noting that a step was used.
//!
//! A registry does not know when anybody read something. So a build whose steps were found, rather than made, says so
//! once a day: `used-<signature>` is an artifact that names the day, and for cleaning it is as if the step were of that
//! day. Only the last step of a stage is noted; what it stands on is kept with it. All machines write the same bytes on
//! the same day, and a note that cannot be written is nobody's trouble.

use std::collections::{BTreeMap, BTreeSet};

use strake_oci::{ImageManifest, MediaType, Reference};
use strake_registry::RegistryError;

use super::Remote;
use crate::cache::LocalCache;
use crate::clock::now;
use crate::error::StepError;
use crate::signature::Signature;

const ARTIFACT: &str = "application/vnd.strake.use-of-step.v1";
const STEP: &str = "dev.strake.used.step";
/// The annotation with the second that a day began at, since 1970.
pub(super) const DAY: &str = "dev.strake.used.day";

/// The day of the last note, by `<repository>:<tag>`.
const NOTED: &str = "used";

const DAY_SECONDS: u64 = 86_400;

impl Remote<'_> {
    /// Notes that the last steps of stages were used, unless they are younger than a day and so speak for themselves.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub(crate) fn note_used(&self, steps: &BTreeSet<Signature>) -> Result<(), StepError> {
        let Some(repository) = &self.request.sharing.repository else { return Ok(()) };
        let cache = LocalCache::new(self.environment.store.index());
        let index = self.environment.store.index();
        let today = now() / DAY_SECONDS * DAY_SECONDS;
        for step in steps {
            let is_old =
                cache.find(*step)?.is_some_and(|record| record.built.saturating_add(DAY_SECONDS) < now());
            if !is_old || self.takes_nothing(repository) {
                continue;
            }
            let tag = used_tag(repository, *step);
            let noted = index.get(NOTED, &tag.to_string())?;
            if noted.is_some_and(|noted| noted.body == today.to_string().as_bytes()) {
                continue;
            }
            if let Err(error) = self.write_note(repository, &tag, *step, today) {
                // Who may only read cannot note anything, and need not be told.
                tracing::debug!("cannot note the use of step {step}: {error}");
            }
            index.put(NOTED, &tag.to_string(), today.to_string().as_bytes(), &[])?;
        }
        Ok(())
    }

    fn write_note(
        &self,
        repository: &Reference,
        tag: &Reference,
        step: Signature,
        today: u64,
    ) -> Result<(), RegistryError> {
        let registry = &self.hurried;
        let empty = self.push_empty(repository)?;
        let annotations = [(STEP.to_owned(), step.to_string()), (DAY.to_owned(), today.to_string())];
        let manifest = ImageManifest {
            artifact_type: Some(ARTIFACT.to_owned()),
            annotations: BTreeMap::from(annotations),
            ..ImageManifest::oci(empty.clone(), vec![empty])
        };
        registry.push_manifest(tag, &MediaType::from(MediaType::OCI_MANIFEST), &manifest.to_bytes())?;
        Ok(())
    }
}

fn used_tag(repository: &Reference, step: Signature) -> Reference {
    repository.with_tag(&format!("used-{step}")).expect("hexadecimal digits are a tag")
}
