use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Hears how a transfer advances. Called on the thread that asked for the transfer, or on the one that reads.
pub trait Progress: Sync {
    /// So many more bytes were transferred.
    fn advance(&self, bytes: u64);
    /// The transfer begins again from its first byte.
    fn restart(&self) {}
}

/// Nobody listens.
impl Progress for () {
    fn advance(&self, _bytes: u64) {}
}

/// What a client has done so far, for reports and tests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Transfers {
    /// HTTP requests sent, tokens and redirects included.
    pub requests: u64,
    /// Bytes of bodies received.
    pub received: u64,
    /// Bytes of bodies sent.
    pub sent: u64,
    /// Requests that were repetitions after a failure.
    pub retries: u64,
    /// Tokens fetched.
    pub tokens: u64,
}

/// Something the user may want to know while a call is still running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A request failed and is repeated.
    Retry {
        /// What was being done.
        operation: String,
        /// Why it is repeated.
        reason: String,
        /// How long we wait first.
        delay: Duration,
    },
    /// A mirror could not answer; the next one or the registry itself is asked.
    MirrorSkipped {
        /// The mirror.
        host: String,
        /// Why.
        reason: String,
    },
}

/// The live counters behind [`Transfers`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) requests: AtomicU64,
    pub(crate) received: AtomicU64,
    pub(crate) sent: AtomicU64,
    pub(crate) retries: AtomicU64,
    pub(crate) tokens: AtomicU64,
}

impl Counters {
    pub(crate) fn snapshot(&self) -> Transfers {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Transfers {
            requests: read(&self.requests),
            received: read(&self.received),
            sent: read(&self.sent),
            retries: read(&self.retries),
            tokens: read(&self.tokens),
        }
    }
}
