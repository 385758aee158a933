//! OCI layouts and docker archives.
//!
//! A tar wants the name and size of a file before its content, but a layer's digest and size are known only when it
//! is written. So room for the header is left, the content streamed behind it, and the header filled in afterwards:
//! one pass, and no second copy on disk.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde_json::json;
use strake_oci::{
    Compression, Descriptor, DiffId, Digest, ImageId, ImageIndex, ImageManifest, MediaType, Reference,
};
use strake_store::LayerBlob;

use super::Written;
use super::dest::Aside;
use crate::event::TransferKind;
use crate::image::{
    FULL_NAME, ImageError, ImageLayer, LayerStream, REF_NAME, Transfer, content, record, resolve, store_layer,
};
use crate::request::Environment;

const BLOCK: u64 = 512;

/// Where files of an archive go, one after the other.
pub(super) trait Sink {
    /// Writes a file of known content.
    fn bytes(&mut self, name: &str, bytes: &[u8]) -> Result<(), ImageError> {
        let mut reader = bytes;
        self.stream(&mut reader, &|| Ok(name.to_owned())).map(drop)
    }
    /// Writes a file whose name is known when its content was read.
    fn stream(
        &mut self,
        read: &mut dyn Read,
        name: &dyn Fn() -> io::Result<String>,
    ) -> Result<u64, ImageError>;
    /// Whether a blob is there already.
    fn has(&self, name: &str) -> bool;
}

/// A tar that is being written into a file.
struct TarSink<'a> {
    file: &'a File,
    end: u64,
    names: BTreeMap<String, ()>,
}

impl<'a> TarSink<'a> {
    fn new(file: &'a File) -> Self {
        Self { file, end: 0, names: BTreeMap::new() }
    }

    fn header(&self, at: u64, name: &str, size: u64, kind: tar::EntryType) -> Result<(), ImageError> {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(if kind.is_dir() { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        // The same image gives the same archive.
        header.set_mtime(0);
        header.set_size(size);
        let failed = ImageError::io("write entry", name);
        header
            .set_path(name)
            .and_then(|()| {
                header.set_cksum();
                self.file.write_all_at(header.as_bytes(), at)
            })
            .map_err(failed)
    }

    fn directory(&mut self, name: &str) -> Result<(), ImageError> {
        self.header(self.end, name, 0, tar::EntryType::Directory)?;
        self.end += BLOCK;
        Ok(())
    }

    fn finish(self) -> Result<u64, ImageError> {
        let end = [0; 1024];
        self.file.write_all_at(&end, self.end).map_err(ImageError::io("write", "archive"))?;
        Ok(self.end + end.len() as u64)
    }
}

impl Sink for TarSink<'_> {
    fn stream(
        &mut self,
        read: &mut dyn Read,
        name: &dyn Fn() -> io::Result<String>,
    ) -> Result<u64, ImageError> {
        let begin = self.end + BLOCK;
        let mut out = At { file: self.file, position: begin };
        io::copy(&mut io::BufReader::with_capacity(1 << 20, read), &mut out)
            .map_err(ImageError::io("write", "layer into the archive"))?;
        let size = out.position - begin;
        let padding = size.next_multiple_of(BLOCK) - size;
        let zeros = [0; 512];
        let padding = usize::try_from(padding).expect("less than a block");
        out.write_all(&zeros[..padding]).map_err(ImageError::io("write", "archive"))?;
        let name = name().map_err(ImageError::io("write", "layer into the archive"))?;
        // Two layers may turn out to be the same only now: the second is written over by what comes next.
        if self.names.insert(name.clone(), ()).is_none() {
            self.header(self.end, &name, size, tar::EntryType::Regular)?;
            self.end = out.position;
        }
        Ok(size)
    }

    fn has(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }
}

/// Writes on from a position.
struct At<'a> {
    file: &'a File,
    position: u64,
}

impl Write for At<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write_at(bytes, self.position)?;
        self.position += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A layout as a directory.
pub(super) struct DirectorySink<'a> {
    pub(super) root: &'a Path,
}

impl Sink for DirectorySink<'_> {
    fn stream(
        &mut self,
        read: &mut dyn Read,
        name: &dyn Fn() -> io::Result<String>,
    ) -> Result<u64, ImageError> {
        let (aside, mut file) = Aside::create(&self.root.join("blob"))?;
        let size = io::copy(&mut io::BufReader::with_capacity(1 << 20, read), &mut file)
            .map_err(ImageError::io("write layer into", self.root))?;
        let name = name().map_err(ImageError::io("write layer into", self.root))?;
        aside.place(&file, &self.root.join(name))?;
        Ok(size)
    }

    fn has(&self, name: &str) -> bool {
        self.root.join(name).is_file()
    }
}

type Images = [(ImageId, Vec<Reference>)];

pub(super) fn write_layout_tar(
    env: &Environment<'_>,
    images: &Images,
    compression: Compression,
    file: &File,
) -> Result<Written, ImageError> {
    let mut sink = TarSink::new(file);
    sink.directory("blobs/")?;
    sink.directory("blobs/sha256/")?;
    let manifests = write_blobs(env, images, compression, &mut sink)?;
    sink.bytes("index.json", &index(images, &manifests, Vec::new()).to_bytes())?;
    sink.bytes("oci-layout", LAYOUT)?;
    Ok(Written { manifests, bytes: sink.finish()?, notes: Vec::new() })
}

pub(super) const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

pub(super) fn write_layout_directory(
    env: &Environment<'_>,
    images: &Images,
    compression: Compression,
    root: &Path,
) -> Result<Written, ImageError> {
    let blobs = root.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).map_err(ImageError::io("create directory", &blobs))?;
    let mut sink = DirectorySink { root };
    let manifests = write_blobs(env, images, compression, &mut sink)?;
    sink.bytes("oci-layout", LAYOUT)?;
    let earlier = match std::fs::read(root.join("index.json")) {
        Ok(bytes) => {
            serde_json::from_slice::<ImageIndex>(&bytes)
                .map_err(|error| ImageError::malformed(format!("{}/index.json", root.display()), error))?
                .manifests
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(ImageError::io("read", root.join("index.json"))(error)),
    };
    sink.bytes("index.json", &index(images, &manifests, earlier).to_bytes())?;
    Ok(Written { bytes: manifests.iter().map(|manifest| manifest.size).sum(), manifests, notes: Vec::new() })
}

/// The index of a layout: what was there under other names, then each image once per name.
fn index(images: &Images, manifests: &[Descriptor], earlier: Vec<Descriptor>) -> ImageIndex {
    let mut entries = Vec::new();
    let tags: Vec<&str> = images.iter().flat_map(|(_, names)| names).filter_map(Reference::tag).collect();
    for ((_, names), manifest) in images.iter().zip(manifests) {
        if names.is_empty() {
            entries.push(manifest.clone());
        }
        for name in names {
            let tag = name.tag().unwrap_or("latest");
            let is_unique = tags.iter().filter(|other| **other == tag).count() < 2;
            let short = if is_unique { tag.to_owned() } else { name.familiar() };
            let annotations = [(FULL_NAME.to_owned(), name.to_string()), (REF_NAME.to_owned(), short)];
            entries.push(Descriptor { annotations: annotations.into(), ..manifest.clone() });
        }
    }
    let name_of = |entry: &Descriptor| entry.annotations.get(REF_NAME).cloned();
    let new: Vec<Option<String>> = entries.iter().map(name_of).collect();
    let mut all: Vec<Descriptor> =
        earlier.into_iter().filter(|entry| !new.contains(&name_of(entry))).collect();
    all.extend(entries);
    ImageIndex::oci(all)
}

/// Where a layout keeps a blob.
pub(crate) fn blob_name(digest: Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn write_blobs(
    env: &Environment<'_>,
    images: &Images,
    compression: Compression,
    sink: &mut dyn Sink,
) -> Result<Vec<Descriptor>, ImageError> {
    images.iter().map(|(id, names)| write_image(env, *id, names, compression, sink)).collect()
}

fn write_image(
    env: &Environment<'_>,
    id: ImageId,
    names: &[Reference],
    compression: Compression,
    sink: &mut dyn Sink,
) -> Result<Descriptor, ImageError> {
    let (image, config, config_bytes) = crate::image::load_record(env, id)?;
    let kept = kept_manifest(env, id, names)?;
    let (descriptor, bytes, config_name) = match kept {
        Some((descriptor, bytes, manifest)) => {
            for (layer, wanted) in image.layers.iter().zip(&manifest.layers) {
                write_wanted(env, layer, wanted, sink)?;
            }
            (descriptor, bytes, blob_name(id.0))
        }
        None => {
            let mut layers = Vec::new();
            for layer in &image.layers {
                layers.push(write_layer(env, layer, compression, sink)?);
            }
            let config = Descriptor::of(MediaType::OCI_CONFIG, &config_bytes);
            let bytes = ImageManifest::oci(config, layers).to_bytes();
            (Descriptor::of(MediaType::OCI_MANIFEST, &bytes), bytes, blob_name(id.0))
        }
    };
    for (name, bytes) in [(config_name, &config_bytes), (blob_name(descriptor.digest), &bytes)] {
        if !sink.has(&name) {
            sink.bytes(&name, bytes)?;
        }
    }
    Ok(Descriptor { platform: Some(config.platform()), ..descriptor })
}

type Kept = Option<(Descriptor, Vec<u8>, ImageManifest)>;

/// The manifest that one of the names was pulled or pushed by.
fn kept_manifest(env: &Environment<'_>, id: ImageId, names: &[Reference]) -> Result<Kept, ImageError> {
    for name in names {
        let known = record::name_record(env.store, name)?.filter(|record| record.image == id);
        if let Some(known) = known
            && let Some(kept) = resolve::kept_manifest(env, known.manifest.as_ref(), id)?
        {
            return Ok(Some(kept));
        }
    }
    Ok(None)
}

/// Writes the very blob that a manifest names.
fn write_wanted(
    env: &Environment<'_>,
    layer: &ImageLayer,
    wanted: &Descriptor,
    sink: &mut dyn Sink,
) -> Result<(), ImageError> {
    let compression = wanted.media_type.layer_compression().unwrap_or(Compression::None);
    let blob = LayerBlob { digest: wanted.digest, size: wanted.size, compression };
    if sink.has(&blob_name(wanted.digest)) || copy_blob(env, &blob, sink)? {
        return Ok(());
    }
    // What was built here is made again, and is the same.
    let written = write_layer(env, layer, compression, sink)?;
    if written.digest == wanted.digest {
        return Ok(());
    }
    Err(ImageError::LayerGone {
        diff_id: layer.diff_id.0.short(),
        tried: format!("blob {} of its manifest", wanted.digest.short()),
    })
}

/// Copies a blob from the store or a repository that has it; `false` when nobody has it any more.
fn copy_blob(env: &Environment<'_>, blob: &LayerBlob, sink: &mut dyn Sink) -> Result<bool, ImageError> {
    let name = || Ok(blob_name(blob.digest));
    let transfer =
        Transfer::start(env, TransferKind::Export, format!("layer {}", blob.digest.short()), Some(blob.size));
    let stop = std::sync::atomic::AtomicBool::new(false);
    if env.store.blobs().has(&blob.digest)? {
        sink.stream(&mut transfer.reader(env.store.blobs().open(&blob.digest)?, &stop), &name)?;
        return Ok(true);
    }
    for place in record::places(env.store, blob.digest)? {
        if let Ok(reader) = env.registry.open_blob(&place, &content::describe(blob)) {
            sink.stream(&mut transfer.reader(reader, &stop), &name)?;
            return Ok(true);
        }
    }
    Ok(false)
}

/// Writes a layer in whatever form it has, or compresses it straight into the output.
pub(super) fn write_layer(
    env: &Environment<'_>,
    layer: &ImageLayer,
    compression: Compression,
    sink: &mut dyn Sink,
) -> Result<Descriptor, ImageError> {
    let directory = content::directory(env, layer.diff_id, Some(layer))?;
    let mut blobs = content::trusted_blobs(env, layer)?;
    if directory.is_some() {
        blobs.retain(|blob| blob.compression == compression);
    }
    blobs.sort_by_key(|blob| blob.compression != compression);
    for blob in &blobs {
        // A blob that is only kept here may be in a form that nobody asked for.
        let fits = blob.compression == compression || !record::places(env.store, blob.digest)?.is_empty();
        let is_near = directory.is_none() || env.store.blobs().has(&blob.digest)?;
        if sink.has(&blob_name(blob.digest)) || fits && is_near && copy_blob(env, blob, sink)? {
            return Ok(content::describe(blob));
        }
    }
    let Some(directory) = directory else {
        let blob = store_layer(env, layer, compression)?;
        copy_blob(env, &blob, sink)?;
        return Ok(content::describe(&blob));
    };
    let transfer =
        Transfer::start(env, TransferKind::Export, format!("layer {}", layer.diff_id.0.short()), None);
    let stream = std::cell::RefCell::new(LayerStream::compressed(directory, layer.diff_id, compression));
    let outcome = || stream.borrow().outcome().ok_or_else(|| io::Error::other("the layer ended early"));
    let stop = std::sync::atomic::AtomicBool::new(false);
    let mut reader = transfer.reader(CellReader(&stream), &stop);
    sink.stream(&mut reader, &|| outcome().map(|outcome| blob_name(outcome.digest)))?;
    let outcome = outcome().map_err(ImageError::io("write", "layer"))?;
    let blob = content::blob_of(&outcome, compression);
    record::put_blob(env.store, layer.diff_id, &blob)?;
    Ok(content::describe(&blob))
}

struct CellReader<'a>(&'a std::cell::RefCell<LayerStream>);

impl Read for CellReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.borrow_mut().read(buffer)
    }
}

/// What `docker load` (20.10 and later), podman and skopeo read: plain layer tars, named by their diff IDs.
pub(super) fn write_docker(
    env: &Environment<'_>,
    images: &Images,
    file: &File,
) -> Result<Written, ImageError> {
    let mut sink = TarSink::new(file);
    let mut entries = Vec::new();
    let mut repositories: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for (id, names) in images {
        let (image, _, config) = crate::image::load_record(env, *id)?;
        let mut layers = Vec::new();
        for layer in &image.layers {
            let name = format!("{}.tar", layer.diff_id.0.hex());
            if !sink.has(&name) {
                content::with_tar(env, TransferKind::Export, layer.diff_id, Some(layer), |tar| {
                    sink.stream(tar, &|| Ok(name.clone()))
                })?;
            }
            layers.push(name);
        }
        let config_name = format!("{}.json", id.0.hex());
        if !sink.has(&config_name) {
            sink.bytes(&config_name, &config)?;
        }
        let tags: Vec<String> = names.iter().map(Reference::familiar).collect();
        if let Some(top) = image.layers.last() {
            add_repositories(&mut repositories, names, top.diff_id);
        }
        entries.push(json!({ "Config": config_name, "RepoTags": tags, "Layers": layers }));
    }
    sink.bytes("manifest.json", json!(entries).to_string().as_bytes())?;
    if !repositories.is_empty() {
        sink.bytes("repositories", json!(repositories).to_string().as_bytes())?;
    }
    Ok(Written { manifests: Vec::new(), bytes: sink.finish()?, notes: Vec::new() })
}

fn add_repositories(
    repositories: &mut BTreeMap<String, BTreeMap<String, String>>,
    names: &[Reference],
    top: DiffId,
) {
    for name in names {
        let Some(tag) = name.tag() else { continue };
        let familiar = name.familiar();
        let repository = familiar.strip_suffix(&format!(":{tag}")).unwrap_or(&familiar).to_owned();
        match repositories.entry(repository) {
            Entry::Vacant(entry) => drop(entry.insert([(tag.to_owned(), top.0.hex())].into())),
            Entry::Occupied(mut entry) => drop(entry.get_mut().insert(tag.to_owned(), top.0.hex())),
        }
    }
}
