use std::fmt;
use std::time::SystemTime;

use tokio::time::Instant;

use crate::sim;

/// The clock of the calendar, for jobs of [`cron`](super::cron()).
///
/// The calendar's clock can be set while the program runs, so nothing waits by it: a job waits by tokio's clock for at most a
/// minute at a time, and then reads this clock again.
#[derive(Clone)]
pub struct WallClock(Source);

#[derive(Clone)]
enum Source {
    System,
    /// A time, and the moment at which the clock had that time.
    Since(SystemTime, Instant),
    Read(std::sync::Arc<dyn Fn() -> SystemTime + Send + Sync>),
}

impl WallClock {
    /// The system's clock. In a simulation of `motet-testkit` it begins at 2000-01-01 00:00:00 UTC, and advances with the time
    /// of the simulation.
    #[must_use]
    pub fn system() -> Self {
        if let Some(passed) = sim::now() {
            return Self::starting_at(SystemTime::UNIX_EPOCH + SIMULATED + passed);
        }
        Self(Source::System)
    }

    /// A clock that shows `time` now, and advances with tokio's clock, which a test can pause.
    #[must_use]
    pub fn starting_at(time: SystemTime) -> Self {
        Self(Source::Since(time, Instant::now()))
    }

    /// A clock that is read by a function, for example to test what a program does when its clock is set.
    #[must_use]
    pub fn read_by(read: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self(Source::Read(std::sync::Arc::new(read)))
    }

    /// The current time.
    #[must_use]
    #[allow(clippy::disallowed_methods, reason = "this is the one reader of the system's clock")]
    pub fn now(&self) -> SystemTime {
        match &self.0 {
            Source::System => SystemTime::now(),
            Source::Since(time, moment) => time.checked_add(moment.elapsed()).unwrap_or(*time),
            Source::Read(read) => read(),
        }
    }
}

/// 2000-01-01 00:00:00 UTC.
const SIMULATED: std::time::Duration = std::time::Duration::from_secs(946_684_800);

impl Default for WallClock {
    fn default() -> Self {
        Self::system()
    }
}

impl fmt::Debug for WallClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WallClock").field(&self.now()).finish()
    }
}
