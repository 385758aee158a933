//! Stopping a running container from another thread.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{EventfdFlags, eventfd};

/// A switch that, once thrown, kills every process of the containers it was given to, now and later.
///
/// Clones share one switch. Throwing it twice is the same as throwing it once.
#[derive(Debug, Clone)]
pub struct Cancel(Arc<Switch>);

#[derive(Debug)]
struct Switch {
    thrown: AtomicBool,
    /// Readable for ever once the switch is thrown, so that any number of runs can wait for it.
    event: Option<OwnedFd>,
}

impl Cancel {
    /// A switch that is not thrown.
    ///
    /// Without a free descriptor the switch still works between containers, but cannot interrupt one.
    pub fn new() -> Self {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).ok();
        Self(Arc::new(Switch { thrown: AtomicBool::new(false), event }))
    }

    /// Kills every process of the containers that run under this switch, and those that will be started.
    pub fn cancel(&self) {
        self.0.thrown.store(true, Ordering::SeqCst);
        if let Some(event) = &self.0.event {
            // The counter of the event can only be full if the switch was thrown before.
            let _ = rustix::io::write(event, &1u64.to_ne_bytes());
        }
    }

    /// Whether the switch is thrown.
    pub fn is_cancelled(&self) -> bool {
        self.0.thrown.load(Ordering::SeqCst)
    }

    pub(crate) fn event(&self) -> Option<BorrowedFd<'_>> {
        self.0.event.as_ref().map(AsFd::as_fd)
    }
}

impl Default for Cancel {
    fn default() -> Self {
        Self::new()
    }
}
