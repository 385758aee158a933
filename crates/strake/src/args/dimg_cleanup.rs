//! `strake dimg …`: the commands that delete.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{ExchangeArgs, Format};

/// `strake dimg flush` and `strake dimg stages flush`.
#[derive(Debug, Args)]
#[command(subcommand_required = true, arg_required_else_help = true, disable_help_subcommand = true)]
pub(crate) struct FlushArgs {
    /// Where.
    #[command(subcommand)]
    pub(crate) place: FlushPlace,
}

/// Where everything is deleted.
#[derive(Debug, Subcommand)]
pub(crate) enum FlushPlace {
    /// In the local store
    Local(Box<FlushLocalArgs>),
    /// In a repository of a registry
    Repo(Box<FlushRepoArgs>),
}

/// What is deleted in the local store.
#[derive(Debug, Args)]
pub(crate) struct FlushLocalArgs {
    /// Names or shell patterns of images [default: all]; not for `stages flush`
    #[arg(value_name = "DIMG")]
    pub(crate) dimgs: Vec<String>,
    /// Delete the stages too
    #[arg(long)]
    pub(crate) with_stages: bool,
    /// What is said of it.
    #[command(flatten)]
    pub(crate) told: DeletionArgs,
}

/// What is deleted in a repository.
#[derive(Debug, Args)]
pub(crate) struct FlushRepoArgs {
    /// Names or shell patterns of images [default: all; not for `stages flush`], then the repository
    #[arg(value_name = "DIMG]... [REPO", required = true)]
    pub(crate) words: Vec<String>,
    /// Delete the stages too
    #[arg(long)]
    pub(crate) with_stages: bool,
    /// What is said of it.
    #[command(flatten)]
    pub(crate) told: DeletionArgs,
}

/// What all deletions have in common.
#[derive(Debug, Clone, Args)]
pub(crate) struct DeletionArgs {
    /// Write what was kept, and why, and what was deleted, into this file as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// How to print; as JSON it is what --report writes
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
    /// What all exchanges have in common.
    #[command(flatten)]
    pub(crate) exchange: ExchangeArgs,
}

/// `strake dimg stages cleanup`.
#[derive(Debug, Args)]
#[command(subcommand_required = true, arg_required_else_help = true, disable_help_subcommand = true)]
pub(crate) struct StagesCleanupArgs {
    /// Where.
    #[command(subcommand)]
    pub(crate) place: StagesCleanupPlace,
}

/// Where stages that nobody needs are deleted.
#[derive(Debug, Subcommand)]
pub(crate) enum StagesCleanupPlace {
    /// In the local store; with --improper-repo-cache the images of REPO are compared with
    Local(Box<StagesCleanupPlaceArgs>),
    /// In a repository of a registry
    Repo(Box<StagesCleanupPlaceArgs>),
}

/// Which stages are deleted.
#[derive(Debug, Args)]
#[command(after_help = "Stages that are younger than two hours are kept: a build may be about to use them
[STRAKE_DISABLE_STAGES_CLEANUP_DATE_PERIOD_POLICY=1 deletes them too].")]
pub(crate) struct StagesCleanupPlaceArgs {
    /// The repository
    #[arg(value_name = "REPO")]
    pub(crate) repo: Option<String>,
    /// Stages of another version of the signatures' scheme
    #[arg(long)]
    pub(crate) improper_cache_version: bool,
    /// Stages that no finished image in REPO descends from
    #[arg(long)]
    pub(crate) improper_repo_cache: bool,
    /// Stages with files of a commit that no longer exists, and what stands on them
    #[arg(long)]
    pub(crate) improper_git_commit: bool,
    /// What is said of it.
    #[command(flatten)]
    pub(crate) told: DeletionArgs,
}

/// `strake dimg cleanup`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
pub(crate) struct CleanupArgs {
    /// Where.
    #[command(subcommand)]
    pub(crate) place: Option<CleanupPlace>,
    /// What is said of it.
    #[command(flatten)]
    pub(crate) told: DeletionArgs,
}

/// Where images that nobody needs are deleted.
#[derive(Debug, Subcommand)]
pub(crate) enum CleanupPlace {
    /// Finished images in a repository whose tag, branch or commit is gone, and old ones beyond a number
    Repo(Box<CleanupRepoArgs>),
}

/// `strake dimg cleanup repo`.
#[derive(Debug, Args)]
#[command(
    after_help = "Of images with tags by --tag-ci, --tag-branch and --tag-commit those go whose git tag, branch of origin or
commit is gone, and of tags and commits those that are older than 30 days or beyond the newest 10 (tags) or 50 (commits)
[EXPIRY_DATE_PERIOD_POLICY, GIT_COMMITS_EXPIRY_DATE_PERIOD_POLICY, in seconds; GIT_TAGS_LIMIT_POLICY,
GIT_COMMITS_LIMIT_POLICY]. All others stay.

With --by-history those stay that the history of git speaks for, and stages that nothing kept stands on go: an image for
each of the 10 newest tags, up to 2 of the last week for the 10 branches that were the most active in it, 2 for main,
master, staging and production; or what the policies of a file say:
  keepPolicies:
  - references: { branch: /^release-/, limit: { last: 3, in: 30d, operator: Or } }
    imagesPerReference: { last: 5 }

Examples:
  kubectl get pods -A -o jsonpath='{..image}' > used
  strake dimg cleanup repo --by-history --keep-list used --dry-run registry.example.org/app"
)]
pub(crate) struct CleanupRepoArgs {
    /// Names or shell patterns of images [default: all], then the repository
    #[arg(value_name = "DIMG]... [REPO", required = true)]
    pub(crate) words: Vec<String>,
    /// Delete stages, too, that no finished image descends from any more
    #[arg(long)]
    pub(crate) with_stages: bool,
    /// Do not ask which images a Kubernetes cluster uses: those may be deleted as well
    #[arg(long)]
    pub(crate) without_kube: bool,
    /// Keep what branches and tags used lately, delete other images and stages
    #[arg(long)]
    pub(crate) by_history: bool,
    /// The same, with the policies of a YAML file
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,
    /// Keep this tag, name or digest (repeatable)
    #[arg(long, value_name = "IMAGE")]
    pub(crate) keep: Vec<String>,
    /// Keep the tags, names and digests in a file, separated by white space
    #[arg(long, value_name = "FILE")]
    pub(crate) keep_list: Option<PathBuf>,
    /// With --by-history and --policy: keep what was built within this time [default: 2h]
    #[arg(long, value_name = "TIME", value_parser = super::duration)]
    pub(crate) keep_built_within: Option<std::time::Duration>,
    /// What is said of it.
    #[command(flatten)]
    pub(crate) told: DeletionArgs,
}

/// `strake dimg mrproper`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true))]
pub(crate) struct MrproperArgs {
    /// All stages and finished images of all projects, and their build directories in the store
    #[arg(long, group = "what")]
    pub(crate) all: bool,
    /// Stages of another version of the signatures' scheme, of all projects
    #[arg(long, group = "what")]
    pub(crate) improper_cache_version_stages: bool,
    /// Stages of --dev, of all projects
    #[arg(long, group = "what")]
    pub(crate) improper_dev_mode_cache: bool,
    /// What is said of it.
    #[command(flatten)]
    pub(crate) told: DeletionArgs,
}
