//! The one place where threads meet async.

use std::future::Future;
use std::io;
use std::sync::{Mutex, PoisonError};

use tokio::runtime::{Builder, Handle};

use crate::{ErrorKind, EtcdError};

/// An async runtime of one thread that starts when it is first needed.
#[derive(Debug, Default)]
pub(crate) struct Runtime {
    started: Mutex<Option<tokio::runtime::Runtime>>,
}

impl Runtime {
    pub(crate) fn handle(&self) -> Result<Handle, EtcdError> {
        let mut started = self.started.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = &*started {
            return Ok(runtime.handle().clone());
        }
        let runtime = start().map_err(|error| {
            EtcdError::new(ErrorKind::Local, "start a thread for etcd", error.to_string())
        })?;
        Ok(started.insert(runtime).handle().clone())
    }

    /// Runs a future to its end on the calling thread.
    pub(crate) fn block_on<T>(
        &self,
        future: impl Future<Output = Result<T, EtcdError>>,
    ) -> Result<T, EtcdError> {
        self.handle()?.block_on(future)
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        let started = self.started.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = started.take() {
            // A name look-up cannot be interrupted; nobody waits for it any more.
            runtime.shutdown_background();
        }
    }
}

/// One thread: requests are small and run on the threads that ask; this one drives sockets and keeps the lease alive.
fn start() -> io::Result<tokio::runtime::Runtime> {
    Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("etcd")
        .thread_stack_size(512 << 10)
        .enable_io()
        .enable_time()
        .build()
}
