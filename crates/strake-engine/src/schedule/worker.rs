use std::sync::mpsc::{Sender, sync_channel};
use std::time::Instant;

use strake_graph::StepId;

use super::Message;
use crate::error::StepError;
use crate::event::{Event, Holder};
use crate::lock::{Hold, Lease, SharedLease, Waiter, Waiting};
use crate::remote::Missing;
use crate::signature::Signature;
use crate::step::{Build, Inputs, Miss, Resolved};

/// Takes a step that missed to its end. Starts with a slot; says whether it still has one when it ends.
pub(crate) fn run(build: &Build<'_>, step: StepId, inputs: &Inputs, miss: Miss, loop_: &Sender<Message>) {
    let signature = miss.signature;
    let mut worker = Worker { build, step, loop_, held_slot: true };
    let (result, made) = match worker.locked_run(inputs, miss) {
        Ok(Outcome::Found(resolved)) => (Ok(resolved), None),
        Ok(Outcome::Made(resolved, made)) => (Ok(resolved), Some(made)),
        Err(error) => (Err(error), None),
    };
    let published = made.as_ref().filter(|_| build.remote.is_told());
    let publishing = published.map(|made| build.remote.will_publish(signature, made.missing));
    let (step, held_slot) = (worker.step, worker.held_slot);
    // Only fails when the loop is gone, and then nobody asks.
    let is_published = publishing.is_some();
    let _ = loop_.send(Message::Finished { step, held_slot, is_published, result });
    if let Some(publishing) = publishing {
        build.publish(step, inputs, signature);
        drop(publishing);
        let _ = loop_.send(Message::Published);
    }
    // Whoever waits for the step on another machine looks for it in the registry.
    drop(made);
}

/// How a step that missed ended well.
enum Outcome {
    /// Somebody else made it meanwhile.
    Found(Resolved),
    /// It was carried out; the lock is held until all have what they need.
    Made(Resolved, Made),
}

struct Made {
    _locks: StepLocks,
    missing: Missing,
}

/// The locks of a step: on this machine, and among all machines. The latter is let go first: whoever waits for it here
/// then finds the step in the store.
struct StepLocks {
    shared: Option<SharedLease>,
    _here: Lease,
}

struct Worker<'a> {
    build: &'a Build<'a>,
    step: StepId,
    loop_: &'a Sender<Message>,
    held_slot: bool,
}

impl Worker<'_> {
    fn locked_run(&mut self, inputs: &Inputs, miss: Miss) -> Result<Outcome, StepError> {
        let lease = self.lock(&miss.signature.to_string(), Hold::Alone)?;
        let (shared, holder) = self.lock_shared(miss.signature);
        let locks = StepLocks { _here: lease, shared };
        let missing = match self.look_again(inputs, miss.signature, &locks)? {
            Ok(resolved) => {
                self.build.event(Event::StepCached(self.step));
                return Ok(Outcome::Found(resolved));
            }
            Err(missing) => missing,
        };
        if let Some(holder) = holder {
            self.tell_of(&holder);
        }
        let caches = self.build.cache_locks(self.step, inputs)?;
        let caches = caches.iter().map(|(name, hold)| self.lock(name, *hold)).collect::<Result<_, _>>()?;
        if !self.held_slot && !self.wait_for_slot() {
            return Err(StepError::Cancelled);
        }
        let signature = miss.signature;
        let resolved = self.build.execute(self.step, inputs, miss, caches)?;
        // What came out as it did before, or took the place of what was no good, may have been built upon by anybody.
        let is_first = resolved.canonical == signature && !self.build.remote.is_off(signature);
        let missing = if is_first { missing } else { Missing::Unknown };
        Ok(Outcome::Made(resolved, Made { _locks: locks, missing }))
    }

    /// Looks with the locks held. Whoever held one before us has most likely built the very step, and even without
    /// waiting somebody may have finished it between our look and our lock.
    fn look_again(
        &self,
        inputs: &Inputs,
        signature: Signature,
        locks: &StepLocks,
    ) -> Result<Result<Resolved, Missing>, StepError> {
        let (build, step) = (self.build, self.step);
        let now = Instant::now();
        let is_locked = locks.shared.is_some();
        let known = match is_locked {
            // Who has waited has no slot any more, and all reason to look.
            _ if !self.held_slot => None,
            true => build.missing_above(step, inputs).filter(|known| matches!(known, Missing::Locked)),
            false => build.remote.just_missing(signature).or_else(|| build.missing_above(step, inputs)),
        };
        let found = match known {
            Some(_) => build.look_here(step, inputs, signature)?,
            None => build.look_again(step, inputs, signature)?,
        };
        // Who did not answer may have it.
        let is_certain = known.is_some() || build.remote.was_absent_since(signature, now);
        let missing = match known {
            _ if !is_certain => Missing::Unknown,
            _ if is_locked => Missing::Locked,
            Some(known @ Missing::Since(_)) => known,
            _ => Missing::Since(now),
        };
        Ok(found.ok_or(missing))
    }

    /// Takes a lock of this machine.
    fn lock(&mut self, name: &str, hold: Hold) -> Result<Lease, StepError> {
        let locks = &self.build.locks;
        self.waiting(|waiter| locks.acquire(name, hold, waiter))?.ok_or(StepError::Cancelled)
    }

    /// Takes the lock that machines share, if they share any. Answers who had it before, if anybody.
    fn lock_shared(&mut self, signature: Signature) -> (Option<SharedLease>, Option<Holder>) {
        let remote = self.build.remote;
        let mut last = None;
        let lease = self.waiting(|waiter| {
            let Waiter { me, hears, gives_up } = waiter;
            let mut hears = |waiting: Waiting| {
                if let Waiting::For(holder) = &waiting {
                    last = Some(holder.clone());
                }
                hears(waiting);
            };
            remote.lock(signature, Waiter { me, hears: &mut hears, gives_up })
        });
        let is_ours = lease.is_some();
        (lease, last.filter(|_| is_ours))
    }

    /// Says that who was waited for left nothing. Of a step that everybody carries out nobody expects anything.
    fn tell_of(&self, Holder { pid, host, .. }: &Holder) {
        let step = self.build.request.graph.step(self.step);
        if step.no_cache || self.build.is_stopping() {
            return;
        }
        let label = &step.label;
        self.build.event(Event::Warning(format!(
            "`{label}`: process {pid} on {host} is done with it, but its result is not to be found; it is built here"
        )));
    }

    /// Takes a lock. While somebody else has it, the slot is given back and the user is told who.
    fn waiting<T>(&mut self, take: impl FnOnce(Waiter<'_>) -> T) -> T {
        let (build, step) = (self.build, self.step);
        let mut hears = |waiting| match waiting {
            Waiting::Begun if self.held_slot => {
                self.held_slot = false;
                // Only fails when the loop is gone, and then nobody counts slots.
                let _ = self.loop_.send(Message::Parked);
            }
            Waiting::Begun => {}
            Waiting::For(holder) => build.event(Event::StepWaiting(step, holder)),
        };
        let gives_up = || build.is_stopping();
        take(Waiter { me: &build.holder(step), hears: &mut hears, gives_up: &gives_up })
    }

    fn wait_for_slot(&mut self) -> bool {
        let (answer, granted) = sync_channel(1);
        let asked = self.loop_.send(Message::WantsSlot(self.step, answer)).is_ok();
        self.held_slot = asked && granted.recv().unwrap_or(false);
        self.held_slot
    }
}
