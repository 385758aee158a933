//! Containers that really run: as root, and as an ordinary user in a user namespace.
//!
//! The program has a `main` of its own because it is also the init process of the containers it starts. It runs
//! every case as root and then, through a copy of itself, every case again as the user `strake-test`. What a
//! machine lacks is said; with `STRAKE_TEST_REQUIRE_ALL=1` it is a failure.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "these are tests, which clippy cannot know of a program with a `main` of its own"
)]

mod contract;
mod hostile;
mod isolation;
mod mounts;
mod network;
mod programs;
mod rootless;
mod sandbox;
mod speed;
mod terminal;
mod traces;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

/// One test.
type Case = (&'static str, fn());

fn main() -> ExitCode {
    // Modes of files are what many cases are about; whoever runs them may have another umask.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some(strake_exec::INIT_ARG) => strake_exec::init_main(),
        Some(rootless::ARGUMENT) => rootless::enter(),
        Some(speed::ARGUMENT) => return speed::measure(),
        Some(isolation::VICTIM) => {
            isolation::victim();
            return ExitCode::SUCCESS;
        }
        Some(terminal::ARGUMENT) => return terminal::program(),
        _ => {}
    }
    args.retain(|arg| arg != rootless::ARGUMENT);
    let filters: Vec<&String> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    if args.iter().any(|arg| arg == "--list") {
        // None is ignored; a runner that asks for those is not to be told of all.
        if !args.iter().any(|arg| arg == "--ignored") {
            for (name, _) in cases() {
                say(&format!("{name}: test"));
            }
        }
        return ExitCode::SUCCESS;
    }
    if let Err(missing) = sandbox::check_machine() {
        return skip(&missing);
    }
    let mut failed = run(&filters);
    if !sandbox::is_rootless() && !rootless::repeat(&args) {
        failed += 1;
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn cases() -> Vec<Case> {
    [
        contract::CASES,
        programs::CASES,
        isolation::CASES,
        mounts::CASES,
        hostile::CASES,
        traces::CASES,
        network::CASES,
        terminal::CASES,
    ]
    .concat()
}

fn run(filters: &[&String]) -> usize {
    let who = if sandbox::is_rootless() { "rootless" } else { "root" };
    let mut failed = Vec::new();
    let mut count = 0;
    for (name, case) in cases() {
        if !filters.is_empty() && !filters.iter().any(|filter| name.contains(filter.as_str())) {
            continue;
        }
        count += 1;
        let start = Instant::now();
        let passed = catch_unwind(AssertUnwindSafe(case)).is_ok();
        let verdict = if passed { "ok" } else { "FAILED" };
        say(&format!("{who} {name} ... {verdict} ({} ms)", start.elapsed().as_millis()));
        if !passed {
            failed.push(name);
        }
    }
    say(&format!("{who}: {count} cases, {} failed {failed:?}", failed.len()));
    failed.len()
}

/// Says what is missing; a failure where nothing may be missing.
pub(crate) fn skip(missing: &str) -> ExitCode {
    let required = std::env::var_os("STRAKE_TEST_REQUIRE_ALL").is_some_and(|value| value == "1");
    say(&format!("{}: {missing}", if required { "FAILED, missing" } else { "SKIPPED, missing" }));
    if required { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

pub(crate) fn say(text: &str) {
    println!("{text}");
}
