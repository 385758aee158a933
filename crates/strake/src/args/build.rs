//! `strake build`.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use strake_graph::HostEntry;
use strake_oci::{Platform, Reference};

use super::{
    Assignment, CacheFromSpec, CacheToSpec, CompressionSpec, LoginArgs, NetworkSpec, OutputSpec,
    ProgressMode, SharingArgs, csv, nearest::nearest,
};

/// `strake build`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  strake build -t app .                          the Dockerfile here, named app:latest
  strake build -f deploy/Dockerfile --target test .
  strake build -t ghcr.io/me/app:1 --push .      build, then push
  strake build -o out .                          the files of the result, in the directory out
  strake build -o type=oci,dest=app.tar .        an OCI archive
  strake build --secret id=token,env=TOKEN .     for RUN --mount=type=secret,id=token
  strake build --explain .                       why each step was or was not cached
  strake build ./repo.git#v1.2:service           a subdirectory of a git repository at a tag
  echo 'FROM scratch' | strake build -           a Dockerfile on standard input, no context
  tar -c . | strake build -                      a context on standard input")]
pub(crate) struct BuildArgs {
    /// Build context: a directory; `-` for a Dockerfile or tar on standard input; a local or file:// git
    /// repository as PATH#REF:SUBDIR
    #[arg(value_name = "CONTEXT")]
    pub(crate) context: String,

    /// Name of the image (repeatable)
    #[arg(short, long = "tag", value_name = "NAME[:TAG]", help_heading = "Result")]
    pub(crate) tags: Vec<Reference>,
    /// Where the result goes: DIR, `-` (tar), or type=local|tar|oci|docker|image|registry,dest=… (repeatable)
    #[arg(short, long = "output", value_name = "SPEC", help_heading = "Result")]
    pub(crate) outputs: Vec<OutputSpec>,
    /// Push the image under all its names
    #[arg(long, help_heading = "Result")]
    pub(crate) push: bool,
    /// Accepted for docker's sake: the image is always in the local store
    #[arg(long, help_heading = "Result")]
    pub(crate) load: bool,
    /// Write the image's id to a file
    #[arg(long, value_name = "FILE", help_heading = "Result")]
    pub(crate) iidfile: Option<PathBuf>,
    /// Write digests and names to a JSON file, as buildx does
    #[arg(long, value_name = "FILE", help_heading = "Result")]
    pub(crate) metadata_file: Option<PathBuf>,
    /// Add a label to the image (repeatable)
    #[arg(long = "label", value_name = "KEY=VALUE", help_heading = "Result")]
    pub(crate) labels: Vec<Assignment>,
    /// Compression of layers that are pushed or exported
    #[arg(long, value_enum, value_name = "KIND", help_heading = "Result")]
    pub(crate) compression: Option<CompressionSpec>,
    /// Seconds since 1970 for everything that carries a time [SOURCE_DATE_EPOCH]
    #[arg(long, visible_alias = "source-date-epoch", value_name = "SECONDS", help_heading = "Result")]
    pub(crate) timestamp: Option<u64>,

    /// Dockerfile: a path, or `-` for standard input [default: CONTEXT/Dockerfile]
    #[arg(short, long, value_name = "FILE", help_heading = "Input")]
    pub(crate) file: Option<String>,
    /// Stage to build: its name or number [default: the last]
    #[arg(long, value_name = "STAGE", help_heading = "Input")]
    pub(crate) target: Option<String>,
    /// Value of an ARG; NAME alone takes it from the environment (repeatable)
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]", help_heading = "Input")]
    pub(crate) build_args: Vec<Assignment>,
    /// Further build context, a directory, for COPY --from=NAME (repeatable)
    #[arg(long = "build-context", value_name = "NAME=DIR", help_heading = "Input")]
    pub(crate) build_contexts: Vec<Assignment>,
    /// Secret for RUN --mount=type=secret: id=ID[,src=FILE|,env=NAME] (repeatable)
    #[arg(long = "secret", value_name = "SPEC", help_heading = "Input")]
    pub(crate) secrets: Vec<SecretSpec>,
    /// Platform to build for, such as linux/arm64
    #[arg(long, value_name = "OS/ARCH", value_parser = platform, help_heading = "Input")]
    pub(crate) platform: Option<Platform>,

    /// Do not use results of earlier builds
    #[arg(long, help_heading = "Cache")]
    pub(crate) no_cache: bool,
    /// Ask the registry for newer base images
    #[arg(long, help_heading = "Cache")]
    pub(crate) pull: bool,
    /// Say of each step why it was or was not cached
    #[arg(long, help_heading = "Cache")]
    pub(crate) explain: bool,

    /// Cache to read: an image's NAME, or type=registry,ref=NAME, or type=local,src=DIR (repeatable)
    #[arg(long, value_name = "SPEC", help_heading = "Cache")]
    pub(crate) cache_from: Vec<CacheFromSpec>,
    /// Cache to write: type=registry,ref=NAME, type=local,dest=DIR or type=inline; mode=max for all stages
    /// (repeatable)
    #[arg(long, value_name = "SPEC", help_heading = "Cache")]
    pub(crate) cache_to: Vec<CacheToSpec>,

    /// Where finished steps are shared.
    #[command(flatten)]
    pub(crate) sharing: SharingArgs,

    /// Network of RUN steps
    #[arg(long, value_enum, value_name = "MODE", help_heading = "Steps")]
    pub(crate) network: Option<NetworkSpec>,
    /// Extra line for the steps' /etc/hosts (repeatable)
    #[arg(long = "add-host", value_name = "HOST:IP", value_parser = host_entry, help_heading = "Steps")]
    pub(crate) hosts: Vec<HostEntry>,
    /// Certificates that the steps' clients trust: `host` for this machine's, or a PEM file; never in a layer
    #[arg(long, value_name = "host|FILE", help_heading = "Steps")]
    pub(crate) ca_certs: Option<PathBuf>,
    /// How many steps may run at once [default: one per processor]
    #[arg(short, long, value_name = "N", help_heading = "Steps")]
    pub(crate) jobs: Option<NonZeroUsize>,

    /// How progress is shown [default: auto]
    #[arg(long, value_enum, value_name = "MODE", help_heading = "Progress")]
    pub(crate) progress: Option<ProgressMode>,
    /// Only the image's id, on standard output
    #[arg(short, long, help_heading = "Progress")]
    pub(crate) quiet: bool,

    /// Accepted for docker's sake: nothing intermediate is ever kept as a container
    #[arg(long, hide = true)]
    pub(crate) rm: bool,
    /// As `--rm`
    #[arg(long, hide = true)]
    pub(crate) force_rm: bool,
    /// Accepted for docker's sake when it asks for none
    #[arg(long, hide = true, value_parser = no_attestation)]
    pub(crate) provenance: Option<String>,
    /// As `--provenance`
    #[arg(long, hide = true, value_parser = no_attestation)]
    pub(crate) sbom: Option<String>,
    /// Who we are to the registry.
    #[command(flatten)]
    pub(crate) login: LoginArgs,
}

/// One platform; docker takes several.
fn platform(text: &str) -> Result<Platform, String> {
    match text.contains(',') {
        true => Err("several platforms in one build are not supported yet; build each by itself".to_owned()),
        false => text.parse().map_err(|error: strake_oci::PlatformError| error.to_string()),
    }
}

/// `HOST:IP` or `HOST=IP`, where the address may be of version 6, also in brackets.
fn host_entry(text: &str) -> Result<HostEntry, String> {
    let (name, address) = text.split_once(['=', ':']).ok_or("want HOST:IP")?;
    let name_is_plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    if name.is_empty() || name.len() > 253 || !name.chars().all(name_is_plain) {
        return Err(format!("`{name}` is not a host name"));
    }
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    match bare.parse::<std::net::IpAddr>() {
        Ok(parsed) => Ok(HostEntry { name: name.to_owned(), address: parsed.to_string() }),
        Err(_) if address == "host-gateway" => {
            Err("`host-gateway` is not known here; name the address, or use --network host".to_owned())
        }
        Err(_) => Err(format!("`{address}` is not an IP address")),
    }
}

fn no_attestation(text: &str) -> Result<String, &'static str> {
    match text {
        "false" => Ok(text.to_owned()),
        _ => Err("attestations are not supported yet; only `false` is taken"),
    }
}

/// One `--secret`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SecretSpec {
    /// What the Dockerfile calls it.
    pub(crate) id: String,
    /// Where it is.
    pub(crate) source: SecretSource,
}

/// Where a secret is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SecretSource {
    /// In a file.
    File(PathBuf),
    /// In an environment variable.
    Env(String),
    /// In the variable named like the secret if that is set, otherwise in the file of that name.
    Named,
}

impl FromStr for SecretSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (mut id, mut src, mut env, mut kind) = (None, None, None, None);
        for (key, value) in csv::pairs(text)? {
            // The value may be part of the secret's name only; the text itself is never repeated in an error.
            let value = value.filter(|value| !value.is_empty());
            let slot = match key.as_str() {
                "id" => &mut id,
                "src" | "source" => &mut src,
                "env" => &mut env,
                "type" => &mut kind,
                other => return Err(unknown_key(other)),
            };
            *slot = Some(value.ok_or_else(|| format!("`{key}` needs a value: `{key}=…`"))?);
        }
        let id = id.ok_or("has no `id=`")?;
        let source = match (kind.as_deref(), src, env) {
            (_, Some(_), Some(_)) => return Err("takes either `src=` or `env=`, not both".to_owned()),
            (None | Some("env"), None, Some(name)) => SecretSource::Env(name),
            // In buildx `type=env,src=NAME` names a variable.
            (Some("env"), Some(name), None) => SecretSource::Env(name),
            (Some("env"), None, None) => SecretSource::Env(id.clone()),
            (None | Some("file"), Some(path), None) => SecretSource::File(path.into()),
            (Some("file"), None, None) => SecretSource::File((&id).into()),
            (None, None, None) => SecretSource::Named,
            (Some(other), ..) => return Err(format!("`type={other}`: want `file` or `env`")),
        };
        Ok(Self { id, source })
    }
}

fn unknown_key(written: &str) -> String {
    match nearest(written, ["id", "src", "env", "type"]) {
        Some(key) => format!("unknown key `{written}`, did you mean `{key}`?"),
        None => format!("unknown key `{written}`, want id, src, env or type"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        let entry = |text| host_entry(text).map(|entry| (entry.name, entry.address));
        assert_eq!(entry("db:10.0.0.1"), Ok(("db".into(), "10.0.0.1".into())));
        assert_eq!(entry("db=::1"), Ok(("db".into(), "::1".into())));
        assert_eq!(entry("db:[fe80::1]"), Ok(("db".into(), "fe80::1".into())));
        for text in ["db", "db:", ":1.2.3.4", "a b:1.2.3.4", "a\n:1.2.3.4", "db:1.2.3.4.5", "db:host-gateway"]
        {
            assert!(entry(text).is_err(), "{text}");
        }
    }

    #[test]
    fn secrets() {
        let parse = |text: &str| text.parse::<SecretSpec>().map(|spec| spec.source);
        assert_eq!(parse("id=a,src=/x"), Ok(SecretSource::File("/x".into())));
        assert_eq!(parse("id=a,env=A"), Ok(SecretSource::Env("A".into())));
        assert_eq!(parse("type=env,id=a,src=A"), Ok(SecretSource::Env("A".into())));
        assert_eq!(parse("type=file,id=a"), Ok(SecretSource::File("a".into())));
        assert_eq!(parse("id=a"), Ok(SecretSource::Named));
        assert!(parse("src=/x").unwrap_err().contains("no `id="));
        assert!(parse("id=a,srcc=/x").unwrap_err().contains("did you mean"));
        assert!(parse("id=a,src=x,env=Y").is_err());
        assert!(parse("id").is_err());
        assert!(parse("").is_err());
        assert!(parse("id=a,type=vault").unwrap_err().contains("`file` or `env`"));
    }
}
