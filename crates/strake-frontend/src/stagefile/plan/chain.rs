//! The signatures of a row of stages, once it is known what they depend on.

use std::collections::BTreeMap;
use std::ops::Range;

use super::super::config::{ImageId, Layers, Rules};
use super::super::{StageKind, UserStage, scheme31};
use super::{Mapping, Mode, Part, PlanOptions};

/// A stage that exists, with its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) kind: StageKind,
    /// The instructions, of all of the user stage.
    pub(super) range: Range<usize>,
    /// Which layer of the user stage, from 1, if each instruction is one.
    pub(super) layer: Option<usize>,
    pub(super) signature: String,
    pub(super) parts: Vec<Part>,
}

/// Everything that the signatures of an image depend on, besides its history.
#[derive(Debug)]
pub(super) struct Inputs<'a> {
    pub(super) rules: &'a Rules,
    pub(super) options: &'a PlanOptions,
    /// The reference or the signature of the last stage of the base.
    pub(super) base: String,
    pub(super) artifacts: &'a BTreeMap<ImageId, String>,
    pub(super) mappings: &'a [Mapping],
}

/// What the history of the repositories adds.
#[derive(Debug, Clone, Copy)]
pub(super) struct History<'a> {
    /// Whole MiB of changes before the patch after `setup`.
    pub(super) step: u64,
    /// The mappings that the latest patch changes.
    pub(super) changed: &'a [usize],
}

impl Inputs<'_> {
    /// The stages of these kinds that exist, on top of the stage with the signature `below`.
    pub(super) fn links(&self, kinds: &[StageKind], below: Option<&str>, history: History<'_>) -> Vec<Link> {
        let mut links: Vec<Link> = Vec::new();
        for kind in kinds {
            for (range, layer) in self.layers(*kind) {
                let builder = kind
                    .user_stage()
                    .map(|stage| scheme31::builder_checksum_of(&self.rules.assembly, stage, range.clone()));
                let dependencies = self.dependencies(*kind, builder.as_deref(), history);
                let builder_is_empty = builder.as_deref().is_none_or(str::is_empty);
                if builder_is_empty && dependencies.iter().all(|part| part.value.is_empty()) {
                    continue;
                }
                let below = links.last().map(|link| link.signature.as_str()).or(below);
                let mut parts: Vec<_> = below.map(|below| part("stage below", below)).into_iter().collect();
                parts.push(part("cache version", &self.options.cache_version));
                let developer = self.options.mode == Mode::Developer;
                parts.push(part("developer mode", if developer { "1" } else { "0" }));
                parts.extend(builder.map(|checksum| part("instructions", checksum)));
                parts.extend(dependencies);
                let signature = scheme31::checksum(parts.iter().map(|part| &part.value));
                links.push(Link { kind: *kind, range, layer, signature, parts });
            }
        }
        links
    }

    /// The stages that one stage of the conveyor consists of.
    fn layers(&self, kind: StageKind) -> Vec<(Range<usize>, Option<usize>)> {
        let Some(stage) = kind.user_stage() else { return vec![(0..0, None)] };
        let count = self.rules.assembly.instructions.get(&stage).map_or(0, |instructions| instructions.len());
        match self.rules.layers {
            Layers::PerInstruction if count > 0 => (0..count).map(|at| (at..at + 1, Some(at + 1))).collect(),
            _ => vec![(0..count, None)],
        }
    }

    /// What a stage depends on besides its builder checksum (reference §6.2).
    fn dependencies(&self, kind: StageKind, builder: Option<&str>, history: History<'_>) -> Vec<Part> {
        if let Some(position) = kind.import_position() {
            return self.imports(position);
        }
        if let Some(stage) = kind.related() {
            return if self.mappings.is_empty() { Vec::new() } else { self.context(stage) };
        }
        match kind {
            StageKind::From => self.base(),
            StageKind::BeforeInstall => {
                builder.map(|checksum| part("instructions again", checksum)).into_iter().collect()
            }
            StageKind::GitArchive if !self.mappings.is_empty() => self.archive(),
            StageKind::GitPostSetupPatch if !self.mappings.is_empty() => {
                vec![part("MiB of changes since the archive", history.step.to_string())]
            }
            StageKind::GitLatestPatch => {
                let changed = history.changed.iter().map(|index| &self.mappings[*index]);
                changed.map(|mapping| part(format!("commit of {}", mapping.to), &mapping.commit)).collect()
            }
            StageKind::DockerInstructions if !self.rules.docker.is_empty() => {
                vec![part("docker options", scheme31::print_docker(&self.rules.docker))]
            }
            _ => Vec::new(),
        }
    }

    fn base(&self) -> Vec<Part> {
        let mut parts = vec![part("base image", &self.base)];
        parts.extend(self.rules.from_cache_version.as_deref().map(|text| part("base cache version", text)));
        parts.push(part("mounts", scheme31::print_mounts(&self.rules.mounts)));
        // The scheme knew one platform only, and its values must not change for that.
        let platform = self.options.platform.to_string();
        if platform != "linux/amd64" {
            parts.push(part("platform", platform));
        }
        parts
    }

    fn archive(&self) -> Vec<Part> {
        let hashes: Vec<_> = self.mappings.iter().map(|mapping| mapping.params_hash.as_str()).collect();
        let mut parts = vec![part("git mappings", hashes.concat())];
        let mut resets: Vec<_> =
            self.mappings.iter().map(|mapping| mapping.reset.as_deref().unwrap_or_default()).collect();
        resets.sort_unstable();
        resets.dedup();
        parts.extend(resets.into_iter().map(|commit| part("reset commit", commit)));
        if self.options.mode == Mode::Developer {
            let commits = self.mappings.iter();
            parts.extend(commits.map(|mapping| part(format!("commit of {}", mapping.to), &mapping.commit)));
        }
        parts
    }

    /// The context of a user stage (reference §5.3).
    fn context(&self, stage: UserStage) -> Vec<Part> {
        let watched = self.mappings.iter().filter_map(|mapping| {
            let checksum = mapping.watched.get(&stage)?;
            Some(part(format!("watched files of {}", mapping.to), checksum))
        });
        let mut parts: Vec<_> = watched.collect();
        let builder = scheme31::builder_checksum(&self.rules.assembly, stage);
        parts.push(part(format!("instructions of {}", stage.key()), builder));
        parts
    }

    fn imports(&self, position: super::super::ImportPosition) -> Vec<Part> {
        let imports = self.rules.imports.iter().filter(|import| import.position == position);
        imports
            .map(|import| {
                let artifact = &self.artifacts[&import.artifact];
                let value = scheme31::checksum([artifact, &scheme31::print_import(import)]);
                part(format!("import to {}", import.to), value)
            })
            .collect()
    }
}

fn part(name: impl Into<String>, value: impl Into<String>) -> Part {
    Part { name: name.into(), value: value.into() }
}
