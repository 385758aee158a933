//! The one place where threads meet async.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::task::Poll;

use tokio::runtime::{Builder, Handle};
use tokio::sync::watch;

use crate::{ErrorKind, RegistryError};

/// An async runtime that starts when it is first needed, and a way to end everything that runs on it.
#[derive(Debug)]
pub(crate) struct Runtime {
    started: Mutex<Option<tokio::runtime::Runtime>>,
    cancelled: watch::Sender<bool>,
}

impl Runtime {
    pub(crate) fn new() -> Self {
        Self { started: Mutex::new(None), cancelled: watch::Sender::new(false) }
    }

    /// Whether anything was ever asked of it.
    pub(crate) fn is_started(&self) -> bool {
        self.started.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// A handle to the runtime, started if it was not.
    pub(crate) fn handle(&self) -> Result<Handle, RegistryError> {
        let mut started = self.started.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = &*started {
            return Ok(runtime.handle().clone());
        }
        let runtime = start().map_err(|error| {
            RegistryError::new(ErrorKind::Local, "start network threads", error.to_string())
        })?;
        Ok(started.insert(runtime).handle().clone())
    }

    /// Runs a future to its end on the calling thread, unless everything is cancelled first.
    pub(crate) fn block_on<T>(
        &self,
        operation: &str,
        future: impl Future<Output = Result<T, RegistryError>>,
    ) -> Result<T, RegistryError> {
        self.handle()?.block_on(or_cancelled(self.cancelled.subscribe(), operation, future))
    }

    /// A receiver that turns true when everything is to end.
    pub(crate) fn cancellation(&self) -> watch::Receiver<bool> {
        self.cancelled.subscribe()
    }

    pub(crate) fn cancel(&self) {
        self.cancelled.send_replace(true);
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        let started = self.started.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = started.take() {
            // Name look-ups and credential helpers run on threads of the pool; nobody waits for them any more.
            runtime.shutdown_background();
        }
    }
}

/// Two threads: with one, decrypting several layers at once would be the bottleneck of a pull; with more, the
/// threads that inflate and hash would lose their cores.
fn start() -> io::Result<tokio::runtime::Runtime> {
    Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("registry")
        .thread_stack_size(512 << 10)
        .enable_io()
        .enable_time()
        .build()
}

/// The future's result, or `Cancelled` if the signal comes first.
pub(crate) async fn or_cancelled<T>(
    mut signal: watch::Receiver<bool>,
    operation: &str,
    future: impl Future<Output = Result<T, RegistryError>>,
) -> Result<T, RegistryError> {
    let mut future = pin!(future);
    let mut signal = pin!(signal.wait_for(|cancelled| *cancelled));
    poll_fn(|context| {
        if let Poll::Ready(Ok(_)) = signal.as_mut().poll(context) {
            return Poll::Ready(Err(RegistryError::new(ErrorKind::Cancelled, operation, "interrupted")));
        }
        future.as_mut().poll(context)
    })
    .await
}
