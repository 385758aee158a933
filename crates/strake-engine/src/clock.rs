//! The engine's one window on the clock and the host's name. Neither is ever part of a signature.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Seconds since the Unix epoch.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

/// Nanoseconds since the Unix epoch, for comparison with the times of files.
pub(crate) fn now_ns() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(now.as_nanos()).unwrap_or(i64::MAX)
}

/// A time since the Unix epoch as image configurations write it (RFC 3339, UTC). One beyond all calendars is the last
/// one that there is.
pub(crate) fn rfc3339(since_epoch: Duration) -> String {
    let nanoseconds = i128::try_from(since_epoch.as_nanos()).unwrap_or(i128::MAX);
    jiff::Timestamp::from_nanosecond(nanoseconds).unwrap_or(jiff::Timestamp::MAX).to_string()
}

/// The host's name, for people.
pub(crate) fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_the_specification_says() {
        assert_eq!(rfc3339(Duration::ZERO), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(Duration::from_secs(1_700_000_000)), "2023-11-14T22:13:20Z");
        assert_eq!(rfc3339(Duration::from_millis(1_500)), "1970-01-01T00:00:01.5Z");
        assert_eq!(rfc3339(Duration::MAX), jiff::Timestamp::MAX.to_string());
    }
}
