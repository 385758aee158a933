//! The store from outside.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod crash;
mod fixture;
mod gc;
mod hostile;
mod referee;
mod round_trip;
mod settle;
mod snapshots;
