//! Where etcd is and how it is spoken to.
//!
//! `etcd://[USER[:PASSWORD]@]HOST[:PORT][,HOST[:PORT]…][/PREFIX][?SETTING[&SETTING…]]`, or `etcds://` for TLS. Settings
//! are `ttl=10s`, `ca=FILE`, `cert=FILE` and `key=FILE`. User, password, prefix and files may be percent-encoded.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use reqwest::Url;

use crate::{ErrorKind, EtcdError, Secret};

/// Where etcd listens by convention.
const PORT: u16 = 2379;

/// More endpoints than any cluster has members.
const MAX_ENDPOINTS: usize = 16;

/// etcd itself makes leases of less than about 2 s longer; one of more than an hour would keep a dead node's locks
/// for longer than anybody waits.
const TTL_SECONDS: std::ops::RangeInclusive<u64> = 1..=3600;

/// How to reach etcd.
#[derive(Debug, Clone)]
pub struct EtcdConfig {
    /// The members' addresses, one or more; tried in turn.
    pub(crate) endpoints: Vec<Url>,
    /// What all our keys begin with; neither begins nor ends with a slash.
    pub(crate) prefix: String,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<Secret>,
    pub(crate) tls: TlsFiles,
    pub(crate) lease_ttl: Duration,
    pub(crate) timeouts: Timeouts,
}

/// Files in PEM form for TLS; read at the first request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// The authority that signed the server's certificate; without it the system's authorities are trusted.
    pub ca: Option<PathBuf>,
    /// Our certificate and its key, for a server that asks for them.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// How long is waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection to one endpoint.
    pub connect: Duration,
    /// For the whole answer of one endpoint.
    pub answer: Duration,
    /// For one operation with all its repetitions and endpoints.
    pub operation: Duration,
    /// For letting go of a lock, and of the lease when the process ends.
    pub release: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(2),
            // An etcd whose disk stalls for longer has lost its leader to itself already.
            answer: Duration::from_secs(3),
            operation: Duration::from_secs(6),
            release: Duration::from_secs(2),
        }
    }
}

impl EtcdConfig {
    /// The same with a password, instead of any in the address.
    #[must_use]
    pub fn with_password(mut self, password: Secret) -> Self {
        self.password = Some(password);
        self
    }

    /// The same with other timeouts.
    #[must_use]
    pub fn with_timeouts(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = timeouts;
        self
    }

    /// How long a lock outlives a holder that died.
    pub fn lease_ttl(&self) -> Duration {
        self.lease_ttl
    }

    /// Whether a user is named but no password.
    pub fn lacks_password(&self) -> bool {
        self.user.is_some() && self.password.is_none()
    }
}

/// Without user and password, for messages.
impl fmt::Display for EtcdConfig {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_secure = self.endpoints.first().is_some_and(|endpoint| endpoint.scheme() == "https");
        out.write_str(if is_secure { "etcds://" } else { "etcd://" })?;
        for (number, endpoint) in self.endpoints.iter().enumerate() {
            out.write_str(if number > 0 { "," } else { "" })?;
            out.write_str(&place(endpoint))?;
        }
        write!(out, "/{}", self.prefix)
    }
}

/// `host:port` of an endpoint.
pub(crate) fn place(endpoint: &Url) -> String {
    let port = endpoint.port_or_known_default().unwrap_or(PORT);
    format!("{}:{port}", endpoint.host_str().unwrap_or_default())
}

/// Reads an address. Its errors repeat nothing of it: a slip of the pen can put the password into any part.
impl FromStr for EtcdConfig {
    type Err = EtcdError;

    fn from_str(address: &str) -> Result<Self, EtcdError> {
        let (scheme, rest) = match address.split_once("://") {
            Some(("etcd", rest)) => ("http", rest),
            Some(("etcds", rest)) => ("https", rest),
            _ => return Err(wrong("it begins with neither etcd:// nor etcds://")),
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, hosts) = match authority.rsplit_once('@') {
            Some((login, hosts)) => (Some(login), hosts),
            None => (None, authority),
        };
        let (user, password) = match login.map(|login| login.split_once(':').unwrap_or((login, ""))) {
            None | Some(("", "")) => (None, None),
            Some(("", _)) => return Err(wrong("it has a password but no user")),
            Some((user, password)) => (Some(decoded(user)?), Some(decoded(password)?)),
        };
        let mut config = Self {
            endpoints: endpoints(scheme, hosts)?,
            prefix: decoded(prefix)?.trim_matches('/').to_owned(),
            user,
            password: password.filter(|password| !password.is_empty()).map(Secret::new),
            tls: TlsFiles::default(),
            lease_ttl: Duration::from_secs(10),
            timeouts: Timeouts::default(),
        };
        if config.prefix.is_empty() {
            "strake".clone_into(&mut config.prefix);
        }
        config.read_settings(query)?;
        if scheme == "http" && config.tls != TlsFiles::default() {
            return Err(wrong("it names certificates but no TLS").hint("write etcds://"));
        }
        Ok(config)
    }
}

impl EtcdConfig {
    fn read_settings(&mut self, query: &str) -> Result<(), EtcdError> {
        let (mut certificate, mut key) = (None, None);
        for setting in query.split('&').filter(|setting| !setting.is_empty()) {
            let (name, value) = setting.split_once('=').unwrap_or((setting, ""));
            let value = decoded(value)?;
            match name {
                "ttl" => self.lease_ttl = ttl(&value)?,
                "ca" | "cert" | "key" if value.is_empty() => {
                    return Err(wrong("one of its settings has no value"));
                }
                "ca" => self.tls.ca = Some(value.into()),
                "cert" => certificate = Some(value.into()),
                "key" => key = Some(value.into()),
                _ => return Err(wrong("it has a setting that is none of ttl, ca, cert and key")),
            }
        }
        self.tls.identity = match (certificate, key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => return Err(wrong("it has only one of cert and key").hint("a certificate needs its key")),
        };
        Ok(())
    }
}

fn wrong(detail: impl Into<String>) -> EtcdError {
    EtcdError::new(ErrorKind::Settings, "read the address of etcd", detail)
}

fn decoded(text: &str) -> Result<String, EtcdError> {
    let text = percent_decode_str(text).decode_utf8().map_err(|_| wrong("it is not UTF-8"))?;
    if text.chars().any(char::is_control) {
        return Err(wrong("it has control characters"));
    }
    Ok(text.into_owned())
}

fn endpoints(scheme: &str, hosts: &str) -> Result<Vec<Url>, EtcdError> {
    let hosts: Vec<&str> = hosts.split(',').collect();
    if hosts.len() > MAX_ENDPOINTS {
        return Err(wrong(format!("it has more than {MAX_ENDPOINTS} endpoints")));
    }
    hosts.iter().enumerate().map(|(index, host)| endpoint(scheme, host, index + 1)).collect()
}

fn endpoint(scheme: &str, text: &str, number: usize) -> Result<Url, EtcdError> {
    let is_ip6 = text.starts_with('[');
    let (host, port) = match text.rfind(':').filter(|&colon| !is_ip6 || text[..colon].ends_with(']')) {
        Some(colon) => (&text[..colon], Some(&text[colon + 1..])),
        None => (text, None),
    };
    if host.is_empty() {
        return Err(wrong(format!("endpoint {number} has no host")));
    }
    if !is_ip6 && host.contains(':') {
        return Err(wrong(format!("endpoint {number} has several colons")).hint("write IPv6 as [::1]:2379"));
    }
    let port = match port.map(str::parse::<u16>) {
        None => PORT,
        Some(Ok(port)) if port > 0 => port,
        Some(_) => return Err(wrong(format!("the port of endpoint {number} is no number up to 65535"))),
    };
    let is_host = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
    let url = Url::parse(&format!("{scheme}://{host}:{port}/")).ok().filter(|_| host.chars().all(is_host));
    url.ok_or_else(|| wrong(format!("endpoint {number} is neither a host name nor an IP address")))
}

fn ttl(text: &str) -> Result<Duration, EtcdError> {
    let (digits, unit) = match (text.strip_suffix('s'), text.strip_suffix('m')) {
        (Some(digits), _) => (digits, 1),
        (_, Some(digits)) => (digits, 60),
        _ => (text, 1),
    };
    let seconds = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    let seconds = seconds.filter(|seconds| TTL_SECONDS.contains(seconds));
    seconds.map(Duration::from_secs).ok_or_else(|| wrong("its ttl is no time from 1s to 60m"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(address: &str) -> EtcdConfig {
        address.parse().unwrap_or_else(|error| panic!("{address}: {error}"))
    }

    #[test]
    fn short_addresses_have_defaults() {
        let config = read("etcd://db");
        assert_eq!(config.to_string(), "etcd://db:2379/strake");
        assert_eq!((config.lease_ttl, config.user.as_deref()), (Duration::from_secs(10), None));
        assert_eq!(config.tls, TlsFiles::default());
        assert_eq!(read("etcd://db:80/").to_string(), "etcd://db:80/strake");
    }

    #[test]
    fn long_addresses_say_everything() {
        let config = read(
            "etcds://ci:p%40s:s@a.example:1,[::1]:2,10.0.0.3,[fe80::1]/team/x/?ttl=2m&ca=/c%20a&cert=c.pem&key=k.pem",
        );
        assert_eq!(config.to_string(), "etcds://a.example:1,[::1]:2,10.0.0.3:2379,[fe80::1]:2379/team/x");
        assert_eq!(config.user.as_deref(), Some("ci"));
        assert_eq!(config.password, Some(Secret::new("p@s:s")));
        assert_eq!(config.lease_ttl, Duration::from_secs(120));
        assert_eq!(config.tls.ca, Some("/c a".into()));
        assert_eq!(config.tls.identity, Some(("c.pem".into(), "k.pem".into())));
        let shown = format!("{config:?}{config}");
        assert!(!shown.contains("p@s"), "{shown}");
    }

    #[test]
    fn a_password_may_come_later() {
        let config = read("etcd://ci@db");
        assert!(config.lacks_password());
        assert!(!config.with_password(Secret::new("x")).lacks_password());
        assert!(!read("etcd://db").lacks_password());
    }

    #[test]
    fn wrong_addresses_are_explained_and_not_repeated() {
        let check = |address: &str, expect: &str| {
            let error = address.parse::<EtcdConfig>().expect_err(address).to_string();
            assert!(error.contains(expect), "{address}: {error}");
            assert!(!error.contains("hunter2"), "{address}: {error}");
        };
        check("http://db", "begins with neither");
        check("hunter2", "begins with neither");
        check("etcd://", "endpoint 1 has no host");
        check("etcd://u:hunter2@", "endpoint 1 has no host");
        check("etcd://a,,b", "endpoint 2 has no host");
        check("etcd://u:hunter2", "the port of endpoint 1");
        check("etcd://u:hunter2/x@db", "the port of endpoint 1");
        check("etcd://u:1?hunter2@db", "a setting that is none");
        check("etcd://db:0", "the port of endpoint 1");
        check("etcd://db:65536", "the port of endpoint 1");
        check("etcd://::1", "several colons");
        check("etcd://[::1", "neither a host name nor");
        check("etcd://[hunter2]", "neither a host name nor");
        check("etcd://hunter2 x", "neither a host name nor");
        check("etcd://:hunter2@db", "a password but no user");
        check("etcd://u:%ffhunter2@db", "not UTF-8");
        check("etcd://u:%0ahunter2@db", "control characters");
        check("etcd://db?ttl=0s", "no time from 1s");
        check("etcd://db?ttl=99999999999999999999m", "no time from 1s");
        check("etcd://db?ttl=61m", "no time from 1s");
        check("etcd://db?ca=/hunter2", "names certificates but no TLS");
        check("etcds://db?cert=/hunter2", "only one of cert and key");
        check("etcds://db?ca=", "has no value");
        check(&format!("etcd://{}", "a,".repeat(5000)), "more than 16");
    }
}
