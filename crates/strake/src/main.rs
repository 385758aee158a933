//! The command line of strake.

mod args;
mod failure;
mod report;
mod settings;
mod ui;

fn main() {}
