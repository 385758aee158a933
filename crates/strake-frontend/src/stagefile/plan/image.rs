//! One image.

use std::collections::{BTreeMap, BTreeSet};

use super::super::config::{Base, GitMapping, ImageId, MountSource, Rules, StageFile};
use super::super::{StageKind, scheme31, slug};
use super::chain::{History, Inputs, Link};
use super::history::{Changes, base_commits, commits_on};
use super::sift::Lookup;
use super::{
    Action, Conveyor, EmptyMappings, Facts, Found, ImportStep, Mapping, MappingState, Need, PatchStep,
    PlanError, PlanOptions, Refusal, Stage, Start, Watched, commit_label, kind_label,
};

const MIB: u64 = 1 << 20;

/// What the plan of an image is made of.
#[derive(Debug)]
pub(super) struct Planner<'a> {
    pub(super) file: &'a StageFile,
    pub(super) id: ImageId,
    pub(super) options: &'a PlanOptions,
    pub(super) facts: &'a Facts,
    /// Of the last stages of all images that this one needs, as far as they are known.
    pub(super) signatures: &'a BTreeMap<ImageId, String>,
}

/// The stages that exist, and what is known of them.
struct Row {
    links: Vec<Link>,
    found: Vec<Found>,
}

/// What is known of an image so far.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Of the last stage. Often known before the conveyor, so that what needs it is asked for in the same round.
    pub(super) signature: Option<String>,
    pub(super) conveyor: Option<Conveyor>,
}

impl Planner<'_> {
    /// As much as the facts allow.
    pub(super) fn plan(&self, needs: &mut BTreeSet<Need>) -> Result<Outcome, PlanError> {
        let rules = self.rules();
        // What git is asked does not hang on other images, so it is asked at once.
        let Some(mappings) = self.mappings(needs)? else { return Ok(Outcome::default()) };
        let known = rules.needs().iter().all(|id| self.signatures.contains_key(id));
        if !known {
            return Ok(Outcome::default());
        }
        let inputs = Inputs {
            rules,
            options: self.options,
            base: match &rules.base {
                Base::Reference(reference) => reference.clone(),
                Base::Image(image) => self.signatures[image].clone(),
            },
            artifacts: self.signatures,
            mappings: &mappings,
        };
        let (mut outcome, row) = if self.is_artifact() || mappings.is_empty() {
            let links = inputs.links(self.kinds(), None, History { step: 0, changed: &[] });
            let signature = links.last().map(|link| link.signature.clone());
            let found = self.lookup(&mappings, needs).find(&links);
            (Outcome { signature, conveyor: None }, found.map(|found| Row { links, found }))
        } else {
            let row = self.with_history(&inputs, needs);
            let last = row.as_ref().and_then(|row| row.links.last());
            (Outcome { signature: last.map(|link| link.signature.clone()), conveyor: None }, row)
        };
        if let Some(mut row) = row
            && let Some(start) = self.start(&mut row, &mappings, needs)
        {
            outcome.conveyor = Some(self.conveyor(row, start, mappings));
        }
        Ok(outcome)
    }

    fn is_artifact(&self) -> bool {
        self.file.image(self.id).is_artifact()
    }

    fn kinds(&self) -> &'static [StageKind] {
        if self.is_artifact() { &StageKind::ARTIFACT } else { &StageKind::DIMG }
    }

    fn rules(&self) -> &Rules {
        &self.file.image(self.id).rules
    }

    /// The mappings at their current commits.
    fn mappings(&self, needs: &mut BTreeSet<Need>) -> Result<Option<Vec<Mapping>>, PlanError> {
        // Another image may have asked the same, so only what is asked here tells whether all is known.
        let mut own = BTreeSet::new();
        let mut mappings = Vec::new();
        for (index, git) in self.rules().git.iter().enumerate() {
            mappings.extend(self.mapping(index, git, &mut own)?);
        }
        let complete = own.is_empty();
        needs.append(&mut own);
        Ok(complete.then_some(mappings))
    }

    fn mapping(
        &self,
        index: usize,
        git: &GitMapping,
        needs: &mut BTreeSet<Need>,
    ) -> Result<Option<Mapping>, PlanError> {
        let mut watched = BTreeMap::new();
        let state = self.facts.mappings.get(&git.selection);
        if state == Some(&MappingState::Empty) {
            return match self.options.empty_mappings {
                EmptyMappings::LeaveOut => Ok(None),
                EmptyMappings::Refuse => Err(PlanError::EmptyMapping {
                    image: self.file.image(self.id).name.clone(),
                    to: git.to.clone(),
                    span: git.span,
                }),
            };
        }
        for (stage, patterns) in &git.watched {
            let files = Watched { selection: git.selection.clone(), patterns: patterns.clone() };
            match self.facts.watched.get(&files) {
                Some(checksum) => watched.extend(checksum.clone().map(|checksum| (*stage, checksum))),
                None => {
                    needs.insert(Need::Watched(files));
                }
            }
        }
        let reset = self.facts.resets.get(&git.selection.source);
        if reset.is_none() {
            needs.insert(Need::Reset(git.selection.source.clone()));
        }
        let Some(MappingState::Present { commit, kind }) = state else {
            needs.insert(Need::Mapping(git.selection.clone()));
            return Ok(None);
        };
        Ok(Some(Mapping {
            index,
            params_hash: scheme31::params_hash(git),
            to: git.to.clone(),
            commit: commit.clone(),
            kind: *kind,
            reset: reset.cloned().flatten(),
            watched,
        }))
    }

    /// The stages of a dimg that has files of a repository.
    fn with_history(&self, inputs: &Inputs<'_>, needs: &mut BTreeSet<Need>) -> Option<Row> {
        let mappings = inputs.mappings;
        // At first as if nothing had changed since the archive: so it mostly is, and all stages are asked for at once.
        let mut history = History { step: 0, changed: &[] };
        let mut links = inputs.links(&StageKind::DIMG, None, history);
        let mut found = self.lookup(mappings, needs).find(&links)?;
        let patch = links.iter().position(|link| link.kind == StageKind::GitPostSetupPatch)?;

        let commits = base_commits(&links, &found, patch - 1, mappings);
        history.step = self.changes(mappings, needs).size(&commits)? / MIB;
        if history.step > 0 {
            links.truncate(patch);
            let below = links.last().map(|link| link.signature.clone());
            let at = StageKind::DIMG.iter().position(|kind| *kind == StageKind::GitPostSetupPatch)?;
            links.extend(inputs.links(&StageKind::DIMG[at..], below.as_deref(), history));
            found = self.lookup(mappings, needs).find(&links)?;
        }

        let below_latest = |link: &Link| link.kind < StageKind::GitLatestPatch;
        let last = links.iter().rposition(below_latest)?;
        let commits = base_commits(&links, &found, last, mappings);
        let changed = self.changes(mappings, needs).changed(&commits)?;
        if !changed.is_empty() {
            history.changed = &changed;
            links.truncate(last + 1);
            let below = links[last].signature.clone();
            let at = StageKind::DIMG.iter().position(|kind| *kind == StageKind::GitLatestPatch)?;
            links.extend(inputs.links(&StageKind::DIMG[at..], Some(&below), history));
            found = self.lookup(mappings, needs).find(&links)?;
        }
        Some(Row { links, found })
    }

    fn lookup<'n>(&'n self, mappings: &'n [Mapping], needs: &'n mut BTreeSet<Need>) -> Lookup<'n> {
        Lookup { rules: self.rules(), facts: self.facts, mappings, needs }
    }

    fn changes<'n>(&'n self, mappings: &'n [Mapping], needs: &'n mut BTreeSet<Need>) -> Changes<'n> {
        Changes { rules: self.rules(), facts: self.facts, mappings, needs }
    }

    /// The stage to start from: the last one that can be used and from which the files of the current commit come out.
    /// `None` if something must be found out first.
    #[expect(clippy::option_option, reason = "the outer one means that the question is open")]
    fn start(
        &self,
        row: &mut Row,
        mappings: &[Mapping],
        needs: &mut BTreeSet<Need>,
    ) -> Option<Option<usize>> {
        let last = row.links.len() - 1;
        loop {
            let start = row.found.iter().rposition(Found::is_usable);
            // An artifact has the files of whatever commit it was assembled at, unless it watches them.
            let Some(start) = start.filter(|_| !self.is_artifact()) else {
                return Some(start);
            };
            let commits = commits_on(&row.links, &row.found, Some(start), last, mappings);
            let changed = match commits {
                Some(commits) => self.changes(mappings, needs).changed(&commits)?,
                None => Vec::new(),
            };
            let (Some(mapping), Found::Known(known)) = (changed.first(), &row.found[start]) else {
                return Some(Some(start));
            };
            row.found[start] = Found::Refused(known.clone(), Refusal::OldFiles(*mapping));
        }
    }

    fn conveyor(&self, row: Row, start: Option<usize>, mappings: Vec<Mapping>) -> Conveyor {
        let assembled = start.map_or(0, |start| start + 1);
        let steps: Vec<_> = (0..row.links.len())
            .map(|index| match row.links[index].kind.is_patch() && index >= assembled {
                true => patch_steps(&row, start, index, &mappings),
                false => Vec::new(),
            })
            .collect();
        let stages = row.links.into_iter().zip(row.found).zip(steps).map(|((link, found), steps)| Stage {
            action: self.action(&link, &mappings, steps),
            labels: self.labels(link.kind, &mappings),
            kind: link.kind,
            layer: link.layer,
            signature: link.signature,
            parts: link.parts,
            found,
        });
        Conveyor { stages: stages.collect(), mappings, start }
    }

    fn action(&self, link: &Link, mappings: &[Mapping], steps: Vec<PatchStep>) -> Action {
        if let Some(stage) = link.kind.user_stage() {
            return Action::Instruct(stage, link.range.clone());
        }
        if let Some(position) = link.kind.import_position() {
            let imports = self.rules().imports.iter().enumerate();
            let imports = imports.filter(|(_, import)| import.position == position);
            let step = |(index, artifact): (usize, ImageId)| ImportStep {
                import: index,
                signature: self.signatures[&artifact].clone(),
            };
            return Action::Import(imports.map(|(index, import)| step((index, import.artifact))).collect());
        }
        match link.kind {
            StageKind::From => Action::From(match &self.rules().base {
                Base::Reference(reference) => Start::Reference(reference.clone()),
                Base::Image(image) => {
                    Start::Image { image: *image, signature: self.signatures[image].clone() }
                }
            }),
            StageKind::GitArchive => Action::Archive((0..mappings.len()).collect()),
            StageKind::DockerInstructions => Action::Configure,
            _ => Action::Patch(steps),
        }
    }

    fn labels(&self, kind: StageKind, mappings: &[Mapping]) -> BTreeMap<String, String> {
        let mut labels = BTreeMap::new();
        if kind.is_git() {
            labels.extend(
                mappings.iter().map(|mapping| (commit_label(&mapping.params_hash), mapping.commit.clone())),
            );
        }
        if kind == StageKind::GitArchive {
            labels.extend(
                mappings
                    .iter()
                    .map(|mapping| (kind_label(&mapping.params_hash), mapping.kind.as_str().into())),
            );
        }
        if let Some(position) = kind.import_position() {
            for import in self.rules().imports.iter().filter(|import| import.position == position) {
                let name = self.file.image(import.artifact).name.to_string();
                labels.insert(
                    format!("strake-artifact-{}", slug(&name)),
                    self.signatures[&import.artifact].clone(),
                );
            }
        }
        if kind == StageKind::From {
            labels.extend(mount_labels(self.rules()));
        }
        labels
    }
}

fn patch_steps(row: &Row, start: Option<usize>, index: usize, mappings: &[Mapping]) -> Vec<PatchStep> {
    let below = commits_on(&row.links, &row.found, start, index - 1, mappings).unwrap_or_default();
    let pairs = mappings.iter().zip(below).enumerate();
    pairs.map(|(mapping, (state, from))| PatchStep { mapping, from, to: state.commit.clone() }).collect()
}

/// Later stages, and images that stand on this one, mount the same (reference §10). Paths of the host may have any
/// characters, so those are written as JSON.
fn mount_labels(rules: &Rules) -> BTreeMap<String, String> {
    let targets = |source: &MountSource| -> Vec<&str> {
        let mounts = rules.mounts.iter().filter(|mount| mount.source == *source);
        mounts.map(|mount| mount.to.as_str()).collect()
    };
    let mut labels = BTreeMap::new();
    for (label, source) in
        [("strake-mount-tmp-dir", MountSource::TmpDir), ("strake-mount-build-dir", MountSource::BuildDir)]
    {
        if !targets(&source).is_empty() {
            labels.insert(label.to_owned(), targets(&source).join(";"));
        }
    }
    let mut host: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for mount in &rules.mounts {
        if let MountSource::HostPath(path) = &mount.source {
            host.entry(path).or_default().push(&mount.to);
        }
    }
    if !host.is_empty() {
        let json = serde_json::json!(host).to_string();
        labels.insert("strake-mount-host".to_owned(), json);
    }
    labels
}
