//! From the sources of an instruction to the files they select.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use strake_graph::pattern::{Glob, PathFilter, clean};
use strake_graph::{CopyOp, CopySource, Encoder, StepId};
use strake_oci::Digest;
use strake_store::StatCache;

use super::archive::Unpacked;
use super::layout::{Conflict, Content, Layout, Leaf};
use super::{CopyError, Listed, ListedKind, Listing};
use crate::build_context::{Entry, EntryKind, FileDigest, Found, Origin, SourceError, SourceTree};

/// Mode of a file from a heredoc.
const INLINE_MODE: u32 = 0o644;

/// What the sources of a copy select.
#[derive(Debug, Clone)]
pub struct CopyPlan {
    pub(super) sources: Vec<Source>,
    /// What the user should know of it: that nothing at all is copied.
    pub(super) notes: Vec<String>,
}

#[derive(Debug, Clone)]
pub(super) enum Source {
    Files { from: StepId, tree: Arc<SourceTree>, found: Vec<Found> },
    Inline { name: String, content: Vec<u8> },
}

/// What the selection of a source from another stage is remembered by, beside the stage's canonical signature.
pub fn selection_key(pattern: &str) -> Digest {
    let mut encoder = Encoder::new("strake selection 1");
    encoder.bytes(&clean(pattern.as_bytes()));
    encoder.finish()
}

impl CopyPlan {
    /// The pattern of a source as the tree is searched with it; scan trees with these.
    ///
    /// # Errors
    /// When the pattern is malformed.
    pub fn glob(pattern: &str) -> Result<Glob, CopyError> {
        Ok(Glob::new(clean(pattern.as_bytes())).map_err(SourceError::Pattern)?)
    }

    /// Finds what the sources select. `trees` has the scanned tree of each step that a source names.
    ///
    /// # Errors
    /// When a source without wildcards selects nothing.
    ///
    /// # Panics
    /// When a step's tree is missing.
    pub fn resolve(
        sources: &[CopySource],
        trees: &BTreeMap<StepId, Arc<SourceTree>>,
    ) -> Result<Self, CopyError> {
        let mut plan = Self { sources: Vec::with_capacity(sources.len()), notes: Vec::new() };
        for source in sources {
            let (from, pattern) = match source {
                CopySource::Path { from, pattern } => (*from, pattern),
                CopySource::Inline { name, content } => {
                    plan.sources.push(Source::Inline { name: name.clone(), content: content.clone() });
                    continue;
                }
            };
            let tree = trees.get(&from).expect("the caller scans every tree that a source names");
            let glob = Self::glob(pattern)?;
            let found = tree.lookup(&glob).found;
            if found.is_empty() {
                let error = not_found(tree, pattern, &glob);
                if glob.as_literal().is_some() {
                    return Err(error);
                }
                // `COPY package.json lock* ./` works without the second, and so does `COPY lock* ./`.
                plan.notes.push(error.to_string());
            }
            plan.sources.push(Source::Files { from, tree: Arc::clone(tree), found });
        }
        if plan.matches() > 0 {
            plan.notes.clear();
        }
        Ok(plan)
    }

    /// Sees to it that all selected files have digests; see [`SourceTree::digest_files`]. `caches` has what the
    /// store remembers of a step's tree, for the trees it remembers. Answers how many files were read.
    ///
    /// # Errors
    /// When a file cannot be read or changed since the tree was scanned.
    pub fn digest_files(
        &self,
        caches: &mut BTreeMap<StepId, StatCache>,
        read_ns: i64,
    ) -> Result<usize, CopyError> {
        let mut read = 0;
        for source in &self.sources {
            let Source::Files { from, tree, found } = source else { continue };
            let indices = found.iter().flat_map(|found| selected(tree, found));
            read += tree.digest_files(indices, caches.get_mut(from), read_ns)?;
        }
        Ok(read)
    }

    /// The selected files with their digests.
    ///
    /// # Panics
    /// When [`CopyPlan::digest_files`] was not called before.
    pub fn listing(&self) -> Listing {
        Listing { sources: self.sources.iter().map(Source::listing).collect() }
    }

    /// How many files, heredocs and directories the sources name, those inside directories not counted.
    pub(super) fn matches(&self) -> usize {
        let count = |source: &Source| match source {
            Source::Files { found, .. } => found.len(),
            Source::Inline { .. } => 1,
        };
        self.sources.iter().map(count).sum()
    }

    /// Lays out the selected files over what is below.
    pub(super) fn place<'a>(
        &'a self,
        op: &CopyOp,
        archives: &'a [Unpacked],
        layout: &mut Layout<'a>,
    ) -> Result<(), CopyError> {
        let destination = Destination {
            path: layout.resolve(op.destination.as_bytes())?,
            is_directory: op.destination.ends_with('/') || op.destination.ends_with("/."),
            several: self.matches() > 1,
        };
        for (source_index, source) in self.sources.iter().enumerate() {
            match source {
                Source::Inline { name, content } => {
                    let leaf = layout.leaf(Content::Inline(content), INLINE_MODE, 0, 0, false);
                    layout.place_file(&destination, name.as_bytes(), leaf)?;
                }
                Source::Files { tree, found, .. } => {
                    for (found_index, found) in found.iter().enumerate() {
                        let archive =
                            archives.iter().find(|archive| archive.place == (source_index, found_index));
                        place_found(layout, &destination, tree, found, archive)?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Where the instruction says files go.
pub(super) struct Destination {
    /// The path in the image, links resolved.
    pub(super) path: Vec<u8>,
    /// Whether the instruction says that it is a directory.
    pub(super) is_directory: bool,
    /// Whether more than one file or directory goes there.
    pub(super) several: bool,
}

fn place_found<'a>(
    layout: &mut Layout<'a>,
    destination: &Destination,
    tree: &'a SourceTree,
    found: &'a Found,
    archive: Option<&'a Unpacked>,
) -> Result<(), CopyError> {
    if let Some(archive) = archive {
        layout.make_dirs(&destination.path)?;
        let placing =
            Placing { conflict: Conflict::Replace, archive: Some(archive), adopt: true, filter: None };
        return place_tree(layout, &destination.path, &archive.tree, None, &placing);
    }
    match found.entry {
        Some(index) if tree.entries()[index].kind != EntryKind::Directory => {
            let leaf = leaf_of(layout, tree, index);
            layout.place_file(destination, &found.name, leaf)
        }
        directory => {
            layout.make_dirs(&destination.path)?;
            let placing = Placing { conflict: Conflict::Refuse, archive: None, adopt: false, filter: None };
            place_tree(layout, &destination.path, tree, directory, &placing)
        }
    }
}

pub(super) fn leaf_of<'a>(layout: &Layout<'a>, tree: &'a SourceTree, index: usize) -> Leaf<'a> {
    let entry = &tree.entries()[index];
    let is_link = matches!(entry.kind, EntryKind::Symlink { .. });
    layout.leaf(Content::Entry { tree, index }, entry.mode, entry.uid, entry.gid, is_link)
}

/// How a tree is placed.
pub(super) struct Placing<'p> {
    pub(super) conflict: Conflict,
    /// The archive that the tree was unpacked from, which knows what directories it did not have.
    pub(super) archive: Option<&'p Unpacked>,
    /// Whether the files are ours to be moved away.
    pub(super) adopt: bool,
    /// Which paths below the directory, and what leads to them.
    pub(super) filter: Option<&'p PathFilter>,
}

impl Placing<'_> {
    fn takes(&self, path: &[u8]) -> bool {
        self.filter.is_none_or(|filter| filter.matches(path))
    }
}

/// Places what is below a directory of a tree.
pub(super) fn place_tree<'a>(
    layout: &mut Layout<'a>,
    target: &[u8],
    tree: &'a SourceTree,
    directory: Option<usize>,
    placing: &Placing<'_>,
) -> Result<(), CopyError> {
    let top = directory.map_or(&b""[..], |index| &tree.entries()[index].path);
    let prefix = prefix_len(top);
    let Placing { conflict, archive, adopt, .. } = *placing;
    // Directories that are not taken themselves, but something in them may be.
    let mut leading: Vec<usize> = Vec::new();
    let mut first_names: HashMap<(u64, u64), Vec<u8>> = HashMap::new();
    for index in tree.below(top) {
        let entry = &tree.entries()[index];
        let relative = &entry.path[prefix..];
        let path = join(target, relative);
        if !placing.takes(relative) {
            if entry.kind == EntryKind::Directory {
                leading.push(index);
            }
            continue;
        }
        for index in std::mem::take(&mut leading) {
            let folder = &tree.entries()[index].path;
            if is_below(&entry.path, folder) {
                layout.place_dir(join(target, &folder[prefix..]), tree, index, conflict)?;
            }
        }
        if entry.kind == EntryKind::Directory {
            let implicit = archive.is_some_and(|archive| archive.implicit.contains(&entry.path));
            layout.place_dir(path, tree, index, if implicit { Conflict::Follow } else { conflict })?;
            continue;
        }
        let mut leaf = leaf_of(layout, tree, index);
        leaf.adopt = adopt;
        if is_linked(entry) && !adopt {
            match first_names.get(&(entry.dev, entry.ino)) {
                Some(first) => leaf.link = Some(first.clone()),
                None => {
                    first_names.insert((entry.dev, entry.ino), path.clone());
                }
            }
        }
        let at = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
        let name = entry.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        layout.place_leaf(&path[..at.saturating_sub(1)], Cow::Borrowed(name), leaf, conflict)?;
    }
    Ok(())
}

fn is_below(path: &[u8], folder: &[u8]) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.first() == Some(&b'/'))
}

fn is_linked(entry: &Entry) -> bool {
    entry.nlink > 1 && entry.kind == EntryKind::File
}

fn prefix_len(directory: &[u8]) -> usize {
    if directory.is_empty() { 0 } else { directory.len() + 1 }
}

pub(super) fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    if folder.is_empty() { name.to_vec() } else { [folder, name].join(&b'/') }
}

/// The entries that a match stands for.
fn selected(tree: &SourceTree, found: &Found) -> std::ops::Range<usize> {
    match found.entry {
        Some(index) if tree.entries()[index].kind != EntryKind::Directory => index..index + 1,
        Some(index) => tree.below(&tree.entries()[index].path),
        None => tree.below(b""),
    }
}

impl Source {
    fn listing(&self) -> Vec<Listed> {
        match self {
            Self::Inline { name, content } => vec![Listed {
                path: name.as_bytes().to_vec(),
                prefix: 0,
                kind: ListedKind::File(FileDigest::of(content)),
                mode: INLINE_MODE,
                uid: 0,
                gid: 0,
                xattrs: None,
            }],
            Self::Files { tree, found, .. } => {
                let mut listed = Vec::new();
                found.iter().for_each(|found| list_found(tree, found, &mut listed));
                listed
            }
        }
    }
}

fn list_found(tree: &SourceTree, found: &Found, listing: &mut Vec<Listed>) {
    if let Some(index) = found.entry.filter(|index| tree.entries()[*index].kind != EntryKind::Directory) {
        let mut listed = list_entry(tree, index, 0, None);
        // The file goes by the name it was asked for by, which a link may have changed.
        if listed.path.ends_with(&found.name) {
            listed.prefix = listed.path.len() - found.name.len();
        } else {
            listed.path.clone_from(&found.name);
        }
        listing.push(listed);
        return;
    }
    let top = found.entry.map_or(&b""[..], |index| &tree.entries()[index].path);
    // A mark that a directory begins here; its own mode and owner are not copied.
    listing.push(Listed {
        path: top.to_vec(),
        prefix: top.len(),
        kind: ListedKind::Directory,
        mode: 0,
        uid: 0,
        gid: 0,
        xattrs: None,
    });
    let prefix = prefix_len(top);
    let mut first_names: HashMap<(u64, u64), &[u8]> = HashMap::new();
    for index in tree.below(top) {
        let entry = &tree.entries()[index];
        let mut first = None;
        if is_linked(entry) {
            first = first_names.get(&(entry.dev, entry.ino)).copied();
            first_names.entry((entry.dev, entry.ino)).or_insert(&entry.path[prefix..]);
        }
        listing.push(list_entry(tree, index, prefix, first));
    }
}

fn list_entry(tree: &SourceTree, index: usize, prefix: usize, first_name: Option<&[u8]>) -> Listed {
    let entry = &tree.entries()[index];
    let digest = || tree.digest(index).expect("the files of a plan are digested before they are listed");
    let kind = match (&entry.kind, first_name) {
        (EntryKind::File, Some(first)) => ListedKind::HardLink(first.to_vec()),
        (EntryKind::File, None) => ListedKind::File(digest()),
        (EntryKind::Directory, _) => ListedKind::Directory,
        (EntryKind::Symlink { target }, _) => ListedKind::Symlink(target.clone()),
        (EntryKind::CharDevice { rdev }, _) => ListedKind::CharDevice(*rdev),
        (EntryKind::BlockDevice { rdev }, _) => ListedKind::BlockDevice(*rdev),
        (EntryKind::Fifo, _) => ListedKind::Fifo,
    };
    let mut xattrs = Vec::new();
    for (name, value) in &entry.xattrs {
        for bytes in [name.as_bytes(), value] {
            xattrs.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
            xattrs.extend_from_slice(bytes);
        }
    }
    Listed {
        path: entry.path.clone(),
        prefix,
        kind,
        mode: entry.mode,
        uid: entry.uid,
        gid: entry.gid,
        xattrs: (!xattrs.is_empty()).then(|| FileDigest::of(&xattrs)),
    }
}

fn not_found(tree: &SourceTree, pattern: &str, glob: &Glob) -> CopyError {
    let place = match tree.origin() {
        Origin::Context => "the build context",
        Origin::Stage => "the stage it is copied from",
    };
    let ignored = glob.as_literal().and_then(|path| {
        let line = tree.ignore().ignored_by_line(path)?;
        Some(format!("; line {line} of the ignore file excludes it"))
    });
    let hint = ignored.unwrap_or_else(|| match tree.origin() {
        Origin::Context if !tree.ignore().is_empty() => "; the ignore file may exclude it".to_owned(),
        _ => String::new(),
    });
    CopyError::NotFound { pattern: pattern.to_owned(), place, hint }
}
