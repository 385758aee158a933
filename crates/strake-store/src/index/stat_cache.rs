//! Digests of files, remembered by what can be known of a file without reading it.
//!
//! One file per directory tree, read and written whole: 20,000 rows in a database would take longer to read than
//! to check. A damaged file is as good as none. The format is the name of the directory, fixed-size records sorted by
//! path, the paths, and a BLAKE3 digest of all before it. What lies in the store's own `tmp` is not remembered: it is
//! never seen again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use strake_oci::Digest;

use super::Index;
use crate::StoreError;
use crate::clock::now_ns;

const MAGIC: &[u8; 8] = b"strkst2\n";
const RECORD: usize = 80;
const CHECK: usize = 32;
/// The magic bytes, the number of records, the length of the directory's name. The name follows.
const HEADER: usize = 24;
/// No name of a directory is longer.
const MAX_ROOT_KEY: usize = 1 << 16;
/// How old a file may grow before its use is noted in its time.
const USED_GRAIN: Duration = Duration::from_secs(86_400);

/// Two changes closer together than this may carry the same time: the kernel's clock ticks at 100 Hz or faster.
const GRAIN_NS: i64 = 20_000_000;
/// As above for file systems that keep whole seconds, or two of them.
const COARSE_GRAIN_NS: i64 = 2_000_000_000;

/// What can be known of a file without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileStat {
    /// The device it lies on.
    pub dev: u64,
    /// Its inode.
    pub ino: u64,
    /// Its size in bytes.
    pub size: u64,
    /// Time of last modification, in nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Time of last change of content or attributes, in nanoseconds since 1970.
    pub ctime_ns: i64,
}

/// Digests of files by path, believed only while nothing about the file has changed.
///
/// What was loaded is looked up in the bytes of the file itself; what was put since lies beside it.
#[derive(Debug, Clone, Default)]
pub struct StatCache {
    loaded: Vec<u8>,
    /// Where in `loaded` the records begin.
    records_at: usize,
    count: usize,
    added: BTreeMap<Box<[u8]>, (FileStat, [u8; 32])>,
}

impl StatCache {
    /// The digest of the file at `path`, if it is the very file that was hashed.
    pub fn get(&self, path: &[u8], stat: &FileStat) -> Option<[u8; 32]> {
        let (known, digest) = match self.added.get(path) {
            Some((known, digest)) => (*known, *digest),
            None => self.find(path)?,
        };
        (known == *stat).then_some(digest)
    }

    /// Remembers a digest. `read_ns` is the time just before reading began, in nanoseconds since 1970; a file
    /// changed too shortly before that is not remembered, since a later change might not show in its times.
    pub fn put(&mut self, path: &[u8], stat: &FileStat, digest: [u8; 32], read_ns: i64) {
        let newest = stat.mtime_ns.max(stat.ctime_ns);
        let whole_seconds = stat.mtime_ns % 1_000_000_000 == 0 && stat.ctime_ns % 1_000_000_000 == 0;
        let grain = if whole_seconds { COARSE_GRAIN_NS } else { GRAIN_NS };
        if newest.saturating_add(grain) < read_ns {
            self.added.insert(path.into(), (*stat, digest));
        }
    }

    /// How many files are remembered.
    pub fn len(&self) -> usize {
        self.count + self.added.keys().filter(|path| self.find(path).is_none()).count()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.count == 0 && self.added.is_empty()
    }

    /// Whether something was put since it was loaded.
    pub fn is_changed(&self) -> bool {
        !self.added.is_empty()
    }

    /// Forgets files that `keep` does not want, such as those no longer there. Costs nothing but the question when
    /// all are wanted.
    pub fn retain(&mut self, keep: impl Fn(&[u8]) -> bool) {
        let loaded = (0..self.count).map(|at| self.path_of(self.record(at)));
        let paths = loaded.chain(self.added.keys().map(AsRef::as_ref));
        let gone: BTreeSet<Box<[u8]>> = paths.filter(|path| !keep(path)).map(Box::from).collect();
        if gone.is_empty() {
            return;
        }
        let mut all = self.merged();
        all.retain(|path, _| !gone.contains(path));
        *self = Self { added: all, ..Self::default() };
    }

    fn record(&self, at: usize) -> &[u8] {
        let start = self.records_at + at * RECORD;
        &self.loaded[start..start + RECORD]
    }

    fn path_of(&self, record: &[u8]) -> &[u8] {
        let offset = usize::try_from(u32_at(record, 0)).unwrap_or(usize::MAX);
        let length = usize::try_from(u32_at(record, 4)).unwrap_or(usize::MAX);
        let end = offset.saturating_add(length);
        self.loaded.get(offset..end).unwrap_or_default()
    }

    fn find(&self, path: &[u8]) -> Option<(FileStat, [u8; 32])> {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low.midpoint(high);
            let record = self.record(middle);
            match self.path_of(record).cmp(path) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Some(decode(record)),
            }
        }
        None
    }

    fn merged(&self) -> BTreeMap<Box<[u8]>, (FileStat, [u8; 32])> {
        let mut all: BTreeMap<Box<[u8]>, _> = (0..self.count)
            .map(|at| (self.path_of(self.record(at)).into(), decode(self.record(at))))
            .collect();
        all.extend(self.added.iter().map(|(path, value)| (path.clone(), *value)));
        all
    }

    fn encode(&self, root_key: &str) -> Vec<u8> {
        let all = self.merged();
        let mut paths_at = HEADER + root_key.len() + all.len() * RECORD;
        let total: usize = all.keys().map(|path| path.len()).sum();
        let mut bytes = Vec::with_capacity(paths_at + total + CHECK);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&(all.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&(root_key.len() as u64).to_le_bytes());
        bytes.extend_from_slice(root_key.as_bytes());
        for (path, (stat, digest)) in &all {
            bytes.extend_from_slice(&u32_of(paths_at).to_le_bytes());
            bytes.extend_from_slice(&u32_of(path.len()).to_le_bytes());
            for number in [stat.dev, stat.ino, stat.size] {
                bytes.extend_from_slice(&number.to_le_bytes());
            }
            bytes.extend_from_slice(&stat.mtime_ns.to_le_bytes());
            bytes.extend_from_slice(&stat.ctime_ns.to_le_bytes());
            bytes.extend_from_slice(digest);
            paths_at += path.len();
        }
        all.keys().for_each(|path| bytes.extend_from_slice(path));
        let check = *blake3::hash(&bytes).as_bytes();
        bytes.extend_from_slice(&check);
        bytes
    }

    /// Nothing when the bytes are not exactly what [`StatCache::encode`] wrote.
    fn parse(mut bytes: Vec<u8>) -> Option<Self> {
        let content = bytes.len().checked_sub(CHECK)?;
        let intact = blake3::hash(&bytes[..content]).as_bytes() == &bytes[content..];
        if !intact || !bytes.starts_with(MAGIC) {
            return None;
        }
        bytes.truncate(content);
        if content < HEADER {
            return None;
        }
        let count = usize::try_from(u64_at(&bytes, 8)).ok()?;
        let records_at = usize::try_from(u64_at(&bytes, 16)).ok()?.checked_add(HEADER)?;
        let records_end = count.checked_mul(RECORD)?.checked_add(records_at)?;
        (records_end <= content).then_some(Self { loaded: bytes, records_at, count, added: BTreeMap::new() })
    }
}

impl Index {
    /// What was remembered of the files below a directory; empty when nothing was.
    /// `root_key` is any text that names the directory.
    pub fn stat_cache(&self, root_key: &str) -> StatCache {
        let path = self.stat_cache_path(root_key);
        let Ok(bytes) = std::fs::read(&path) else { return StatCache::default() };
        note_use(&path);
        StatCache::parse(bytes).unwrap_or_default()
    }

    /// Remembers what is known of the files below a directory. Of one in the store's own `tmp` nothing is kept.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save_stat_cache(&self, root_key: &str, cache: &StatCache) -> Result<(), StoreError> {
        let own = self.stat_dir.with_file_name("tmp");
        if Path::new(root_key).starts_with(own) || root_key.len() > MAX_ROOT_KEY {
            return Ok(());
        }
        let path = self.stat_cache_path(root_key);
        let name = crate::layout::random_name().map_err(StoreError::io("name", &path))?;
        let aside = path.with_extension(name);
        let written =
            std::fs::write(&aside, cache.encode(root_key)).and_then(|()| std::fs::rename(&aside, &path));
        written.map_err(|error| {
            // A sweep removes it otherwise, a day later.
            let _ = std::fs::remove_file(&aside);
            StoreError::io("write", &path)(error)
        })
    }

    fn stat_cache_path(&self, root_key: &str) -> PathBuf {
        self.stat_dir.join(Digest::of(root_key.as_bytes()).hex())
    }
}

/// Sets the time of the file, which tells a collection when it was last used, unless that was lately.
fn note_use(path: &Path) {
    let now = SystemTime::UNIX_EPOCH + Duration::from_nanos(u64::try_from(now_ns()).unwrap_or(0));
    let Ok(file) = File::open(path) else { return };
    let modified = file.metadata().and_then(|metadata| metadata.modified());
    if modified.is_ok_and(|modified| now.duration_since(modified).is_ok_and(|age| age > USED_GRAIN)) {
        // Without it the file goes earlier than it should, and is made anew.
        let _ = file.set_modified(now);
    }
}

/// The directory whose files a stat cache is about; nothing when the file is not one of this layout. The content is
/// not checked.
pub(crate) fn directory_of_stat_cache(mut file: impl Read) -> std::io::Result<Option<PathBuf>> {
    let mut header = Vec::new();
    file.by_ref().take(HEADER as u64).read_to_end(&mut header)?;
    if header.len() < HEADER || !header.starts_with(MAGIC) {
        return Ok(None);
    }
    let length = u64_at(&header, 16);
    if length > MAX_ROOT_KEY as u64 {
        return Ok(None);
    }
    let mut name = Vec::new();
    file.take(length).read_to_end(&mut name)?;
    Ok(String::from_utf8(name).ok().filter(|name| name.len() as u64 == length).map(PathBuf::from))
}

fn decode(record: &[u8]) -> (FileStat, [u8; 32]) {
    let stat = FileStat {
        dev: u64_at(record, 8),
        ino: u64_at(record, 16),
        size: u64_at(record, 24),
        mtime_ns: u64_at(record, 32).cast_signed(),
        ctime_ns: u64_at(record, 40).cast_signed(),
    };
    let digest = record[48..RECORD].try_into().expect("a record ends with the 32 bytes of a digest");
    (stat, digest)
}

fn u32_at(record: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(record[at..at + 4].try_into().expect("the slice has four bytes"))
}

fn u64_at(record: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(record[at..at + 8].try_into().expect("the slice has eight bytes"))
}

/// Offsets beyond 4 GiB cannot be written; such a record then finds no path and is never believed.
fn u32_of(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(ino: u64, time: i64) -> FileStat {
        FileStat { dev: 1, ino, size: 3, mtime_ns: time, ctime_ns: time }
    }

    #[test]
    fn believes_only_the_very_same_file() {
        let mut cache = StatCache::default();
        cache.put(b"a/b", &stat(7, 1_000_000_001), [1; 32], 9_000_000_000);
        cache.put(b"a", &stat(8, 1_000_000_002), [2; 32], 9_000_000_000);
        let cache = StatCache::parse(cache.encode("/src")).unwrap();
        assert_eq!(cache.get(b"a/b", &stat(7, 1_000_000_001)), Some([1; 32]));
        assert_eq!(cache.get(b"a", &stat(8, 1_000_000_002)), Some([2; 32]));
        assert_eq!(cache.get(b"a/b", &stat(8, 1_000_000_001)), None);
        assert_eq!(cache.get(b"a/b", &stat(7, 1_000_000_002)), None);
        assert_eq!(cache.get(b"c", &stat(7, 1)), None);
        assert_eq!(cache.len(), 2);
    }

    #[test]
    fn forgets_what_is_not_wanted_and_nothing_else() {
        let mut cache = StatCache::default();
        cache.put(b"loaded", &stat(1, 1), [1; 32], 9_000_000_000);
        cache.put(b"loaded-gone", &stat(2, 1), [2; 32], 9_000_000_000);
        let mut cache = StatCache::parse(cache.encode("/src")).unwrap();
        cache.put(b"added", &stat(3, 1), [3; 32], 9_000_000_000);
        cache.put(b"added-gone", &stat(4, 1), [4; 32], 9_000_000_000);
        cache.retain(|_| true);
        assert_eq!(cache.len(), 4);
        cache.retain(|path| !path.ends_with(b"-gone"));
        let cache = StatCache::parse(cache.encode("/src")).unwrap();
        assert_eq!(cache.len(), 2);
        assert_eq!(cache.get(b"loaded", &stat(1, 1)), Some([1; 32]));
        assert_eq!(cache.get(b"added", &stat(3, 1)), Some([3; 32]));
    }

    #[test]
    fn a_file_changed_just_before_it_was_read_is_not_remembered() {
        let mut cache = StatCache::default();
        cache.put(b"young", &stat(1, 1_000_000_001), [1; 32], 1_000_000_001 + GRAIN_NS);
        cache.put(b"coarse", &stat(1, 1_000_000_000), [1; 32], 2_900_000_000);
        assert!(cache.is_empty());
    }

    #[test]
    fn a_damaged_file_is_as_good_as_none() {
        let mut cache = StatCache::default();
        cache.put(b"a", &stat(7, 1), [1; 32], 9_000_000_000);
        let bytes = cache.encode("/src");
        for at in 0..bytes.len() {
            let mut torn = bytes.clone();
            torn[at] ^= 1;
            assert!(StatCache::parse(torn).is_none(), "byte {at}");
            assert!(StatCache::parse(bytes[..at].to_vec()).is_none(), "length {at}");
        }
    }
}
