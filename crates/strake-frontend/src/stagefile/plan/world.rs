//! A repository and a store of images made of numbers, to plan and build in: every image knows what files it really
//! has, and carrying out a plan checks each patch against that.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{GitSource, Selection, StageFile, parse, scheme31};
use super::{
    Action, CommitState, Conveyor, Facts, Found, KnownStage, MappingKind, MappingState, Need, Plan,
    PlanOptions, Planning, Presence, plan,
};
use strake_oci::Platform;

/// Path (without a slash in front) → (content, size in bytes).
pub(super) type Tree = BTreeMap<String, (u64, u64)>;

#[derive(Debug, Clone)]
pub(super) struct Commit {
    pub(super) parent: Option<usize>,
    pub(super) tree: Tree,
    pub(super) reset: bool,
}

/// An image: what is known of it, and what files it has for each mapping.
#[derive(Debug, Clone)]
pub(super) struct Image {
    pub(super) known: KnownStage,
    pub(super) files: BTreeMap<String, Tree>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct World {
    pub(super) commits: Vec<Commit>,
    pub(super) head: usize,
    /// Commits that were there and are no more.
    pub(super) lost: BTreeSet<usize>,
    pub(super) images: BTreeMap<String, Image>,
}

pub(super) fn file(text: &str) -> StageFile {
    let parsed = parse(text);
    assert_eq!(parsed.diagnostics, [], "{text}");
    parsed.file.unwrap()
}

pub(super) fn options() -> PlanOptions {
    PlanOptions::new(Platform::linux("amd64"))
}

fn count(facts: &Facts) -> usize {
    let Facts { mappings, watched, resets, patch_sizes, unchanged, stages, commits } = facts;
    let of_git = mappings.len() + watched.len() + resets.len() + patch_sizes.len() + unchanged.len();
    of_git + stages.len() + commits.len()
}

fn hash(commit: usize) -> String {
    format!("{commit:040}")
}

fn number(commit: &str) -> usize {
    commit.parse().unwrap()
}

impl World {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// A new commit on top of the current one.
    pub(super) fn commit(&mut self, change: impl FnOnce(&mut Tree)) {
        let mut tree = self.commits.get(self.head).map(|commit| commit.tree.clone()).unwrap_or_default();
        change(&mut tree);
        let parent = (!self.commits.is_empty()).then_some(self.head);
        self.commits.push(Commit { parent, tree, reset: false });
        self.head = self.commits.len() - 1;
    }

    pub(super) fn write(&mut self, path: &str, content: u64, size: u64) {
        self.commit(|tree| {
            tree.insert(path.into(), (content, size));
        });
    }

    fn history(&self, commit: usize) -> impl Iterator<Item = usize> {
        std::iter::successors(Some(commit), |commit| self.commits[*commit].parent)
    }

    /// The files of a mapping, by their paths below `add`.
    pub(super) fn files(&self, selection: &Selection, commit: usize) -> Tree {
        let filter = selection.filter();
        let add = selection.add.trim_start_matches('/');
        let below = |path: &str| match add {
            "" => Some(path.to_owned()),
            _ => path.strip_prefix(add)?.strip_prefix('/').map(str::to_owned),
        };
        let tree = &self.commits[commit].tree;
        let files = tree.iter().filter_map(|(path, file)| Some((below(path)?, *file)));
        files.filter(|(path, _)| filter.matches(path.as_bytes())).collect()
    }

    fn answer(&self, need: &Need, facts: &mut Facts) {
        match need.clone() {
            Need::Mapping(selection) => {
                let state = match self.files(&selection, self.head).is_empty() {
                    true => MappingState::Empty,
                    false => MappingState::Present { commit: hash(self.head), kind: MappingKind::Directory },
                };
                facts.mappings.insert(selection, state);
            }
            Need::Watched(watched) => {
                let narrow = Selection { include: watched.patterns.clone(), ..watched.selection.clone() };
                let seen = self.files(&watched.selection, self.head);
                let mut files = self.files(&narrow, self.head);
                files.retain(|path, _| seen.contains_key(path));
                facts.watched.insert(watched, Some(scheme31::checksum([format!("{files:?}")])));
            }
            Need::Reset(source) => {
                let reset = self.history(self.head).find(|commit| self.commits[*commit].reset);
                facts.resets.insert(source, reset.map(hash));
            }
            Need::PatchSize(difference) => {
                let [from, to] = [&difference.from, &difference.to].map(|commit| number(commit));
                let (from, to) =
                    (self.files(&difference.selection, from), self.files(&difference.selection, to));
                let changed = to.iter().filter(|(path, file)| from.get(*path) != Some(file));
                facts.patch_sizes.insert(difference, changed.map(|(_, (_, size))| size).sum());
            }
            Need::Unchanged(difference) => {
                let [from, to] = [&difference.from, &difference.to].map(|commit| number(commit));
                let same = self.files(&difference.selection, from) == self.files(&difference.selection, to);
                facts.unchanged.insert(difference, same);
            }
            Need::Stage(signature) => {
                let known = self.images.get(&signature).map(|image| image.known.clone());
                facts.stages.insert(signature, known);
            }
            Need::Commit(question) => {
                let commit = number(&question.commit);
                let state = if self.lost.contains(&commit) {
                    CommitState::Missing
                } else if self.history(number(&question.current)).any(|ancestor| ancestor == commit) {
                    CommitState::Ancestor
                } else {
                    CommitState::Foreign
                };
                facts.commits.insert(question, state);
            }
        }
    }

    /// Plans the first dimg.
    pub(super) fn plan(&self, file: &StageFile) -> Plan {
        self.plan_with(file, &options())
    }

    pub(super) fn plan_with(&self, file: &StageFile, options: &PlanOptions) -> Plan {
        let (image, _) = file.dimgs().next().unwrap();
        let mut facts = Facts::default();
        for _ in 0..100 {
            match plan(file, image, options, &facts).unwrap() {
                Planning::Done(plan) => return plan,
                Planning::Needs(needs) => {
                    assert!(!needs.is_empty());
                    for need in needs {
                        let before = count(&facts);
                        self.answer(&need, &mut facts);
                        assert_eq!(count(&facts), before + 1, "asked again: {need:?}");
                    }
                }
            }
        }
        panic!("it asks without end");
    }

    /// Carries a plan out and returns the last image.
    pub(super) fn build(&mut self, file: &StageFile) -> Image {
        let plan = self.plan(file);
        for id in file.order() {
            if let Some(conveyor) = plan.conveyors.get(id) {
                self.assemble(file, &plan, *id, conveyor);
            }
        }
        self.images[plan.conveyor().signature()].clone()
    }

    fn assemble(&mut self, file: &StageFile, plan: &Plan, id: super::ImageId, conveyor: &Conveyor) {
        let rules = &file.image(id).rules;
        let nothing =
            KnownStage { presence: Presence::Usable, labels: BTreeMap::new(), created: None, size: None };
        let mut image = match conveyor.start {
            Some(start) => {
                assert!(conveyor.stages[start].found.is_usable());
                self.images[&conveyor.stages[start].signature].clone()
            }
            None => Image { known: nothing, files: BTreeMap::new() },
        };
        for stage in &conveyor.stages[conveyor.to_assemble()] {
            if let Action::From(super::Start::Image { image: base, signature }) = &stage.action {
                assert_eq!(plan.conveyors[base].signature(), signature);
                image = self.images[signature].clone();
            }
            let files = |mapping: usize, commit: &str| {
                let git = &rules.git[conveyor.mappings[mapping].index];
                (conveyor.mappings[mapping].params_hash.clone(), self.files(&git.selection, number(commit)))
            };
            match &stage.action {
                Action::Archive(mappings) => {
                    for mapping in mappings {
                        let (hash, tree) = files(*mapping, &conveyor.mappings[*mapping].commit);
                        image.files.insert(hash, tree);
                    }
                }
                Action::Patch(steps) => {
                    assert_eq!(steps.len(), conveyor.mappings.len());
                    for step in steps {
                        let (hash, before) = files(step.mapping, &step.from);
                        assert_eq!(image.files.get(&hash), Some(&before), "the patch fits");
                        assert_eq!(step.to, conveyor.mappings[step.mapping].commit);
                        let (hash, after) = files(step.mapping, &step.to);
                        image.files.insert(hash, after);
                    }
                }
                _ => {}
            }
            image.known.labels.extend(stage.labels.clone());
            image.known.presence = Presence::Usable;
            self.images.insert(stage.signature.clone(), image.clone());
        }
    }

    /// Checks that an image has the files of the current commit for every mapping.
    pub(super) fn check(&self, file: &StageFile, image: &Image) {
        let (id, _) = file.dimgs().next().unwrap();
        for git in &file.image(id).rules.git {
            assert_eq!(git.selection.source, GitSource::Local);
            let expected = self.files(&git.selection, self.head);
            assert_eq!(
                image.files.get(&scheme31::params_hash(git)),
                Some(&expected),
                "mapping to {}",
                git.to
            );
        }
    }
}

/// `kind` with `+` if it is to be assembled, `=` if it is started from, `-` if it is not needed.
pub(super) fn show(conveyor: &Conveyor) -> String {
    let state = |index: usize| match conveyor.start {
        Some(start) if index < start => '-',
        Some(start) if index == start => '=',
        _ => '+',
    };
    let stages = conveyor.stages.iter().enumerate().map(|(index, stage)| {
        let layer = stage.layer.map(|layer| format!(".{layer}")).unwrap_or_default();
        format!("{}{}{layer}", state(index), stage.kind.id())
    });
    stages.collect::<Vec<_>>().join(" ")
}

pub(super) fn signatures(conveyor: &Conveyor) -> Vec<(&'static str, String)> {
    conveyor.stages.iter().map(|stage| (stage.kind.id(), stage.signature.clone())).collect()
}

/// Whether a stage was known but must not be used.
pub(super) fn refused(conveyor: &Conveyor) -> usize {
    conveyor.stages.iter().filter(|stage| matches!(stage.found, Found::Refused(..))).count()
}

/// A repository with one file that [`EXAMPLE_1`] takes.
pub(super) fn one_commit() -> World {
    let mut world = World::new();
    world.write("src/main.py", 1, 10);
    world
}

/// The first example of the reference.
pub(super) const EXAMPLE_1: &str = r#"
dimg: ~
from: debian:12
git:
- add: /src
  to: /srv/app
  owner: "1000"
  group: "1000"
shell:
  beforeInstall:
  - apt-get update
  - apt-get install -y --no-install-recommends python3
  install:
  - python3 -m compileall /srv/app
docker:
  WORKDIR: /srv/app
  CMD: ["python3", "main.py"]
"#;
