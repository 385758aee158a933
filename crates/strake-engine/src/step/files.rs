//! Which files a step takes from its inputs, and how a copy puts them into a layer.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use strake_graph::{CopyOp, CopySource, MakeDirOp, Op, PlaceOp, PlaceSource, RunOp, StepId};
use strake_oci::Digest;
use strake_store::{ActiveSnapshot, LayerId, StatCache};

use super::contexts::{Context, patterns_of};
use super::copy::{
    Change, ChangeKind, CopyError, CopyPlan, CopyTarget, LayerFiles, ListedKind, Listing, Placed,
    PlacedFiles, Previous, copy, literal as literal_glob, place, write_aside,
};
use super::make_dir::make_dir;
use super::selected::whole;
use super::{Build, Inputs, Miss, file_error};
use crate::build_context::{SourceTree, shown};
use crate::clock::now_ns;
use crate::error::StepError;
use crate::event::Event;
use crate::remote::UsedMount;
use crate::signature::Signature;

/// Listings, by their digest: which files a copy selected.
const FILES: &str = "files";
/// What a copy wrote, by its signature: for hard links from a later layer.
const WRITTEN: &str = "written";

/// The most changed files that an explanation names.
const MOST_CHANGES: usize = 8;

/// A copy whose files are known.
#[derive(Debug)]
pub(crate) struct Planned {
    plan: CopyPlan,
    pub(super) listing: Listing,
}

impl Build<'_> {
    pub(super) fn is_context(&self, id: StepId) -> bool {
        matches!(self.request.graph.step(id).op, Op::Context(_))
    }

    /// Finds and hashes the files that sources select.
    pub(super) fn plan(&self, sources: &[CopySource], inputs: &Inputs) -> Result<Planned, StepError> {
        let mut trees = BTreeMap::new();
        let mut contexts = Vec::new();
        for source in sources {
            let CopySource::Path { from, .. } = source else { continue };
            if trees.contains_key(from) {
                continue;
            }
            let tree = if self.is_context(*from) {
                let context = self.contexts.get(*from)?;
                contexts.push((*from, context));
                Arc::clone(&context.tree)
            } else {
                Arc::new(self.stage_tree(sources, *from, &inputs.get(*from).layers)?)
            };
            trees.insert(*from, tree);
        }
        let plan = CopyPlan::resolve(sources, &trees)?;
        hash(&plan, &contexts)?;
        let listing = plan.listing();
        Ok(Planned { plan, listing })
    }

    fn stage_tree(
        &self,
        sources: &[CopySource],
        from: StepId,
        layers: &[LayerId],
    ) -> Result<SourceTree, StepError> {
        self.ensure_layers(layers)?;
        let view = self.environment.store.open_view(layers)?;
        let patterns = patterns_of(sources, from)?;
        Ok(SourceTree::of_stage(&view, &patterns, self.environment.cancellation).map_err(CopyError::from)?)
    }

    /// The digests of what the mounts of a step show or begin with, by place in the list of mounts.
    pub(super) fn mounted_files(
        &self,
        op: &RunOp,
        inputs: &Inputs,
    ) -> Result<BTreeMap<usize, Digest>, StepError> {
        let mut digests = BTreeMap::new();
        for (place, mount) in op.mounts.iter().enumerate() {
            digests.extend(self.shown_files(mount, inputs)?.map(|digest| (place, digest)));
        }
        Ok(digests)
    }

    /// What a cache is known by: its id, and the files that it began with if there were any (as for BuildKit, a cache
    /// that began with others is another one).
    pub(super) fn cache_id(
        &self,
        id: &str,
        begins_with: Option<(StepId, &str)>,
        inputs: &Inputs,
    ) -> Result<String, StepError> {
        Ok(match begins_with {
            None => id.to_owned(),
            Some(files) => format!("{id} from {}", self.selected_files(&[whole(files)], inputs)?.0),
        })
    }

    /// Writes the layer of a copy.
    pub(super) fn copy(
        &self,
        id: StepId,
        op: &CopyOp,
        base: &[LayerId],
        inputs: &Inputs,
        miss: &mut Miss,
    ) -> Result<ActiveSnapshot, StepError> {
        let store = self.environment.store;
        let planned = match miss.plan.take() {
            Some(planned) => planned,
            None => self.plan(&op.sources, inputs)?,
        };
        let mut active = store.prepare_layer_on(base)?;
        let below = if base.is_empty() { None } else { Some(store.open_view(base)?) };
        let scratch = store.temp_dir()?;
        let previous = self.previous_copy(id)?;
        let target = CopyTarget {
            upper: active.upper(),
            below: below.as_ref().map(|view| view.root()),
            scratch: scratch.path(),
            previous: previous.as_ref().map(|(dir, files)| Previous { dir, files }),
            flavour: store.flavour(),
        };
        let copied = copy(op, &planned.plan, &target)?;
        if let Some(tar) = copied.tar {
            active.set_tar(tar.diff_id, tar.size);
        }
        let label = &self.request.graph.step(id).label;
        copied.notes.iter().for_each(|note| self.event(Event::Warning(format!("{label}: {note}"))));
        self.put_listing(miss.signature, &planned.listing, &copied.files)?;
        Ok(active)
    }

    /// Copies what a bind mount shows of a build context into `directory`, and answers where in it that lies. A step
    /// gets a copy: it must neither see what the ignore file excludes nor what the host changes meanwhile.
    pub(super) fn copy_bound(
        &self,
        from: StepId,
        source: &str,
        inputs: &Inputs,
        directory: &Path,
    ) -> Result<String, StepError> {
        let sources = vec![whole((from, source))];
        let planned = self.plan(&sources, inputs)?;
        self.copy_plainly(from, sources, &planned, directory)?;
        let is_directory = directory_is_selected(&planned.listing);
        let name = source.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        Ok(if is_directory { "/".to_owned() } else { format!("/{name}") })
    }

    /// Copies a selection into a directory that stands on nothing.
    fn copy_plainly(
        &self,
        from: StepId,
        sources: Vec<CopySource>,
        planned: &Planned,
        directory: &Path,
    ) -> Result<(), StepError> {
        let scratch = self.environment.store.temp_dir()?;
        let target = CopyTarget {
            upper: directory,
            below: None,
            scratch: scratch.path(),
            previous: None,
            flavour: self.environment.store.flavour(),
        };
        let op =
            CopyOp { base: from, sources, destination: "/".into(), chown: None, chmod: None, unpack: false };
        copy(&op, &planned.plan, &target)?;
        Ok(())
    }

    /// Writes the layer of a `WORKDIR`; it is empty when the directory is there already.
    pub(super) fn make_dir(&self, op: &MakeDirOp, base: &[LayerId]) -> Result<ActiveSnapshot, StepError> {
        let store = self.environment.store;
        let active = store.prepare_layer_on(base)?;
        let below = if base.is_empty() { None } else { Some(store.open_view(base)?) };
        make_dir(op, active.upper(), below.as_ref().map(|view| view.root()))?;
        Ok(active)
    }

    /// Writes the layer of placed files.
    pub(super) fn place_files(
        &self,
        op: &PlaceOp,
        base: &[LayerId],
        inputs: &Inputs,
    ) -> Result<ActiveSnapshot, StepError> {
        let store = self.environment.store;
        let cancellation = self.environment.cancellation;
        let active = store.prepare_layer_on(base)?;
        let below = if base.is_empty() { None } else { Some(store.open_view(base)?) };
        // On the file system of the layer, so that what is written aside can be moved into it.
        let scratch = store.temp_dir()?;
        let mut placed = Vec::with_capacity(op.placements.len());
        for (number, placement) in op.placements.iter().enumerate() {
            let files = match &placement.from {
                PlaceSource::Files { name, .. } => {
                    let set = self.request.files.get(name);
                    let set = set.ok_or_else(|| StepError::Context(name.clone()))?;
                    let aside = scratch.path().join(number.to_string());
                    std::fs::create_dir(&aside).map_err(file_error("create", &aside))?;
                    PlacedFiles::Set { set, tree: Arc::new(write_aside(set, &aside, cancellation)?) }
                }
                PlaceSource::Step { from, path, filter } => {
                    let layers = &inputs.get(*from).layers;
                    self.ensure_layers(layers)?;
                    let view = store.open_view(layers)?;
                    let tree = SourceTree::of_stage(&view, &[literal_glob(path)], cancellation);
                    PlacedFiles::Tree { tree: Arc::new(tree.map_err(CopyError::from)?), path, filter }
                }
            };
            let (owner, group) = (placement.owner.as_deref(), placement.group.as_deref());
            placed.push(Placed { files, to: &placement.to, owner, group });
        }
        place((&op.emptied, &op.vacated), &placed, active.upper(), below.as_ref().map(|view| view.root()))?;
        Ok(active)
    }

    /// What was copied at the same place last, if its layer is still there: unchanged files are linked from it.
    fn previous_copy(&self, id: StepId) -> Result<Option<(PathBuf, LayerFiles)>, StepError> {
        let Some((signature, Some(record))) = self.cache.latest(self.place(id))? else { return Ok(None) };
        let Some(layer) = record.layers.last() else { return Ok(None) };
        // Files that look alike are taken for the same only where this machine wrote them itself.
        if record.foreign.is_some() {
            return Ok(None);
        }
        let store = self.environment.store;
        // Marked as used, so that the layer stays for as long as files are linked from it.
        if !self.cache.touch(&[signature])? {
            return Ok(None);
        }
        let written = store.index().get(WRITTEN, &record.canonical.to_string())?;
        let files = written.and_then(|document| LayerFiles::from_bytes(&document.body).ok());
        Ok(files.map(|files| (store.layer_dir(layer), files)))
    }

    fn put_listing(
        &self,
        signature: Signature,
        listing: &Listing,
        files: &LayerFiles,
    ) -> Result<(), StepError> {
        let index = self.environment.store.index();
        let key = listing.digest().to_string();
        index.put(FILES, &key, &listing.to_bytes(), &[])?;
        index.put(WRITTEN, &signature.to_string(), &files.to_bytes(), &[])?;
        Ok(())
    }

    /// Names the files by which a copy differs from an earlier one, whose listing is known by `before`.
    pub(super) fn changed_files(&self, before: &str, miss: &Miss) -> Vec<String> {
        let unknown = || vec!["files: the files copied are different".to_owned()];
        let Some(planned) = &miss.plan else { return unknown() };
        let Ok(Some(document)) = self.environment.store.index().get(FILES, before) else { return unknown() };
        let Ok(old) = Listing::from_bytes(&document.body) else { return unknown() };
        let changes = planned.listing.difference(&old);
        let mut lines: Vec<String> = changes.iter().take(MOST_CHANGES).map(change_line).collect();
        if changes.len() > MOST_CHANGES {
            lines.push(format!("… and {} more files", changes.len() - MOST_CHANGES));
        }
        lines
    }

    /// Makes the directory of a cache mount when it is not there; two processes may do so at once.
    pub(super) fn make_cache_directory(
        &self,
        name: &Digest,
        mount: &UsedMount,
        owner: (u32, u32, u32),
        seed: Option<(StepId, &str)>,
        inputs: &Inputs,
    ) -> Result<(), StepError> {
        let directory = self.environment.store.cache_mount_dir(name);
        if directory.is_dir() {
            return Ok(());
        }
        let temporary = self.environment.store.temp_dir()?;
        let mut new = temporary.path().join("restored");
        std::fs::create_dir(&new).map_err(file_error("create", &new))?;
        let is_restored = self.remote.restore_mount(mount, name, &new)?;
        if !is_restored {
            new = temporary.path().join("cache");
            std::fs::create_dir(&new).map_err(file_error("create", &new))?;
        }
        if let Some((from, source)) = seed.filter(|_| !is_restored) {
            let sources = vec![whole((from, source))];
            let planned = self.plan(&sources, inputs)?;
            self.copy_plainly(from, sources, &planned, &new)?;
        }
        let (mode, uid, gid) = owner;
        std::os::unix::fs::chown(&new, Some(uid), Some(gid)).map_err(file_error("chown", &new))?;
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(&new, permissions).map_err(file_error("chmod", &new))?;
        match std::fs::rename(&new, &directory) {
            Err(error) if !directory.is_dir() => Err(file_error("create", &directory)(error)),
            // Somebody else was first: theirs is as good, and may be in use already.
            _ => Ok(()),
        }
    }
}

/// Whether what was selected is a directory, of which a copy takes the content.
fn directory_is_selected(listing: &Listing) -> bool {
    let first = listing.sources.first().and_then(|source| source.first());
    first.is_some_and(|first| first.kind == ListedKind::Directory)
}

fn change_line(change: &Change) -> String {
    let what = match change.kind {
        ChangeKind::Added => "is new",
        ChangeKind::Removed => "is gone",
        ChangeKind::Type => "is another type of file",
        ChangeKind::Content => "content changed",
        ChangeKind::Mode => "permissions changed",
        ChangeKind::Owner => "owner changed",
        ChangeKind::Attributes => "extended attributes changed",
    };
    format!("file {}: {what}", shown(&change.path))
}

/// Hashes the files of a plan, with what the store remembers of its contexts.
fn hash(plan: &CopyPlan, contexts: &[(StepId, &Context)]) -> Result<(), CopyError> {
    let mut locked: Vec<_> = contexts
        .iter()
        .map(|(id, context)| (*id, context.remembered.lock().unwrap_or_else(PoisonError::into_inner)))
        .collect();
    let mut caches: BTreeMap<StepId, StatCache> =
        locked.iter_mut().map(|(id, remembered)| (*id, std::mem::take(&mut remembered.cache))).collect();
    let read = plan.digest_files(&mut caches, now_ns());
    for (id, remembered) in &mut locked {
        remembered.cache = caches.remove(id).unwrap_or_default();
        remembered.is_changed |= read.as_ref().map_or(true, |read| *read > 0);
    }
    read.map(|_| ())
}
