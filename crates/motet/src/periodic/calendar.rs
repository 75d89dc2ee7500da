//! The due times of a cron expression.

use std::panic::Location;
use std::time::Duration;

use croner::Cron;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp, Zoned};
use tokio::time::Instant;

use super::rhythm::Passed;
use super::{Periodic, PeriodicConfigError, WallClock};

/// The longest wait between two looks at the calendar's clock.
const LOOK: Duration = Duration::from_secs(60);

/// A clock that is set back by more than this was wrong before: the due times continue from the new time. After a smaller
/// step, no due time is repeated. The same limit as that of Vixie cron.
const WRONG: SignedDuration = SignedDuration::from_hours(3);

/// The limit for a job of every hour, which follows the elapsed time: it would be silent for the whole step.
const WRONG_OF_HOURLY: SignedDuration = SignedDuration::from_secs(60);

/// A run that is later than this was missed: the process was suspended, or the clock was set forward.
const MISSED: SignedDuration = SignedDuration::from_secs(60);

/// The number of due times that are counted one by one.
const COUNTED: u64 = 1_000;

/// Describes a job that runs at the times of a cron expression, in UTC unless [`Periodic::zone`] is set.
///
/// The expression has five fields: minute, hour, day of the month, month, day of the week; or six, with the second first. Lists,
/// ranges, steps, names, `L`, `W`, `#` and nicknames such as `@daily` are allowed, as in [croner](https://docs.rs/croner). If
/// both days are restricted, a day matches if one of the two matches, as in other implementations.
///
/// When the clock of the zone goes forward, a run whose time does not exist takes place at the end of the gap. When it goes back,
/// a time that occurs twice is due once, the first time. A job of every hour (`*`) follows the elapsed time instead: it runs in
/// both of the hours that have the same name.
///
/// If the process was suspended or the clock was set forward, one run takes the place of all that were missed, unless
/// [`Periodic::skip_missed`] is set; a run that was in progress does not count as an overlap then. If the clock is set back by at
/// most three hours, no run is repeated. A job of every hour follows the new time if the clock is set back by more than a minute.
///
/// # Errors
/// [`PeriodicConfigError`]: the expression cannot be parsed, or matches no time in the future.
///
/// # Examples
/// ```
/// use motet::periodic::{WallClock, cron};
/// use motet::task::{Nursery, scope};
/// use std::time::{Duration, SystemTime};
/// use tokio::time::{Instant, sleep};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// scope(async |n: &Nursery| {
///     let start = Instant::now();
///     let report = move || async move { println!("report after {:?}", start.elapsed()) }; // 3 h, 27 h
///     let midnight = SystemTime::UNIX_EPOCH + Duration::from_secs(86_400 * 20_000);
///     let nightly = cron("0 3 * * *").unwrap().name("report").clock(WallClock::starting_at(midnight));
///     nightly.start(n, report).unwrap();
///     sleep(Duration::from_secs(86_400 * 2)).await;
///     Ok(())
/// })
/// .await?;
/// # Ok(())
/// # }
/// ```
#[track_caller]
pub fn cron(expression: &str) -> Result<Periodic, PeriodicConfigError> {
    let parsed: Cron = expression.parse().map_err(|reason: croner::errors::CronError| {
        PeriodicConfigError::Expression { expression: expression.to_owned(), reason: reason.to_string() }
    })?;
    let pattern = CronPattern::new(parsed);
    // Only to refuse expressions such as `0 0 30 2 *` here, and not at the first wait.
    let now = timestamp(&WallClock::system());
    if pattern.after(now, &TimeZone::UTC).is_none() {
        return Err(PeriodicConfigError::NeverDue { expression: expression.to_owned() });
    }
    Ok(Periodic::by_calendar(pattern, Location::caller()))
}

fn timestamp(clock: &WallClock) -> Timestamp {
    // A clock beyond the year 9999 or before -9999 is as wrong as any other.
    Timestamp::try_from(clock.now()).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// A cron expression.
#[derive(Clone)]
pub(crate) struct CronPattern {
    cron: Cron,
    /// It matches every hour, and follows the elapsed time when the clock of its zone changes.
    is_hourly: bool,
}

impl CronPattern {
    fn new(cron: Cron) -> Self {
        let is_hourly = (0..24).all(|hour| cron.pattern.hour_match(hour).unwrap_or(false));
        Self { cron, is_hourly }
    }

    /// The first due time after `last`; `None` if there is none.
    fn after(&self, last: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let from = last.to_zoned(zone.clone());
        if self.is_hourly {
            return self.cron.find_next_occurrence::<Zoned>(&from, false).ok().map(|due| due.timestamp());
        }
        // A time that the clock shows a second time lies before `last`, and so do all times of a gap that has a run at its end:
        // the search goes on from each of them.
        let Ok(mut at) = self.cron.find_next_occurrence::<DateTime>(&from.datetime(), false) else {
            return None;
        };
        loop {
            let due = instant_of(at, zone)?;
            if due > last {
                return Some(due);
            }
            at = self.cron.find_next_occurrence::<DateTime>(&at, false).ok()?;
        }
    }
}

/// The instant at which a clock of the zone shows this time: of two, the first one; of none, the end of the gap.
fn instant_of(at: DateTime, zone: &TimeZone) -> Option<Timestamp> {
    let ambiguous = zone.to_ambiguous_timestamp(at);
    match ambiguous.offset() {
        AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Fold { .. } => ambiguous.earlier().ok(),
        AmbiguousOffset::Gap { .. } => {
            // As if the clock had not been set forward: a time after the change.
            let later = ambiguous.later().ok()?;
            zone.preceding(later).next().map(|change| change.timestamp())
        }
    }
}

/// The due times of a job that has started.
pub(crate) struct Calendar {
    pattern: CronPattern,
    zone: TimeZone,
    clock: WallClock,
    missed: MissedRuns,
    /// Due times up to this one have been taken.
    last: Timestamp,
    /// The due time that was taken last.
    taken: Timestamp,
    /// The first due time after `last`; `None` if there is none.
    due: Option<Timestamp>,
    /// The begin of the last run, by the calendar's clock and by tokio's.
    begin: (Timestamp, Instant),
}

/// The treatment of runs that were missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MissedRuns {
    /// A single run replaces them.
    Once,
    Skip,
}

impl Calendar {
    pub(crate) fn new(pattern: CronPattern, zone: TimeZone, clock: WallClock, missed: MissedRuns) -> Self {
        let last = timestamp(&clock);
        let due = pattern.after(last, &zone);
        Self { pattern, zone, clock, missed, last, taken: last, due, begin: (last, Instant::now()) }
    }

    /// Reads the clock, and follows it if it was wrong before.
    fn now(&mut self) -> Timestamp {
        let now = timestamp(&self.clock);
        let wrong = if self.pattern.is_hourly { WRONG_OF_HOURLY } else { WRONG };
        if self.last.duration_since(now) > wrong {
            self.move_to(now);
        }
        now
    }

    fn move_to(&mut self, last: Timestamp) {
        self.last = last;
        self.due = self.pattern.after(last, &self.zone);
    }

    pub(crate) fn wait(&mut self) -> Option<Duration> {
        let now = self.now();
        let until = self.due.map_or(LOOK, |due| due.duration_since(now).unsigned_abs());
        match self.due {
            Some(due) if due <= now => None,
            _ => Some(until.min(LOOK)),
        }
    }

    /// Notes the begin of a run.
    pub(crate) fn begins(&mut self) {
        self.begin = (timestamp(&self.clock), Instant::now());
    }

    /// Returns `true` if more time has passed in the calendar than in the process since the begin of the run.
    fn has_jumped(&self, now: Timestamp) -> bool {
        let (begin, moment) = self.begin;
        let ran = SignedDuration::try_from(moment.elapsed()).unwrap_or(SignedDuration::MAX);
        now.duration_since(begin) > ran.saturating_add(MISSED)
    }

    pub(crate) fn take(&mut self, passed: Passed) -> u64 {
        let now = self.now();
        if passed == Passed::Before && self.has_jumped(now) {
            // The due times in between were missed.
            return 0;
        }
        let mut count = 0;
        while let Some(due) = self.due
            && (due < now || (due == now && passed == Passed::UpTo))
        {
            count += 1;
            self.taken = due;
            let last = if count < COUNTED { due } else { now };
            self.move_to(last);
        }
        count
    }

    /// Returns `true` if the run that was due last is not to take place.
    pub(crate) fn skips_missed(&self) -> bool {
        let late = timestamp(&self.clock).duration_since(self.taken);
        self.missed == MissedRuns::Skip && late > MISSED
    }

    /// The next due time in RFC 3339, with its zone.
    pub(crate) fn next(&self) -> String {
        self.due.map_or_else(|| "never".to_owned(), |due| due.to_zoned(self.zone.clone()).to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due_times(expression: &str, zone: &str, from: &str, count: usize) -> Vec<String> {
        let pattern = CronPattern::new(expression.parse().unwrap());
        let zone = TimeZone::posix(zone).unwrap();
        let mut last: Timestamp = from.parse().unwrap();
        let times = (0..count).map(|_| {
            last = pattern.after(last, &zone).unwrap();
            last.to_zoned(zone.clone()).strftime("%m-%d %H:%M %:z").to_string()
        });
        times.collect()
    }

    /// Berlin: on 29 March 2026 at 2:00 the clock goes to 3:00, on 25 October at 3:00 to 2:00.
    const BERLIN: &str = "CET-1CEST,M3.5.0,M10.5.0/3";

    #[test]
    fn run_in_a_gap_takes_place_once_at_its_end() {
        for expression in ["30 2 * * *", "*/15 2 * * *", "0,30 2 * * *"] {
            let due = due_times(expression, BERLIN, "2026-03-28T12:00:00Z", 2);
            assert_eq!(due[0], "03-29 03:00 +02:00", "{expression}");
            assert!(due[1].starts_with("03-30 02:"), "{expression}: {due:?}");
        }
        // It would have run at that time anyway.
        let due = due_times("30 2,3 * * *", BERLIN, "2026-03-28T12:00:00Z", 3);
        assert_eq!(due, ["03-29 03:00 +02:00", "03-29 03:30 +02:00", "03-30 02:30 +02:00"]);
    }

    #[test]
    fn run_of_a_fixed_hour_takes_place_once_in_a_fold() {
        let due = due_times("30 2 * * *", BERLIN, "2026-10-24T12:00:00Z", 2);
        assert_eq!(due, ["10-25 02:30 +02:00", "10-26 02:30 +01:00"]);
        let due = due_times("*/30 2 * * *", BERLIN, "2026-10-24T12:00:00Z", 3);
        assert_eq!(due, ["10-25 02:00 +02:00", "10-25 02:30 +02:00", "10-26 02:00 +01:00"]);
        // Started within the second half.
        let due = due_times("45 2 * * *", BERLIN, "2026-10-25T01:10:00Z", 1);
        assert_eq!(due, ["10-26 02:45 +01:00"]);
    }

    #[test]
    fn job_of_every_hour_follows_the_elapsed_time() {
        let due = due_times("0 * * * *", BERLIN, "2026-03-29T00:30:00Z", 2);
        assert_eq!(due, ["03-29 03:00 +02:00", "03-29 04:00 +02:00"]);
        let due = due_times("0 * * * *", BERLIN, "2026-10-24T23:30:00Z", 4);
        assert_eq!(
            due,
            ["10-25 02:00 +02:00", "10-25 02:00 +01:00", "10-25 03:00 +01:00", "10-25 04:00 +01:00"]
        );
    }

    #[test]
    fn due_times_follow_the_expression() {
        for (expression, expected) in [
            ("*/20 * * * *", ["05-01 00:20 +00:00", "05-01 00:40 +00:00"]),
            ("0 0 31 * *", ["05-31 00:00 +00:00", "07-31 00:00 +00:00"]),
            ("0 9 * * MON-FRI", ["05-01 09:00 +00:00", "05-04 09:00 +00:00"]),
            ("30 0 12 * * *", ["05-01 12:00 +00:00", "05-02 12:00 +00:00"]),
            ("@monthly", ["06-01 00:00 +00:00", "07-01 00:00 +00:00"]),
        ] {
            assert_eq!(due_times(expression, "UTC0", "2026-05-01T00:00:00Z", 2), expected, "{expression}");
        }
    }
}
