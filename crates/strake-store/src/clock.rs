//! The one place where the store asks what time it is.
use std::time::{SystemTime, UNIX_EPOCH};

/// Now, in nanoseconds since 1970. Only for ages shown to people and for "older than": nothing's correctness
/// hangs on it.
pub(crate) fn now_ns() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_nanos()).unwrap_or(i64::MAX)
}
