//! The command line of strake.
//!
//! Read in this order: `args` (what was typed), `settings` (what holds), `session` (what a command works with),
//! `project` (a stage file and what it asks of git), `commands` (what is done), `ui` (what is seen meanwhile), `report` and `failure` (how it ends).

mod args;
mod assembly;
mod commands;
mod failure;
mod project;
mod report;
mod session;
mod settings;
mod signals;
mod source;
mod ssh;
mod tidy;
mod ui;

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::process::ExitCode;

use args::Chosen;
use failure::{Failure, Kind};

fn main() -> ExitCode {
    // Before anything else: this process may be meant to become the first one of a container.
    if std::env::args_os().nth(1).as_deref() == Some(OsStr::new(strake_exec::INIT_ARG)) {
        strake_exec::init_main();
    }
    std::panic::set_hook(Box::new(report_panic));
    if std::env::args_os().nth(1).as_deref() == Some(OsStr::new(tidy::TIDY_ARG)) {
        tidy::tidy_main(std::env::args_os().nth(2), std::env::args_os().nth(3));
        return ExitCode::SUCCESS;
    }
    ExitCode::from(run(std::env::args_os()))
}

/// Does what the arguments say and answers the exit status.
fn run(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let done = match args::choose(arguments, &project::look) {
        Ok(Chosen::Command(cli)) => commands::run(*cli),
        Ok(Chosen::Usage(error)) => return answer(&error),
        Err(failure) => Err(failure),
    };
    match done {
        Ok(code) => code,
        Err(failure) => {
            report::print(&failure);
            failure.kind.code()
        }
    }
}

/// Prints the help that was asked for, or what is wrong with the arguments.
fn answer(error: &clap::Error) -> u8 {
    if let Some(failure) = args::refusal(error) {
        report::print(&failure);
        return failure.kind.code();
    }
    // Nobody can be told that standard error is closed.
    let _ = error.print();
    if error.use_stderr() { Kind::Input.code() } else { 0 }
}

/// A panic is a bug of ours, whatever thread it happens on: nothing the program holds can be trusted any more.
#[expect(clippy::exit, reason = "other threads may be stuck for good; the store survives a kill at any time")]
fn report_panic(panic: &std::panic::PanicHookInfo<'_>) {
    ui::restore_terminal();
    let text = panic.payload_as_str().unwrap_or("unknown panic");
    let place =
        panic.location().map_or_else(String::new, |place| format!(" at {}:{}", place.file(), place.line()));
    report::print(&Failure::new(Kind::Bug, format!("{text}{place}")));
    let backtrace = std::backtrace::Backtrace::capture();
    if backtrace.status() == std::backtrace::BacktraceStatus::Captured {
        let _ = writeln!(std::io::stderr(), "{backtrace}");
    }
    std::process::exit(i32::from(Kind::Bug.code()))
}
