//! The store from outside.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]
#![expect(clippy::print_stderr, reason = "what is missing or under test is said aloud")]

mod crash;
mod fixture;
mod gc;
mod hostile;
mod referee;
mod round_trip;
mod settle;
mod snapshots;
