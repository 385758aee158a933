//! Steps shared through a registry: what is there is not built, what is built is there at once.
//!
//! Each finished step is an image of its own, `REPOSITORY:step-<signature>`: an ordinary image of the whole stack whose
//! manifest says in an annotation which steps made it ([`document`]). Blobs go first, then the configuration, the
//! manifest last, and a step never before the one it stands on; so whatever a reader finds is whole. Nothing in a
//! registry can be compared and swapped, and nothing has to be: a step's image speaks for itself, whoever wrote it,
//! and two writers of one name have both written a right one.
//!
//! ```text
//! miss here ──▶ ask for the furthest step of the stage that can be foretold ──▶ its image tells of all below
//!                     └─ not there: halve the way ─▶ …            └─ records here, layers when something stands on them
//! ```
//!
//! What is found is believed as far as its writers are. An entry that cannot be read, or whose layers cannot be had, is
//! a miss that is told of, and the step is built and published anew. A registry that does not answer is left alone for
//! a while, and the build goes on without it.

mod caches;
mod document;
mod lost;
mod mounts;
mod patience;
mod presence;
mod prune;
mod publish;
mod selection;
mod sharing;
mod used;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use strake_oci::{Descriptor, DiffId, Digest, ParsedManifest, Reference};
use strake_registry::{Client, ErrorKind, RegistryError};
use strake_store::{LayerBlob, LayerId, StoreError};

use crate::cache::{CacheRecord, Foreign, LocalCache, Selected};
use crate::error::StepError;
use crate::event::Event;
use crate::image::{ImageLayer, record};
use crate::lock::{SharedLease, Waiter};
use crate::outage::Outage;
use crate::request::{BuildRequest, Environment};
use crate::signature::Signature;
use crate::signing::{self, Signed, Untrusted};
pub(crate) use caches::Tip;
pub use caches::{CacheContent, CachePlace, CacheTarget, OnError};
pub(crate) use lost::Lost;
pub use mounts::MountSharing;
pub(crate) use mounts::UsedMount;
pub(crate) use presence::Missing;
pub use prune::{Fate, Judged, RepositoryPolicy, prune_repository};
pub(crate) use publish::Publishing;
pub(crate) use selection::shared_key;
pub use sharing::Sharing;

use document::{CacheDocument, SharedStep, Unusable};
use lost::Rejected;

/// The registries of one build, through all its tries.
pub(crate) struct Remote<'a> {
    request: &'a BuildRequest,
    environment: &'a Environment<'a>,
    /// For what a build can do without.
    hurried: Client,
    state: Mutex<State>,
    published: Condvar,
    caches_read: Mutex<bool>,
}

#[derive(Debug, Default)]
struct State {
    /// For how long publishing is still tried again.
    patience: Duration,
    /// Entries whose layers could not be had. They are looked at again only with the lock of the step, and overwritten.
    rejected: BTreeMap<Signature, Rejected>,
    /// The layers that could not be had.
    lost: BTreeSet<LayerId>,
    /// Steps that stand on other layers now than their entries say.
    mended: BTreeSet<Signature>,
    /// What is there from somebody who is not trusted.
    distrusted: BTreeSet<Signature>,
    /// How often something that a registry said turned out to be wrong.
    refuted: usize,
    /// What was not there, and when it was asked for.
    absent: BTreeMap<Signature, Instant>,
    /// What is in the repository: it was found there, or published.
    shared: BTreeSet<Signature>,
    /// Layers that are being sent, with the repository.
    on_the_way: BTreeSet<(String, DiffId)>,
    /// How many steps are being sent.
    sending: usize,
    /// What is being published.
    publishing: BTreeMap<Signature, Missing>,
    /// The cache mounts that steps used, by the names of their directories.
    mounts: BTreeMap<Digest, UsedMount>,
    /// What copies select, as a cache has said.
    selections: BTreeMap<Digest, Selected>,
    repositories: BTreeMap<String, Repository>,
}

impl State {
    /// Those of some layers that a repository is not known to have, each with its name.
    fn unknown(&self, repository: &str, layers: &[ImageLayer]) -> Vec<(String, DiffId)> {
        let known = self.repositories.get(repository).map(|known| &known.layers);
        let is_known = |diff_id: &DiffId| known.is_some_and(|known| known.contains_key(diff_id));
        let unknown = layers.iter().map(|layer| layer.diff_id).filter(|diff_id| !is_known(diff_id));
        unknown.map(|diff_id| (repository.to_owned(), diff_id)).collect()
    }

    /// Takes those of some layers that nobody sends yet.
    fn claim(&mut self, mut layers: Vec<(String, DiffId)>) -> Vec<(String, DiffId)> {
        layers.retain(|layer| !self.on_the_way.contains(layer));
        self.on_the_way.extend(layers.iter().cloned());
        layers
    }
}

/// What a step's own layer must be for an entry in a repository to count.
type Check<'a> = fn(&Remote<'a>, &Reference, Signature, &LayerBlob) -> Result<bool, RegistryError>;

/// What is known of one repository.
#[derive(Debug, Default)]
struct Repository {
    outage: Outage,
    /// When it failed last, it was by saying nothing.
    is_silent: bool,
    /// We may not write to it.
    is_closed: bool,
    /// Layers that are there.
    layers: BTreeMap<DiffId, Descriptor>,
    /// The configuration of what needs none is there.
    has_empty: bool,
}

impl<'a> Remote<'a> {
    pub(crate) fn new(request: &'a BuildRequest, environment: &'a Environment<'a>) -> Self {
        Self {
            request,
            environment,
            hurried: environment.registry.hurried(),
            state: Mutex::new(State { patience: patience::LONGEST, ..State::default() }),
            published: Condvar::new(),
            caches_read: Mutex::default(),
        }
    }

    /// Whether there is anybody to ask.
    pub(crate) fn is_asked(&self) -> bool {
        let sharing = &self.request.sharing;
        sharing.sources().next().is_some() || !sharing.from.is_empty()
    }

    /// Whether there is a repository of single steps.
    pub(crate) fn has_steps(&self) -> bool {
        self.request.sharing.sources().next().is_some()
    }

    /// Whether what is built is published.
    pub(crate) fn is_told(&self) -> bool {
        self.request.sharing.destinations().next().is_some()
    }

    /// Whether there is no point in asking for a step before it is about to be built.
    pub(crate) fn is_absent(&self, signature: Signature) -> bool {
        self.state().absent.contains_key(&signature)
    }

    /// Notes that steps were not there.
    pub(crate) fn note_absent(&self, signatures: &[Signature]) {
        let now = Instant::now();
        self.state().absent.extend(signatures.iter().map(|signature| (*signature, now)));
    }

    /// Takes the lock that all machines share for a step, however long that takes. Nothing when there is no such lock,
    /// nobody who keeps it answers, or the waiter gave up.
    pub(crate) fn lock(&self, signature: Signature, waiter: Waiter<'_>) -> Option<SharedLease> {
        let locks = self.request.sharing.locks.as_ref()?;
        let repository = self.request.sharing.repository.as_ref()?;
        let name = self.tag(repository, signature).to_string();
        locks.acquire(&name, waiter, &|text| self.warn(text))
    }

    /// Looks for a step, and records it and those below it when it is found.
    ///
    /// # Errors
    /// When the build was stopped, or the store cannot be written. A registry that fails is a miss.
    pub(crate) fn fetch(&self, signature: Signature) -> Result<bool, StepError> {
        if self.is_off(signature) {
            return Ok(false);
        }
        self.fetch_where(signature, |_, _, _, _| Ok(true))
    }

    /// The same, where an entry counts only if its own layer passes a check.
    fn fetch_where(&self, signature: Signature, check: Check<'a>) -> Result<bool, StepError> {
        let mut have_all_answered = true;
        for repository in self.request.sharing.sources() {
            if self.is_paused(repository) {
                have_all_answered = false;
                continue;
            }
            let answer = self.fetch_from(repository, signature, check)?;
            have_all_answered &= answer.is_some();
            if answer == Some(true) {
                let mut state = self.state();
                state.absent.remove(&signature);
                if self.request.sharing.repository.as_ref() == Some(repository) {
                    state.shared.insert(signature);
                }
                return Ok(true);
            }
        }
        if have_all_answered {
            self.note_absent(&[signature]);
        }
        Ok(false)
    }

    /// Whether a repository has a step; nothing when it did not answer.
    fn fetch_from(
        &self,
        repository: &Reference,
        signature: Signature,
        check: Check<'a>,
    ) -> Result<Option<bool>, StepError> {
        let tag = self.tag(repository, signature);
        let raw = match self.hurried.resolve(&tag) {
            Ok(raw) => raw,
            Err(error) => return self.failed(repository, &error).map(|()| None),
        };
        self.answered(repository);
        let Some(raw) = raw else { return Ok(Some(false)) };
        let manifest = match ParsedManifest::parse(&raw.bytes, Some(raw.descriptor.media_type.as_str())) {
            Ok(ParsedManifest::Image(manifest)) => manifest,
            Ok(ParsedManifest::Index(_)) => return self.unusable(&tag, "it is an index, not an image"),
            Err(error) => return self.unusable(&tag, error),
        };
        let signed_by = match self.trust(manifest.as_ref()) {
            Ok(signed_by) => signed_by,
            Err(why) => {
                self.state().distrusted.insert(signature);
                return self.unusable(&tag, why);
            }
        };
        match CacheDocument::of_manifest(&manifest, signature, self.request.epoch) {
            Ok((document, layers)) => {
                let own = &layers.last().expect("a document was checked to have layers").1;
                match check(self, repository, signature, own) {
                    Ok(true) => {}
                    Ok(false) => return Ok(Some(false)),
                    Err(error) => return self.failed(repository, &error).map(|()| None),
                }
                self.note_told(repository, &document, &layers)?;
                self.record(Some(repository), Some(signature), document, &layers, signed_by)?;
                Ok(Some(true))
            }
            Err(why @ Unusable::Version(_)) => {
                tracing::debug!("{tag}: {why}");
                Ok(Some(false))
            }
            Err(why) => self.unusable(&tag, why),
        }
    }

    /// Says that an entry is no good. It counts as a miss, and is overwritten when the step was built.
    fn unusable(&self, tag: &Reference, why: impl std::fmt::Display) -> Result<Option<bool>, StepError> {
        self.warn(format!("{}: {why}; it is passed over", tag.familiar()));
        Ok(Some(false))
    }

    /// Checks that a document is from somebody who is trusted, where that matters. Answers whose key it was.
    fn trust(&self, document: &impl Signed) -> Result<Option<String>, Untrusted> {
        let keys = &self.request.sharing.trusted_keys;
        if keys.is_empty() { Ok(None) } else { signing::verify(keys, document).map(Some) }
    }

    /// Signs what is about to be published.
    fn sign(&self, document: &mut impl Signed) {
        if let Some(key) = &self.request.sharing.signing_key {
            key.sign(document);
        }
    }

    /// Records what a manifest says of a step and those below it. What was built here stays what it is, unless it is
    /// the step that was `missed`.
    fn record(
        &self,
        repository: Option<&Reference>,
        missed: Option<Signature>,
        document: CacheDocument,
        layers: &[(DiffId, LayerBlob)],
        signed_by: Option<String>,
    ) -> Result<(), StoreError> {
        let store = self.environment.store;
        let cache = LocalCache::new(store.index());
        let names = record::put_stack(store, repository, layers)?;
        let contents = names.iter().zip(&document.layers);
        let contents: Vec<_> =
            contents.filter_map(|(name, layer)| Some((name.clone(), layer.content?))).collect();
        cache.put_contents(&contents, signed_by.as_deref())?;
        let foreign = Foreign { epoch: document.epoch, signed_by };
        for step in document.steps {
            if self.is_off(step.signature) {
                continue;
            }
            if missed == Some(step.signature) {
                self.state().lost.remove(&names[step.depth - 1]);
            }
            let known = cache.find(step.signature)?;
            if missed != Some(step.signature) && known.is_some_and(|known| known.foreign.is_none()) {
                continue;
            }
            let SharedStep { signature, canonical, base, below, depth, parts, built, millis } = step;
            let mut record = CacheRecord::new(canonical, base, parts);
            record.layers = names[..depth].to_vec();
            record.content = document.layers[depth - 1].content;
            (record.below, record.built, record.millis) = (below, built, millis);
            record.foreign = Some(foreign.clone());
            cache.put(signature, &record)?;
        }
        Ok(())
    }

    /// How often something that a registry said turned out to be wrong; each time leaves less of it to believe.
    pub(crate) fn refuted(&self) -> usize {
        self.state().refuted
    }

    /// A registry failed: it is left alone for a while. That it was stopped is all that is passed on.
    fn failed(&self, repository: &Reference, error: &RegistryError) -> Result<(), StepError> {
        if error.kind == ErrorKind::Cancelled {
            return Err(StepError::Cancelled);
        }
        // A single answer that makes no sense, or a manifest that is not taken, says nothing of the next one.
        let is_entry = error.is_refusal()
            || matches!(error.kind, ErrorKind::Corrupt | ErrorKind::Malformed | ErrorKind::TooLarge);
        if !is_entry {
            let mut state = self.state();
            let known = state.repositories.entry(name(repository)).or_default();
            known.is_silent = error.kind == ErrorKind::TimedOut;
            if !known.outage.failed(Instant::now()) {
                return Ok(());
            }
        }
        self.warn(format!("{error}; the build goes on without it"));
        Ok(())
    }

    /// A repository did not take something. Where only writing is not allowed it is read all the same, and a single
    /// refusal says nothing of what is sent next. That it was stopped is all that is passed on.
    fn not_taken(&self, repository: &Reference, error: &RegistryError) -> Result<(), StepError> {
        match error.kind {
            ErrorKind::Unauthorized | ErrorKind::Denied => {
                self.state().repositories.entry(name(repository)).or_default().is_closed = true;
                self.warn(format!("{error}; nothing more is published there"));
            }
            _ if error.is_refusal() => self.warn(format!("{error}; it is not published there")),
            _ => return self.failed(repository, error),
        }
        Ok(())
    }

    /// Whether there is no point in writing to a repository now.
    fn takes_nothing(&self, repository: &Reference) -> bool {
        let is_closed = self.state().repositories.get(&name(repository)).is_some_and(|known| known.is_closed);
        is_closed || self.is_paused(repository)
    }

    /// Whether a registry is not to be asked now.
    fn is_paused(&self, repository: &Reference) -> bool {
        let mut state = self.state();
        let known = state.repositories.get_mut(&name(repository));
        known.is_some_and(|known| known.outage.is_on(Instant::now()))
    }

    /// A registry has answered, perhaps after it had failed.
    fn answered(&self, repository: &Reference) {
        if let Some(known) = self.state().repositories.get_mut(&name(repository)) {
            known.outage.answered();
        }
    }

    /// What a build works with, but for registries that it can do without.
    pub(crate) fn hurried(&self) -> Environment<'_> {
        Environment { registry: &self.hurried, ..*self.environment }
    }

    /// The name of a step in a repository. Layers whose times were limited are not those of a build without limit.
    fn tag(&self, repository: &Reference, signature: Signature) -> Reference {
        let tag = match self.request.epoch {
            None => format!("step-{signature}"),
            Some(epoch) => format!("step-{signature}-{epoch}"),
        };
        repository.with_tag(&tag).expect("hexadecimal digits and a number are a tag")
    }

    fn warn(&self, text: String) {
        (self.environment.events)(Event::Warning(text));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is a single insertion, so a panic elsewhere leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a repository is known by.
fn name(repository: &Reference) -> String {
    format!("{}/{}", repository.registry(), repository.repository())
}
