//! What happens to one step: it is looked up, and when it is not found, carried out and recorded.

mod contexts;
pub mod copy;
mod explain;
mod files;
mod find;
mod foretell;
mod log;
mod look;
pub(crate) mod make_dir;
mod run;
mod selected;
mod share;
pub mod trust;

pub(crate) use run::cache_lock;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Instant;

use strake_graph::{Op, StepId};
use strake_oci::Digest;
use strake_store::tar::Times;
use strake_store::{ActiveSnapshot, LayerId, StoreError, tar};

use crate::cache::{CacheRecord, LocalCache, Place};
use crate::clock::{host_name, now, now_ns};
use crate::error::StepError;
use crate::event::{Event, Holder};
use crate::image::{ImageErrorKind, Unmade};
use crate::lock::{FileLocks, Lease};
use crate::remote::{Lost, Remote};
use crate::request::{BuildRequest, Environment};
use crate::schedule::makes_layer;
use crate::signature::{Part, Signature};
use contexts::Contexts;

/// What is fixed for the length of a build, shared by the loop and its workers.
pub(crate) struct Build<'a> {
    pub(crate) request: &'a BuildRequest,
    pub(crate) environment: &'a Environment<'a>,
    pub(crate) locks: FileLocks,
    cache: LocalCache<'a>,
    contexts: Contexts<'a>,
    /// The number of each step within its stage.
    numbers: Vec<u32>,
    stopping: AtomicBool,
    warned_network: OnceLock<()>,
    warned_distrust: OnceLock<()>,
    /// What this build carried out: of a step that must not come from the cache nothing else counts.
    executed: &'a Executed,
    pub(crate) remote: &'a Remote<'a>,
    /// The step on top of each, in the same stage.
    above: BTreeMap<StepId, StepId>,
    /// Layers that another machine made, with the step each belongs to.
    foreign: Mutex<BTreeMap<LayerId, Signature>>,
    started: u64,
}

/// The signatures of the steps that one build carried out, whichever try it was in.
#[derive(Debug, Default)]
pub(crate) struct Executed(Mutex<BTreeSet<Signature>>);

impl Executed {
    fn insert(&self, signature: Signature) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(signature);
    }

    fn contains(&self, signature: Signature) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&signature)
    }
}

/// What a step gave.
#[derive(Debug, Clone)]
pub(crate) struct Resolved {
    /// What it was looked up by.
    pub(crate) signature: Signature,
    /// What it contributes to those that stand on it.
    pub(crate) canonical: Signature,
    /// The whole stack, bottom first.
    pub(crate) layers: Vec<LayerId>,
    /// When it was built, seconds since the Unix epoch.
    pub(crate) built: u64,
}

/// What the inputs of a step gave.
#[derive(Debug, Clone)]
pub(crate) struct Inputs(pub(crate) Vec<(StepId, Resolved)>);

impl Inputs {
    /// # Panics
    /// When `id` is no input of the step.
    pub(crate) fn get(&self, id: StepId) -> &Resolved {
        let input = self.0.iter().find(|(input, _)| *input == id);
        &input.expect("a step asks only for inputs that its operation names").1
    }
}

/// What looking up a step gave.
pub(crate) enum Looked {
    Hit(Resolved),
    Miss(Miss),
}

/// A step that has to be carried out, with what was found out on the way.
pub(crate) struct Miss {
    pub(crate) signature: Signature,
    pub(crate) parts: Vec<Part>,
    pub(crate) plan: Option<files::Planned>,
}

/// How a layer came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Made {
    /// A process wrote what it wanted, from this moment on: nanoseconds since 1970.
    ByProcess(i64),
    /// The parts of the signature say exactly what is in it, so that nothing has to be read again.
    ByDescription,
}

impl<'a> Build<'a> {
    pub(crate) fn new(
        request: &'a BuildRequest,
        environment: &'a Environment<'a>,
        executed: &'a Executed,
        remote: &'a Remote<'a>,
        numbers: Vec<u32>,
    ) -> Self {
        Self {
            request,
            environment,
            locks: FileLocks::new(environment.store.lock_dir()),
            cache: LocalCache::trusting(environment.store.index(), &request.sharing.trusted_keys),
            contexts: Contexts::new(request, environment),
            numbers,
            stopping: AtomicBool::new(false),
            warned_network: OnceLock::new(),
            warned_distrust: OnceLock::new(),
            executed,
            remote,
            above: if remote.is_asked() { foretell::above(&request.graph) } else { BTreeMap::new() },
            foreign: Mutex::default(),
            started: now(),
        }
    }

    pub(crate) fn event(&self, event: Event) {
        (self.environment.events)(event);
    }

    /// Tells those who wait for another process that there is no point any more.
    pub(crate) fn stop_waiting(&self) {
        self.stopping.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst) || self.environment.cancellation.is_requested()
    }

    /// Whether people see the step: images and contexts are only there for others.
    pub(crate) fn is_shown(&self, step: StepId) -> bool {
        makes_layer(&self.request.graph.step(step).op)
    }

    /// Whether looking a step up means reading files, so that it must not be done in the loop.
    pub(crate) fn must_read_files(&self, step: StepId) -> bool {
        match &self.request.graph.step(step).op {
            // Asking a registry takes its time as well.
            op if makes_layer(op) && self.remote.is_asked() => true,
            Op::Copy(_) => true,
            Op::Run(op) => op.mounts.iter().any(|mount| mount.files().is_some()),
            Op::Scratch | Op::Image(_) | Op::Context(_) | Op::MakeDir(_) | Op::Place(_) => false,
        }
    }

    /// What others read while they wait for a step of ours.
    pub(crate) fn holder(&self, step: StepId) -> Holder {
        Holder {
            pid: std::process::id(),
            host: host_name(),
            since: self.started,
            what: self.request.graph.step(step).label.clone(),
        }
    }

    fn place(&self, step: StepId) -> Place {
        Place::new(&self.request.place, &self.request.graph.step(step).stage, self.numbers[step.index()])
    }

    fn secrets_there(&self) -> BTreeMap<String, bool> {
        self.request.secrets.keys().map(|id| (id.clone(), true)).collect()
    }

    /// Carries a step out and records it. The caller holds the step's lock; `caches` are those of its cache mounts.
    pub(crate) fn execute(
        &self,
        id: StepId,
        inputs: &Inputs,
        mut miss: Miss,
        caches: Vec<Lease>,
    ) -> Result<Resolved, StepError> {
        let started = Instant::now();
        let step = self.request.graph.step(id);
        let base = self.base_layers(id, inputs);
        self.claim(inputs)?;
        self.check_selections(id, inputs)?;
        self.ensure_layers(&base)?;
        let signature = miss.signature;
        let began_ns = now_ns();
        let active = match &step.op {
            Op::Run(op) => self.run(id, op, &base, inputs, signature, caches)?,
            Op::Copy(op) => self.copy(id, op, &base, inputs, &mut miss)?,
            Op::MakeDir(op) => self.make_dir(op, &base)?,
            Op::Place(op) => self.place_files(op, &base, inputs)?,
            Op::Scratch | Op::Image(_) | Op::Context(_) => {
                unreachable!("a step without a layer is never a miss")
            }
        };
        let kind =
            if matches!(step.op, Op::Run(_)) { Made::ByProcess(began_ns) } else { Made::ByDescription };
        let base_signature = step.op.base().map(|base| inputs.get(base).canonical);
        let mut record = CacheRecord::new(signature, base_signature, miss.parts);
        record.millis = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        record.built = now();
        record.below =
            step.op.base().filter(|base| self.is_shown(*base)).map(|base| inputs.get(base).signature);
        let resolved = self.commit(signature, base, active, kind, record)?;
        self.executed.insert(signature);
        self.event(Event::StepFinished(id, started.elapsed()));
        Ok(resolved)
    }

    /// Makes the layer permanent, or drops it for an older one with the same content on the same base.
    fn commit(
        &self,
        signature: Signature,
        base: Vec<LayerId>,
        active: ActiveSnapshot,
        kind: Made,
        mut record: CacheRecord,
    ) -> Result<Resolved, StepError> {
        let store = self.environment.store;
        // What is in a layer is known when it is committed: before that an overlay does not say what became of the
        // root directory, and a plain copy says nothing at all.
        let layer = store.snapshots().commit(active)?;
        let content = match kind {
            Made::ByProcess(began_ns) => self.content_of_process(&layer, &base, began_ns),
            Made::ByDescription => Ok(Signature::described_content(signature)),
        };
        let content = match content {
            Ok(content) => content,
            Err(error) => {
                store.snapshots().remove(&layer)?;
                return Err(error);
            }
        };
        record.content = Some(content);
        let older = match record.base {
            Some(base) => self.cache.find_result(base, &content)?,
            None => None,
        };
        let older = match older {
            Some((older, found)) if older != signature && self.same_stack(&found, &base)? => {
                Some((older, found))
            }
            _ => None,
        };
        let stack = match &older {
            Some((_, found)) if self.has_layer(found)? => self.stack_on(found, base.clone()),
            _ => None,
        };
        match (older, stack) {
            (Some((older, found)), Some(stack)) => {
                record.canonical = older;
                record.layers = stack;
                record.built = found.built;
                record.foreign = found.foreign;
                store.snapshots().remove(&layer)?;
            }
            (other, _) => {
                // An equal layer that would have to be fetched first, or has other times, is no reason to drop the one
                // at hand.
                record.canonical = other.map_or(signature, |(older, _)| older);
                store.index().set_layer_content(&layer, content)?;
                record.layers = base;
                record.layers.push(layer);
            }
        }
        self.cache.put(signature, &record)?;
        Ok(Resolved { signature, canonical: record.canonical, layers: record.layers, built: record.built })
    }

    /// What is in the layer that a process wrote on `base`.
    fn content_of_process(
        &self,
        layer: &LayerId,
        base: &[LayerId],
        began_ns: i64,
    ) -> Result<Digest, StepError> {
        let store = self.environment.store;
        let ended_ns = now_ns();
        let below = if base.is_empty() { None } else { Some(store.open_view(base)?) };
        let times = Times::Chosen { began_ns, ended_ns, below: below.as_ref().map(|view| view.root()) };
        Ok(tar::content_digest(&store.layer_dir(layer), times)?)
    }

    fn has_layer(&self, record: &CacheRecord) -> Result<bool, StoreError> {
        record.layers.last().map_or(Ok(false), |layer| self.cache.is_unpacked(layer))
    }

    /// Makes sure that layers are unpacked. When those of a step that another machine made cannot be had, the step
    /// is forgotten, and the next try builds it.
    pub(crate) fn ensure_layers(&self, layers: &[LayerId]) -> Result<(), StepError> {
        let foreign = self.foreign.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // What can be built instead is not waited for as long as what can only be fetched, which lies below it.
        let base = layers.iter().position(|layer| foreign.contains_key(layer)).unwrap_or(layers.len());
        crate::image::ensure_layers(self.environment, &layers[..base])?;
        let Err(Unmade { layer: failed, error }) = crate::image::try_layers(&self.remote.hurried(), layers)
        else {
            return Ok(());
        };
        if error.kind() == ImageErrorKind::Canceled {
            return Err(error.into());
        }
        // One that is gone or damaged says nothing of the others. Where nobody answers none of them can be had.
        let failed = failed.filter(|layer| error.is_bad_layer() && foreign.contains_key(layer));
        let mut lost = Vec::new();
        for layer in layers {
            if let Some(signature) = foreign.get(layer)
                && failed.as_ref().is_none_or(|failed| failed == layer)
                && !self.cache.is_unpacked(layer)?
            {
                lost.push((*signature, layer.clone()));
            }
        }
        let why = match &failed {
            Some(layer) => self.remote.why_lost(layer)?,
            None => Lost::Unreachable,
        };
        match self.remote.reject(&lost, why, &error)? {
            true => Err(StepError::Pruned),
            false => Err(error.into()),
        }
    }

    /// Keeps what was learned of the files of contexts, whether the build succeeded or not.
    pub(crate) fn save_contexts(&self) {
        self.contexts.save();
    }

    /// Marks all that the build stood on as used, and remembers what is where now.
    /// Answers whether all of it is still there.
    pub(crate) fn remember_used(&self, resolved: &[Option<Resolved>]) -> Result<bool, StoreError> {
        let mut used = Vec::new();
        let mut places = Vec::new();
        for (id, resolved) in self.request.graph.step_ids().zip(resolved) {
            if let Some(resolved) = resolved
                && self.is_shown(id)
            {
                used.push(resolved.signature);
                places.push((self.place(id), resolved.signature));
            }
        }
        self.cache.remember(&places)?;
        self.cache.touch(&used)
    }

    /// Marks what a step stands on as used before it does, so that a collection running beside keeps it.
    fn claim(&self, inputs: &Inputs) -> Result<(), StepError> {
        let mut is_there = self.cache.touch(&self.recorded(inputs))?;
        for (id, resolved) in &inputs.0 {
            if let Op::Image(op) = &self.request.graph.step(*id).op {
                is_there &= crate::image::touch(self.environment, op.id, &resolved.layers)?;
            }
        }
        if is_there { Ok(()) } else { Err(StepError::Pruned) }
    }

    /// The inputs that have records.
    fn recorded(&self, inputs: &Inputs) -> Vec<Signature> {
        let recorded = inputs.0.iter().filter(|(id, _)| self.is_shown(*id));
        recorded.map(|(_, resolved)| resolved.signature).collect()
    }
}

/// Says what was being done to which file.
fn file_error(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> StepError {
    let path = path.to_owned();
    move |source| StepError::File { what, path, source }
}
