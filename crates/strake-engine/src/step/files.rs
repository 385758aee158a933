//! Which files a step takes from its inputs, and how a copy puts them into a layer.
//!
//! A build context is scanned once per build, when the first step asks for it, and only where the patterns of the
//! graph's copies can reach. What was hashed is remembered in the store when the build ends, also when it fails. The
//! tree of a stage or an image never changes, so the digest of a selection from it is remembered for good: with it a
//! copy can be looked up without the layers it copies from being there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use strake_graph::pattern::Glob;
use strake_graph::{CopyOp, CopySource, Encoder, MakeDirOp, Mount, Op, PlaceOp, PlaceSource, RunOp, StepId};
use strake_oci::Digest;
use strake_store::{ActiveSnapshot, Index, LayerId, StatCache};

use super::copy::{
    Change, ChangeKind, CopyError, CopyPlan, CopyTarget, LayerFiles, ListedKind, Listing, Placed,
    PlacedFiles, Previous, copy, literal as literal_glob, place, selection_key, write_aside,
};
use super::make_dir::make_dir;
use super::{Build, Inputs, Miss, file_error};
use crate::build_context::{SourceTree, shown};
use crate::cache::Selected;
use crate::clock::now_ns;
use crate::error::StepError;
use crate::event::Event;
use crate::image;
use crate::remote::{UsedMount, shared_key};
use crate::request::{BuildRequest, Cancellation, Environment};
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
    listing: Listing,
}

/// What is selected from a stage or an image.
pub(super) struct SelectionKey {
    /// What the digest of the selection is remembered by.
    pub(super) key: Digest,
    pub(super) layers: Vec<LayerId>,
    /// The digest of the pattern.
    pattern: Digest,
}

impl SelectionKey {
    pub(super) fn new(layers: Vec<LayerId>, pattern: Digest) -> Self {
        let mut encoder = Encoder::new("strake selected 1");
        encoder.list(layers.iter().map(LayerId::as_str)).digest(&pattern);
        Self { key: encoder.finish(), layers, pattern }
    }
}

/// The build contexts of one build.
pub(crate) struct Contexts<'a> {
    request: &'a BuildRequest,
    index: &'a Index,
    cancellation: &'a Cancellation,
    scanned: BTreeMap<StepId, OnceLock<Context>>,
}

#[derive(Debug)]
struct Context {
    tree: Arc<SourceTree>,
    remembered: Mutex<Remembered>,
    /// What the cache is known by in the store.
    key: String,
}

#[derive(Debug, Default)]
struct Remembered {
    cache: StatCache,
    is_changed: bool,
}

impl<'a> Contexts<'a> {
    pub(crate) fn new(request: &'a BuildRequest, environment: &Environment<'a>) -> Self {
        let graph = &request.graph;
        let contexts = graph.step_ids().filter(|id| matches!(graph.step(*id).op, Op::Context(_)));
        Self {
            request,
            index: environment.store.index(),
            cancellation: environment.cancellation,
            scanned: contexts.map(|id| (id, OnceLock::new())).collect(),
        }
    }

    /// The context, scanned for all the copies of the graph at once.
    fn get(&self, id: StepId) -> Result<&Context, StepError> {
        let cell = &self.scanned[&id];
        if let Some(context) = cell.get() {
            return Ok(context);
        }
        let Op::Context(op) = &self.request.graph.step(id).op else {
            unreachable!("only contexts are asked for");
        };
        let source = self.request.contexts.get(&op.name);
        let source = source.ok_or_else(|| StepError::Context(op.name.clone()))?;
        let patterns = self.patterns_from(id)?;
        let tree = SourceTree::of_context(&source.root, &source.ignore, &patterns, self.cancellation)
            .map_err(CopyError::from)?;
        let key = source.root.to_string_lossy().into_owned();
        let remembered = Mutex::new(Remembered { cache: self.index.stat_cache(&key), is_changed: false });
        // Two steps may have scanned at once; both saw the same directory, and the first one counts.
        Ok(cell.get_or_init(|| Context { tree: Arc::new(tree), remembered, key }))
    }

    /// Everything that needed steps take from an input.
    fn patterns_from(&self, id: StepId) -> Result<Vec<Glob>, CopyError> {
        let needed = self.request.graph.needed();
        let steps = self.request.graph.steps().iter().zip(needed).filter(|(_, needed)| *needed);
        let mut patterns = Vec::new();
        for (step, _) in steps {
            match &step.op {
                Op::Copy(op) => patterns.extend(patterns_of(&op.sources, id)?),
                Op::Run(op) => patterns.extend(patterns_of(&bound(op), id)?),
                Op::Place(_) | Op::Scratch | Op::Image(_) | Op::Context(_) | Op::MakeDir(_) => {}
            }
        }
        Ok(patterns)
    }

    /// Keeps what was learned of files for the next build, and forgets files that are gone. A failure costs only time
    /// there. When nothing was learned nothing is written: then only what was there last time is remembered.
    pub(crate) fn save(&self) {
        for context in self.scanned.values().filter_map(OnceLock::get) {
            let mut remembered = context.remembered.lock().unwrap_or_else(PoisonError::into_inner);
            if !remembered.is_changed {
                continue;
            }
            remembered.cache.retain(|path| context.tree.is_there(path));
            if let Err(error) = self.index.save_stat_cache(&context.key, &remembered.cache) {
                tracing::warn!("cannot remember the digests of {}: {error}", context.key);
            }
        }
    }
}

/// The patterns that sources have for one of the inputs.
fn patterns_of(sources: &[CopySource], from: StepId) -> Result<Vec<Glob>, CopyError> {
    let mut patterns = Vec::new();
    for source in sources {
        if let CopySource::Path { from: source, pattern } = source
            && *source == from
        {
            patterns.push(CopyPlan::glob(pattern)?);
        }
    }
    Ok(patterns)
}

/// What the mounts of a step select, as sources of a copy.
fn bound(op: &RunOp) -> Vec<CopySource> {
    op.mounts.iter().filter_map(Mount::files).map(whole).collect()
}

/// A path in a step, as the source of a copy.
pub(super) fn whole((from, path): (StepId, &str)) -> CopySource {
    CopySource::Path { from, pattern: literal(path) }
}

/// A pattern that matches exactly this path.
fn literal(path: &str) -> String {
    let mut pattern = String::with_capacity(path.len());
    for character in path.chars() {
        if matches!(character, '*' | '?' | '[' | ']' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern
}

impl Build<'_> {
    /// The digest of the files that sources select, and the plan unless the digest was remembered.
    pub(super) fn selected_files(
        &self,
        sources: &[CopySource],
        inputs: &Inputs,
    ) -> Result<(Digest, Option<Planned>), StepError> {
        let keys = self.selection_keys(sources, inputs);
        if let Some(known) = self.known_selections(keys.as_deref())? {
            return Ok((Listing::combine(&known), None));
        }
        let planned = self.plan(sources, inputs)?;
        let digests = planned.listing.source_digests();
        for (selected, digest) in keys.iter().flatten().zip(&digests) {
            self.cache.put_selection(&selected.key, &Selected::seen(*digest), &selected.layers)?;
        }
        Ok((Listing::combine(&digests), Some(planned)))
    }

    /// What each selection is remembered by; nothing when some of the files come from a context or a heredoc, which
    /// cost nothing to look at.
    fn selection_keys(&self, sources: &[CopySource], inputs: &Inputs) -> Option<Vec<SelectionKey>> {
        let key = |source: &CopySource| match source {
            CopySource::Path { from, pattern } if !self.is_context(*from) => {
                Some(SelectionKey::new(inputs.get(*from).layers.clone(), selection_key(pattern)))
            }
            _ => None,
        };
        sources.iter().map(key).collect()
    }

    fn known_selections(&self, keys: Option<&[SelectionKey]>) -> Result<Option<Vec<Digest>>, StepError> {
        let Some(keys) = keys else { return Ok(None) };
        let mut known = Vec::with_capacity(keys.len());
        for key in keys {
            match self.known_selection(key)? {
                Some(digest) => known.push(digest),
                None => return Ok(None),
            }
        }
        Ok(Some(known))
    }

    /// The digest of a selection that was computed before, here or elsewhere.
    pub(super) fn known_selection(&self, selected: &SelectionKey) -> Result<Option<Digest>, StepError> {
        if let Some(known) = self.cache.selection(&selected.key)? {
            return Ok(Some(known.digest));
        }
        // Where the files are at hand, looking at them is quicker than asking.
        if !self.remote.is_asked() || self.cache.are_unpacked(&selected.layers)? {
            return Ok(None);
        }
        let diff_ids = image::known_diff_ids(self.environment, &selected.layers, self.request.epoch)?;
        let Some(diff_ids) = diff_ids else { return Ok(None) };
        let found = self.remote.selection(&shared_key(&diff_ids, &selected.pattern))?;
        if let Some(found) = &found {
            self.cache.put_selection(&selected.key, found, &selected.layers)?;
        }
        Ok(found.map(|found| found.digest))
    }

    /// Before a step is carried out: makes sure that what another machine said of the files it takes is so. Otherwise
    /// its result would be known, and published, as that of a step which takes other files.
    pub(super) fn check_selections(&self, id: StepId, inputs: &Inputs) -> Result<(), StepError> {
        let mut is_so = true;
        for source in self.taken(id) {
            let sources = [source];
            for selected in self.selection_keys(&sources, inputs).iter().flatten() {
                let Some(known) = self.cache.selection(&selected.key)? else { continue };
                if known.told_by.is_none() {
                    continue;
                }
                for digest in self.plan(&sources, inputs)?.listing.source_digests() {
                    is_so &= digest == known.digest;
                    self.cache.put_selection(&selected.key, &Selected::seen(digest), &selected.layers)?;
                }
            }
        }
        for look in self.looks(id) {
            let key = self.look_key(look, inputs);
            if let Some(known) = self.cache.selection(&key.key)?
                && known.told_by.is_some()
            {
                is_so &= self.look_and_remember(look, &key)? == known.digest;
            }
        }
        if !is_so {
            self.remote.refute_selection(&self.request.graph.step(id).label);
            return Err(StepError::Pruned);
        }
        Ok(())
    }

    /// What a step takes from its inputs, as sources of a copy.
    fn taken(&self, step: StepId) -> Vec<CopySource> {
        match &self.request.graph.step(step).op {
            Op::Copy(op) => op.sources.clone(),
            Op::Run(op) => bound(op),
            _ => Vec::new(),
        }
    }

    /// What the copies and mounts of a step selected from other stages, for those who only know these stages.
    pub(crate) fn shared_selections(
        &self,
        step: StepId,
        inputs: &Inputs,
    ) -> Result<Vec<(Digest, Digest)>, StepError> {
        let sources = self.taken(step);
        let keys = |source| self.selection_keys(std::slice::from_ref(source), inputs).unwrap_or_default();
        let looks = self.looks(step).into_iter().map(|look| self.look_key(look, inputs));
        let mut selections = Vec::new();
        for selected in sources.iter().flat_map(keys).chain(looks) {
            if let Some(Selected { digest, .. }) = self.cache.selection(&selected.key)? {
                let epoch = self.request.epoch;
                let layers = image::describe_layers(self.environment, &selected.layers, epoch)?;
                let diff_ids: Vec<_> = layers.iter().map(|layer| layer.diff_id).collect();
                selections.push((shared_key(&diff_ids, &selected.pattern), digest));
            }
        }
        Ok(selections)
    }

    pub(super) fn is_context(&self, id: StepId) -> bool {
        matches!(self.request.graph.step(id).op, Op::Context(_))
    }

    /// Finds and hashes the files that sources select.
    fn plan(&self, sources: &[CopySource], inputs: &Inputs) -> Result<Planned, StepError> {
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
