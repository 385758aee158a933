//! What was typed. What it means is decided in `settings` and `commands`.

mod build;
mod cache;
mod choice;
pub(crate) mod csv;
mod dimg;
mod dimg_cleanup;
mod dimg_registry;
mod images;
mod login;
mod nearest;
mod output;
mod refused;
mod run;
mod sharing;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use build::{BuildArgs, SecretSource, SecretSpec};
pub(crate) use cache::{CacheFromSpec, CacheToSpec};
pub(crate) use choice::{BuildFiles, Chosen, choose};
pub(crate) use dimg::{
    ColorMode, DimgArgs, DimgBuildArgs, DimgCommand, DimgExportArgs, DimgListArgs, DimgRunArgs, DimgTagArgs,
    IntrospectArgs, ProjectArgs, RowArgs, SlugArgs, StageArgs, StageCommand, StageImageArgs, StagePoint,
};
pub(crate) use dimg_cleanup::{
    CleanupArgs, CleanupPlace, CleanupRepoArgs, DeletionArgs, FlushArgs, FlushLocalArgs, FlushPlace,
    FlushRepoArgs, MrproperArgs, StagesCleanupArgs, StagesCleanupPlace, StagesCleanupPlaceArgs,
};
pub(crate) use dimg_registry::{
    DimgBpArgs, DimgPushArgs, DimgSpushArgs, ExchangeArgs, StageRepositories, StagesArgs, StagesCommand,
    StagesPullArgs, StagesPushArgs, TagNames,
};
pub(crate) use images::{
    ArchiveFormat, DuArgs, HistoryArgs, ImagesArgs, ImportArgs, InspectArgs, LoadArgs, PruneArgs, PullArgs,
    PushArgs, RmiArgs, SaveArgs, TagArgs,
};
pub(crate) use login::LoginArgs;
pub(crate) use nearest::nearest;
pub(crate) use output::{CompressionSpec, Destination, OutputKind, OutputSpec};
pub(crate) use refused::refusal;
pub(crate) use run::{RunArgs, Volume};
pub(crate) use sharing::{CacheMounts, CoordinationArgs, KeyArgs, SharingArgs, repository};

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "strake",
    version,
    about = "Container images in stages that are never built twice",
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = true,
    infer_long_args = false,
    max_term_width = 100,
    after_help = "Examples:
  strake build -t app .                    build the Dockerfile here and name the image
  strake build -t localhost:5000/app --push .
  strake run -it app sh
  strake dimg build                        the images of the stage file here
  strake doctor                            what this machine lacks, and the remedies

Exit status: 0 done; 1 a build step failed; 2 the input is wrong; 3 the environment is wrong
(registry, disk, permission, kernel); 4 a bug in strake; 130 interrupted; 143 terminated."
)]
pub(crate) struct Cli {
    /// Settings for every command.
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags that every command takes.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct GlobalArgs {
    /// Directory of the local store [STRAKE_ROOT; default: /var/lib/strake for root, ~/.local/share/strake otherwise]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// Settings file instead of ~/.config/strake/config.toml and /etc/strake/config.toml [STRAKE_CONFIG]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Build an image from a Dockerfile, or the images of a stage file where there is no Dockerfile
    Build(Box<BuildArgs>),
    /// Run a command in a container of an image; what it writes is dropped
    Run(Box<RunArgs>),
    /// Get an image from its registry
    Pull(PullArgs),
    /// Send an image to its registry
    Push(PushArgs),
    /// Give an image another name
    Tag(TagArgs),
    /// List the images in the local store
    Images(ImagesArgs),
    /// Remove names, and images that have no name left
    Rmi(RmiArgs),
    /// Show everything known of images, as JSON
    Inspect(InspectArgs),
    /// Show what made an image, newest first
    History(HistoryArgs),
    /// Make an image of one layer from a tar of a file system
    Import(ImportArgs),
    /// Load images from an archive (OCI or docker)
    Load(LoadArgs),
    /// Write images into an archive
    Save(SaveArgs),
    /// Show what takes space in the local store
    Du(DuArgs),
    /// Remove what nobody needs from the local store
    Prune(PruneArgs),
    /// Build and use the images of a stage file
    Dimg(DimgArgs),
    /// As `dimg list`
    List(DimgListArgs),
    /// As `dimg stage`
    Stage(StageArgs),
    /// As `dimg slug`
    Slug(SlugArgs),
    /// Say what this machine lacks, with the remedies
    Doctor,
    /// Print the completion script of a shell
    Completion(CompletionArgs),
    /// Write the manual pages into a directory
    Man(ManArgs),
    /// Print the version
    Version,
}

/// `strake completion`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  strake completion bash > /etc/bash_completion.d/strake
  strake completion zsh > \"${fpath[1]}/_strake\"
  strake completion fish > ~/.config/fish/completions/strake.fish")]
pub(crate) struct CompletionArgs {
    /// Which shell
    #[arg(value_enum)]
    pub(crate) shell: Shell,
}

/// A shell that completions exist for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    /// GNU Bash.
    Bash,
    /// Z shell.
    Zsh,
    /// fish.
    Fish,
}

/// `strake man`.
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Where the pages go; made if it does not exist
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
}

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgressMode {
    /// A live region if standard error is a terminal, lines otherwise.
    Auto,
    /// A live region.
    Tty,
    /// Lines.
    Plain,
    /// One JSON object per line.
    Rawjson,
    /// Nothing but the result.
    #[value(alias = "none")]
    Quiet,
}

/// How a command prints its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Table,
    /// One JSON value.
    Json,
}

/// The network of containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum NetworkSpec {
    /// One of their own with access outwards, where the machine can.
    #[value(alias = "bridge")]
    Default,
    /// Only a loopback interface.
    None,
    /// The host's.
    Host,
}

/// Brings docker's `--switch=true` and `--switch=false` to the plain switches that the parser knows.
///
/// Only for `build`, and only in front of `--`: every other word may be part of a command to run.
fn normalise(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    const SWITCHES: [&str; 8] =
        ["--no-cache", "--pull", "--push", "--load", "--rm", "--force-rm", "--quiet", "--explain"];
    let mut normal: Vec<OsString> = Vec::new();
    let (mut in_build, mut ended) = (false, false);
    for argument in arguments {
        let text = argument.to_str().unwrap_or_default();
        let switch = text.split_once('=').filter(|(name, _)| in_build && !ended && SWITCHES.contains(name));
        match switch {
            Some((name, "true" | "1")) => normal.push(name.into()),
            Some((_, "false" | "0")) => {}
            _ => {
                ended |= text == "--";
                in_build |= text == "build" && normal.len() <= 3;
                normal.push(argument);
            }
        }
    }
    normal
}

/// `NAME=VALUE`, or `NAME` alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Assignment {
    /// The name; never empty.
    pub(crate) name: String,
    /// The value, if there is a `=`.
    pub(crate) value: Option<String>,
}

impl std::str::FromStr for Assignment {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (text, None),
        };
        if name.is_empty() {
            return Err("there is no name in front of the `=`");
        }
        if text.contains('\0') {
            return Err("holds a NUL byte");
        }
        Ok(Self { name: name.to_owned(), value })
    }
}

/// An amount of bytes, as people write it: `512m`, `10GB`, `1.5GiB`. Powers of 1024, as docker does.
///
/// # Errors
/// When the text is no such amount.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim().to_ascii_lowercase().trim_end_matches('b').trim_end_matches('i') {
        "" => 1.0,
        "k" => 1024.0,
        "m" => 1024.0 * 1024.0,
        "g" => 1024.0 * 1024.0 * 1024.0,
        "t" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        _ => return Err(format!("unknown unit `{}`, want k, m, g or t", unit.trim())),
    };
    let number: f64 =
        number.parse().map_err(|_| "want a number and a unit, such as 512m or 10GB".to_owned())?;
    let amount = number * factor;
    if !amount.is_finite() || amount >= 9.0e18 {
        return Err("more bytes than any disk has".to_owned());
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "in range: digits, bounded above"
    )]
    Ok(amount as u64)
}

/// A span of time, as Go writes it: `90s`, `15m`, `24h`, `1h30m`; also days, `7d`.
///
/// # Errors
/// When the text is no such span.
pub(crate) fn duration(text: &str) -> Result<std::time::Duration, String> {
    let seconds = strake_frontend::stagefile::seconds(text);
    let wrong = || format!("`{text}`: want a span of time such as 90s, 15m, 24h or 7d");
    seconds.map(std::time::Duration::from_secs).ok_or_else(wrong)
}

#[cfg(test)]
mod tests;
