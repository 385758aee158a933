//! What is asked of the engine, what it works with, and what it answers.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use strake_exec::{Cancel, Executor};
use strake_graph::pattern::IgnoreRules;
use strake_graph::{Graph, HostEntry, Network};
use strake_oci::ImageConfig;
use strake_registry::Client;
use strake_store::{LayerId, Store};

use crate::event::Events;
use crate::files::FileSet;
use crate::remote::Sharing;
use crate::signature::Signature;

/// One build, settled in every respect.
#[derive(Debug)]
pub struct BuildRequest {
    /// What to do.
    pub graph: Graph,
    /// The build contexts by name; the main one has the empty name.
    pub contexts: BTreeMap<String, ContextSource>,
    /// Files that steps place, by the name they are placed by.
    pub files: BTreeMap<String, FileSet>,
    /// The secrets that steps may mount, by id.
    pub secrets: BTreeMap<String, Secret>,
    /// The network of steps that do not name one.
    pub network: Network,
    /// Extra lines for every step's `/etc/hosts`.
    pub hosts: Vec<HostEntry>,
    /// Certificates (PEM) that the steps' clients trust on top of their own; never in a layer or a signature.
    pub ca_certificates: Option<Vec<u8>>,
    /// How many steps may run at once.
    pub jobs: NonZeroUsize,
    /// Whether every step is explained, not only those that run.
    pub explain: bool,
    /// What tells one project's builds from another's (the Dockerfile's absolute path): a step's history is looked
    /// up by this, its stage and its number.
    pub place: String,
    /// The latest time that files of the result have (`SOURCE_DATE_EPOCH`), in seconds since the Unix epoch.
    pub epoch: Option<i64>,
    /// Where finished steps are shared with other machines.
    pub sharing: Sharing,
    /// Whether the layers of the targets are needed here, and not only known.
    pub wants_layers: bool,
}

/// Where the files of a build context are.
#[derive(Debug, Clone)]
pub struct ContextSource {
    /// The directory.
    pub root: PathBuf,
    /// What in it is not part of the context.
    pub ignore: IgnoreRules,
    /// What people see as the context's name.
    pub display: String,
}

/// A secret. It has no `Debug` that prints, and no way onto disk.
#[derive(Clone)]
pub struct Secret(Arc<[u8]>);

impl Secret {
    /// Takes the secret's bytes.
    pub fn new(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    /// The bytes, for whoever mounts them.
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What the engine works with. All of it outlives the build.
#[derive(Clone, Copy)]
pub struct Environment<'a> {
    /// The local store.
    pub store: &'a Store,
    /// The registries.
    pub registry: &'a Client,
    /// Runs containers.
    pub executor: &'a dyn Executor,
    /// Receives what happens.
    pub events: &'a Events<'a>,
    /// Stops the build.
    pub cancellation: &'a Cancellation,
    /// Whether containers can have a network of their own; otherwise why not.
    pub private_network: &'a Result<(), String>,
}

impl std::fmt::Debug for Environment<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Environment").field("store", &self.store.root()).finish_non_exhaustive()
    }
}

/// Stops a build from outside: a signal handler, or the first failed step.
#[derive(Debug, Clone, Default)]
pub struct Cancellation {
    requested: Arc<AtomicBool>,
    containers: Cancel,
}

impl Cancellation {
    /// A build that goes on.
    pub fn new() -> Self {
        Self::default()
    }

    /// Kills what runs and starts nothing new. May be called from any thread, any number of times.
    pub fn cancel(&self) {
        self.requested.store(true, Ordering::SeqCst);
        self.containers.cancel();
    }

    /// Whether somebody asked.
    pub fn is_requested(&self) -> bool {
        self.requested.load(Ordering::SeqCst)
    }

    /// What running containers listen to.
    pub fn containers(&self) -> &Cancel {
        &self.containers
    }
}

/// What a build made.
#[derive(Debug)]
pub struct BuildOutput {
    /// One entry per target, in the order of [`Graph::targets`].
    pub stages: Vec<StageOutput>,
}

/// A stage that is there.
#[derive(Debug, Clone)]
pub struct StageOutput {
    /// The stage's name.
    pub name: String,
    /// The signature of its last step.
    pub signature: Signature,
    /// Its layers, bottom first. Those of a base image may not be unpacked yet.
    pub layers: Vec<LayerId>,
    /// What a manifest of its image is to say of it.
    pub annotations: BTreeMap<String, String>,
    /// Its configuration, complete but for `rootfs.diff_ids`, which export fills in; `history` names a layer for
    /// each entry of `layers`.
    pub config: ImageConfig,
}
