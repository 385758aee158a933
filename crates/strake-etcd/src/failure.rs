//! What failures mean: of the connection, and in the words of etcd.

use std::io;
use std::time::Duration;

use reqwest::{StatusCode, Url};
use strake_oci::one_line;

use crate::answer::Refusal;
use crate::config::place;
use crate::{ErrorKind, EtcdError};

/// A failure of one try.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Every endpoint would say the same.
    Final(EtcdError),
    /// Another endpoint, or the same one later, may do better.
    Passing(EtcdError),
    /// The server does not accept who we said we are, or wants it said.
    Stranger(EtcdError),
}

pub(crate) fn silent(operation: &str, endpoint: &Url, waited: Duration) -> EtcdError {
    let detail = format!("etcd at {} did not answer within {waited:.0?}", place(endpoint));
    EtcdError::new(ErrorKind::TimedOut, operation, detail)
}

pub(crate) fn unanswered(operation: &str, endpoint: &Url, error: &reqwest::Error) -> Failure {
    let at = place(endpoint);
    if let Some(cause) = tls_error(error) {
        let detail = format!("no trusted connection to etcd at {at}: {cause}");
        let error = EtcdError::new(ErrorKind::Tls, operation, detail);
        return Failure::Final(error.hint(tls_hint(&cause)));
    }
    if error.is_connect() && endpoint.scheme() == "https" && is_hung_up(error) {
        let error = EtcdError::new(ErrorKind::Tls, operation, format!("etcd at {at} hung up on TLS"));
        return Failure::Passing(error.hint("if it speaks without TLS, write etcd://"));
    }
    let kind = if error.is_timeout() { ErrorKind::TimedOut } else { ErrorKind::Unreachable };
    let what = if error.is_connect() { "cannot connect to" } else { "lost the connection to" };
    let error = EtcdError::new(kind, operation, format!("{what} etcd at {at}: {}", bottom(error)));
    Failure::Passing(error.hint("check the address, the network and whether etcd runs"))
}

fn tls_hint(cause: &rustls::Error) -> &'static str {
    match cause {
        rustls::Error::InvalidMessage(_) => "it seems to speak without TLS: write etcd:// for that",
        rustls::Error::InvalidCertificate(_) => {
            "name the authority that signed its certificate: ?ca=FILE; an authority's own certificate is none of a server"
        }
        _ => "it may ask for a client certificate: ?cert=FILE&key=FILE",
    }
}

/// What went wrong in TLS, if it was that.
fn tls_error(error: &reqwest::Error) -> Option<rustls::Error> {
    find(error, |cause| cause.downcast_ref::<rustls::Error>().cloned())
}

/// Whether the peer closed the connection before it was established: what servers without TLS do to a greeting that is
/// none of HTTP.
fn is_hung_up(error: &reqwest::Error) -> bool {
    let is_end = |found: &io::Error| found.kind() == io::ErrorKind::UnexpectedEof;
    find(error, |cause| cause.downcast_ref::<io::Error>().filter(|found| is_end(found)).map(drop)).is_some()
}

/// The first cause, from the top, of which `what` knows something; what is wrapped in an `io::Error` included.
fn find<T>(
    error: &reqwest::Error,
    what: impl Fn(&(dyn std::error::Error + 'static)) -> Option<T>,
) -> Option<T> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(cause) = next {
        if let Some(found) = what(cause) {
            return Some(found);
        }
        let wrapped = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match wrapped {
            Some(wrapped) => Some(wrapped),
            None => cause.source(),
        };
    }
    None
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

/// What an answer means that is no success.
pub(crate) fn refused(operation: &str, endpoint: &Url, status: StatusCode, body: &[u8]) -> Failure {
    let at = place(endpoint);
    let Ok(refusal) = serde_json::from_slice::<Refusal>(body) else {
        let kind = if status.is_server_error() { ErrorKind::Unavailable } else { ErrorKind::Protocol };
        let error = EtcdError::new(kind, operation, format!("{at} answered {status}, but not as etcd does"));
        return Failure::Passing(error.hint("is this the client address of an etcd 3.4 or later?"));
    };
    let (kind, hint) = meaning(&refusal);
    let mut error =
        EtcdError::new(kind, operation, format!("etcd at {at} says: {}", one_line(&refusal.error)));
    error.hint = hint.map(str::to_owned);
    match kind {
        ErrorKind::Unauthorized => Failure::Stranger(error),
        ErrorKind::Unavailable => Failure::Passing(error),
        _ => Failure::Final(error),
    }
}

/// The codes are gRPC's; several of etcd's own errors share one.
fn meaning(refusal: &Refusal) -> (ErrorKind, Option<&'static str>) {
    let says = |words: &str| refusal.error.contains(words);
    match refusal.code {
        3 if says("user name is empty") => {
            (ErrorKind::Unauthorized, Some("name a user in the address: etcd://USER@HOST"))
        }
        3 if says("authentication failed") => (ErrorKind::Unauthorized, Some("check user and password")),
        3 if says("auth store is old") => (ErrorKind::Unauthorized, None),
        16 => (ErrorKind::Unauthorized, None),
        7 => (ErrorKind::Denied, Some("the user needs a role that may read and write the prefix")),
        5 if says("lease not found") => (ErrorKind::LeaseLost, None),
        8 if says("space exceeded") => {
            (ErrorKind::Refused, Some("compact and defragment etcd, then disarm its alarm"))
        }
        // Deadline exceeded, resource exhausted, internal, unavailable (no leader).
        4 | 8 | 13 | 14 => (ErrorKind::Unavailable, None),
        _ => (ErrorKind::Refused, None),
    }
}
