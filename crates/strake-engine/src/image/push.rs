//! Sending an image to its registry.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use strake_oci::{Compression, Descriptor, Digest, ImageManifest, MediaType, Reference};
use strake_registry::{BlobSource, ErrorKind, Pushed, PushedBlob, RegistryError};
use strake_store::LayerBlob;

use super::content::{self, Source};
use super::error::ImageError;
use super::record::{self, ImageLayer, NameRecord};
use super::resolve;
use super::stream::LayerStream;
use super::there::There;
use super::transfer::Transfer;
use super::types::{PushOptions, PushStatistics, PushedImage};
use crate::event::{Event, TransferKind};
use crate::request::Environment;
use crate::signing::{self, SigningKey};

/// How many blobs are sent at once. Compressing takes all cores for one blob already; more than a few only help with
/// the pauses of the registry.
const PARALLEL: usize = 3;

/// How often an image is sent again that a registry did not take for want of a blob.
const RESENDS: u32 = 6;

/// The pause before it is sent again; each further one is twice as long. A registry that several nodes send the same
/// blob to at once may not know it for a moment.
const RESEND_PAUSE: Duration = Duration::from_millis(40);

pub(crate) fn push(
    env: &Environment<'_>,
    reference: &Reference,
    options: &PushOptions,
) -> Result<PushedImage, ImageError> {
    if reference.digest().is_some() {
        return Err(ImageError::Usage(format!(
            "{reference}: only a tag can be pushed, the digest follows from the content"
        )));
    }
    push_named(env, reference, reference, options)
}

pub(crate) fn push_named(
    env: &Environment<'_>,
    source: &Reference,
    target: &Reference,
    options: &PushOptions,
) -> Result<PushedImage, ImageError> {
    let unknown = || ImageError::unknown(&source.familiar());
    let name = record::name_record(env.store, source)?.ok_or_else(unknown)?;
    let known = name.manifest.clone();
    let (pushed, name) = resending(|try_| send(env, name.clone(), target, options, try_))?;
    if name.manifest != known {
        record::put_name(env.store, source, &name)?;
    }
    Ok(pushed)
}

/// Another node that sends the same blob, or a collection in the registry, can take one away between its arrival and
/// the manifest. Whatever is missing is sent once more.
pub(super) fn resending<T>(mut send: impl FnMut(Try) -> Result<T, ImageError>) -> Result<T, ImageError> {
    let mut try_ = Try::First;
    for tries in 0..RESENDS {
        match send(try_) {
            Err(ImageError::Registry(error)) if error.misses_blob() => {}
            other => return other,
        }
        try_ = Try::Again;
        std::thread::sleep(RESEND_PAUSE * 2_u32.pow(tries));
    }
    send(try_)
}

/// How often an image was sent before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Try {
    First,
    /// Something was missing: what was believed to be there may be just that.
    Again,
}

/// What is at the tag that is to be pushed.
fn at_tag(env: &Environment<'_>, tag: &Reference, options: &PushOptions) -> Result<There, ImageError> {
    if options.is_tag_free { Ok(There::default()) } else { There::at_tag(env, tag) }
}

/// Sends an image, and answers what is known of its name afterwards.
fn send(
    env: &Environment<'_>,
    name: NameRecord,
    reference: &Reference,
    options: &PushOptions,
    try_: Try,
) -> Result<(PushedImage, NameRecord), ImageError> {
    let image =
        record::image(env.store, name.image)?.ok_or_else(|| ImageError::unknown(&reference.familiar()))?;
    let (_, config) = record::config(env.store, name.image)?;
    // A manifest that says something else of the image is another one.
    let kept = resolve::kept_manifest(env, name.manifest.as_ref(), name.image)?.filter(|(_, _, manifest)| {
        let is_signed = |key: &SigningKey| signing::verify(&[key.public()], manifest).is_ok();
        options.annotations.iter().all(|said| manifest.annotations.get(said.0) == Some(said.1))
            && options.signing_key.as_ref().is_none_or(is_signed)
    });
    let there = match (try_, &kept) {
        (Try::Again, _) => There::default(),
        (Try::First, Some((descriptor, _, manifest))) => {
            at_tag(env, reference, options)?.and_manifest(env, reference, (descriptor, manifest))?
        }
        (Try::First, None) => at_tag(env, reference, options)?,
    };
    let wanted: Vec<Option<&Descriptor>> = match &kept {
        Some((_, _, manifest)) => manifest.layers.iter().map(Some).collect(),
        None => vec![None; image.layers.len()],
    };
    let config_type =
        kept.as_ref().map_or(MediaType::OCI_CONFIG, |(_, _, manifest)| manifest.config.media_type.as_str());
    let config_descriptor = Descriptor::of(config_type, &config);
    let mut jobs: Vec<Job<'_>> = Vec::new();
    for (layer, wanted) in image.layers.iter().zip(wanted) {
        jobs.push(Job::Layer(layer, wanted));
    }
    jobs.push(Job::Config(&config, &config_descriptor));
    let pushed = run_all(env, reference, options.compression, &jobs, &there)?;
    let statistics = count(&pushed);
    let (media_type, bytes) = manifest_of(kept, pushed, options);
    finish(env, reference, &there, (media_type, bytes), name, statistics)
}

pub(super) enum Job<'a> {
    Layer(&'a ImageLayer, Option<&'a Descriptor>),
    Config(&'a [u8], &'a Descriptor),
}

/// Brings blobs into a repository, unless they are `there`, several side by side.
pub(super) fn run_all(
    env: &Environment<'_>,
    reference: &Reference,
    compression: Compression,
    jobs: &[Job<'_>],
    there: &There,
) -> Result<Vec<PushedBlob>, ImageError> {
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<(usize, Result<PushedBlob, ImageError>)>> = Mutex::default();
    let lock = || results.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let worker = || {
        while let Some((position, job)) = {
            let position = next.fetch_add(1, Ordering::Relaxed);
            jobs.get(position).map(|job| (position, job))
        } {
            let result = if env.cancellation.is_requested() {
                Err(ImageError::Canceled)
            } else {
                run(env, reference, compression, job, there)
            };
            if result.is_err() {
                next.store(jobs.len(), Ordering::Relaxed);
            }
            lock().push((position, result));
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..PARALLEL.min(jobs.len()) {
            scope.spawn(worker);
        }
        worker();
    });
    let mut results = results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    results.sort_by_key(|(position, _)| *position);
    results.into_iter().map(|(_, result)| result).collect()
}

fn run(
    env: &Environment<'_>,
    reference: &Reference,
    compression: Compression,
    job: &Job<'_>,
    there: &There,
) -> Result<PushedBlob, ImageError> {
    let existed =
        |descriptor: &Descriptor| PushedBlob { descriptor: descriptor.clone(), how: Pushed::Existed };
    let pushed = match job {
        Job::Config(_, wanted) | Job::Layer(_, Some(wanted)) if there.has(wanted.digest) => existed(wanted),
        Job::Config(bytes, descriptor) => {
            let source = BlobSource::Bytes { bytes: bytes.to_vec(), descriptor: (*descriptor).clone() };
            env.registry.push_new_blob(
                reference,
                source,
                &next_door(env, reference, descriptor.digest)?,
                &(),
            )?
        }
        Job::Layer(layer, Some(wanted)) => push_known(env, reference, layer, wanted)?,
        Job::Layer(layer, None) => push_any(env, reference, layer, compression, there)?,
    };
    record::put_place(env.store, reference, pushed.descriptor.digest)?;
    Ok(pushed)
}

/// Pushes a layer in whatever form it has, preferring what costs nothing.
fn push_any(
    env: &Environment<'_>,
    reference: &Reference,
    layer: &ImageLayer,
    compression: Compression,
    there: &There,
) -> Result<PushedBlob, ImageError> {
    let directory = content::directory(env, layer.diff_id, Some(layer))?;
    let mut blobs = content::trusted_blobs(env, layer)?;
    // A layer that can be written anew is written the way that was asked for; of one from elsewhere any form is as
    // good as another.
    if directory.is_some() {
        blobs.retain(|blob| blob.compression == compression);
    }
    blobs.sort_by_key(|blob| blob.compression != compression);
    if let Some(blob) = blobs.iter().find(|blob| there.has(blob.digest)) {
        return Ok(PushedBlob { descriptor: content::describe(blob), how: Pushed::Existed });
    }
    for blob in &blobs {
        // A blob that is only kept here may be in a form that nobody asked for.
        let is_kept = blob.compression == compression && env.store.blobs().has(&blob.digest)?;
        if is_kept || !record::places(env.store, blob.digest)?.is_empty() {
            match push_known(env, reference, layer, &content::describe(blob)) {
                Ok(pushed) => return Ok(pushed),
                Err(error) if directory.is_none() => return Err(error),
                Err(_) => {}
            }
        }
    }
    let Some(directory) = directory else {
        return push_recompressed(env, reference, layer, compression);
    };
    let stream = Mutex::new(LayerStream::compressed(directory, layer.diff_id, compression));
    push_stream(env, reference, layer, &stream, compression)
}

/// Sends a blob that is being made.
fn push_stream(
    env: &Environment<'_>,
    reference: &Reference,
    layer: &ImageLayer,
    stream: &Mutex<LayerStream>,
    compression: Compression,
) -> Result<PushedBlob, ImageError> {
    let transfer =
        Transfer::start(env, TransferKind::Push, format!("layer {}", layer.diff_id.0.short()), None);
    let source = BlobSource::Stream {
        reader: Box::new(SharedReader(stream)),
        finish: Box::new(|| {
            let stream = stream.lock().map_err(|_| std::io::Error::other("the stream failed"))?;
            let outcome = stream.outcome().ok_or_else(|| std::io::Error::other("the layer ended early"))?;
            Ok(content::describe(&content::blob_of(&outcome, compression)))
        }),
    };
    let pushed = transfer.ended(env.registry.push_blob(reference, source, &[], &transfer))?;
    let blob = LayerBlob { digest: pushed.descriptor.digest, size: pushed.descriptor.size, compression };
    record::put_blob(env.store, layer.diff_id, &blob)?;
    Ok(pushed)
}

/// Reading and finishing need the same stream, one after the other.
pub(crate) struct SharedReader<'a>(pub(crate) &'a Mutex<LayerStream>);

impl std::io::Read for SharedReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.lock().map_err(|_| std::io::Error::other("the stream failed"))?.read(buffer)
    }
}

/// Pushes the very blob that is named: there already, mounted from a repository next door, from the store, or
/// passed on from another registry without touching the disk.
fn push_known(
    env: &Environment<'_>,
    reference: &Reference,
    layer: &ImageLayer,
    wanted: &Descriptor,
) -> Result<PushedBlob, ImageError> {
    let places = record::places(env.store, wanted.digest)?;
    let is_here = env.store.blobs().has(&wanted.digest)?;
    let next_door = next_door(env, reference, wanted.digest)?;
    let transfer = Transfer::start(
        env,
        TransferKind::Push,
        format!("layer {}", wanted.digest.short()),
        Some(wanted.size),
    );
    // Without the file this still finds or mounts what the registry has, and otherwise fails with `Local`.
    let source =
        BlobSource::File { path: env.store.blobs().path(&wanted.digest), descriptor: wanted.clone() };
    match transfer.ended(env.registry.push_blob(reference, source, &next_door, &transfer)) {
        Ok(pushed) => return Ok(PushedBlob { descriptor: wanted.clone(), ..pushed }),
        Err(error) if is_here || error.kind != ErrorKind::Local => return Err(error.into()),
        Err(_) => {}
    }
    let compression = wanted.media_type.layer_compression().unwrap_or(Compression::Gzip);
    if let Some(directory) = content::directory(env, layer.diff_id, Some(layer))? {
        let stream = Mutex::new(LayerStream::compressed(directory, layer.diff_id, compression));
        let pushed = push_stream(env, reference, layer, &stream, compression)?;
        if pushed.descriptor.digest == wanted.digest {
            return Ok(PushedBlob { descriptor: wanted.clone(), ..pushed });
        }
    }
    pass_on(env, reference, layer, wanted, &places, &transfer)
}

/// The repositories of the same registry that are known to have had a blob.
fn next_door(
    env: &Environment<'_>,
    reference: &Reference,
    digest: Digest,
) -> Result<Vec<Reference>, ImageError> {
    let mut places = record::places(env.store, digest)?;
    places.retain(|place| place.registry() == reference.registry());
    Ok(places)
}

/// Copies a blob from one registry to another.
fn pass_on(
    env: &Environment<'_>,
    reference: &Reference,
    layer: &ImageLayer,
    wanted: &Descriptor,
    places: &[Reference],
    transfer: &Transfer<'_>,
) -> Result<PushedBlob, ImageError> {
    let mut failure: Option<RegistryError> = None;
    for place in places {
        let reader = match env.registry.open_blob(place, wanted) {
            Ok(reader) => reader,
            Err(error) => {
                failure = failure.or(Some(error));
                continue;
            }
        };
        let descriptor = wanted.clone();
        // The reader fails at its end unless the content is what the descriptor says.
        let source =
            BlobSource::Stream { reader: Box::new(reader), finish: Box::new(move || Ok(descriptor)) };
        return Ok(env.registry.push_blob(reference, source, &[], transfer)?);
    }
    Err(failure.map_or_else(
        || ImageError::LayerGone {
            diff_id: layer.diff_id.0.short(),
            tried: format!("blob {} is known in no repository", wanted.digest.short()),
        },
        ImageError::from,
    ))
}

/// Pushes a layer that is here in another form only: from the store's blob, compressed as asked.
fn push_recompressed(
    env: &Environment<'_>,
    reference: &Reference,
    layer: &ImageLayer,
    compression: Compression,
) -> Result<PushedBlob, ImageError> {
    let blob = super::blob::store_layer(env, layer, compression)?;
    push_known(env, reference, layer, &content::describe(&blob))
}

fn count(pushed: &[PushedBlob]) -> PushStatistics {
    let mut statistics = PushStatistics::default();
    for blob in pushed {
        match blob.how {
            Pushed::Existed => statistics.existed += 1,
            Pushed::Mounted => statistics.mounted += 1,
            Pushed::Uploaded => {
                statistics.uploaded += 1;
                statistics.uploaded_bytes += blob.descriptor.size;
            }
        }
    }
    statistics
}

type Kept = Option<(Descriptor, Vec<u8>, ImageManifest)>;

/// The manifest to send: the one that is known, or a new one of what was sent.
fn manifest_of(kept: Kept, mut pushed: Vec<PushedBlob>, options: &PushOptions) -> (MediaType, Vec<u8>) {
    if let Some((descriptor, bytes, _)) = kept {
        return (descriptor.media_type, bytes);
    }
    let config = pushed.pop().expect("the configuration is always the last job");
    let layers = pushed.into_iter().map(|blob| blob.descriptor).collect();
    let mut manifest = ImageManifest::oci(config.descriptor, layers);
    manifest.annotations.clone_from(&options.annotations);
    if let Some(key) = &options.signing_key {
        key.sign(&mut manifest);
    }
    (MediaType::OCI_MANIFEST.into(), manifest.to_bytes())
}

/// Writes the manifest, which makes everything visible. One that is there is written again: it is how the registry
/// finds out that it has lost something that it names.
fn finish(
    env: &Environment<'_>,
    reference: &Reference,
    there: &There,
    (media_type, bytes): (MediaType, Vec<u8>),
    mut name: NameRecord,
    statistics: PushStatistics,
) -> Result<(PushedImage, NameRecord), ImageError> {
    let descriptor = match env.registry.push_manifest(reference, &media_type, &bytes) {
        Err(error) if there.makes_up_for(&error, Digest::of(&bytes)) => {
            Descriptor::of(media_type.as_str(), &bytes)
        }
        pushed => pushed?,
    };
    debug_assert_eq!(descriptor.digest, Digest::of(&bytes), "the registry client verifies what was stored");
    env.store.blobs().write(&bytes)?;
    let descriptor = Descriptor { media_type, ..descriptor };
    name.manifest = Some(descriptor.clone());
    name.answered = Some(descriptor.digest);
    (env.events)(Event::Phase(format!("pushed {}", reference.familiar())));
    Ok((PushedImage { descriptor, statistics }, name))
}

/// A blob of a layer that lies in the store.
pub(crate) fn find_local(
    env: &Environment<'_>,
    layer: &ImageLayer,
    compression: Option<Compression>,
) -> Result<Option<LayerBlob>, ImageError> {
    for source in content::sources(env, layer.diff_id, Some(layer))? {
        if let Source::Blob(blob) = source
            && compression.is_none_or(|compression| compression == blob.compression)
        {
            return Ok(Some(blob));
        }
    }
    Ok(None)
}
