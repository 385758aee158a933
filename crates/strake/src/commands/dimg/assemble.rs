//! Assembling the stages of an image that are not cached.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use strake_frontend::stagefile::GitSource;
use strake_frontend::stagefile::plan::{Mode, Plan};
use strake_git::Repository;

use super::printer::Printer;
use crate::args::IntrospectArgs;
use crate::failure::Failure;
use crate::project::Project;
use crate::session::Session;

/// An image with stages to be assembled.
#[expect(dead_code, reason = "what assembling stages needs is collected here before it is built")]
pub(super) struct Work<'a> {
    /// Store, registries, executor.
    pub(super) session: &'a Session,
    /// Its file, name and directories.
    pub(super) project: &'a Project,
    /// The image, and those that it needs.
    pub(super) plan: &'a Plan,
    /// The repositories of all mappings.
    pub(super) repositories: BTreeMap<GitSource, Arc<Repository>>,
    /// Whether what is not committed takes part.
    pub(super) mode: Mode,
    /// Where to open a shell.
    pub(super) introspect: &'a IntrospectArgs,
    /// How long to wait for another process that assembles a stage.
    pub(super) lock_timeout: Duration,
    /// Shows rows.
    pub(super) printer: &'a Printer,
}

/// Assembles what is missing, artifacts and bases before the stages that need them.
///
/// # Errors
/// When a stage cannot be assembled.
pub(super) fn assemble(work: &Work<'_>) -> Result<(), Failure> {
    let count = work.plan.conveyor().to_assemble().len();
    Err(Failure::input(format!("assembling is not built yet: {count} stages would have to be assembled"))
        .hint("--dry-run shows which"))
}
