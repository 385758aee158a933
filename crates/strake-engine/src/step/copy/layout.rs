//! The new layer on paper: which directories and files it has, over what is below. Nothing is written here.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use strake_graph::ModeChange;
use strake_graph::pattern::clean;
use strake_store::RootDir;

use super::plan::{Destination, join};
use super::{CopyError, Owner, mode};
use crate::build_context::{AtPath, EntryKind, SourceTree};

/// A new layer.
#[derive(Debug)]
pub(crate) struct Layout<'a> {
    below: Option<&'a RootDir>,
    owner: Chown,
    chmod: Option<&'a ModeChange>,
    /// Parents before what is in them; the first is the root.
    pub(super) dirs: Vec<LayerDir<'a>>,
    by_path: HashMap<Vec<u8>, usize>,
}

/// A directory of the new layer.
#[derive(Debug)]
pub(super) struct LayerDir<'a> {
    pub(super) path: Vec<u8>,
    pub(super) attributes: DirAttributes<'a>,
    below: Below,
    /// What is in it except directories.
    pub(super) leaves: BTreeMap<Cow<'a, [u8]>, Leaf<'a>>,
}

/// Whose new files are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Chown {
    /// The source's own if absent; of what has no source, root.
    pub(super) uid: Option<u32>,
    /// As above.
    pub(super) gid: Option<u32>,
}

impl Chown {
    fn of(self, uid: u32, gid: u32) -> Owner {
        Owner { uid: self.uid.unwrap_or(uid), gid: self.gid.unwrap_or(gid) }
    }
}

impl From<Owner> for Chown {
    fn from(owner: Owner) -> Self {
        Self { uid: Some(owner.uid), gid: Some(owner.gid) }
    }
}

/// Where the attributes of a directory come from.
#[derive(Debug, Clone, Copy)]
pub(super) enum DirAttributes<'a> {
    /// The directory of the same path below: it was there before and stays as it was.
    Below,
    /// It is new.
    New { mode: u32, owner: Owner },
    /// A directory of a source.
    Source { tree: &'a SourceTree, index: usize, mode: u32, owner: Owner },
}

/// What a directory of the layers below has.
#[derive(Debug)]
enum Below {
    /// There is no such directory below, or it is not seen any more.
    Nothing,
    Unread,
    Names(HashSet<Vec<u8>>),
}

/// Anything but a directory.
#[derive(Debug, Clone)]
pub(super) struct Leaf<'a> {
    pub(super) content: Content<'a>,
    pub(super) mode: u32,
    pub(super) owner: Owner,
    /// The path in the layer of the file that this is another name of.
    pub(super) link: Option<Vec<u8>>,
    /// Whether the source is ours to be moved away instead of being copied.
    pub(super) adopt: bool,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Content<'a> {
    Entry {
        tree: &'a SourceTree,
        index: usize,
    },
    Inline(&'a [u8]),
    /// The mark that what is below is deleted.
    Whiteout,
}

/// What to do where something of another type is below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Conflict {
    /// Copies: a directory does not replace a file, nor a file a directory.
    Refuse,
    /// Archives: it is replaced.
    Replace,
    /// As above, but a directory that is there stays as it is.
    Keep,
    /// Directories that an archive implies only: a link below that leads to a directory stands for it.
    Follow,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Absent,
    Directory,
    /// A file, or a link wherever it leads.
    Other,
}

impl<'a> Layout<'a> {
    pub(crate) fn new(
        below: Option<&'a RootDir>,
        owner: Option<Owner>,
        chmod: Option<&'a ModeChange>,
    ) -> Self {
        let (attributes, below_root) = match below {
            Some(_) => (DirAttributes::Below, Below::Unread),
            None => (DirAttributes::New { mode: 0o755, owner: Owner::default() }, Below::Nothing),
        };
        let root = LayerDir { path: Vec::new(), attributes, below: below_root, leaves: BTreeMap::new() };
        let owner = owner.map(Chown::from).unwrap_or_default();
        Self { below, owner, chmod, dirs: vec![root], by_path: HashMap::from([(Vec::new(), 0)]) }
    }

    /// Says whose everything is that is placed from now on.
    pub(super) fn chown(&mut self, owner: Chown) {
        self.owner = owner;
    }

    /// Whether nothing would be changed.
    pub(crate) fn changes_nothing(&self) -> bool {
        self.dirs.iter().all(|dir| matches!(dir.attributes, DirAttributes::Below) && dir.leaves.is_empty())
    }

    /// The path without links of a destination in the image; what does not exist stays as written.
    pub(crate) fn resolve(&self, path: &[u8]) -> Result<Vec<u8>, CopyError> {
        let Some(below) = self.below else { return Ok(clean(path)) };
        match below.resolve_new(Path::new(OsStr::from_bytes(path))) {
            Ok(resolved) => Ok(resolved.into_os_string().into_vec()),
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                Err(destination(path, "a file stands where a directory is needed"))
            }
            Err(error) => Err(CopyError::io("resolve", path)(error)),
        }
    }

    pub(super) fn leaf(
        &self,
        content: Content<'a>,
        mode: u32,
        uid: u32,
        gid: u32,
        is_link: bool,
    ) -> Leaf<'a> {
        let mode = if is_link { mode } else { mode::changed(self.chmod, mode, false) };
        Leaf { content, mode, owner: self.owner.of(uid, gid), link: None, adopt: false }
    }

    /// Makes a directory and its parents where they are missing, owned by `--chown`.
    pub(crate) fn make_dirs(&mut self, path: &[u8]) -> Result<usize, CopyError> {
        if let Some(index) = self.by_path.get(path) {
            return Ok(*index);
        }
        let (parent, name) = split(path);
        let parent = self.make_dirs(parent)?;
        let actual = join(&self.dirs[parent].path, name);
        if actual != path {
            let index = self.make_dirs(&actual)?;
            self.by_path.insert(path.to_vec(), index);
            return Ok(index);
        }
        match self.state(parent, name, path)? {
            State::Directory => Ok(self.push(path.to_vec(), DirAttributes::Below, Below::Unread)),
            State::Absent => {
                let attributes = DirAttributes::New { mode: 0o755, owner: self.owner.of(0, 0) };
                Ok(self.push(path.to_vec(), attributes, Below::Nothing))
            }
            State::Other => Err(destination(path, "a file or link stands where a directory is needed")),
        }
    }

    /// Places a single file at a destination or in it.
    pub(super) fn place_file(
        &mut self,
        to: &Destination,
        name: &[u8],
        leaf: Leaf<'a>,
    ) -> Result<(), CopyError> {
        if to.is_directory || self.is_dir(&to.path)? {
            self.make_dirs(&to.path)?;
            return self.place_leaf(&to.path, Cow::Owned(name.to_vec()), leaf, Conflict::Refuse);
        }
        if to.several {
            let problem = "several sources need a directory there; end it with a `/` if it is to be made";
            return Err(destination(&to.path, problem));
        }
        let (parent, name) = split(&to.path);
        self.place_leaf(parent, Cow::Owned(name.to_vec()), leaf, Conflict::Refuse)
    }

    /// Places a directory of a source. What is there already takes over its attributes.
    pub(super) fn place_dir(
        &mut self,
        path: Vec<u8>,
        tree: &'a SourceTree,
        index: usize,
        conflict: Conflict,
    ) -> Result<(), CopyError> {
        check_name(&path)?;
        let entry = &tree.entries()[index];
        let attributes = DirAttributes::Source {
            tree,
            index,
            mode: mode::changed(self.chmod, entry.mode, true),
            owner: self.owner.of(entry.uid, entry.gid),
        };
        if let Some(index) = self.by_path.get(&path) {
            if !matches!(conflict, Conflict::Follow | Conflict::Keep) {
                self.dirs[*index].attributes = attributes;
            }
            return Ok(());
        }
        let (parent, name) = split(&path);
        let parent = self.make_dirs(parent)?;
        let actual = join(&self.dirs[parent].path, name);
        if actual != path {
            self.place_dir(actual.clone(), tree, index, conflict)?;
            let index = self.make_dirs(&actual)?;
            self.by_path.insert(path, index);
            return Ok(());
        }
        match (self.state(parent, name, &path)?, conflict) {
            (State::Directory, Conflict::Follow | Conflict::Keep) => {
                self.push(path, DirAttributes::Below, Below::Unread)
            }
            (State::Directory, _) => self.push(path, attributes, Below::Unread),
            (State::Absent, _) => self.push(path, attributes, Below::Nothing),
            (State::Other, Conflict::Follow) if self.leads_to_dir(&path) => {
                // Later paths of the archive go through the link to the directory itself.
                let resolved = self.resolve(&path)?;
                let index = self.make_dirs(&resolved)?;
                self.by_path.insert(path, index);
                index
            }
            (State::Other, Conflict::Replace | Conflict::Keep | Conflict::Follow)
                if !self.dirs[parent].leaves.contains_key(name) =>
            {
                self.push(path, attributes, Below::Nothing)
            }
            (State::Other, _) => {
                return Err(destination(&path, "a directory cannot replace the file or link that is there"));
            }
        };
        Ok(())
    }

    /// Places anything but a directory.
    pub(super) fn place_leaf(
        &mut self,
        parent: &[u8],
        name: Cow<'a, [u8]>,
        leaf: Leaf<'a>,
        conflict: Conflict,
    ) -> Result<(), CopyError> {
        let parent = match self.by_path.get(parent) {
            Some(parent) => *parent,
            None => self.make_dirs(parent)?,
        };
        let path = join(&self.dirs[parent].path, &name);
        check_name(&path)?;
        check_leaf(&path, &leaf)?;
        let planned = self.by_path.contains_key(&path);
        if planned || (conflict == Conflict::Refuse && self.state(parent, &name, &path)? == State::Directory)
        {
            return Err(destination(&path, "a file cannot replace the directory that is there"));
        }
        self.dirs[parent].leaves.insert(name, leaf);
        Ok(())
    }

    /// Removes what is below at a path, whose parent has no links. Answers whether there is anything.
    pub(super) fn remove(&mut self, path: &[u8]) -> Result<bool, CopyError> {
        let (parent, name) = split(path);
        let ends = (0..parent.len()).filter(|at| parent[*at] == b'/').chain([parent.len()]);
        for end in ends {
            // What is reached through a link is not what was placed.
            if !self.is_dir(&parent[..end])? {
                return Ok(false);
            }
        }
        let parent = self.make_dirs(parent)?;
        if self.state(parent, name, path)? == State::Absent {
            return Ok(false);
        }
        let leaf =
            Leaf { content: Content::Whiteout, mode: 0, owner: Owner::default(), link: None, adopt: false };
        self.dirs[parent].leaves.insert(Cow::Owned(name.to_vec()), leaf);
        Ok(true)
    }

    /// The names in a directory below, or nothing where there is none.
    pub(super) fn names_below(&self, path: &[u8]) -> Result<Vec<Vec<u8>>, CopyError> {
        let Some(below) = self.below else { return Ok(Vec::new()) };
        match below.read_dir(Path::new(OsStr::from_bytes(path))) {
            Ok(names) => Ok(names.map(|entry| entry.name.into_vec()).collect()),
            Err(error) if is_absent(&error) => Ok(Vec::new()),
            Err(error) => Err(CopyError::io("read directory", path)(error)),
        }
    }

    fn push(&mut self, path: Vec<u8>, attributes: DirAttributes<'a>, below: Below) -> usize {
        let index = self.dirs.len();
        self.by_path.insert(path.clone(), index);
        self.dirs.push(LayerDir { path, attributes, below, leaves: BTreeMap::new() });
        index
    }

    /// Whether a resolved path is a directory now.
    pub(super) fn is_dir(&self, path: &[u8]) -> Result<bool, CopyError> {
        if self.by_path.contains_key(path) {
            return Ok(true);
        }
        let Some(below) = self.below else { return Ok(false) };
        match below.stat(Path::new(OsStr::from_bytes(path))) {
            Ok(metadata) => Ok(metadata.is_dir()),
            Err(error) if is_absent(&error) => Ok(false),
            Err(error) => Err(CopyError::io("stat", path)(error)),
        }
    }

    fn leads_to_dir(&self, path: &[u8]) -> bool {
        let path = Path::new(OsStr::from_bytes(path));
        self.below.is_some_and(|below| below.stat_following(path).is_ok_and(|metadata| metadata.is_dir()))
    }

    /// What is at a path of the merged tree now, by its directory and name.
    fn state(&mut self, parent: usize, name: &[u8], path: &[u8]) -> Result<State, CopyError> {
        if self.by_path.contains_key(path) {
            return Ok(State::Directory);
        }
        if self.dirs[parent].leaves.contains_key(name) {
            return Ok(State::Other);
        }
        let Some(below) = self.below else { return Ok(State::Absent) };
        let parent = &mut self.dirs[parent];
        if matches!(parent.below, Below::Unread) {
            // One listing instead of one question for each file that is copied into an existing directory.
            let names = below
                .read_dir(Path::new(OsStr::from_bytes(&parent.path)))
                .map_err(CopyError::io("read directory", &parent.path))?;
            parent.below = Below::Names(names.map(|entry| entry.name.into_vec()).collect());
        }
        if !matches!(&parent.below, Below::Names(names) if names.contains(name)) {
            return Ok(State::Absent);
        }
        match below.stat(Path::new(OsStr::from_bytes(path))) {
            Ok(metadata) if metadata.is_dir() => Ok(State::Directory),
            Ok(_) => Ok(State::Other),
            Err(error) => Err(CopyError::io("stat", path)(error)),
        }
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn destination(path: &[u8], problem: &'static str) -> CopyError {
    CopyError::Destination { path: path.to_vec(), problem }
}

/// The parent and the name of a path that is not the root.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

fn check_name(path: &[u8]) -> Result<(), CopyError> {
    let (_, name) = split(path);
    if name.starts_with(b".wh.") {
        return Err(destination(
            path,
            "names that begin with `.wh.` mean deletion in a layer and cannot be stored",
        ));
    }
    if name.is_empty() {
        return Err(destination(path, "the root of the image is a directory and stays one"));
    }
    Ok(())
}

fn check_leaf(path: &[u8], leaf: &Leaf<'_>) -> Result<(), CopyError> {
    if let Content::Entry { tree, index } = leaf.content
        && tree.entries()[index].kind == (EntryKind::CharDevice { rdev: 0 })
    {
        return Err(destination(
            path,
            "a character device 0:0 means deletion in a layer and cannot be stored",
        ));
    }
    Ok(())
}
