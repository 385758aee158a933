//! What other machines get of a build: each step as soon as it is there, and in the end what was used.

use std::collections::{BTreeMap, BTreeSet};

use strake_graph::StepId;

use super::{Build, Inputs, Resolved};
use crate::error::{BuildError, StepError};
use crate::remote::{CacheContent, Missing, Publishing, Tip};
use crate::signature::Signature;

impl<'a> Build<'a> {
    /// Publishes a step that was carried out, and what it selected from other stages.
    pub(crate) fn publish(&self, id: StepId, inputs: &Inputs, signature: Signature) {
        let step = self.request.graph.step(id);
        let below = step.op.base().map(|base| inputs.get(base).signature);
        self.remote.publish(step, signature, below, || self.shared_selections(id, inputs));
    }

    /// Whether a step that was found here is to be published: nobody has seen it in the repository. Those above wait
    /// until what is answered is dropped.
    pub(crate) fn will_publish_found(
        &self,
        id: StepId,
        signature: Signature,
    ) -> Result<Option<Publishing<'a, 'a>>, StepError> {
        let is_wanted = self.is_shown(id) && self.remote.is_unheard_of(signature)?;
        Ok(is_wanted.then(|| self.remote.will_publish(signature, Missing::Unknown)))
    }

    /// Publishes a step that was found here, and before it what it stands on, from the top of the `line` down to what
    /// the repository has.
    pub(crate) fn publish_found(&self, line: &[(StepId, Inputs, Signature)]) {
        let mut missing = 0;
        for (_, _, signature) in line {
            match self.remote.is_there(*signature) {
                Ok(false) => missing += 1,
                // What stopped us is told by whoever needs the registry or the store next.
                Ok(true) | Err(_) => break,
            }
        }
        for (id, inputs, signature) in line[..missing].iter().rev() {
            self.publish(*id, inputs, *signature);
        }
    }

    /// Whether nothing has to be done for a step to be in the repository before those above it.
    pub(crate) fn is_taken_care_of(&self, signature: Signature) -> bool {
        self.remote.is_taken_care_of(signature)
    }

    /// After a successful build: makes sure that the targets' layers are here if they are wanted, and that the
    /// repository has what was used.
    pub(crate) fn share(&self, resolved: &[Option<Resolved>]) -> Result<(), BuildError> {
        let graph = &self.request.graph;
        let targets: Vec<StepId> = graph.targets().iter().map(|target| graph.stage(*target).result).collect();
        let result = |id: &StepId| resolved[id.index()].as_ref();
        let done = || {
            if self.request.wants_layers {
                targets
                    .iter()
                    .filter_map(result)
                    .try_for_each(|result| self.ensure_layers(&result.layers))?;
            }
            let targets = targets.iter().filter(|id| self.is_shown(**id));
            let used = graph.step_ids().filter(|id| self.is_shown(*id));
            let missing = self.remote.missing(
                targets.filter_map(|id| Some(result(id)?.signature)),
                used.filter_map(|id| Some((id, result(&id)?.signature))),
            )?;
            for (id, signature) in missing {
                let inputs = graph.step(id).op.inputs();
                let inputs = inputs.into_iter().filter_map(|id| Some((id, result(&id)?.clone())));
                self.publish(id, &Inputs(inputs.collect()), signature);
            }
            self.note_used(resolved)?;
            self.write_caches(resolved)
        };
        done().map_err(after_all_steps)
    }

    /// Notes in the repository which stages were used: the last step of each speaks for those below.
    fn note_used(&self, resolved: &[Option<Resolved>]) -> Result<(), StepError> {
        let graph = &self.request.graph;
        let used = || graph.step_ids().filter(|id| self.is_shown(*id) && resolved[id.index()].is_some());
        let bases: BTreeSet<StepId> = used().filter_map(|id| graph.step(id).op.base()).collect();
        let last = used().filter(|id| !bases.contains(id));
        let last = last.filter_map(|id| Some(resolved[id.index()].as_ref()?.signature));
        self.remote.note_used(&last.collect())
    }

    /// What the image of a target is to say of its steps.
    pub(crate) fn inline(&self, signature: Signature) -> Result<BTreeMap<String, String>, BuildError> {
        self.remote.inline(signature).map_err(after_all_steps)
    }

    fn write_caches(&self, resolved: &[Option<Resolved>]) -> Result<(), StepError> {
        let graph = &self.request.graph;
        let used = || {
            let used = graph.step_ids().filter(|id| self.is_shown(*id));
            used.filter_map(|id| Some((id, resolved[id.index()].as_ref()?)))
        };
        for target in &self.request.sharing.to {
            let is_result =
                |id: StepId| graph.targets().iter().any(|target| graph.stage(*target).result == id);
            let is_base = |id: StepId| used().any(|(above, _)| graph.step(above).op.base() == Some(id));
            let is_tip = |id: StepId| match target.content {
                CacheContent::Result => is_result(id),
                CacheContent::All => !is_base(id),
            };
            let tips: Vec<Tip<'_>> = used()
                .filter(|(id, _)| is_tip(*id))
                .map(|(id, resolved)| Tip { step: graph.step(id), signature: resolved.signature })
                .collect();
            let mut selections = Vec::new();
            for (id, _) in used() {
                let inputs = graph.step(id).op.inputs().into_iter();
                let inputs = inputs.filter_map(|id| Some((id, resolved[id.index()].clone()?)));
                selections.extend(self.shared_selections(id, &Inputs(inputs.collect()))?);
            }
            match self.remote.write_cache(target, &tips, &selections) {
                // Layers that were only known may be gone: they are fetched now, or built by the next try.
                Err(StepError::Image(error)) if error.is_lost_content() => {
                    let mut wanted = used().filter(|(id, _)| is_tip(*id));
                    wanted.try_for_each(|(_, resolved)| self.ensure_layers(&resolved.layers))?;
                    self.remote.write_cache(target, &tips, &selections)?;
                }
                other => other?,
            }
        }
        Ok(())
    }
}

/// An error that is no single step's.
fn after_all_steps(error: StepError) -> BuildError {
    match error {
        error if error.is_pruned() => BuildError::Pruned,
        error if error.is_cancelled() => BuildError::Cancelled,
        error => BuildError::Share(Box::new(error)),
    }
}
