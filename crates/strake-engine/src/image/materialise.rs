//! Unpacking layers: several at once, each as one stream, and no layer twice on one machine.
//!
//! A layer is unpacked under a lock that bears its name, and stays under it until the layers below are in place and
//! it can be put on top of them. Whoever holds the lock of a layer waits only for layers below it, so nobody waits
//! in a circle, whatever processes work on whatever images.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use strake_oci::{ChainId, DiffId};
use strake_store::{LayerId, StoreError, UnpackOptions, unpack};

use super::content;
use super::error::ImageError;
use super::record;
use crate::event::{Holder, TransferKind};
use crate::lock::{FileLocks, Hold, Lease, Waiter};
use crate::request::Environment;

/// A layer to unpack.
struct Task {
    layer: LayerId,
    diff_id: DiffId,
    chain: ChainId,
    below: Vec<LayerId>,
    /// Whether the layer directly below was missing as well when we began, so that it is waited for.
    stands_on_task: bool,
}

/// What the workers share.
struct Work {
    queue: Mutex<VecDeque<Task>>,
    /// Layers that were put in place since we began.
    done: Mutex<BTreeSet<LayerId>>,
    changed: Condvar,
    stop: AtomicBool,
    failure: Mutex<Option<Unmade>>,
}

/// Why layers are not all unpacked.
#[derive(Debug)]
pub(crate) struct Unmade {
    /// The layer it failed with, if it was one.
    pub(crate) layer: Option<LayerId>,
    /// What went wrong.
    pub(crate) error: ImageError,
}

impl<E: Into<ImageError>> From<E> for Unmade {
    fn from(error: E) -> Self {
        Self { layer: None, error: error.into() }
    }
}

pub(crate) fn ensure_layers(env: &Environment<'_>, layers: &[LayerId]) -> Result<(), Unmade> {
    let tasks = missing(env, layers)?;
    if tasks.is_empty() {
        return Ok(());
    }
    let workers = workers().min(tasks.len());
    let work = Work {
        queue: Mutex::new(tasks),
        done: Mutex::default(),
        changed: Condvar::new(),
        stop: AtomicBool::new(false),
        failure: Mutex::new(None),
    };
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| work.run(env));
        }
    });
    match work.failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(unmade) => Err(unmade),
        None => Ok(()),
    }
}

/// Inflating takes a core per layer; one more stream than cores hides the registry's pauses. More than six only
/// cost memory.
fn workers() -> usize {
    std::thread::available_parallelism().map_or(2, |cores| cores.get() + 1).min(6)
}

fn missing(env: &Environment<'_>, layers: &[LayerId]) -> Result<VecDeque<Task>, ImageError> {
    let mut tasks = VecDeque::new();
    for (position, layer) in layers.iter().enumerate() {
        if env.store.index().layer(layer)?.is_some() {
            continue;
        }
        let (diff_id, chain) =
            record::chain(env.store, layer)?.ok_or_else(|| StoreError::NoLayer(layer.clone()))?;
        let below = layers[..position].to_vec();
        let stands_on_task = tasks.back().is_some_and(|task: &Task| below.last() == Some(&task.layer));
        tasks.push_back(Task { layer: layer.clone(), diff_id, chain, below, stands_on_task });
    }
    Ok(tasks)
}

impl Work {
    fn run(&self, env: &Environment<'_>) {
        loop {
            // Taken from the bottom up: what is waited for was always begun.
            let Some(task) = locked(&self.queue).pop_front() else { return };
            let outcome = self.layer(env, &task);
            match outcome {
                Ok(()) => {
                    locked(&self.done).insert(task.layer);
                }
                Err(error) => {
                    // The first to stop the others says why; what they say then is only that they were stopped.
                    if !self.stop.swap(true, Ordering::SeqCst) {
                        *locked(&self.failure) = Some(Unmade { layer: Some(task.layer), error });
                    }
                    locked(&self.queue).clear();
                }
            }
            self.changed.notify_all();
        }
    }

    fn layer(&self, env: &Environment<'_>, task: &Task) -> Result<(), ImageError> {
        let Some(_lease) = self.acquire(env, task)? else { return Ok(()) };
        let sources = content::sources(env, task.diff_id, None)?;
        let options = UnpackOptions::default();
        let unpacked = content::with_source(
            env,
            TransferKind::Pull,
            task.diff_id,
            &sources,
            &self.stop,
            |reader, compression| {
                Ok(unpack(env.store, task.chain, task.diff_id, compression, reader, &options)?)
            },
        )?;
        if let Some(below) = task.below.last() {
            self.wait_for(env, below, task.stands_on_task)?;
        }
        unpacked.finish(env.store, &task.below)?;
        Ok(record::chain_is_unpacked(env.store, task.diff_id, task.chain)?)
    }

    /// The lock of a layer, or nothing when the layer is there already.
    fn acquire(&self, env: &Environment<'_>, task: &Task) -> Result<Option<Lease>, ImageError> {
        let locks = FileLocks::new(env.store.lock_dir());
        let name = format!("layer-{}", task.layer);
        let me = Holder {
            pid: std::process::id(),
            host: crate::clock::host_name(),
            since: crate::clock::now(),
            what: format!("layer {}", task.diff_id.0.short()),
        };
        self.check(env)?;
        // Nobody is told: whoever unpacks it shows how far it is.
        let gives_up = || self.check(env).is_err();
        let waiter = Waiter { me: &me, hears: &mut |_| (), gives_up: &gives_up };
        let lease = locks.acquire(&name, Hold::Alone, waiter)?.ok_or(ImageError::Canceled)?;
        // Somebody else may have unpacked it just before.
        let is_there = env.store.index().layer(&task.layer)?.is_some();
        Ok((!is_there).then_some(lease))
    }

    /// Waits until a layer is in place, by our hand or that of another process.
    fn wait_for(&self, env: &Environment<'_>, layer: &LayerId, is_task: bool) -> Result<(), ImageError> {
        loop {
            if env.store.index().layer(layer)?.is_some() {
                return Ok(());
            }
            if !is_task {
                // It was there when we began and was removed since: nobody is going to bring it back.
                return Err(StoreError::NoLayer(layer.clone()).into());
            }
            self.check(env)?;
            let done = locked(&self.done);
            if !done.contains(layer) {
                // Nobody tells us of another process's work, so we look now and then.
                drop(self.changed.wait_timeout(done, Duration::from_millis(20)));
            }
        }
    }

    fn check(&self, env: &Environment<'_>) -> Result<(), ImageError> {
        if self.stop.load(Ordering::SeqCst) || env.cancellation.is_requested() {
            return Err(ImageError::Canceled);
        }
        Ok(())
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind these locks is changed in single steps, so a panic elsewhere leaves it whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
