//! What steps select from other stages. The tree of a stage or an image never changes, so the digest of a selection from
//! it is remembered for good: with it a copy can be looked up without the layers it copies from being there.

use strake_graph::{CopySource, Encoder, Mount, Op, RunOp, StepId};
use strake_oci::Digest;
use strake_store::LayerId;

use super::copy::{Listing, selection_key};
use super::files::Planned;
use super::{Build, Inputs};
use crate::cache::Selected;
use crate::error::StepError;
use crate::image;
use crate::remote::shared_key;

/// What is selected from a stage or an image.
pub(super) struct SelectionKey {
    /// What the digest of the selection is remembered by.
    pub(super) key: Digest,
    pub(super) layers: Vec<LayerId>,
    /// The digest of the pattern.
    pattern: Digest,
}

impl SelectionKey {
    pub(super) fn new(layers: Vec<LayerId>, pattern: Digest) -> Self {
        let mut encoder = Encoder::new("strake selected 1");
        encoder.list(layers.iter().map(LayerId::as_str)).digest(&pattern);
        Self { key: encoder.finish(), layers, pattern }
    }
}

impl Build<'_> {
    /// The digest of the files that sources select, and the plan unless the digest was remembered.
    pub(super) fn selected_files(
        &self,
        sources: &[CopySource],
        inputs: &Inputs,
    ) -> Result<(Digest, Option<Planned>), StepError> {
        let keys = self.selection_keys(sources, inputs);
        if let Some(known) = self.known_selections(keys.as_deref())? {
            return Ok((Listing::combine(&known), None));
        }
        let planned = self.plan(sources, inputs)?;
        let digests = planned.listing.source_digests();
        for (selected, digest) in keys.iter().flatten().zip(&digests) {
            self.cache.put_selection(&selected.key, &Selected::seen(*digest), &selected.layers)?;
        }
        Ok((Listing::combine(&digests), Some(planned)))
    }

    /// What each selection is remembered by; nothing when some of the files come from a context or a heredoc, which
    /// cost nothing to look at.
    fn selection_keys(&self, sources: &[CopySource], inputs: &Inputs) -> Option<Vec<SelectionKey>> {
        let key = |source: &CopySource| match source {
            CopySource::Path { from, pattern } if !self.is_context(*from) => {
                Some(SelectionKey::new(inputs.get(*from).layers.clone(), selection_key(pattern)))
            }
            _ => None,
        };
        sources.iter().map(key).collect()
    }

    fn known_selections(&self, keys: Option<&[SelectionKey]>) -> Result<Option<Vec<Digest>>, StepError> {
        let Some(keys) = keys else { return Ok(None) };
        let mut known = Vec::with_capacity(keys.len());
        for key in keys {
            match self.known_selection(key)? {
                Some(digest) => known.push(digest),
                None => return Ok(None),
            }
        }
        Ok(Some(known))
    }

    /// The digest of a selection that was computed before, here or elsewhere.
    pub(super) fn known_selection(&self, selected: &SelectionKey) -> Result<Option<Digest>, StepError> {
        if let Some(known) = self.cache.selection(&selected.key)? {
            return Ok(Some(known.digest));
        }
        // Where the files are at hand, looking at them is quicker than asking.
        if !self.remote.is_asked() || self.cache.are_unpacked(&selected.layers)? {
            return Ok(None);
        }
        let diff_ids = image::known_diff_ids(self.environment, &selected.layers, self.request.epoch)?;
        let Some(diff_ids) = diff_ids else { return Ok(None) };
        let found = self.remote.selection(&shared_key(&diff_ids, &selected.pattern))?;
        if let Some(found) = &found {
            self.cache.put_selection(&selected.key, found, &selected.layers)?;
        }
        Ok(found.map(|found| found.digest))
    }

    /// Before a step is carried out: makes sure that what another machine said of the files it takes is so. Otherwise
    /// its result would be known, and published, as that of a step which takes other files.
    pub(super) fn check_selections(&self, id: StepId, inputs: &Inputs) -> Result<(), StepError> {
        let mut is_so = true;
        for source in self.taken(id) {
            let sources = [source];
            for selected in self.selection_keys(&sources, inputs).iter().flatten() {
                let Some(known) = self.cache.selection(&selected.key)? else { continue };
                if known.told_by.is_none() {
                    continue;
                }
                for digest in self.plan(&sources, inputs)?.listing.source_digests() {
                    is_so &= digest == known.digest;
                    self.cache.put_selection(&selected.key, &Selected::seen(digest), &selected.layers)?;
                }
            }
        }
        for look in self.looks(id) {
            let key = self.look_key(look, inputs);
            if let Some(known) = self.cache.selection(&key.key)?
                && known.told_by.is_some()
            {
                is_so &= self.look_and_remember(look, &key)? == known.digest;
            }
        }
        if !is_so {
            self.remote.refute_selection(&self.request.graph.step(id).label);
            return Err(StepError::Pruned);
        }
        Ok(())
    }

    /// What a step takes from its inputs, as sources of a copy.
    fn taken(&self, step: StepId) -> Vec<CopySource> {
        match &self.request.graph.step(step).op {
            Op::Copy(op) => op.sources.clone(),
            Op::Run(op) => bound(op),
            _ => Vec::new(),
        }
    }

    /// What the copies and mounts of a step selected from other stages, for those who only know these stages.
    pub(crate) fn shared_selections(
        &self,
        step: StepId,
        inputs: &Inputs,
    ) -> Result<Vec<(Digest, Digest)>, StepError> {
        let sources = self.taken(step);
        let keys = |source| self.selection_keys(std::slice::from_ref(source), inputs).unwrap_or_default();
        let looks = self.looks(step).into_iter().map(|look| self.look_key(look, inputs));
        let mut selections = Vec::new();
        for selected in sources.iter().flat_map(keys).chain(looks) {
            if let Some(Selected { digest, .. }) = self.cache.selection(&selected.key)? {
                let epoch = self.request.epoch;
                let layers = image::describe_layers(self.environment, &selected.layers, epoch)?;
                let diff_ids: Vec<_> = layers.iter().map(|layer| layer.diff_id).collect();
                selections.push((shared_key(&diff_ids, &selected.pattern), digest));
            }
        }
        Ok(selections)
    }
}

/// What the mounts of a step select, as sources of a copy.
pub(super) fn bound(op: &RunOp) -> Vec<CopySource> {
    op.mounts.iter().filter_map(Mount::files).map(whole).collect()
}

/// A path in a step, as the source of a copy.
pub(super) fn whole((from, path): (StepId, &str)) -> CopySource {
    CopySource::Path { from, pattern: literal(path) }
}

/// A pattern that matches exactly this path.
fn literal(path: &str) -> String {
    let mut pattern = String::with_capacity(path.len());
    for character in path.chars() {
        if matches!(character, '*' | '?' | '[' | ']' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern
}
