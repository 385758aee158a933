//! `config.toml`.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use strake_registry::Mirror;

use super::registries::RegistriesConf;
use crate::failure::Failure;

/// One settings file. Unknown keys are errors.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct File {
    pub(super) root: Option<PathBuf>,
    pub(super) jobs: Option<NonZeroUsize>,
    pub(super) progress: Option<String>,
    pub(super) network: Option<String>,
    pub(super) platform: Option<String>,
    pub(super) compression: Option<String>,
    pub(super) ca_certs: Option<String>,
    pub(super) repo: Option<String>,
    pub(super) coordinate: Option<String>,
    pub(super) executor: Option<String>,
    pub(super) snapshotter: Option<String>,
    pub(super) auto_prune: Option<String>,
    pub(super) ssh_known_hosts: Option<PathBuf>,
    #[serde(default)]
    pub(super) registry: Registries,
}

/// Settings of registries, by `host` or `host/prefix`.
pub(super) type Registries = BTreeMap<String, Registry>;

/// Settings of one registry.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Registry {
    #[serde(default)]
    pub(super) mirrors: Vec<MirrorEntry>,
    #[serde(default)]
    pub(super) insecure: bool,
    pub(super) ca: Option<PathBuf>,
}

/// `"host:port/prefix"`; with `http://` in front of it plain HTTP is accepted.
#[derive(Debug, Clone, Deserialize)]
#[serde(transparent)]
pub(super) struct MirrorEntry(pub(super) String);

impl MirrorEntry {
    pub(super) fn mirror(&self) -> Mirror {
        let (host, insecure) = match self.0.strip_prefix("http://") {
            Some(host) => (host, true),
            None => (self.0.strip_prefix("https://").unwrap_or(&self.0), false),
        };
        Mirror { host: host.trim_end_matches('/').to_owned(), insecure }
    }
}

impl File {
    /// What this file does not say, `other` does.
    pub(super) fn or(self, other: Self) -> Self {
        let mut registry = other.registry;
        registry.extend(self.registry);
        Self {
            root: self.root.or(other.root),
            jobs: self.jobs.or(other.jobs),
            progress: self.progress.or(other.progress),
            network: self.network.or(other.network),
            platform: self.platform.or(other.platform),
            compression: self.compression.or(other.compression),
            ca_certs: self.ca_certs.or(other.ca_certs),
            repo: self.repo.or(other.repo),
            coordinate: self.coordinate.or(other.coordinate),
            executor: self.executor.or(other.executor),
            snapshotter: self.snapshotter.or(other.snapshotter),
            auto_prune: self.auto_prune.or(other.auto_prune),
            ssh_known_hosts: self.ssh_known_hosts.or(other.ssh_known_hosts),
            registry,
        }
    }
}

/// Reads the text of a settings file.
///
/// # Errors
/// With `file:line:column` of what is wrong.
pub(super) fn parse(path: &Path, text: &str) -> Result<File, Failure> {
    toml::from_str(text).map_err(|error| toml_failure(path, text, &error))
}

/// `settings FILE:LINE:COLUMN: why`.
pub(super) fn toml_failure(path: &Path, text: &str, error: &toml::de::Error) -> Failure {
    let offset = error.span().map_or(0, |span| span.start.min(text.len()));
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    let why = error.message().replace('\n', "; ");
    Failure::input(format!("settings {}:{line}:{column}: {why}", path.display()))
}

/// Our own settings win over those of `registries.conf`.
pub(super) fn merge_registries(own: Registries, conf: RegistriesConf) -> Registries {
    let mut merged = conf.registries;
    merged.extend(own);
    merged
}
