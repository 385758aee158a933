//! What takes space, and giving it back.
//!
//! A document of a *root kind* (an image name) is kept, and so is everything that a kept document links: layers, blobs,
//! other documents, and for a kept layer the local blobs of its tar. What else is kept is a matter of policy, the
//! most recently used first. The decision is one transaction that holds the write lock, and leases are looked at inside
//! it: whatever a living process has put or touched since it opened the store was numbered after its lease, so it is
//! seen here and stays. Files go only after the transaction has committed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use rusqlite::Transaction;
use strake_oci::Digest;

use crate::expire::Expiry;
use crate::index::Link;
use crate::{LayerId, Store, StoreError, lease};

/// What takes space in a store.
#[derive(Debug, Clone, Default)]
pub struct Usage {
    /// Documents by kind: how many, and bytes of their bodies.
    pub documents: BTreeMap<String, (u64, u64)>,
    /// Layer directories, sorted by name.
    pub layers: Vec<ItemUsage<LayerId>>,
    /// Blobs, sorted by digest.
    pub blobs: Vec<ItemUsage<Digest>>,
    /// Bytes of cache mounts.
    pub cache_mounts: u64,
    /// Bytes of logs.
    pub logs: u64,
    /// Bytes of remembered file digests.
    pub stat_caches: u64,
    /// Bytes of lock files.
    pub locks: u64,
    /// Bytes that are discarded but not yet removed.
    pub trash: u64,
}

/// A layer or a blob and what it takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemUsage<T> {
    /// Which one.
    pub item: T,
    /// Bytes on disk.
    pub bytes: u64,
    /// How many documents link it: none means nothing needs it, more than one that it is shared.
    pub documents: u64,
    /// When it was last used, in nanoseconds since 1970.
    pub used_ns: i64,
}

/// What may be removed.
#[derive(Debug, Clone, Default)]
pub struct PrunePolicy {
    /// Kinds of documents that are kept always, with all they link.
    pub root_kinds: Vec<String>,
    /// Some of them that nobody named: they are treated as all other documents.
    pub not_roots: Option<NotRoots>,
    /// Remove every other document, and all cache mounts, logs and remembered digests that nobody uses.
    pub all: bool,
    /// Remove documents, cache mounts, logs and remembered digests last used before this time, in nanoseconds since
    /// 1970.
    pub keep_newer_than: Option<i64>,
    /// Remove the least recently used documents until layers and blobs take no more bytes than this.
    pub keep_bytes: Option<u64>,
    /// Only say what would be removed.
    pub dry_run: bool,
}

/// Documents of a root kind that are kept for as long as they are used only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotRoots {
    /// Their kind.
    pub kind: String,
    /// What their keys begin with.
    pub prefix: String,
    /// Those that were used after this time, or stand on a document that was, are roots all the same; in nanoseconds
    /// since 1970.
    pub unused_since: i64,
}

/// Something that is collected.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Item {
    /// A document.
    Document {
        /// Its kind.
        kind: String,
        /// Its key.
        key: String,
    },
    /// A layer directory.
    Layer(LayerId),
    /// A blob.
    Blob(Digest),
    /// A cache mount.
    CacheMount(Digest),
    /// The output of a step, by the name of its file.
    Log(String),
    /// Remembered digests of the files of a directory, by the name of their file.
    StatCache(String),
    /// A lock that nobody holds, by the name of its file.
    Lock(String),
}

/// Why something was kept or removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Documents of its kind are always kept.
    Root,
    /// Kept for a document that is kept.
    Linked,
    /// A running process may be using it.
    InUse,
    /// It was used recently enough, and there is room for it.
    Recent,
    /// Everything but the roots was to go.
    NotARoot,
    /// It was not used for too long.
    Old,
    /// There was no room left.
    NoRoom,
    /// No document needs it.
    Unreferenced,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Root => "named by the user",
            Self::Linked => "needed by something that is kept",
            Self::InUse => "in use by a running process",
            Self::Recent => "used recently",
            Self::NotARoot => "not named by the user",
            Self::Old => "not used for long enough",
            Self::NoRoom => "least recently used, and no room left",
            Self::Unreferenced => "needed by nothing",
        })
    }
}

/// What a collection did, or would do, and why.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// What was removed, with its bytes and the reason.
    pub removed: Vec<(Item, u64, Reason)>,
    /// What was kept, with its bytes and the reason.
    pub kept: Vec<(Item, u64, Reason)>,
    /// Bytes on disk of all that was removed.
    pub freed_bytes: u64,
}

/// What takes space in the store. Layers whose size is not yet known are counted, which takes its time.
///
/// # Errors
/// When the index cannot be read or written.
pub fn usage(store: &Store) -> Result<Usage, StoreError> {
    measure_layers(store)?;
    let snapshot =
        store.index().write("read the usage", |transaction, _| Ok(Inventory::load(transaction)?))?;
    let mut usage = Usage {
        cache_mounts: disk_usage(&store.root().join("caches")),
        logs: disk_usage(&store.log_dir()),
        stat_caches: disk_usage(&store.root().join("stat")),
        locks: disk_usage(&store.lock_dir()),
        trash: disk_usage(&store.root().join("trash")),
        ..Usage::default()
    };
    let (mut of_layer, mut of_blob) = (BTreeMap::new(), BTreeMap::new());
    for document in &snapshot.documents {
        let entry = usage.documents.entry(document.kind.clone()).or_default();
        *entry = (entry.0 + 1, entry.1 + document.bytes);
        for link in &document.links {
            match link {
                Link::Layer(layer) => *of_layer.entry(layer).or_insert(0) += 1,
                Link::Blob(blob) => *of_blob.entry(blob).or_insert(0) += 1,
                Link::Document { .. } => {}
            }
        }
    }
    let layers = snapshot.layers.iter();
    usage.layers = layers.map(|(id, held)| held.usage(id, of_layer.get(id).copied())).collect();
    let blobs = snapshot.blobs.iter();
    usage.blobs = blobs.map(|(id, held)| held.usage(id, of_blob.get(id).copied())).collect();
    Ok(usage)
}

/// Removes what `policy` allows and nobody needs. Safe while other processes build.
///
/// # Errors
/// When the index cannot be written.
pub fn prune(store: &Store, policy: &PrunePolicy) -> Result<Report, StoreError> {
    // What no record names is decided on by itself, without keeping anybody from the index. It comes first: on a full
    // disk nothing can be recorded before something is gone.
    let (before_ns, reason) = match (policy.all, policy.keep_newer_than) {
        (true, _) => (i64::MAX, Reason::NotARoot),
        (false, Some(time)) => (time, Reason::Old),
        (false, None) => (i64::MIN, Reason::Old),
    };
    let beside = Expiry::prune(store.shared(), before_ns, reason, policy.dry_run).report;
    measure_layers(store)?;
    let root = store.root().to_owned();
    let mut report = store.index().write("decide what to remove", |transaction, _| {
        let in_use_since = lease::live(&root)?.oldest;
        let inventory = Inventory::load(transaction)?;
        let report = Decision::new(&inventory, policy, in_use_since).report();
        if !policy.dry_run {
            forget(transaction, &inventory, &report)?;
        }
        Ok(report)
    })?;
    if !policy.dry_run {
        let layers: Vec<_> = report.removed.iter().filter_map(|(item, ..)| item.layer().cloned()).collect();
        let blobs: Vec<_> = report.removed.iter().filter_map(|(item, ..)| item.blob().copied()).collect();
        let shared = store.shared();
        shared.index.take_away(
            &layers,
            &blobs,
            |layer| shared.discard(&shared.layer_home(layer)),
            |blob| shared.discard(&shared.blob_path(blob)),
        )?;
    }
    report.removed.extend(beside.removed);
    report.kept.extend(beside.kept);
    report.freed_bytes += beside.freed_bytes;
    Ok(report)
}

impl Item {
    fn layer(&self) -> Option<&LayerId> {
        if let Self::Layer(layer) = self { Some(layer) } else { None }
    }

    fn blob(&self) -> Option<&Digest> {
        if let Self::Blob(blob) = self { Some(blob) } else { None }
    }
}

/// All that is recorded, as of one transaction.
struct Inventory {
    documents: Vec<DocumentRow>,
    by_key: BTreeMap<(String, String), usize>,
    layers: BTreeMap<LayerId, Held>,
    blobs: BTreeMap<Digest, Held>,
    /// The blobs that hold the tar of a layer.
    blobs_of_layer: BTreeMap<LayerId, Vec<Digest>>,
}

struct DocumentRow {
    id: i64,
    kind: String,
    key: String,
    bytes: u64,
    used_ns: i64,
    used_seq: i64,
    links: Vec<Link>,
}

/// A layer or blob.
#[derive(Debug, Clone, Copy)]
struct Held {
    bytes: u64,
    used_ns: i64,
    used_seq: i64,
}

impl Held {
    fn usage<T: Clone>(&self, item: &T, documents: Option<u64>) -> ItemUsage<T> {
        let documents = documents.unwrap_or(0);
        ItemUsage { item: item.clone(), bytes: self.bytes, documents, used_ns: self.used_ns }
    }
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn digest(bytes: Vec<u8>) -> Option<Digest> {
    <[u8; 32]>::try_from(bytes).ok().map(Digest::from_bytes)
}

impl Inventory {
    fn load(transaction: &Transaction<'_>) -> rusqlite::Result<Self> {
        let mut inventory = Self {
            documents: Vec::new(),
            by_key: BTreeMap::new(),
            layers: BTreeMap::new(),
            blobs: BTreeMap::new(),
            blobs_of_layer: BTreeMap::new(),
        };
        let mut links: BTreeMap<i64, Vec<Link>> = BTreeMap::new();
        let mut statement = transaction.prepare("SELECT document, type, target FROM link")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let target: String = row.get(2)?;
            links.entry(row.get(0)?).or_default().extend(Link::decode(row.get(1)?, &target));
        }
        let query = "SELECT id, kind, key, length(body), used_ns, used_seq FROM document ORDER BY kind, key";
        let mut statement = transaction.prepare(query)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let id = row.get(0)?;
            let (kind, key): (String, String) = (row.get(1)?, row.get(2)?);
            inventory.by_key.insert((kind.clone(), key.clone()), inventory.documents.len());
            let (bytes, used_ns, used_seq) = (unsigned(row.get(3)?), row.get(4)?, row.get(5)?);
            let links = links.remove(&id).unwrap_or_default();
            inventory.documents.push(DocumentRow { id, kind, key, bytes, used_ns, used_seq, links });
        }
        let mut statement =
            transaction.prepare("SELECT id, ifnull(size_on_disk, 0), used_ns, used_seq FROM layer")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let held = Held { bytes: unsigned(row.get(1)?), used_ns: row.get(2)?, used_seq: row.get(3)? };
            let id: String = row.get(0)?;
            inventory.layers.extend(id.parse().ok().map(|id: LayerId| (id, held)));
        }
        let mut statement = transaction.prepare("SELECT digest, size, used_ns, used_seq FROM blob")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let held = Held { bytes: unsigned(row.get(1)?), used_ns: row.get(2)?, used_seq: row.get(3)? };
            inventory.blobs.extend(digest(row.get(0)?).map(|id| (id, held)));
        }
        let query = "SELECT layer.id, layer_blob.digest FROM layer JOIN layer_blob USING(diff_id)";
        let mut statement = transaction.prepare(query)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let id: String = row.get(0)?;
            if let (Ok(layer), Some(blob)) = (id.parse(), digest(row.get(1)?)) {
                inventory.blobs_of_layer.entry(layer).or_default().push(blob);
            }
        }
        Ok(inventory)
    }
}

/// Who stays.
struct Decision<'a> {
    inventory: &'a Inventory,
    policy: &'a PrunePolicy,
    in_use_since: Option<i64>,
    documents: BTreeMap<usize, Reason>,
    dropped: BTreeMap<usize, Reason>,
    layers: BTreeMap<LayerId, Reason>,
    blobs: BTreeMap<Digest, Reason>,
    kept_bytes: u64,
}

impl<'a> Decision<'a> {
    fn new(inventory: &'a Inventory, policy: &'a PrunePolicy, in_use_since: Option<i64>) -> Self {
        let mut decision = Self {
            inventory,
            policy,
            in_use_since,
            documents: BTreeMap::new(),
            dropped: BTreeMap::new(),
            layers: BTreeMap::new(),
            blobs: BTreeMap::new(),
            kept_bytes: 0,
        };
        decision.keep_what_must_stay();
        decision.weigh_the_rest();
        decision
    }

    fn is_in_use(&self, used_seq: i64) -> bool {
        self.in_use_since.is_some_and(|since| used_seq > since)
    }

    fn is_no_root(&self, at: usize) -> bool {
        let document = &self.inventory.documents[at];
        self.policy.not_roots.as_ref().is_some_and(|not_roots| {
            document.kind == not_roots.kind
                && document.key.starts_with(&not_roots.prefix)
                && self.used_ns(at) < not_roots.unused_since
        })
    }

    /// When a document, or one that it stands on, was last used: who uses an image need not ask for it by its name.
    fn used_ns(&self, at: usize) -> i64 {
        let inventory = self.inventory;
        let below = inventory.documents[at].links.iter().filter_map(|link| match link {
            Link::Document { kind, key } => inventory.by_key.get(&(kind.clone(), key.clone())),
            Link::Layer(_) | Link::Blob(_) => None,
        });
        let below = below.map(|at| inventory.documents[*at].used_ns);
        below.fold(inventory.documents[at].used_ns, i64::max)
    }

    fn keep_what_must_stay(&mut self) {
        let inventory = self.inventory;
        for (at, document) in inventory.documents.iter().enumerate() {
            if self.policy.root_kinds.contains(&document.kind) && !self.is_no_root(at) {
                self.keep_document(at, Reason::Root);
            } else if self.is_in_use(document.used_seq) {
                self.keep_document(at, Reason::InUse);
            }
        }
        for (layer, held) in &inventory.layers {
            if self.is_in_use(held.used_seq) {
                self.keep_layer(layer, Reason::InUse);
            }
        }
        for (blob, held) in &inventory.blobs {
            if self.is_in_use(held.used_seq) {
                self.keep_blob(blob, Reason::InUse);
            }
        }
    }

    /// The remaining documents, the most recently used first.
    fn weigh_the_rest(&mut self) {
        let documents = &self.inventory.documents;
        let mut rest: Vec<usize> = (0..documents.len()).collect();
        rest.sort_by_cached_key(|at| std::cmp::Reverse((self.used_ns(*at), documents[*at].used_seq)));
        let mut full = false;
        for at in rest {
            if self.documents.contains_key(&at) {
                continue;
            }
            let policy = self.policy;
            let old = policy.keep_newer_than.is_some_and(|time| documents[at].used_ns < time);
            let verdict = if policy.all {
                Err(Reason::NotARoot)
            } else if old {
                Err(Reason::Old)
            } else if let Some(limit) = policy.keep_bytes {
                // Once one had no room, older ones have none either: a small old one must not outlive it.
                full = full || self.kept_bytes.saturating_add(self.cost(at)) > limit;
                if full { Err(Reason::NoRoom) } else { Ok(Reason::Recent) }
            } else {
                Ok(Reason::Recent)
            };
            match verdict {
                Ok(reason) => self.keep_document(at, reason),
                Err(reason) => {
                    self.dropped.insert(at, reason);
                }
            }
        }
    }

    /// The bytes that keeping this document would add.
    fn cost(&self, at: usize) -> u64 {
        let (mut layers, mut blobs) = (BTreeSet::new(), BTreeSet::new());
        let (mut seen, mut pending) = (BTreeSet::new(), vec![at]);
        while let Some(at) = pending.pop() {
            if !seen.insert(at) || self.documents.contains_key(&at) {
                continue;
            }
            for link in &self.inventory.documents[at].links {
                match link {
                    Link::Layer(layer) => {
                        layers.insert(layer);
                        blobs.extend(self.inventory.blobs_of_layer.get(layer).into_iter().flatten());
                    }
                    Link::Blob(blob) => {
                        blobs.insert(blob);
                    }
                    Link::Document { kind, key } => {
                        pending.extend(self.inventory.by_key.get(&(kind.clone(), key.clone())));
                    }
                }
            }
        }
        let layers = layers.into_iter().filter(|layer| !self.layers.contains_key(*layer));
        let blobs = blobs.into_iter().filter(|blob| !self.blobs.contains_key(*blob));
        let layers: u64 = layers.filter_map(|id| Some(self.inventory.layers.get(id)?.bytes)).sum();
        let blobs: u64 = blobs.filter_map(|id| Some(self.inventory.blobs.get(id)?.bytes)).sum();
        layers + blobs
    }

    fn keep_document(&mut self, at: usize, reason: Reason) {
        let inventory = self.inventory;
        let mut pending = vec![(at, reason)];
        while let Some((at, reason)) = pending.pop() {
            if self.documents.contains_key(&at) {
                continue;
            }
            self.documents.insert(at, reason);
            self.dropped.remove(&at);
            for link in &inventory.documents[at].links {
                match link {
                    Link::Layer(layer) => self.keep_layer(layer, Reason::Linked),
                    Link::Blob(blob) => self.keep_blob(blob, Reason::Linked),
                    Link::Document { kind, key } => {
                        let linked = inventory.by_key.get(&(kind.clone(), key.clone()));
                        pending.extend(linked.map(|at| (*at, Reason::Linked)));
                    }
                }
            }
        }
    }

    fn keep_layer(&mut self, layer: &LayerId, reason: Reason) {
        let inventory = self.inventory;
        let Some(held) = inventory.layers.get(layer) else { return };
        if self.layers.insert(layer.clone(), reason).is_none() {
            self.kept_bytes += held.bytes;
            for blob in inventory.blobs_of_layer.get(layer).into_iter().flatten() {
                self.keep_blob(blob, Reason::Linked);
            }
        }
    }

    fn keep_blob(&mut self, blob: &Digest, reason: Reason) {
        let Some(held) = self.inventory.blobs.get(blob) else { return };
        if self.blobs.insert(*blob, reason).is_none() {
            self.kept_bytes += held.bytes;
        }
    }

    fn report(&self) -> Report {
        let mut report = Report::default();
        for (at, document) in self.inventory.documents.iter().enumerate() {
            let item = Item::Document { kind: document.kind.clone(), key: document.key.clone() };
            match (self.documents.get(&at), self.dropped.get(&at)) {
                (Some(reason), _) => report.kept.push((item, document.bytes, *reason)),
                (None, reason) => {
                    let reason = reason.copied().unwrap_or(Reason::Unreferenced);
                    report.removed.push((item, document.bytes, reason));
                }
            }
        }
        let layers = self.inventory.layers.iter();
        let layers = layers.map(|(id, held)| (Item::Layer(id.clone()), held.bytes, self.layers.get(id)));
        let blobs = self.inventory.blobs.iter();
        let blobs = blobs.map(|(id, held)| (Item::Blob(*id), held.bytes, self.blobs.get(id)));
        for (item, bytes, kept) in layers.chain(blobs) {
            if let Some(reason) = kept {
                report.kept.push((item, bytes, *reason));
            } else {
                report.freed_bytes += bytes;
                report.removed.push((item, bytes, Reason::Unreferenced));
            }
        }
        report
    }
}

fn forget(transaction: &Transaction<'_>, inventory: &Inventory, report: &Report) -> rusqlite::Result<()> {
    for (item, ..) in &report.removed {
        match item {
            Item::Document { kind, key } => {
                let at = inventory.by_key.get(&(kind.clone(), key.clone()));
                if let Some(document) = at.and_then(|at| inventory.documents.get(*at)) {
                    transaction.execute("DELETE FROM document WHERE id = ?1", [document.id])?;
                    transaction.execute("DELETE FROM link WHERE document = ?1", [document.id])?;
                }
            }
            Item::Layer(layer) => {
                transaction.execute("DELETE FROM layer WHERE id = ?1", [layer.as_str()])?;
            }
            Item::Blob(blob) => {
                transaction.execute("DELETE FROM blob WHERE digest = ?1", [blob.as_bytes()])?;
            }
            // No record names these: see module `expire`.
            Item::CacheMount(_) | Item::Log(_) | Item::StatCache(_) | Item::Lock(_) => {}
        }
    }
    Ok(())
}

/// Counts the layers that nobody has counted yet.
fn measure_layers(store: &Store) -> Result<(), StoreError> {
    let unknown = store.index().layers_without_size()?;
    let sizes: Vec<_> =
        unknown.into_iter().map(|layer| (layer.clone(), disk_usage(&store.layer_dir(&layer)))).collect();
    store.index().set_layer_sizes(&sizes)
}

/// Bytes on disk below a directory; files with several names count once. What cannot be read counts nothing.
pub(crate) fn disk_usage(directory: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let mut seen = BTreeSet::new();
    let mut pending = vec![directory.to_owned()];
    let mut total = 0;
    while let Some(directory) = pending.pop() {
        let Ok(entries) = std::fs::read_dir(&directory) else { continue };
        for entry in entries.flatten() {
            // Of the entry itself: links are not followed.
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                pending.push(entry.path());
            }
            if metadata.nlink() < 2 || metadata.is_dir() || seen.insert(metadata.ino()) {
                total += metadata.blocks() * 512;
            }
        }
    }
    total
}
