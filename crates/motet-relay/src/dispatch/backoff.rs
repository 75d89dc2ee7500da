//! The delay until a failed delivery is attempted again.

use std::time::Duration;

use motet::{Backoff, rng};

use crate::clock::{Millis, millis};
use crate::config::RetrySchedule;

impl RetrySchedule {
    /// Returns the longest delay after `failed` failed attempts.
    #[must_use]
    pub fn ceiling(&self, failed: u32) -> Duration {
        self.backoff().ceiling(failed.saturating_sub(1))
    }

    /// Returns the delay after `failed` failed attempts in milliseconds; `None` if no attempt is left.
    ///
    /// `retry_after` is the delay of the receiver's `Retry-After`: a minimum, up to `cap`.
    pub(super) fn delay(&self, failed: u32, retry_after: Option<Duration>) -> Option<Millis> {
        if failed >= self.max_attempts {
            return None;
        }
        let jittered = rng::with(|rng| self.backoff().delay(failed.saturating_sub(1), rng));
        let floor = retry_after.map_or(Duration::ZERO, |delay| delay.min(self.cap));
        Some(millis(jittered.max(floor)))
    }

    /// Returns the delay in milliseconds after `in_a_row` attempts in a row that relay itself failed; `None` if they
    /// have lasted for `max_age`.
    ///
    /// The ceiling doubles from 2 s to 1 min, and the delay is between half of it and all of it: such a failure
    /// probably affects all deliveries, so the attempts have to be few and spread out.
    pub(super) fn delay_of_relay(&self, in_a_row: u32, lasting: Duration) -> Option<Millis> {
        if lasting >= self.max_age {
            return None;
        }
        let backoff = Backoff::exponential(Duration::from_secs(2), Duration::from_secs(60))
            .expect("2 s are at most 60 s");
        let ceiling = backoff.ceiling(in_a_row.saturating_sub(1));
        Some(millis(rng::with(|rng| rng.duration(ceiling / 2..=ceiling))))
    }

    fn backoff(&self) -> Backoff {
        Backoff::exponential(self.base.min(self.cap), self.cap).expect("the base is at most the cap")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEDULE: RetrySchedule = RetrySchedule {
        base: Duration::from_secs(1),
        cap: Duration::from_secs(60),
        max_attempts: 40,
        max_age: Duration::from_secs(3_600),
    };

    #[test]
    fn ceiling_of_the_delay_doubles_up_to_the_cap_without_overflow() {
        let seconds: Vec<_> = [1, 2, 3, 6, 7, 8, 33, u32::MAX].map(|n| SCHEDULE.ceiling(n).as_secs()).into();
        assert_eq!(seconds, [1, 2, 4, 32, 60, 60, 60, 60]);
    }

    #[test]
    fn delays_fill_the_interval_from_zero_to_the_ceiling() {
        let _seeded = rng::seed_thread(7);
        let mut waits: Vec<_> = (0..1_000).map(|_| SCHEDULE.delay(4, None).unwrap()).collect();
        waits.sort_unstable();
        assert!(waits[0] >= 0 && waits[999] <= 8_000);
        assert!(waits[0] < 200 && waits[999] > 7_800, "{}..{}", waits[0], waits[999]);
        assert!((3_500..4_500).contains(&waits[500]), "median {}", waits[500]);
    }

    #[test]
    fn last_attempt_has_no_delay_after_it() {
        let _seeded = rng::seed_thread(7);
        assert!(SCHEDULE.delay(39, None).is_some());
        assert_eq!(SCHEDULE.delay(40, None), None);
    }

    #[test]
    fn failures_of_relay_itself_are_retried_until_max_age() {
        let _seeded = rng::seed_thread(7);
        for (in_a_row, seconds) in [(1, 1..=2), (2, 2..=4), (5, 16..=32), (6, 30..=60), (u32::MAX, 30..=60)] {
            let delay = SCHEDULE.delay_of_relay(in_a_row, Duration::from_secs(3_599)).unwrap();
            assert!(
                (seconds.start() * 1_000..=seconds.end() * 1_000).contains(&delay),
                "{in_a_row}: {delay}"
            );
        }
        assert_eq!(SCHEDULE.delay_of_relay(1, Duration::from_secs(3_600)), None);
    }

    #[test]
    fn retry_after_is_the_minimum_delay_up_to_the_cap() {
        let _seeded = rng::seed_thread(7);
        let ask = |s| Some(Duration::from_secs(s));
        for _ in 0..100 {
            assert_eq!(SCHEDULE.delay(1, ask(30)), Some(30_000));
            assert_eq!(SCHEDULE.delay(1, ask(86_400)), Some(60_000));
        }
    }
}
