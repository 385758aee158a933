//! What a registry has of an image before it is pushed.
//!
//! A registry keeps the blobs that a manifest names for as long as it has the manifest. So one question, what the tag
//! stands for now, answers for all layers that the image has in common with the one before it. Where a registry has
//! lost a blob all the same, it says so when it is given the manifest: then every blob is asked for by itself, and what
//! is missing is sent.

use std::collections::BTreeSet;

use strake_oci::{Descriptor, Digest, ImageManifest, ParsedManifest, Reference};
use strake_registry::{ErrorKind, RegistryError};

use super::error::ImageError;
use crate::request::Environment;

/// What is believed to be in a repository.
#[derive(Debug, Default)]
pub(crate) struct There {
    /// What the tag stands for.
    tag: Option<Digest>,
    blobs: BTreeSet<Digest>,
}

impl There {
    /// Asks what a tag stands for.
    pub(crate) fn at_tag(env: &Environment<'_>, tag: &Reference) -> Result<Self, ImageError> {
        let mut there = Self::default();
        if let Some(found) = unless_silent(env.registry.resolve_at_origin(tag))?.flatten() {
            there.tag = Some(found.descriptor.digest);
            let media_type = found.descriptor.media_type.as_str();
            if let Ok(ParsedManifest::Image(manifest)) = ParsedManifest::parse(&found.bytes, Some(media_type))
            {
                there.add(&manifest);
            }
        }
        Ok(there)
    }

    /// Asks whether a repository has a manifest that is to be pushed, unless the tag says so.
    pub(crate) fn and_manifest(
        mut self,
        env: &Environment<'_>,
        repository: &Reference,
        (descriptor, manifest): (&Descriptor, &ImageManifest),
    ) -> Result<Self, ImageError> {
        if self.tag != Some(descriptor.digest) {
            let name = repository.with_digest(descriptor.digest);
            if unless_silent(env.registry.has_manifest(&name))? == Some(true) {
                self.add(manifest);
            }
        }
        Ok(self)
    }

    fn add(&mut self, manifest: &ImageManifest) {
        self.blobs.insert(manifest.config.digest);
        self.blobs.extend(manifest.layers.iter().map(|layer| layer.digest));
    }

    /// Whether there is no need to ask for a blob.
    pub(crate) fn has(&self, blob: Digest) -> bool {
        self.blobs.contains(&blob)
    }

    /// Whether a refusal to take a manifest leaves nothing undone: the tag stands for it already, and may be one that
    /// nobody, or not everybody, may set.
    pub(crate) fn makes_up_for(&self, refusal: &RegistryError, manifest: Digest) -> bool {
        let is_refused =
            refusal.is_refusal() || matches!(refusal.kind, ErrorKind::Unauthorized | ErrorKind::Denied);
        self.tag == Some(manifest) && is_refused && !refusal.misses_blob()
    }
}

/// An answer, or nothing where the question only failed: what is wrong is told when the image is sent.
fn unless_silent<T>(answer: Result<T, RegistryError>) -> Result<Option<T>, RegistryError> {
    use ErrorKind::{Corrupt, Denied, Malformed, RateLimited, TooLarge, Unauthorized, Unavailable};
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.is_refusal() => Ok(None),
        Err(error) => match error.kind {
            Corrupt | Denied | Malformed | RateLimited | TooLarge | Unauthorized | Unavailable => Ok(None),
            _ => Err(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(kind: ErrorKind, detail: &str) -> RegistryError {
        RegistryError { kind, operation: String::new(), detail: detail.to_owned(), hint: None }
    }

    #[test]
    fn a_tag_that_stands_for_the_manifest_already_may_be_refused() {
        let (ours, other) = (Digest::of(b"ours"), Digest::of(b"other"));
        let there = There { tag: Some(ours), ..There::default() };
        let immutable = refusal(ErrorKind::Refused, "TAG_INVALID it is immutable");
        assert!(there.makes_up_for(&immutable, ours));
        assert!(there.makes_up_for(&refusal(ErrorKind::Denied, ""), ours));
        assert!(!there.makes_up_for(&immutable, other));
        assert!(!There::default().makes_up_for(&immutable, ours));
        assert!(!there.makes_up_for(&refusal(ErrorKind::Unreachable, ""), ours));
        // That is what it was sent for.
        assert!(!there.makes_up_for(&refusal(ErrorKind::Refused, "MANIFEST_BLOB_UNKNOWN"), ours));
    }
}
