//! Plans: what the frontend asks for is looked up, and it is asked again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use strake_frontend::Diagnostic;
use strake_frontend::stagefile::plan::{
    self, Action, Facts, Mode, Need, Plan, PlanError, PlanOptions, Planning, Start,
};
use strake_frontend::stagefile::{GitSource, ImageId, Rules};
use strake_git::Repository;
use strake_oci::Platform;

use super::answers::Answers;
use super::memory::Memory;
use super::repositories::Repositories;
use super::shelves::{Candidate, Shelves};
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
    shelves: Option<Shelves<'a>>,
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
        Self { project, session, options, reach, answers, facts, images, shelves: None }
    }

    /// The same, and stages that are not here are looked for in these repositories.
    pub(crate) fn with_shelves(mut self, shelves: Shelves<'a>) -> Self {
        self.shelves = Some(shelves);
        self
    }

    /// Another one, that begins with what was found out so far.
    pub(crate) fn another(&self) -> Self {
        Self {
            options: self.options.clone(),
            answers: self.answers.another(),
            facts: self.facts.clone(),
            images: self.images.clone(),
            shelves: self.shelves.clone(),
            ..*self
        }
    }

    /// The repositories that stages are looked for in.
    pub(crate) fn shelves(&mut self) -> Option<&mut Shelves<'a>> {
        self.shelves.as_mut()
    }

    /// Plans an image and those that it needs.
    ///
    /// # Errors
    /// When git or the store cannot answer, or a mapping takes no file.
    pub(crate) fn plan(&mut self, image: ImageId) -> Result<Plan, Failure> {
        for _ in 0..ROUNDS_MAX {
            match plan::plan(&self.project.file, image, &self.options, &self.facts) {
                Ok(Planning::Done(plan)) => {
                    if self.discover(&plan)? {
                        continue;
                    }
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
        self.learn(signature)
    }

    /// Notes what is known under a signature: the image that was found in a repository, or what the store has.
    fn learn(&mut self, signature: String) -> Result<(), Failure> {
        let candidate = self.shelves.as_ref().and_then(|shelves| shelves.hit(&signature));
        let (known, image) = match (candidate, self.session) {
            (Some(candidate), _) => (Some(candidate.known()), Some(StageImage::remote(&candidate.image))),
            (None, Some(session)) => {
                let found = self.local(session, &signature)?;
                (found.as_ref().map(StageImage::known), found)
            }
            (None, None) => (None, None),
        };
        self.facts.stages.insert(signature.clone(), known);
        match image {
            Some(image) => self.images.insert(signature, image),
            None => self.images.remove(&signature),
        };
        Ok(())
    }

    /// Looks in the repositories for the last stage that would be assembled and is there, of the image and of those
    /// that the assembly needs. Answers whether one was found, or one that was found does not fit after all: then
    /// everything is planned anew. One stage near the end makes all before it unnecessary, so nothing else is asked.
    fn discover(&mut self, plan: &Plan) -> Result<bool, Failure> {
        let Some(shelves) = &mut self.shelves else { return Ok(false) };
        let mut waiting = vec![plan.image];
        let mut seen = BTreeSet::new();
        while let Some(image) = waiting.pop() {
            if !seen.insert(image) {
                continue;
            }
            let conveyor = &plan.conveyors[&image];
            let missing = conveyor.to_assemble();
            for stage in conveyor.stages[missing.clone()].iter().rev() {
                let did_not_fit = shelves.hit(&stage.signature).is_some();
                if !did_not_fit && !shelves.may_have(&stage.signature) {
                    continue;
                }
                if shelves.advance(&stage.signature)? || did_not_fit {
                    self.learn(stage.signature.clone())?;
                    return Ok(true);
                }
            }
            let rules = &self.project.file.image(image).rules;
            let stages = conveyor.stages[missing].iter();
            waiting.extend(stages.flat_map(|stage| needed(rules, &stage.action)).map(|(_, needed)| needed));
        }
        Ok(false)
    }

    /// Looks in the repositories for one stage.
    ///
    /// # Errors
    /// When a registry does not answer and that must not be.
    pub(crate) fn look_for(&mut self, signature: &str) -> Result<Option<Candidate>, Failure> {
        let Some(shelves) = &mut self.shelves else { return Ok(None) };
        let is_there = shelves.hit(signature).is_some() || shelves.advance(signature)?;
        Ok(is_there.then(|| shelves.take(signature)).flatten())
    }

    /// Takes the image that was found for a signature in a repository.
    pub(crate) fn take(&mut self, signature: &str) -> Option<Candidate> {
        self.shelves.as_mut()?.take(signature)
    }

    /// Forgets what the store knew of stages, because that has changed.
    pub(crate) fn forget_stages(&mut self) {
        self.facts.stages.clear();
        self.images.clear();
    }

    /// Forgets also what was found in the repositories: somebody else here has taken it, or found it to be no good.
    pub(crate) fn look_anew(&mut self) {
        self.forget_stages();
        if let Some(shelves) = &mut self.shelves {
            shelves.look_anew();
        }
    }

    /// Whether the image of a stage is there now.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) fn is_there(&mut self, signature: &str) -> Result<bool, Failure> {
        match self.session {
            Some(session) => Ok(self.local(session, signature)?.is_some()),
            None => Ok(false),
        }
    }

    /// The image of a stage in the store. Where trust matters, one that came from a registry without anybody looking who
    /// signed it is not there, and neither is one that was made of such.
    fn local(&mut self, session: &Session, signature: &str) -> Result<Option<StageImage>, Failure> {
        let name = self.project.stage_name(signature);
        let found = StageImage::find(session, &name, signature)?;
        if found.as_ref().is_some_and(|found| !found.is_trusted) {
            self.answers.warn(
                "stages in the store that no trusted key vouches for count as not there: they came from a registry, or \
                 were made of what did"
                    .to_owned(),
            );
            return Ok(None);
        }
        Ok(found)
    }

    /// Whether the image of a stage is in a repository now. Then everything is looked for anew.
    ///
    /// # Errors
    /// When a registry does not answer and that must not be.
    pub(crate) fn has_appeared(&mut self, signature: &str) -> Result<bool, Failure> {
        let Some(shelves) = &mut self.shelves else { return Ok(false) };
        let has_appeared = shelves.has_appeared(signature)?;
        if has_appeared {
            shelves.look_again();
        }
        Ok(has_appeared)
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

/// The images that a stage needs, with what is said while they are built.
pub(crate) fn needed(rules: &Rules, action: &Action) -> Vec<(&'static str, ImageId)> {
    match action {
        Action::From(Start::Image { image, .. }) => vec![("building from dimg", *image)],
        Action::Import(steps) => {
            let artifacts = steps.iter().map(|step| rules.imports[step.import].artifact);
            artifacts.map(|artifact| ("building artifact", artifact)).collect()
        }
        _ => Vec::new(),
    }
}
