//! Which stages an image has, under which signatures, and which of them have to be assembled.
//!
//! [`plan`] is a pure function that is called again and again: it answers what it has yet to know ([`Need`]s), and
//! in the end the conveyor. Images that others stand on or import from are planned first, each once.
//!
//! Two stages of a conveyor hang on history. The patch after `setup` is renewed with each further MiB of changes
//! since the archive, and the latest patch exists when anything changed since then. So it matters *which commit the
//! files below a stage have*, and that is known from labels of images, if at all (`history`):
//!
//! 1. the label of the image right below, if that is known;
//! 2. else the label of the nearest later image known under the signature computed so far: it inherited the label;
//! 3. else the image will be assembled now, and has the current commit, or what the image has that it starts from.
//!
//! The rules are those of the reference to the letter, also where a stage is known but not to be had ([`Presence`]):
//! then the stages above it have the signatures for the commit it had, although it is assembled at the current one.
//! Its files are right, and the next build finds what is true since.
//!
//! What is known is first sifted (`sift`): a stage with git data counts only if the commits it records exist and
//! are ancestors of the current ones, and if it stands on what the stages below it record. At the end the plan is
//! carried out on paper: if the files of the last stage would not be those of the current commit, the image to start
//! from is refused and the next lower one taken. So whatever is known and whatever is wrong with it, no image has old
//! or foreign files (reference §7.7, §7.9).

mod chain;
mod facts;
mod history;
mod image;
#[cfg(test)]
mod properties;
mod sift;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;
#[cfg(test)]
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use strake_graph::Span;
use strake_oci::Platform;

use super::config::{ImageId, ImageName, StageFile};
use super::{StageKind, UserStage};

pub use facts::{
    CommitQuestion, CommitState, Difference, Facts, KnownStage, MappingKind, MappingState, Need, Presence,
    Watched,
};

/// What a plan depends on besides the file and the facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanOptions {
    /// Part of every signature; `31` for the scheme as it is.
    pub cache_version: String,
    /// Whether what is not committed yet takes part.
    pub mode: Mode,
    /// The platform to build for. Part of the signatures unless it is `linux/amd64`.
    pub platform: Platform,
    /// What to do about a mapping that takes no file.
    pub empty_mappings: EmptyMappings,
}

/// Whether what is not committed yet takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Only commits count.
    Committed,
    /// The caller answers with commits that hold the changes too; stages are kept apart from others.
    Developer,
}

/// What to do about a mapping that takes no file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EmptyMappings {
    /// It is an error: most likely something is mistyped.
    Refuse,
    /// It is left out, as the tool of 2018 did.
    LeaveOut,
}

impl PlanOptions {
    /// The defaults for a platform.
    pub fn new(platform: Platform) -> Self {
        Self {
            cache_version: "31".into(),
            mode: Mode::Committed,
            platform,
            empty_mappings: EmptyMappings::Refuse,
        }
    }
}

/// The answer of [`plan`].
#[derive(Debug, Clone, PartialEq)]
pub enum Planning {
    /// What has to be known first. Never empty, and never asks for what is in the facts.
    Needs(Vec<Need>),
    /// The plan.
    Done(Plan),
}

/// How an image is made, and the images it needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The image that was asked for.
    pub image: ImageId,
    /// The conveyors of it and of all images it needs.
    pub conveyors: BTreeMap<ImageId, Conveyor>,
}

impl Plan {
    /// The conveyor of the image that was asked for.
    pub fn conveyor(&self) -> &Conveyor {
        &self.conveyors[&self.image]
    }
}

/// The stages of an image that exist.
#[derive(Debug, Clone, PartialEq)]
pub struct Conveyor {
    /// The mappings that take files, in the order of the rules.
    pub mappings: Vec<Mapping>,
    /// First to last. There is always a `from`.
    pub stages: Vec<Stage>,
    /// The stage to start from, if any can be used: no other is needed below it, all above are to be assembled.
    pub start: Option<usize>,
}

impl Conveyor {
    /// The signature of the last stage.
    pub fn signature(&self) -> &str {
        &self.stages.last().expect("there is always a `from`").signature
    }

    /// The stages that are to be assembled.
    pub fn to_assemble(&self) -> Range<usize> {
        self.start.map_or(0, |start| start + 1)..self.stages.len()
    }
}

/// A mapping at the current commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// Its place in the rules.
    pub index: usize,
    /// Names the labels that record its commit.
    pub params_hash: String,
    /// Where the files are put.
    pub to: String,
    /// The current commit.
    pub commit: String,
    /// What `add` is in the current commit.
    pub kind: MappingKind,
    /// The newest commit that asks for a fresh archive.
    reset: Option<String>,
    /// Checksums of watched files.
    watched: BTreeMap<UserStage, String>,
}

/// A stage that exists.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    /// Which one.
    pub kind: StageKind,
    /// Which layer of it, from 1, if each instruction is one.
    pub layer: Option<usize>,
    /// 64 hexadecimal digits.
    pub signature: String,
    /// What the signature is the checksum of, in this order.
    pub parts: Vec<Part>,
    /// What is known under the signature.
    pub found: Found,
    /// What is done when it is assembled.
    pub action: Action,
    /// The labels it adds when it is assembled; all others it has from the stage below.
    pub labels: BTreeMap<String, String>,
}

/// A named part of what a signature is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// What it is, for people.
    pub name: String,
    /// The text in the checksum.
    pub value: String,
}

/// What is known under a signature.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// Nothing.
    Absent,
    /// An image that fits.
    Known(KnownStage),
    /// An image that must not be used.
    Refused(KnownStage, Refusal),
}

impl Found {
    /// The image that fits.
    pub fn known(&self) -> Option<&KnownStage> {
        match self {
            Self::Known(known) => Some(known),
            Self::Absent | Self::Refused(..) => None,
        }
    }

    /// Whether the next stage can stand on it.
    pub fn is_usable(&self) -> bool {
        self.known().is_some_and(|known| known.presence == Presence::Usable)
    }
}

/// Why a known image must not be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It does not record the commit of the mapping.
    NoRecord(usize),
    /// What was a file for a mapping is a directory now, or the other way round: no patch leads there.
    OtherKind(usize),
    /// The commit that it records for a mapping is not in the repository.
    MissingCommit(usize, String),
    /// The commit that it records for a mapping is on another line of history.
    ForeignCommit(usize, String),
    /// A stage below it must not be used.
    StandsOnRefused,
    /// It was made on another image than the one that is known below it.
    OtherBase,
    /// Its files are not those of the current commit, and nothing above would change that.
    OldFiles(usize),
}

/// What is done when a stage is assembled. Mappings are meant by their place in [`Conveyor::mappings`].
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Start from the base and empty the targets of mounts.
    From(Start),
    /// Carry out these instructions of a user stage.
    Instruct(UserStage, Range<usize>),
    /// Copy files out of artifacts.
    Import(Vec<ImportStep>),
    /// Unpack the files of the mappings at their current commits.
    Archive(Vec<usize>),
    /// Bring the files of mappings to the current commit. Empty if the stage is not to be assembled.
    Patch(Vec<PatchStep>),
    /// Change only the configuration.
    Configure,
}

/// What the first stage starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// An image from elsewhere, as it was written.
    Reference(String),
    /// The last stage of another image of the file.
    Image {
        /// Which.
        image: ImageId,
        /// Of its last stage.
        signature: String,
    },
}

/// Files to copy out of an artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportStep {
    /// The place of the import in the rules.
    pub import: usize,
    /// Of the last stage of the artifact.
    pub signature: String,
}

/// Files to bring from one commit to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatchStep {
    /// Which mapping.
    pub mapping: usize,
    /// The commit that the files have in the stage below.
    pub from: String,
    /// The current commit.
    pub to: String,
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A mapping takes no file.
    #[error(
        "the git mapping to `{to}` of `{image}` takes no file of the current commit; check `add` and the filters"
    )]
    EmptyMapping {
        /// The image.
        image: ImageName,
        /// The target of the mapping.
        to: String,
        /// The mapping in the rendered text.
        span: Span,
    },
}

/// Plans an image, and first those it needs.
///
/// # Errors
/// When a mapping takes no file and [`EmptyMappings::Refuse`] is asked for.
pub fn plan(
    file: &StageFile,
    image: ImageId,
    options: &PlanOptions,
    facts: &Facts,
) -> Result<Planning, PlanError> {
    let mut wanted = BTreeSet::from([image]);
    for id in file.order().iter().rev() {
        if wanted.contains(id) {
            wanted.extend(file.image(*id).rules.needs());
        }
    }
    let mut needs = BTreeSet::new();
    let mut conveyors = BTreeMap::new();
    let mut signatures = BTreeMap::new();
    for id in file.order().iter().filter(|id| wanted.contains(id)) {
        let planner = image::Planner { file, id: *id, options, facts, signatures: &signatures };
        let outcome = planner.plan(&mut needs)?;
        signatures.extend(outcome.signature.map(|signature| (*id, signature)));
        conveyors.extend(outcome.conveyor.map(|conveyor| (*id, conveyor)));
    }
    if needs.is_empty() {
        return Ok(Planning::Done(Plan { image, conveyors }));
    }
    Ok(Planning::Needs(needs.into_iter().collect()))
}

/// The label that records the commit of a mapping.
pub(super) fn commit_label(params_hash: &str) -> String {
    format!("strake-git-{params_hash}-commit")
}

/// The label that records what the `add` of a mapping is.
pub(super) fn kind_label(params_hash: &str) -> String {
    format!("strake-git-{params_hash}-type")
}
