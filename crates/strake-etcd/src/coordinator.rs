//! Locks, as callers see them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use crate::answer::Transacted;
use crate::claim::{Claim, Holder, holder};
use crate::lease::{Lease, give_back, keep_alive};
use crate::runtime::Runtime;
use crate::transport::{Question, Transport};
use crate::wait::{Waited, wait};
use crate::{ErrorKind, EtcdConfig, EtcdError};

/// Locks in one etcd, under one lease for all of them.
#[derive(Debug)]
pub struct Coordinator {
    shared: Arc<Shared>,
}

/// What the coordinator and its guards share.
struct Shared {
    runtime: Runtime,
    transport: Arc<Transport>,
    lease: Mutex<Option<Arc<Lease>>>,
}

/// What one attempt gave.
#[derive(Debug)]
pub enum Attempt {
    /// The lock, until the guard is dropped.
    Held(LockGuard),
    /// Somebody has it.
    Busy(Busy),
}

/// A lock that somebody else has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Busy {
    /// Who; nothing if what stands there is none of ours.
    pub holder: Option<Holder>,
    pub(crate) key: String,
    /// The revision at which the key was made.
    pub(crate) created: i64,
    /// The revision at which this was seen.
    pub(crate) seen: i64,
}

/// A held lock; dropping it lets go, within a bounded time.
pub struct LockGuard {
    shared: Arc<Shared>,
    lease: Arc<Lease>,
    claim: Claim,
}

impl Coordinator {
    /// Locks in the etcd that `config` names. Nothing is sent before the first lock.
    pub fn new(config: EtcdConfig) -> Self {
        let transport = Arc::new(Transport::new(config));
        Self { shared: Arc::new(Shared { runtime: Runtime::default(), transport, lease: Mutex::new(None) }) }
    }

    /// Takes the lock `name` if it is free. `me` is what others will read while they wait.
    ///
    /// # Errors
    /// When etcd cannot be reached, does not let us, or answers nonsense; after [`Timeouts::operation`] for a lease
    /// and as long again for the lock at the latest. No error says that the lock is somebody else's, and none may stop
    /// a build: locks only save work.
    ///
    /// [`Timeouts::operation`]: crate::Timeouts::operation
    pub fn try_lock(&self, name: &str, me: &Holder) -> Result<Attempt, EtcdError> {
        let shared = &self.shared;
        shared.runtime.block_on(async {
            let lease = shared.lease().await?;
            match shared.attempt(lease, name, me).await {
                // The lease ended before we knew: with another one, once.
                Err(error) if error.kind == ErrorKind::LeaseLost => {
                    let lease = shared.lease().await?;
                    shared.attempt(lease, name, me).await
                }
                other => other,
            }
        })
    }

    /// Waits until the lock is no longer held as [`try_lock`](Self::try_lock) saw it, at most for `most`. `gives_up` is
    /// asked many times a second on the calling thread.
    ///
    /// # Errors
    /// When etcd cannot be reached for as long as a lease lasts, or does not let us.
    pub fn wait(
        &self,
        busy: &Busy,
        most: Duration,
        gives_up: &dyn Fn() -> bool,
    ) -> Result<Waited, EtcdError> {
        self.shared.runtime.block_on(wait(&self.shared.transport, busy, most, gives_up))
    }
}

impl Shared {
    /// The lease, a new one if there is none or it is lost. Others who need it wait meanwhile.
    async fn lease(&self) -> Result<Arc<Lease>, EtcdError> {
        let mut current = self.lease.lock().await;
        if let Some(lease) = current.as_ref().filter(|lease| lease.is_held()) {
            return Ok(Arc::clone(lease));
        }
        let lease = Arc::new(Lease::grant(&self.transport).await?);
        self.runtime.handle()?.spawn(keep_alive(Arc::clone(&self.transport), Arc::clone(&lease)));
        Ok(Arc::clone(current.insert(lease)))
    }

    async fn attempt(
        self: &Arc<Self>,
        lease: Arc<Lease>,
        name: &str,
        me: &Holder,
    ) -> Result<Attempt, EtcdError> {
        let operation = format!("lock {name}");
        let claim = lease.claim(format!("{}/{name}", self.transport.config.prefix), me);
        let body = claim.take(lease.id);
        let question = Question { operation: &operation, path: "kv/txn", body: &body };
        let answer = self.transport.ask(&question, self.transport.config.timeouts.operation).await;
        let answer: Transacted = match answer {
            Ok(answer) => answer,
            Err(error) => {
                match error.kind {
                    ErrorKind::LeaseLost => lease.lose(),
                    // It may have been carried out all the same.
                    _ if error.is_passing() => lease.owe(claim),
                    _ => {}
                }
                return Err(error);
            }
        };
        let Some(busy) = read(&operation, answer, &claim)? else {
            if !lease.is_held() {
                return Err(EtcdError::new(ErrorKind::LeaseLost, operation, "the lease ended meanwhile"));
            }
            return Ok(Attempt::Held(LockGuard { shared: Arc::clone(self), lease, claim }));
        };
        Ok(Attempt::Busy(busy))
    }
}

/// Who has the lock; nobody else when this claim has it, be it by an earlier try whose answer was lost.
fn read(operation: &str, answer: Transacted, claim: &Claim) -> Result<Option<Busy>, EtcdError> {
    if answer.succeeded {
        return Ok(None);
    }
    let found = answer.responses.into_iter().find_map(|response| response.range);
    let Some(standing) = found.and_then(|found| found.kvs.into_iter().next()) else {
        let detail = "etcd says that the lock is taken, but not by whom";
        return Err(EtcdError::new(ErrorKind::Protocol, operation, detail));
    };
    if standing.value == claim.value.as_bytes() {
        return Ok(None);
    }
    Ok(Some(Busy {
        holder: holder(&standing.value),
        key: claim.key.clone(),
        created: standing.create_revision,
        seen: answer.header.revision,
    }))
}

impl LockGuard {
    /// Whether the lock was certainly ours at the moment of the question. Once false it stays so.
    pub fn is_held(&self) -> bool {
        self.lease.is_held()
    }
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        let transport = &self.shared.transport;
        // Who hangs is not waited for once for each lock.
        let given_back =
            !transport.is_silent() && self.shared.runtime.block_on(give_back(transport, &self.claim)).is_ok();
        if !given_back {
            self.lease.owe(self.claim.clone());
        }
    }
}

/// All locks are let go by now. Their lease is given back too, so that none is left whose release was lost.
impl Drop for Shared {
    fn drop(&mut self) {
        let lease = self.lease.get_mut().take().filter(|lease| lease.is_held());
        if let Some(lease) = lease.filter(|_| !self.transport.is_silent())
            && let Err(error) = self.runtime.block_on(lease.revoke(&self.transport))
        {
            tracing::debug!(target: "etcd", %error, "the lease ends by itself");
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Shared").field("transport", &self.transport).finish_non_exhaustive()
    }
}

impl fmt::Debug for LockGuard {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("LockGuard").field("key", &self.claim.key).field("held", &self.is_held()).finish()
    }
}
