//! `strake dimg …`: the commands that exchange stages and images with registries.

use clap::{Args, Subcommand};

use super::{
    CoordinationArgs, DimgBuildArgs, FlushArgs, KeyArgs, LoginArgs, ProjectArgs, RowArgs, StagesCleanupArgs,
};

/// Which tags finished images get.
#[derive(Debug, Default, Clone, Args)]
#[command(next_help_heading = "Tags")]
pub(crate) struct TagNames {
    /// Tag, made a slug (repeatable) [default: latest]
    #[arg(long = "tag", visible_alias = "tag-slug", value_name = "TAG")]
    pub(crate) tags: Vec<String>,
    /// Tag as it is (repeatable)
    #[arg(long = "tag-plain", value_name = "TAG")]
    pub(crate) plain_tags: Vec<String>,
    /// The current branch
    #[arg(long)]
    pub(crate) tag_branch: bool,
    /// The current commit
    #[arg(long)]
    pub(crate) tag_commit: bool,
    /// The number of the build in the CI system
    #[arg(long)]
    pub(crate) tag_build_id: bool,
    /// The git tag or branch that the CI system builds
    #[arg(long)]
    pub(crate) tag_ci: bool,
}

/// Where stages are looked for and published while building.
#[derive(Debug, Default, Clone, Args)]
#[command(next_help_heading = "Repositories")]
pub(crate) struct StageRepositories {
    /// Repository of the stages: what is there is not built, what is built is published at once [STRAKE_REPO]
    #[arg(long, value_name = "REPO")]
    pub(crate) repo: Option<String>,
    /// Repository that is asked first and filled along the way (repeatable)
    #[arg(long = "cache-repo", value_name = "REPO", requires = "repo")]
    pub(crate) cache_repos: Vec<String>,
    /// Repository that is only read; what is used of it is copied to the one of --repo (repeatable)
    #[arg(long = "secondary-repo", value_name = "REPO", requires = "repo")]
    pub(crate) secondary_repos: Vec<String>,
    /// Who builds what.
    #[command(flatten)]
    pub(crate) coordination: CoordinationArgs,
    /// Who is trusted.
    #[command(flatten)]
    pub(crate) keys: KeyArgs,
    /// Repository that gets the last stage of each finished image
    #[arg(long, value_name = "REPO")]
    pub(crate) final_repo: Option<String>,
}

/// `strake dimg push`.
#[derive(Debug, Args)]
#[command(
    override_usage = "strake dimg push [OPTIONS] [DIMG]... REPO",
    after_help = "Examples:
  strake dimg push registry.example.org/app                  every image as REPO/NAME:latest
  strake dimg push --with-stages registry.example.org/app    the stages too
  strake dimg push --tag-branch web :minikube                to localhost:5000/PROJECT

An image without a name is called REPO, another one REPO/NAME; stages are REPO:dimgstage-SIGNATURE."
)]
pub(crate) struct DimgPushArgs {
    /// Names or shell patterns of images [default: all], then the repository
    #[arg(value_name = "DIMG]... [REPO")]
    pub(crate) words: Vec<String>,
    /// Send the stages first
    #[arg(long)]
    pub(crate) with_stages: bool,
    /// Which tags.
    #[command(flatten)]
    pub(crate) tags: TagNames,
    /// What all exchanges have in common.
    #[command(flatten)]
    pub(crate) exchange: ExchangeArgs,
}

/// `strake dimg bp`.
#[derive(Debug, Args)]
#[command(
    override_usage = "strake dimg bp [OPTIONS] [DIMG]... REPO",
    after_help = "Examples:
  strake dimg bp --with-stages registry.example.org/app
  strake dimg bp --tag-ci web registry.example.org/app"
)]
pub(crate) struct DimgBpArgs {
    /// As for `build`; the last word is the repository.
    #[command(flatten)]
    pub(crate) build: DimgBuildArgs,
    /// Send the stages first
    #[arg(long)]
    pub(crate) with_stages: bool,
    /// Which tags.
    #[command(flatten)]
    pub(crate) tags: TagNames,
}

/// `strake dimg spush`.
#[derive(Debug, Args)]
#[command(
    override_usage = "strake dimg spush [OPTIONS] [DIMG] REPO",
    after_help = "Examples:
  strake dimg spush web registry.example.org/some/name
  strake dimg spush --tag-plain v1.0 registry.example.org/some/name"
)]
pub(crate) struct DimgSpushArgs {
    /// Name of the image, needed where there are several, then the repository
    #[arg(value_name = "DIMG] [REPO")]
    pub(crate) words: Vec<String>,
    /// Which tags.
    #[command(flatten)]
    pub(crate) tags: TagNames,
    /// What all exchanges have in common.
    #[command(flatten)]
    pub(crate) exchange: ExchangeArgs,
}

/// What all exchanges with a registry have in common.
#[derive(Debug, Default, Clone, Args)]
pub(crate) struct ExchangeArgs {
    /// Only show what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Seconds to wait for another process that works on the same images
    #[arg(long, value_name = "TIMEOUT", default_value_t = 86_400)]
    pub(crate) lock_timeout: u64,
    /// Who is trusted.
    #[command(flatten)]
    pub(crate) keys: KeyArgs,
    /// A login for this command.
    #[command(flatten)]
    pub(crate) login: LoginArgs,
    /// Where the project is.
    #[command(flatten)]
    pub(crate) project: ProjectArgs,
    /// How rows are shown.
    #[command(flatten)]
    pub(crate) rows: RowArgs,
}

/// `strake dimg stages`.
#[derive(Debug, Args)]
#[command(subcommand_required = true, arg_required_else_help = true, disable_help_subcommand = true)]
pub(crate) struct StagesArgs {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: StagesCommand,
}

/// What to do with stages.
#[derive(Debug, Subcommand)]
pub(crate) enum StagesCommand {
    /// Send the stages that are here to a registry
    Push(Box<StagesPushArgs>),
    /// Get from a registry what the next build stands on
    Pull(Box<StagesPullArgs>),
    /// Delete all stages of the project
    Flush(FlushArgs),
    /// Delete stages that nobody needs
    Cleanup(StagesCleanupArgs),
}

/// `strake dimg stages push`.
#[derive(Debug, Args)]
#[command(
    override_usage = "strake dimg stages push [OPTIONS] [DIMG]... REPO",
    after_help = "Examples:
  strake dimg stages push registry.example.org/app
  strake dimg stages push --dry-run web registry.example.org/app"
)]
pub(crate) struct StagesPushArgs {
    /// Names or shell patterns of images [default: all], then the repository
    #[arg(value_name = "DIMG]... [REPO")]
    pub(crate) words: Vec<String>,
    /// What all exchanges have in common.
    #[command(flatten)]
    pub(crate) exchange: ExchangeArgs,
}

/// `strake dimg stages pull`.
#[derive(Debug, Args)]
#[command(
    override_usage = "strake dimg stages pull [OPTIONS] [DIMG]... REPO",
    after_help = "Examples:
  strake dimg stages pull registry.example.org/app          the last stage that is there
  strake dimg stages pull --all registry.example.org/app    every stage that is there"
)]
pub(crate) struct StagesPullArgs {
    /// Names or shell patterns of images [default: all], then the repository
    #[arg(value_name = "DIMG]... [REPO")]
    pub(crate) words: Vec<String>,
    /// Every stage, not only the last one that is there
    #[arg(long)]
    pub(crate) all: bool,
    /// What all exchanges have in common.
    #[command(flatten)]
    pub(crate) exchange: ExchangeArgs,
}
