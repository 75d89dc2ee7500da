//! The due times of a job, without waiting.

use std::time::Duration;

use tokio::time::Instant;

#[cfg(feature = "cron")]
use super::calendar::Calendar;

/// The due times of a job that has started.
pub(crate) enum Rhythm {
    Interval(Interval),
    #[cfg(feature = "cron")]
    Calendar(Box<Calendar>),
}

/// Which due times have passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Passed {
    /// Those before now: the run that has just ended was in progress.
    Before,
    /// Those up to now.
    UpTo,
}

impl Rhythm {
    /// The time to wait before the next look; `None` if a run is due.
    pub(crate) fn wait(&mut self) -> Option<Duration> {
        match self {
            Self::Interval(interval) => interval.wait(Instant::now()),
            #[cfg(feature = "cron")]
            Self::Calendar(calendar) => calendar.wait(),
        }
    }

    /// Notes the begin of a run.
    #[cfg_attr(
        not(feature = "cron"),
        allow(clippy::needless_pass_by_ref_mut, clippy::unused_self, reason = "only a calendar notes it")
    )]
    pub(crate) fn begins(&mut self) {
        match self {
            Self::Interval(_) => {}
            #[cfg(feature = "cron")]
            Self::Calendar(calendar) => calendar.begins(),
        }
    }

    /// Takes the due times that have passed, and returns their number.
    pub(crate) fn take(&mut self, passed: Passed) -> u64 {
        match self {
            Self::Interval(interval) => interval.take(Instant::now(), passed),
            #[cfg(feature = "cron")]
            Self::Calendar(calendar) => calendar.take(passed),
        }
    }

    /// Returns `true` if the run that was due last is not to take place.
    pub(crate) fn skips_missed(&self) -> bool {
        match self {
            Self::Interval(_) => false,
            #[cfg(feature = "cron")]
            Self::Calendar(calendar) => calendar.skips_missed(),
        }
    }

    /// The next due time, for people.
    pub(crate) fn next(&self) -> NextDue {
        match self {
            Self::Interval(interval) => NextDue::At(interval.due),
            #[cfg(feature = "cron")]
            Self::Calendar(calendar) => NextDue::On(calendar.next()),
        }
    }
}

/// The next due time of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NextDue {
    /// `None` if it is beyond the range of the clock.
    At(Option<Instant>),
    /// In RFC 3339, with the time zone.
    #[cfg(feature = "cron")]
    On(String),
}

/// The due times of [`every`](super::every): multiples of the interval from the start.
#[derive(Debug)]
pub(crate) struct Interval {
    every: Duration,
    /// `None` if it is beyond the range of the clock.
    due: Option<Instant>,
}

/// The wait of a job whose next run is beyond the range of the clock.
const NEVER: Duration = Duration::from_secs(86_400 * 365);

impl Interval {
    /// `every` is not zero.
    pub(crate) fn after(every: Duration, now: Instant) -> Self {
        Self { every, due: now.checked_add(every) }
    }

    fn wait(&self, now: Instant) -> Option<Duration> {
        match self.due {
            Some(due) => due.checked_duration_since(now).filter(|wait| !wait.is_zero()),
            None => Some(NEVER),
        }
    }

    fn take(&mut self, now: Instant, passed: Passed) -> u64 {
        let Some(due) = self.due else { return 0 };
        let Some(late) = now.checked_duration_since(due) else { return 0 };
        if late.is_zero() && passed == Passed::Before {
            return 0;
        }
        let mut count = late.as_nanos() / self.every.as_nanos() + 1;
        if passed == Passed::Before && late.as_nanos().is_multiple_of(self.every.as_nanos()) {
            count -= 1;
        }
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        let all = u32::try_from(count).ok().and_then(|count| self.every.checked_mul(count));
        self.due = match all {
            Some(all) => due.checked_add(all),
            // More intervals than a `u32`: their rhythm does not matter.
            None => now.checked_add(self.every),
        };
        count
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The naive model has a list of all due times.
        #[test]
        fn interval_takes_each_due_time_once(every in 1..50_u64, looks in prop::collection::vec((0..200_u64, any::<bool>()), 1..40)) {
            let start = Instant::now();
            let millis = Duration::from_millis;
            let mut interval = Interval::after(millis(every), start);
            let (mut now, mut next) = (0, every);
            for (step, up_to) in looks {
                now += step;
                let passed = if up_to { Passed::UpTo } else { Passed::Before };
                let mut expected = 0;
                while next < now || (up_to && next == now) {
                    next += every;
                    expected += 1;
                }
                prop_assert_eq!(interval.take(start + millis(now), passed), expected);
                let wait = interval.wait(start + millis(now)).unwrap_or_default();
                prop_assert_eq!(wait, millis(next - now));
            }
        }
    }

    #[test]
    fn interval_beyond_the_range_of_the_clock_is_never_due() {
        let now = Instant::now();
        let mut interval = Interval::after(Duration::MAX, now);
        assert_eq!((interval.wait(now), interval.take(now, Passed::UpTo)), (Some(NEVER), 0));
    }
}
