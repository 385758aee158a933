use std::fmt;

/// A request to etcd that did not end well.
///
/// Shown as one line: what was being done, what went wrong and where, and what to do about it. Text from the server is
/// stripped of control characters and shortened; credentials are never part of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{operation}: {detail}{}", Hint(.hint.as_deref()))]
pub struct EtcdError {
    /// What kind of failure it is, for callers that decide.
    pub kind: ErrorKind,
    /// What was being done: `lock app/1a2b…`.
    pub operation: String,
    /// What went wrong, and at which endpoint.
    pub detail: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// What kind of failure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// No connection to any endpoint, or one that breaks: name, network, nobody listening.
    Unreachable,
    /// Connected, and then silence.
    TimedOut,
    /// A connection, but no trusted TLS on it.
    Tls,
    /// etcd wants a user and password, or does not accept the ones we have.
    Unauthorized,
    /// etcd knows the user, who may not do this.
    Denied,
    /// etcd answers that it cannot serve now: no leader, overloaded.
    Unavailable,
    /// The lease ended before the request.
    LeaseLost,
    /// Any other refusal.
    Refused,
    /// An answer that is none of etcd's, or larger than any of them.
    Protocol,
    /// An address or file that cannot be used.
    Settings,
    /// This machine has no thread for it.
    Local,
}

impl EtcdError {
    pub(crate) fn new(kind: ErrorKind, operation: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { kind, operation: operation.into(), detail: detail.into(), hint: None }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Whether the same request may succeed a moment later, and whether it was carried out is not known.
    pub(crate) fn is_passing(&self) -> bool {
        use ErrorKind::{Protocol, TimedOut, Unavailable, Unreachable};
        matches!(self.kind, Unreachable | TimedOut | Unavailable | Protocol)
    }
}

struct Hint<'a>(Option<&'a str>);

impl fmt::Display for Hint<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|hint| write!(out, "; {hint}"))
    }
}
