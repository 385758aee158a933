//! Publishing a step as an image.

use std::collections::BTreeMap;
use std::time::Duration;

use strake_graph::{Op, Step, StepId};
use strake_oci::{ContainerConfig, Descriptor, DiffId, Digest, ImageConfig, ParsedManifest, Reference};
use strake_registry::RegistryError;
use strake_store::{LayerBlob, NewDocument};

use super::document::{ANNOTATION, CacheDocument, SharedLayer, SharedStep};
use super::{Remote, name};
use crate::cache::{CacheRecord, LocalCache};
use crate::error::StepError;
use crate::image::{self, Described, ImageError, ImageLayer, PushedDescribed};
use crate::signature::Signature;

/// A step that is in a repository, as far as this store knows: `<repository> <tag>`.
const SHARED: &str = "shared";

impl Remote<'_> {
    /// Publishes a step that is recorded here, after the one that it stands on. What does not work is told of: the
    /// build itself does not depend on it.
    /// `selections` are what it took from other stages.
    pub(crate) fn publish(
        &self,
        step: &Step,
        signature: Signature,
        selections: impl FnOnce() -> Result<Vec<(Digest, Digest)>, StepError>,
    ) {
        let _publishing = Publishing { remote: self, signature };
        let publish = || {
            let cache = LocalCache::new(self.environment.store.index());
            let Some(record) = cache.find(signature)? else { return Ok(()) };
            self.publish_record(step, signature, &record)?;
            self.publish_selections((signature, record.built), &selections()?)
        };
        match publish() {
            Ok(()) => {}
            Err(error) if error.is_cancelled() => {}
            Err(error) => self.warn(format!("publish `{}`: {error}", step.label)),
        }
    }

    /// Says beforehand that a step is going to be published, so that those above wait for it.
    pub(crate) fn will_publish(&self, signature: Signature) {
        self.state().publishing.insert(signature);
    }

    /// Waits until what a step stands on is published, or was tried to be.
    fn wait_for(&self, below: Option<Signature>) {
        let Some(below) = below else { return };
        let mut state = self.state();
        while state.publishing.contains(&below) {
            state = self.published.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
    }

    /// Waits for its turn. Whoever waits for a step below does not have one yet, so the turns come round.
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
        signature: Signature,
        record: &CacheRecord,
    ) -> Result<(), StepError> {
        self.wait_for(record.below);
        let _sending = self.sending();
        // Others may trust what we do not, and nobody would trust what we put in its place without a key.
        let is_signed = self.request.sharing.signing_key.is_some();
        if !is_signed && self.state().distrusted.contains(&signature) {
            return Ok(());
        }
        self.with_described(step, signature, record, |described| {
            for repository in self.request.sharing.destinations() {
                if self.takes_nothing(repository) && !self.is_worth_a_try(repository) {
                    continue;
                }
                let push = || self.push(repository, signature, described);
                match self.patiently(step, record, repository, push) {
                    Ok(()) => self.answered(repository),
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
        signature: Signature,
        described: &Described<'_>,
    ) -> Result<(), ImageError> {
        let tag = self.tag(repository, signature);
        let compression = self.request.sharing.compression;
        let _on_the_way = self.send_alone(repository, described.layers);
        let known = self.known_layers(repository);
        let pushed = image::push_described(&self.hurried(), &tag, described, compression, &known)?;
        let mut state = self.state();
        if self.request.sharing.repository.as_ref() == Some(repository) {
            state.shared.insert(signature);
        }
        state.absent.remove(&signature);
        state.mended.remove(&signature);
        drop(state);
        self.note_layers(repository, described, &pushed);
        let index = self.environment.store.index();
        Ok(index.put(SHARED, &tag.to_string(), pushed.manifest.digest.to_string().as_bytes(), &[])?)
    }

    /// Waits until nobody else sends a layer that is to be sent, and takes all of them at once, so that nobody waits in
    /// a circle.
    fn send_alone(&self, repository: &Reference, layers: &[ImageLayer]) -> OnTheWay<'_, '_> {
        let name = name(repository);
        let mut state = self.state();
        loop {
            let known = state.repositories.get(&name).map(|known| &known.layers);
            let is_known = |diff_id: &DiffId| known.is_some_and(|known| known.contains_key(diff_id));
            let unknown = layers.iter().map(|layer| layer.diff_id).filter(|diff_id| !is_known(diff_id));
            let mine: Vec<(String, DiffId)> = unknown.map(|diff_id| (name.clone(), diff_id)).collect();
            if mine.iter().all(|layer| !state.on_the_way.contains(layer)) {
                state.on_the_way.extend(mine.iter().cloned());
                return OnTheWay { remote: self, layers: mine };
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
    pub(super) fn note_layers(
        &self,
        repository: &Reference,
        described: &Described<'_>,
        pushed: &PushedDescribed,
    ) {
        let mut state = self.state();
        let known = &mut state.repositories.entry(name(repository)).or_default().layers;
        known.extend(described.layers.iter().map(|layer| layer.diff_id).zip(pushed.layers.iter().cloned()));
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

    /// What of the steps that a successful build used is not in the repository: they were here before, or came from
    /// elsewhere. Targets that are there speak for all that was seen there once.
    pub(crate) fn missing(
        &self,
        targets: impl Iterator<Item = Signature>,
        used: impl Iterator<Item = (StepId, Signature)>,
    ) -> Result<Vec<(StepId, Signature)>, StepError> {
        let Some(repository) = &self.request.sharing.repository else { return Ok(Vec::new()) };
        let mut all_there = true;
        for target in targets {
            all_there &= self.is_shared(repository, target)?;
        }
        let mut missing = Vec::new();
        for (step, signature) in used {
            let tag = self.tag(repository, signature).to_string();
            if self.is_to_be_mended(signature) && !self.takes_nothing(repository) {
                missing.push((step, signature));
                continue;
            }
            let is_remembered = all_there && self.environment.store.index().get(SHARED, &tag)?.is_some();
            if !is_remembered && !self.is_shared(repository, signature)? && !self.takes_nothing(repository) {
                missing.push((step, signature));
            }
        }
        Ok(missing)
    }

    /// What a name stands for in the repository. Where trust matters, what nobody who is trusted wrote is not there.
    fn there(&self, tag: &Reference, signature: Signature) -> Result<Option<Descriptor>, RegistryError> {
        let registry = &self.hurried;
        if self.request.sharing.trusted_keys.is_empty() {
            return registry.head(tag);
        }
        let Some(raw) = registry.resolve(tag)? else { return Ok(None) };
        let parsed = ParsedManifest::parse(&raw.bytes, Some(raw.descriptor.media_type.as_str()));
        let is_trusted =
            matches!(&parsed, Ok(ParsedManifest::Image(manifest)) if self.trust(manifest.as_ref()).is_ok());
        if !is_trusted {
            self.state().distrusted.insert(signature);
            return Ok(None);
        }
        Ok(Some(raw.descriptor))
    }

    fn is_shared(&self, repository: &Reference, signature: Signature) -> Result<bool, StepError> {
        if self.state().shared.contains(&signature) {
            return Ok(true);
        }
        if self.is_paused(repository) {
            return Ok(false);
        }
        let tag = self.tag(repository, signature);
        match self.there(&tag, signature) {
            Ok(Some(found)) => {
                self.answered(repository);
                self.state().shared.insert(signature);
                let index = self.environment.store.index();
                index.put(SHARED, &tag.to_string(), found.digest.to_string().as_bytes(), &[])?;
                Ok(true)
            }
            Ok(None) => {
                self.answered(repository);
                Ok(false)
            }
            Err(error) => self.failed(repository, &error).map(|()| false),
        }
    }
}

/// How many steps are published at once. Each sends several blobs side by side.
const AT_ONCE: usize = 4;

/// A step that is being published; those above it are told when it is over, however it ends.
struct Publishing<'r, 'a> {
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

/// Layers that one step sends and the others wait for, because the first steps of all stages stand on the same ones.
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
