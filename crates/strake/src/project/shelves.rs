//! Repositories that hold stages, and what they have of a stage.
//!
//! The image of a stage is `REPO:dimgstage-<signature>`. A signature says nothing of the history that the files of a
//! stage come from, so there may be several images for one: the later ones are `REPO:dimgstage-<signature>-<ms>`, with
//! the time they were published at. Whoever looks for a stage takes the first that fits the history here. Only
//! manifest and configuration are read to find out; layers stay where they are until something must stand on them.
//!
//! What a repository says is never believed: an image that says of itself that it has another signature, or is of
//! another project, is reported and counts as not there, and so does one whose documents are damaged.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use strake_engine::Environment;
use strake_engine::image::{self, ImageError, RemoteImage};
use strake_frontend::stagefile::plan::{KnownStage, Presence};
use strake_oci::{Digest, Platform, Reference};
use strake_registry::{ErrorKind, RegistryError};

use super::forgive::Rejected;
use crate::failure::Failure;
use crate::report;
use crate::session::Session;

/// What the tags of stages begin with.
pub(crate) const STAGE_PREFIX: &str = "dimgstage-";

/// What a repository is to a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Asked first and filled along the way; may be emptied at any time.
    Cache,
    /// The one that everything goes to.
    Main,
    /// Only read; what is used of it is copied to the main one.
    Secondary,
}

/// A repository of stages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shelf {
    pub(crate) role: Role,
    pub(crate) repository: Reference,
}

/// What to do when a registry does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unreachable {
    /// Fail: the command is about that registry.
    Fail,
    /// Say so and go on without it.
    GoOn,
}

/// An image of a stage in a repository.
#[derive(Debug, Clone)]
pub(crate) struct Candidate {
    pub(crate) role: Role,
    pub(crate) image: RemoteImage,
}

impl Candidate {
    /// As plans take it.
    pub(super) fn known(&self) -> KnownStage {
        KnownStage {
            presence: Presence::Usable,
            labels: self.image.config.config.labels.clone(),
            created: None,
            size: None,
        }
    }
}

/// How far the candidates for a signature are looked through.
#[derive(Debug, Clone, Default)]
pub(super) struct Search {
    /// The shelf to go to next.
    next_shelf: usize,
    /// What else there is of the shelf before that.
    pending: VecDeque<Pending>,
}

/// What is looked at next.
#[derive(Debug, Clone)]
enum Pending {
    /// The list of all tags, which is read only when the first image does not fit.
    List,
    /// One of the later images.
    Tag(Reference),
}

/// What a tag turned out to be.
pub(super) enum Looked {
    Absent,
    Bad,
    /// From somebody who is not trusted.
    Distrusted,
    Good(Box<RemoteImage>),
}

/// The repositories of a command.
#[derive(Debug, Clone)]
pub(crate) struct Shelves<'a> {
    pub(super) session: &'a Session,
    /// The name of the project: its stages only count.
    project: String,
    platform: Platform,
    pub(super) shelves: Vec<Shelf>,
    unreachable: Unreachable,
    /// Places in `shelves` that do not answer.
    pub(super) silent: BTreeSet<usize>,
    pub(super) searches: BTreeMap<String, Search>,
    hits: BTreeMap<String, Candidate>,
    /// Manifests that turned out to be no good after all.
    pub(super) bad: BTreeMap<Digest, Rejected>,
    /// Tags that something bad was found under, until it is replaced.
    pub(super) bad_tags: BTreeSet<String>,
    /// Signatures that some image was found for.
    pub(super) were_there: BTreeSet<String>,
    told: BTreeSet<String>,
}

impl<'a> Shelves<'a> {
    /// Nothing is asked yet. Caches are asked first, secondary repositories last.
    pub(crate) fn new(
        session: &'a Session,
        project: &str,
        mut shelves: Vec<Shelf>,
        unreachable: Unreachable,
    ) -> Self {
        shelves.sort_by_key(|shelf| match shelf.role {
            Role::Cache => 0,
            Role::Main => 1,
            Role::Secondary => 2,
        });
        Self {
            session,
            project: project.to_owned(),
            platform: session.settings.platform.clone(),
            shelves,
            unreachable,
            silent: BTreeSet::new(),
            searches: BTreeMap::new(),
            hits: BTreeMap::new(),
            bad: BTreeMap::new(),
            bad_tags: BTreeSet::new(),
            were_there: BTreeSet::new(),
            told: BTreeSet::new(),
        }
    }

    /// The image that was found for a signature.
    pub(crate) fn hit(&self, signature: &str) -> Option<&Candidate> {
        self.hits.get(signature)
    }

    /// Takes what was found for a signature; the search is not begun again.
    pub(crate) fn take(&mut self, signature: &str) -> Option<Candidate> {
        self.hits.remove(signature)
    }

    /// Whether there may be more to find for a signature.
    pub(super) fn may_have(&self, signature: &str) -> bool {
        self.searches
            .get(signature)
            .is_none_or(|search| !search.pending.is_empty() || search.next_shelf < self.shelves.len())
    }

    /// Forgets which stages were not there, because others may have published some.
    pub(crate) fn look_again(&mut self) {
        let Self { searches, hits, .. } = self;
        searches.retain(|signature, _| hits.contains_key(signature));
    }

    /// Forgets what was found and what was not.
    pub(super) fn look_anew(&mut self) {
        self.searches.clear();
        self.hits.clear();
    }

    /// The main repository.
    pub(crate) fn main(&self) -> Option<Reference> {
        let main = self.shelves.iter().find(|shelf| shelf.role == Role::Main);
        main.map(|main| main.repository.clone())
    }

    /// Whether there is an image of a stage in the main repository now that was not there when it was looked for.
    pub(super) fn has_appeared(&mut self, signature: &str) -> Result<bool, Failure> {
        let Some(main) = self.shelves.iter().position(|shelf| shelf.role == Role::Main) else {
            return Ok(false);
        };
        if self.were_there.contains(signature) {
            // It did not fit then, and the history here is still the same.
            return Ok(false);
        }
        self.forgive()?;
        let tag = stage_tag(&self.shelves[main].repository, signature)?;
        Ok(matches!(self.look(main, &tag, signature)?, Looked::Good(_)))
    }

    /// Drops what was found for a signature, if anything, and looks for the next image.
    ///
    /// # Errors
    /// When a registry does not answer and that must not be.
    pub(super) fn advance(&mut self, signature: &str) -> Result<bool, Failure> {
        self.hits.remove(signature);
        let mut search = self.searches.remove(signature).unwrap_or_default();
        let found = self.next(signature, &mut search);
        self.searches.insert(signature.to_owned(), search);
        let found = found?;
        let is_found = found.is_some();
        self.hits.extend(found.map(|candidate| (signature.to_owned(), candidate)));
        Ok(is_found)
    }

    fn next(&mut self, signature: &str, search: &mut Search) -> Result<Option<Candidate>, Failure> {
        loop {
            let (shelf, tag) = match search.pending.pop_front() {
                Some(Pending::Tag(tag)) => (search.next_shelf - 1, tag),
                Some(Pending::List) => {
                    let tags = self.later_tags(search.next_shelf - 1, signature)?;
                    search.pending.extend(tags.into_iter().map(Pending::Tag));
                    continue;
                }
                None => {
                    let Some(shelf) = self.shelves.get(search.next_shelf) else { return Ok(None) };
                    search.next_shelf += 1;
                    (search.next_shelf - 1, stage_tag(&shelf.repository, signature)?)
                }
            };
            let is_first = tag.tag().is_some_and(|tag| tag.len() == STAGE_PREFIX.len() + signature.len());
            let looked = self.look(shelf, &tag, signature)?;
            if is_first && !matches!(looked, Looked::Absent) {
                search.pending.push_back(Pending::List);
            }
            if let Looked::Good(image) = looked {
                self.were_there.insert(signature.to_owned());
                return Ok(Some(Candidate { role: self.shelves[shelf].role, image: *image }));
            }
        }
    }

    /// The images for a signature that were published beside the first, oldest first.
    fn later_tags(&mut self, shelf: usize, signature: &str) -> Result<Vec<Reference>, Failure> {
        if self.silent.contains(&shelf) {
            return Ok(Vec::new());
        }
        let repository = self.shelves[shelf].repository.clone();
        let listed = self.with(|env| env.registry.list_tags(&repository));
        let tags = match listed {
            Ok(tags) => tags.unwrap_or_default(),
            Err(error) => {
                self.is_no_answer(shelf, error)?;
                return Ok(Vec::new());
            }
        };
        let mut times: Vec<(u64, String)> = tags
            .into_iter()
            .filter_map(|tag| {
                let time = tag.strip_prefix(STAGE_PREFIX)?.strip_prefix(signature)?.strip_prefix('-')?;
                Some((time.parse().ok()?, tag))
            })
            .collect();
        times.sort();
        Ok(times.iter().filter_map(|(_, tag)| repository.with_tag(tag).ok()).collect())
    }

    /// What a tag turns out to be.
    pub(super) fn look(&mut self, shelf: usize, tag: &Reference, signature: &str) -> Result<Looked, Failure> {
        let looked = self.judge(shelf, tag, signature)?;
        if matches!(looked, Looked::Bad) {
            self.bad_tags.insert(tag.to_string());
        }
        Ok(looked)
    }

    fn judge(&mut self, shelf: usize, tag: &Reference, signature: &str) -> Result<Looked, Failure> {
        if self.silent.contains(&shelf) {
            return Ok(Looked::Absent);
        }
        let peeked = self.with(|env| image::peek(env, tag, &self.platform));
        let image = match peeked {
            Ok(Some(image)) => image,
            Ok(None) => return Ok(Looked::Absent),
            Err(ImageError::Registry(error)) if !is_about_content(error.kind) => {
                self.is_no_answer(shelf, error)?;
                return Ok(Looked::Absent);
            }
            Err(error @ (ImageError::Store(_) | ImageError::Canceled)) => return Err(error.into()),
            Err(error) => {
                self.tell(format!("{}: {error}; it counts as not there", tag.familiar()));
                return Ok(Looked::Bad);
            }
        };
        if self.bad.get(&image.digest()).is_some_and(|rejected| !rejected.is_forgiven) {
            return Ok(Looked::Bad);
        }
        if let Some(why) = image.distrust(&self.session.settings.trusted_keys) {
            self.tell(format!("{}: {why}; it counts as not there", tag.familiar()));
            return Ok(Looked::Distrusted);
        }
        match wrong(&self.project, &image, signature) {
            None => Ok(Looked::Good(Box::new(image))),
            Some(why) => {
                self.tell(format!("{}: {why}; it counts as not there", tag.familiar()));
                Ok(Looked::Bad)
            }
        }
    }

    /// Does something with registries, as patiently as the command is about them.
    pub(super) fn with<T>(&self, work: impl FnOnce(&Environment<'_>) -> T) -> T {
        match self.unreachable {
            Unreachable::Fail => self.session.with(work),
            Unreachable::GoOn => self.session.with_hurry(work),
        }
    }

    /// Whether the repositories of a role have answered so far.
    pub(crate) fn answers(&self, role: Role) -> bool {
        !self.silent.iter().any(|shelf| self.shelves[*shelf].role == role)
    }

    /// A registry that does not answer is left out from now on, unless the command is about it.
    pub(super) fn is_no_answer(&mut self, shelf: usize, error: RegistryError) -> Result<(), Failure> {
        if error.kind == ErrorKind::Cancelled || self.unreachable == Unreachable::Fail {
            return Err(error.into());
        }
        if self.silent.insert(shelf) {
            let name = repository_name(&self.shelves[shelf].repository);
            report::warn(&format!(
                "{name} cannot be used: {error}; going on without it: stages that only it has are built here, and what \
                 is built is not sent to it"
            ));
        }
        Ok(())
    }

    pub(super) fn tell(&mut self, text: String) {
        if !self.told.contains(&text) {
            report::warn(&text);
            self.told.insert(text);
        }
    }
}

/// Why an image is not what its tag says, if so.
pub(crate) fn wrong(project: &str, image: &RemoteImage, signature: &str) -> Option<String> {
    let label = |name: &str| stage_label(image, name);
    if let Some(own) = label("-signature").filter(|own| *own != signature) {
        return Some(format!("its labels name another stage, {}", short(own)));
    }
    match label("") {
        None => Some("it is no image of a stage: it has no label with a project".to_owned()),
        Some(own) if own != project => Some(format!("it is of another project, {}", short(own))),
        Some(_) if label("-dimg") == Some("true") => {
            Some("it is a finished image, not one of a stage".to_owned())
        }
        Some(_) => None,
    }
}

/// A label of an image, by its name without `strake`; labels of the tool of 2018 count too.
pub(crate) fn stage_label<'i>(image: &'i RemoteImage, name: &str) -> Option<&'i str> {
    let labels = &image.config.config.labels;
    let label = |prefix| labels.get(&format!("{prefix}{name}"));
    label("strake").or_else(|| label("dapp")).map(String::as_str)
}

/// Whether a failure tells of what the registry has, rather than of the registry.
pub(super) fn is_about_content(kind: ErrorKind) -> bool {
    use ErrorKind as Kind;
    matches!(kind, Kind::NotFound | Kind::Corrupt | Kind::Malformed | Kind::TooLarge)
}

/// The name of a stage in a repository.
///
/// # Errors
/// When it is too long for a tag.
pub(crate) fn stage_tag(repository: &Reference, signature: &str) -> Result<Reference, Failure> {
    let tag = format!("{STAGE_PREFIX}{signature}");
    repository.with_tag(&tag).map_err(|error| Failure::input(error.to_string()))
}

/// A repository as it is typed.
pub(crate) fn repository_name(repository: &Reference) -> String {
    let full = format!("{}/{}", repository.registry(), repository.repository());
    full.strip_prefix("docker.io/").map(|name| name.trim_start_matches("library/").to_owned()).unwrap_or(full)
}

/// Text from outside, cut.
fn short(text: &str) -> String {
    let text: String = text.chars().filter(|letter| !letter.is_control()).take(64).collect();
    if text.is_empty() { "without a name".to_owned() } else { text }
}
