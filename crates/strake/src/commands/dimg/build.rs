//! `strake dimg build`.

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use strake_engine::Cancellation;
use strake_frontend::stagefile::plan::{Action, Mode, Plan, Start};
use strake_frontend::stagefile::{ImageId, Rules};

use super::assemble::{self, Assembly};
use super::introspect::Introspection;
use super::printer::Printer;
use super::shown::Shown;
use crate::args::{DimgBuildArgs, IntrospectArgs, ProgressMode};
use crate::assembly::{Assembler, Shared, Shows};
use crate::commands::{in_session, ui};
use crate::failure::Failure;
use crate::project::{PlanRequest, Planner, Project, Reach, select};
use crate::session::Session;
use crate::settings::Settings;
use crate::ui::conveyor::ConveyorRows;

/// `strake dimg build`.
pub(super) fn build(args: &DimgBuildArgs, mut settings: Settings) -> Result<u8, Failure> {
    let started = Instant::now();
    let options = ui(&settings, "Building", args.progress, args.rows.quiet);
    settings.log_in(&args.login, &[])?;
    check_terminal(&args.introspect)?;
    let printer = Printer::new(&args.rows, &settings);
    // Where there is no store yet, a dry run makes none.
    if args.dry_run && !args.project.dev && has_no_store(&settings.root) {
        let result = dry_run(args, &settings, None, &printer);
        printer.running_time(started.elapsed())?;
        return result;
    }
    in_session(settings, options, |session| {
        let result = match args.dry_run {
            true => dry_run(args, &session.settings, Some(session), &printer),
            false => build_in(args, session, &printer),
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

fn build_in(args: &DimgBuildArgs, session: &Session, printer: &Printer) -> Result<u8, Failure> {
    let project = Project::open(&args.project, &session.settings, &session.cancellation, Reach::Network)?;
    let images = select(&project.file, &args.dimgs)?;
    build_images(args, session, printer, &project, &images)
}

/// Assembles what is missing of these images.
///
/// # Errors
/// When a stage cannot be assembled. What is finished stays.
pub(super) fn build_images(
    args: &DimgBuildArgs,
    session: &Session,
    printer: &Printer,
    project: &Project,
    images: &[ImageId],
) -> Result<u8, Failure> {
    let introspection = Introspection::new(&args.introspect, &project.file)?;
    let mut planner = Planner::new(
        project,
        PlanRequest {
            session: Some(session),
            platform: session.settings.platform.clone(),
            mode: mode(args),
            reach: Reach::Network,
        },
    );
    // Repositories are opened by planning; what is planned once more while stages are assembled costs little.
    let mut plan = || images.iter().try_for_each(|image| planner.plan(*image).map(drop));
    match printer.verbose {
        true => printer.during(0, "calculating stages signatures", plan)?,
        false => plan()?,
    }
    let assembler = Assembler {
        session,
        project,
        repositories: planner.repositories(),
        platform: session.settings.platform.clone(),
        labels: assemble::labels(&project.name, mode(args)),
        network: session.settings.network,
        tools_dir: session.settings.variable("STRAKE_TOOLS").map(PathBuf::from),
        ssh_agent: project.ssh_agent().map(Path::to_owned),
        shared: Shared::default(),
        shows: shows(args, session),
    };
    let mut assembly = Assembly {
        session,
        project,
        planner: &mut planner,
        lock_timeout: Duration::from_secs(args.lock_timeout),
        printer,
        assembler,
        introspection,
    };
    for image in images.iter().copied() {
        let level = match project.file.image(image).name.as_str() {
            Some(name) => {
                printer.print(&printer.layout.heading(0, name))?;
                1
            }
            None => 0,
        };
        assembly.image(image, level)?;
    }
    assembly.look_at_the_rest(images)?;
    Ok(0)
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

/// The images that a stage needs, with what is said while they are built.
pub(super) fn needed(rules: &Rules, action: &Action) -> Vec<(&'static str, ImageId)> {
    match action {
        Action::From(Start::Image { image, .. }) => vec![("building from dimg", *image)],
        Action::Import(steps) => {
            let artifacts = steps.iter().map(|step| rules.imports[step.import].artifact);
            artifacts.map(|artifact| ("building artifact", artifact)).collect()
        }
        _ => Vec::new(),
    }
}
