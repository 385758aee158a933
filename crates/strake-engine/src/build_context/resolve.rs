//! From a pattern to entries, through the links that are in the tree.

use strake_graph::pattern::{Glob, clean};

use super::{EntryKind, SourceTree};

/// The most symbolic links followed for one path, as in the kernel.
const LINKS_MAX: u32 = 40;

/// What a pattern selects.
#[derive(Debug, Default)]
pub struct Lookup {
    /// In order of path; directories stand for all that is below them.
    pub found: Vec<Found>,
    /// Patterns equal in meaning, after links: what else has to be scanned to answer.
    pub detours: Vec<Glob>,
}

/// One match of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The last component of the path as it was written or matched, before links; empty for the root.
    pub name: Vec<u8>,
    /// The index of the entry, after links; `None` is the root itself.
    pub entry: Option<usize>,
}

impl SourceTree {
    /// What a pattern selects. Links in its folders and the link it names itself are followed within the tree;
    /// links below a directory are not.
    pub fn lookup(&self, pattern: &Glob) -> Lookup {
        let mut lookup = Lookup::default();
        let folders = pattern.literal_folders();
        let (resolved, trail) = self.follow(folders);
        lookup.detours.extend(trail.iter().map(|path| pattern.with_literal_folders(path)));
        let Some(resolved) = resolved else { return lookup };
        if pattern.as_literal().is_some() {
            lookup.found.extend(self.found(folders, &resolved));
            return lookup;
        }
        let pattern = pattern.with_literal_folders(&resolved);
        let mut range = self.below(&resolved);
        while let Some(index) = range.next() {
            let path = &self.entries[index].path;
            if !pattern.matches(path) {
                continue;
            }
            let (resolved, trail) = self.follow(path);
            lookup.detours.extend(trail.into_iter().map(Glob::literal));
            lookup.found.extend(resolved.and_then(|resolved| self.found(path, &resolved)));
            // What is below a match belongs to it.
            range.start = range.start.max(self.below(path).end);
        }
        lookup
    }

    fn found(&self, written: &[u8], resolved: &[u8]) -> Option<Found> {
        let name = written.rsplit(|byte| *byte == b'/').next().unwrap_or_default().to_vec();
        let entry = if resolved.is_empty() { None } else { Some(self.find(resolved)?) };
        Some(Found { name, entry })
    }

    /// The path without links of what a path names, and each path that a link led to on the way.
    fn follow(&self, path: &[u8]) -> (Option<Vec<u8>>, Vec<Vec<u8>>) {
        let mut trail = Vec::new();
        let mut pending: Vec<Vec<u8>> = components_reversed(path);
        let mut resolved: Vec<Vec<u8>> = Vec::new();
        let mut links = 0;
        while let Some(component) = pending.pop() {
            if component == b".." {
                resolved.pop();
                continue;
            }
            resolved.push(component);
            let Some(index) = self.find(&resolved.join(&b'/')) else { return (None, trail) };
            let EntryKind::Symlink { target } = &self.entries[index].kind else { continue };
            links += 1;
            if links > LINKS_MAX {
                return (None, trail);
            }
            resolved.pop();
            if target.starts_with(b"/") {
                resolved.clear();
            }
            pending.extend(components_reversed(target));
            let rest = pending.iter().rev().cloned();
            trail.push(clean(&resolved.iter().cloned().chain(rest).collect::<Vec<_>>().join(&b'/')));
        }
        (Some(resolved.join(&b'/')), trail)
    }
}

fn components_reversed(path: &[u8]) -> Vec<Vec<u8>> {
    let plain = |component: &&[u8]| !component.is_empty() && *component != b".";
    path.split(|byte| *byte == b'/').filter(plain).map(<[u8]>::to_vec).rev().collect()
}
