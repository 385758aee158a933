//! The command line of strake.

mod args;
mod failure;
mod report;
mod settings;
mod signals;
mod source;
mod ui;

fn main() {}
