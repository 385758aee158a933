//! Everything is compared with what the git program says of the same repositories, which the tests make with it.

#![expect(clippy::unwrap_used, reason = "what the helpers of tests cannot do is a failed test")]

mod fixture;
mod history;
mod hostile;
mod patch;
mod property;
mod reading;
mod remote;
mod submodule;
mod worktree;
