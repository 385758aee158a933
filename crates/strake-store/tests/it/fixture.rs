//! Stores, tars and trees for the tests.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use strake_oci::{ChainId, Compression, DiffId, Digest};
use strake_store::tar::{ApplyOptions, Whiteouts};
use strake_store::{Flavour, LayerId, SnapshotterChoice, Store, StoreError, StoreOptions, unpack_layer};

pub(crate) struct Fixture {
    pub(crate) store: Store,
    pub(crate) folder: tempfile::TempDir,
}

pub(crate) fn fixture() -> Fixture {
    fixture_with(SnapshotterChoice::Automatic)
}

pub(crate) fn fixture_with(snapshotter: SnapshotterChoice) -> Fixture {
    // Modes of files are compared; whoever runs the tests may have another umask.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store"), &StoreOptions { snapshotter }).unwrap();
    Fixture { store, folder }
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Says what is missing; with `STRAKE_TEST_REQUIRE_ALL=1` that is a failure.
#[expect(clippy::disallowed_methods, reason = "the switch of the test run, not a setting of the program")]
pub(crate) fn missing(what: &str) {
    assert!(std::env::var_os("STRAKE_TEST_REQUIRE_ALL").is_none(), "missing: {what}");
    eprintln!("SKIPPED for want of {what}");
}

pub(crate) fn apply_options(flavour: Flavour) -> ApplyOptions {
    ApplyOptions { flavour, max_bytes: 1 << 30, max_entries: 100_000, whiteouts: Whiteouts::Layer }
}

/// One entry of a hand-made tar.
#[derive(Clone)]
pub(crate) struct Raw<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) flag: u8,
    pub(crate) link: &'a [u8],
    pub(crate) content: &'a [u8],
    pub(crate) mode: u32,
    pub(crate) owner: u32,
    pub(crate) mtime: u64,
    pub(crate) device: (u32, u32),
}

pub(crate) fn raw<'a>(flag: u8, name: &'a str) -> Raw<'a> {
    let mode = if flag == b'5' { 0o755 } else { 0o644 };
    Raw { name: name.as_bytes(), flag, link: b"", content: b"", mode, owner: 0, mtime: 1, device: (0, 0) }
}

pub(crate) fn file<'a>(name: &'a str, content: &'a str) -> Raw<'a> {
    Raw { content: content.as_bytes(), ..raw(b'0', name) }
}

pub(crate) fn dir(name: &str) -> Raw<'_> {
    raw(b'5', name)
}

pub(crate) fn symlink<'a>(name: &'a str, target: &'a str) -> Raw<'a> {
    Raw { link: target.as_bytes(), ..raw(b'2', name) }
}

pub(crate) fn hard_link<'a>(name: &'a str, target: &'a str) -> Raw<'a> {
    Raw { link: target.as_bytes(), ..raw(b'1', name) }
}

/// A ustar archive byte by byte, with nothing checked.
pub(crate) fn tar(entries: &[Raw<'_>]) -> Vec<u8> {
    let mut bytes = tar_without_end(entries);
    bytes.extend([0; 1024]);
    bytes
}

pub(crate) fn tar_without_end(entries: &[Raw<'_>]) -> Vec<u8> {
    entries
        .iter()
        .flat_map(|entry| {
            let mut bytes = header(entry, entry.content.len() as u64).to_vec();
            bytes.extend(entry.content);
            bytes.resize(bytes.len().next_multiple_of(512), 0);
            bytes
        })
        .collect()
}

pub(crate) fn header(entry: &Raw<'_>, size: u64) -> [u8; 512] {
    let mut block = [0; 512];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, entry.name);
    put(100, format!("{:07o}", entry.mode).as_bytes());
    put(108, format!("{:07o}", entry.owner).as_bytes());
    put(116, format!("{:07o}", entry.owner).as_bytes());
    put(124, format!("{size:011o}").as_bytes());
    put(136, format!("{:011o}", entry.mtime).as_bytes());
    put(156, &[entry.flag]);
    put(157, entry.link);
    put(257, b"ustar\x0000");
    put(329, format!("{:07o}", entry.device.0).as_bytes());
    put(337, format!("{:07o}", entry.device.1).as_bytes());
    seal(&mut block);
    block
}

pub(crate) fn seal(block: &mut [u8; 512]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// PAX records in front of the next entry.
pub(crate) fn pax(records: &[(&str, &[u8])]) -> Vec<u8> {
    let mut content = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let mut length = rest;
        while rest + length.to_string().len() != length {
            length = rest + length.to_string().len();
        }
        content.extend(format!("{length} {key}=").as_bytes());
        content.extend(*value);
        content.push(b'\n');
    }
    tar_without_end(&[Raw { content: &content, ..raw(b'x', "pax") }])
}

pub(crate) fn ids(tars: &[Vec<u8>]) -> (Vec<DiffId>, Vec<ChainId>) {
    let diff_ids: Vec<_> = tars.iter().map(|tar| DiffId(Digest::of(tar))).collect();
    let chains = ChainId::all(&diff_ids);
    (diff_ids, chains)
}

/// Unpacks tars on top of each other; answers the layers, bottom first.
pub(crate) fn unpack_all(store: &Store, tars: &[Vec<u8>]) -> Result<Vec<LayerId>, StoreError> {
    let (diff_ids, chains) = ids(tars);
    let mut layers = Vec::new();
    for ((tar, diff_id), chain) in tars.iter().zip(diff_ids).zip(chains) {
        layers.push(unpack_layer(store, &layers, chain, diff_id, Compression::None, &tar[..])?);
    }
    Ok(layers)
}

/// Everything about a host directory that a layer should keep, by path.
pub(crate) fn describe(root: &Path) -> BTreeMap<Vec<u8>, String> {
    use std::os::unix::ffi::OsStrExt as _;
    fn visit(
        root: &Path,
        path: &Path,
        into: &mut BTreeMap<Vec<u8>, String>,
        inodes: &mut BTreeMap<u64, Vec<u8>>,
    ) {
        // In order: which name of a file is the first is not for the file system to say.
        let paths: BTreeSet<_> =
            std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
        for path in paths {
            let metadata = std::fs::symlink_metadata(&path).unwrap();
            let kind = metadata.file_type();
            let what = if kind.is_symlink() {
                format!("link {:?}", std::fs::read_link(&path).unwrap())
            } else if kind.is_dir() {
                "dir".to_owned()
            } else if kind.is_file() {
                format!("file {}", Digest::of(&std::fs::read(&path).unwrap()))
            } else if kind.is_char_device() {
                format!("char {}", metadata.rdev())
            } else if kind.is_block_device() {
                format!("block {}", metadata.rdev())
            } else {
                "fifo".to_owned()
            };
            let name = path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec();
            let same = if metadata.nlink() > 1 && !kind.is_dir() {
                inodes.entry(metadata.ino()).or_insert_with(|| name.clone()).clone()
            } else {
                Vec::new()
            };
            let whiteout = kind.is_char_device() && metadata.rdev() == 0;
            let mode = if kind.is_symlink() || whiteout { 0 } else { metadata.mode() & 0o7777 };
            let mtime = if whiteout { 0 } else { metadata.mtime() };
            let text = format!(
                "{what} mode {mode:o} owner {}:{} mtime {mtime} xattrs {:?} same as {:?}",
                metadata.uid(),
                metadata.gid(),
                xattrs(&path),
                same,
            );
            into.insert(name, text);
            if kind.is_dir() {
                visit(root, &path, into, inodes);
            }
        }
    }
    let mut described = BTreeMap::new();
    // Names in sorted order decide which of several hard links comes first, so sort before comparing inodes.
    visit(root, root, &mut described, &mut BTreeMap::new());
    described
}

pub(crate) fn xattrs(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut names = vec![0; 65_536];
    let length = rustix::fs::llistxattr(path, &mut names[..]).unwrap();
    names[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let name = String::from_utf8(name.to_vec()).unwrap();
            let mut value = vec![0; 65_536];
            let length = rustix::fs::lgetxattr(path, &*name, &mut value[..]).unwrap();
            (name, value[..length].to_vec())
        })
        .filter(|(name, _)| name != "security.selinux")
        .collect()
}
