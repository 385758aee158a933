//! Locks that machines share, so that each step is carried out by one of them.
//!
//! They only save work: whoever cannot have a lock because nobody answers goes on without it, and what two machines
//! then make is right twice. `docs/coordination.md` has the protocol.

use std::time::{Duration, Instant};

use strake_etcd::{Attempt, EtcdError, LockGuard};

use super::Remote;
use crate::event::Holder;
use crate::lock::{Waiter, Waiting};
use crate::signature::Signature;

/// How long etcd is left alone after it failed.
const PAUSE: Duration = Duration::from_secs(20);

/// The longest single wait; then the lock is tried again, whatever was heard.
const WAIT: Duration = Duration::from_secs(60);

impl Remote<'_> {
    /// Takes the lock that all machines share for a step, however long that takes. Nothing when there is no such lock,
    /// nobody who keeps it answers, or the waiter gave up.
    pub(crate) fn lock(&self, signature: Signature, waiter: Waiter<'_>) -> Option<LockGuard> {
        let coordinator = self.request.sharing.coordinator.as_ref()?;
        let repository = self.request.sharing.repository.as_ref()?;
        let name = self.tag(repository, signature).to_string();
        let me = strake_etcd::Holder {
            host: waiter.me.host.clone(),
            pid: waiter.me.pid,
            since: waiter.me.since,
            what: waiter.me.what.clone(),
        };
        let mut told = None;
        loop {
            if (waiter.gives_up)() || self.is_uncoordinated() {
                return None;
            }
            let busy = match coordinator.try_lock(&name, &me) {
                Ok(Attempt::Held(guard)) => return Some(guard),
                Ok(Attempt::Busy(busy)) => busy,
                Err(error) => return self.lost(&error),
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
            if let Err(error) = coordinator.wait(&busy, WAIT, waiter.gives_up) {
                return self.lost(&error);
            }
        }
    }

    /// Whether etcd failed just now, so that it is not asked.
    fn is_uncoordinated(&self) -> bool {
        self.state().uncoordinated_until.is_some_and(|until| Instant::now() < until)
    }

    fn lost(&self, error: &EtcdError) -> Option<LockGuard> {
        self.state().uncoordinated_until = Some(Instant::now() + PAUSE);
        self.warn(format!("{error}; the build goes on without knowing what other machines do"));
        None
    }
}

fn holder(holder: &strake_etcd::Holder) -> Holder {
    let strake_etcd::Holder { host, pid, since, what } = holder.clone();
    Holder { pid, host, since, what }
}
