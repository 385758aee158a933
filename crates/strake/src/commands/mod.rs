//! One module per command, or per few that are alike.

mod archive;
mod build;
mod containers;
mod dimg;
mod docs;
mod doctor;
mod images;
mod output;
mod prune;
pub(crate) mod room;
pub(crate) mod run;
mod suggest;
mod transfer;

use crate::args::{Cli, Command, ProgressMode};
use crate::failure::Failure;
use crate::session::Session;
use crate::settings::{Outside, Settings};
use crate::ui::UiOptions;

/// Does what was asked and answers the exit status.
///
/// # Errors
/// When it cannot even begin; later failures have been shown already.
pub(crate) fn run(cli: Cli) -> Result<u8, Failure> {
    match cli.command {
        // What needs no store needs no settings either, and must work on a machine that lacks everything.
        Command::Version => output::line(concat!("strake ", env!("CARGO_PKG_VERSION"))).map(|()| 0),
        Command::Completion(args) => docs::completion(args.shell),
        Command::Man(args) => docs::man(&args.directory),
        Command::Slug(args) => dimg::slug_of(&args),
        command => {
            let settings = Settings::load(&cli.global, Outside::of_process())?;
            crate::report::set_colour(settings.colour);
            if let Some(filter) = &settings.log {
                trace(filter)?;
            }
            with_settings(command, settings)
        }
    }
}

/// Shows developers what happens inside (`STRAKE_LOG=strake_engine=debug`).
fn trace(filter: &str) -> Result<(), Failure> {
    let filter = tracing_subscriber::EnvFilter::try_new(filter)
        .map_err(|error| Failure::input(format!("STRAKE_LOG={filter:?}: {error}")))?;
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).finish();
    tracing::subscriber::set_global_default(subscriber)
        .map_err(|error| Failure::new(crate::failure::Kind::Bug, error.to_string()))
}

fn with_settings(command: Command, settings: Settings) -> Result<u8, Failure> {
    match command {
        Command::Build(args) => build::build(&args, settings),
        Command::Run(args) => run::run(&args, settings),
        Command::Pull(args) => transfer::pull(&args, settings),
        Command::Push(args) => transfer::push(&args, settings),
        Command::Tag(args) => images::tag(&args, settings),
        Command::Images(args) => images::list(&args, settings),
        Command::Rmi(args) => images::remove(&args, settings),
        Command::Inspect(args) => images::inspect(&args, settings),
        Command::History(args) => images::history(&args, settings),
        Command::Import(args) => archive::import(&args, settings),
        Command::Load(args) => archive::load(&args, settings),
        Command::Save(args) => archive::save(&args, settings),
        Command::Du(args) => prune::usage(&args, settings),
        Command::Prune(args) => prune::prune(&args, settings),
        Command::Dimg(args) => dimg::dimg(args, settings),
        Command::List(args) => dimg::list(args, &settings),
        Command::Stage(args) => dimg::stage(args, settings),
        Command::Doctor => doctor::doctor(&settings),
        Command::Completion(_) | Command::Man(_) | Command::Slug(_) | Command::Version => Ok(0),
    }
}

/// Opens a session, does the work in it, and shows how it ended.
fn in_session(
    settings: Settings,
    options: UiOptions,
    work: impl FnOnce(&Session) -> Result<u8, Failure>,
) -> Result<u8, Failure> {
    let session = Session::open(settings, options)?;
    let result = work(&session);
    Ok(session.conclude(result))
}

/// How a command shows its progress.
fn ui(settings: &Settings, title: &'static str, flag: Option<ProgressMode>, quiet: bool) -> UiOptions {
    let mode = if quiet { ProgressMode::Quiet } else { flag.unwrap_or(settings.progress) };
    crate::ui::announce(mode);
    UiOptions { mode, colour: settings.colour, explain: false, title }
}
