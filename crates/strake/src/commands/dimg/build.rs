//! `strake dimg build`.

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use strake_engine::Cancellation;
use strake_engine::lock::Hold;
use strake_frontend::stagefile::ImageId;
use strake_frontend::stagefile::plan::{Mode, Plan};
use strake_oci::Reference;

use super::assemble::{self, Assembly};
use super::crew::{Crew, Member, Place};
use super::introspect::Introspection;
use super::locks::Resources;
use super::printer::Printer;
use super::push::{Push, PushWhat, Stages, log_in, note_use, repository};
use super::shown::Shown;
use crate::args::{DimgBpArgs, DimgBuildArgs, IntrospectArgs, ProgressMode};
use crate::assembly::{Assembler, Shared, Shows};
use crate::commands::{in_session, output, ui};
use crate::failure::Failure;
use crate::project::{
    PlanRequest, Planner, Project, Reach, Role, Shelf, Shelves, Unreachable, needed, repository_name, select,
};
use crate::session::Session;
use crate::settings::Settings;
use crate::ui::conveyor::ConveyorRows;

/// `strake dimg build`.
pub(super) fn build(args: &DimgBuildArgs, mut settings: Settings) -> Result<u8, Failure> {
    let started = Instant::now();
    let options = ui(&settings, "Building", args.progress, args.rows.quiet);
    let repo = main_repository(args, &settings);
    log_in(&mut settings, &args.login, repo.as_deref())?;
    settings.read_keys(&args.repositories.keys)?;
    check_terminal(&args.introspect)?;
    let printer = Printer::new(&args.rows, &settings);
    // Where there is no store yet, a dry run makes none.
    if args.dry_run && !args.project.dev && repo.is_none() && has_no_store(&settings.root) {
        let result = dry_run(args, &settings, None, &printer);
        printer.running_time(started.elapsed())?;
        return result;
    }
    in_session(settings, options, |session| {
        let result = match args.dry_run {
            true => dry_run(args, &session.settings, Some(session), &printer),
            false => build_in(args, session, &printer, None),
        };
        session.ui.finish();
        printer.running_time(started.elapsed())?;
        result
    })
}

/// `strake dimg bp`: what is planned for building holds for pushing.
pub(super) fn build_and_push(mut args: DimgBpArgs, mut settings: Settings) -> Result<u8, Failure> {
    let started = Instant::now();
    log_in(&mut settings, &args.build.login, args.build.dimgs.last().map(String::as_str))?;
    settings.read_keys(&args.build.repositories.keys)?;
    check_terminal(&args.build.introspect)?;
    let printer = Printer::new(&args.build.rows, &settings);
    let Some(repository) = args.build.dimgs.pop() else {
        return Err(Failure::input("no repository is named").hint("strake dimg bp [DIMG ...] REPO"));
    };
    let stages = if args.with_stages { Stages::Too } else { Stages::Not };
    let what = PushWhat { repository: &repository, stages, tags: &args.tags };
    let options = ui(&settings, "Building", args.build.progress, args.build.rows.quiet);
    in_session(settings, options, |session| {
        let result = match args.build.dry_run {
            true => dry_run(&args.build, &session.settings, Some(session), &printer),
            false => build_in(&args.build, session, &printer, Some(&what)),
        };
        session.ui.finish();
        printer.running_time(started.elapsed())?;
        result
    })
}

fn has_no_store(root: &Path) -> bool {
    std::fs::read_dir(root).map_or(true, |mut entries| entries.next().is_none())
}

/// A shell that nobody can type into would wait for ever.
fn check_terminal(asked: &IntrospectArgs) -> Result<(), Failure> {
    let has_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    if *asked == IntrospectArgs::default() || has_terminal {
        return Ok(());
    }
    Err(Failure::input("introspection opens a shell, and there is no terminal")
        .hint("leave the --introspect options out, or start strake on a terminal"))
}

fn mode(args: &DimgBuildArgs) -> Mode {
    if args.project.dev { Mode::Developer } else { Mode::Committed }
}

fn build_in(
    args: &DimgBuildArgs,
    session: &Session,
    printer: &Printer,
    push: Option<&PushWhat<'_>>,
) -> Result<u8, Failure> {
    let project = Project::open(&args.project, &session.settings, &session.cancellation, Reach::Network)?;
    let push = push.map(|what| Push::new(session, &project, printer, what)).transpose()?;
    let push = push.map(|push| push.planned(mode(args)));
    let _images = Resources::new(session, args.lock_timeout).images(&project, Hold::Shared)?;
    let images = select(&project.file, &args.dimgs)?;
    build_images(args, session, printer, &project, &images, push.as_ref())
}

/// Assembles what is missing of these images, and pushes them if that is asked for.
///
/// # Errors
/// When a stage cannot be assembled. What is finished stays.
pub(super) fn build_images(
    args: &DimgBuildArgs,
    session: &Session,
    printer: &Printer,
    project: &Project,
    images: &[ImageId],
    push: Option<&Push<'_>>,
) -> Result<u8, Failure> {
    let introspection = Introspection::new(&args.introspect, &project.file)?;
    let main = main_repository(args, &session.settings);
    let main = main.map(|name| repository(&name, session, project)).transpose()?;
    let mut planner = Planner::new(
        project,
        PlanRequest {
            session: Some(session),
            platform: session.settings.platform.clone(),
            mode: mode(args),
            reach: Reach::Network,
        },
    )
    .with_shelves(shelves(args, session, project)?);
    // Repositories are opened by planning; what is planned once more while stages are assembled costs little.
    let mut plan = || images.iter().map(|image| planner.plan(*image)).collect::<Result<Vec<_>, Failure>>();
    let plans = match printer.verbose {
        true => printer.during(0, "calculating stages signatures", plan)?,
        false => plan()?,
    };
    let assembler = Assembler {
        session,
        project,
        repositories: planner.repositories(),
        platform: session.settings.platform.clone(),
        labels: assemble::labels(project, mode(args), &session.settings.platform)?,
        network: session.settings.network,
        tools_dir: session.settings.variable("STRAKE_TOOLS").map(PathBuf::from),
        ssh_agent: project.ssh_agent().map(Path::to_owned),
        shared: Shared::default(),
        shows: shows(args, session),
    };
    let resources = Resources::new(session, args.lock_timeout);
    let shared_locks =
        session.settings.coordinator(args.repositories.coordination.coordinate.as_ref(), main.is_some())?;
    let crew = Arc::new(crew(args, session, printer, project, &plans));
    let template = crew.has_tasks().then(|| Mutex::new(planner.another()));
    let work = |member: Member<'_>, image: ImageId, place: Place| {
        let template = template.as_ref().expect("work is begun only where there are tasks");
        let mut planner = template.lock().unwrap_or_else(PoisonError::into_inner).another();
        let mut assembly = Assembly {
            session,
            project,
            planner: &mut planner,
            resources,
            shared_locks: shared_locks.clone(),
            final_repository: None,
            printer: printer.on_sheet(&crew, image),
            assembler: &assembler,
            introspection: Introspection::default(),
            crew: &crew,
            member,
        };
        assembly.image(image, place.level)
    };
    let mut assembly = Assembly {
        session,
        project,
        planner: &mut planner,
        resources,
        shared_locks: shared_locks.clone(),
        final_repository: final_repository(args, session, project)?,
        printer: printer.clone(),
        assembler: &assembler,
        introspection,
        crew: &crew,
        member: crew.outsider(),
    };
    let uses = main.filter(|_| mode(args) == Mode::Committed);
    std::thread::scope(|scope| {
        if crew.has_tasks() {
            scope.spawn(|| crew.begin_all(scope, &work));
        }
        let result = in_turn(&mut assembly, images, uses.as_ref());
        crew.end();
        result
    })
    .or_else(|failure| Err(what_failed(project, printer, &crew)?.unwrap_or(failure)))?;
    assembly.look_at_the_rest(images)?;
    if let Some(push) = push {
        push.all(&mut planner, images)?;
    }
    Ok(0)
}

/// The images that are assembled at the same time: none where there is something to look into, or progress is shown as
/// of any build.
fn crew(
    args: &DimgBuildArgs,
    session: &Session,
    printer: &Printer,
    project: &Project,
    plans: &[Plan],
) -> Crew {
    let jobs = args.jobs.unwrap_or(session.settings.jobs);
    if args.introspect != IntrospectArgs::default() || shows(args, session) == Shows::Progress {
        return Crew::new(Vec::new(), jobs);
    }
    let mut tasks = Vec::new();
    for plan in plans {
        let level = usize::from(project.file.image(plan.image).name.as_str().is_some());
        enlist(project, printer, plan, plan.image, Place { host: None, level }, &mut tasks);
    }
    Crew::new(tasks, jobs)
}

/// An image that is to be assembled, and those that it needs then: each once, in the order of their rows.
fn enlist(
    project: &Project,
    printer: &Printer,
    plan: &Plan,
    image: ImageId,
    place: Place,
    tasks: &mut Vec<(ImageId, Place)>,
) {
    let conveyor = &plan.conveyors[&image];
    if conveyor.to_assemble().is_empty() || tasks.iter().any(|(task, _)| *task == image) {
        return;
    }
    tasks.push((image, place));
    let mut rows = ConveyorRows::new(printer.layout, place.level);
    for (index, stage) in conveyor.stages.iter().enumerate() {
        let (_, level) = rows.enter(stage.kind.group());
        if conveyor.to_assemble().contains(&index) {
            for (_, needed) in needed(&project.file.image(image).rules, &stage.action) {
                let place = Place { host: Some(image), level: level + 1 };
                enlist(project, printer, plan, needed, place, tasks);
            }
        }
    }
}

/// Shows the rows of all images, one after the other, and does what is left to do of them.
fn in_turn(
    assembly: &mut Assembly<'_, '_>,
    images: &[ImageId],
    uses: Option<&Reference>,
) -> Result<(), Failure> {
    let (session, project, crew) = (assembly.session, assembly.project, assembly.crew);
    for image in images.iter().copied() {
        let level = match project.file.image(image).name.as_str() {
            Some(name) => {
                assembly.printer.print(&assembly.printer.layout.heading(0, name))?;
                1
            }
            None => 0,
        };
        let finished = if crew.shows(image) {
            crew.show(image, &mut output::write)?;
            let (finished, _) = crew.outsider().wait_for(image)?;
            assembly.planner.look_anew();
            finished
        } else {
            assembly.image(image, level)?
        };
        assembly.publish_final(&finished)?;
        if let Some(repository) = uses
            && assembly.planner.shelves().is_some_and(|shelves| shelves.answers(Role::Main))
        {
            note_use(session, project, repository, image, &finished.reference);
        }
    }
    Ok(())
}

/// What failed in a task, if one did. Its rows come last, where they were not shown.
fn what_failed(project: &Project, printer: &Printer, crew: &Crew) -> Result<Option<Failure>, Failure> {
    let Some((image, place, failure)) = crew.failure() else { return Ok(None) };
    let name = project.file.image(image).name.to_string();
    let mut heading = Some(printer.layout.heading(place.level.saturating_sub(1), &name));
    crew.show(image, &mut |text| {
        heading.take().map_or(Ok(()), |heading| output::write(&heading))?;
        output::write(text)
    })?;
    Ok(Some(failure))
}

/// The repository of the stages: as typed, or as set.
fn main_repository(args: &DimgBuildArgs, settings: &Settings) -> Option<String> {
    args.repositories.repo.clone().or_else(|| settings.repo.as_ref().map(repository_name))
}

/// The repositories that stages are exchanged with while building.
fn shelves<'s>(
    args: &DimgBuildArgs,
    session: &'s Session,
    project: &Project,
) -> Result<Shelves<'s>, Failure> {
    let named = &args.repositories;
    let main = main_repository(args, &session.settings);
    let roles = [
        (Role::Main, main.as_slice()),
        (Role::Cache, &named.cache_repos),
        (Role::Secondary, &named.secondary_repos),
    ];
    let mut shelves = Vec::new();
    for (role, names) in roles {
        for name in names {
            shelves.push(Shelf { role, repository: repository(name, session, project)? });
        }
    }
    Ok(Shelves::new(session, &project.name, shelves, Unreachable::GoOn))
}

fn final_repository(
    args: &DimgBuildArgs,
    session: &Session,
    project: &Project,
) -> Result<Option<Reference>, Failure> {
    args.repositories.final_repo.as_ref().map(|name| repository(name, session, project)).transpose()
}

/// Who asks for events gets what commands print with them.
fn shows(args: &DimgBuildArgs, session: &Session) -> Shows {
    let is_for_programs = session.settings.progress == ProgressMode::Rawjson;
    if args.progress.is_some() || is_for_programs { Shows::Progress } else { Shows::Output }
}

fn dry_run(
    args: &DimgBuildArgs,
    settings: &Settings,
    session: Option<&Session>,
    printer: &Printer,
) -> Result<u8, Failure> {
    let cancellation = session.map_or_else(Cancellation::new, |session| session.cancellation.clone());
    let project = Project::open(&args.project, settings, &cancellation, Reach::Local)?;
    let images = select(&project.file, &args.dimgs)?;
    // Nothing is opened, but what is wrong is told.
    Introspection::new(&args.introspect, &project.file)?;
    let platform = settings.platform.clone();
    let mut planner =
        Planner::new(&project, PlanRequest { session, platform, mode: mode(args), reach: Reach::Local });
    if let Some(session) = session {
        planner = planner.with_shelves(shelves(args, session, &project)?);
    }
    let mut shown = BTreeSet::new();
    for image in images {
        let plan = planner.plan(image)?;
        show(&project, &planner, printer, &plan, &mut shown)?;
    }
    Ok(0)
}

/// Prints the rows of an image, and in front of the stages that need them those of other images that would be assembled.
fn show(
    project: &Project,
    planner: &Planner<'_>,
    printer: &Printer,
    plan: &Plan,
    seen: &mut BTreeSet<ImageId>,
) -> Result<(), Failure> {
    let mut text = String::new();
    let level = match project.file.image(plan.image).name.as_str() {
        Some(name) => {
            text += &printer.layout.heading(0, name);
            1
        }
        None => 0,
    };
    let shown = Shown { project, images: planner.images(), printer };
    rows_of(&shown, plan, plan.image, level, seen, &mut text);
    printer.print(&text)
}

/// Images that need one another are no cycle, so this ends; each is told of once.
fn rows_of(
    shown: &Shown<'_>,
    plan: &Plan,
    image: ImageId,
    level: usize,
    seen: &mut BTreeSet<ImageId>,
    text: &mut String,
) {
    seen.insert(image);
    let rules = &shown.project.file.image(image).rules;
    let conveyor = &plan.conveyors[&image];
    let mut rows = ConveyorRows::new(shown.printer.layout, level);
    for (index, row) in shown.rows(rules, conveyor).iter().enumerate() {
        let (heading, own) = rows.enter(row.group);
        text.push_str(&heading);
        if conveyor.to_assemble().contains(&index) {
            for (what, needed) in needed(rules, &conveyor.stages[index].action) {
                if plan.conveyors[&needed].to_assemble().is_empty() || seen.contains(&needed) {
                    continue;
                }
                let name = &shown.project.file.image(needed).name;
                text.push_str(&shown.printer.layout.heading(own, &format!("{what} {name}")));
                rows_of(shown, plan, needed, own + 1, seen, text);
            }
        }
        text.push_str(&rows.stage(row));
    }
}
