//! What lies beside layers and blobs and that no record names: cache mounts, logs, remembered digests, lock files.
//!
//! Whoever works with one of these holds a lock file: a step `locks/<signature>` while it writes `logs/<signature>.log`,
//! and `locks/cache-<hex>`, shared or alone, while it uses `caches/<hex>`. Taking away needs the same lock for itself,
//! so nothing goes under a step's feet. Directories are renamed into the trash: nothing that takes long is done under a lock.
//!
//! A lock file is unlinked only while it is held, and whoever acquires one looks whether what it locked is still the
//! file that the name stands for. That of a cache mount stays as long as the mount: its time says when that was last
//! used.

use std::collections::BTreeSet;
use std::fs::{File, Metadata, TryLockError};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use strake_oci::Digest;

use crate::clock::now_ns;
use crate::gc::{Item, Reason, Report, disk_usage};
use crate::index::directory_of_stat_cache;
use crate::layout::Shared;

/// How long a sweep leaves logs and remembered digests alone.
const FORGOTTEN: Duration = Duration::from_secs(30 * 86_400);

/// How long a sweep leaves alone what lives for the time of a step: a lock file, a file being written.
const LEFT_BEHIND: Duration = Duration::from_secs(86_400);

/// Takes away what was not used for long enough, or says what would go.
pub(crate) struct Expiry<'a> {
    shared: &'a Shared,
    /// What was last used before this time goes, in nanoseconds since 1970.
    before_ns: i64,
    /// Likewise for lock files that nobody holds.
    locks_before_ns: i64,
    /// Why what goes goes.
    reason: Reason,
    dry_run: bool,
    /// The names of cache mounts that went, or would have: their locks go too.
    gone: BTreeSet<String>,
    pub(crate) report: Report,
}

/// What became of the wish to have a lock for oneself.
enum Wish {
    /// It is held, or would be.
    Granted(Option<Held>),
    Busy,
}

/// A lock file that is held here.
struct Held {
    file: File,
    path: PathBuf,
    /// Whether it goes with the lock: it was made only for that, or nobody needs it.
    goes: bool,
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.goes {
            // Whoever finds it locked now must not read who held it last. Nothing depends on it.
            let _ = self.file.set_len(0);
            // Left behind, it is what it was before: a lock file that nobody holds.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl<'a> Expiry<'a> {
    /// As a prune wants it. Lock files that nobody holds go whatever their age.
    pub(crate) fn prune(shared: &'a Shared, before_ns: i64, reason: Reason, dry_run: bool) -> Self {
        let mut expiry = Self::new(shared, before_ns, i64::MAX, reason, dry_run);
        expiry.cache_mounts();
        expiry.logs();
        expiry.stat_caches();
        expiry.locks();
        expiry
    }

    /// As a sweep wants it: only what can be had again for nothing, or that nobody will ask for. Answers how many
    /// went.
    pub(crate) fn sweep(shared: &'a Shared) -> usize {
        let mut expiry = Self::new(shared, ago(FORGOTTEN), ago(LEFT_BEHIND), Reason::Old, false);
        expiry.logs();
        expiry.stat_caches();
        expiry.locks();
        expiry.report.removed.len()
    }

    fn new(shared: &'a Shared, before_ns: i64, locks_before_ns: i64, reason: Reason, dry_run: bool) -> Self {
        let (gone, report) = (BTreeSet::new(), Report::default());
        Self { shared, before_ns, locks_before_ns, reason, dry_run, gone, report }
    }

    fn cache_mounts(&mut self) {
        for (name, path, metadata) in entries(&self.shared.root.join("caches")) {
            let Ok(id) = Digest::from_hex(&name) else { continue };
            let item = Item::CacheMount(id);
            let lock = self.lock_path(&format!("cache-{name}"));
            let bytes = metadata.blocks() * 512 + disk_usage(&path);
            let made = mtime_ns(&metadata);
            let used = |lock: &Metadata| if lock.len() > 0 { made.max(mtime_ns(lock)) } else { made };
            let used_ns = std::fs::metadata(&lock).map_or(made, |lock| used(&lock));
            if used_ns >= self.before_ns {
                self.report.kept.push((item, bytes, Reason::Recent));
                continue;
            }
            // A step may have used it between the look and the lock.
            let before_ns = self.before_ns;
            match wish(&lock, self.dry_run, |lock| used(lock) < before_ns) {
                Wish::Granted(held) => {
                    self.remove(item, &path, bytes, self.reason, held);
                    self.gone.insert(name);
                }
                Wish::Busy => self.report.kept.push((item, bytes, Reason::InUse)),
            }
        }
    }

    fn logs(&mut self) {
        for (name, path, metadata) in entries(&self.shared.root.join("logs")) {
            let bytes = metadata.blocks() * 512;
            let item = Item::Log(name.clone());
            let step = name.strip_suffix(".log").filter(|step| Digest::from_hex(step).is_ok());
            if mtime_ns(&metadata) >= self.before_ns {
                self.report.kept.push((item, bytes, Reason::Recent));
                continue;
            }
            let wish = match step {
                Some(step) => wish(&self.lock_path(step), self.dry_run, |_| true),
                None => Wish::Granted(None),
            };
            match wish {
                Wish::Granted(held) => self.remove(item, &path, bytes, self.reason, held),
                Wish::Busy => self.report.kept.push((item, bytes, Reason::InUse)),
            }
        }
    }

    fn stat_caches(&mut self) {
        for (name, path, metadata) in entries(&self.shared.root.join("stat")) {
            let bytes = metadata.blocks() * 512;
            // Beside the caches lie files being written, or those whose writer was killed.
            let is_whole = Digest::from_hex(&name).is_ok();
            let modified_ns = mtime_ns(&metadata);
            let reason = if is_whole && is_of_nothing(&path) || !is_whole && modified_ns < ago(LEFT_BEHIND) {
                Some(Reason::Unreferenced)
            } else {
                (is_whole && modified_ns < self.before_ns).then_some(self.reason)
            };
            match reason {
                Some(reason) => self.remove(Item::StatCache(name), &path, bytes, reason, None),
                None => self.report.kept.push((Item::StatCache(name), bytes, Reason::Recent)),
            }
        }
    }

    fn locks(&mut self) {
        for (name, path, metadata) in entries(&self.shared.root.join("locks")) {
            let is_of_cache =
                |hex: &str| !self.gone.contains(hex) && self.shared.root.join("caches").join(hex).exists();
            let is_ours = match (name.strip_prefix("cache-"), name.strip_prefix("layer-")) {
                (Some(hex), _) => Digest::from_hex(hex).is_ok() && !is_of_cache(hex),
                (None, Some(_)) => true,
                (None, None) => Digest::from_hex(&name).is_ok(),
            };
            if !is_ours || mtime_ns(&metadata) >= self.locks_before_ns {
                continue;
            }
            let before_ns = self.locks_before_ns;
            let bytes = metadata.blocks() * 512;
            if let Wish::Granted(held) = wish(&path, self.dry_run, |lock| mtime_ns(lock) < before_ns) {
                if let Some(mut held) = held {
                    held.goes = true;
                }
                self.report.freed_bytes += bytes;
                self.report.removed.push((Item::Lock(name), bytes, Reason::Unreferenced));
            }
        }
    }

    /// Takes `path` away, and lets go of the lock that guards it only then.
    fn remove(&mut self, item: Item, path: &Path, bytes: u64, reason: Reason, held: Option<Held>) {
        match item {
            _ if self.dry_run => {}
            // A directory may take long to delete. A plain file does not, and its room may be needed at once.
            Item::CacheMount(_) => self.shared.discard(path),
            _ => {
                if let Err(error) = std::fs::remove_file(path) {
                    tracing::warn!(path = %path.display(), %error, "cannot remove");
                }
            }
        }
        drop(held);
        self.report.freed_bytes += bytes;
        self.report.removed.push((item, bytes, reason));
    }

    fn lock_path(&self, name: &str) -> PathBuf {
        self.shared.root.join("locks").join(name)
    }
}

/// Takes a lock for oneself, if `may_go` says so of the file once it is locked. With `dry_run`, only looks whether
/// that could be done.
fn wish(path: &Path, dry_run: bool, may_go: impl Fn(&Metadata) -> bool) -> Wish {
    loop {
        let opened = File::options().read(true).write(true).create(!dry_run).truncate(false).open(path);
        let file = match opened {
            Ok(file) => file,
            Err(error) if dry_run && error.kind() == std::io::ErrorKind::NotFound => {
                return Wish::Granted(None);
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot open the lock");
                return Wish::Busy;
            }
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Wish::Busy,
            Err(TryLockError::Error(error)) => {
                tracing::warn!(path = %path.display(), %error, "cannot lock");
                return Wish::Busy;
            }
        }
        let (Ok(locked), named) = (file.metadata(), std::fs::metadata(path)) else { return Wish::Busy };
        if !named.is_ok_and(|named| (named.dev(), named.ino()) == (locked.dev(), locked.ino())) {
            continue;
        }
        if !may_go(&locked) {
            return Wish::Busy;
        }
        if dry_run {
            return Wish::Granted(None);
        }
        // Whoever holds a lock has written into it: an empty file was made here.
        let goes = locked.len() == 0;
        return Wish::Granted(Some(Held { file, path: path.to_owned(), goes }));
    }
}

/// Whether a file of remembered digests is of a directory that is not there any more, or is no such file at all.
fn is_of_nothing(path: &Path) -> bool {
    let Ok(file) = File::open(path) else { return false };
    match directory_of_stat_cache(file) {
        Ok(Some(directory)) => {
            // A path that was not text is not known exactly.
            let is_exact = directory.is_absolute() && !directory.to_string_lossy().contains('\u{fffd}');
            let found = std::fs::symlink_metadata(&directory);
            is_exact && found.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
        }
        Ok(None) => true,
        Err(_) => false,
    }
}

/// What lies in a folder, sorted by name. What cannot be read is left alone.
fn entries(folder: &Path) -> Vec<(String, PathBuf, Metadata)> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let entry = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry.ok()?;
        Some((entry.file_name().into_string().ok()?, entry.path(), entry.metadata().ok()?))
    };
    let mut entries: Vec<_> = entries.filter_map(entry).collect();
    entries.sort_by(|one, other| one.0.cmp(&other.0));
    entries
}

fn mtime_ns(metadata: &Metadata) -> i64 {
    metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec())
}

fn ago(age: Duration) -> i64 {
    now_ns().saturating_sub(i64::try_from(age.as_nanos()).unwrap_or(i64::MAX))
}
