//! `strake dimg stages pull`: getting from a registry what the next build stands on.
//!
//! One stage near the end makes all before it unnecessary. So each image is planned with what the repository has, of
//! which only configurations are read, and the stage that the plan starts from is fetched; nothing of an artifact,
//! unless the stage that takes files from it will be assembled. Signatures follow from the commits that stages record,
//! whether they are here or there: a newer commit is noticed before anything is fetched.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Instant;

use strake_engine::image::{self, Force};
use strake_engine::lock::Hold;
use strake_frontend::stagefile::ImageId;
use strake_frontend::stagefile::plan::Plan;
use strake_oci::Reference;

use super::locks::Resources;
use super::printer::Printer;
use super::push::{in_exchange, planner, repository, split};
use crate::args::StagesPullArgs;
use crate::failure::Failure;
use crate::project::{
    Candidate, Planner, Project, Reach, Role, STAGE_PREFIX, Shelf, Shelves, Unreachable, needed, select,
    stage_tag,
};
use crate::report;
use crate::session::Session;
use crate::settings::Settings;
use crate::ui::conveyor::State;

/// `strake dimg stages pull`.
pub(super) fn pull(args: &StagesPullArgs, settings: Settings) -> Result<u8, Failure> {
    in_exchange(&args.exchange, "Pulling", settings, args.words.last(), |session, printer| {
        let (name, dimgs) = split(&args.words)?;
        let project =
            Project::open(&args.exchange.project, &session.settings, &session.cancellation, Reach::Local)?;
        let images = select(&project.file, dimgs)?;
        let repository = repository(name, session, &project)?;
        let shelf = Shelf { role: Role::Main, repository: repository.clone() };
        let shelves = Shelves::new(session, &project.name, vec![shelf], Unreachable::Fail);
        let resources = Resources::new(session, args.exchange.lock_timeout);
        let _images = match args.exchange.dry_run {
            true => None,
            false => Some(resources.images(&project, Hold::Shared)?),
        };
        let mut planner = planner(session, &project, &args.exchange).with_shelves(shelves);
        let mut pull = Pull {
            session,
            project: &project,
            planner: &mut planner,
            printer,
            resources,
            repository,
            which: if args.all { Which::All } else { Which::Last },
            dry_run: args.exchange.dry_run,
            seen: BTreeSet::new(),
        };
        for image in images {
            let level = match project.file.image(image).name.as_str() {
                Some(name) => {
                    printer.print(&printer.layout.heading(0, name))?;
                    1
                }
                None => 0,
            };
            pull.image(image, level)?;
        }
        Ok(())
    })
}

/// Which stages are fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    /// The last one that can be used.
    Last,
    /// All that are there.
    All,
}

struct Pull<'a, 'p> {
    session: &'a Session,
    project: &'a Project,
    planner: &'a mut Planner<'p>,
    printer: &'a Printer,
    resources: Resources<'a>,
    repository: Reference,
    which: Which,
    dry_run: bool,
    seen: BTreeSet<ImageId>,
}

impl Pull<'_, '_> {
    /// Fetches stages of an image, and then of what it needs.
    fn image(&mut self, image: ImageId, level: usize) -> Result<(), Failure> {
        if !self.seen.insert(image) {
            return Ok(());
        }
        let layout = self.printer.layout;
        self.printer.print(&layout.heading(level, "stages"))?;
        let mut told = BTreeSet::new();
        let plan = loop {
            let plan = self.planner.plan(image)?;
            let conveyor = &plan.conveyors[&image];
            let missing = conveyor.to_assemble();
            for stage in conveyor.stages[missing.clone()].iter().rev() {
                if told.insert(stage.signature.clone()) {
                    self.row(level + 1, &stage.signature, State::NotExist)?;
                }
            }
            let Some(start) = conveyor.start else { break plan };
            let signature = conveyor.stages[start].signature.clone();
            // What is here already makes everything before it unnecessary.
            let Some(candidate) = self.planner.take(&signature) else { break plan };
            if self.fetch(&candidate, &signature, level + 1)? || self.dry_run {
                break plan;
            }
            self.planner.forget_stages();
        };
        let conveyor = &plan.conveyors[&image];
        if self.which == Which::All {
            self.earlier(&plan, image, 0..conveyor.start.unwrap_or(0), level + 1)?;
        }
        self.needed(&plan, image, level)
    }

    /// Fetches the stages before the one that a build starts from.
    fn earlier(
        &mut self,
        plan: &Plan,
        image: ImageId,
        stages: Range<usize>,
        level: usize,
    ) -> Result<(), Failure> {
        for stage in plan.conveyors[&image].stages[stages].iter().rev() {
            if self.planner.is_there(&stage.signature)? {
                continue;
            }
            match self.planner.look_for(&stage.signature)? {
                Some(candidate) => drop(self.fetch(&candidate, &stage.signature, level)?),
                None => self.row(level, &stage.signature, State::NotExist)?,
            }
        }
        Ok(())
    }

    /// An artifact is needed only when the stage that takes files from it will be assembled, or when all are wanted.
    fn needed(&mut self, plan: &Plan, image: ImageId, level: usize) -> Result<(), Failure> {
        let conveyor = &plan.conveyors[&image];
        let rules = &self.project.file.image(image).rules;
        let stages = match self.which {
            Which::All => 0..conveyor.stages.len(),
            Which::Last => conveyor.to_assemble(),
        };
        for stage in &conveyor.stages[stages] {
            for (_, needed) in needed(rules, &stage.action) {
                if self.seen.contains(&needed) {
                    continue;
                }
                let named = self.project.file.image(needed);
                let kind = if named.is_artifact() { "artifact" } else { "dimg" };
                let title = format!("{kind} {}", named.name);
                self.printer.print(&self.printer.layout.heading(level + 1, &title))?;
                self.image(needed, level + 2)?;
            }
        }
        Ok(())
    }

    /// Fetches a stage and gives it its name. Answers whether it is here now.
    fn fetch(&mut self, candidate: &Candidate, signature: &str, level: usize) -> Result<bool, Failure> {
        if self.dry_run {
            self.row(level, signature, State::Pull)?;
            return Ok(false);
        }
        let _transfer = self.resources.transfer(&stage_tag(&self.repository, signature)?)?;
        self.row(level, signature, State::Pulling)?;
        let started = Instant::now();
        let local = self.project.stage_reference(signature)?;
        let fetched = self.session.with(|env| {
            let adopted = image::adopt(env, &candidate.image, std::slice::from_ref(&local))?;
            image::materialise(env, adopted.id).map(drop)
        });
        let Err(error) = fetched else {
            self.row(level, signature, State::Done(started.elapsed()))?;
            return Ok(true);
        };
        self.session.with(|env| image::remove(env, &local.familiar(), Force::Yes))?;
        self.row(level, signature, State::NotPulled)?;
        if !error.is_about_content() {
            return Err(error.into());
        }
        report::warn(&format!("{STAGE_PREFIX}{signature}: {error}"));
        if let Some(shelves) = self.planner.shelves() {
            // Nobody publishes while this command runs.
            shelves.reject(signature, candidate.image.digest(), BTreeSet::new());
        }
        Ok(false)
    }

    fn row(&self, level: usize, signature: &str, state: State) -> Result<(), Failure> {
        let title = format!("{STAGE_PREFIX}{signature}");
        self.printer.print(&self.printer.layout.row(level, &title, state))
    }
}
