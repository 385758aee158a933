//! Waiting until a lock may be free.
//!
//! A waiter watches the one key, from the revision at which it saw it taken: no change can slip in between, and etcd
//! tells within a round trip. A poll as prompt would cost hundreds of requests a second among some waiting nodes. What
//! a stream cannot tell is that its peer is gone without a word, so that once in a while the key is asked for. All who
//! wait for one key wake at once and try once each: as many requests as there are nodes.

use std::pin::pin;
use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use crate::EtcdError;
use crate::answer::{Found, Watched, base64};
use crate::coordinator::Busy;
use crate::failure::Failure;
use crate::stream::Messages;
use crate::transport::{Question, Transport};

/// How often a waiter asks whether it should give up: quicker than anybody notices.
const CHECK: Duration = Duration::from_millis(50);

/// Between streams that broke at once.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// The lock was let go, or has changed hands.
    Changed,
    /// It was held all the time.
    TimedOut,
    /// The waiter gave up.
    GaveUp,
}

pub(crate) async fn wait(
    transport: &Transport,
    busy: &Busy,
    most: Duration,
    gives_up: &dyn Fn() -> bool,
) -> Result<Waited, EtcdError> {
    let begun = Instant::now();
    let mut changed = pin!(changed(transport, busy));
    loop {
        if gives_up() {
            return Ok(Waited::GaveUp);
        }
        let left = most.saturating_sub(begun.elapsed());
        if left.is_zero() {
            return Ok(Waited::TimedOut);
        }
        if let Ok(ended) = timeout(CHECK.min(left), changed.as_mut()).await {
            return ended.map(|()| Waited::Changed);
        }
    }
}

/// Ends when the lock is no longer held as it was seen. Fails when etcd is out of reach for longer than a lease lasts:
/// by then the lock says nothing any more.
async fn changed(transport: &Transport, busy: &Busy) -> Result<(), EtcdError> {
    let patience = transport.config.lease_ttl;
    let (mut since, mut answered, mut pause) = (busy.seen, Instant::now(), FIRST_PAUSE);
    loop {
        let opened = Instant::now();
        match timeout(patience, is_deleted(transport, busy, since + 1)).await {
            Ok(true) => return Ok(()),
            Err(_) => pause = FIRST_PAUSE,
            Ok(false) => {
                if opened.elapsed() > LONGEST_PAUSE {
                    pause = FIRST_PAUSE;
                }
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
        match look(transport, busy).await {
            Ok(found) => match found.kvs.first() {
                Some(key) if key.create_revision == busy.created => {
                    (since, answered) = (found.header.revision.max(since), Instant::now());
                }
                _ => return Ok(()),
            },
            Err(error) if error.is_passing() && answered.elapsed() < patience => {}
            Err(error) => return Err(error),
        }
    }
}

/// Watches the key; false when the stream ends without having told of its end.
async fn is_deleted(transport: &Transport, busy: &Busy, since: i64) -> bool {
    let operation = format!("watch {}", busy.key);
    let body = json!({ "create_request": {
        "key": base64(busy.key.as_bytes()), "start_revision": since.to_string(), "filters": ["NOPUT"],
    } });
    let question = Question { operation: &operation, path: "watch", body: &body };
    let response = match transport.open(&question).await {
        Ok(response) => response,
        Err(Failure::Final(error) | Failure::Passing(error) | Failure::Stranger(error)) => {
            tracing::debug!(target: "etcd", %error, "no stream");
            return false;
        }
    };
    let mut messages = Messages::new(response);
    while let Some(message) = messages.next::<Watched>().await {
        if message.events.iter().any(|event| event.kind == "DELETE") {
            return true;
        }
        // Compacted, or a token that has expired: the question that follows finds out.
        if message.canceled {
            return false;
        }
    }
    false
}

async fn look(transport: &Transport, busy: &Busy) -> Result<Found, EtcdError> {
    let operation = format!("ask who holds {}", busy.key);
    let body = json!({ "key": base64(busy.key.as_bytes()) });
    let question = Question { operation: &operation, path: "kv/range", body: &body };
    transport.ask(&question, transport.config.timeouts.operation).await
}
