//! One loop owns all state and reads one channel.
//!
//! A step goes through *waiting* (for its inputs), *looking* (its signature is computed and looked up), and on a miss
//! *queued* (for one of the request's slots) and *running*. Looking is done in the loop itself when it needs no files
//! to be read: a build with nothing to do starts no thread for its `RUN` steps at all. Everything else happens on
//! scoped worker threads that answer through the channel; nothing is spawned and forgotten.
//!
//! ```text
//! waiting ──inputs done──▶ looking ──hit──────────────────────────────▶ done
//!                             └─miss──▶ queued ──slot──▶ running ──────▶ done | failed
//!                                          ▲                │ lock busy: gives its slot back, waits,
//!                                          └── wants slot ──┘ looks again when it has the step's lock
//! ```
//!
//! The slot of a step that waits for another one to build the same or to leave a cache mount is free for others, so
//! that waiting never blocks work. Everything is taken in one order: the step's lock (on this machine, then
//! the one that machines share), those of its cache mounts by
//! name, a slot, and last the layers it stands on, from the bottom up. Whoever has one of these waits only for what
//! comes later in the order; a slot that was had before is given back as soon as a lock is not free. So there is no
//! cycle to deadlock on.
//!
//! The first failure stops new work; steps that run are left to finish, so that what they made is kept. Cancelling
//! kills them.

mod plan;
mod worker;

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel};
use std::thread::Scope;
use std::time::Duration;
use strake_graph::{Op, StageId, StepId};
use strake_oci::HistoryEntry;

use crate::error::{BuildError, StepError, StepFailure};
use crate::event::{Event, Explanation};
use crate::remote::Remote;
use crate::request::{BuildOutput, BuildRequest, Environment, StageOutput};
use crate::step::{Build, Executed, Looked, Miss, Resolved};
use plan::Plan;

/// Builds what the request's targets need.
///
/// # Errors
/// The first failure of a step, or [`BuildError::Cancelled`]. Whatever was finished by then is kept for the next
/// build.
pub fn build(request: &BuildRequest, environment: &Environment<'_>) -> Result<BuildOutput, BuildError> {
    // A collection running beside may take an old result between our finding it and our saying that it is used.
    // What we found is marked as used before anything stands on it, so the second try can only lose to another one.
    const TRIES: usize = 5;
    let executed = Executed::default();
    let remote = Remote::new(request, environment);
    let (mut tries, mut refuted) = (1, 0);
    let result = loop {
        let result = build_once(request, environment, &executed, &remote);
        // Each step of a registry's is found to be no good once at most, so that this ends.
        tries = if remote.refuted() > refuted { 1 } else { tries + 1 };
        refuted = remote.refuted();
        if tries > TRIES || !result.as_ref().is_err_and(BuildError::is_pruned) {
            break result;
        }
    };
    // A step that failed may have fetched a lot before.
    remote.save_mounts();
    result
}

fn build_once(
    request: &BuildRequest,
    environment: &Environment<'_>,
    executed: &Executed,
    remote: &Remote<'_>,
) -> Result<BuildOutput, BuildError> {
    let plan = Plan::new(request, environment)?;
    (environment.events)(Event::Planned(plan.shown(&request.graph)));
    let build = Build::new(request, environment, executed, remote, plan.numbers());
    let resolved = std::thread::scope(|scope| {
        let (sender, receiver) = channel();
        let mut state = Loop {
            build: &build,
            plan,
            scope,
            sender,
            slots: request.jobs.get(),
            queue: Vec::new(),
            parked: Vec::new(),
            looking: 0,
            running: 0,
            publishing: 0,
            failure: None,
        };
        state.run(&receiver)
    });
    build.save_contexts();
    let resolved = resolved?;
    if !build.remember_used(&resolved)? {
        return Err(BuildError::Pruned);
    }
    build.share(&resolved)?;
    let stage = |target: &StageId| {
        let mut output = stage_output(request, *target, &resolved);
        if request.sharing.inline {
            output.annotations = build.inline(output.signature)?;
        }
        Ok(output)
    };
    let stages = request.graph.targets().iter().map(stage).collect::<Result<_, BuildError>>()?;
    Ok(BuildOutput { stages })
}

/// What workers tell the loop.
pub(crate) enum Message {
    /// A step was looked up.
    Looked(StepId, Result<Looked, StepError>),
    /// A running step waits for a lock and gave its slot back.
    Parked,
    /// A step that waited has all its locks now and wants a slot again. Answered with whether it may go on.
    WantsSlot(StepId, SyncSender<bool>),
    /// A step that ran, or found its result after waiting.
    Finished { step: StepId, held_slot: bool, is_published: bool, result: Result<Resolved, StepError> },
    /// A finished step was published, or could not be.
    Published,
}

struct Loop<'scope, 'env> {
    build: &'env Build<'env>,
    plan: Plan,
    scope: &'scope Scope<'scope, 'env>,
    sender: Sender<Message>,
    slots: usize,
    queue: Vec<(StepId, Miss)>,
    parked: Vec<(StepId, SyncSender<bool>)>,
    looking: usize,
    /// Threads that run or wait for a lock.
    running: usize,
    /// Threads that publish what is finished.
    publishing: usize,
    failure: Option<BuildError>,
}

impl<'scope, 'env> Loop<'scope, 'env> {
    fn run(&mut self, messages: &Receiver<Message>) -> Result<Vec<Option<Resolved>>, BuildError> {
        loop {
            self.start_what_can_start();
            if self.looking + self.running + self.publishing == 0 {
                break;
            }
            // The sender lives in `self`, so the channel cannot be closed.
            let message = messages.recv().expect("the loop itself holds a sender");
            self.apply(message);
        }
        match self.failure.take() {
            Some(failure) => Err(failure),
            None => Ok(self.plan.take_results()),
        }
    }

    fn stopped(&self) -> bool {
        self.failure.is_some() || self.build.environment.cancellation.is_requested()
    }

    fn start_what_can_start(&mut self) {
        while !self.stopped() {
            let Some(step) = self.plan.next_ready() else { break };
            self.look(step);
        }
        if self.stopped() {
            self.stop();
        }
        while self.slots > 0 && !self.stopped() {
            if let Some((step, answer)) = self.parked.pop() {
                if answer.send(true).is_ok() {
                    self.slots -= 1;
                    self.build.event(Event::StepStarted(step));
                }
                continue;
            }
            let Some(next) = self.plan.most_urgent(self.queue.iter().map(|(step, _)| *step)) else { break };
            let (step, miss) = self.queue.swap_remove(next);
            self.start(step, miss);
        }
    }

    /// Nothing new is started; whoever waits for a slot is sent home.
    fn stop(&mut self) {
        if self.failure.is_none() {
            self.failure = Some(BuildError::Cancelled);
        }
        for (step, _) in self.queue.drain(..) {
            self.build.event(Event::StepCanceled(step));
        }
        for (_, answer) in self.parked.drain(..) {
            // The waiter may have given up by itself.
            let _ = answer.send(false);
        }
    }

    fn look(&mut self, step: StepId) {
        let inputs = self.plan.inputs_of(step);
        if !self.build.must_read_files(step) {
            let looked = self.build.look(step, &inputs);
            return self.looked(step, looked);
        }
        let (build, sender) = (self.build, self.sender.clone());
        self.looking += 1;
        self.scope.spawn(move || {
            let looked = build.look(step, &inputs);
            // Only fails when the loop is gone, and then nobody asks.
            let _ = sender.send(Message::Looked(step, looked));
        });
    }

    fn start(&mut self, step: StepId, miss: Miss) {
        self.slots -= 1;
        self.running += 1;
        self.build.event(Event::StepStarted(step));
        let (build, sender) = (self.build, self.sender.clone());
        let inputs = self.plan.inputs_of(step);
        self.scope.spawn(move || worker::run(build, step, &inputs, miss, &sender));
    }

    fn apply(&mut self, message: Message) {
        match message {
            Message::Looked(step, looked) => {
                self.looking -= 1;
                self.looked(step, looked);
            }
            Message::Parked => self.slots += 1,
            Message::WantsSlot(step, answer) => self.parked.push((step, answer)),
            Message::Published => self.publishing -= 1,
            Message::Finished { step, held_slot, is_published, result } => {
                self.running -= 1;
                self.publishing += usize::from(is_published);
                self.slots += usize::from(held_slot);
                match result {
                    Ok(resolved) => self.done(step, resolved),
                    Err(error) => self.failed(step, error),
                }
            }
        }
    }

    fn looked(&mut self, step: StepId, looked: Result<Looked, StepError>) {
        match looked {
            Ok(Looked::Hit(resolved)) => {
                let built = resolved.built;
                if self.build.is_shown(step) {
                    self.build.event(Event::StepCached(step));
                } else if self.build.request.graph.step(step).position.is_some() {
                    // A base image: there is nothing to do but to know it.
                    self.build.event(Event::StepFinished(step, Duration::ZERO));
                }
                if self.build.request.explain && self.build.is_shown(step) {
                    self.build.event(Event::StepExplained(step, Explanation::Hit { built }));
                }
                if let Err(error) = self.publish_found(step, &resolved) {
                    return self.failed(step, error);
                }
                self.done(step, resolved);
            }
            Ok(Looked::Miss(miss)) => {
                let explanation = self.build.explain(step, &miss);
                self.build.event(Event::StepExplained(step, explanation));
                self.queue.push((step, miss));
            }
            Err(error) => self.failed(step, error),
        }
    }

    /// Publishes beside the build what is here and was never seen in the repository, so that nothing is lost when a
    /// later step fails.
    fn publish_found(&mut self, step: StepId, resolved: &Resolved) -> Result<(), StepError> {
        let Some(publishing) = self.build.will_publish_found(step, resolved.signature)? else {
            return Ok(());
        };
        let mut line = vec![(step, self.plan.inputs_of(step), resolved.signature)];
        while let Some((top, inputs, _)) = line.last()
            && let Some(base) = self.build.request.graph.step(*top).op.base()
            && self.build.is_shown(base)
        {
            let signature = inputs.get(base).signature;
            if self.build.is_taken_care_of(signature) {
                break;
            }
            line.push((base, self.plan.inputs_of(base), signature));
        }
        let (build, sender) = (self.build, self.sender.clone());
        self.publishing += 1;
        self.scope.spawn(move || {
            build.publish_found(&line);
            drop(publishing);
            // Only fails when the loop is gone, and then nobody counts.
            let _ = sender.send(Message::Published);
        });
        Ok(())
    }

    fn done(&mut self, step: StepId, resolved: Resolved) {
        self.plan.done(step, resolved);
    }

    fn failed(&mut self, id: StepId, error: StepError) {
        if error.is_cancelled() {
            self.build.event(Event::StepCanceled(id));
            return;
        }
        if !error.is_pruned() {
            self.build.event(Event::StepFailed(id, error.to_string()));
        }
        let step = self.build.request.graph.step(id);
        let (label, span) = (step.label.clone(), step.span);
        let error = match error {
            StepError::Process(failure) => BuildError::Failed(Box::new(StepFailure {
                step: id,
                label,
                stage: step.stage.clone(),
                span,
                command: failure.command,
                exit: failure.exit,
                log: failure.log,
                tail: failure.tail,
                left: failure.left,
            })),
            other => BuildError::Step { step: id, label, span, source: Box::new(other) },
        };
        self.build.stop_waiting();
        // Later failures were started before the first one was known; the first is the one to tell.
        self.failure.get_or_insert(error);
    }
}

fn stage_output(request: &BuildRequest, target: StageId, resolved: &[Option<Resolved>]) -> StageOutput {
    let stage = request.graph.stage(target);
    let result_of = |step: StepId| resolved[step.index()].as_ref().expect("a target's steps are all done");
    let result = result_of(stage.result);
    let mut config = strake_oci::ImageConfig::empty(&stage.platform);
    config.config = stage.config.clone();
    config.author = stage.author.clone();
    // An instruction that makes no layer is as old as the layer below it, so that the same build from the cache has
    // the same image ID on every run.
    let mut created: Option<String> = None;
    for entry in &stage.history {
        match entry {
            strake_graph::History::Inherited(entry) => {
                created = entry.created.clone().or(created);
                config.history.push(entry.clone());
            }
            strake_graph::History::Instruction { created_by, step } => {
                if let Some(step) = step {
                    let built = result_of(*step).built;
                    created = Some(crate::clock::rfc3339(Duration::from_secs(built)));
                }
                config.history.push(HistoryEntry {
                    created: created.clone(),
                    created_by: Some(created_by.clone()),
                    author: stage.author.clone(),
                    comment: None,
                    empty_layer: step.is_none(),
                });
            }
        }
    }
    config.created = created;
    StageOutput {
        name: stage.name.clone(),
        signature: result.signature,
        layers: result.layers.clone(),
        annotations: BTreeMap::new(),
        config,
    }
}

/// Whether a step makes a layer of its own.
pub(crate) fn makes_layer(op: &Op) -> bool {
    matches!(op, Op::Run(_) | Op::Copy(_) | Op::MakeDir(_) | Op::Place(_))
}
