use std::fmt;
use std::io;

/// A request to a registry that did not end well.
///
/// Shown as one line: what was being done, what went wrong and where, and what to do about it. Text from the
/// registry is stripped of control characters and shortened; credentials are never part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryError {
    /// What kind of failure it is, for callers that decide.
    pub kind: ErrorKind,
    /// What was being done: `pull manifest ghcr.io/a/b:1`.
    pub operation: String,
    /// What went wrong, and at which host.
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
    /// No connection, or one that breaks: name, network, proxy.
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

impl RegistryError {
    pub(crate) fn new(kind: ErrorKind, operation: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { kind, operation: operation.into(), detail: detail.into(), hint: None }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Whether the registry did not take a manifest because it misses what that names (distribution-spec v1.1,
    /// `MANIFEST_BLOB_UNKNOWN`).
    pub fn misses_blob(&self) -> bool {
        self.is_refusal() && self.detail.contains("BLOB_UNKNOWN")
    }

    /// Whether the registry answers, but misses something that the request names, or does not like it.
    pub fn is_refusal(&self) -> bool {
        matches!(self.kind, ErrorKind::NotFound | ErrorKind::Refused)
    }

    /// The registry's failure inside an `io::Error` of a [`BlobReader`](crate::BlobReader), however deep other
    /// readers have wrapped it.
    pub fn from_io(error: &io::Error) -> Option<&Self> {
        let mut inner: &(dyn std::error::Error + 'static) = error.get_ref()?;
        loop {
            if let Some(found) = inner.downcast_ref::<Self>() {
                return Some(found);
            }
            inner = match inner.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
                Some(wrapped) => wrapped,
                None => inner.source()?,
            };
        }
    }
}

impl From<RegistryError> for io::Error {
    fn from(error: RegistryError) -> Self {
        Self::other(error)
    }
}

impl fmt::Display for RegistryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.operation, self.detail)?;
        self.hint.iter().try_for_each(|hint| write!(f, "; {hint}"))
    }
}

impl std::error::Error for RegistryError {}

/// A failure of one try, and whether another try could help.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: RegistryError,
    pub(crate) again: Again,
}

/// Whether to try once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Again {
    /// The same request would fail the same way.
    Never,
    /// Once more, soon: nobody is there, which seldom changes within seconds.
    Quickly,
    /// After a wait of our choice.
    Backoff,
    /// Likewise, but nothing was heard: that may be so for long.
    Silent,
    /// After the wait that the registry asked for.
    After(std::time::Duration),
}

impl Failure {
    pub(crate) fn transient(error: RegistryError) -> Self {
        Self { error, again: Again::Backoff }
    }
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
        Self { error, again: Again::Never }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn found_again_below_other_wrappers() {
        let error = RegistryError::new(ErrorKind::Corrupt, "pull", "bad").hint("look");
        assert_eq!(error.to_string(), "pull: bad; look");
        let wrapped = io::Error::other(io::Error::from(error.clone()));
        assert_eq!(RegistryError::from_io(&wrapped), Some(&error));
        assert_eq!(RegistryError::from_io(&io::Error::other("x")), None);
        assert_eq!(RegistryError::from_io(&io::ErrorKind::NotFound.into()), None);
    }
}
