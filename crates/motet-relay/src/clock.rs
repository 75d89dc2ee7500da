//! Calendar time: the one place that reads the system's clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Milliseconds since the Unix epoch, the unit of every stored time.
pub(crate) type Millis = i64;

/// No timer is set for longer; what wakes then finds that it is not due and waits again.
const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Calendar time for signatures and records, and a due time that does not jump.
///
/// DueDelivery times are stored as calendar time, because they must survive a restart. Inside one process they
/// are measured from the start by the monotonic clock: a wall clock set back would otherwise freeze the
/// retries, and one set forward would fire days of them at once. Where the system's clock is behind what a store
/// has seen already, as on a machine that starts before it has asked for the time, they go on from what the store
/// has seen, until the system's clock has caught up.
#[derive(Debug, Clone)]
pub(crate) struct Clock {
    /// The due time at the start.
    base: Arc<AtomicI64>,
    started: Instant,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self { base: Arc::new(AtomicI64::new(wall_now())), started: Instant::now() }
    }

    /// Goes on from a due time that was reached before. Returns `true` if the system's clock is behind it.
    pub(crate) fn advance_to(&self, seen: Millis) -> bool {
        self.base.fetch_max(seen, Ordering::Relaxed) < seen
    }

    /// Goes on from the system's clock, if that is not behind any more. Returns `true` then.
    pub(crate) fn catch_up(&self) -> bool {
        let ahead = wall_now() - self.due_now();
        if ahead >= 0 {
            self.base.fetch_add(ahead, Ordering::Relaxed);
        }
        ahead >= 0
    }

    /// A due time as calendar time.
    pub(crate) fn to_calendar(&self, due: Millis) -> Millis {
        let apart = self.due_now() - wall_now();
        // Less than that is the time between the two looks, or a clock that is being slewed.
        if apart.abs() < 1_000 { due } else { due.saturating_sub(apart) }
    }

    /// Calendar time now: for signatures, and for what people read.
    pub(crate) fn wall(&self) -> Millis {
        wall_now()
    }

    /// The time that due times are written and compared in.
    pub(crate) fn due_now(&self) -> Millis {
        self.base.load(Ordering::Relaxed) + millis(self.started.elapsed())
    }

    /// The moment, on the runtime's clock, at which `due` comes; a year from the start if it is later still.
    pub(crate) fn instant_of(&self, due: Millis) -> Instant {
        let from_start = u64::try_from(due.saturating_sub(self.base.load(Ordering::Relaxed))).unwrap_or(0);
        self.started + Duration::from_millis(from_start).min(YEAR)
    }
}

#[allow(clippy::disallowed_methods, reason = "this is the one reader of the system's clock")]
fn wall_now() -> Millis {
    // A system clock before 1970 reads as 1970: the signature is then refused by every receiver, which is
    // the visible failure that such a clock deserves.
    millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// A duration in whole milliseconds, at most [`Millis::MAX`].
pub(crate) fn millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX)
}

/// RFC 3339 in UTC with milliseconds: the form of every time in the API.
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
        // As if the system's clock were set by two hours.
        clock.base.fetch_sub(2 * HOUR, Ordering::Relaxed);
        assert!(clock.catch_up());
        assert!((clock.due_now() - right).abs() < 60_000);
    }

    #[test]
    fn times_are_written_with_milliseconds() {
        assert_eq!(rfc3339(1_700_000_000_007), "2023-11-14T22:13:20.007Z");
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
    }
}
