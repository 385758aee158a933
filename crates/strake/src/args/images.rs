//! The commands on images and on the store.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use strake_oci::{Platform, Reference};

use super::{Assignment, CompressionSpec, Format, LoginArgs, ProgressMode};

/// `strake pull`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  strake pull debian:12
  strake pull --platform linux/arm64 ghcr.io/me/app@sha256:…")]
pub(crate) struct PullArgs {
    /// Names of the images
    #[arg(value_name = "NAME", required = true)]
    pub(crate) names: Vec<Reference>,
    /// Platform to choose, such as linux/arm64
    #[arg(long, value_name = "OS/ARCH")]
    pub(crate) platform: Option<Platform>,
    /// Only the image's id, on standard output
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// How progress is shown [default: auto]
    #[arg(long, value_enum, value_name = "MODE")]
    pub(crate) progress: Option<ProgressMode>,
    /// Who we are to the registry.
    #[command(flatten)]
    pub(crate) login: LoginArgs,
}

/// `strake push`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  strake push ghcr.io/me/app:1
  strake push --compression zstd localhost:5000/app")]
pub(crate) struct PushArgs {
    /// Names of the images, as they are in the local store
    #[arg(value_name = "NAME", required = true)]
    pub(crate) names: Vec<Reference>,
    /// Compression of layers that have no blob yet
    #[arg(long, value_enum, value_name = "KIND")]
    pub(crate) compression: Option<CompressionSpec>,
    /// Only the manifest's digest, on standard output
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// How progress is shown [default: auto]
    #[arg(long, value_enum, value_name = "MODE")]
    pub(crate) progress: Option<ProgressMode>,
    /// Who we are to the registry.
    #[command(flatten)]
    pub(crate) login: LoginArgs,
}

/// `strake tag`.
#[derive(Debug, Args)]
pub(crate) struct TagArgs {
    /// Name or id of the image
    #[arg(value_name = "IMAGE")]
    pub(crate) source: String,
    /// Its further name
    #[arg(value_name = "NAME[:TAG]")]
    pub(crate) target: Reference,
}

/// `strake images`.
#[derive(Debug, Args)]
#[command(
    visible_alias = "ls",
    after_help = "Examples:
  strake images
  strake images debian
  strake images --format json | jq -r '.[].id'"
)]
pub(crate) struct ImagesArgs {
    /// Only images of this repository, or this name
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Only ids
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Whole ids
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// Show digests of manifests
    #[arg(long)]
    pub(crate) digests: bool,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

/// `strake rmi`.
#[derive(Debug, Args)]
pub(crate) struct RmiArgs {
    /// Names or ids
    #[arg(value_name = "IMAGE", required = true)]
    pub(crate) images: Vec<String>,
    /// Remove an id with all its names, and do not mind what is not there
    #[arg(short, long)]
    pub(crate) force: bool,
}

/// `strake inspect`.
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// Names or ids
    #[arg(value_name = "IMAGE", required = true)]
    pub(crate) images: Vec<String>,
}

/// `strake history`.
#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    /// Name or id
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
    /// Whole instructions and ids
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// Only ids of layers
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

/// `strake import`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  mmdebstrap --variant=minbase bookworm - | strake import - debian:12
  strake import rootfs.tar.zst base --change 'CMD [\"/bin/bash\"]'")]
pub(crate) struct ImportArgs {
    /// A tar of a file system, in any usual compression; `-` for standard input
    #[arg(value_name = "TAR")]
    pub(crate) file: PathBuf,
    /// Name of the image
    #[arg(value_name = "NAME[:TAG]")]
    pub(crate) name: Reference,
    /// Dockerfile instruction for the image's configuration: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, USER, VOLUME,
    /// WORKDIR, STOPSIGNAL (repeatable)
    #[arg(short, long = "change", value_name = "INSTRUCTION")]
    pub(crate) changes: Vec<String>,
    /// Platform of the image
    #[arg(long, value_name = "OS/ARCH")]
    pub(crate) platform: Option<Platform>,
    /// Only the image's id, on standard output
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// `strake load`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  strake load -i app.tar
  docker save app | strake load")]
pub(crate) struct LoadArgs {
    /// Archive (OCI or docker, in any usual compression) or OCI layout directory [default: standard input]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,
    /// Only ids
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// `strake save`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  strake save -o app.tar app
  strake save app | docker load
  strake save --format oci -o layout.tar app")]
pub(crate) struct SaveArgs {
    /// Names or ids
    #[arg(value_name = "IMAGE", required = true)]
    pub(crate) images: Vec<String>,
    /// File to write [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Form of the archive
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: ArchiveFormat,
    /// Compression of the layers in an OCI archive
    #[arg(long, value_enum, value_name = "KIND")]
    pub(crate) compression: Option<CompressionSpec>,
}

/// The form of an archive of images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum ArchiveFormat {
    /// What `docker save` writes.
    #[default]
    Docker,
    /// An OCI layout.
    Oci,
}

/// `strake du`.
#[derive(Debug, Args)]
pub(crate) struct DuArgs {
    /// One line for each layer, record and blob
    #[arg(short, long)]
    pub(crate) verbose: bool,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

/// `strake prune`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  strake prune                          what no image needs and nobody used for a while
  strake prune --filter until=24h       what was not used for a day
  strake prune --keep-bytes 20g         least recently used first, until 20 GiB are left
  strake prune --all --dry-run          everything without a name: what would go, and why")]
pub(crate) struct PruneArgs {
    /// Also the build cache in use lately; images with names stay
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Keep this many bytes
    #[arg(long, visible_alias = "keep-storage", value_name = "BYTES", value_parser = super::bytes)]
    pub(crate) keep_bytes: Option<u64>,
    /// Remove what was used least if the store takes too much of its volume, as is done by itself after builds: more than
    /// 70 % of the volume are used [STRAKE_AUTO_PRUNE]
    #[arg(long, conflicts_with_all = ["all", "keep_bytes", "filters", "repo"])]
    pub(crate) auto: bool,
    /// In a repository, not in the local store: remove finished steps, selections and cache mounts that nobody used
    /// for 14 days, or as long as --filter says
    #[arg(long, value_name = "REPO", value_parser = super::repository, conflicts_with = "keep_bytes")]
    pub(crate) repo: Option<strake_oci::Reference>,
    /// A login for this command.
    #[command(flatten)]
    pub(crate) login: super::LoginArgs,
    /// Only what was not used for this long: until=24h
    #[arg(long = "filter", value_name = "until=TIME")]
    pub(crate) filters: Vec<PruneFilter>,
    /// Only say what would go
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
    /// Accepted for docker's sake: nothing is ever asked
    #[arg(short, long, hide = true)]
    pub(crate) force: bool,
}

/// `until=TIME`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PruneFilter {
    /// Not used for at least this long.
    pub(crate) until: Duration,
}

impl FromStr for PruneFilter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Assignment { name, value } = text.parse().map_err(str::to_owned)?;
        match (name.as_str(), value) {
            ("until", Some(value)) => super::duration(&value).map(|until| Self { until }),
            ("until", None) => Err("`until` needs a span of time: until=24h".to_owned()),
            (other, _) => Err(format!("unknown filter `{other}`, want until=TIME")),
        }
    }
}
