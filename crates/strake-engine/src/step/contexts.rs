//! The build contexts of one build: each is scanned once, when the first step asks for it, and only where the patterns
//! of the graph's copies can reach. What was hashed is remembered in the store when the build ends, also when it fails.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use strake_graph::pattern::Glob;
use strake_graph::{CopySource, Op, StepId};
use strake_store::{Index, StatCache};

use super::copy::{CopyError, CopyPlan};
use super::selected::bound;
use crate::build_context::SourceTree;
use crate::error::StepError;
use crate::request::{BuildRequest, Cancellation, Environment};

/// The build contexts of one build.
pub(crate) struct Contexts<'a> {
    request: &'a BuildRequest,
    index: &'a Index,
    cancellation: &'a Cancellation,
    scanned: BTreeMap<StepId, OnceLock<Context>>,
}

#[derive(Debug)]
pub(super) struct Context {
    pub(super) tree: Arc<SourceTree>,
    pub(super) remembered: Mutex<Remembered>,
    /// What the cache is known by in the store.
    key: String,
}

#[derive(Debug, Default)]
pub(super) struct Remembered {
    pub(super) cache: StatCache,
    pub(super) is_changed: bool,
}

impl<'a> Contexts<'a> {
    pub(crate) fn new(request: &'a BuildRequest, environment: &Environment<'a>) -> Self {
        let graph = &request.graph;
        let contexts = graph.step_ids().filter(|id| matches!(graph.step(*id).op, Op::Context(_)));
        Self {
            request,
            index: environment.store.index(),
            cancellation: environment.cancellation,
            scanned: contexts.map(|id| (id, OnceLock::new())).collect(),
        }
    }

    /// The context, scanned for all the copies of the graph at once.
    pub(super) fn get(&self, id: StepId) -> Result<&Context, StepError> {
        let cell = &self.scanned[&id];
        if let Some(context) = cell.get() {
            return Ok(context);
        }
        let Op::Context(op) = &self.request.graph.step(id).op else {
            unreachable!("only contexts are asked for");
        };
        let source = self.request.contexts.get(&op.name);
        let source = source.ok_or_else(|| StepError::Context(op.name.clone()))?;
        let patterns = self.patterns_from(id)?;
        let tree = SourceTree::of_context(&source.root, &source.ignore, &patterns, self.cancellation)
            .map_err(CopyError::from)?;
        let key = source.root.to_string_lossy().into_owned();
        let remembered = Mutex::new(Remembered { cache: self.index.stat_cache(&key), is_changed: false });
        // Two steps may have scanned at once; both saw the same directory, and the first one counts.
        Ok(cell.get_or_init(|| Context { tree: Arc::new(tree), remembered, key }))
    }

    /// Everything that needed steps take from an input.
    fn patterns_from(&self, id: StepId) -> Result<Vec<Glob>, CopyError> {
        let needed = self.request.graph.needed();
        let steps = self.request.graph.steps().iter().zip(needed).filter(|(_, needed)| *needed);
        let mut patterns = Vec::new();
        for (step, _) in steps {
            match &step.op {
                Op::Copy(op) => patterns.extend(patterns_of(&op.sources, id)?),
                Op::Run(op) => patterns.extend(patterns_of(&bound(op), id)?),
                Op::Place(_) | Op::Scratch | Op::Image(_) | Op::Context(_) | Op::MakeDir(_) => {}
            }
        }
        Ok(patterns)
    }

    /// Keeps what was learned of files for the next build, and forgets files that are gone. A failure costs only time
    /// there. When nothing was learned nothing is written: then only what was there last time is remembered.
    pub(crate) fn save(&self) {
        for context in self.scanned.values().filter_map(OnceLock::get) {
            let mut remembered = context.remembered.lock().unwrap_or_else(PoisonError::into_inner);
            if !remembered.is_changed {
                continue;
            }
            remembered.cache.retain(|path| context.tree.is_there(path));
            if let Err(error) = self.index.save_stat_cache(&context.key, &remembered.cache) {
                tracing::warn!("cannot remember the digests of {}: {error}", context.key);
            }
        }
    }
}

/// The patterns that sources have for one of the inputs.
pub(super) fn patterns_of(sources: &[CopySource], from: StepId) -> Result<Vec<Glob>, CopyError> {
    let mut patterns = Vec::new();
    for source in sources {
        if let CopySource::Path { from: source, pattern } = source
            && *source == from
        {
            patterns.push(CopyPlan::glob(pattern)?);
        }
    }
    Ok(patterns)
}
