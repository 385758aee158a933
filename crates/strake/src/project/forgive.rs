//! Images of stages that turned out to be no good, and are good again when the layers that were lost are back.
//!
//! The image of a stage names all layers below. When one is lost, so are all stages above it, but only until somebody
//! publishes that layer again: what is made of the same files is the same to the last bit. Another entry under the same
//! tag is looked at in any case.

use std::collections::BTreeSet;

use strake_engine::image;
use strake_oci::Digest;

use super::shelves::{Role, Shelves, stage_tag};
use crate::failure::Failure;

/// An image of a stage that was no good.
#[derive(Debug, Clone)]
pub(super) struct Rejected {
    signature: String,
    /// The blobs that were nowhere to be had. None: it is no good for another reason.
    lost: BTreeSet<Digest>,
    /// They are there again. That is believed once.
    pub(super) is_forgiven: bool,
}

impl Shelves<'_> {
    /// Notes that an image is no good, so that it is found no more and replaced by the next publication. `lost` are the
    /// blobs that it lacks.
    pub(crate) fn reject(&mut self, signature: &str, manifest: Digest, lost: BTreeSet<Digest>) {
        let lost = if self.bad.contains_key(&manifest) { BTreeSet::new() } else { lost };
        self.were_there.remove(signature);
        let rejected = Rejected { signature: signature.to_owned(), lost, is_forgiven: false };
        self.bad.insert(manifest, rejected);
    }

    /// Looks whether what was lost is there again, and has those stages looked for anew.
    ///
    /// # Errors
    /// When the store cannot be read. A registry that does not answer has nothing.
    pub(super) fn forgive(&mut self) -> Result<(), Failure> {
        let lost: BTreeSet<Digest> = self
            .bad
            .values()
            .filter(|rejected| !rejected.is_forgiven)
            .flat_map(|rejected| &rejected.lost)
            .copied()
            .collect();
        let mut back = BTreeSet::new();
        for digest in lost {
            if self.with(|env| image::is_anywhere(env, digest))? {
                back.insert(digest);
            }
        }
        let Self { bad, searches, bad_tags, shelves, .. } = self;
        let main = shelves.iter().find(|shelf| shelf.role == Role::Main);
        for rejected in bad.values_mut() {
            if rejected.is_forgiven || rejected.lost.is_empty() || !rejected.lost.is_subset(&back) {
                continue;
            }
            rejected.is_forgiven = true;
            searches.remove(&rejected.signature);
            if let Some(main) = main {
                bad_tags.remove(&stage_tag(&main.repository, &rejected.signature)?.to_string());
            }
        }
        Ok(())
    }
}
