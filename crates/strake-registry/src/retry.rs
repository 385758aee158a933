//! When a request is repeated, and after how long.

use std::time::Duration;

use jiff::fmt::rfc2822;

use crate::RetryPolicy;

/// The wait before try number `attempt` (the first repetition is 1): doubling, capped, plus up to half at random so
/// that many clients thrown out together do not return together.
pub(crate) fn backoff(policy: &RetryPolicy, attempt: u32) -> Duration {
    let doubled = policy.first_delay.saturating_mul(1_u32 << attempt.saturating_sub(1).min(16));
    let base = doubled.min(policy.max_delay);
    let mut random = [0_u8; 4];
    // Without randomness the waits are merely all alike, which is no reason to fail.
    let random = match getrandom::fill(&mut random) {
        Ok(()) => u32::from_le_bytes(random),
        Err(_) => 0,
    };
    base + (base / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
}

/// The wait before the one repetition that a refused connection and an unknown name get. A peer that is not there is
/// told to the user at once, but a listener being replaced is not worth a failed build.
const QUICK: Duration = Duration::from_millis(100);

/// The wait before a [quick](crate::error::Again::Quickly) repetition.
pub(crate) fn quick(policy: &RetryPolicy) -> Duration {
    policy.first_delay.min(QUICK)
}

/// Reads `Retry-After` (RFC 9110 §10.2.3): seconds, or a date, which is counted from the answer's own `Date` so that
/// neither our clock nor its error matters. `None` for what cannot be read.
pub(crate) fn retry_after(value: &str, date: Option<&str>) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let until = rfc2822::parse(value).ok()?.timestamp();
    let now = rfc2822::parse(date?.trim()).ok()?.timestamp();
    let seconds = until.as_second().saturating_sub(now.as_second());
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_cap_and_vary_by_half() {
        let policy = RetryPolicy {
            first_delay: Duration::from_millis(100),
            max_delay: Duration::from_secs(1),
            ..RetryPolicy::default()
        };
        for (attempt, base) in [(1, 100), (2, 200), (3, 400), (4, 800), (5, 1000), (60, 1000)] {
            let wait = backoff(&policy, attempt);
            let base = Duration::from_millis(base);
            assert!(wait >= base && wait <= base + base / 2, "{attempt}: {wait:?}");
        }
    }

    #[test]
    fn retry_after_in_all_its_forms() {
        let seconds = |n| Some(Duration::from_secs(n));
        let date = Some("Wed, 21 Oct 2015 07:28:00 GMT");
        assert_eq!(retry_after("1", None), seconds(1));
        assert_eq!(retry_after(" 3600 ", None), seconds(3600));
        assert_eq!(retry_after("99999999999999999999999", None), seconds(u64::MAX));
        assert_eq!(retry_after("Wed, 21 Oct 2015 07:28:07 GMT", date), seconds(7));
        assert_eq!(retry_after("Wed, 21 Oct 2015 07:27:07 GMT", date), seconds(0));
        assert_eq!(retry_after("Wed, 21 Oct 2015 07:28:07 GMT", None), None);
        for garbage in ["", "soon", "-1", "1.5", "\u{1b}[2J"] {
            assert_eq!(retry_after(garbage, date), None, "{garbage}");
        }
    }
}
