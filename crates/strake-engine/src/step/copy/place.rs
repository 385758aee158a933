//! Placing: files that somebody hands over or another step has, put where a description says.
//!
//! What a repository changed is written aside first and then moved into the layer. A directory that is there already
//! stays what it is; where something else stands in the way of a directory or file, it is replaced: what was asked for
//! is there afterwards, whatever an earlier step did to the tree. Names that are gone become marks of deletion, and a
//! directory that has nothing left goes with them, as `git` leaves no empty directory behind.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT};
use strake_graph::pattern::{Glob, PathFilter};
use strake_store::RootDir;

use super::layout::{Chown, Conflict, Layout};
use super::owner::{Owner, user_owner};
use super::plan::{Placing, join, leaf_of, place_tree};
use super::{CopyError, write_layer};
use crate::build_context::{AtPath, EntryKind, SourceTree, open_beneath, shown};
use crate::clock::now_ns;
use crate::files::{Becomes, FileSet};
use crate::request::Cancellation;

/// The name of a set's only file while it is aside.
const SINGLE: &[u8] = b"file";

/// What is placed, its files being there.
pub(crate) struct Placed<'a> {
    pub(crate) files: PlacedFiles<'a>,
    /// Where, absolute.
    pub(crate) to: &'a str,
    pub(crate) owner: Option<&'a str>,
    pub(crate) group: Option<&'a str>,
}

/// Files to be placed.
pub(crate) enum PlacedFiles<'a> {
    /// A set that was written aside by [`write_aside`].
    Set { set: &'a FileSet, tree: Arc<SourceTree> },
    /// Files of another tree.
    Tree { tree: Arc<SourceTree>, path: &'a str, filter: &'a PathFilter },
}

/// Writes a layer that empties directories, then vacates paths ([`strake_graph::PlaceOp`]), and then places files.
pub(crate) fn place(
    (emptied, vacated): (&[String], &[String]),
    placed: &[Placed<'_>],
    upper: &Path,
    below: Option<&RootDir>,
) -> Result<(), CopyError> {
    let mut layout = Layout::new(below, None, None);
    for path in emptied {
        let path = layout.resolve(path.as_bytes())?;
        layout.make_dirs(&path)?;
        for name in layout.names_below(&path)? {
            layout.remove(&join(&path, &name))?;
        }
    }
    for path in vacated {
        let path = layout.resolve(path.as_bytes())?;
        if !layout.is_dir(&path)? {
            layout.remove(&path)?;
        }
        for name in layout.names_below(&path)? {
            layout.remove(&join(&path, &name))?;
        }
    }
    for placed in placed {
        placed.lay_out(&mut layout, below)?;
    }
    // Folders on the way to the files of a set are as old as those: so the same files make the same layer each time.
    let newest = placed.iter().filter_map(|placed| match &placed.files {
        PlacedFiles::Set { set, .. } => Some(set.mtime),
        PlacedFiles::Tree { .. } => None,
    });
    let made_ns = newest.max().map_or_else(now_ns, |seconds| seconds.saturating_mul(1_000_000_000));
    write_layer(&layout, upper, below, None, made_ns)?;
    Ok(())
}

impl<'a> Placed<'a> {
    fn lay_out<'l>(&'l self, layout: &mut Layout<'l>, below: Option<&RootDir>) -> Result<(), CopyError> {
        let chown = self.chown(below)?;
        match &self.files {
            PlacedFiles::Set { set, tree } => self.lay_out_set(layout, chown, set, tree),
            PlacedFiles::Tree { tree, path, filter } => self.lay_out_tree(layout, chown, tree, path, filter),
        }
    }

    fn lay_out_set<'l>(
        &self,
        layout: &mut Layout<'l>,
        chown: Chown,
        set: &FileSet,
        tree: &'l SourceTree,
    ) -> Result<(), CopyError> {
        if let [only] = &set.changes[..]
            && only.path.is_empty()
        {
            let (parent, name) = self.resolved_file(layout)?;
            if only.becomes == Becomes::Nothing {
                layout.remove(&join(&parent, &name))?;
                return Ok(());
            }
            layout.make_dirs(&parent)?;
            layout.chown(chown);
            let index = tree.find(SINGLE).expect("the only file of a set is written aside under this name");
            return place_leaf(layout, &parent, name, tree, index, Source::Ours);
        }
        let to = self.resolved_directory(layout, chown)?;
        for path in gone(layout, &to, set)? {
            layout.remove(&path)?;
        }
        let placing = Placing { conflict: Conflict::Keep, archive: None, adopt: true, filter: None };
        place_tree(layout, &to, tree, None, &placing)?;
        layout.chown(Chown::default());
        Ok(())
    }

    fn lay_out_tree<'l>(
        &self,
        layout: &mut Layout<'l>,
        chown: Chown,
        tree: &'l SourceTree,
        path: &str,
        filter: &PathFilter,
    ) -> Result<(), CopyError> {
        let lookup = tree.lookup(&literal(path));
        let found = lookup.found.first().ok_or_else(|| CopyError::NotFound {
            pattern: path.to_owned(),
            place: "the image it is imported from",
            hint: String::new(),
        })?;
        let directory = found.entry;
        if let Some(index) = directory
            && tree.entries()[index].kind != EntryKind::Directory
        {
            let (parent, name) = self.resolved_file(layout)?;
            layout.make_dirs(&parent)?;
            layout.chown(chown);
            place_leaf(layout, &parent, name, tree, index, Source::Theirs)?;
        } else {
            let to = layout.resolve(self.to.as_bytes())?;
            let parent = to.iter().rposition(|byte| *byte == b'/').map_or(&b""[..], |slash| &to[..slash]);
            layout.make_dirs(parent)?;
            layout.chown(chown);
            match directory {
                Some(index) if !to.is_empty() => {
                    layout.place_dir(to.clone(), tree, index, Conflict::Replace)?
                }
                _ => drop(layout.make_dirs(&to)?),
            }
            let filter = Some(filter).filter(|filter| !filter.is_empty());
            let placing = Placing { conflict: Conflict::Replace, archive: None, adopt: false, filter };
            place_tree(layout, &to, tree, directory, &placing)?;
        }
        layout.chown(Chown::default());
        Ok(())
    }

    /// Who was asked for. The files of a set belong to nobody before, so an owner brings his first group along.
    fn chown(&self, below: Option<&RootDir>) -> Result<Chown, CopyError> {
        let user = self.owner.map(|owner| user_owner(owner, below)).transpose()?;
        let group = self.group.map(|group| user_owner(&format!("0:{group}"), below)).transpose()?;
        let is_set = matches!(self.files, PlacedFiles::Set { .. });
        let first_group = user.filter(|_| is_set).map(|Owner { gid, .. }| gid);
        Ok(Chown { uid: user.map(|user| user.uid), gid: group.map(|group| group.gid).or(first_group) })
    }

    /// The directory a file goes to, without links, and its name there.
    fn resolved_file(&self, layout: &Layout<'_>) -> Result<(Vec<u8>, Vec<u8>), CopyError> {
        let to = self.to.trim_end_matches('/');
        let (parent, name) = to.rsplit_once('/').unwrap_or(("", to));
        Ok((layout.resolve(parent.as_bytes())?, name.as_bytes().to_vec()))
    }

    /// Makes the directory that a set goes to, which belongs to whom the files do; its parents belong to root.
    fn resolved_directory(&self, layout: &mut Layout<'_>, chown: Chown) -> Result<Vec<u8>, CopyError> {
        let to = layout.resolve(self.to.as_bytes())?;
        let parent = to.iter().rposition(|byte| *byte == b'/').map_or(&b""[..], |slash| &to[..slash]);
        layout.make_dirs(parent)?;
        layout.chown(chown);
        layout.make_dirs(&to)?;
        Ok(to)
    }
}

/// Whose a placed file is before.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Ours,
    Theirs,
}

fn place_leaf<'l>(
    layout: &mut Layout<'l>,
    parent: &[u8],
    name: Vec<u8>,
    tree: &'l SourceTree,
    index: usize,
    source: Source,
) -> Result<(), CopyError> {
    let mut leaf = leaf_of(layout, tree, index);
    leaf.adopt = source == Source::Ours;
    layout.place_leaf(parent, Cow::Owned(name), leaf, Conflict::Replace)?;
    layout.chown(Chown::default());
    Ok(())
}

/// The pattern of a path that is meant letter for letter.
pub(crate) fn literal(path: &str) -> Glob {
    Glob::literal(path.trim_matches('/').as_bytes())
}

/// The paths to remove: those of the set, and directories that have nothing left, instead of what is in them.
fn gone(layout: &Layout<'_>, to: &[u8], set: &FileSet) -> Result<BTreeSet<Vec<u8>>, CopyError> {
    let of = |nothing: bool| {
        set.changes.iter().filter(move |change| (change.becomes == Becomes::Nothing) == nothing)
    };
    // A path that is there again, or leads to one that is, is replaced and not removed. So is what is in a folder
    // that becomes a file.
    let files: BTreeSet<Vec<u8>> = of(false).map(|change| join(to, &change.path)).collect();
    let is_hidden = |path: &[u8]| folders_between(to, path).iter().any(|folder| files.contains(folder));
    let mut kept: BTreeSet<Vec<u8>> = BTreeSet::new();
    for change in of(false) {
        let ends = (0..change.path.len()).filter(|at| change.path[*at] == b'/').chain([change.path.len()]);
        kept.extend(ends.map(|end| join(to, &change.path[..end])));
    }
    let mut gone: BTreeSet<Vec<u8>> = of(true)
        .map(|change| join(to, &change.path))
        .filter(|path| !kept.contains(path) && !is_hidden(path))
        .collect();
    let folders: BTreeSet<Vec<u8>> = gone.iter().flat_map(|path| folders_between(to, path)).collect();
    // Backwards, so that a folder sees what has become of those in it.
    for folder in folders.into_iter().rev() {
        if kept.contains(&folder) || gone.contains(&folder) {
            continue;
        }
        let names: Vec<Vec<u8>> =
            layout.names_below(&folder)?.iter().map(|name| join(&folder, name)).collect();
        if !names.is_empty() && names.iter().all(|path| gone.contains(path)) {
            gone.retain(|path| !names.contains(path));
            gone.insert(folder);
        }
    }
    Ok(gone)
}

/// The folders that lead from `to` to `path`, both excluded.
fn folders_between(to: &[u8], path: &[u8]) -> Vec<Vec<u8>> {
    let start = if to.is_empty() { 0 } else { to.len() + 1 };
    let ends = (start..path.len()).filter(|at| path[*at] == b'/');
    ends.map(|end| path[..end].to_vec()).collect()
}

/// Writes the files of a set into an empty directory of ours.
pub(crate) fn write_aside(
    set: &FileSet,
    directory: &Path,
    cancellation: &Cancellation,
) -> Result<SourceTree, CopyError> {
    let root = RootDir::open(directory).map_err(CopyError::io("open a directory for", b""))?;
    for change in &set.changes {
        if cancellation.is_requested() {
            return Err(crate::build_context::SourceError::Stopped.into());
        }
        let path = if change.path.is_empty() { SINGLE } else { &change.path[..] };
        write_change(set, &root, path, &change.becomes).map_err(CopyError::io("write", &change.path))?;
    }
    let root = root.open_dir(Path::new("")).map_err(CopyError::io("open a directory for", b""))?;
    Ok(SourceTree::of_stage_root(root, &[Glob::literal(b"")], cancellation)?)
}

fn write_change(set: &FileSet, root: &RootDir, path: &[u8], becomes: &Becomes) -> io::Result<()> {
    if *becomes == Becomes::Nothing {
        return Ok(());
    }
    let is_name = |name: &[u8]| !name.is_empty() && name != b"." && name != b"..";
    if !path.split(|byte| *byte == b'/').all(is_name) || path.contains(&0) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("`{}` is no path", shown(path))));
    }
    let at = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    let (folder, name) = (&path[..at.saturating_sub(1)], OsStr::from_bytes(&path[at..]));
    let folder = make_folders(set, root, folder)?;
    let times = times(set.mtime);
    match becomes {
        Becomes::Nothing => {}
        Becomes::Link { target } => {
            rustix::fs::symlinkat(OsStr::from_bytes(target), &folder, name)?;
            rustix::fs::utimensat(&folder, name, &times, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Becomes::File { mode, content } => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mut file = File::from(rustix::fs::openat(&folder, name, flags, Mode::RUSR | Mode::WUSR)?);
            (set.content)(content, &mut file)?;
            rustix::fs::fchmod(&file, Mode::from_raw_mode(*mode & 0o7777))?;
            rustix::fs::futimens(&file, &times)?;
        }
    }
    // Its directory's time is that of the set, too: what is written last sets it last.
    Ok(rustix::fs::utimensat(&folder, OsStr::new("."), &times, AtFlags::empty())?)
}

/// Opens a folder, making what is missing of it; a link on the way is refused.
fn make_folders(set: &FileSet, root: &RootDir, folder: &[u8]) -> io::Result<std::os::fd::OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    if let Ok(open) = open_beneath(root.as_fd(), folder, flags) {
        return Ok(open);
    }
    let at = folder.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    let parent = make_folders(set, root, &folder[..at.saturating_sub(1)])?;
    let name = OsStr::from_bytes(&folder[at..]);
    rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755))?;
    let open = open_beneath(parent.as_fd(), name.as_bytes(), flags)?;
    rustix::fs::fchmod(&open, Mode::from_raw_mode(0o755))?;
    let times = times(set.mtime);
    rustix::fs::futimens(&open, &times)?;
    rustix::fs::futimens(&parent, &times)?;
    Ok(open)
}

fn times(seconds: i64) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: seconds, tv_nsec: 0 },
    }
}

#[cfg(test)]
#[path = "place_tests.rs"]
mod tests;
