//! Where finished steps and stages are shared with other machines.

use std::path::PathBuf;

use clap::Args;
use strake_etcd::EtcdConfig;
use strake_oci::Reference;

/// Where finished steps and stages are shared.
#[derive(Debug, Default, Clone, Args)]
#[command(next_help_heading = "Sharing")]
pub(crate) struct SharingArgs {
    /// Repository that shares finished steps between machines: what is there is not built, what is built is there at
    /// once [STRAKE_REPO]
    #[arg(long, value_name = "REPO", value_parser = repository)]
    pub(crate) repo: Option<Reference>,
    /// Repository that is asked before --repo and filled with what is built; nothing is lost with it (repeatable)
    #[arg(long = "cache-repo", value_name = "REPO", value_parser = repository)]
    pub(crate) cache_repos: Vec<Reference>,
    /// Repository that is asked after --repo and never written to; what is used from it is copied to --repo
    /// (repeatable)
    #[arg(long = "secondary-repo", value_name = "REPO", value_parser = repository)]
    pub(crate) secondary_repos: Vec<Reference>,
    /// Who builds what.
    #[command(flatten)]
    pub(crate) coordination: CoordinationArgs,
    /// Who is trusted.
    #[command(flatten)]
    pub(crate) keys: KeyArgs,
    /// Whether what cache mounts hold is kept in --repo too: local, or repo[,max=SIZE] [default: local; max=4g]
    #[arg(long, value_name = "WHERE", value_parser = cache_mounts, default_value = "local", hide_default_value = true)]
    pub(crate) cache_mounts: CacheMounts,
    /// Repository that the finished image is pushed to, under the tags of its names
    #[arg(long, value_name = "REPO", value_parser = repository)]
    pub(crate) final_repo: Option<Reference>,
}

/// How machines that build the same share the work out.
#[derive(Debug, Default, Clone, Args)]
#[command(next_help_heading = "Sharing")]
pub(crate) struct CoordinationArgs {
    /// etcd that tells machines building with the same --repo who builds what: etcd://[USER@]HOST:PORT[,…][/PREFIX],
    /// etcds:// for TLS [STRAKE_COORDINATE; password in STRAKE_ETCD_PASSWORD]
    #[arg(long, value_name = "URL")]
    pub(crate) coordinate: Option<EtcdConfig>,
}

/// Whose word counts.
#[derive(Debug, Default, Clone, Args)]
#[command(next_help_heading = "Sharing")]
pub(crate) struct KeyArgs {
    /// Private key (Ed25519, PEM) that what is published is signed with; then nothing is used that neither it nor a
    /// trusted key signed [STRAKE_SIGN_KEY]
    #[arg(long, value_name = "FILE")]
    pub(crate) sign_key: Option<PathBuf>,
    /// Public key (Ed25519, PEM) of somebody who is trusted; then nothing is used that no trusted key signed
    /// (repeatable) [STRAKE_TRUST: files separated by `:`]
    #[arg(long, value_name = "FILE")]
    pub(crate) trust: Vec<PathBuf>,
}

/// Where the content of cache mounts is kept.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CacheMounts {
    /// On this machine.
    #[default]
    Local,
    /// Also in the repository, up to so many bytes each.
    Repo(u64),
}

/// What a mount may hold to be kept in the repository, in bytes, unless it is said.
const MOUNT_MAX: u64 = 4 << 30;

fn cache_mounts(text: &str) -> Result<CacheMounts, String> {
    match text.split_once(',') {
        None if text == "local" => Ok(CacheMounts::Local),
        None if text == "repo" => Ok(CacheMounts::Repo(MOUNT_MAX)),
        Some(("repo", limit)) => {
            let limit = limit.strip_prefix("max=").ok_or("want repo,max=SIZE")?;
            super::bytes(limit).map(CacheMounts::Repo)
        }
        _ => Err("want local, repo or repo,max=SIZE".to_owned()),
    }
}

/// The name of a repository, without a tag.
pub(crate) fn repository(text: &str) -> Result<Reference, String> {
    let reference: Reference = text.parse().map_err(|error: strake_oci::ReferenceError| error.to_string())?;
    // A name without a tag is read as one with the tag `latest`.
    if let Some((_, tag)) = text.rsplit_once(':')
        && !tag.contains('/')
        && reference.digest().is_none()
    {
        return Err(format!("a repository has no tag; leave `:{tag}` out"));
    }
    if reference.digest().is_some() {
        return Err("a repository has no digest; leave it out".to_owned());
    }
    Ok(reference)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cache_mounts_have_a_limit() {
        assert_eq!(cache_mounts("local"), Ok(CacheMounts::Local));
        assert_eq!(cache_mounts("repo"), Ok(CacheMounts::Repo(MOUNT_MAX)));
        assert_eq!(cache_mounts("repo,max=1k"), Ok(CacheMounts::Repo(1024)));
        for text in ["", "remote", "repo,1k", "repo,max=", "local,max=1k"] {
            assert!(cache_mounts(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_repository_is_a_name_alone() {
        assert_eq!(repository("localhost:5000/app").unwrap().repository(), "app");
        assert!(repository("app:1").unwrap_err().contains("leave `:1` out"));
        assert!(repository(&format!("app@sha256:{}", "0".repeat(64))).unwrap_err().contains("digest"));
        assert!(repository("App").is_err());
    }
}
