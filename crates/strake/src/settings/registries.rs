//! What other tools' files say about registries: `registries.conf` (containers-registries.conf(5), version 2) and
//! `certs.d` (containers-certs.d(5)).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use strake_registry::{ClientIdentity, HostTls, Secret};

use super::Outside;
use super::file::{MirrorEntry, Registries, Registry, toml_failure};
use crate::failure::Failure;

/// What we take from `registries.conf`.
#[derive(Debug, Default)]
pub(super) struct RegistriesConf {
    pub(super) registries: Registries,
    pub(super) blocked: Vec<String>,
}

/// Other tools' keys are theirs: unknown ones are passed over.
#[derive(Debug, Default, Deserialize)]
struct Conf {
    #[serde(default)]
    registry: Vec<ConfRegistry>,
}

#[derive(Debug, Deserialize)]
struct ConfRegistry {
    prefix: Option<String>,
    location: Option<String>,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    blocked: bool,
    #[serde(default)]
    mirror: Vec<ConfMirror>,
}

#[derive(Debug, Deserialize)]
struct ConfMirror {
    location: String,
    #[serde(default)]
    insecure: bool,
}

impl ConfMirror {
    fn entry(&self) -> MirrorEntry {
        MirrorEntry(if self.insecure { format!("http://{}", self.location) } else { self.location.clone() })
    }
}

/// Reads the first of the files that exists.
///
/// # Errors
/// When it is not TOML of the known shape.
pub(super) fn read(outside: &Outside) -> Result<RegistriesConf, Failure> {
    let named = outside.path("CONTAINERS_REGISTRIES_CONF");
    let user = outside.config_dir().map(|dir| dir.join("containers/registries.conf"));
    let places = named.into_iter().chain(user).chain([outside.etc("containers/registries.conf")]);
    for path in places {
        if let Some(text) = outside.read_optional("registries", &path)? {
            let conf: Conf = toml::from_str(&text).map_err(|error| toml_failure(&path, &text, &error))?;
            return Ok(conf.registry.into_iter().fold(RegistriesConf::default(), add));
        }
    }
    Ok(RegistriesConf::default())
}

fn add(mut conf: RegistriesConf, entry: ConfRegistry) -> RegistriesConf {
    let Some(name) = entry.prefix.clone().or_else(|| entry.location.clone()) else { return conf };
    // `*.example.com` stands for subdomains; the client looks up whole hosts only.
    if name.starts_with("*.") {
        return conf;
    }
    if entry.blocked {
        conf.blocked.push(name.clone());
    }
    let mut mirrors: Vec<_> = entry.mirror.iter().map(ConfMirror::entry).collect();
    // A location other than the prefix is where the content really is: for us, one more mirror.
    if let Some(location) = entry.location.filter(|location| *location != name) {
        mirrors.push(MirrorEntry(if entry.insecure { format!("http://{location}") } else { location }));
    }
    conf.registries.insert(name, Registry { mirrors, insecure: entry.insecure, ca: None });
    conf
}

/// Reads `certs.d/<host>/` of docker and of containers: `*.crt` are roots, `x.cert` with `x.key` is an identity.
///
/// # Errors
/// When a file that is there cannot be read.
pub(super) fn certificates(outside: &Outside, hosts: &mut BTreeMap<String, HostTls>) -> Result<(), Failure> {
    let user = outside.config_dir().map(|dir| dir.join("containers/certs.d"));
    let docker_user = outside.home().map(|home| home.join(".docker/certs.d"));
    let machine = [outside.etc("containers/certs.d"), outside.etc("docker/certs.d")];
    for place in user.into_iter().chain(docker_user).chain(machine) {
        for (host, directory) in entries(&place) {
            if directory.is_dir() {
                read_host(&directory, hosts.entry(host).or_default())?;
            }
        }
    }
    Ok(())
}

/// The names in a directory with their paths, sorted; none if it cannot be read.
fn entries(directory: &Path) -> Vec<(String, PathBuf)> {
    let Ok(found) = fs::read_dir(directory) else { return Vec::new() };
    let mut entries: Vec<_> = found
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok().map(|name| (name, entry.path())))
        .collect();
    entries.sort();
    entries
}

fn read_host(directory: &Path, tls: &mut HostTls) -> Result<(), Failure> {
    let read = |path: &Path| fs::read(path).map_err(|error| Failure::file("read certificate", path, &error));
    for (name, path) in entries(directory) {
        if name.ends_with(".crt") {
            tls.roots.push(read(&path)?);
        } else if name.ends_with(".cert") && tls.identity.is_none() {
            let key = path.with_extension("key");
            let key_text = String::from_utf8(read(&key)?)
                .map_err(|_| Failure::environment(format!("read key {}: not PEM", key.display())))?;
            tls.identity = Some(ClientIdentity { certificates: read(&path)?, key: Secret::new(key_text) });
        }
    }
    Ok(())
}
