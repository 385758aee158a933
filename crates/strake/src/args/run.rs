//! `strake run`.

use std::path::PathBuf;

use clap::Args;
use strake_oci::Platform;

use super::{Assignment, LoginArgs, NetworkSpec};

/// `strake run`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  strake run app                              the image's own command
  strake run -it debian:12 bash               a shell on this terminal
  strake run -v \"$PWD:/src:ro\" -w /src app make test
  strake run -e TOKEN --network none app

The container's exit status is strake's. Everything it writes outside of volumes is dropped.")]
pub(crate) struct RunArgs {
    /// Keep standard input open
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Give the container a terminal
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Accepted for docker's sake: a container never outlives its command
    #[arg(long)]
    pub(crate) rm: bool,
    /// Host name of the container
    #[arg(long, value_name = "NAME")]
    pub(crate) hostname: Option<String>,
    /// Accepted for docker's sake; becomes the host name if none is given
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Environment variable; NAME alone takes it from this environment (repeatable)
    #[arg(short, long = "env", value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<Assignment>,
    /// Working directory
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// User, as in the Dockerfile's USER
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub(crate) user: Option<String>,
    /// Program instead of the image's entrypoint; empty for none
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) entrypoint: Option<String>,
    /// Directory or file of this machine: SOURCE:TARGET[:ro] (repeatable)
    #[arg(short, long = "volume", value_name = "SOURCE:TARGET[:ro]", value_parser = volume)]
    pub(crate) volumes: Vec<Volume>,
    /// Network of the container
    #[arg(long, value_enum, value_name = "MODE")]
    pub(crate) network: Option<NetworkSpec>,
    /// Certificates that the container's clients trust: `host` for this machine's, or a PEM file
    #[arg(long, value_name = "host|FILE")]
    pub(crate) ca_certs: Option<PathBuf>,
    /// Platform to choose, such as linux/arm64
    #[arg(long, value_name = "OS/ARCH")]
    pub(crate) platform: Option<Platform>,
    /// Name or id of the image, then the command instead of the image's
    #[arg(
        value_name = "IMAGE [COMMAND]…",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub(crate) image_and_command: Vec<String>,
    /// Who we are to the registry.
    #[command(flatten)]
    pub(crate) login: LoginArgs,
}

/// One `--volume`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Volume {
    /// Path on this machine, possibly relative.
    pub(crate) source: PathBuf,
    /// Absolute path in the container.
    pub(crate) target: String,
    /// Whether writing is refused.
    pub(crate) read_only: bool,
}

fn volume(text: &str) -> Result<Volume, String> {
    let mut parts = text.split(':');
    let (source, target, mode) = match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(source), Some(target), mode, None) => (source, target, mode),
        (Some(_), None, ..) => {
            return Err("names no target; anonymous volumes do not exist here: SOURCE:TARGET[:ro]".to_owned());
        }
        _ => return Err("has too many `:`, want SOURCE:TARGET[:ro]".to_owned()),
    };
    if source.is_empty() || !target.starts_with('/') {
        return Err("want SOURCE:TARGET[:ro] with an absolute TARGET".to_owned());
    }
    if !source.starts_with(['/', '.']) {
        return Err(format!("`{source}`: named volumes do not exist here; for a directory write ./{source}"));
    }
    let read_only = match mode {
        None | Some("rw" | "z" | "Z") => false,
        Some("ro") => true,
        Some(other) => return Err(format!("unknown mode `{other}`, want ro or rw")),
    };
    Ok(Volume { source: source.into(), target: target.to_owned(), read_only })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes() {
        let parsed = volume("/a:/b:ro").unwrap();
        assert_eq!((parsed.target.as_str(), parsed.read_only), ("/b", true));
        assert!(!volume("./a:/b").unwrap().read_only);
        for text in ["/a", "/a:b", ":/b", "/a:/b:ro:x", "name:/b", "/a:/b:shared", ""] {
            assert!(volume(text).is_err(), "{text}");
        }
    }
}
