//! Locks that commands on stage files take, each with a name that people can read.

use std::cell::Cell;
use std::time::{Duration, Instant};

use strake_engine::lock::{FileLocks, Hold, Lease, SharedLease, SharedLocks, Waiter, Waiting};
use strake_engine::{Event, Holder};
use strake_oci::{Digest, Reference};

use crate::failure::{Failure, Kind};
use crate::project::Project;
use crate::session::Session;

/// How long a command waits for another one that works on a repository.
const REPOSITORY_TIMEOUT: Duration = Duration::from_secs(600);

/// Takes locks of this machine.
#[derive(Debug, Clone, Copy)]
pub(super) struct Resources<'a> {
    pub(super) session: &'a Session,
    /// How long to wait.
    pub(super) timeout: Duration,
}

impl<'a> Resources<'a> {
    pub(super) fn new(session: &'a Session, seconds: u64) -> Self {
        Self { session, timeout: Duration::from_secs(seconds) }
    }

    /// The images of a project: shared by whoever makes or moves some, alone for whoever deletes.
    pub(super) fn images(&self, project: &Project, hold: Hold) -> Result<Lease, Failure> {
        self.take(&format!("{}.images", project.name), hold)
    }

    /// One image that is sent or fetched.
    pub(super) fn transfer(&self, remote: &Reference) -> Result<Lease, Failure> {
        self.take(&format!("image.{}", Digest::of(remote.to_string().as_bytes()).hex()), Hold::Alone)
    }

    /// A repository: alone for whoever deletes in it, shared by whoever compares the store with it.
    pub(super) fn repository(&self, repository: &Reference, hold: Hold) -> Result<Lease, Failure> {
        let own = Self { timeout: REPOSITORY_TIMEOUT, ..*self };
        own.take(&format!("repository {}/{}", repository.registry(), repository.repository()), hold)
    }

    /// Waits for a lock that machines share, and says what for. Nothing when nobody keeps it just now. Answers with it who
    /// was waited for last, if anybody.
    ///
    /// # Errors
    /// When it is not free in time, or the command is stopped.
    pub(super) fn take_shared(
        &self,
        locks: &SharedLocks,
        resource: &str,
    ) -> Result<Option<(SharedLease, Option<Holder>)>, Failure> {
        let warn = |text| self.session.ui.event(&Event::Warning(text));
        let (lease, holder) = self.wait(resource, |waiter| locks.acquire(resource, waiter, &warn))?;
        Ok(lease.map(|lease| (lease, holder)))
    }

    /// Waits for a lock, and says what for.
    ///
    /// # Errors
    /// When it is not free in time, or the command is stopped.
    pub(super) fn take(&self, resource: &str, hold: Hold) -> Result<Lease, Failure> {
        let locks = FileLocks::new(self.session.store.lock_dir());
        // A file's name has fewer letters than a project's name may have.
        let file = format!("stage-{}", Digest::of(resource.as_bytes()).hex());
        let (lease, _) = self.wait(resource, |waiter| locks.acquire(&file, hold, waiter))?;
        lease
            .map_err(|error| Failure::environment(error.to_string()))?
            .ok_or_else(|| Failure::new(Kind::Interrupted, "stopped while waiting for a lock"))
    }

    /// Waits for a lock, says what for, and for how long it was. Answers who was waited for last, too.
    fn wait<T>(
        &self,
        resource: &str,
        take: impl FnOnce(Waiter<'_>) -> T,
    ) -> Result<(T, Option<Holder>), Failure> {
        let me = Holder::of_this_process(resource);
        let begun = Instant::now();
        let mut last = None;
        let mut hears = |waiting: Waiting| {
            let who = match waiting {
                Waiting::Begun => return,
                Waiting::For(holder) => holder,
            };
            let Holder { pid, host, .. } = &who;
            let text = format!("waiting for locked resource `{resource}` ... (process {pid} on {host})");
            self.session.ui.event(&Event::Warning(text));
            last = Some(who);
        };
        let cancelled = || self.session.cancellation.is_requested();
        let ran_out = Cell::new(false);
        let gives_up = || {
            ran_out.set(begun.elapsed() >= self.timeout);
            cancelled() || ran_out.get()
        };
        let taken = take(Waiter { me: &me, hears: &mut hears, gives_up: &gives_up });
        if cancelled() {
            return Err(Failure::new(Kind::Interrupted, "stopped while waiting for a lock"));
        }
        if ran_out.get() {
            let seconds = self.timeout.as_secs();
            return Err(Failure::environment(format!("`{resource}` is still locked after {seconds} s"))
                .hint("wait longer with --lock-timeout SECONDS"));
        }
        if last.is_some() {
            let seconds = begun.elapsed().as_secs_f64();
            self.session.ui.event(&Event::Phase(format!("got `{resource}` after {seconds:.1} s")));
        }
        Ok((taken, last))
    }
}
