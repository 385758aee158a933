//! `make bench`: strake beside docker (classic and BuildKit) and buildah, and beside what the machine can do.
//!
//! Usage: `strake-bench STRAKE [--rounds N] [LINE …]`. The builders take turns in every round, so that a machine
//! that is busy for a while slows all of them; the table has medians and ratios. Everything lies below
//! `/var/tmp/strake-bench-*` and is removed at the end; the daemons' start is in no figure.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints a table")]

mod app;
mod limit;
mod line;
mod measure;
mod peer;
mod plan;
mod random;
mod share;
mod table;

use std::process::ExitCode;

use strake_testkit::{Failure, Outcome};

use crate::line::{Bench, LINES};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("bench: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Outcome<()> {
    let mut strake = None;
    let mut rounds = 3;
    let mut wanted = Vec::new();
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        if arg == "--rounds" {
            let value = args.next().unwrap_or_default();
            rounds = value.parse().map_err(Failure::at(format!("--rounds {value}")))?;
        } else if strake.is_none() {
            strake = Some(arg);
        } else if LINES.iter().any(|line| line.name == arg) {
            wanted.push(arg);
        } else {
            let names: Vec<&str> = LINES.iter().map(|line| line.name).collect();
            return Err(Failure::new(format!("no line is called {arg:?}; there are {}", names.join(", "))));
        }
    }
    let strake = strake.ok_or_else(|| Failure::new("usage: strake-bench STRAKE [--rounds N] [LINE …]"))?;
    let mut bench = Bench::start(&strake, rounds)?;
    println!("{}", table::HEAD);
    for line in LINES.iter().filter(|line| wanted.is_empty() || wanted.iter().any(|name| name == line.name)) {
        eprintln!("bench: {} …", line.name);
        // A line that fails is said and does not hide the others; the exit code tells at the end.
        match (line.run)(&mut bench) {
            Ok(rows) => rows.iter().for_each(|row| println!("{row}")),
            Err(failure) => bench.failed(line.name, &failure),
        }
    }
    bench.finish()
}
