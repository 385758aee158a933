//! What a copy selects from a stage, told without the stage being there.
//!
//! The signature of a copy holds the digest of the files it selects. Of a stage that is only known from a registry
//! nobody has the files, so whoever published the copy also said what it selected: under a name that follows from the
//! layers and the pattern, and so is always right.

use std::collections::BTreeMap;

use strake_graph::Encoder;
use strake_oci::{Descriptor, DiffId, Digest, ImageManifest, MediaType, ParsedManifest, Reference};
use strake_registry::{BlobSource, RegistryError};

use super::{Remote, State, name};
use crate::cache::Selected;
use crate::error::StepError;
use crate::signature::Signature;

const ANNOTATION: &str = "dev.strake.selection";
const KEY: &str = "dev.strake.selection.key";
/// The annotation with the step that was made by the selection last.
pub(super) const STEP: &str = "dev.strake.selection.step";
/// The annotation with the second that the step was built at, since 1970.
pub(super) const MADE: &str = "dev.strake.selection.made";
const ARTIFACT: &str = "application/vnd.strake.selection.v1";
/// The configuration of a manifest that has none (image-spec v1.1 `manifest.md`, guidance for an empty descriptor).
const EMPTY: &[u8] = b"{}";

/// What a selection is shared by: the same on every machine.
pub(crate) fn shared_key(layers: &[DiffId], pattern: &Digest) -> Digest {
    let mut encoder = Encoder::new("strake shared selection 1");
    let texts: Vec<String> = layers.iter().map(|layer| layer.0.to_string()).collect();
    encoder.list(texts.iter().map(String::as_str)).digest(pattern);
    encoder.finish()
}

impl Remote<'_> {
    /// The digest of a selection, as somebody published it.
    ///
    /// # Errors
    /// When the build was stopped.
    pub(crate) fn selection(&self, key: &Digest) -> Result<Option<Selected>, StepError> {
        self.read_caches()?;
        if let Some(selected) = self.state().selections.get(key) {
            return Ok(Some(selected.clone()));
        }
        for repository in self.request.sharing.sources() {
            if self.is_paused(repository) {
                continue;
            }
            match self.hurried.resolve(&selection_tag(repository, key)) {
                Ok(Some(raw)) => {
                    self.answered(repository);
                    // What cannot be read costs only looking at the files themselves.
                    let parsed = ParsedManifest::parse(&raw.bytes, Some(raw.descriptor.media_type.as_str()));
                    if let Ok(ParsedManifest::Image(manifest)) = parsed
                        && manifest.annotations.get(KEY) == Some(&key.to_string())
                        && let Ok(signed_by) = self.trust(manifest.as_ref())
                        && let Some(text) = manifest.annotations.get(ANNOTATION)
                        && let Ok(digest) = text.parse()
                    {
                        return Ok(Some(Selected { digest, told_by: Some(signed_by) }));
                    }
                }
                Ok(None) => self.answered(repository),
                Err(error) => self.failed(repository, &error)?,
            }
        }
        Ok(None)
    }

    /// Says that what was published of a selection is not so. The step that asked is looked up anew.
    pub(crate) fn refute_selection(&self, label: &str) {
        self.state().refuted += 1;
        self.warn(format!("{label}: a registry said of the files of an earlier stage what they are not"));
    }

    /// Publishes what the copies of a step selected, which was built at this second.
    ///
    /// # Errors
    /// When the build was stopped.
    pub(super) fn publish_selections(
        &self,
        step: (Signature, u64),
        selections: &[(Digest, Digest)],
    ) -> Result<(), StepError> {
        for repository in self.request.sharing.destinations() {
            for (key, digest) in selections {
                if self.takes_nothing(repository) {
                    break;
                }
                match self.publish_selection(repository, step, key, digest) {
                    Ok(()) => self.answered(repository),
                    Err(error) => self.not_taken(repository, &error)?,
                }
            }
        }
        Ok(())
    }

    fn publish_selection(
        &self,
        repository: &Reference,
        (step, built): (Signature, u64),
        key: &Digest,
        digest: &Digest,
    ) -> Result<(), RegistryError> {
        let registry = &self.hurried;
        let empty = self.push_empty(repository)?;
        let annotations = [
            (KEY.to_owned(), key.to_string()),
            (ANNOTATION.to_owned(), digest.to_string()),
            (STEP.to_owned(), step.to_string()),
            (MADE.to_owned(), built.to_string()),
        ];
        let mut manifest = ImageManifest {
            artifact_type: Some(ARTIFACT.to_owned()),
            annotations: BTreeMap::from(annotations),
            ..ImageManifest::oci(empty.clone(), vec![empty])
        };
        self.sign(&mut manifest);
        let media_type = MediaType::from(MediaType::OCI_MANIFEST);
        let pushed =
            registry.push_manifest(&selection_tag(repository, key), &media_type, &manifest.to_bytes());
        if pushed.is_err() {
            // Whatever it was about: the next one asks.
            self.state().repositories.entry(name(repository)).or_default().has_empty = false;
        }
        pushed?;
        tracing::debug!("published selection {} in {}", key.short(), name(repository));
        Ok(())
    }

    /// Makes sure that a repository has the configuration of what needs none. Asks once in a build.
    ///
    /// # Errors
    /// When the registry refuses.
    pub(super) fn push_empty(&self, repository: &Reference) -> Result<Descriptor, RegistryError> {
        let empty = Descriptor::of("application/vnd.oci.empty.v1+json", EMPTY);
        let is_there =
            |state: &State| state.repositories.get(&name(repository)).is_some_and(|known| known.has_empty);
        if !is_there(&self.state()) {
            let source = BlobSource::Bytes { bytes: EMPTY.to_vec(), descriptor: empty.clone() };
            self.hurried.push_blob(repository, source, &[], &())?;
            self.state().repositories.entry(name(repository)).or_default().has_empty = true;
        }
        Ok(empty)
    }
}

fn selection_tag(repository: &Reference, key: &Digest) -> Reference {
    repository.with_tag(&format!("files-{}", key.hex())).expect("hexadecimal digits are a tag")
}
