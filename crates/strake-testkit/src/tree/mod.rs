//! A file system as a value: what layers give when they are laid over each other, and how two differ.
//!
//! Written for the tests alone, straight from image-spec `layer.md`, and slow but obvious: the program must
//! not be judged by its own code. Times are left out everywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use strake_oci::Digest;

use crate::{Failure, Outcome};

/// Everything in a file system, by path without a leading slash; the root itself is the empty path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    /// Paths in order; bytes that are no UTF-8 are escaped as `\xNN`.
    pub nodes: BTreeMap<String, Entry>,
}

/// One entry of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// The lower twelve bits of its mode.
    pub mode: u32,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
    /// Extended attributes by name; values escaped like paths.
    pub xattrs: BTreeMap<String, String>,
    /// The other names of the same file, in order.
    pub hard_links: Vec<String>,
}

/// What an entry is, with its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A folder.
    Directory,
    /// A regular file.
    File {
        /// Bytes.
        size: u64,
        /// Digest of the content.
        digest: Digest,
        /// The content itself when it is short: differences are read by people.
        text: Option<String>,
    },
    /// A symbolic link with its target.
    Symlink(String),
    /// A character (`c`) or block (`b`) device with its numbers.
    Device(char, u32, u32),
    /// A named pipe.
    Fifo,
}

/// One path at which two trees differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The path.
    pub path: String,
    /// What the first tree has there.
    pub left: Option<Entry>,
    /// What the second tree has there.
    pub right: Option<Entry>,
}

impl Tree {
    /// The content of one tar, whiteouts applied to nothing.
    ///
    /// # Errors
    /// When it is no tar.
    pub fn of_tar(bytes: &[u8]) -> Outcome<Self> {
        let mut flattener = Flattener::default();
        flattener.layer(bytes)?;
        Ok(flattener.finish())
    }

    /// What lies below a directory of this machine.
    ///
    /// # Errors
    /// When something in it cannot be read.
    pub fn of_directory(root: &Path) -> Outcome<Self> {
        let mut flattener = Flattener::default();
        let mut known = BTreeMap::new();
        let mut waiting = vec![root.to_path_buf()];
        while let Some(path) = waiting.pop() {
            let key = path.strip_prefix(root).unwrap_or(&path).as_os_str().as_bytes().to_vec();
            let metadata =
                path.symlink_metadata().map_err(Failure::at(format!("stat {}", path.display())))?;
            if metadata.is_dir() {
                let children =
                    std::fs::read_dir(&path).map_err(Failure::at(format!("list {}", path.display())))?;
                for child in children {
                    waiting.push(child.map_err(Failure::at(format!("list {}", path.display())))?.path());
                }
            }
            let inode = match known.get(&(metadata.dev(), metadata.ino())) {
                Some(inode) => *inode,
                None => flattener.add(inode_of_file(&path, &metadata)?),
            };
            if !metadata.is_dir() {
                known.insert((metadata.dev(), metadata.ino()), inode);
            }
            flattener.paths.insert(key, inode);
        }
        Ok(flattener.finish())
    }

    /// Every path at which `self` and `other` differ, in order.
    pub fn differences(&self, other: &Self) -> Vec<Difference> {
        let paths: BTreeSet<&String> = self.nodes.keys().chain(other.nodes.keys()).collect();
        let pairs = paths.into_iter().map(|path| (path, self.nodes.get(path), other.nodes.get(path)));
        let unequal = pairs.filter(|(_, left, right)| left != right);
        unequal
            .map(|(path, left, right)| Difference {
                path: path.clone(),
                left: left.cloned(),
                right: right.cloned(),
            })
            .collect()
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Directory => write!(out, "directory")?,
            Kind::File { size: _, digest: _, text: Some(text) } => write!(out, "file {text:?}")?,
            Kind::File { size, digest, text: None } => {
                write!(out, "file of {size} bytes, {}", digest.short())?
            }
            Kind::Symlink(target) => write!(out, "symlink to {target:?}")?,
            Kind::Device(kind, major, minor) => write!(out, "device {kind} {major}:{minor}")?,
            Kind::Fifo => write!(out, "fifo")?,
        }
        write!(out, " {:04o} {}:{}", self.mode, self.uid, self.gid)?;
        if !self.xattrs.is_empty() {
            write!(out, " xattrs {:?}", self.xattrs)?;
        }
        if !self.hard_links.is_empty() {
            write!(out, " same file as {:?}", self.hard_links)?;
        }
        Ok(())
    }
}

/// Layers being laid over each other.
#[derive(Debug, Default)]
pub(crate) struct Flattener {
    paths: BTreeMap<Vec<u8>, usize>,
    inodes: Vec<Inode>,
}

#[derive(Debug, Clone)]
struct Inode {
    kind: Kind,
    mode: u32,
    uid: u64,
    gid: u64,
    xattrs: BTreeMap<String, String>,
}

impl Flattener {
    /// Applies one uncompressed layer.
    pub(crate) fn layer(&mut self, bytes: &[u8]) -> Outcome<()> {
        // Whiteouts hide what is below, never what the same layer brings, wherever they stand in it.
        let mut fresh: BTreeSet<Vec<u8>> = BTreeSet::new();
        let mut archive = tar::Archive::new(bytes);
        for entry in archive.entries().map_err(Failure::at("read tar"))? {
            let mut entry = entry.map_err(Failure::at("read tar"))?;
            let path = cleaned(&entry.path_bytes());
            let (parent, name) = split(&path);
            if name == b".wh..wh..opq" {
                self.remove_below(parent, &fresh);
            } else if let Some(hidden) = name.strip_prefix(b".wh.") {
                let hidden =
                    if parent.is_empty() { hidden.to_vec() } else { [parent, b"/", hidden].concat() };
                if !fresh.contains(&hidden) {
                    self.paths.remove(&hidden);
                }
                self.remove_below(&hidden, &fresh);
            } else {
                let inode = self.inode_of_entry(&mut entry)?;
                self.place(path.clone(), inode);
                fresh.insert(path);
            }
        }
        Ok(())
    }

    /// The finished tree, with the names of hard links gathered.
    pub(crate) fn finish(self) -> Tree {
        let mut names: BTreeMap<usize, Vec<String>> = BTreeMap::new();
        for (path, inode) in &self.paths {
            names.entry(*inode).or_default().push(shown(path));
        }
        let nodes = self.paths.iter().map(|(path, inode)| {
            let path = shown(path);
            let Inode { kind, mode, uid, gid, xattrs } = self.inodes[*inode].clone();
            let hard_links = names[inode].iter().filter(|name| **name != path).cloned().collect();
            (path, Entry { kind, mode, uid, gid, xattrs, hard_links })
        });
        Tree { nodes: nodes.collect() }
    }

    fn add(&mut self, inode: Inode) -> usize {
        self.inodes.push(inode);
        self.inodes.len() - 1
    }

    fn place(&mut self, path: Vec<u8>, inode: usize) {
        if self.inodes[inode].kind != Kind::Directory {
            self.remove_below(&path, &BTreeSet::new());
        }
        self.paths.insert(path, inode);
    }

    fn remove_below(&mut self, directory: &[u8], except: &BTreeSet<Vec<u8>>) {
        let prefix = if directory.is_empty() { Vec::new() } else { [directory, b"/"].concat() };
        self.paths.retain(|path, _| path.is_empty() || !path.starts_with(&prefix) || except.contains(path));
    }

    fn inode_of_entry(&mut self, entry: &mut tar::Entry<'_, &[u8]>) -> Outcome<usize> {
        let path = shown(&entry.path_bytes());
        let wrong = |what: &str| Failure::new(format!("{path}: {what}"));
        if entry.header().entry_type() == tar::EntryType::Link {
            let target = entry.link_name_bytes().ok_or_else(|| wrong("hard link without a target"))?;
            let target = cleaned(&target);
            return self
                .paths
                .get(&target)
                .copied()
                .ok_or_else(|| wrong("hard link to something that is not there"));
        }
        let xattrs = xattrs_of_entry(entry)?;
        let header = entry.header().clone();
        let number = |value: std::io::Result<u64>| value.map_err(Failure::at(path.clone()));
        let kind = match header.entry_type() {
            tar::EntryType::Directory => Kind::Directory,
            tar::EntryType::Symlink => Kind::Symlink(shown(
                &entry.link_name_bytes().ok_or_else(|| wrong("symlink without a target"))?,
            )),
            tar::EntryType::Fifo => Kind::Fifo,
            kind @ (tar::EntryType::Char | tar::EntryType::Block) => {
                let part = |value: std::io::Result<Option<u32>>| value.ok().flatten().unwrap_or(0);
                let letter = if kind == tar::EntryType::Char { 'c' } else { 'b' };
                Kind::Device(letter, part(header.device_major()), part(header.device_minor()))
            }
            tar::EntryType::Regular | tar::EntryType::Continuous | tar::EntryType::GNUSparse => {
                let mut content = Vec::new();
                entry.read_to_end(&mut content).map_err(Failure::at(path.clone()))?;
                file(&content)
            }
            other => return Err(wrong(&format!("entry of type {other:?}"))),
        };
        let mode = header.mode().map_err(Failure::at(path.clone()))? & 0o7777;
        let uid = number(header.uid())?;
        let gid = number(header.gid())?;
        Ok(self.add(Inode { kind, mode, uid, gid, xattrs }))
    }
}

fn file(content: &[u8]) -> Kind {
    let text = std::str::from_utf8(content).ok().filter(|text| text.len() <= 400).map(str::to_owned);
    Kind::File { size: content.len() as u64, digest: Digest::of(content), text }
}

fn xattrs_of_entry(entry: &mut tar::Entry<'_, &[u8]>) -> Outcome<BTreeMap<String, String>> {
    let mut xattrs = BTreeMap::new();
    let Some(records) = entry.pax_extensions().map_err(Failure::at("read PAX records"))? else {
        return Ok(xattrs);
    };
    for record in records {
        let record = record.map_err(Failure::at("read a PAX record"))?;
        if let Some(name) = record.key_bytes().strip_prefix(b"SCHILY.xattr.") {
            xattrs.insert(shown(name), shown(record.value_bytes()));
        }
    }
    Ok(xattrs)
}

fn inode_of_file(path: &Path, metadata: &std::fs::Metadata) -> Outcome<Inode> {
    let at = |doing: &str| format!("{doing} {}", path.display());
    let kind = metadata.file_type();
    let device =
        |letter| Kind::Device(letter, rustix::fs::major(metadata.rdev()), rustix::fs::minor(metadata.rdev()));
    let kind = if kind.is_dir() {
        Kind::Directory
    } else if kind.is_symlink() {
        Kind::Symlink(shown(
            std::fs::read_link(path).map_err(Failure::at(at("read link")))?.as_os_str().as_bytes(),
        ))
    } else if kind.is_file() {
        file(&std::fs::read(path).map_err(Failure::at(at("read")))?)
    } else if kind.is_fifo() {
        Kind::Fifo
    } else if kind.is_char_device() {
        device('c')
    } else if kind.is_block_device() {
        device('b')
    } else {
        return Err(Failure::new(at("a socket:")));
    };
    let xattrs = xattrs_of_file(path).map_err(Failure::at(at("read the attributes of")))?;
    Ok(Inode {
        kind,
        mode: metadata.mode() & 0o7777,
        uid: metadata.uid().into(),
        gid: metadata.gid().into(),
        xattrs,
    })
}

fn xattrs_of_file(path: &Path) -> rustix::io::Result<BTreeMap<String, String>> {
    let mut names = vec![0u8; 65_536];
    let length = match rustix::fs::llistxattr(path, &mut names[..]) {
        Ok(length) => length,
        Err(rustix::io::Errno::OPNOTSUPP) => 0,
        Err(error) => return Err(error),
    };
    let mut xattrs = BTreeMap::new();
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0u8; 65_536];
        let length = rustix::fs::lgetxattr(path, name, &mut value[..])?;
        xattrs.insert(shown(name), shown(&value[..length]));
    }
    Ok(xattrs)
}

/// The path without leading `/` and `./`, doubled and trailing slashes.
fn cleaned(path: &[u8]) -> Vec<u8> {
    let parts: Vec<&[u8]> =
        path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
    parts.join(&b'/')
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&[], path),
    }
}

/// Text for people: UTF-8 as it is, every other byte as `\xNN`.
fn shown(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(
            chunk.invalid().iter().flat_map(|byte| std::ascii::escape_default(*byte)).map(char::from),
        );
    }
    text
}

#[cfg(test)]
mod tests;
