//! The lease of this process, and what it owes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::json;

use crate::answer::{Done, Granted, Streamed};
use crate::claim::{Claim, Holder};
use crate::clock::Moment;
use crate::transport::{Question, Transport};
use crate::{ErrorKind, EtcdError};

/// How often a lease is extended within its time: two tries may fail.
const EXTENSIONS: u32 = 3;

/// A lease. Once lost it stays lost: whoever saw it lost may have told somebody.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) id: i64,
    state: Mutex<State>,
    claims: AtomicU64,
}

#[derive(Debug)]
struct State {
    /// Until when the lease certainly lasts: counted from before the question that was answered.
    until: Moment,
    lost: bool,
    /// Keys that may still stand although nobody here holds them: an answer or a farewell was lost.
    owed: Vec<Claim>,
}

impl Lease {
    /// Asks for a new lease.
    pub(crate) async fn grant(transport: &Transport) -> Result<Self, EtcdError> {
        let (operation, config) = ("ask etcd for a lease", &transport.config);
        let asked = Moment::now();
        let body = json!({ "TTL": config.lease_ttl.as_secs().to_string() });
        let question = Question { operation, path: "lease/grant", body: &body };
        let granted: Granted = transport.ask(&question, config.timeouts.operation).await?;
        if granted.id <= 0 || granted.ttl <= 0 {
            return Err(EtcdError::new(ErrorKind::Protocol, operation, "etcd grants a lease that is none"));
        }
        let until = asked.after(lasting(granted.ttl, config.lease_ttl));
        let state = Mutex::new(State { until, lost: false, owed: Vec::new() });
        Ok(Self { id: granted.id, state, claims: AtomicU64::new(0) })
    }

    /// Whether the lease certainly lasted at the moment of the question.
    pub(crate) fn is_held(&self) -> bool {
        !self.checked().lost
    }

    pub(crate) fn lose(&self) {
        self.state().lost = true;
    }

    pub(crate) fn claim(&self, key: String, holder: &Holder) -> Claim {
        Claim::new(key, holder, self.id, self.claims.fetch_add(1, Ordering::Relaxed))
    }

    /// Remembers a key to be removed when etcd can be reached again. With the lease it goes by itself.
    pub(crate) fn owe(&self, claim: Claim) {
        let mut state = self.checked();
        if !state.lost {
            state.owed.push(claim);
        }
    }

    fn extend(&self, until: Moment) {
        let mut state = self.checked();
        state.until = state.until.max(until);
    }

    /// The state, with a lease that has run out marked as lost.
    fn checked(&self) -> MutexGuard<'_, State> {
        let mut state = self.state();
        if state.until.left().is_zero() {
            state.lost = true;
        }
        state
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the lease, and with it all keys of this process.
    pub(crate) async fn revoke(&self, transport: &Transport) -> Result<(), EtcdError> {
        let body = json!({ "ID": self.id.to_string() });
        let question =
            Question { operation: "give the lease back to etcd", path: "lease/revoke", body: &body };
        transport.ask::<Done>(&question, transport.config.timeouts.release).await.map(drop)
    }
}

/// The time a lease lasts. A server may make it longer than was asked for; to believe in less is safe.
fn lasting(seconds: i64, asked: Duration) -> Duration {
    Duration::from_secs(seconds.unsigned_abs()).min(asked)
}

/// Extends the lease until it is lost, and pays what it owes.
pub(crate) async fn keep_alive(transport: Arc<Transport>, lease: Arc<Lease>) {
    let pause = transport.config.lease_ttl / EXTENSIONS;
    while lease.is_held() {
        tokio::time::sleep(pause).await;
        let asked = Moment::now();
        match extension(&transport, &lease).await {
            // With a time that has passed already, this finds it lost.
            Ok(lasts) if !lasts.is_zero() => {
                lease.extend(asked.after(lasts));
                settle(&transport, &lease).await;
            }
            Ok(_) => lease.lose(),
            Err(error) => tracing::warn!(target: "etcd", %error, "the lease is not extended"),
        }
    }
    tracing::warn!(target: "etcd", lease = lease.id, "the lease is lost");
}

/// How long the lease lasts from now; no time if it is gone.
async fn extension(transport: &Transport, lease: &Lease) -> Result<Duration, EtcdError> {
    // Nothing else is worth doing until the lease has run out.
    let most = lease.checked().until.left();
    let body = json!({ "ID": lease.id.to_string() });
    let question = Question { operation: "extend the lease", path: "lease/keepalive", body: &body };
    let answer: Streamed<Granted> = transport.ask(&question, most).await?;
    Ok(if answer.result.ttl <= 0 {
        Duration::ZERO
    } else {
        lasting(answer.result.ttl, transport.config.lease_ttl)
    })
}

/// Removes keys that nobody holds any more, as far as etcd answers.
async fn settle(transport: &Transport, lease: &Lease) {
    loop {
        let next = lease.checked().owed.pop();
        let Some(claim) = next else { return };
        if give_back(transport, &claim).await.is_err() {
            lease.owe(claim);
            return;
        }
    }
}

/// Removes a lock's key, if it is still the one of this claim.
pub(crate) async fn give_back(transport: &Transport, claim: &Claim) -> Result<(), EtcdError> {
    let operation = format!("unlock {}", claim.key);
    let body = claim.give_back();
    let question = Question { operation: &operation, path: "kv/txn", body: &body };
    transport.ask::<Done>(&question, transport.config.timeouts.release).await.map(drop)
}
