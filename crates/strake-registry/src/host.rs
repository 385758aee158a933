//! Hosts: which address a registry's name means, how it is spoken to, and the connections to it.

use std::net::IpAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reqwest::{NoProxy, Proxy, redirect, retry};
use rustls::ClientConfig;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};

use crate::auth::AuthState;
use crate::tls::{Trust, no_tls};
use crate::{ErrorKind, RegistryConfig, RegistryError};

/// How long an unused connection stays open. Registries behind load balancers close theirs after 60 s or more; to be
/// first avoids sending on a connection that is about to die.
const IDLE_CONNECTION: Duration = Duration::from_secs(30);

/// Encrypted or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    pub(crate) fn of(url: &reqwest::Url) -> Self {
        if url.scheme() == "http" { Self::Http } else { Self::Https }
    }
}

/// What a request is for. Each lane has a limit of its own: a transfer lasts as long as its reader or writer takes,
/// and whoever reads one blob may have to ask for a manifest, or send another blob, before going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Documents and questions.
    Small,
    /// Blobs that arrive.
    Down,
    /// Blobs that are sent.
    Up,
}

/// What a registry does with content that comes with the request for an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SinglePost {
    Taken,
    NotTaken,
}

/// One host, everything that is remembered of it.
#[derive(Debug)]
pub(crate) struct Host {
    /// Host and port as in a URL.
    pub(crate) authority: String,
    /// Whether unverifiable certificates are accepted.
    pub(crate) insecure: bool,
    /// What to try, in order, until one is answered.
    pub(crate) candidates: Vec<Scheme>,
    /// The one that was answered.
    pub(crate) decided: OnceLock<Scheme>,
    /// Known once a small blob was sent.
    pub(crate) single_post: OnceLock<SinglePost>,
    /// Bounds the requests at one time, by lane.
    permits: [Arc<Semaphore>; 3],
    pub(crate) auth: Mutex<AuthState>,
    /// A mirror that served wrong content is not asked again.
    pub(crate) distrusted: AtomicBool,
    pub(crate) loopback: bool,
    plain: OnceLock<Result<reqwest::Client, RegistryError>>,
    secure: OnceLock<Result<reqwest::Client, RegistryError>>,
}

impl Host {
    pub(crate) fn new(config: &RegistryConfig, authority: &str) -> Self {
        let loopback = is_loopback(authority);
        let insecure = is_insecure(config, authority);
        let has_own_trust = config.tls.hosts.contains_key(tls_name(authority));
        let candidates = match (loopback && !has_own_trust, insecure) {
            (true, _) => vec![Scheme::Http, Scheme::Https],
            (false, true) => vec![Scheme::Https, Scheme::Http],
            (false, false) => vec![Scheme::Https],
        };
        Self {
            authority: authority.to_owned(),
            insecure,
            candidates,
            decided: OnceLock::new(),
            single_post: OnceLock::new(),
            permits: [(); 3].map(|()| Arc::new(Semaphore::new(config.max_parallel.max(1)))),
            auth: Mutex::default(),
            distrusted: AtomicBool::new(false),
            loopback,
            plain: OnceLock::new(),
            secure: OnceLock::new(),
        }
    }

    /// Waits until one more request may run in a lane.
    pub(crate) async fn permit(&self, lane: Lane) -> Option<OwnedSemaphorePermit> {
        // Nobody closes these, so there always is one.
        Arc::clone(&self.permits[lane as usize]).acquire_owned().await.ok()
    }

    /// The connections to this host, made when first needed: reading the trusted roots takes milliseconds that a
    /// registry on loopback should not cost.
    pub(crate) fn connections(
        &self,
        scheme: Scheme,
        config: &RegistryConfig,
        trust: &Trust,
    ) -> Result<reqwest::Client, RegistryError> {
        let made = match scheme {
            Scheme::Http => self.plain.get_or_init(|| connections(config, no_tls(), self.loopback)),
            Scheme::Https => self.secure.get_or_init(|| {
                let tls = trust.client_config(&config.tls, tls_name(&self.authority), self.insecure)?;
                connections(config, tls, self.loopback)
            }),
        };
        made.clone()
    }
}

fn connections(
    config: &RegistryConfig,
    tls: ClientConfig,
    direct: bool,
) -> Result<reqwest::Client, RegistryError> {
    let fail = |what: &str, error: reqwest::Error| {
        RegistryError::new(ErrorKind::Settings, format!("set up {what}"), error.without_url().to_string())
    };
    let mut builder = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        // Redirects, proxies and repetitions follow our own rules, not the library's or the environment's.
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .no_proxy()
        .referer(false)
        .http1_only()
        .tcp_nodelay(true)
        .connect_timeout(config.timeouts.connect)
        .pool_max_idle_per_host(config.max_parallel.max(1))
        .pool_idle_timeout(IDLE_CONNECTION)
        .user_agent(config.user_agent.as_str());
    if !direct {
        let except = config.proxy.no_proxy.as_deref().and_then(NoProxy::from_string);
        if let Some(address) = &config.proxy.http {
            let proxy = Proxy::http(address).map_err(|error| fail("the HTTP proxy", error))?;
            builder = builder.proxy(proxy.no_proxy(except.clone()));
        }
        if let Some(address) = &config.proxy.https {
            let proxy = Proxy::https(address).map_err(|error| fail("the HTTPS proxy", error))?;
            builder = builder.proxy(proxy.no_proxy(except));
        }
    }
    builder.build().map_err(|error| fail("connections", error))
}

/// The address that serves a registry's API.
pub(crate) fn authority_of(registry: &str) -> &str {
    match registry {
        "docker.io" => "registry-1.docker.io",
        other => other,
    }
}

/// The name under which the settings keep what differs for a host.
fn tls_name(authority: &str) -> &str {
    match authority {
        "registry-1.docker.io" => "docker.io",
        other => other,
    }
}

fn is_insecure(config: &RegistryConfig, authority: &str) -> bool {
    let name = tls_name(authority);
    let mirrors = config.mirrors.values().flatten().filter(|mirror| mirror.insecure);
    let mirror_hosts = mirrors.map(|mirror| mirror.host.split('/').next().unwrap_or_default());
    let listed = config.insecure.iter().map(String::as_str).chain(mirror_hosts);
    listed.into_iter().any(|entry| entry == name || entry == host_name(name))
}

/// The authority without its port.
fn host_name(authority: &str) -> &str {
    if authority.starts_with('[') {
        return authority.split_inclusive(']').next().unwrap_or(authority);
    }
    authority.split(':').next().unwrap_or(authority)
}

/// Whether traffic to this host never leaves the machine.
fn is_loopback(authority: &str) -> bool {
    let name = host_name(authority);
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name == "localhost"
        || name.ends_with(".localhost")
        || address.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HostTls, Mirror};

    #[test]
    fn loopback_is_an_address_not_a_spelling() {
        for host in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.9.9.9", "[::1]:80", "a.localhost"]
        {
            assert!(is_loopback(host), "{host}");
        }
        for host in
            ["localhost.example", "127.0.0.1.example", "10.0.0.1", "[::2]", "mylocalhost", "127.0.0.1x"]
        {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn what_is_spoken_to_whom() {
        let mut config = RegistryConfig { insecure: vec!["lab".to_owned()], ..RegistryConfig::default() };
        let mirror = Mirror { host: "m:5000/hub".to_owned(), insecure: true };
        config.mirrors.insert("docker.io".to_owned(), vec![mirror]);
        config.tls.hosts.insert("localhost:1".to_owned(), HostTls::default());
        let check = |authority: &str, expect: &[Scheme]| {
            assert_eq!(Host::new(&config, authority).candidates, expect, "{authority}");
        };
        check("ghcr.io", &[Scheme::Https]);
        check("lab:5000", &[Scheme::Https, Scheme::Http]);
        check("lab.example", &[Scheme::Https]);
        check("m:5000", &[Scheme::Https, Scheme::Http]);
        check("m:5001", &[Scheme::Https]);
        check("localhost:2", &[Scheme::Http, Scheme::Https]);
        check("localhost:1", &[Scheme::Https]);
        assert_eq!(authority_of("docker.io"), "registry-1.docker.io");
    }

    #[test]
    fn a_bad_proxy_is_named() {
        let proxy = crate::ProxyConfig { https: Some("http://[".to_owned()), ..Default::default() };
        let config = RegistryConfig { proxy, ..RegistryConfig::default() };
        let error = Host::new(&config, "ghcr.io").connections(Scheme::Http, &config, &Trust::default());
        assert_eq!(error.unwrap_err().operation, "set up the HTTPS proxy");
    }
}
