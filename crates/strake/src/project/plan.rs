//! Plans: what the frontend asks for is looked up, and it is asked again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use strake_frontend::Diagnostic;
use strake_frontend::stagefile::plan::{self, Facts, Mode, Need, Plan, PlanError, PlanOptions, Planning};
use strake_frontend::stagefile::{GitSource, ImageId};
use strake_git::Repository;
use strake_oci::Platform;

use super::answers::Answers;
use super::memory::Memory;
use super::repositories::Repositories;
use super::{Project, Reach, SCHEME, StageImage};
use crate::failure::{Failure, Kind};
use crate::session::Session;

/// More rounds of questions than any honest stage file has: each image has a few, and only after those it stands on.
const ROUNDS_MAX: usize = 100_000;

/// What plans depend on besides the project.
#[derive(Debug)]
pub(crate) struct PlanRequest<'a> {
    /// The local store, if there is one.
    pub(crate) session: Option<&'a Session>,
    /// What to build for.
    pub(crate) platform: Platform,
    /// Whether what is not committed takes part.
    pub(crate) mode: Mode,
    /// Whether other repositories are asked for what is new. If not, nothing is written either.
    pub(crate) reach: Reach,
}

/// Plans images of a project, one after the other. What was found out for one holds for the next.
#[derive(Debug)]
pub(crate) struct Planner<'a> {
    project: &'a Project,
    session: Option<&'a Session>,
    options: PlanOptions,
    reach: Reach,
    answers: Answers<'a>,
    facts: Facts,
    images: BTreeMap<String, StageImage>,
}

impl<'a> Planner<'a> {
    /// Nothing is asked yet.
    pub(crate) fn new(project: &'a Project, request: PlanRequest<'a>) -> Self {
        let PlanRequest { session, platform, mode, reach } = request;
        let answers = Answers {
            repositories: Repositories::new(project, session, mode, reach),
            memory: Memory::new(session.map(|session| &session.store)),
            sums: project.file.images().any(|(_, image)| image.rules.git.len() > 1),
            warned: BTreeSet::new(),
        };
        let options = PlanOptions { cache_version: SCHEME.to_owned(), mode, ..PlanOptions::new(platform) };
        let (facts, images) = (Facts::default(), BTreeMap::new());
        Self { project, session, options, reach, answers, facts, images }
    }

    /// Plans an image and those that it needs.
    ///
    /// # Errors
    /// When git or the store cannot answer, or a mapping takes no file.
    pub(crate) fn plan(&mut self, image: ImageId) -> Result<Plan, Failure> {
        for _ in 0..ROUNDS_MAX {
            match plan::plan(&self.project.file, image, &self.options, &self.facts) {
                Ok(Planning::Done(plan)) => {
                    if self.reach == Reach::Network {
                        self.answers.memory.keep();
                    }
                    return Ok(plan);
                }
                Ok(Planning::Needs(needs)) => needs.into_iter().try_for_each(|need| self.answer(need))?,
                Err(error @ PlanError::EmptyMapping { span, .. }) => {
                    let message = error.to_string();
                    let (what, advice) = message.split_once("; ").unwrap_or((&message, "check it"));
                    let diagnostic = Diagnostic::error("empty-mapping", span, what).hint(advice);
                    return Err(self.project.invalid(diagnostic));
                }
            }
        }
        Err(Failure::new(Kind::Bug, "planning does not come to an end"))
    }

    fn answer(&mut self, need: Need) -> Result<(), Failure> {
        let Need::Stage(signature) = need else { return self.answers.answer(need, &mut self.facts) };
        let name = self.project.stage_name(&signature);
        let found = match self.session {
            Some(session) => StageImage::find(session, &name, &signature)?,
            None => None,
        };
        self.facts.stages.insert(signature.clone(), found.as_ref().map(StageImage::known));
        self.images.extend(found.map(|image| (signature, image)));
        Ok(())
    }

    /// Forgets what the store knew of stages, because that has changed.
    pub(crate) fn forget_stages(&mut self) {
        self.facts.stages.clear();
        self.images.clear();
    }

    /// Whether the image of a stage is there now.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) fn is_there(&self, signature: &str) -> Result<bool, Failure> {
        let name = self.project.stage_name(signature);
        match self.session {
            Some(session) => Ok(StageImage::find(session, &name, signature)?.is_some()),
            None => Ok(false),
        }
    }

    /// What the store knows of stages that were asked for, by signature.
    pub(crate) fn images(&self) -> &BTreeMap<String, StageImage> {
        &self.images
    }

    /// The repositories of all mappings of the images planned so far.
    pub(crate) fn repositories(&self) -> BTreeMap<GitSource, Arc<Repository>> {
        let opened = self.answers.repositories.opened.iter();
        opened.map(|(source, opened)| (source.clone(), opened.repository.clone())).collect()
    }
}
