//! `strake dimg …`: the commands on stage files.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use strake_frontend::stagefile::StageKind;

use super::dimg_cleanup::{CleanupArgs, FlushArgs, MrproperArgs};
use super::dimg_registry::{
    DimgBpArgs, DimgPushArgs, DimgSpushArgs, StageRepositories, StagesArgs, TagNames,
};
use super::{LoginArgs, ProgressMode};

/// `strake dimg`.
#[derive(Debug, Args)]
#[command(
    subcommand_required = true,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    after_help = "The stage file is strake.yaml, strake.yml, dappfile.yml or dappfile.yaml in the project's directory.
The word `dimg` can be left out wherever that is clear: strake list, strake slug, strake stage image, and
strake build where there is no Dockerfile.

Examples:
  strake dimg build                  all images of the stage file here
  strake dimg build --dry-run 'web-*'"
)]
pub(crate) struct DimgArgs {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: DimgCommand,
}

/// What to do with a stage file.
#[derive(Debug, Subcommand)]
pub(crate) enum DimgCommand {
    /// Assemble the stages of images that are not cached
    Build(Box<DimgBuildArgs>),
    /// List the names of the images
    List(DimgListArgs),
    /// Run a command in a container of an image
    Run(DimgRunArgs),
    /// Give finished images names in the local store
    Tag(Box<DimgTagArgs>),
    /// Send finished images to a registry
    Push(Box<DimgPushArgs>),
    /// Build, then push
    Bp(Box<DimgBpArgs>),
    /// Send one finished image to a registry, under exactly the name that is given
    Spush(Box<DimgSpushArgs>),
    /// Exchange stages with a registry
    Stages(StagesArgs),
    /// Delete all finished images of the project
    Flush(FlushArgs),
    /// Delete what nobody needs: here what crashed builds left, or finished images in a repository
    Cleanup(Box<CleanupArgs>),
    /// Delete stages and images of all projects on this machine
    Mrproper(Box<MrproperArgs>),
    /// Copy files out of an image or an artifact into a directory
    Export(Box<DimgExportArgs>),
    /// Tell the names of stages
    Stage(StageArgs),
    /// Turn any text into a name that fits everywhere
    Slug(SlugArgs),
}

/// Where the project is, and how rows are shown.
#[derive(Debug, Default, Clone, Args)]
#[command(next_help_heading = "Project")]
pub(crate) struct ProjectArgs {
    /// Directory of the project [default: the working directory]
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Name of the project; part of the names of all its images, so another name means building everything again
    /// [default: the end of the origin's URL, or the directory's name]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Directory for clones of other repositories and for `build_dir` mounts, kept between builds
    /// [default: builds/NAME in the local store]
    #[arg(long, value_name = "DIR")]
    pub(crate) build_dir: Option<PathBuf>,
    /// Temporary directories begin with this [default: the system's place for them]
    #[arg(long, value_name = "PREFIX")]
    pub(crate) tmp_dir_prefix: Option<PathBuf>,
    /// Private key for git over ssh and in assembly containers (repeatable); then no other key exists
    #[arg(long = "ssh-key", value_name = "SSH_KEY")]
    pub(crate) ssh_keys: Vec<PathBuf>,
    /// Take part of what is not committed yet; its stages are kept apart from others
    #[arg(long)]
    pub(crate) dev: bool,
}

/// How rows are shown.
#[derive(Debug, Default, Clone, Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct RowArgs {
    /// Only errors
    #[arg(short, long, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Say more: what is asked of git, instructions of stages
    #[arg(long)]
    pub(crate) verbose: bool,
    /// Put the time in front of each line
    #[arg(long)]
    pub(crate) time: bool,
    /// Colours: on a terminal and in known CI systems, or as said here
    #[arg(long, value_enum, value_name = "MODE", default_value_t)]
    pub(crate) color: ColorMode,
}

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum ColorMode {
    /// On a terminal and in known CI systems.
    #[default]
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

/// `strake dimg build`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  strake dimg build                       all images of the stage file
  strake dimg build backend 'web-*'       some of them
  strake dimg build --dry-run             which stages would be assembled
  strake dimg build --name other          as another project: nothing of this one is reused
  strake dimg build --introspect-error    a shell where a command failed
  strake dimg build --introspect-stage web/install")]
pub(crate) struct DimgBuildArgs {
    /// Names or shell patterns of images [default: all]
    #[arg(value_name = "DIMG")]
    pub(crate) dimgs: Vec<String>,
    /// Only show what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Seconds to wait for another process that assembles a stage
    #[arg(long, value_name = "TIMEOUT", default_value_t = Self::LOCK_TIMEOUT)]
    pub(crate) lock_timeout: u64,
    /// How many images may be assembled at once [default: one per processor]
    #[arg(short, long, value_name = "N")]
    pub(crate) jobs: Option<NonZeroUsize>,
    /// Repositories of stages.
    #[command(flatten)]
    pub(crate) repositories: StageRepositories,
    /// Where to open a shell.
    #[command(flatten)]
    pub(crate) introspect: IntrospectArgs,
    /// Where the project is.
    #[command(flatten)]
    pub(crate) project: ProjectArgs,
    /// How rows are shown.
    #[command(flatten)]
    pub(crate) rows: RowArgs,
    /// How the progress of a stage is shown [default: auto]
    #[arg(long, value_enum, value_name = "MODE", help_heading = "Output")]
    pub(crate) progress: Option<ProgressMode>,
    /// Accepted for dapp's sake: a stage is always kept as soon as it is finished
    #[arg(long, hide = true)]
    pub(crate) force_save_cache: bool,
    /// Who we are to the registry.
    #[command(flatten)]
    pub(crate) login: LoginArgs,
}

impl DimgBuildArgs {
    /// A day, in seconds.
    pub(crate) const LOCK_TIMEOUT: u64 = 86_400;
}

/// Where to open a shell while images are assembled.
#[derive(Debug, Default, Clone, PartialEq, Eq, Args)]
#[command(next_help_heading = "Introspection")]
pub(crate) struct IntrospectArgs {
    /// Open a shell after this stage of an image (repeatable)
    #[arg(long, value_name = "[IMAGE/]STAGE", value_parser = dimg_point)]
    pub(crate) introspect_stage: Vec<StagePoint>,
    /// Open a shell before this stage of an image (repeatable)
    #[arg(long, value_name = "[IMAGE/]STAGE", value_parser = dimg_point)]
    pub(crate) introspect_before: Vec<StagePoint>,
    /// Open a shell after this stage of an artifact (repeatable)
    #[arg(long, value_name = "[IMAGE/]STAGE", value_parser = artifact_point)]
    pub(crate) introspect_artifact_stage: Vec<StagePoint>,
    /// Open a shell before this stage of an artifact (repeatable)
    #[arg(long, value_name = "[IMAGE/]STAGE", value_parser = artifact_point)]
    pub(crate) introspect_artifact_before: Vec<StagePoint>,
    /// When a stage fails, open a shell as it was before its first instruction
    #[arg(long)]
    pub(crate) introspect_before_error: bool,
    /// When a stage fails, open a shell as it was after the instruction that failed
    #[arg(long)]
    pub(crate) introspect_error: bool,
}

/// A stage of one image or of all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StagePoint {
    /// The name of an image or artifact; `~` is the one without a name.
    pub(crate) image: Option<String>,
    /// The stage.
    pub(crate) stage: StageKind,
}

impl fmt::Display for StagePoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.image {
            Some(image) => write!(f, "{image}/{}", self.stage.id()),
            None => f.write_str(self.stage.id()),
        }
    }
}

/// `strake dimg list`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  strake dimg list
  strake dimg list 'web-*'

The image without a name is shown as `~`.")]
pub(crate) struct DimgListArgs {
    /// Names or shell patterns of images [default: all]
    #[arg(value_name = "DIMG")]
    pub(crate) dimgs: Vec<String>,
    /// Where the project is.
    #[command(flatten)]
    pub(crate) project: ProjectArgs,
}

/// `strake dimg run`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  strake dimg run                              a shell in the image without a name
  strake dimg run web -p -- ls /app            options of `strake run`, then the command
  strake dimg run --stage install web
  strake dimg run --dry-run web                the command behind it

Without options of `strake run` the container gets this terminal (-ti --rm) and runs /bin/bash.")]
pub(crate) struct DimgRunArgs {
    /// Stage to run [default: the last]
    #[arg(long, value_name = "STAGE", value_parser = dimg_stage)]
    pub(crate) stage: Option<StageKind>,
    /// Only show the command
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Where the project is.
    #[command(flatten)]
    pub(crate) project: ProjectArgs,
    /// Name of the image, then options of `strake run`
    #[arg(value_name = "DIMG] [OPTIONS", allow_hyphen_values = true)]
    pub(crate) words: Vec<String>,
    /// Command instead of /bin/bash
    #[arg(value_name = "COMMAND", last = true)]
    pub(crate) command: Vec<String>,
}

/// `strake dimg tag`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  strake dimg tag localhost:5000/app                 every image as localhost:5000/app/NAME:latest
  strake dimg tag --tag-branch web localhost:5000/app
  strake dimg tag --tag-plain v2.3.1 --tag-commit localhost:5000/app

An image without a name is called REPO, another one REPO/NAME. A text given with --tag is made a slug.")]
pub(crate) struct DimgTagArgs {
    /// Names or shell patterns of images [default: all], then the repository
    #[arg(value_name = "DIMG]... [REPO")]
    pub(crate) words: Vec<String>,
    /// Which tags.
    #[command(flatten)]
    pub(crate) tags: TagNames,
    /// Only show what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Where the project is.
    #[command(flatten)]
    pub(crate) project: ProjectArgs,
    /// How rows are shown.
    #[command(flatten)]
    pub(crate) rows: RowArgs,
}

/// `strake dimg export`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  strake dimg export /srv/app/app .             out of the only image of the stage file, to ./app
  strake dimg export assets /out/js /out/css dist
  strake dimg export assets /out/. dist         what /out holds
  strake dimg export --build assets /out/. dist
  strake dimg export --stage install web /etc/passwd .

DEST is a directory, made where there is none; each path gets its last name in it, and PATH/. is what a directory
holds. What is there stays unless the image has something of the same name. Files belong to the caller.")]
pub(crate) struct DimgExportArgs {
    /// Name of the image or artifact where there are several images; absolute paths in it; a directory
    #[arg(value_name = "DIMG|ARTIFACT] PATH... [DEST", required = true)]
    pub(crate) words: Vec<String>,
    /// Stage whose files are meant [default: the last]
    #[arg(long, value_name = "STAGE", value_parser = any_stage)]
    pub(crate) stage: Option<StageKind>,
    /// Assemble what is missing first
    #[arg(long)]
    pub(crate) build: bool,
    /// Only show what would be copied
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Where the project is.
    #[command(flatten)]
    pub(crate) project: ProjectArgs,
    /// How rows are shown.
    #[command(flatten)]
    pub(crate) rows: RowArgs,
    /// Who we are to the registry.
    #[command(flatten)]
    pub(crate) login: LoginArgs,
}

/// `strake dimg stage`.
#[derive(Debug, Args)]
#[command(subcommand_required = true, arg_required_else_help = true, disable_help_subcommand = true)]
pub(crate) struct StageArgs {
    /// What to tell.
    #[command(subcommand)]
    pub(crate) command: StageCommand,
}

/// What to tell of stages.
#[derive(Debug, Subcommand)]
pub(crate) enum StageCommand {
    /// Print the name that the image of a stage has in the local store
    Image(StageImageArgs),
}

/// `strake dimg stage image`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  strake dimg stage image
  strake dimg stage image --stage install backend")]
pub(crate) struct StageImageArgs {
    /// Stage [default: the last]
    #[arg(long, value_name = "STAGE", value_parser = dimg_stage)]
    pub(crate) stage: Option<StageKind>,
    /// Name of the image; needed where there are several
    #[arg(value_name = "DIMG")]
    pub(crate) dimg: Option<String>,
    /// Where the project is.
    #[command(flatten)]
    pub(crate) project: ProjectArgs,
}

/// `strake slug`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  strake slug feature/using_cache      prints feature-using-cache-81644ed0")]
pub(crate) struct SlugArgs {
    /// Any text
    #[arg(value_name = "STRING")]
    pub(crate) text: String,
}

fn dimg_stage(text: &str) -> Result<StageKind, String> {
    one_of(&StageKind::DIMG, text)
}

fn dimg_point(text: &str) -> Result<StagePoint, String> {
    point(&StageKind::DIMG, text)
}

fn artifact_point(text: &str) -> Result<StagePoint, String> {
    point(&StageKind::ARTIFACT, text)
}

/// Whoever names an image may mean any; whether it has such a stage, the stage file says.
fn point(kinds: &[StageKind], text: &str) -> Result<StagePoint, String> {
    let Some((image, stage)) = text.rsplit_once('/') else {
        return Ok(StagePoint { image: None, stage: one_of(kinds, text)? });
    };
    let artifacts_only = StageKind::ARTIFACT.into_iter().filter(|kind| !StageKind::DIMG.contains(kind));
    let all: Vec<_> = StageKind::DIMG.into_iter().chain(artifacts_only).collect();
    Ok(StagePoint { image: Some(image.to_owned()), stage: one_of(&all, stage)? })
}

fn any_stage(text: &str) -> Result<StageKind, String> {
    let others = StageKind::ARTIFACT.iter().filter(|kind| !StageKind::DIMG.contains(kind));
    one_of(&StageKind::DIMG.iter().chain(others).copied().collect::<Vec<_>>(), text)
}

fn one_of(kinds: &[StageKind], text: &str) -> Result<StageKind, String> {
    kinds.iter().copied().find(|kind| kind.id() == text).ok_or_else(|| {
        let ids: Vec<_> = kinds.iter().map(|kind| kind.id()).collect();
        let near = super::nearest(text, ids.iter().copied());
        let meant = near.map(|id| format!("did you mean `{id}`? ")).unwrap_or_default();
        format!("there is no such stage; {meant}want one of {}", ids.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_are_those_of_their_conveyor() {
        assert_eq!(dimg_stage("g_a_latest_patch"), Ok(StageKind::GitLatestPatch));
        assert!(dimg_stage("build_artifact").unwrap_err().contains("docker_instructions"));
        assert_eq!(any_stage("build_artifact"), Ok(StageKind::BuildArtifact));
        assert_eq!(any_stage("docker_instructions"), Ok(StageKind::DockerInstructions));
        assert!(dimg_stage("instal").unwrap_err().contains("did you mean `install`?"));
    }

    #[test]
    fn a_stage_may_be_that_of_one_image() {
        let of = |image: &str, stage| Ok(StagePoint { image: Some(image.to_owned()), stage });
        assert_eq!(dimg_point("install"), Ok(StagePoint { image: None, stage: StageKind::Install }));
        assert_eq!(dimg_point("a/b/setup"), of("a/b", StageKind::Setup));
        assert_eq!(dimg_point("tools/build_artifact"), of("tools", StageKind::BuildArtifact));
        assert_eq!(artifact_point("~/docker_instructions"), of("~", StageKind::DockerInstructions));
        assert!(dimg_point("build_artifact").is_err() && artifact_point("docker_instructions").is_err());
        let ids = dimg_point("app/x").unwrap_err();
        let listed = ids.rsplit_once("want one of ").unwrap().1.split(", ").count();
        assert_eq!(listed, StageKind::DIMG.len() + 2, "{ids}");
    }
}
