use std::sync::mpsc::{Sender, sync_channel};

use strake_graph::StepId;

use super::Message;
use crate::error::StepError;
use crate::event::Event;
use crate::lock::{Attempt, FileLocks, Lease};
use crate::step::{Build, Inputs, Miss, Resolved};

/// Takes a step that missed to its end. Starts with a slot; says whether it still has one when it ends.
pub(crate) fn run(build: &Build<'_>, step: StepId, inputs: &Inputs, miss: Miss, loop_: &Sender<Message>) {
    let mut worker = Worker { build, step, loop_, held_slot: true };
    let result = worker.locked_run(inputs, miss);
    // Only fails when the loop is gone, and then nobody asks.
    let _ = loop_.send(Message::Finished { step, held_slot: worker.held_slot, result });
}

struct Worker<'a> {
    build: &'a Build<'a>,
    step: StepId,
    loop_: &'a Sender<Message>,
    held_slot: bool,
}

impl Worker<'_> {
    fn locked_run(&mut self, inputs: &Inputs, miss: Miss) -> Result<Resolved, StepError> {
        let (_lease, waited) = self.lock(&miss)?;
        // Whoever held the lock has most likely built the very step. Even without waiting somebody may have finished
        // it between our look and our lock.
        if let Some(resolved) = self.build.look_again(self.step, inputs, miss.signature)? {
            self.build.event(Event::StepCached(self.step));
            return Ok(resolved);
        }
        if waited && !self.wait_for_slot() {
            return Err(StepError::Cancelled);
        }
        self.build.execute(self.step, inputs, miss)
    }

    /// Takes the step's lock. While somebody else has it, the slot is given back and the user is told who.
    fn lock(&mut self, miss: &Miss) -> Result<(Lease, bool), StepError> {
        let name = miss.signature.to_string();
        let me = self.build.holder(self.step);
        let mut told = None;
        for attempt in 0.. {
            match self.build.locks.try_acquire(&name, &me)? {
                Attempt::Held(lease) => return Ok((lease, attempt > 0)),
                Attempt::Busy(holder) => {
                    if attempt == 0 {
                        self.held_slot = false;
                        let _ = self.loop_.send(Message::Parked);
                    }
                    if told != holder
                        && let Some(holder) = holder
                    {
                        self.build.event(Event::StepWaiting(self.step, holder.clone()));
                        told = Some(holder);
                    }
                }
            }
            if self.build.is_stopping() {
                return Err(StepError::Cancelled);
            }
            std::thread::sleep(FileLocks::pause(attempt));
        }
        unreachable!("the attempts do not end by themselves")
    }

    fn wait_for_slot(&mut self) -> bool {
        let (answer, granted) = sync_channel(1);
        let asked = self.loop_.send(Message::WantsSlot(self.step, answer)).is_ok();
        self.held_slot = asked && granted.recv().unwrap_or(false);
        self.held_slot
    }
}
