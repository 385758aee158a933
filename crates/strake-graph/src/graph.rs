use std::fmt;

use strake_oci::{ContainerConfig, HistoryEntry, Platform};

use crate::{Op, Span};

/// The place of a step in its graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepId(u32);

impl StepId {
    /// The index into [`Graph::steps`].
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0 + 1)
    }
}

/// The place of a stage in its graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StageId(u32);

impl StageId {
    /// The index into [`Graph::stages`].
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Everything one build may do. Only what the targets need is ever looked at.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    steps: Vec<Step>,
    stages: Vec<Stage>,
    targets: Vec<StageId>,
}

/// One node: at most one layer; the unit of caching, locking and publishing.
#[derive(Debug, Clone)]
pub struct Step {
    /// What to do.
    pub op: Op,
    /// For which platform.
    pub platform: Platform,
    /// Where the step stands in the text it came from.
    pub span: Span,
    /// What people see: the instruction as written, on one line.
    pub label: String,
    /// What the user named: `builder`, or `stage-2`.
    pub stage: String,
    /// The step's number among the steps of its stage and their count, from 1: `2/5`; `None` for sources.
    pub position: Option<(u32, u32)>,
    /// Whether results of earlier builds must not be used (`--no-cache`).
    pub no_cache: bool,
    /// A name that others look the step's result up by (a stage of a stage file); part of the signature.
    pub named: Option<String>,
}

/// What the user names: `FROM … AS name`, or an entry of a stage file.
#[derive(Debug, Clone)]
pub struct Stage {
    /// The name, or the index as text.
    pub name: String,
    /// The step whose file system is the stage's.
    pub result: StepId,
    /// The platform of the stage's image.
    pub platform: Platform,
    /// The configuration of the stage's image, known before anything runs.
    pub config: ContainerConfig,
    /// `MAINTAINER`.
    pub author: Option<String>,
    /// What made the image, bottom first.
    pub history: Vec<History>,
}

/// One line of an image's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum History {
    /// Taken over from the base image as it stands.
    Inherited(HistoryEntry),
    /// An instruction of this build.
    Instruction {
        /// The text for `created_by`.
        created_by: String,
        /// The step that made a layer, if the instruction makes one.
        step: Option<StepId>,
    },
}

impl Graph {
    /// A graph without steps.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a step.
    ///
    /// # Panics
    /// When the operation names a step that is not in the graph: frontends add inputs first.
    pub fn push_step(&mut self, step: Step) -> StepId {
        let id = StepId(u32::try_from(self.steps.len()).expect("fewer than 2^32 steps fit into memory"));
        assert!(step.op.inputs().iter().all(|input| *input < id), "an operation names only earlier steps");
        self.steps.push(step);
        id
    }

    /// Adds a stage.
    ///
    /// # Panics
    /// When the stage's result is not in the graph.
    pub fn push_stage(&mut self, stage: Stage) -> StageId {
        assert!(stage.result.index() < self.steps.len(), "a stage names a step of its graph");
        self.stages.push(stage);
        StageId(u32::try_from(self.stages.len() - 1).expect("fewer than 2^32 stages fit into memory"))
    }

    /// Adds a stage to those that are wanted.
    pub fn push_target(&mut self, stage: StageId) {
        assert!(stage.index() < self.stages.len(), "a target is a stage of its graph");
        self.targets.push(stage);
    }

    /// All steps, inputs before those who need them.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// All stages in the order of the file.
    pub fn stages(&self) -> &[Stage] {
        &self.stages
    }

    /// The stages that are wanted.
    pub fn targets(&self) -> &[StageId] {
        &self.targets
    }

    /// A step.
    pub fn step(&self, id: StepId) -> &Step {
        &self.steps[id.index()]
    }

    /// A step, to finish what is known only after its stage was read (its [`Step::position`]).
    pub fn step_mut(&mut self, id: StepId) -> &mut Step {
        &mut self.steps[id.index()]
    }

    /// A stage.
    pub fn stage(&self, id: StageId) -> &Stage {
        &self.stages[id.index()]
    }

    /// The identifiers of all steps, inputs first.
    pub fn step_ids(&self) -> impl Iterator<Item = StepId> + use<> {
        (0..u32::try_from(self.steps.len()).unwrap_or(u32::MAX)).map(StepId)
    }

    /// Which steps the targets need, by index.
    pub fn needed(&self) -> Vec<bool> {
        let mut needed = vec![false; self.steps.len()];
        for target in &self.targets {
            needed[self.stage(*target).result.index()] = true;
        }
        for id in (0..self.steps.len()).rev() {
            if needed[id] {
                self.steps[id].op.inputs().iter().for_each(|input| needed[input.index()] = true);
            }
        }
        needed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ContextOp, MakeDirOp};

    fn step(op: Op) -> Step {
        Step {
            op,
            platform: Platform::linux("amd64"),
            span: Span::default(),
            label: String::new(),
            stage: "0".into(),
            position: None,
            no_cache: false,
            named: None,
        }
    }

    fn make_dir(base: StepId) -> Step {
        step(Op::MakeDir(MakeDirOp { base, path: "/a".into(), user: String::new() }))
    }

    #[test]
    fn only_what_the_targets_need_is_needed() {
        let mut graph = Graph::new();
        let scratch = graph.push_step(step(Op::Scratch));
        let wanted = graph.push_step(make_dir(scratch));
        graph.push_step(step(Op::Context(ContextOp { name: String::new() })));
        let stage = graph.push_stage(Stage {
            name: "0".into(),
            result: wanted,
            platform: Platform::linux("amd64"),
            config: ContainerConfig::default(),
            author: None,
            history: vec![],
        });
        graph.push_target(stage);
        assert_eq!(graph.needed(), [true, true, false]);
    }

    #[test]
    #[should_panic(expected = "only earlier steps")]
    fn a_step_cannot_name_itself() {
        let mut graph = Graph::new();
        graph.push_step(make_dir(StepId(0)));
    }
}
