//! What a copy selected, in a form to keep and to compare.

use std::collections::HashMap;

use strake_graph::Encoder;
use strake_oci::Digest;

use crate::build_context::FileDigest;

/// The files a copy selected, sorted as they were selected. A value to keep beside a record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// One list for each source of the instruction.
    pub sources: Vec<Vec<Listed>>,
}

/// One selected file, directory or link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The path in its tree, as people know it.
    pub path: Vec<u8>,
    /// How many bytes at the front of `path` only say where the selection lies: they are not copied.
    pub prefix: usize,
    /// What it is.
    pub kind: ListedKind,
    /// The low twelve bits of its mode.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// The digest of its extended attributes; `None` when it has none.
    pub xattrs: Option<FileDigest>,
}

/// What a selected entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListedKind {
    /// A regular file.
    File(FileDigest),
    /// A directory.
    Directory,
    /// A symbolic link with its target.
    Symlink(Vec<u8>),
    /// Another name of the file at this copied path.
    HardLink(Vec<u8>),
    /// A character device.
    CharDevice(u64),
    /// A block device.
    BlockDevice(u64),
    /// A named pipe.
    Fifo,
}

/// One difference between two listings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What differs.
    pub kind: ChangeKind,
    /// The path in its tree.
    pub path: Vec<u8>,
}

/// What differs about a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It was not there before.
    Added,
    /// It is not there any more.
    Removed,
    /// It is another type of file.
    Type,
    /// Content, link target or device number.
    Content,
    /// Permissions.
    Mode,
    /// Owner or group.
    Owner,
    /// Extended attributes.
    Attributes,
}

/// The bytes are not a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a file listing of this version")]
pub struct ListingError;

impl Listing {
    /// What goes into a signature: every copied path with type, mode, owner, content, link target and attributes,
    /// never times. A rename of the folder that was selected changes nothing.
    pub fn digest(&self) -> Digest {
        Self::combine(&self.source_digests())
    }

    /// The digest of each source by itself, to be remembered for selections from other stages.
    pub fn source_digests(&self) -> Vec<Digest> {
        self.sources.iter().map(|source| source_digest(source)).collect()
    }

    /// [`Listing::digest`] from [`Listing::source_digests`].
    pub fn combine(sources: &[Digest]) -> Digest {
        let mut encoder = Encoder::new("strake copied files 1");
        encoder.list(sources.iter());
        encoder.finish()
    }

    /// What is different here from an older listing, in order of path.
    pub fn difference(&self, old: &Self) -> Vec<Change> {
        let by_path = |listing: &'_ Self| -> std::collections::BTreeMap<Vec<u8>, Listed> {
            listing.sources.iter().flatten().map(|listed| (listed.path.clone(), listed.clone())).collect()
        };
        let (new, mut old) = (by_path(self), by_path(old));
        let mut changes = Vec::new();
        for (path, listed) in new {
            let kind = match old.remove(&path) {
                None => Some(ChangeKind::Added),
                Some(before) => listed.changed_from(&before),
            };
            changes.extend(kind.map(|kind| Change { kind, path }));
        }
        changes.extend(old.into_keys().map(|path| Change { kind: ChangeKind::Removed, path }));
        changes.sort_by(|one, other| one.path.cmp(&other.path));
        changes
    }

    /// The listing as bytes, for the index.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = LISTING_VERSION.to_vec();
        put_number(&mut bytes, self.sources.len() as u64);
        for source in &self.sources {
            put_number(&mut bytes, source.len() as u64);
            for listed in source {
                put_bytes(&mut bytes, &listed.path);
                put_number(&mut bytes, listed.prefix as u64);
                listed.put_attributes(&mut bytes);
            }
        }
        bytes
    }

    /// A listing from its bytes.
    ///
    /// # Errors
    /// When the bytes are not those of a listing of this version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ListingError> {
        let mut reader = Reader(bytes.strip_prefix(LISTING_VERSION).ok_or(ListingError)?);
        let mut listing = Self::default();
        for _ in 0..reader.number()? {
            let mut source = Vec::new();
            for _ in 0..reader.number()? {
                source.push(reader.listed()?);
            }
            listing.sources.push(source);
        }
        reader.0.is_empty().then_some(listing).ok_or(ListingError)
    }
}

const LISTING_VERSION: &[u8] = b"strake listing 1\n";
const FILES_VERSION: &[u8] = b"strake layer files 2\n";

fn source_digest(source: &[Listed]) -> Digest {
    let mut encoder = Encoder::new("strake copied source 1");
    encoder.number(source.len() as u64);
    let mut bytes = Vec::new();
    for listed in source {
        bytes.clear();
        put_bytes(&mut bytes, &listed.path[listed.prefix..]);
        listed.put_attributes(&mut bytes);
        encoder.bytes(&bytes);
    }
    encoder.finish()
}

impl Listed {
    fn changed_from(&self, old: &Self) -> Option<ChangeKind> {
        if std::mem::discriminant(&self.kind) != std::mem::discriminant(&old.kind) {
            Some(ChangeKind::Type)
        } else if self.kind != old.kind {
            Some(ChangeKind::Content)
        } else if self.mode != old.mode {
            Some(ChangeKind::Mode)
        } else if (self.uid, self.gid) != (old.uid, old.gid) {
            Some(ChangeKind::Owner)
        } else if self.xattrs != old.xattrs {
            Some(ChangeKind::Attributes)
        } else {
            None
        }
    }

    /// Every field has a length of its own or a fixed one, so no two different entries give the same bytes.
    fn put_attributes(&self, bytes: &mut Vec<u8>) {
        match &self.kind {
            ListedKind::File(digest) => put_tagged(bytes, b'f', &digest.0),
            ListedKind::Directory => put_tagged(bytes, b'd', b""),
            ListedKind::Symlink(target) => put_tagged(bytes, b'l', target),
            ListedKind::HardLink(path) => put_tagged(bytes, b'h', path),
            ListedKind::CharDevice(rdev) => put_tagged(bytes, b'c', &rdev.to_le_bytes()),
            ListedKind::BlockDevice(rdev) => put_tagged(bytes, b'b', &rdev.to_le_bytes()),
            ListedKind::Fifo => put_tagged(bytes, b'p', b""),
        }
        bytes.extend_from_slice(&self.mode.to_le_bytes());
        bytes.extend_from_slice(&self.uid.to_le_bytes());
        bytes.extend_from_slice(&self.gid.to_le_bytes());
        put_bytes(bytes, self.xattrs.as_ref().map_or(&[], |digest| &digest.0[..]));
    }
}

/// The regular files of a layer without extended attributes, by path, with the digests of their content.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LayerFiles(HashMap<Vec<u8>, FileDigest>);

impl LayerFiles {
    pub(super) fn insert(&mut self, path: Vec<u8>, digest: FileDigest) {
        self.0.insert(path, digest);
    }

    /// The digest of the file at a path of the layer.
    pub fn get(&self, path: &[u8]) -> Option<FileDigest> {
        self.0.get(path).copied()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As bytes, for the index; sorted, so that equal values give equal bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut files: Vec<_> = self.0.iter().collect();
        files.sort_unstable();
        let mut bytes = FILES_VERSION.to_vec();
        for (path, digest) in files {
            put_bytes(&mut bytes, path);
            bytes.extend_from_slice(&digest.0);
        }
        bytes
    }

    /// From bytes.
    ///
    /// # Errors
    /// When the bytes are not those of such a value of this version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ListingError> {
        let mut reader = Reader(bytes.strip_prefix(FILES_VERSION).ok_or(ListingError)?);
        let mut files = Self::default();
        while !reader.0.is_empty() {
            let path = reader.bytes()?.to_vec();
            files.insert(path, FileDigest(reader.array()?));
        }
        Ok(files)
    }
}

fn put_number(bytes: &mut Vec<u8>, number: u64) {
    bytes.extend_from_slice(&number.to_le_bytes());
}

fn put_bytes(bytes: &mut Vec<u8>, value: &[u8]) {
    put_number(bytes, value.len() as u64);
    bytes.extend_from_slice(value);
}

fn put_tagged(bytes: &mut Vec<u8>, tag: u8, value: &[u8]) {
    bytes.push(tag);
    put_bytes(bytes, value);
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], ListingError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(ListingError)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ListingError> {
        self.take(N)?.try_into().map_err(|_| ListingError)
    }

    fn number(&mut self) -> Result<u64, ListingError> {
        self.array().map(u64::from_le_bytes)
    }

    fn small(&mut self) -> Result<u32, ListingError> {
        self.array().map(u32::from_le_bytes)
    }

    fn bytes(&mut self) -> Result<&'a [u8], ListingError> {
        let count = usize::try_from(self.number()?).map_err(|_| ListingError)?;
        self.take(count)
    }

    fn listed(&mut self) -> Result<Listed, ListingError> {
        let path = self.bytes()?.to_vec();
        let prefix = usize::try_from(self.number()?).map_err(|_| ListingError)?;
        let [tag] = self.array()?;
        let value = self.bytes()?;
        let digest = |value: &[u8]| value.try_into().map(FileDigest).map_err(|_| ListingError);
        let rdev = |value: &[u8]| value.try_into().map(u64::from_le_bytes).map_err(|_| ListingError);
        let kind = match tag {
            b'f' => ListedKind::File(digest(value)?),
            b'd' => ListedKind::Directory,
            b'l' => ListedKind::Symlink(value.to_vec()),
            b'h' => ListedKind::HardLink(value.to_vec()),
            b'c' => ListedKind::CharDevice(rdev(value)?),
            b'b' => ListedKind::BlockDevice(rdev(value)?),
            b'p' => ListedKind::Fifo,
            _ => return Err(ListingError),
        };
        let (mode, uid, gid) = (self.small()?, self.small()?, self.small()?);
        let xattrs = self.bytes()?;
        let xattrs = if xattrs.is_empty() { None } else { Some(digest(xattrs)?) };
        if prefix > path.len() {
            return Err(ListingError);
        }
        Ok(Listed { path, prefix, kind, mode, uid, gid, xattrs })
    }
}
