//! What holds for a run of the program: the only reader of the environment, the home directory and settings files.
//!
//! Flag, then `STRAKE_*`, then `~/.config/strake/config.toml`, then `/etc/strake/config.toml`, then the default.
//! `docs/settings.md` is the table of all of them.

mod credentials;
mod file;
mod login;
mod outside;
mod registries;
mod room;
mod zone;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use strake_engine::image::PushOptions;
use strake_engine::lock::SharedLocks;
use strake_engine::{KeyError, SigningKey, TrustedKey};
use strake_etcd::{EtcdConfig, Secret};
use strake_graph::Network;
use strake_oci::{Compression, Platform, Reference};
use strake_registry::{ProxyConfig, RegistryConfig};
use strake_store::SnapshotterChoice;
use strake_store::room::RoomLimit;

use crate::args::{CompressionSpec, GlobalArgs, KeyArgs, NetworkSpec, ProgressMode, repository};
use crate::failure::Failure;
use file::File;
pub(crate) use outside::Outside;

/// What holds for a run of the program, whatever the command.
#[derive(Debug)]
pub(crate) struct Settings {
    /// The directory of the local store.
    pub(crate) root: PathBuf,
    /// How many steps may run at once.
    pub(crate) jobs: NonZeroUsize,
    /// How progress is shown.
    pub(crate) progress: ProgressMode,
    /// Whether colours are wanted.
    pub(crate) colour: bool,
    /// The network of steps that do not name one.
    pub(crate) network: Network,
    /// What to build and pull for.
    pub(crate) platform: Platform,
    /// How layers without a blob are compressed.
    pub(crate) compression: Compression,
    /// `SOURCE_DATE_EPOCH`, seconds since 1970.
    pub(crate) source_date_epoch: Option<i64>,
    /// Certificates that steps trust: `host` or a file.
    pub(crate) ca_certs: Option<PathBuf>,
    /// The repository that finished steps are shared through.
    pub(crate) repo: Option<Reference>,
    /// The key that what is published is signed with.
    pub(crate) signing_key: Option<SigningKey>,
    /// If there are any, only what was signed with one of these keys is used.
    pub(crate) trusted_keys: Vec<TrustedKey>,
    /// The etcd that machines coordinate through.
    coordinate: Option<EtcdConfig>,
    /// Which executor runs containers.
    pub(crate) executor: ExecutorChoice,
    /// Which snapshotter the store uses.
    pub(crate) snapshotter: SnapshotterChoice,
    /// How much the store may take before what was used least goes.
    pub(crate) auto_prune: Option<RoomLimit>,
    /// Where keys of ssh hosts are known from, if it is not the usual place.
    pub(crate) ssh_known_hosts: Option<PathBuf>,
    /// The program that makes private networks, if it is installed.
    pub(crate) pasta: Option<PathBuf>,
    /// Registries that `registries.conf` forbids, as `host` or `host/prefix`.
    pub(crate) blocked: Vec<String>,
    /// Build arguments for proxies that docker's `config.json` names.
    pub(crate) proxy_args: BTreeMap<String, String>,
    /// What developers want to see (`tracing` filter).
    pub(crate) log: Option<String>,
    /// What could not be read and does not stop the program.
    pub(crate) warnings: Vec<String>,
    /// Where the registries' settings and credentials are read from, at the first need of a registry.
    outside: Outside,
    mirrors: file::Registries,
    /// Said for this command only.
    login: Option<login::Login>,
}

/// Which executor runs containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ExecutorChoice {
    /// Our own.
    Own,
    /// An installed runc or crun.
    Runc(PathBuf),
}

impl Settings {
    /// Resolves everything once.
    ///
    /// # Errors
    /// When a settings file or a variable cannot be understood; unknown keys are errors.
    pub(crate) fn load(global: &GlobalArgs, outside: Outside) -> Result<Self, Failure> {
        let file = load_files(global, &outside)?;
        let text = |name: &str, from_file: &Option<String>| -> Result<Option<String>, Failure> {
            Ok(outside.text(name)?.filter(|value| !value.is_empty()).or_else(|| from_file.clone()))
        };
        let progress = match text("STRAKE_PROGRESS", &file.progress)? {
            Some(value) => choice("progress", &value)?,
            None => match outside.text("BUILDKIT_PROGRESS")?.filter(|value| !value.is_empty()) {
                Some(value) => choice("BUILDKIT_PROGRESS", &value)?,
                None => ProgressMode::Auto,
            },
        };
        let platform =
            match text("STRAKE_PLATFORM", &file.platform)?.or(outside.text("DOCKER_DEFAULT_PLATFORM")?) {
                Some(value) if !value.is_empty() => {
                    value.parse().map_err(|error| Failure::input(format!("platform {value:?}: {error}")))?
                }
                _ => Platform::host(),
            };
        let network = match text("STRAKE_NETWORK", &file.network)? {
            Some(value) => network(choice("network", &value)?),
            None => Network::Default,
        };
        let compression = match text("STRAKE_COMPRESSION", &file.compression)? {
            Some(value) => compression(choice("compression", &value)?),
            None => Compression::Gzip,
        };
        let jobs = match outside.text("STRAKE_JOBS")?.filter(|value| !value.is_empty()) {
            Some(value) => value
                .parse()
                .map_err(|_| Failure::input(format!("STRAKE_JOBS={value:?}: want a number from 1")))?,
            None => {
                file.jobs.or_else(|| std::thread::available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN)
            }
        };
        let (proxy_args, warnings) = match credentials::docker_proxies(&outside) {
            Ok(proxies) => (proxies, Vec::new()),
            Err(warning) => (BTreeMap::new(), vec![warning]),
        };
        let registries_conf = registries::read(&outside)?;
        Ok(Self {
            root: root(global, &outside, &file)?,
            jobs,
            progress,
            // https://no-color.org: present and not empty.
            colour: outside.text("NO_COLOR")?.is_none_or(|value| value.is_empty())
                && outside.text("TERM")?.as_deref() != Some("dumb"),
            network,
            platform,
            compression,
            source_date_epoch: source_date_epoch(&outside)?,
            ca_certs: text("STRAKE_CA_CERTS", &file.ca_certs)?.map(PathBuf::from),
            repo: repo(text("STRAKE_REPO", &file.repo)?)?,
            signing_key: None,
            trusted_keys: Vec::new(),
            coordinate: coordinate(text("STRAKE_COORDINATE", &file.coordinate)?)?,
            executor: executor(text("STRAKE_EXECUTOR", &file.executor)?.as_deref(), &outside)?,
            snapshotter: snapshotter(text("STRAKE_SNAPSHOTTER", &file.snapshotter)?.as_deref())?,
            auto_prune: room::limit(text("STRAKE_AUTO_PRUNE", &file.auto_prune)?.as_deref())?,
            ssh_known_hosts: outside.path("STRAKE_SSH_KNOWN_HOSTS").or(file.ssh_known_hosts),
            pasta: outside.program("pasta"),
            blocked: registries_conf.blocked.clone(),
            proxy_args,
            log: outside.text("STRAKE_LOG")?.filter(|value| !value.is_empty()),
            warnings,
            mirrors: file::merge_registries(file.registry, registries_conf),
            outside,
            login: None,
        })
    }

    /// Everything the registry client must know: mirrors, credentials, certificates, proxies.
    ///
    /// # Errors
    /// When a file that exists cannot be read or understood.
    pub(crate) fn registry(&self) -> Result<RegistryConfig, Failure> {
        let mut credentials = credentials::read(&self.outside)?;
        if let Some(login) = &self.login {
            login.add_to(&mut credentials)?;
        }
        let mut config = RegistryConfig { credentials, ..RegistryConfig::default() };
        for (name, registry) in &self.mirrors {
            if !registry.mirrors.is_empty() {
                config
                    .mirrors
                    .insert(name.clone(), registry.mirrors.iter().map(file::MirrorEntry::mirror).collect());
            }
            if registry.insecure {
                config.insecure.push(name.split('/').next().unwrap_or(name).to_owned());
            }
            if let Some(path) = &registry.ca {
                let pem =
                    std::fs::read(path).map_err(|error| Failure::file("read certificate", path, &error))?;
                config.tls.hosts.entry(name.clone()).or_default().roots.push(pem);
            }
        }
        registries::certificates(&self.outside, &mut config.tls.hosts)?;
        config.proxy = ProxyConfig {
            http: self.outside.either_case("HTTP_PROXY")?,
            https: self.outside.either_case("HTTPS_PROXY")?.or(self.outside.either_case("ALL_PROXY")?),
            no_proxy: self.outside.either_case("NO_PROXY")?,
        };
        if let Some(bundle) = self.outside.path("SSL_CERT_FILE") {
            config.tls.system_roots.insert(0, bundle);
        }
        Ok(config)
    }

    /// A variable of the environment, for `--build-arg NAME`, `--env NAME` and `--secret env=NAME`.
    pub(crate) fn variable(&self, name: &str) -> Option<&std::ffi::OsStr> {
        self.outside.raw(name)
    }

    /// What git inherits.
    pub(crate) fn environment(&self) -> impl Iterator<Item = (std::ffi::OsString, std::ffi::OsString)> {
        self.outside.variables()
    }

    /// The user's home directory.
    pub(crate) fn home(&self) -> Option<PathBuf> {
        self.outside.home()
    }

    /// Where the system wants temporary files.
    pub(crate) fn temp_dir(&self) -> PathBuf {
        self.outside.path("TMPDIR").unwrap_or_else(|| PathBuf::from("/tmp"))
    }

    /// The socket of the ssh agent of the user's session.
    pub(crate) fn ssh_agent(&self) -> Option<PathBuf> {
        self.outside.path("SSH_AUTH_SOCK")
    }

    /// The time zone that dates are shown in.
    pub(crate) fn time_zone(&self) -> jiff::tz::TimeZone {
        zone::local(&self.outside)
    }

    /// Whether this runs in a CI system whose logs show colours.
    pub(crate) fn is_ci(&self) -> bool {
        ["GITLAB_CI", "TRAVIS"]
            .into_iter()
            .any(|name| self.outside.raw(name).is_some_and(|value| !value.is_empty()))
    }

    /// Who keeps the locks that machines share: as typed, or as set.
    ///
    /// # Errors
    /// When there is nothing to coordinate, or a user without a password.
    pub(crate) fn coordinator(
        &self,
        typed: Option<&EtcdConfig>,
        has_repository: bool,
    ) -> Result<Option<Arc<SharedLocks>>, Failure> {
        if typed.is_some() && !has_repository {
            return Err(Failure::input("--coordinate: machines share nothing without a repository")
                .hint("name it with --repo REPO"));
        }
        let Some(config) = typed.or(self.coordinate.as_ref()).filter(|_| has_repository) else {
            return Ok(None);
        };
        let config = match self.outside.text("STRAKE_ETCD_PASSWORD")? {
            Some(password) => config.clone().with_password(Secret::new(password)),
            None => config.clone(),
        };
        if config.lacks_password() {
            return Err(Failure::input("etcd: a user is named, but no password")
                .hint("put it into the variable STRAKE_ETCD_PASSWORD"));
        }
        Ok(Some(Arc::new(SharedLocks::new(config))))
    }

    /// Reads the key to sign with and those to trust: as typed, or as set. Who signs trusts itself and whom it names,
    /// and nobody else.
    ///
    /// # Errors
    /// When a file cannot be read, or holds no such key.
    pub(crate) fn read_keys(&mut self, typed: &KeyArgs) -> Result<(), Failure> {
        let set = |name: &str| self.variable(name).filter(|value| !value.is_empty());
        let signing = typed.sign_key.clone().or_else(|| set("STRAKE_SIGN_KEY").map(PathBuf::from));
        let signing = signing.map(|path| read_key(&path, "sign key", SigningKey::from_pem)).transpose()?;
        let mut files = typed.trust.clone();
        if files.is_empty() {
            files.extend(set("STRAKE_TRUST").iter().flat_map(std::env::split_paths));
        }
        let trusted = files.iter().map(|path| read_key(path, "trusted key", TrustedKey::from_pem));
        let mut trusted = trusted.collect::<Result<Vec<_>, _>>()?;
        // Otherwise what somebody else wrote would be signed along with what stands on it.
        trusted.extend(signing.as_ref().map(SigningKey::public));
        (self.signing_key, self.trusted_keys) = (signing, trusted);
        Ok(())
    }

    /// How an image is pushed, unless something else is asked for.
    pub(crate) fn push_options(&self) -> PushOptions {
        PushOptions {
            compression: self.compression,
            signing_key: self.signing_key.clone(),
            ..PushOptions::default()
        }
    }

    /// The certificates that containers are to trust. `flag` wins over the settings.
    ///
    /// # Errors
    /// When the file cannot be read or holds no certificate.
    pub(crate) fn ca_certificates(&self, flag: Option<&PathBuf>) -> Result<Option<Vec<u8>>, Failure> {
        let Some(chosen) = flag.or(self.ca_certs.as_ref()) else { return Ok(None) };
        let path = if chosen.as_os_str() == "host" {
            let from_env = self.outside.path("SSL_CERT_FILE");
            let bundles = strake_registry::TlsConfig::default().system_roots;
            from_env.into_iter().chain(bundles).find(|path| path.is_file()).ok_or_else(|| {
                Failure::environment("--ca-certs host: this machine has no certificate bundle")
                    .hint("install the package ca-certificates, or name a PEM file")
            })?
        } else {
            chosen.clone()
        };
        let pem = std::fs::read(&path).map_err(|error| Failure::file("read certificates", &path, &error))?;
        let marker = b"-----BEGIN CERTIFICATE-----";
        if !pem.windows(marker.len()).any(|window| window == marker) {
            return Err(Failure::input(format!("certificates {}: no PEM certificate in it", path.display())));
        }
        Ok(Some(pem))
    }
}

fn load_files(global: &GlobalArgs, outside: &Outside) -> Result<File, Failure> {
    // A file that was named must exist; the usual places need not.
    if let Some(path) = global.config.clone().or_else(|| outside.path("STRAKE_CONFIG")) {
        let text =
            std::fs::read_to_string(&path).map_err(|error| Failure::file("read settings", &path, &error))?;
        return file::parse(&path, &text);
    }
    let mut merged = File::default();
    let user = outside.config_dir().map(|dir| dir.join("strake/config.toml"));
    for path in user.into_iter().chain([outside.etc("strake/config.toml")]) {
        if let Some(text) = outside.read_optional("settings", &path)? {
            merged = merged.or(file::parse(&path, &text)?);
        }
    }
    Ok(merged)
}

fn root(global: &GlobalArgs, outside: &Outside, file: &File) -> Result<PathBuf, Failure> {
    let named = global.root.clone().or_else(|| outside.path("STRAKE_ROOT")).or_else(|| file.root.clone());
    let root = match named {
        Some(root) => root,
        None if outside.is_root() => PathBuf::from("/var/lib/strake"),
        None => outside.data_dir().map(|dir| dir.join("strake")).ok_or_else(|| {
            Failure::environment("no place for the local store: neither XDG_DATA_HOME nor HOME is set")
                .hint("name a directory with --root DIR or STRAKE_ROOT")
        })?,
    };
    std::path::absolute(&root).map_err(|error| Failure::file("use store", &root, &error))
}

/// One of the values of a closed set, as a flag would take it.
fn choice<T: clap::ValueEnum>(what: &str, value: &str) -> Result<T, Failure> {
    T::from_str(value, false).map_err(|_| {
        let names = T::value_variants().iter().filter_map(clap::ValueEnum::to_possible_value);
        let names: Vec<_> = names.map(|name| name.get_name().to_owned()).collect();
        Failure::input(format!("{what} {value:?}: want one of {}", names.join(", ")))
    })
}

/// What the flag means.
pub(crate) fn network(spec: NetworkSpec) -> Network {
    match spec {
        NetworkSpec::Default => Network::Default,
        NetworkSpec::None => Network::None,
        NetworkSpec::Host => Network::Host,
    }
}

/// What the flag means.
pub(crate) fn compression(spec: CompressionSpec) -> Compression {
    match spec {
        CompressionSpec::Gzip => Compression::Gzip,
        CompressionSpec::Zstd => Compression::Zstd,
        CompressionSpec::Uncompressed => Compression::None,
    }
}

/// The latest second that a layer's tar can state without extensions, the year 2242; what is later is a mistake.
const EPOCH_MAX: i64 = 0o77_777_777_777;

fn coordinate(text: Option<String>) -> Result<Option<EtcdConfig>, Failure> {
    // The address may hold a password, so it is not repeated.
    let parse = |text: String| text.parse().map_err(|error| Failure::input(format!("coordinate: {error}")));
    text.map(parse).transpose()
}

fn read_key<K>(
    path: &Path,
    what: &str,
    parse: impl FnOnce(&str) -> Result<K, KeyError>,
) -> Result<K, Failure> {
    let failed = |error: &std::io::Error| {
        Failure::input(format!("{what} {}: {}", path.display(), crate::failure::reason(error)))
    };
    let text = std::fs::read_to_string(path).map_err(|error| failed(&error))?;
    parse(&text).map_err(|error| Failure::input(format!("{what} {}: {error}", path.display())))
}

fn repo(text: Option<String>) -> Result<Option<Reference>, Failure> {
    let parse =
        |text: String| repository(&text).map_err(|error| Failure::input(format!("repo {text}: {error}")));
    text.map(parse).transpose()
}

fn source_date_epoch(outside: &Outside) -> Result<Option<i64>, Failure> {
    let Some(value) = outside.text("SOURCE_DATE_EPOCH")?.filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    match value.parse() {
        Ok(seconds @ 0..=EPOCH_MAX) => Ok(Some(seconds)),
        _ => Err(Failure::input(format!(
            "SOURCE_DATE_EPOCH={value:?}: want seconds since 1970, such as 1700000000"
        ))),
    }
}

fn executor(value: Option<&str>, outside: &Outside) -> Result<ExecutorChoice, Failure> {
    match value {
        None | Some("own") => Ok(ExecutorChoice::Own),
        Some(name @ ("runc" | "crun")) => match outside.program(name) {
            Some(path) => Ok(ExecutorChoice::Runc(path)),
            None => Err(Failure::environment(format!("executor {name}: the program is not installed"))
                .hint(format!("install the package {name}, or leave the setting out"))),
        },
        Some(other) => Err(Failure::input(format!("executor {other:?}: want own, runc or crun"))),
    }
}

fn snapshotter(value: Option<&str>) -> Result<SnapshotterChoice, Failure> {
    match value {
        None | Some("auto") => Ok(SnapshotterChoice::Automatic),
        Some("overlay") => Ok(SnapshotterChoice::Overlay),
        Some("copy") => Ok(SnapshotterChoice::Copy),
        Some(other) => Err(Failure::input(format!("snapshotter {other:?}: want auto, overlay or copy"))),
    }
}

#[cfg(test)]
mod tests;
