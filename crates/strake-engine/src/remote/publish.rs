//! Publishing a step as an image.

use std::collections::BTreeMap;
use std::time::Duration;

use strake_graph::{Op, Step};
use strake_oci::{ContainerConfig, Descriptor, DiffId, Digest, ImageConfig, Reference};
use strake_store::{LayerBlob, NewDocument};

use super::document::{ANNOTATION, CacheDocument, SharedLayer, SharedStep};
use super::presence::Missing;
use super::{Remote, name};
use crate::cache::{CacheRecord, LocalCache};
use crate::error::StepError;
use crate::image::{self, Described, ImageError, ImageLayer, Sent};
use crate::signature::Signature;

/// A step that is in a repository, as far as this store knows: `<repository> <tag>`.
pub(super) const SHARED: &str = "shared";

/// What became of a step for a repository.
pub(super) enum Pushed {
    /// It is there.
    Whole,
    /// The repository was left alone.
    Not,
}

impl<'a> Remote<'a> {
    /// Publishes a step that is recorded here, after the one that it stands on. What does not work is told of: the
    /// build itself does not depend on it.
    /// `selections` are what it took from other stages.
    pub(crate) fn publish(
        &self,
        step: &Step,
        signature: Signature,
        below: Option<Signature>,
        selections: impl FnOnce() -> Result<Vec<(Digest, Digest)>, StepError>,
    ) {
        let publish = || {
            let cache = LocalCache::new(self.environment.store.index());
            let Some(record) = cache.find(signature)? else { return Ok(()) };
            self.publish_record(step, (signature, below), &record)?;
            self.publish_selections((signature, record.built), &selections()?)
        };
        match publish() {
            Ok(()) => {}
            Err(error) if error.is_cancelled() => {}
            Err(error) => self.warn(format!("publish `{}`: {error}", step.label)),
        }
    }

    /// Says beforehand that a step is going to be published, so that those above wait until what is answered is
    /// dropped.
    pub(crate) fn will_publish(&self, signature: Signature, missing: Missing) -> Publishing<'_, 'a> {
        self.state().publishing.insert(signature, missing);
        Publishing { remote: self, signature }
    }

    /// Waits until what a step stands on is published, or was tried to be.
    fn wait_for(&self, below: Option<Signature>) {
        let Some(below) = below else { return };
        let mut state = self.state();
        while state.publishing.contains_key(&below) {
            state = self.published.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
    }

    /// Waits for its turn. Whoever waits for a step below has none any more, so the turns come round.
    fn sending(&self) -> Sending<'_, '_> {
        let mut state = self.state();
        while state.sending >= AT_ONCE {
            state = self.published.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        state.sending += 1;
        Sending(self)
    }

    fn publish_record(
        &self,
        step: &Step,
        (signature, below): (Signature, Option<Signature>),
        record: &CacheRecord,
    ) -> Result<(), StepError> {
        // Others may trust what we do not, and nobody would trust what we put in its place without a key.
        let is_signed = self.request.sharing.signing_key.is_some();
        if !is_signed && self.state().distrusted.contains(&signature) {
            return Ok(());
        }
        self.with_described(step, signature, record, |described| {
            for repository in self.request.sharing.destinations() {
                if self.is_left_alone(repository) {
                    continue;
                }
                let push = || self.push(repository, (signature, below), described);
                match self.patiently(step, record, repository, push) {
                    Ok(Pushed::Whole) => self.answered(repository),
                    Ok(Pushed::Not) => {}
                    Err(ImageError::Registry(error)) => self.not_taken(repository, &error)?,
                    Err(error) => return Err(error.into()),
                }
            }
            Ok(())
        })
    }

    /// Does something with the image of a step.
    pub(super) fn with_described<T>(
        &self,
        step: &Step,
        signature: Signature,
        record: &CacheRecord,
        work: impl FnOnce(&Described<'_>) -> Result<T, StepError>,
    ) -> Result<T, StepError> {
        let layers = image::describe_layers(self.environment, &record.layers, self.request.epoch)?;
        let document = self.document(signature, record, &layers)?;
        let config = self.config(step, signature, record, &layers);
        let annotations = BTreeMap::from([(ANNOTATION.to_owned(), document.to_annotation())]);
        work(&Described {
            layers: &layers,
            config: &config.to_bytes(),
            annotations: &annotations,
            signing_key: self.request.sharing.signing_key.as_ref(),
        })
    }

    fn push(
        &self,
        repository: &Reference,
        (signature, below): (Signature, Option<Signature>),
        described: &Described<'_>,
    ) -> Result<Pushed, ImageError> {
        let tag = self.tag(repository, signature);
        let compression = self.request.sharing.compression;
        let Some(config) = self.send_blobs(repository, described)? else { return Ok(Pushed::Not) };
        // Only the manifest makes anything visible, so only manifests follow each other.
        self.wait_for(below);
        // It may have failed for whoever was before us.
        if self.is_left_alone(repository) {
            return Ok(Pushed::Not);
        }
        let refuted = self.refuted();
        let mut layers = self.known_layers(repository);
        layers.retain(|diff_id, _| described.layers.iter().any(|layer| layer.diff_id == *diff_id));
        let sent = Sent { layers, config };
        let pushed = image::push_described(&self.hurried(), &tag, described, compression, sent)?;
        let mut state = self.state();
        if self.request.sharing.repository.as_ref() == Some(repository) {
            state.shared.insert(signature);
            state.mended.remove(&signature);
        }
        state.absent.remove(&signature);
        let is_sure = state.refuted == refuted;
        drop(state);
        // What was lost meanwhile may be among them.
        if is_sure {
            self.note_layers(repository, &pushed.layers);
        }
        let index = self.environment.store.index();
        index.put(SHARED, &tag.to_string(), pushed.manifest.digest.to_string().as_bytes(), &[])?;
        Ok(Pushed::Whole)
    }

    /// Whether a repository takes nothing just now, and is not worth a try.
    fn is_left_alone(&self, repository: &Reference) -> bool {
        self.takes_nothing(repository) && !self.is_worth_a_try(repository)
    }

    /// Sends the blobs of a step, whether or not the one below it is published yet. Each layer is sent by one of those
    /// who need it: the first steps of all stages stand on the same ones. Answers what the configuration was sent as, if it
    /// was; nothing when the repository is left alone by now.
    fn send_blobs(
        &self,
        repository: &Reference,
        described: &Described<'_>,
    ) -> Result<Option<Option<Descriptor>>, ImageError> {
        let _sending = self.sending();
        if self.is_left_alone(repository) {
            return Ok(None);
        }
        let compression = self.request.sharing.compression;
        let mut config = None;
        let mut claim = self.claim_free(repository, described.layers);
        loop {
            let is_mine = |diff_id: &DiffId| claim.layers.iter().any(|(_, layer)| layer == diff_id);
            let sent = image::push_ahead(&self.hurried(), repository, described, compression, is_mine)?;
            config = sent.config.or(config);
            self.note_layers(repository, &sent.layers);
            drop(claim);
            match self.claim_rest(repository, described.layers) {
                Some(more) => claim = more,
                None => break,
            }
        }
        Ok(Some(config))
    }

    /// Takes what nobody sends yet of the layers that a repository is not known to have.
    fn claim_free(&self, repository: &Reference, layers: &[ImageLayer]) -> OnTheWay<'_, '_> {
        let mut state = self.state();
        let unknown = state.unknown(&name(repository), layers);
        OnTheWay { remote: self, layers: state.claim(unknown) }
    }

    /// Waits until others have sent what is missing, or have not: then it is for whoever asks first. Nobody waits who
    /// has claimed something, so nobody waits in a circle.
    fn claim_rest(&self, repository: &Reference, layers: &[ImageLayer]) -> Option<OnTheWay<'_, '_>> {
        let mut state = self.state();
        loop {
            let unknown = state.unknown(&name(repository), layers);
            if unknown.is_empty() {
                return None;
            }
            let mine = state.claim(unknown);
            if !mine.is_empty() {
                return Some(OnTheWay { remote: self, layers: mine });
            }
            state = self.published.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
    }

    /// The layers that are known to be in a repository.
    pub(super) fn known_layers(&self, repository: &Reference) -> BTreeMap<DiffId, Descriptor> {
        let state = self.state();
        let repository = state.repositories.get(&name(repository));
        repository.map(|known| known.layers.clone()).unwrap_or_default()
    }

    /// Remembers which layers are in a repository now.
    pub(super) fn note_layers(&self, repository: &Reference, layers: &BTreeMap<DiffId, Descriptor>) {
        let mut state = self.state();
        let known = &mut state.repositories.entry(name(repository)).or_default().layers;
        known.extend(layers.iter().map(|(diff_id, blob)| (*diff_id, blob.clone())));
    }

    /// Remembers what the image of a step that was found says of its repository: its layers are there, and the steps
    /// below it were before it was. So neither has to be asked for when something is published on top.
    pub(super) fn note_told(
        &self,
        repository: &Reference,
        document: &CacheDocument,
        layers: &[(DiffId, LayerBlob)],
    ) -> Result<(), StepError> {
        // Once a manifest was wrong about a layer, none is believed without asking.
        if !self.state().rejected.is_empty() {
            return Ok(());
        }
        // Who wrote what is below, where that matters, its own image says.
        let is_believed = self.request.sharing.trusted_keys.is_empty();
        if is_believed && self.request.sharing.repository.as_ref() == Some(repository) {
            let shared = |step: &SharedStep| NewDocument {
                kind: SHARED.to_owned(),
                key: self.tag(repository, step.signature).to_string(),
                body: Vec::new(),
                links: Vec::new(),
            };
            let documents: Vec<NewDocument> = document.steps.iter().map(shared).collect();
            self.environment.store.index().put_many(&documents)?;
        }
        // One that is compressed in another way than was asked for is no substitute.
        let compression = self.request.sharing.compression;
        let fitting = layers.iter().filter(|(_, blob)| blob.compression == compression);
        let mut state = self.state();
        let known = &mut state.repositories.entry(name(repository)).or_default().layers;
        known.extend(fitting.map(|(diff_id, blob)| (*diff_id, image::content::describe(blob))));
        Ok(())
    }

    /// The records of a step and of those below it, as far as they stand on the very same layers.
    pub(super) fn document(
        &self,
        signature: Signature,
        record: &CacheRecord,
        layers: &[ImageLayer],
    ) -> Result<CacheDocument, StepError> {
        let cache = LocalCache::new(self.environment.store.index());
        let shared = layers
            .iter()
            .zip(&record.layers)
            .map(|(layer, id)| Ok(SharedLayer { diff_id: layer.diff_id, content: cache.content(id)? }));
        let shared = shared.collect::<Result<_, StepError>>()?;
        let mut steps = vec![shared_step(signature, record)];
        let mut below = record.below;
        while let Some(signature) = below {
            let Some(found) = cache.find(signature)? else { break };
            let is_part =
                record.layers.starts_with(&found.layers) && found.layers.len() < steps[steps.len() - 1].depth;
            if !is_part {
                break;
            }
            steps.push(shared_step(signature, &found));
            below = found.below;
        }
        Ok(CacheDocument::new(shared, steps, self.request.epoch))
    }

    /// The configuration of the image of a step: what it is, and enough to run it.
    fn config(
        &self,
        step: &Step,
        signature: Signature,
        record: &CacheRecord,
        layers: &[ImageLayer],
    ) -> ImageConfig {
        let mut config = ImageConfig::empty(&step.platform);
        let built = self.request.epoch.and_then(|epoch| u64::try_from(epoch).ok()).unwrap_or(record.built);
        config.created = Some(crate::clock::rfc3339(Duration::from_secs(built)));
        if let Op::Run(op) = &step.op {
            config.config = ContainerConfig {
                env: op.env.iter().map(|(name, value)| format!("{name}={value}")).collect(),
                working_dir: op.cwd.clone(),
                user: op.user.clone(),
                ..ContainerConfig::default()
            };
        }
        config.config.labels = BTreeMap::from([
            ("strake-kind".to_owned(), "step".to_owned()),
            ("strake-version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
            ("strake-signature".to_owned(), signature.to_string()),
            ("strake-stage".to_owned(), step.stage.clone()),
            ("strake-instruction".to_owned(), step.label.clone()),
        ]);
        if let Some(below) = record.below {
            config.config.labels.insert("strake-parent".to_owned(), below.to_string());
        }
        config.rootfs.diff_ids = layers.iter().map(|layer| layer.diff_id).collect();
        config
    }
}

/// How many steps are published at once. Each sends several blobs side by side.
const AT_ONCE: usize = 4;

/// A step that is being published; those above it are told when it is over, however it ends.
pub(crate) struct Publishing<'r, 'a> {
    remote: &'r Remote<'a>,
    signature: Signature,
}

impl Drop for Publishing<'_, '_> {
    fn drop(&mut self) {
        let mut state = self.remote.state();
        state.publishing.remove(&self.signature);
        drop(state);
        self.remote.published.notify_all();
    }
}

/// Layers that one step sends and the others wait for.
struct OnTheWay<'r, 'a> {
    remote: &'r Remote<'a>,
    layers: Vec<(String, DiffId)>,
}

impl Drop for OnTheWay<'_, '_> {
    fn drop(&mut self) {
        let mut state = self.remote.state();
        for layer in &self.layers {
            state.on_the_way.remove(layer);
        }
        drop(state);
        self.remote.published.notify_all();
    }
}

/// One of the few that send now.
struct Sending<'r, 'a>(&'r Remote<'a>);

impl Drop for Sending<'_, '_> {
    fn drop(&mut self) {
        self.0.state().sending -= 1;
        self.0.published.notify_all();
    }
}

fn shared_step(signature: Signature, record: &CacheRecord) -> SharedStep {
    SharedStep {
        signature,
        canonical: record.canonical,
        base: record.base,
        below: record.below,
        depth: record.layers.len(),
        parts: record.parts.clone(),
        built: record.built,
        millis: record.millis,
    }
}
