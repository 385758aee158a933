//! Looking for the result of a step: here, in what caches say, and in the repository that machines share.

use std::sync::PoisonError;

use strake_graph::{Op, PlaceSource, Placement, StepId};
use strake_store::LayerId;

use super::files::Planned;
use super::{Build, Inputs, Looked, Miss, Resolved};
use crate::cache::CacheRecord;
use crate::error::StepError;
use crate::event::Event;
use crate::remote::Missing;
use crate::schedule::makes_layer;
use crate::signature::{Part, Signature, StepInputs, parts_of};

impl Build<'_> {
    /// Computes the signature of a step and looks for its record.
    pub(crate) fn look(&self, id: StepId, inputs: &Inputs) -> Result<Looked, StepError> {
        let step = self.request.graph.step(id);
        let base = step.op.base().map(|base| inputs.get(base).canonical);
        let (parts, plan) = self.parts(id, base, inputs)?;
        let signature = Signature::of(&parts);
        if !makes_layer(&step.op) {
            return Ok(Looked::Hit(self.source(&step.op, signature)?));
        }
        let miss = Miss { signature, parts, plan };
        if step.no_cache {
            return Ok(Looked::Miss(miss));
        }
        let mut found = self.find(id, inputs, signature)?;
        if found.is_none() && self.remote.is_asked() {
            self.remote.read_caches()?;
            found = self.find(id, inputs, signature)?;
        }
        if found.is_none() && self.missing_above(id, inputs).is_none() && self.foretell(id, signature)? {
            found = self.find(id, inputs, signature)?;
        }
        Ok(match found {
            Some(resolved) => Looked::Hit(resolved),
            None => {
                self.warn_of_distrust(id, signature)?;
                Looked::Miss(miss)
            }
        })
    }

    /// Says once that there would be a result if it was known whose it is.
    fn warn_of_distrust(&self, id: StepId, signature: Signature) -> Result<(), StepError> {
        if self.cache.is_distrusted(signature)? && self.warned_distrust.set(()).is_ok() {
            let label = &self.request.graph.step(id).label;
            self.event(Event::Warning(format!(
                "`{label}` is in the store, but no trusted key is known to have signed it: it came from a registry \
                 without a check; such steps count as not there"
            )));
        }
        Ok(())
    }

    /// What the signature of a step on a base of this canonical signature is made of.
    pub(super) fn parts(
        &self,
        id: StepId,
        base: Option<Signature>,
        inputs: &Inputs,
    ) -> Result<(Vec<Part>, Option<Planned>), StepError> {
        let step = self.request.graph.step(id);
        let mut step_inputs = StepInputs { base, ..StepInputs::default() };
        let mut plan = None;
        match &step.op {
            Op::Copy(op) => {
                let (digest, planned) = self.selected_files(&op.sources, inputs)?;
                step_inputs.files = Some(digest);
                plan = planned;
            }
            Op::Run(op) => {
                step_inputs.network = Some(self.request.network);
                step_inputs.hosts.clone_from(&self.request.hosts);
                step_inputs.secrets = self.secrets_there();
                step_inputs.mounted = self.mounted_files(op, inputs)?;
            }
            Op::Place(op) => {
                let from = |(index, placement): (usize, &Placement)| match &placement.from {
                    PlaceSource::Step { from, .. } => Some((index, inputs.get(*from).canonical)),
                    PlaceSource::Files { .. } => None,
                };
                step_inputs.placed = op.placements.iter().enumerate().filter_map(from).collect();
            }
            Op::Scratch | Op::Image(_) | Op::Context(_) | Op::MakeDir(_) => {}
        }
        Ok((parts_of(step, &step_inputs), plan))
    }

    /// Looks for the record once more, with the lock held. A step that must not come from the cache comes only from an
    /// equal step that this build carried out. What another build made of it, even while we waited, counts only then:
    /// when that began has nothing to do with us, and no two clocks need to be compared.
    pub(crate) fn look_again(
        &self,
        id: StepId,
        inputs: &Inputs,
        signature: Signature,
    ) -> Result<Option<Resolved>, StepError> {
        if let Some(found) = self.look_here(id, inputs, signature)? {
            return Ok(Some(found));
        }
        match self.may_be_found(id, signature)
            && self.remote.is_asked()
            && self.remote.fetch_again(signature)?
        {
            true => self.find(id, inputs, signature),
            false => Ok(None),
        }
    }

    /// The same without asking a registry.
    pub(crate) fn look_here(
        &self,
        id: StepId,
        inputs: &Inputs,
        signature: Signature,
    ) -> Result<Option<Resolved>, StepError> {
        if self.may_be_found(id, signature) { self.find(id, inputs, signature) } else { Ok(None) }
    }

    fn may_be_found(&self, id: StepId, signature: Signature) -> bool {
        !self.request.graph.step(id).no_cache || self.executed.contains(signature)
    }

    /// How it is known that a step is in no registry, because the one that it stands on is not yet.
    pub(crate) fn missing_above(&self, id: StepId, inputs: &Inputs) -> Option<Missing> {
        let base = self.request.graph.step(id).op.base().filter(|base| self.is_shown(*base))?;
        self.remote.missing_above(inputs.get(base).signature)
    }

    fn find(&self, id: StepId, inputs: &Inputs, signature: Signature) -> Result<Option<Resolved>, StepError> {
        let Some(mut record) = self.cache.find(signature)? else { return Ok(None) };
        let base = self.base_layers(id, inputs);
        // A layer is only right on the stack it was made on. When the base was built anew and came out different
        // although its signature is the same (a package index moved on), what stood on the old one is void.
        if !self.same_stack(&record, &base)? {
            return Ok(None);
        }
        let Some(layers) = self.stack_on(&record, base) else { return Ok(None) };
        if record.foreign.is_some() && layers != record.layers {
            self.remote.note_mended(signature);
        }
        if record.foreign.is_some() {
            let own = record.layers.last().expect("a record without layers is not found");
            let mut foreign = self.foreign.lock().unwrap_or_else(PoisonError::into_inner);
            foreign.insert(own.clone(), signature);
        }
        if layers != record.layers {
            record.layers.clone_from(&layers);
            self.cache.put(signature, &record)?;
        }
        Ok(Some(Resolved { signature, canonical: record.canonical, layers, built: record.built }))
    }

    /// The stack of a record on an equal base: what was made here goes with the layers of this build, because others
    /// that are equal may have their times limited otherwise. What another machine made comes as a whole, and only
    /// when its times are those of a build here; where a layer of that stack is lost, its own layer goes with what was
    /// made here in place of the lost one.
    pub(super) fn stack_on(&self, record: &CacheRecord, mut base: Vec<LayerId>) -> Option<Vec<LayerId>> {
        if let Some(foreign) = &record.foreign {
            if foreign.epoch != self.request.epoch {
                return None;
            }
            let (_, below) = record.layers.split_last()?;
            if !self.remote.has_lost(below) {
                return Some(record.layers.clone());
            }
        }
        base.extend(record.layers.last().cloned());
        Some(base)
    }

    pub(super) fn same_stack(&self, record: &CacheRecord, base: &[LayerId]) -> Result<bool, StepError> {
        let Some((_, below)) = record.layers.split_last() else { return Ok(false) };
        if below.len() != base.len() {
            return Ok(false);
        }
        for (old, new) in below.iter().zip(base) {
            if old != new && !self.cache.equal_content(old, new)? && !self.is_same_tar(old, new)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether two layers are one: of an image that was imported or built here, and of the same one as it comes from a
    /// registry, nobody knows more than the diff IDs.
    fn is_same_tar(&self, one: &LayerId, two: &LayerId) -> Result<bool, StepError> {
        let diff_ids = |layer: &LayerId| {
            crate::image::known_diff_ids(self.environment, std::slice::from_ref(layer), None)
        };
        let known = diff_ids(one)?;
        Ok(known.is_some() && known == diff_ids(two)?)
    }

    pub(super) fn base_layers(&self, id: StepId, inputs: &Inputs) -> Vec<LayerId> {
        let base = self.request.graph.step(id).op.base();
        base.map(|base| inputs.get(base).layers.clone()).unwrap_or_default()
    }

    /// A step that makes no layer: it is what it is.
    fn source(&self, op: &Op, signature: Signature) -> Result<Resolved, StepError> {
        let layers = match op {
            Op::Image(op) => crate::image::layers(self.environment, op.id)?,
            _ => Vec::new(),
        };
        Ok(Resolved { signature, canonical: signature, layers, built: 0 })
    }
}
