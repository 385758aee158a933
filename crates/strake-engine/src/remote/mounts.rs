//! Cache mounts that travel: what `RUN --mount=type=cache` keeps on one machine is there on the next.
//!
//! A mount is known by its id and the platform. In the repository it is an index of the last few contents that machines
//! left behind, newest first, each one compressed tar with the step that used it. A machine that has nothing yet takes
//! the content of the very step, otherwise of the same command, otherwise the newest. None of this is ever part of an
//! image or of a signature: a cache that is old, lost or overwritten by somebody else costs time only.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Mutex;

use strake_graph::{Encoder, RunOp};
use strake_oci::{
    Compression, Descriptor, Digest, ImageIndex, ImageManifest, MediaType, ParsedManifest, Platform,
    Reference,
};
use strake_registry::BlobSource;
use strake_store::compress::decompress;
use strake_store::tar::{ApplyOptions, Whiteouts, apply};

use super::Remote;
use crate::clock::now;
use crate::error::StepError;
use crate::event::{Holder, TransferKind};
use crate::image::{ImageError, LayerStream, SharedReader, TarSource, Transfer};
use crate::lock::{Attempt, FileLocks, Hold};
use crate::signature::Signature;

const ARTIFACT: &str = "application/vnd.strake.cache-mount.v1";
const STEP: &str = "dev.strake.mount.step";
const COMMAND: &str = "dev.strake.mount.command";
const ID: &str = "dev.strake.mount.id";
const PLATFORM: &str = "dev.strake.mount.platform";
/// The annotation with the second that a content was saved at, since 1970.
pub(super) const SAVED: &str = "dev.strake.mount.saved";

/// How many contents of one mount a repository keeps.
const KEPT: usize = 4;

/// The most files of one mount.
const MAX_ENTRIES: u64 = 2_000_000;

/// What this store last had in common with the repository, by the directory of the mount.
const SEEN: &str = "mount";

/// Which cache mounts travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MountSharing {
    /// A mount whose files have more bytes than this stays where it is.
    pub max_bytes: u64,
}

/// A mount that a step used.
#[derive(Debug, Clone)]
pub(crate) struct UsedMount {
    pub(crate) id: String,
    platform: Platform,
    step: Signature,
    command: Digest,
}

impl UsedMount {
    pub(crate) fn new(id: &str, platform: &Platform, step: Signature, op: &RunOp) -> Self {
        let mut encoder = Encoder::new("strake command 1");
        encoder.list(op.args.iter().map(String::as_str));
        Self { id: id.to_owned(), platform: platform.clone(), step, command: encoder.finish() }
    }

    fn tag(&self, repository: &Reference) -> Reference {
        let key = Digest::of(format!("{}\n{}", self.id, self.platform).as_bytes());
        repository.with_tag(&format!("mount-{}", key.hex())).expect("hexadecimal digits are a tag")
    }

    /// How much a content is like what this step would leave behind.
    fn likeness(&self, entry: &Descriptor) -> u8 {
        let says = |key: &str, value: String| entry.annotations.get(key) == Some(&value);
        match () {
            () if says(STEP, self.step.to_string()) => 2,
            () if says(COMMAND, self.command.to_string()) => 1,
            () => 0,
        }
    }
}

impl Remote<'_> {
    fn mount_repository(&self) -> Option<(&Reference, MountSharing)> {
        let sharing = &self.request.sharing;
        let repository = sharing.repository.as_ref().filter(|repository| !self.is_paused(repository))?;
        Some((repository, sharing.mounts?))
    }

    /// Fills the directory of a mount that is new here with what another machine left behind. Answers whether it did;
    /// otherwise the directory may hold part of it.
    ///
    /// # Errors
    /// When the build was stopped.
    pub(crate) fn restore_mount(
        &self,
        mount: &UsedMount,
        name: &Digest,
        directory: &Path,
    ) -> Result<bool, StepError> {
        let Some((repository, sharing)) = self.mount_repository() else { return Ok(false) };
        match self.try_restore(repository, sharing, mount, directory) {
            Ok(true) => {
                self.note_content(name, directory);
                Ok(true)
            }
            Ok(false) => Ok(false),
            Err(ImageError::Registry(error)) => self.failed(repository, &error).map(|()| false),
            Err(ImageError::Canceled) => Err(StepError::Cancelled),
            Err(error) => {
                self.warn(format!("restore the cache {}: {error}; it begins empty", mount.id));
                Ok(false)
            }
        }
    }

    fn try_restore(
        &self,
        repository: &Reference,
        sharing: MountSharing,
        mount: &UsedMount,
        directory: &Path,
    ) -> Result<bool, ImageError> {
        let registry = &self.hurried;
        let entries = self.saved(repository, mount)?;
        // The first of the most alike is the newest of them.
        let Some(best) = entries.iter().rev().max_by_key(|entry| mount.likeness(entry)) else {
            return Ok(false);
        };
        let Some(raw) = registry.resolve(&repository.with_digest(best.digest))? else { return Ok(false) };
        let malformed =
            |why: &dyn std::fmt::Display| ImageError::malformed(format!("cache {}", mount.id), why);
        let parsed = ParsedManifest::parse(&raw.bytes, Some(raw.descriptor.media_type.as_str()));
        let manifest = match parsed.map_err(|error| malformed(&error))? {
            ParsedManifest::Image(manifest) => manifest,
            ParsedManifest::Index(_) => return Err(malformed(&"it is an index")),
        };
        self.trust(manifest.as_ref()).map_err(|why| malformed(&why))?;
        let says = |key: &str, value: &str| manifest.annotations.get(key).is_some_and(|said| said == value);
        if !says(ID, &mount.id) || !says(PLATFORM, &mount.platform.to_string()) {
            return Err(malformed(&"it is the content of another mount"));
        }
        let [layer] = manifest.layers.as_slice() else { return Err(malformed(&"it is not one tar")) };
        let compression = layer.media_type.layer_compression();
        let compression = compression.ok_or_else(|| malformed(&"it is not a tar"))?;
        let reader = registry.open_blob(repository, layer)?;
        let what = format!("cache {}", mount.id);
        let transfer = Transfer::start(self.environment, TransferKind::Pull, what, Some(layer.size));
        let stop = std::sync::atomic::AtomicBool::new(false);
        let options = ApplyOptions {
            flavour: self.environment.store.flavour(),
            max_bytes: sharing.max_bytes,
            max_entries: MAX_ENTRIES,
            whiteouts: Whiteouts::Plain,
        };
        let mut reader = transfer.reader(reader, &stop);
        let tar = decompress(&mut reader, compression).map_err(|error| malformed(&error))?;
        let applied = apply(tar, directory, &options).map_err(|error| malformed(&error))?;
        // The reader fails at its end unless the blob was the one that was named.
        io::copy(&mut reader, &mut io::sink()).map_err(|error| malformed(&error))?;
        Ok(applied.entries > 0)
    }

    /// The contents that a repository has of a mount, newest first.
    fn saved(&self, repository: &Reference, mount: &UsedMount) -> Result<Vec<Descriptor>, ImageError> {
        let Some(raw) = self.hurried.resolve(&mount.tag(repository))? else {
            return Ok(Vec::new());
        };
        // What is no index is as good as nothing, and is overwritten.
        match ParsedManifest::parse(&raw.bytes, Some(raw.descriptor.media_type.as_str())) {
            Ok(ParsedManifest::Index(index)) => Ok(index.manifests),
            _ => Ok(Vec::new()),
        }
    }

    /// Notes that a step is about to use a mount.
    pub(crate) fn use_mount(&self, name: Digest, mount: UsedMount) {
        if self.mount_repository().is_some() {
            self.state().mounts.insert(name, mount);
        }
    }

    /// Saves the mounts that this build used and changed. What does not work is told of, and nothing more.
    pub(crate) fn save_mounts(&self) {
        let used: BTreeMap<Digest, UsedMount> = std::mem::take(&mut self.state().mounts);
        for (name, mount) in used {
            if self.environment.cancellation.is_requested() {
                return;
            }
            let Some((repository, sharing)) = self.mount_repository() else { return };
            match self.save_mount(repository, sharing, &name, &mount) {
                Ok(()) | Err(ImageError::Canceled) => {}
                Err(ImageError::Registry(error)) => drop(self.failed(repository, &error)),
                Err(error) => self.warn(format!("save the cache {}: {error}", mount.id)),
            }
        }
    }

    fn save_mount(
        &self,
        repository: &Reference,
        sharing: MountSharing,
        name: &Digest,
        mount: &UsedMount,
    ) -> Result<(), ImageError> {
        let store = self.environment.store;
        let locks = FileLocks::new(store.lock_dir());
        let me = Holder::of_this_process(&format!("save the cache {}", mount.id));
        // Whoever uses it now saves it afterwards.
        let Attempt::Held(_lease) = locks.try_acquire(&crate::step::cache_lock(name), Hold::Alone, &me)?
        else {
            return Ok(());
        };
        let directory = store.cache_mount_dir(name);
        let content = listing(&directory).map_err(ImageError::io("read", &directory))?;
        let seen = store.index().get(SEEN, &seen_key(repository, name))?;
        if content.files == 0 || seen.is_some_and(|seen| seen.body == content.digest.to_string().as_bytes()) {
            return Ok(());
        }
        if content.bytes > sharing.max_bytes {
            let (has, most) = (content.bytes >> 20, sharing.max_bytes >> 20);
            self.warn(format!("the cache {} is not saved: it has {has} MiB, more than {most}", mount.id));
            return Ok(());
        }
        let blob = self.push_tar(repository, mount, &directory)?;
        let manifest = self.describe(repository, mount, blob)?;
        let mut entries = vec![manifest];
        let is_other = |entry: &Descriptor| entry.annotations.get(STEP) != Some(&mount.step.to_string());
        entries.extend(self.saved(repository, mount)?.into_iter().filter(is_other));
        entries.truncate(KEPT);
        let bytes = ImageIndex::oci(entries).to_bytes();
        let media_type = MediaType::from(MediaType::OCI_INDEX);
        self.hurried.push_manifest(&mount.tag(repository), &media_type, &bytes)?;
        let body = content.digest.to_string();
        Ok(store.index().put(SEEN, &seen_key(repository, name), body.as_bytes(), &[])?)
    }

    fn push_tar(
        &self,
        repository: &Reference,
        mount: &UsedMount,
        directory: &Path,
    ) -> Result<Descriptor, ImageError> {
        let source = TarSource { directory: directory.to_owned(), clamp: None };
        let stream = Mutex::new(LayerStream::of_unknown(source, Compression::Zstd));
        let what = format!("cache {}", mount.id);
        let transfer = Transfer::start(self.environment, TransferKind::Push, what, None);
        let source = BlobSource::Stream {
            reader: Box::new(SharedReader(&stream)),
            finish: Box::new(|| {
                let stream = stream.lock().map_err(|_| io::Error::other("the stream failed"))?;
                let outcome = stream.outcome().ok_or_else(|| io::Error::other("the tar ended early"))?;
                Ok(Descriptor::new(MediaType::OCI_LAYER_ZSTD, outcome.digest, outcome.size))
            }),
        };
        let pushed = self.hurried.push_blob(repository, source, &[], &transfer);
        Ok(transfer.ended(pushed)?.descriptor)
    }

    /// Stores the manifest of a content, and describes it as the index does.
    fn describe(
        &self,
        repository: &Reference,
        mount: &UsedMount,
        blob: Descriptor,
    ) -> Result<Descriptor, ImageError> {
        let registry = &self.hurried;
        let empty = self.push_empty(repository)?;
        let annotations = BTreeMap::from([
            (ID.to_owned(), mount.id.clone()),
            (PLATFORM.to_owned(), mount.platform.to_string()),
            (STEP.to_owned(), mount.step.to_string()),
            (COMMAND.to_owned(), mount.command.to_string()),
            (SAVED.to_owned(), now().to_string()),
        ]);
        let mut manifest = ImageManifest {
            artifact_type: Some(ARTIFACT.to_owned()),
            annotations: annotations.clone(),
            ..ImageManifest::oci(empty, vec![blob])
        };
        self.sign(&mut manifest);
        let (media_type, bytes) = (MediaType::from(MediaType::OCI_MANIFEST), manifest.to_bytes());
        let name = repository.with_digest(Digest::of(&bytes));
        let descriptor = registry.push_manifest(&name, &media_type, &bytes)?;
        Ok(Descriptor { media_type, annotations, ..descriptor })
    }

    /// Remembers that the directory is what the repository has.
    fn note_content(&self, name: &Digest, directory: &Path) {
        let Some((repository, _)) = self.mount_repository() else { return };
        let index = self.environment.store.index();
        if let Ok(content) = listing(directory)
            && let Err(error) =
                index.put(SEEN, &seen_key(repository, name), content.digest.to_string().as_bytes(), &[])
        {
            tracing::warn!("cannot remember what the cache {} holds: {error}", name.short());
        }
    }
}

fn seen_key(repository: &Reference, name: &Digest) -> String {
    format!("{} {}", name.hex(), super::name(repository))
}

/// What is in a directory, by its looks.
struct Content {
    digest: Digest,
    files: u64,
    bytes: u64,
}

/// Names, sizes and times of all files. Two contents that look alike may differ; then an older one stays saved, which
/// costs whoever restores it some time.
fn listing(directory: &Path) -> io::Result<Content> {
    let mut found = BTreeMap::new();
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(&directory)? {
            let path = entry?.path();
            let metadata = path.symlink_metadata()?;
            if metadata.is_dir() {
                open.push(path.clone());
            }
            found.insert(path, metadata);
        }
    }
    let mut encoder = Encoder::new("strake mount content 1");
    let (mut files, mut bytes) = (0, 0);
    for (path, metadata) in &found {
        use std::os::unix::ffi::OsStrExt;
        let relative = path.strip_prefix(directory).unwrap_or(path);
        encoder.bytes(relative.as_os_str().as_bytes()).number(u64::from(metadata.mode()));
        if !metadata.is_dir() {
            encoder.number(metadata.size()).number(metadata.mtime().cast_unsigned());
            files += 1;
            bytes += metadata.size();
        }
    }
    Ok(Content { digest: encoder.finish(), files, bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(step: &str, command: &str) -> UsedMount {
        UsedMount {
            id: "npm".into(),
            platform: "linux/amd64".parse().unwrap(),
            step: Digest::of(step.as_bytes()).hex().parse().unwrap(),
            command: Digest::of(command.as_bytes()),
        }
    }

    fn entry(of: &UsedMount) -> Descriptor {
        let annotations =
            [(STEP.to_owned(), of.step.to_string()), (COMMAND.to_owned(), of.command.to_string())];
        let descriptor = Descriptor::of(MediaType::OCI_MANIFEST, b"x");
        Descriptor { annotations: annotations.into(), ..descriptor }
    }

    #[test]
    fn the_same_step_is_more_alike_than_the_same_command() {
        let own = mount("a", "npm ci");
        let by = |other: &UsedMount| own.likeness(&entry(other));
        assert_eq!(by(&own), 2);
        assert_eq!(by(&mount("b", "npm ci")), 1);
        assert_eq!(by(&mount("b", "npm test")), 0);
        assert_eq!(own.likeness(&Descriptor::of(MediaType::OCI_MANIFEST, b"x")), 0);
    }

    #[test]
    fn a_listing_sees_names_sizes_times_and_kinds() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let digest = || listing(root).unwrap().digest;
        let empty = digest();
        std::fs::create_dir(root.join("d")).unwrap();
        std::fs::write(root.join("d/f"), "one").unwrap();
        let one = listing(root).unwrap();
        assert_eq!((one.files, one.bytes), (1, 3));
        assert_ne!(one.digest, empty);
        assert_eq!(digest(), one.digest);
        std::fs::rename(root.join("d/f"), root.join("d/g")).unwrap();
        assert_ne!(digest(), one.digest);
        // A link is not followed, whereever it leads.
        std::os::unix::fs::symlink("/", root.join("root")).unwrap();
        assert_eq!(listing(root).unwrap().files, 2);
    }
}
