//! Locks that machines share, so that each step or stage is made by one of them.
//!
//! They only save work: whoever cannot have a lock because nobody answers goes on without it, and what two machines
//! then make is right twice. `docs/coordination.md` has the protocol.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use strake_etcd::{Attempt, Coordinator, EtcdConfig, EtcdError, LockGuard};

use super::{Waiter, Waiting};
use crate::event::Holder;
use crate::outage::Outage;

/// The longest single wait; then the lock is tried again, whatever was heard.
const WAIT: Duration = Duration::from_secs(60);

/// A lock among machines; dropping it lets go.
#[derive(Debug)]
pub struct SharedLease {
    _guard: LockGuard,
}

/// The locks that machines share through one etcd.
#[derive(Debug)]
pub struct SharedLocks {
    coordinator: Coordinator,
    outage: Mutex<Outage>,
}

impl SharedLocks {
    /// Locks in this etcd. Nothing is sent before the first one.
    pub fn new(config: EtcdConfig) -> Self {
        Self { coordinator: Coordinator::new(config), outage: Mutex::default() }
    }

    /// Takes a lock, however long that takes. Nothing when the waiter gave up, or etcd does not answer: then `warn`
    /// hears of it, and for a while no more is asked.
    pub fn acquire(&self, name: &str, waiter: Waiter<'_>, warn: &dyn Fn(String)) -> Option<SharedLease> {
        let me = strake_etcd::Holder {
            host: waiter.me.host.clone(),
            pid: waiter.me.pid,
            since: waiter.me.since,
            what: waiter.me.what.clone(),
        };
        let mut told = None;
        loop {
            if (waiter.gives_up)() || self.outage().is_on(Instant::now()) {
                return None;
            }
            let attempt = match self.coordinator.try_lock(name, &me) {
                Ok(attempt) => attempt,
                Err(error) => return self.lost(&error, warn),
            };
            self.outage().answered();
            let busy = match attempt {
                Attempt::Held(guard) => return Some(SharedLease { _guard: guard }),
                Attempt::Busy(busy) => busy,
            };
            if told.is_none() {
                (waiter.hears)(Waiting::Begun);
            }
            let holder = busy.holder.as_ref().map(holder);
            if told.as_ref() != Some(&holder) {
                if let Some(holder) = holder.clone() {
                    (waiter.hears)(Waiting::For(holder));
                }
                told = Some(holder);
            }
            if let Err(error) = self.coordinator.wait(&busy, WAIT, waiter.gives_up) {
                return self.lost(&error, warn);
            }
        }
    }

    fn outage(&self) -> MutexGuard<'_, Outage> {
        // Every change is whole, so a panic elsewhere leaves it right.
        self.outage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lost(&self, error: &EtcdError, warn: &dyn Fn(String)) -> Option<SharedLease> {
        let is_news = self.outage().failed(Instant::now());
        if is_news {
            warn(format!("{error}; the build goes on without knowing what other machines do"));
        }
        None
    }
}

fn holder(holder: &strake_etcd::Holder) -> Holder {
    let strake_etcd::Holder { host, pid, since, what } = holder.clone();
    Holder { pid, host, since, what }
}
