use std::fmt;

/// A request to a registry that did not end well.
///
/// Shown as one line: what was being done, what went wrong, and what to do about it. Text from the registry is
/// stripped of control characters and shortened; credentials are never part of it.
#[derive(Debug)]
pub struct RegistryError {
    /// What kind of failure it is, for callers that decide.
    pub kind: ErrorKind,
    /// What was being done: `pull manifest ghcr.io/a/b:1`.
    pub operation: String,
    /// What went wrong.
    pub detail: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// What kind of failure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The repository, manifest or blob does not exist (404).
    NotFound,
    /// The registry wants credentials, or does not accept the ones we have (401).
    Unauthorized,
    /// The registry knows us and refuses (403).
    Denied,
    /// Too many requests, for longer than we wait (429).
    RateLimited,
    /// The registry fails (5xx), repeatedly.
    Unavailable,
    /// No connection: name, network, proxy.
    Unreachable,
    /// A connection, but no trusted HTTPS on it.
    Tls,
    /// The peer went silent.
    TimedOut,
    /// The content is not what its digest or size says.
    Corrupt,
    /// An answer that the specification does not allow.
    Malformed,
    /// An answer larger than is accepted.
    TooLarge,
    /// Any other refusal (4xx), such as an invalid manifest.
    Refused,
    /// Credentials cannot be read, or their helper failed.
    Credentials,
    /// Settings that cannot be used: a bad proxy address, an unreadable certificate.
    Settings,
    /// The local side of a transfer failed: the file to send, the place to write.
    Local,
    /// [`Client::cancel`](crate::Client::cancel) was called.
    Cancelled,
}

impl fmt::Display for RegistryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.operation, self.detail)?;
        self.hint.iter().try_for_each(|hint| write!(f, "; {hint}"))
    }
}

impl std::error::Error for RegistryError {}
