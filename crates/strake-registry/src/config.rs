use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::{Credentials, Secret};

/// Everything the client must know about the user's registries: plain values, already read from files and the
/// environment by the caller.
///
/// Wherever a registry is named, the name is what stands in a reference: `ghcr.io`, `localhost:5000`, `docker.io`.
#[derive(Debug, Clone)]
pub struct RegistryConfig {
    /// Who we are, per registry.
    pub credentials: Credentials,
    /// Mirrors to try, in order, before a registry. A key is a host or `host/prefix`; the longest that fits wins.
    pub mirrors: BTreeMap<String, Vec<Mirror>>,
    /// Hosts for which an unverifiable certificate, and plain HTTP where HTTPS is not spoken, are accepted.
    /// Loopback hosts are always taken as speaking plain HTTP first.
    pub insecure: Vec<String>,
    /// Trust and identity for HTTPS.
    pub tls: TlsConfig,
    /// Proxies.
    pub proxy: ProxyConfig,
    /// How many downloads, how many uploads, and how many other requests may run at once against one host.
    pub max_parallel: usize,
    /// How often and how soon a failed request is repeated. Where nobody listens (connection refused, no such name) there
    /// is one quick repetition instead, and none on loopback, unless the host has answered this client before.
    pub retry: RetryPolicy,
    /// When a silent peer is given up.
    pub timeouts: Timeouts,
    /// The `User-Agent` to send.
    pub user_agent: String,
}

impl Default for RegistryConfig {
    fn default() -> Self {
        Self {
            credentials: Credentials::default(),
            mirrors: BTreeMap::new(),
            insecure: Vec::new(),
            tls: TlsConfig::default(),
            proxy: ProxyConfig::default(),
            // What docker's push uses is 5 and browsers settled on 6 connections per host; more gains nothing
            // because inflating and hashing are slower than one connection.
            max_parallel: 6,
            retry: RetryPolicy::default(),
            timeouts: Timeouts::default(),
            user_agent: concat!("strake/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

/// A registry that holds copies of another's repositories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// The host, with its port and an optional path prefix that goes before the repository: `mirror.example:5000`,
    /// `harbor.example/dockerhub`.
    pub host: String,
    /// Whether plain HTTP and unverifiable certificates are accepted from it.
    pub insecure: bool,
}

/// Trust and identity for HTTPS.
#[derive(Debug, Clone)]
pub struct TlsConfig {
    /// Files with the system's trusted roots, PEM. The first that exists is read, at the first HTTPS request.
    pub system_roots: Vec<PathBuf>,
    /// Further trusted roots for every host, PEM.
    pub extra_roots: Vec<Vec<u8>>,
    /// What differs per host, as in `certs.d/<host>/`.
    pub hosts: BTreeMap<String, HostTls>,
}

impl Default for TlsConfig {
    fn default() -> Self {
        let bundles = [
            "/etc/ssl/certs/ca-certificates.crt",
            "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
            "/etc/pki/tls/certs/ca-bundle.crt",
            "/etc/ssl/ca-bundle.pem",
            "/etc/ssl/cert.pem",
        ];
        Self {
            system_roots: bundles.map(PathBuf::from).to_vec(),
            extra_roots: Vec::new(),
            hosts: BTreeMap::new(),
        }
    }
}

/// Trust and identity for one host.
#[derive(Debug, Clone, Default)]
pub struct HostTls {
    /// Trusted roots for this host beside the others, PEM (`ca.crt`).
    pub roots: Vec<Vec<u8>>,
    /// How we identify ourselves to it.
    pub identity: Option<ClientIdentity>,
}

/// A client certificate (`client.cert`, `client.key`).
#[derive(Debug, Clone)]
pub struct ClientIdentity {
    /// The certificate chain, PEM.
    pub certificates: Vec<u8>,
    /// The private key, PEM.
    pub key: Secret,
}

/// Proxies, as the environment variables of the same names give them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ProxyConfig {
    /// For plain HTTP.
    pub http: Option<String>,
    /// For HTTPS.
    pub https: Option<String>,
    /// Hosts, domains, addresses and CIDR ranges to reach directly, separated by commas. Loopback always is.
    pub no_proxy: Option<String>,
}

impl fmt::Debug for ProxyConfig {
    /// Without the addresses: they may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProxyConfig")
            .field("http", &self.http.is_some())
            .field("https", &self.https.is_some())
            .field("no_proxy", &self.no_proxy)
            .finish()
    }
}

/// How often and how soon a failed request is repeated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Tries after the first one. Progress in between starts the count anew.
    pub retries: u32,
    /// The same where no connection came about, or nothing was said in time; never more than `retries`.
    pub silent_retries: u32,
    /// The wait before the first repetition; each further one doubles it, and a random part of up to half is added.
    pub first_delay: Duration,
    /// The longest wait of our own choice.
    pub max_delay: Duration,
    /// The longest wait that a registry's `Retry-After` is obeyed for; a longer one fails at once, saying so.
    pub max_retry_after: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            retries: 5,
            silent_retries: 5,
            first_delay: Duration::from_millis(200),
            max_delay: Duration::from_secs(10),
            max_retry_after: Duration::from_secs(120),
        }
    }
}

/// When a silent peer is given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection with its TLS handshake.
    pub connect: Duration,
    /// For an answer to begin, with the connection that it needs.
    pub answer: Duration,
    /// Between two pieces of an answer or of a blob that is sent.
    pub idle: Duration,
    /// For a manifest, a token or another small answer as a whole: a peer that sends one byte now and then never
    /// hits `idle`.
    pub small_answer: Duration,
    /// For a credential helper.
    pub helper: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(20),
            // A registry on object storage can be silent for long while it assembles a large upload.
            answer: Duration::from_secs(120),
            idle: Duration::from_secs(120),
            small_answer: Duration::from_secs(180),
            helper: Duration::from_secs(60),
        }
    }
}

impl RegistryConfig {
    /// The same for what can be done without: whoever says nothing is given up after a quarter of a minute, or half a
    /// minute into a transfer. Who answers, be it with a failure, is asked as often as otherwise.
    #[must_use]
    pub(crate) fn hurried(&self) -> Self {
        let (answer, idle) = (Duration::from_secs(7), Duration::from_secs(30));
        let timeouts = Timeouts {
            connect: answer.min(self.timeouts.connect),
            answer: answer.min(self.timeouts.answer),
            idle: idle.min(self.timeouts.idle),
            small_answer: idle.min(self.timeouts.small_answer),
            ..self.timeouts.clone()
        };
        let retry = RetryPolicy { silent_retries: self.retry.silent_retries.min(1), ..self.retry.clone() };
        Self { timeouts, retry, ..self.clone() }
    }
}
