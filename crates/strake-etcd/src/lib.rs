//! Locks that several nodes share, kept in etcd (v3, by way of its JSON gateway).
//!
//! A lock is a key bound to the lease of the process that holds it. The lease is kept alive while the process lives
//! and can reach etcd; when it ends, etcd removes the key and somebody else may have the lock. Whoever held it is told
//! by [`LockGuard::is_held`], and no later than anybody else could have got it: the time is counted here from before
//! the request that extended the lease, by a clock that runs on while the machine is suspended.
//!
//! Locks only save work. A process that was frozen between asking `is_held` and acting acts without the lock, and no
//! clock can help that; so nothing that is published may be wrong because two publish it. `docs/coordination.md` has
//! the protocol, `tests/model` proves it.
//!
//! Every public function blocks, for a bounded time. The async runtime behind them is this crate's own affair: it has
//! one thread, which starts with the first lock and also keeps the lease alive.

mod coordinator;

mod config;
mod error;
mod secret;

mod claim;
mod lease;
mod wait;

mod answer;
mod failure;
mod stream;
mod transport;

mod clock;
mod runtime;
mod tls;

pub use claim::Holder;
pub use config::{EtcdConfig, Timeouts, TlsFiles};
pub use coordinator::{Attempt, Busy, Coordinator, LockGuard};
pub use error::{ErrorKind, EtcdError};
pub use secret::Secret;
pub use wait::Waited;
