//! What a command works with: store, registries, executor, progress, signals. Opened once, in the right order.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use strake_engine::{Cancellation, Environment, Event};
use strake_exec::userns::{self, UsernsError};
use strake_exec::{Executor, Options, OwnExecutor, RuncExecutor};
use strake_oci::Reference;
use strake_registry::{Client, Notice};
use strake_store::{Store, StoreOptions};

use crate::failure::{Failure, Kind};
use crate::report;
use crate::settings::{ExecutorChoice, Settings};
use crate::signals::Signals;
use crate::tidy::Tidying;
use crate::ui::{Ui, UiOptions};

/// A command that took this long may take a little longer to tidy the store.
const LONG: Duration = Duration::from_secs(1);

/// What a command works with.
#[derive(Debug)]
pub(crate) struct Session {
    /// What holds for this run.
    pub(crate) settings: Settings,
    /// The local store.
    pub(crate) store: Store,
    /// Shows what happens.
    pub(crate) ui: Arc<Ui>,
    /// Stops what runs.
    pub(crate) cancellation: Cancellation,
    registry: Arc<Client>,
    executor: Box<dyn Executor>,
    private_network: Result<(), String>,
    signals: Signals,
    started: Instant,
}

impl Session {
    /// Opens everything. An ordinary user moves into a user namespace first: that works only while the process has
    /// a single thread.
    ///
    /// # Errors
    /// When the machine lacks something, or the store cannot be used.
    pub(crate) fn open(settings: Settings, options: UiOptions) -> Result<Self, Failure> {
        let started = Instant::now();
        if !rustix::process::geteuid().is_root() {
            userns::enter().map_err(cannot_enter)?;
        }
        let store = Store::open(&settings.root, &StoreOptions { snapshotter: settings.snapshotter })?;
        let ui = Arc::new(Ui::new(options));
        for warning in &settings.warnings {
            ui.event(&Event::Warning(warning.clone()));
        }
        let listener = ui.clone();
        let notices = move |notice: &Notice| listener.event(&Event::Warning(notice_text(notice)));
        let registry = Arc::new(Client::with_notices(settings.registry()?, notices));
        let (executor, private_network) = executor(&settings);
        let cancellation = Cancellation::new();
        let (stop_build, stop_transfers, say) = (cancellation.clone(), registry.clone(), ui.clone());
        let signals = Signals::install(move || {
            stop_build.cancel();
            stop_transfers.cancel();
            say.event(&Event::Phase("stopping; once more stops at once".to_owned()));
        })?;
        Ok(Self { settings, store, ui, cancellation, registry, executor, private_network, signals, started })
    }

    /// Does something with the engine's environment.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&Environment<'_>) -> T) -> T {
        self.with_events(&|event: Event| self.ui.event(&event), work)
    }

    /// The same for what can be done without a registry: one that says nothing is given up soon.
    pub(crate) fn with_hurry<T>(&self, work: impl FnOnce(&Environment<'_>) -> T) -> T {
        let hurried = self.registry.hurried();
        self.with(|env| work(&Environment { registry: &hurried, ..*env }))
    }

    /// The same, with somebody else who hears what happens.
    pub(crate) fn with_events<T>(
        &self,
        events: &strake_engine::Events<'_>,
        work: impl FnOnce(&Environment<'_>) -> T,
    ) -> T {
        work(&Environment {
            store: &self.store,
            registry: &self.registry,
            executor: self.executor.as_ref(),
            events,
            cancellation: &self.cancellation,
            private_network: &self.private_network,
        })
    }

    /// What runs containers.
    pub(crate) fn executor(&self) -> &dyn Executor {
        self.executor.as_ref()
    }

    /// Whether containers can have a network of their own; otherwise why not.
    pub(crate) fn private_network(&self) -> &Result<(), String> {
        &self.private_network
    }

    /// Refuses registries that the machine's `registries.conf` blocks.
    ///
    /// # Errors
    /// When the reference is in a blocked registry or repository.
    pub(crate) fn permit(&self, reference: &Reference) -> Result<(), Failure> {
        let full = format!("{}/{}", reference.registry(), reference.repository());
        let is_below = |prefix: &&String| {
            full.strip_prefix(prefix.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        match self.settings.blocked.iter().find(is_below) {
            None => Ok(()),
            Some(prefix) => {
                let name = reference.familiar();
                Err(Failure::environment(format!("image {name}: registries.conf blocks {prefix}")))
            }
        }
    }

    /// Shows how the command ended, tidies up, and answers the exit status.
    pub(crate) fn conclude(&self, result: Result<u8, Failure>) -> u8 {
        let result = match (result, self.signals.verdict()) {
            // A command that was done before the signal could stop it is done.
            (Ok(code), _) => Ok(code),
            (Err(failure), None) => Err(failure),
            (Err(_), Some(Kind::Terminated)) => Err(Failure::new(Kind::Terminated, "terminated")),
            (Err(_), Some(kind)) => Err(Failure::new(kind, "interrupted")),
        };
        let code = match &result {
            Ok(code) => *code,
            Err(failure) => {
                self.ui.failure(failure);
                failure.kind.code()
            }
        };
        self.ui.finish();
        // A full disk may be full of what the failed command has thrown away: the next one must find it empty.
        let is_short = matches!(&result, Err(failure) if failure.kind == Kind::Environment);
        if is_short && self.store.needs_sweep() {
            if let Err(error) = self.store.sweep() {
                report::warn(&format!("tidy the store: {error}"));
            }
            return code;
        }
        if self.signals.verdict().is_none() {
            let tidying = Tidying { store: &self.store, limit: self.settings.auto_prune };
            let wrote_much = self.started.elapsed() >= LONG;
            if tidying.is_due() || wrote_much && self.store.needs_sweep() {
                tidying.later();
            }
        }
        code
    }
}

/// The executor that was chosen, and whether it offers private networks.
fn executor(settings: &Settings) -> (Box<dyn Executor>, Result<(), String>) {
    let program = PathBuf::from("/proc/self/exe");
    match &settings.executor {
        ExecutorChoice::Own => {
            let options = Options { pasta: settings.pasta.clone(), ..Options::default() };
            let own = OwnExecutor::new(program, options);
            let network = own.private_network_available();
            (Box::new(own), network)
        }
        ExecutorChoice::Runc(runc) => {
            let reason = format!("the executor {} does not offer one", runc.display());
            (Box::new(RuncExecutor::new(program, runc.clone())), Err(reason))
        }
    }
}

/// The failure for a machine on which an ordinary user cannot run strake.
pub(crate) fn cannot_enter(error: UsernsError) -> Failure {
    match error {
        UsernsError::Missing(missing) => {
            let what: Vec<_> = missing.iter().map(|missing| missing.what.clone()).collect();
            let failure = Failure::environment(format!("cannot run without root: {}", what.join("; ")));
            missing.into_iter().fold(failure, |failure, missing| failure.hint(missing.remedy))
        }
        failed @ UsernsError::Failed { .. } => {
            Failure::environment(failed.to_string()).hint("`strake doctor` says what this machine lacks")
        }
    }
}

fn notice_text(notice: &Notice) -> String {
    match notice {
        Notice::Retry { operation, reason, delay } => {
            format!("{operation}: {reason}; trying again in {}", crate::ui::elapsed(*delay))
        }
        Notice::MirrorSkipped { host, reason } => format!("mirror {host} is passed over: {reason}"),
    }
}
