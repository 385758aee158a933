//! The clock of leases.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A moment, as time since the machine was started. It goes on while the machine is suspended, as the leases at the
/// server do, and nobody can set it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(Duration);

impl Moment {
    pub(crate) fn now() -> Self {
        let time = clock_gettime(ClockId::Boottime);
        // Neither is ever negative for this clock.
        let (seconds, nanoseconds) = (time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs());
        Self(Duration::from_secs(seconds) + Duration::from_nanos(nanoseconds))
    }

    pub(crate) fn after(self, time: Duration) -> Self {
        Self(self.0.saturating_add(time))
    }

    /// The time from now until this moment; none once it has passed.
    pub(crate) fn left(self) -> Duration {
        self.0.saturating_sub(Self::now().0)
    }
}
