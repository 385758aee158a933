//! Assembling the stages of an image that are not there.
//!
//! Stages are assembled one after the other, each under a lock that bears its name. Whoever gets the lock looks again:
//! another process may have assembled the stage meanwhile, and with it everything above may have become needless. So
//! after each stage the image is planned anew with what is there now.
//!
//! **What is kept together.** The signature of a patch before a user stage says nothing of commits. Kept alone, it
//! would be found again after the user stage above had failed for want of a file, and the file that was then committed
//! would never come. So a patch and the user stage it serves get their names together, when both are done. All other
//! stages are kept as soon as they are done, whatever becomes of the next one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use strake_engine::image::{self, PullPolicy};
use strake_engine::lock::{Hold, Lease, SharedLease, SharedLocks};
use strake_engine::{Environment, Event, Holder};
use strake_frontend::dockerfile::ImageFact;
use strake_frontend::stagefile::lower::Below;
use strake_frontend::stagefile::plan::{Action, Conveyor, Found, Mode, Plan, Stage, Start};
use strake_frontend::stagefile::{ImageId, ImageName, Rules};
use strake_oci::{Platform, Reference};

use super::crew::{Claim, Crew, Member, Turn};
use super::introspect::{Introspection, Side};
use super::locks::Resources;
use super::printer::Printer;
use super::shown::{self, Shown};
use crate::assembly::{Assembler, Job, NotAssembled};
use crate::failure::{Failure, Kind};
use crate::project::{self, Planner, Project, SCHEME, StageImage, stage_tag};
use crate::session::Session;
use crate::ui::conveyor::{self, ConveyorRows, State};

/// How often the same stage is assembled within one build before that is given up. Others may delete what was
/// assembled; more than that is no accident.
const ATTEMPTS_MAX: u32 = 3;

/// How often an image is planned anew because one that it needs was not what had been planned.
const SURPRISES_MAX: usize = 10;

/// What the images of one command are assembled with.
pub(super) struct Assembly<'a, 'p> {
    pub(super) session: &'a Session,
    pub(super) project: &'a Project,
    pub(super) planner: &'a mut Planner<'p>,
    /// The locks, and how long to wait for another process that assembles a stage.
    pub(super) resources: Resources<'a>,
    /// The locks of all machines that build with the same repository.
    pub(super) shared_locks: Option<Arc<SharedLocks>>,
    /// Where finished images are sent besides.
    pub(super) final_repository: Option<Reference>,
    pub(super) printer: Printer,
    pub(super) assembler: &'a Assembler<'a>,
    /// Where to open a shell.
    pub(super) introspection: Introspection,
    /// The images that are assembled at the same time.
    pub(super) crew: &'a Arc<Crew>,
    /// Who this is among those who assemble them.
    pub(super) member: Member<'a>,
}

/// A stage that is being assembled. Other machines get it before other processes of this one, which find it here.
struct StageLock<'a> {
    /// With who had it before, if somebody was waited for.
    among_all: Option<(SharedLease, Option<Holder>)>,
    _here: Lease,
    _among_us: Claim<'a>,
}

/// How far the rows of an image are printed.
struct Progress {
    rows: ConveyorRows,
    printed: usize,
    /// Tasks whose rows are among them.
    nested: BTreeSet<ImageId>,
    /// How often what was planned of a task was not what it became.
    surprises: usize,
}

impl Progress {
    /// Plans anew after a task became something else than was planned: once for each that may have changed it.
    fn again(&mut self, task: &ImageName) -> Result<(), Failure> {
        self.surprises += 1;
        if self.surprises <= SURPRISES_MAX {
            return Ok(());
        }
        Err(Failure::environment(format!("{task} becomes another image each time it is looked at"))
            .hint("look for what changes images or commits while they are built; --jobs 1 builds one after the other"))
    }
}

impl<'a> Assembly<'a, '_> {
    /// Assembles what is missing of an image, and of those it needs before the stages that need them.
    ///
    /// # Errors
    /// When a stage cannot be assembled. What is finished stays.
    pub(super) fn image(&mut self, image: ImageId, level: usize) -> Result<Below, Failure> {
        let rows = ConveyorRows::new(self.printer.layout, level);
        let mut progress = Progress { rows, printed: 0, nested: BTreeSet::new(), surprises: 0 };
        let mut assembled: BTreeMap<String, u32> = BTreeMap::new();
        loop {
            self.member.go_on()?;
            if self.session.cancellation.is_requested() {
                return Err(Failure::new(Kind::Interrupted, "stopped between two stages"));
            }
            let plan = self.planner.plan(image)?;
            let conveyor = &plan.conveyors[&image];
            let start = conveyor.to_assemble().start;
            self.print_to(&mut progress, image, conveyor, start)?;
            if start == conveyor.stages.len() {
                return self.below(conveyor, start - 1);
            }
            let unit = start..unit_end(conveyor, start);
            let Some(artifacts) = self.needed(image, &plan, &unit, &mut progress)? else {
                self.planner.forget_stages();
                continue;
            };
            let Some(leases) = self.lock(conveyor, &unit)? else {
                // Somebody else has finished a stage of ours.
                self.planner.forget_stages();
                continue;
            };
            let Some(base) = self.base(conveyor, unit.start, &mut progress)? else {
                // What it was to stand on is not to be had.
                self.planner.forget_stages();
                continue;
            };
            let signature = &conveyor.stages[start].signature;
            if assembled.get(signature) == Some(&ATTEMPTS_MAX) {
                return Err(Failure::environment(format!(
                    "{} was assembled {ATTEMPTS_MAX} times and is not there: something takes it away",
                    self.project.stage_name(signature)
                ))
                .hint("look for what deletes images while they are built"));
            }
            *assembled.entry(signature.clone()).or_default() += 1;
            self.unit(image, conveyor, unit, base, &artifacts, &mut progress)?;
            drop(leases);
            self.planner.forget_stages();
        }
    }

    /// The image of a stage that is there.
    pub(super) fn below(&mut self, conveyor: &Conveyor, stage: usize) -> Result<Below, Failure> {
        self.stage_image(&conveyor.stages[stage].signature)
    }

    /// The same by its signature. One that is in a repository only becomes known here, without its layers.
    pub(super) fn stage_image(&mut self, signature: &str) -> Result<Below, Failure> {
        let reference = self.project.stage_reference(signature)?;
        if let Some(candidate) = self.planner.take(signature) {
            let _naming = self.member.naming();
            // What was made here meanwhile was made because that is no good.
            if !self.member.has_made(signature) {
                self.adopt(&candidate, signature, &reference)?;
            }
        }
        self.known_here(&reference)
    }

    /// What the first stage of a unit stands on.
    fn base(
        &mut self,
        conveyor: &Conveyor,
        first: usize,
        progress: &mut Progress,
    ) -> Result<Option<Below>, Failure> {
        if let Some(below) = first.checked_sub(1) {
            return self.real(&conveyor.stages[below].signature);
        }
        match &conveyor.stages[0].action {
            Action::From(Start::Image { signature, .. }) => self.real(signature),
            Action::From(Start::Reference(name)) => {
                let reference: Reference = name.parse().map_err(|error| {
                    Failure::input(format!("from: {name}: {error}")).hint("write it as NAME[:TAG]")
                })?;
                self.session.permit(&reference)?;
                if let Ok(found) = self.resolve(&reference, PullPolicy::Never) {
                    return Ok(Some(found));
                }
                let (_, level) = progress.rows.enter(None);
                let title = format!("pulling image {}", reference.familiar());
                let pulled =
                    self.printer.during(level, &title, || self.resolve(&reference, PullPolicy::Missing));
                pulled.map(Some)
            }
            _ => unreachable!("the first stage of every conveyor is `from`"),
        }
    }

    fn resolve(&self, reference: &Reference, policy: PullPolicy) -> Result<Below, Failure> {
        let platform = self.assembler.platform.clone();
        let resolve = |env: &Environment<'_>| image::resolve(env, reference, &platform, policy);
        let found = self.session.with_image(&reference.familiar(), Some(&platform), resolve)?;
        let fact = ImageFact { id: found.id, config: found.config };
        Ok(Below { reference: reference.clone(), fact })
    }

    /// Assembles the images that the stages of a unit need, and answers the artifacts among them; nothing when one
    /// that seemed to be there is not to be had.
    fn needed(
        &mut self,
        image: ImageId,
        plan: &Plan,
        unit: &std::ops::Range<usize>,
        progress: &mut Progress,
    ) -> Result<Option<BTreeMap<String, Below>>, Failure> {
        let mut artifacts = BTreeMap::new();
        for stage in &plan.conveyors[&image].stages[unit.clone()] {
            let rules = &self.project.file.image(image).rules;
            for (what, needed) in project::needed(rules, &stage.action) {
                let conveyor = &plan.conveyors[&needed];
                let is_there = conveyor.to_assemble().is_empty();
                let turn = self.member.turn(needed);
                let done = match turn {
                    Turn::Own => None,
                    _ => Some(self.task(image, needed, turn, (what, stage), progress)?),
                };
                // A layer of what was taken from a repository may have turned out to be lost since.
                let done = match done {
                    Some(below) if self.planner.is_there(&below.reference.selector())? => Some(below),
                    _ => None,
                };
                let is_as_planned = match &done {
                    Some(below) => below.reference.selector() == conveyor.signature(),
                    None => turn == Turn::Own || !is_there,
                };
                if !is_as_planned {
                    // It was planned before what is there now.
                    self.planner.look_anew();
                    return progress.again(&self.project.file.image(needed).name).map(|()| None);
                }
                if let Some(below) = done {
                    artifacts.insert(conveyor.signature().to_owned(), below);
                } else if !is_there {
                    let (heading, level) = progress.rows.enter(stage.kind.group());
                    self.printer.print(&heading)?;
                    let title = format!("{what} {}", self.project.file.image(needed).name);
                    let printer = self.printer.clone();
                    let below = printer.during(level, &title, || self.image(needed, level + 1))?;
                    artifacts.insert(conveyor.signature().to_owned(), below);
                } else if matches!(stage.action, Action::Import(_)) {
                    let Some(below) = self.real(conveyor.signature())? else { return Ok(None) };
                    artifacts.insert(conveyor.signature().to_owned(), below);
                }
            }
        }
        Ok(Some(artifacts))
    }

    /// Has a task done that is needed, and shows its rows here if this is their place.
    fn task(
        &mut self,
        image: ImageId,
        needed: ImageId,
        turn: Turn,
        (what, stage): (&str, &Stage),
        progress: &mut Progress,
    ) -> Result<Below, Failure> {
        let (Turn::Task(place) | Turn::Others(place)) = turn else {
            unreachable!("what is no task is assembled by whoever needs it")
        };
        let is_shown_here = place.host == Some(image) && !progress.nested.contains(&needed);
        let title = format!("{what} {}", self.project.file.image(needed).name);
        if is_shown_here {
            progress.nested.insert(needed);
            let (heading, level) = progress.rows.enter(stage.kind.group());
            self.printer.print(&heading)?;
            self.printer.print(&self.printer.layout.row(level, &title, State::Running))?;
            self.member.nest(image, needed);
        }
        if let Turn::Task(_) = turn {
            let sheet = self.printer.on_sheet(self.crew, needed);
            let own = std::mem::replace(&mut self.printer, sheet);
            self.member.carry_out(needed, || self.image(needed, place.level));
            self.printer = own;
        }
        let begun = Instant::now();
        let result = self.member.wait_for(needed);
        if is_shown_here {
            let state = match &result {
                Ok((_, span)) => State::Done(*span),
                Err(_) => State::Failed(begun.elapsed()),
            };
            let (_, level) = progress.rows.enter(stage.kind.group());
            self.printer.print(&self.printer.layout.row(level, &title, state))?;
        }
        result.map(|(below, _)| below)
    }

    /// The locks of the stages of a unit; nothing when one of them is there by now.
    fn lock(
        &mut self,
        conveyor: &Conveyor,
        unit: &std::ops::Range<usize>,
    ) -> Result<Option<Vec<StageLock<'a>>>, Failure> {
        let mut leases = Vec::new();
        for stage in &conveyor.stages[unit.clone()] {
            leases.push(self.lock_stage(&stage.signature)?);
            // What was refused before is there all the same; it is what is assembled anew.
            let was_there = !matches!(stage.found, Found::Absent);
            if !was_there && self.planner.is_there(&stage.signature)? {
                return Ok(None);
            }
        }
        // It may have taken long to get here, and other machines publish meanwhile.
        if self.planner.has_appeared(&conveyor.stages[unit.start].signature)? {
            return Ok(None);
        }
        for (stage, lease) in conveyor.stages[unit.clone()].iter().zip(&leases) {
            if let Some((_, Some(Holder { pid, host, .. }))) = &lease.among_all {
                let name = self.project.stage_name(&stage.signature);
                self.session.ui.event(&Event::Warning(format!(
                    "{name}: process {pid} on {host} is done with it, but its result is not to be found; it is \
                     assembled here"
                )));
            }
        }
        Ok(Some(leases))
    }

    /// Locks a stage: no other process assembles it meanwhile, on this machine and, where machines share locks, on any.
    fn lock_stage(&mut self, signature: &str) -> Result<StageLock<'a>, Failure> {
        let among_us = self.member.claim(signature);
        let resource = format!("{}.image.{}", self.project.name, self.project.stage_name(signature));
        // This one first: so only one process of a machine asks for the other.
        let here = self.resources.take(&resource, Hold::Alone)?;
        let main = self.planner.shelves().and_then(|shelves| shelves.main());
        let among_all = match (&self.shared_locks, main) {
            (Some(locks), Some(main)) => {
                self.resources.take_shared(locks, &stage_tag(&main, signature)?.to_string())?
            }
            _ => None,
        };
        Ok(StageLock { among_all, _here: here, _among_us: among_us })
    }

    /// Assembles stages that are kept together.
    fn unit(
        &mut self,
        image: ImageId,
        conveyor: &Conveyor,
        unit: std::ops::Range<usize>,
        mut below: Below,
        artifacts: &BTreeMap<String, Below>,
        progress: &mut Progress,
    ) -> Result<(), Failure> {
        let mut made = Vec::new();
        for stage in unit {
            let kind = conveyor.stages[stage].kind;
            self.look(image, kind, Side::Before, &below)?;
            let job = Job { image, conveyor, stage, below: &below, artifacts };
            // Package managers do not wait for each other, and some do not even notice.
            let kept = self.assembler.kept_together(&job)?;
            let _kept: Vec<_> = kept.iter().map(|to| self.member.claim(&format!("build_dir {to}"))).collect();
            below = self.stage(&job, progress).map_err(|failed| {
                self.look_at_failure(image, &below, &failed);
                failed.failure
            })?;
            self.look(image, kind, Side::After, &below)?;
            made.push(below.clone());
        }
        for stage in &made {
            let _naming = self.member.naming();
            self.session.with(|env: &Environment<'_>| {
                image::tag(env, &stage.fact.id.to_string(), &stage.reference)
            })?;
            self.member.note_made(&stage.reference.selector());
        }
        for stage in &made {
            self.publish(stage)?;
        }
        Ok(())
    }

    /// Assembles one stage and prints what became of it.
    fn stage(&mut self, job: &Job<'_>, progress: &mut Progress) -> Result<Below, NotAssembled> {
        let Job { image, conveyor, stage: index, .. } = *job;
        let stage = &conveyor.stages[index];
        let rules = &self.project.file.image(image).rules;
        let (heading, level) = progress.rows.enter(stage.kind.group());
        self.printer.print(&heading)?;
        let title = shown::title(stage);
        let has_output = !shown::commands(rules, stage).is_empty();
        let layout = self.printer.layout;
        if has_output {
            self.printer.print(&layout.row(level, &title, State::Building))?;
        }
        let begun = Instant::now();
        let is_within_line = AtomicBool::new(false);
        let assemble = || {
            self.assembler.assemble(job, &|bytes| {
                if let Some(last) = bytes.last()
                    && self.printer.shows_output()
                {
                    is_within_line.store(*last != b'\n', Ordering::Relaxed);
                    self.printer.output(&String::from_utf8_lossy(bytes));
                }
            })
        };
        let result = match self.copied(rules, stage) {
            Some(title) => self.printer.during(level, &title, assemble),
            None => assemble(),
        };
        if is_within_line.into_inner() {
            self.printer.output("\n");
        }
        let state = match &result {
            Ok(_) => State::Done(begun.elapsed()),
            Err(_) => State::Failed(begun.elapsed()),
        };
        let line = match has_output {
            true => layout.row(level, &title, state),
            false => layout.process(level, &title, state),
        };
        self.printer.print(&line)?;
        let made = match &result {
            Ok(below) => StageImage::find(self.session, &below.fact.id.to_string(), &stage.signature)?,
            Err(_) => None,
        };
        let images = self.planner.images();
        let shown = Shown { project: self.project, images, printer: &self.printer };
        let row = shown.assembled(rules, conveyor, index, state, made.as_ref());
        self.printer.print(&conveyor::details(&layout, level, &row))?;
        progress.printed = index + 1;
        result
    }

    /// What is said while a stage copies files of artifacts, if it does.
    fn copied(&self, rules: &Rules, stage: &Stage) -> Option<String> {
        let Action::Import(steps) = &stage.action else { return None };
        let names =
            steps.iter().map(|step| &self.project.file.image(rules.imports[step.import].artifact).name);
        let names: BTreeSet<String> = names.map(ToString::to_string).collect();
        Some(format!("copying artifact {}", names.into_iter().collect::<Vec<_>>().join(", ")))
    }

    /// Prints the rows of stages that nothing is done for.
    fn print_to(
        &mut self,
        progress: &mut Progress,
        image: ImageId,
        conveyor: &Conveyor,
        end: usize,
    ) -> Result<(), Failure> {
        let rules = &self.project.file.image(image).rules;
        let images = self.planner.images();
        let shown = Shown { project: self.project, images, printer: &self.printer };
        for index in progress.printed..end {
            let row = shown.row(rules, conveyor, index);
            self.printer.print(&progress.rows.stage(&row))?;
        }
        self.look_around(image, conveyor, progress.printed..end)?;
        progress.printed = progress.printed.max(end);
        Ok(())
    }
}

/// Where the stages end that are kept together with the first one.
fn unit_end(conveyor: &Conveyor, first: usize) -> usize {
    let Some(served) = conveyor.stages[first].kind.related() else { return first + 1 };
    let is_served = |stage: &Stage| stage.kind.user_stage() == Some(served);
    conveyor.stages.iter().rposition(is_served).map_or(first + 1, |last| last.max(first) + 1)
}

/// The labels that the image of every stage has.
///
/// # Errors
/// When the project's repository cannot be read.
pub(super) fn labels(
    project: &Project,
    mode: Mode,
    platform: &Platform,
) -> Result<BTreeMap<String, String>, Failure> {
    let mut labels = BTreeMap::from([
        ("strake".to_owned(), project.name.clone()),
        ("strake-version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
        ("strake-cache-version".to_owned(), SCHEME.to_owned()),
        ("strake-dimg".to_owned(), "false".to_owned()),
        ("strake-platform".to_owned(), platform.to_string()),
    ]);
    if let Some(repository) = &project.repository {
        let head = repository.head().map_err(|error| Failure::environment(error.to_string()))?;
        labels.extend(head.map(|commit| ("strake-commit".to_owned(), commit.to_string())));
    }
    if mode == Mode::Developer {
        labels.insert("strake-dev-mode".to_owned(), "true".to_owned());
    }
    Ok(labels)
}
