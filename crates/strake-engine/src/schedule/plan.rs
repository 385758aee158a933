use std::collections::VecDeque;

use strake_graph::{Graph, StepId};

use super::makes_layer;
use crate::cache::{LocalCache, Place};
use crate::error::BuildError;
use crate::event::PlannedStep;
use crate::request::{BuildRequest, Environment};
use crate::step::{Inputs, Resolved};

/// Which steps there are to do, what each waits for, and what is done.
pub(crate) struct Plan {
    /// Inputs that are not done yet; `None` for steps that nobody needs.
    waiting: Vec<Option<usize>>,
    inputs: Vec<Vec<StepId>>,
    dependents: Vec<Vec<StepId>>,
    /// How long it takes from the start of a step to the end of the target, in milliseconds, as far as is known.
    remaining: Vec<u64>,
    /// The number of each layer-making step within its stage, from 0.
    numbers: Vec<u32>,
    ready: VecDeque<StepId>,
    results: Vec<Option<Resolved>>,
}

impl Plan {
    /// What a step is taken to need when it was never built here, in milliseconds.
    const UNKNOWN_MILLIS: u64 = 1000;

    pub(crate) fn new(request: &BuildRequest, environment: &Environment<'_>) -> Result<Self, BuildError> {
        let graph = &request.graph;
        let needed = graph.needed();
        let count = graph.steps().len();
        let inputs: Vec<Vec<StepId>> = graph.steps().iter().map(|step| step.op.inputs()).collect();
        let mut plan = Self {
            waiting: vec![None; count],
            dependents: vec![Vec::new(); count],
            remaining: vec![0; count],
            numbers: numbers(graph),
            ready: VecDeque::new(),
            results: vec![None; count],
            inputs,
        };
        for id in graph.step_ids().filter(|id| needed[id.index()]) {
            let inputs = &plan.inputs[id.index()];
            plan.waiting[id.index()] = Some(inputs.len());
            inputs.iter().for_each(|input| plan.dependents[input.index()].push(id));
            if inputs.is_empty() {
                plan.ready.push_back(id);
            }
        }
        plan.estimate(request, environment)?;
        Ok(plan)
    }

    /// Fills in `remaining`, from the targets down. Only matters when more steps are ready than may run at once.
    fn estimate(&mut self, request: &BuildRequest, environment: &Environment<'_>) -> Result<(), BuildError> {
        let graph = &request.graph;
        let cache = LocalCache::new(environment.store.index());
        // With one chain of steps there is never a choice, and nothing needs to be looked up.
        let is_chain = self.dependents.iter().all(|dependents| dependents.len() <= 1)
            && self.inputs.iter().all(|inputs| inputs.len() <= 2);
        for index in (0..graph.steps().len()).rev() {
            if self.waiting[index].is_none() {
                continue;
            }
            let step = &graph.steps()[index];
            let mut own = if makes_layer(&step.op) { Self::UNKNOWN_MILLIS } else { 0 };
            if own > 0 && !is_chain {
                let place = Place::new(&request.place, &step.stage, self.numbers[index]);
                if let Some((_, Some(record))) = cache.latest(place)? {
                    own = record.millis;
                }
            }
            let above = self.dependents[index].iter().map(|id| self.remaining[id.index()]).max();
            self.remaining[index] = own + above.unwrap_or(0);
        }
        Ok(())
    }

    pub(crate) fn numbers(&self) -> Vec<u32> {
        self.numbers.clone()
    }

    /// The needed steps as people will see them.
    pub(crate) fn shown(&self, graph: &Graph) -> Vec<PlannedStep> {
        graph
            .step_ids()
            .filter(|id| self.waiting[id.index()].is_some())
            .filter(|id| makes_layer(&graph.step(*id).op) || graph.step(*id).position.is_some())
            .map(|id| {
                let step = graph.step(id);
                PlannedStep {
                    id,
                    stage: step.stage.clone(),
                    label: step.label.clone(),
                    position: step.position,
                    span: step.span,
                }
            })
            .collect()
    }

    pub(crate) fn next_ready(&mut self) -> Option<StepId> {
        self.ready.pop_front()
    }

    /// Which of `steps` has the longest way to go after it; by place in the iteration.
    pub(crate) fn most_urgent(&self, steps: impl Iterator<Item = StepId>) -> Option<usize> {
        let by_urgency =
            |(_, step): &(usize, StepId)| (self.remaining[step.index()], std::cmp::Reverse(*step));
        steps.enumerate().max_by_key(by_urgency).map(|(index, _)| index)
    }

    /// What the inputs of a step gave.
    ///
    /// # Panics
    /// When an input is not done: only ready steps are asked for.
    pub(crate) fn inputs_of(&self, step: StepId) -> Inputs {
        let result = |id: &StepId| {
            let resolved = self.results[id.index()].clone();
            (*id, resolved.expect("a step becomes ready when its last input is done"))
        };
        Inputs(self.inputs[step.index()].iter().map(result).collect())
    }

    pub(crate) fn done(&mut self, step: StepId, resolved: Resolved) {
        self.results[step.index()] = Some(resolved);
        for dependent in std::mem::take(&mut self.dependents[step.index()]) {
            if let Some(waiting) = &mut self.waiting[dependent.index()] {
                *waiting -= 1;
                if *waiting == 0 {
                    self.ready.push_back(dependent);
                }
            }
        }
    }

    pub(crate) fn take_results(&mut self) -> Vec<Option<Resolved>> {
        std::mem::take(&mut self.results)
    }
}

fn numbers(graph: &Graph) -> Vec<u32> {
    let mut counters = std::collections::BTreeMap::new();
    graph
        .steps()
        .iter()
        .map(|step| {
            let counter = counters.entry(step.stage.as_str()).or_insert(0);
            let number = *counter;
            *counter += u32::from(makes_layer(&step.op));
            number
        })
        .collect()
}
