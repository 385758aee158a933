//! Who we are to a registry, for one command.

use std::convert::Infallible;

use clap::Args;
use strake_registry::Secret;

/// Who we are to a registry, for one command.
#[derive(Debug, Default, Clone, PartialEq, Eq, Args)]
#[command(next_help_heading = "Registry")]
pub(crate) struct LoginArgs {
    /// User to log in to a registry as, for this command only [STRAKE_REGISTRY_USERNAME; default: docker's login]
    #[arg(long, value_name = "USER")]
    pub(crate) registry_username: Option<String>,
    /// Password of that user, which everybody on this machine can see while it stands here
    /// [STRAKE_REGISTRY_PASSWORD]
    #[arg(long, value_name = "PASSWORD", value_parser = secret, conflicts_with = "registry_password_stdin")]
    pub(crate) registry_password: Option<Secret>,
    /// Read the password from standard input
    #[arg(long)]
    pub(crate) registry_password_stdin: bool,
    /// The registry that user and password are for; no other one gets them
    /// [STRAKE_REGISTRY; default: the one of the names on the command line, then CI_REGISTRY]
    #[arg(long, value_name = "HOST[/PATH]")]
    pub(crate) registry: Option<String>,
}

#[expect(clippy::unnecessary_wraps, reason = "the shape that the parser of arguments wants")]
fn secret(text: &str) -> Result<Secret, Infallible> {
    Ok(Secret::new(text))
}
