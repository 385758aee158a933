//! Docker's `config.json` and containers' `auth.json`: who we are to registries, and which proxies steps use.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use strake_registry::{Credential, Credentials, Secret};

use super::Outside;
use crate::failure::{Failure, Kind};

/// Reads a directory that was named for strake alone; otherwise takes the token of a GitLab job, and reads all files.
/// What comes earlier wins.
///
/// # Errors
/// When a file that exists, or was named, cannot be read or understood.
pub(super) fn read(outside: &Outside) -> Result<Credentials, Failure> {
    if let Some(directory) = either(outside, "DOCKER_CONFIG") {
        let path = PathBuf::from(directory).join("config.json");
        let text = std::fs::read_to_string(&path)
            .map_err(|error| Failure::file("read credentials", &path, &error))?;
        return Credentials::from_json(&text).map_err(|error| unusable(&path.display().to_string(), error));
    }
    let mut credentials = Credentials::default();
    if let Some((registry, token)) = ci_token(outside)? {
        let password = Secret::new(token);
        credentials.say(&registry, Credential::Basic { user: "gitlab-ci-token".to_owned(), password });
    }
    if let Some(text) = outside.text("DOCKER_AUTH_CONFIG")?.filter(|text| !text.is_empty()) {
        let found = Credentials::from_json(&text).map_err(|error| unusable("DOCKER_AUTH_CONFIG", error))?;
        credentials.merge(found);
    }
    for path in places(outside) {
        if let Some(text) = outside.read_optional("credentials", &path)? {
            let found = Credentials::from_json(&text)
                .map_err(|error| unusable(&path.display().to_string(), error))?;
            credentials.merge(found);
        }
    }
    Ok(credentials)
}

/// A variable of ours, or of dapp's.
fn either<'o>(outside: &'o Outside, name: &str) -> Option<&'o std::ffi::OsStr> {
    let variable = |prefix: &str| outside.raw(&format!("{prefix}_{name}")).filter(|value| !value.is_empty());
    variable("STRAKE").or_else(|| variable("DAPP"))
}

/// The registry of a GitLab project and the token that a job has for it. Google's registry knows no such tokens.
fn ci_token(outside: &Outside) -> Result<Option<(String, String)>, Failure> {
    let variable = |name: &str| Ok::<_, Failure>(outside.text(name)?.filter(|value| !value.is_empty()));
    let is_wanted =
        variable("GITLAB_CI")?.is_some() && either(outside, "IGNORE_CI_DOCKER_AUTOLOGIN").is_none();
    let pair = variable("CI_REGISTRY")?.zip(variable("CI_JOB_TOKEN")?);
    Ok(pair.filter(|(registry, _)| is_wanted && !is_googles(registry)))
}

fn is_googles(registry: &str) -> bool {
    let host = registry.split('/').next().unwrap_or_default();
    host == "gcr.io" || host.ends_with(".gcr.io") || host.ends_with("-docker.pkg.dev")
}

fn unusable(place: &str, error: strake_registry::RegistryError) -> Failure {
    Failure { kind: Kind::Environment, ..Failure::from(error) }.about(place)
}

/// Docker's file first, as its users expect; then those of podman, buildah and skopeo.
fn places(outside: &Outside) -> Vec<PathBuf> {
    // A file that was named stands alone for the containers tools.
    let named = outside.path("REGISTRY_AUTH_FILE");
    let runtime = outside.path("XDG_RUNTIME_DIR").map(|dir| dir.join("containers/auth.json"));
    let config = outside.config_dir().map(|dir| dir.join("containers/auth.json"));
    let containers = match named {
        Some(path) => vec![path],
        None => runtime.into_iter().chain(config).collect(),
    };
    let named_first = outside.path("REGISTRY_AUTH_FILE").is_some() && outside.path("DOCKER_CONFIG").is_none();
    let docker = docker_config(outside);
    if named_first {
        containers.into_iter().chain(docker).collect()
    } else {
        docker.into_iter().chain(containers).collect()
    }
}

fn docker_config(outside: &Outside) -> Option<PathBuf> {
    let named = outside.path("DOCKER_CONFIG");
    let directory = named.or_else(|| outside.home().map(|home| home.join(".docker")))?;
    Some(directory.join("config.json"))
}

/// The proxy settings that docker gives to every build as build arguments (`proxies.default`).
///
/// # Errors
/// With a warning when the file cannot be read or understood; a build may well not need it.
pub(super) fn docker_proxies(outside: &Outside) -> Result<BTreeMap<String, String>, String> {
    #[derive(Default, Deserialize)]
    struct Config {
        #[serde(default)]
        proxies: BTreeMap<String, serde_json::Value>,
    }
    let Some(path) = docker_config(outside) else { return Ok(BTreeMap::new()) };
    let text = outside.read_optional("docker's settings", &path).map_err(|failure| failure.message)?;
    let Some(text) = text.filter(|text| text.contains("\"proxies\"")) else { return Ok(BTreeMap::new()) };
    let config: Config = serde_json::from_str(&text).map_err(|error| {
        format!("{}:{}:{}: not JSON of the known shape", path.display(), error.line(), error.column())
    })?;
    let default = config.proxies.get("default");
    let names = [
        ("httpProxy", "HTTP_PROXY"),
        ("httpsProxy", "HTTPS_PROXY"),
        ("noProxy", "NO_PROXY"),
        ("ftpProxy", "FTP_PROXY"),
        ("allProxy", "ALL_PROXY"),
    ];
    let value = |key: &str| default?.get(key)?.as_str().filter(|value| !value.is_empty()).map(str::to_owned);
    let found = names.into_iter().filter_map(|(key, name)| Some((name, value(key)?)));
    Ok(found
        .flat_map(|(name, value)| [(name.to_owned(), value.clone()), (name.to_lowercase(), value)])
        .collect())
}
