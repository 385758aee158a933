//! Whether somebody who failed is asked again.

use std::time::{Duration, Instant};

/// How long somebody who failed is left alone; three times as long after each further failure in a row, so that a
/// long build does not wait for them again and again.
const PAUSE: Duration = Duration::from_secs(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// What is known of somebody who may be out of reach.
#[derive(Debug, Default)]
pub(crate) struct Outage {
    /// They failed, and are asked again then.
    until: Option<Instant>,
    /// Somebody is asking whether they are back; the others go on without them meanwhile.
    is_probed: bool,
    /// How often they failed since they last answered.
    failures: u32,
}

impl Outage {
    /// Whether they are not to be asked. When the pause is over, the first who wants to ask is let through.
    pub(crate) fn is_on(&mut self, now: Instant) -> bool {
        match self.until {
            None => false,
            Some(until) if now < until => true,
            Some(_) => {
                (self.is_probed, self.until) = (true, Some(now + PAUSE));
                false
            }
        }
    }

    /// They failed. Answers whether that is news: what was on its way together fails for one reason.
    pub(crate) fn failed(&mut self, now: Instant) -> bool {
        let is_news = self.is_probed || self.until.is_none();
        if is_news {
            let factor = 3_u32.saturating_pow(self.failures);
            self.until = Some(now + PAUSE.saturating_mul(factor).min(LONGEST_PAUSE));
            self.failures += 1;
        }
        self.is_probed = false;
        is_news
    }

    /// They answered.
    pub(crate) fn answered(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_fails_is_asked_less_and_less_often_and_by_one() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut outage = Outage::default();
        assert!(!outage.is_on(at(0)));
        assert!(outage.failed(at(0)));
        // Asked before that was known.
        assert!(!outage.failed(at(5)));
        assert!(outage.is_on(at(19)));
        assert!(!outage.is_on(at(20)));
        assert!(outage.is_on(at(20)), "another one asks already");
        assert!(outage.failed(at(21)));
        assert!(outage.is_on(at(80)));
        assert!(!outage.is_on(at(81)));
        // Who asked never said what came of it.
        assert!(outage.is_on(at(100)));
        assert!(!outage.is_on(at(101)));
        outage.answered();
        assert!(!outage.is_on(at(102)));
        for second in 0..40 {
            outage.failed(at(second * 1000));
            assert!(outage.is_on(at(second * 1000 + 19)));
            assert!(!outage.is_on(at(second * 1000 + 600)));
        }
    }
}
