//! Calendar time. This module is the only reader of the system's clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Milliseconds since the Unix epoch, the unit of every stored time.
pub(crate) type Millis = i64;

/// The longest timer. A task that wakes after it finds that nothing is due, and waits again.
const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Calendar time for signatures and records, and a due time that does not jump.
///
/// Due times are stored as calendar time, because they must survive a restart. Inside one process the monotonic clock
/// measures them from the start: otherwise a wall clock that is set back would stop the retries, and one that is set
/// forward would start days of retries at once. If the system's clock is behind the latest due time that the store has
/// reached, as on a machine that starts before it has synchronised its clock, due times continue from the store's
/// value until the system's clock has caught up.
#[derive(Debug, Clone)]
pub(crate) struct Clock {
    /// The due time at the start.
    base: Arc<AtomicI64>,
    started: Instant,
    /// How far tests have set the system's clock forward.
    #[cfg(test)]
    ahead: Arc<AtomicI64>,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self {
            base: Arc::new(AtomicI64::new(wall_now())),
            started: Instant::now(),
            #[cfg(test)]
            ahead: Arc::default(),
        }
    }

    /// Advances the time, on both scales.
    #[cfg(test)]
    pub(crate) fn pass(&self, time: Duration) {
        self.base.fetch_add(millis(time), Ordering::Relaxed);
        self.set_system_clock(millis(time));
    }

    /// Sets the system's clock forward, or back.
    #[cfg(test)]
    pub(crate) fn set_system_clock(&self, by: Millis) {
        self.ahead.fetch_add(by, Ordering::Relaxed);
    }

    /// Continues from a due time that an earlier process has reached. Returns `true` if the system's clock is behind
    /// it.
    pub(crate) fn advance_to(&self, seen: Millis) -> bool {
        self.base.fetch_max(seen, Ordering::Relaxed) < seen
    }

    /// Continues from the system's clock, if that is no longer behind. Returns `true` in that case.
    pub(crate) fn catch_up(&self) -> bool {
        let ahead = self.wall() - self.due_now();
        if ahead >= 0 {
            self.base.fetch_add(ahead, Ordering::Relaxed);
        }
        ahead >= 0
    }

    /// Converts a due time to calendar time.
    pub(crate) fn to_calendar(&self, due: Millis) -> Millis {
        let apart = self.due_now() - self.wall();
        // A smaller difference is the time between the two readings, or a clock that is being slewed.
        if apart.abs() < 1_000 { due } else { due.saturating_sub(apart) }
    }

    /// The current calendar time, for signatures and for people.
    pub(crate) fn wall(&self) -> Millis {
        wall_now() + self.ahead()
    }

    #[cfg(test)]
    fn ahead(&self) -> Millis {
        self.ahead.load(Ordering::Relaxed)
    }

    #[cfg(not(test))]
    // Only tests set the system's clock.
    const fn ahead(&self) -> Millis {
        0
    }

    /// The time by which retention deletes: calendar time, but never later than the time that has passed since the start. A
    /// system clock that is set forward by mistake deletes nothing.
    pub(crate) fn retention_now(&self) -> Millis {
        self.wall().min(self.due_now())
    }

    /// The current time on the scale of due times.
    pub(crate) fn due_now(&self) -> Millis {
        self.base.load(Ordering::Relaxed) + millis(self.started.elapsed())
    }

    /// Returns the instant of the runtime's clock at which `due` is reached, at most a year after the start.
    pub(crate) fn instant_of(&self, due: Millis) -> Instant {
        let from_start = u64::try_from(due.saturating_sub(self.base.load(Ordering::Relaxed))).unwrap_or(0);
        self.started + Duration::from_millis(from_start).min(YEAR)
    }
}

#[allow(clippy::disallowed_methods, reason = "this is the one reader of the system's clock")]
fn wall_now() -> Millis {
    // A system clock before 1970 reads as 1970. Every receiver then rejects the signature, which makes the wrong clock
    // visible.
    millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// Converts a duration to whole milliseconds, at most [`Millis::MAX`].
pub(crate) fn millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX)
}

/// Formats a time as RFC 3339 in UTC with milliseconds, the format of every time in the API.
pub(crate) fn rfc3339(at: Millis) -> String {
    jiff::Timestamp::from_millisecond(at).map_or_else(|_| at.to_string(), |t| format!("{t:.3}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn due_time_follows_the_runtime_clock() {
        let clock = Clock::new();
        let before = clock.due_now();
        tokio::time::advance(Duration::from_secs(90)).await;
        assert_eq!(clock.due_now() - before, 90_000);
        assert_eq!(clock.instant_of(clock.due_now()), Instant::now());
    }

    #[tokio::test(start_paused = true)]
    async fn due_time_stays_ahead_until_the_system_clock_catches_up() {
        const HOUR: Millis = 3_600_000;
        let clock = Clock::new();
        let right = clock.due_now();
        assert!(!clock.advance_to(right - HOUR) && clock.due_now() - right < HOUR);
        assert!(clock.advance_to(right + HOUR));
        assert!(clock.due_now() >= right + HOUR);
        assert!(!clock.catch_up(), "the system's clock is an hour behind");
        assert!((clock.to_calendar(right + 2 * HOUR) - (right + HOUR)).abs() < 60_000);
        // As if the system's clock had been set forward by two hours.
        clock.base.fetch_sub(2 * HOUR, Ordering::Relaxed);
        assert!(clock.catch_up());
        assert!((clock.due_now() - right).abs() < 60_000);
    }

    #[test]
    fn times_are_written_as_rfc_3339_with_milliseconds() {
        assert_eq!(rfc3339(1_700_000_000_007), "2023-11-14T22:13:20.007Z");
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
    }
}
