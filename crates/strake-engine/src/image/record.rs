//! The documents that make the store know images. All are JSON with a version; a document of another version is
//! treated as absent, never guessed at.

use serde::{Deserialize, Serialize};
use strake_oci::{
    ChainId, Compression, Descriptor, DiffId, Digest, ImageConfig, ImageId, ManifestError, Reference,
};
use strake_store::{Index, LayerBlob, LayerId, Link, NewDocument, Store, StoreError};

use super::error::ImageError;
use super::origin::ORIGIN;

/// An image; the key is the hex form of its id.
pub(crate) const IMAGE: &str = "image";
/// A name; the key is the full reference.
pub(crate) const NAME: &str = "name";
/// A layer that can be made from a tar; the key is the layer id.
const CHAIN: &str = "chain";
/// A repository that has a blob; the key is `<digest hex> <repository>`.
const PLACE: &str = "blob-at";
/// A blob that some manifest says holds a tar, which nobody has checked yet; the key is `<diff ID hex> <blob hex>`.
const CLAIM: &str = "claim";
/// The tar of a layer with its times limited; the key is `<layer id> <seconds>`.
const CLAMPED: &str = "clamped";

const VERSION: u32 = 1;

/// The largest image configuration that is read, in bytes. The largest ones seen have some hundred KiB of history.
pub(crate) const MAX_CONFIG: u64 = 8 << 20;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ImageRecord {
    version: u32,
    /// Bottom first.
    pub(crate) layers: Vec<ImageLayer>,
}

impl ImageRecord {
    pub(crate) fn new(layers: Vec<ImageLayer>) -> Self {
        Self { version: VERSION, layers }
    }

    /// The record of an image whose layers come from elsewhere: each stands where its chain ID says.
    pub(crate) fn of_chain(diff_ids: &[DiffId]) -> Self {
        let layer = |(diff_id, chain): (&DiffId, ChainId)| ImageLayer {
            diff_id: *diff_id,
            layer: LayerId::of_chain(&chain),
            clamp: None,
        };
        Self::new(diff_ids.iter().zip(ChainId::all(diff_ids)).map(layer).collect())
    }
}

/// One layer of an image in this store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ImageLayer {
    pub(crate) diff_id: DiffId,
    /// Its directory, unpacked or not.
    #[serde(with = "layer_text")]
    pub(crate) layer: LayerId,
    /// The latest time that its tar's entries have, when that was limited (`SOURCE_DATE_EPOCH`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) clamp: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NameRecord {
    version: u32,
    pub(crate) image: ImageId,
    /// The manifest of the image as it was pulled, loaded or pushed; its bytes are a blob of the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) manifest: Option<Descriptor>,
    /// What the registry answered to the name: the manifest, or the index that it was chosen from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) answered: Option<Digest>,
}

impl NameRecord {
    pub(crate) fn new(image: ImageId) -> Self {
        Self { version: VERSION, image, manifest: None, answered: None }
    }

    /// Whether a reference with this digest means what this name stands for.
    pub(crate) fn has_digest(&self, digest: Digest) -> bool {
        self.answered == Some(digest)
            || self.manifest.as_ref().is_some_and(|manifest| manifest.digest == digest)
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct ChainRecord {
    version: u32,
    diff_id: DiffId,
    chain: ChainId,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct ClampedRecord {
    version: u32,
    diff_id: DiffId,
    size: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct ClaimRecord {
    version: u32,
    digest: Digest,
    size: u64,
    compression: Compression,
}

/// A document with its content, ready to be put.
fn document(kind: &str, key: String, body: &impl Serialize, links: Vec<Link>) -> NewDocument {
    let body = serde_json::to_vec(body).expect("these documents have only string keys");
    NewDocument { kind: kind.to_owned(), key, body, links }
}

fn read<T: for<'de> Deserialize<'de>>(store: &Store, kind: &str, key: &str) -> Result<Option<T>, StoreError> {
    let document = store.index().get(kind, key)?;
    // What cannot be read was written by another version: as good as absent.
    Ok(document.and_then(|document| serde_json::from_slice(&document.body).ok()))
}

pub(crate) fn image(store: &Store, id: ImageId) -> Result<Option<ImageRecord>, StoreError> {
    let record: Option<ImageRecord> = read(store, IMAGE, &id.0.hex())?;
    Ok(record.filter(|record| record.version == VERSION))
}

pub(crate) fn name_record(store: &Store, reference: &Reference) -> Result<Option<NameRecord>, StoreError> {
    let record: Option<NameRecord> = read(store, NAME, &reference.to_string())?;
    Ok(record.filter(|record| record.version == VERSION))
}

/// All names with what they stand for, sorted.
pub(crate) fn names(store: &Store) -> Result<Vec<(Reference, NameRecord)>, StoreError> {
    let parse = |entry: strake_store::DocumentEntry| {
        let reference = entry.key.parse().ok()?;
        let record: NameRecord = serde_json::from_slice(&entry.document.body).ok()?;
        (record.version == VERSION).then_some((reference, record))
    };
    Ok(store.index().list(NAME)?.into_iter().filter_map(parse).collect())
}

/// The configuration of an image and its bytes.
pub(crate) fn config(store: &Store, id: ImageId) -> Result<(ImageConfig, Vec<u8>), ImageError> {
    let bytes = store.blobs().read_verified(&id.0, MAX_CONFIG)?;
    Ok((parse_config(&bytes, &format!("configuration of image {}", id.0.short()))?, bytes))
}

/// Reads a configuration and checks that it agrees with itself (image-spec v1.1 `config.md`).
pub(crate) fn parse_config(bytes: &[u8], what: &str) -> Result<ImageConfig, ImageError> {
    let config: ImageConfig = serde_json::from_slice(bytes)
        .map_err(|error| ImageError::malformed(what, format!("not an image configuration: {error}")))?;
    check_history(&config, what)?;
    Ok(config)
}

/// The entries of the history that made a layer are as many as the layers, if there is a history at all.
pub(crate) fn check_history(config: &ImageConfig, what: &str) -> Result<(), ImageError> {
    let layers = config.rootfs.diff_ids.len();
    if layers > strake_oci::ImageManifest::MAX_LAYERS {
        return Err(ImageError::malformed(what, ManifestError::Layers(layers)));
    }
    let entries = config.history.iter().filter(|entry| !entry.empty_layer).count();
    if !config.history.is_empty() && entries != layers {
        let problem = format!("its history tells of {entries} layers, but it has {layers}");
        return Err(ImageError::malformed(what, problem));
    }
    Ok(())
}

/// An image to be recorded, with its names.
#[derive(Debug)]
pub(crate) struct NewImage<'a> {
    pub(crate) config: &'a [u8],
    pub(crate) record: ImageRecord,
    pub(crate) manifest: Option<(Descriptor, &'a [u8])>,
    pub(crate) answered: Option<Digest>,
    pub(crate) names: &'a [Reference],
}

/// Writes configuration and manifest, then records the image and its names at once.
pub(crate) fn put_image(store: &Store, new: &NewImage<'_>) -> Result<ImageId, StoreError> {
    let id = ImageId(store.blobs().write(new.config)?.digest);
    if let Some((_, bytes)) = new.manifest {
        store.blobs().write(bytes)?;
    }
    let mut documents = Vec::new();
    let mut links = vec![Link::Blob(id.0)];
    let diff_ids: Vec<DiffId> = new.record.layers.iter().map(|layer| layer.diff_id).collect();
    for (layer, chain) in new.record.layers.iter().zip(ChainId::all(&diff_ids)) {
        if layer.layer == LayerId::of_chain(&chain) {
            documents.push(chain_document(store, layer.diff_id, chain)?);
            links.push(Link::Document { kind: CHAIN.to_owned(), key: layer.layer.to_string() });
        } else {
            // Made here, or by somebody else on an equal stack.
            links.push(layer_link(store.index(), &layer.layer)?);
        }
        links.extend(content_links(store, layer.diff_id)?);
    }
    links.extend(place_links(store, id.0)?);
    links.push(Link::Document { kind: ORIGIN.to_owned(), key: id.0.hex() });
    documents.push(document(IMAGE, id.0.hex(), &new.record, links));
    let manifest = new.manifest.as_ref().map(|(descriptor, _)| descriptor.clone());
    for name in new.names {
        // The same image again keeps the manifest it was pushed by, so that pushing it once more is one request.
        let earlier = name_record(store, name)?.filter(|earlier| manifest.is_none() && earlier.image == id);
        let fresh = NameRecord { manifest: manifest.clone(), answered: new.answered, ..NameRecord::new(id) };
        let record = earlier.unwrap_or(fresh);
        documents.push(name_document(name, &record));
    }
    store.index().put_many(&documents)?;
    Ok(id)
}

/// Gives an image that is there a name.
pub(crate) fn put_name(store: &Store, reference: &Reference, record: &NameRecord) -> Result<(), StoreError> {
    store.index().put_many(&[name_document(reference, record)])
}

fn name_document(reference: &Reference, record: &NameRecord) -> NewDocument {
    let mut links = vec![Link::Document { kind: IMAGE.to_owned(), key: record.image.0.hex() }];
    links.extend(record.manifest.iter().map(|manifest| Link::Blob(manifest.digest)));
    document(NAME, reference.to_string(), record, links)
}

/// Names the directory where the layer is unpacked, and otherwise where its content can be had.
fn chain_document(store: &Store, diff_id: DiffId, chain: ChainId) -> Result<NewDocument, StoreError> {
    let layer = LayerId::of_chain(&chain);
    let is_unpacked = store.index().layer(&layer)?.is_some();
    let mut links = if is_unpacked { vec![Link::Layer(layer.clone())] } else { Vec::new() };
    links.extend(content_links(store, diff_id)?);
    Ok(document(CHAIN, layer.to_string(), &ChainRecord { version: VERSION, diff_id, chain }, links))
}

/// What is known of where the content of a layer can be had.
fn content_links(store: &Store, diff_id: DiffId) -> Result<Vec<Link>, StoreError> {
    let claims = claims(store, diff_id)?;
    let mut links: Vec<Link> = claims.iter().map(|claim| claim_link(diff_id, claim)).collect();
    for blob in store.index().layer_blobs(diff_id)?.iter().chain(&claims) {
        links.push(Link::Blob(blob.digest));
        links.extend(place_links(store, blob.digest)?);
    }
    Ok(links)
}

/// Records the layers of a stack that is known from a manifest, bottom first, so that they can be fetched from
/// `repository` (or found in the store) when something must stand on them. Answers their directories, unpacked or not.
pub(crate) fn put_stack(
    store: &Store,
    repository: Option<&Reference>,
    layers: &[(DiffId, LayerBlob)],
) -> Result<Vec<LayerId>, StoreError> {
    let diff_ids: Vec<DiffId> = layers.iter().map(|(diff_id, _)| *diff_id).collect();
    let mut documents = Vec::new();
    let mut names = Vec::new();
    for ((diff_id, blob), chain) in layers.iter().zip(ChainId::all(&diff_ids)) {
        put_claim(store, *diff_id, blob)?;
        if let Some(repository) = repository {
            put_place(store, repository, blob.digest)?;
        }
        documents.push(chain_document(store, *diff_id, chain)?);
        names.push(LayerId::of_chain(&chain));
    }
    store.index().put_many(&documents)?;
    Ok(names)
}

/// What keeps a layer: its directory where it was made here, and what it can be made from where it was not.
pub(crate) fn layer_link(index: &Index, layer: &LayerId) -> Result<Link, StoreError> {
    let is_chain = index.get(CHAIN, layer.as_str())?.is_some();
    Ok(match is_chain {
        true => Link::Document { kind: CHAIN.to_owned(), key: layer.to_string() },
        false => Link::Layer(layer.clone()),
    })
}

/// Whether a layer is here, or known well enough to be fetched.
pub(crate) fn is_known_layer(index: &Index, layer: &LayerId) -> Result<bool, StoreError> {
    Ok(index.has_layer(layer)? || index.get(CHAIN, layer.as_str())?.is_some())
}

/// Marks an image, and what is unpacked of it, as used just now. Answers whether the image is still there.
pub(crate) fn touch(store: &Store, id: ImageId, layers: &[LayerId]) -> Result<bool, StoreError> {
    let image = id.0.hex();
    let mut documents = vec![(IMAGE, image.as_str())];
    documents.extend(layers.iter().map(|layer| (CHAIN, layer.as_str())));
    // Layers that were made here have no such document; the image itself links those.
    Ok(store.index().touch_many(&documents)?.first().copied().unwrap_or(false))
}

/// What a layer that may not be unpacked is made from.
pub(crate) fn chain(store: &Store, layer: &LayerId) -> Result<Option<(DiffId, ChainId)>, StoreError> {
    let record: Option<ChainRecord> = read(store, CHAIN, layer.as_str())?;
    Ok(record.map(|record| (record.diff_id, record.chain)))
}

/// Notes that a layer is unpacked now, so that the images that need it keep it.
pub(crate) fn chain_is_unpacked(store: &Store, diff_id: DiffId, chain: ChainId) -> Result<(), StoreError> {
    store.index().put_many(&[chain_document(store, diff_id, chain)?])
}

/// Remembers that a repository has a blob.
pub(crate) fn put_place(store: &Store, repository: &Reference, digest: Digest) -> Result<(), StoreError> {
    let key = format!("{} {}/{}", digest.hex(), repository.registry(), repository.repository());
    store.index().put(PLACE, &key, b"{}", &[])
}

/// The repositories that are known to have had a blob.
pub(crate) fn places(store: &Store, digest: Digest) -> Result<Vec<Reference>, StoreError> {
    let entries = store.index().list_prefix(PLACE, &format!("{} ", digest.hex()))?;
    let parse = |entry: strake_store::DocumentEntry| entry.key.split_once(' ')?.1.parse().ok();
    Ok(entries.into_iter().filter_map(parse).collect())
}

/// Remembers what a manifest and its configuration say together: this blob holds that tar. A hostile image can say
/// so of a layer of somebody else's, so a claim is believed only after its content was seen, or where no other
/// claim contradicts it.
pub(crate) fn put_claim(store: &Store, diff_id: DiffId, blob: &LayerBlob) -> Result<(), StoreError> {
    let key = format!("{} {}", diff_id.0.hex(), blob.digest.hex());
    let record =
        ClaimRecord { version: VERSION, digest: blob.digest, size: blob.size, compression: blob.compression };
    store.index().put_many(&[document(CLAIM, key, &record, vec![Link::Blob(blob.digest)])])
}

pub(crate) fn claims(store: &Store, diff_id: DiffId) -> Result<Vec<LayerBlob>, StoreError> {
    let entries = store.index().list_prefix(CLAIM, &format!("{} ", diff_id.0.hex()))?;
    let parse = |entry: strake_store::DocumentEntry| {
        let record: ClaimRecord = serde_json::from_slice(&entry.document.body).ok()?;
        Some(LayerBlob { digest: record.digest, size: record.size, compression: record.compression })
    };
    Ok(entries.into_iter().filter_map(parse).collect())
}

fn claim_link(diff_id: DiffId, claim: &LayerBlob) -> Link {
    Link::Document { kind: CLAIM.to_owned(), key: format!("{} {}", diff_id.0.hex(), claim.digest.hex()) }
}

/// What is known of where a blob can be had. An image that nobody unpacked is nothing without it.
fn place_links(store: &Store, blob: Digest) -> Result<Vec<Link>, StoreError> {
    let places = store.index().list_prefix(PLACE, &format!("{} ", blob.hex()))?;
    let link = |place: strake_store::DocumentEntry| Link::Document { kind: PLACE.to_owned(), key: place.key };
    Ok(places.into_iter().map(link).collect())
}

/// Remembers that a blob, here or in a repository, holds the tar of a layer: it was seen to.
pub(crate) fn put_blob(store: &Store, diff_id: DiffId, blob: &LayerBlob) -> Result<(), StoreError> {
    store.index().add_layer_blob(diff_id, blob)
}

/// The diff ID of a layer's tar with its times limited to `epoch`, if it was computed before.
pub(crate) fn clamped(store: &Store, layer: &LayerId, epoch: i64) -> Result<Option<DiffId>, StoreError> {
    let record: Option<ClampedRecord> = read(store, CLAMPED, &format!("{layer} {epoch}"))?;
    Ok(record.map(|record| record.diff_id))
}

/// Remembers the diff ID of a layer's tar with its times limited to `epoch`.
pub(crate) fn put_clamped(
    store: &Store,
    layer: &LayerId,
    epoch: i64,
    diff_id: DiffId,
    size: u64,
) -> Result<(), StoreError> {
    let record = ClampedRecord { version: VERSION, diff_id, size };
    store.index().put_many(&[document(
        CLAMPED,
        format!("{layer} {epoch}"),
        &record,
        vec![Link::Layer(layer.clone())],
    )])
}

mod layer_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use strake_store::LayerId;

    pub(super) fn serialize<S: Serializer>(layer: &LayerId, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(layer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<LayerId, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}
