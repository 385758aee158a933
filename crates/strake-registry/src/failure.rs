//! What the many ways to get no good answer mean: told to the user, and whether another try could help.

use std::time::Duration;

use reqwest::header::{DATE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{StatusCode, Url};
use strake_oci::one_line;

use crate::error::{Again, Failure};
use crate::host::Host;
use crate::retry;
use crate::transport::Document;
use crate::{ErrorKind, RegistryError};

/// A request that got no answer.
pub(crate) struct Unanswered {
    pub(crate) failure: Failure,
    /// The peer probably speaks the other scheme.
    pub(crate) other_scheme: bool,
}

impl From<Failure> for Unanswered {
    fn from(failure: Failure) -> Self {
        Self { failure, other_scheme: false }
    }
}

impl From<Unanswered> for Failure {
    fn from(unanswered: Unanswered) -> Self {
        unanswered.failure
    }
}

/// An address for people: without the query, where signed addresses keep their secrets.
pub(crate) fn place(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{}://{host}:{port}{}", url.scheme(), url.path()),
        None => format!("{}://{host}{}", url.scheme(), url.path()),
    }
}

pub(crate) fn silent(operation: &str, url: &Url, waited: Duration) -> Failure {
    let detail = format!("{} sent nothing for {:.0?}", place(url), waited);
    Failure { error: RegistryError::new(ErrorKind::TimedOut, operation, detail), again: Again::Silent }
}

/// The words of an error and of what lies below it, without repetition.
pub(crate) fn chain(error: &reqwest::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut next: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(cause) = next {
        let text = one_line(&cause.to_string());
        if !parts.last().is_some_and(|last| last.contains(&text)) {
            parts.push(text);
        }
        next = cause.source();
    }
    if parts.is_empty() { "connection lost".to_owned() } else { parts.join(": ") }
}

/// What the system said at the bottom of an error, without the layers of software above it.
fn bottom(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(below) = cause.source() {
        cause = below;
    }
    let text = one_line(&cause.to_string());
    let text = text.split(" (os error").next().unwrap_or_default();
    text.strip_prefix("failed to lookup address information: ").unwrap_or(text).to_owned()
}

/// What went wrong in TLS, if it was that.
fn tls_error(error: &reqwest::Error) -> Option<rustls::Error> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(cause) = next {
        if let Some(found) = cause.downcast_ref::<rustls::Error>() {
            return Some(found.clone());
        }
        let wrapped = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = match wrapped {
            Some(wrapped) => Some(wrapped),
            None => cause.source(),
        };
    }
    None
}

pub(crate) fn unanswered(operation: &str, host: &Host, url: &Url, error: &reqwest::Error) -> Unanswered {
    let authority = &host.authority;
    let make = |kind, detail| RegistryError::new(kind, operation, detail);
    if let Some(rustls::Error::InvalidMessage(_)) = tls_error(error) {
        let detail = format!("{authority} answered plain HTTP to an HTTPS request");
        let hint = format!("if it is meant to have no TLS, list `{authority}` as an insecure registry");
        return Unanswered { failure: make(ErrorKind::Tls, detail).hint(hint).into(), other_scheme: true };
    }
    if let Some(cause) = tls_error(error) {
        let detail = format!("no trusted connection to {authority}: {cause}");
        let hint = match cause {
            rustls::Error::InvalidCertificate(_) => {
                format!("put the CA that signed its certificate into /etc/docker/certs.d/{authority}/ca.crt")
            }
            _ => "check its TLS settings, and whether it asks for a client certificate".to_owned(),
        };
        return Unanswered { failure: make(ErrorKind::Tls, detail).hint(hint).into(), other_scheme: false };
    }
    if error.is_connect() {
        let again = if is_nobody_there(error) { again_at_nobody(host) } else { Again::Silent };
        let kind = if error.is_timeout() { ErrorKind::TimedOut } else { ErrorKind::Unreachable };
        let error = make(kind, format!("cannot connect to {authority}: {}", bottom(error)));
        let error = error.hint("check the name, the network and the proxy settings");
        return Failure { error, again }.into();
    }
    let detail = format!("{} broke off: {}", place(url), chain(error));
    let failure = Failure::transient(make(ErrorKind::Unreachable, detail));
    Unanswered { failure, other_scheme: url.scheme() == "http" && host.decided.get().is_none() }
}

/// Whether trying again helps where nobody listens. A host that has answered before is being restarted, so it gets
/// the usual patience; on loopback there is no network whose state could change.
fn again_at_nobody(host: &Host) -> Again {
    match (host.decided.get(), host.loopback) {
        (Some(_), _) => Again::Backoff,
        (None, true) => Again::Never,
        (None, false) => Again::Quickly,
    }
}

/// Whether a connection failed for certain because nobody is there: refused, or no such name. A resolver that cannot
/// tell now (`EAI_AGAIN`) is another matter.
fn is_nobody_there(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(cause) = next {
        let is_certain = |cause: &std::io::Error| {
            cause.kind() == std::io::ErrorKind::ConnectionRefused || is_unknown_name(&cause.to_string())
        };
        if cause.downcast_ref::<std::io::Error>().is_some_and(is_certain) {
            return true;
        }
        next = cause.source();
    }
    false
}

/// Whether the resolver says that there is no such name, or none with an address. The standard library keeps only
/// getaddrinfo(3)'s words: those of glibc, then that of musl. The program sets no locale, so they are not translated.
fn is_unknown_name(text: &str) -> bool {
    const WORDS: [&str; 3] =
        ["Name or service not known", "No address associated with hostname", "Name does not resolve"];
    text.starts_with("failed to lookup address information")
        && WORDS.iter().any(|words| text.ends_with(words))
}

/// Whether something else than a registry answered: a log-in page on the way says 200 to everything. Registries whose
/// framework calls any answer HTML say another status, or the digest.
pub(crate) fn is_web_page(document: &Document) -> bool {
    document.status == 200
        && document.header("content-type").is_some_and(|kind| kind.to_ascii_lowercase().contains("html"))
        && document.header("docker-content-digest").is_none()
}

pub(crate) fn web_page(operation: &str, url: &Url) -> RegistryError {
    let detail = format!("{} answered with a web page", place(url));
    RegistryError::new(ErrorKind::Malformed, operation, detail)
        .hint("this is not a registry, or something on the way (a proxy, a log-in page) answered instead")
}

/// Refuses to go on without encryption where there was some.
pub(crate) fn keep_encrypted(operation: &str, from: &Url, to: &Url) -> Result<(), RegistryError> {
    if from.scheme() == "https" && to.scheme() == "http" {
        let detail = format!("{} leads to {} without encryption", place(from), place(to));
        return Err(RegistryError::new(ErrorKind::Malformed, operation, detail));
    }
    Ok(())
}

/// What a status that nobody wanted means.
pub(crate) fn refusal(operation: &str, document: &Document, moved: bool) -> Failure {
    let status = StatusCode::from_u16(document.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let errors = document.errors();
    let mut detail = format!("{} answered {status}", place(&document.url));
    if !errors.text.is_empty() {
        detail = format!("{detail}: {}", errors.text);
    }
    let (kind, hint) = match document.status {
        401 => (ErrorKind::Unauthorized, Some("log in to the registry")),
        403 => (ErrorKind::Denied, Some("the account needs the right to do this in this repository")),
        404 => (ErrorKind::NotFound, None),
        408 => (ErrorKind::TimedOut, None),
        429 => (ErrorKind::RateLimited, Some("wait, or log in for a higher limit")),
        500.. => (ErrorKind::Unavailable, Some("this is a fault of the registry; try again later")),
        ..=399 => (ErrorKind::Malformed, None),
        _ if errors.has("DIGEST_INVALID") || errors.has("SIZE_INVALID") => (ErrorKind::Corrupt, None),
        _ => (ErrorKind::Refused, None),
    };
    let mut error = RegistryError::new(kind, operation, detail);
    error.hint = hint.map(str::to_owned);
    // A signed address expires: asking the registry again gives a fresh one.
    let expired_address = moved && matches!(document.status, 400..=403);
    let again = match document.status {
        429 | 503 => wait_asked(&document.headers).map_or(Again::Backoff, Again::After),
        408 | 500 | 502 | 504 | 520..=530 => Again::Backoff,
        _ if expired_address => Again::Backoff,
        _ => Again::Never,
    };
    Failure { error, again }
}

fn wait_asked(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    retry::retry_after(text(RETRY_AFTER)?, text(DATE))
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn encryption_is_not_given_up() {
        let check = |from: &str, to: &str| keep_encrypted("x", &from.parse().unwrap(), &to.parse().unwrap());
        let error = check("https://r.x/v2/a", "http://other.x/up?secret=1").unwrap_err().to_string();
        assert_eq!(error, "x: https://r.x/v2/a leads to http://other.x/up without encryption");
        for (from, to) in [
            ("https://r.x/", "https://o.x/"),
            ("http://r.x/", "http://o.x/"),
            ("http://r.x/", "https://o.x/"),
        ] {
            check(from, to).unwrap();
        }
    }

    #[test]
    fn nobody_is_told_from_not_now() {
        let lookup = |words: &str| io::Error::other(format!("failed to lookup address information: {words}"));
        let wrapped = |kind: io::ErrorKind| io::Error::other(io::Error::from(kind));
        assert!(is_nobody_there(&io::Error::from(io::ErrorKind::ConnectionRefused)));
        assert!(is_nobody_there(&lookup("Name or service not known")));
        assert!(is_nobody_there(&lookup("No address associated with hostname")));
        assert!(is_nobody_there(&lookup("Name does not resolve")));
        assert!(!is_nobody_there(&lookup("Temporary failure in name resolution")));
        assert!(!is_nobody_there(&lookup("Try again")));
        assert!(!is_nobody_there(&io::Error::other("Name or service not known")));
        for kind in [io::ErrorKind::ConnectionReset, io::ErrorKind::TimedOut, io::ErrorKind::HostUnreachable]
        {
            assert!(!is_nobody_there(&io::Error::from(kind)), "{kind:?}");
            assert!(!is_nobody_there(&wrapped(kind)), "{kind:?}");
        }
    }
}
