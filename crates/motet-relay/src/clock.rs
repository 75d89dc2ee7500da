//! Calendar time: the one place that reads the system's clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Milliseconds since the Unix epoch, the unit of every stored time.
pub(crate) type Millis = i64;

/// No timer is set for longer; what wakes then finds that it is not due and waits again.
const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Calendar time for signatures and records, and a due time that does not jump.
///
/// Due times are stored as calendar time, because they must survive a restart. Inside one process they
/// are measured from the start by the monotonic clock: a wall clock set back would otherwise freeze the
/// retries, and one set forward would fire days of them at once. A jump between two runs is limited when
/// the store is opened, see [`crate::store`].
#[derive(Debug, Clone)]
pub(crate) struct Clock {
    started_wall: Millis,
    started: Instant,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self { started_wall: wall_now(), started: Instant::now() }
    }

    /// Calendar time now: for signatures, and for what people read.
    pub(crate) fn wall(&self) -> Millis {
        wall_now()
    }

    /// The time that due times are written and compared in.
    pub(crate) fn due_now(&self) -> Millis {
        self.started_wall + millis(self.started.elapsed())
    }

    /// The moment, on the runtime's clock, at which `due` comes; a year from the start if it is later still.
    pub(crate) fn instant_of(&self, due: Millis) -> Instant {
        let from_start = u64::try_from(due.saturating_sub(self.started_wall)).unwrap_or(0);
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

    #[test]
    fn times_are_written_with_milliseconds() {
        assert_eq!(rfc3339(1_700_000_000_007), "2023-11-14T22:13:20.007Z");
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
    }
}
