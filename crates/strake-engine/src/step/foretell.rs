//! Asking a registry for the end of a stage instead of for each of its steps.
//!
//! The signature of a step is known when that of its base is, and that is in most cases what it would be if nothing
//! was ever cut off. So those of the steps above a miss can be foretold, as far as they take files from nothing but
//! build contexts. The image of a step tells of all steps below it: finding the last one answers for all, and where it
//! is missing halving the way finds the last one that is there with few questions. A wrong guess costs a question.

use std::collections::BTreeMap;

use strake_graph::{CopySource, Mount, Op, PlaceSource, StepId};

use super::{Build, Inputs};
use crate::error::StepError;
use crate::schedule::makes_layer;
use crate::signature::Signature;

impl Build<'_> {
    /// Asks for a step that is not here, and for those above it. Answers whether it was found.
    pub(super) fn foretell(&self, id: StepId, signature: Signature) -> Result<bool, StepError> {
        if !self.remote.has_steps() || self.remote.is_absent(signature) {
            return Ok(false);
        }
        let line = self.line(id, signature)?;
        // Steps up to `there` are there, from `missing` on they are not.
        let (mut there, mut missing) = (0, line.len() + 1);
        let mut next = line.len();
        while there + 1 < missing {
            match self.remote.fetch(line[next - 1])? {
                true => there = next,
                false => missing = next,
            }
            next = usize::midpoint(there, missing);
        }
        self.remote.note_absent(&line[there..]);
        Ok(there > 0)
    }

    /// The signatures of a step and those above it, as far as they can be foretold.
    fn line(&self, id: StepId, signature: Signature) -> Result<Vec<Signature>, StepError> {
        let mut line = vec![signature];
        let mut at = id;
        while let Some(above) = self.above.get(&at).copied() {
            if !self.is_foretold(above) {
                break;
            }
            let (parts, _) = match self.parts(above, line.last().copied(), &Inputs(Vec::new())) {
                Ok(parts) => parts,
                Err(error) if error.is_cancelled() => return Err(error),
                // That files are missing is told when it is the turn of the step that wants them.
                Err(_) => break,
            };
            line.push(Signature::of(&parts));
            at = above;
        }
        Ok(line)
    }

    /// Whether all that a step takes is known before its inputs are.
    fn is_foretold(&self, id: StepId) -> bool {
        let step = self.request.graph.step(id);
        let of_context = |source: &CopySource| match source {
            CopySource::Path { from, .. } => self.is_context(*from),
            _ => true,
        };
        !step.no_cache
            && match &step.op {
                Op::Copy(op) => op.sources.iter().all(of_context),
                Op::Run(op) => op.mounts.iter().filter_map(Mount::from).all(|from| self.is_context(from)),
                Op::Place(op) => {
                    let is_step = |source: &PlaceSource| matches!(source, PlaceSource::Step { .. });
                    !op.placements.iter().any(|placement| is_step(&placement.from))
                }
                Op::MakeDir(_) => true,
                Op::Scratch | Op::Image(_) | Op::Context(_) => false,
            }
    }
}

/// For each step the one that stands on it in the same stage.
pub(super) fn above(graph: &strake_graph::Graph) -> BTreeMap<StepId, StepId> {
    let needed = graph.needed();
    let steps = graph.step_ids().filter(|id| needed[id.index()]);
    let pair = |id: StepId| {
        let step = graph.step(id);
        let base = step.op.base()?;
        let below = graph.step(base);
        (makes_layer(&step.op) && below.stage == step.stage).then_some((base, id))
    };
    steps.filter_map(pair).collect()
}
