use std::any::Any;
use std::error::Error;
use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::coop::consume_budget;
use tokio::time::{Instant, sleep};

use super::PeriodicConfigError;
#[cfg(feature = "cron")]
use super::WallClock;
#[cfg(feature = "cron")]
use super::calendar::{Calendar, CronPattern, MissedRuns};
use super::rhythm::{Interval, Passed, Rhythm};
use super::status::{JobStatus, RunEnd};
use crate::observe::Registration;
use crate::rng;
use crate::sync::{Class, catch, panic_words, quietly_drop};
use crate::task::caught::Caught;
use crate::task::child::{Plain, Spec, Stop, launch};
use crate::task::member::Member;
use crate::task::outcome::IntoResult;
use crate::task::{Name, Scope, ScopeClosedError, Task};

/// Describes a job that runs again and again; created by [`every`] and `cron`.
///
/// # Defaults
/// The name `periodic`; no jitter; due times that pass during a run are skipped.
#[must_use = "the job runs once it is started"]
pub struct Periodic {
    times: Times,
    name: Name,
    site: &'static Location<'static>,
    jitter: Duration,
    overlap: Overlap,
    is_immediate: bool,
}

enum Times {
    Every(Duration),
    #[cfg(feature = "cron")]
    Calendar {
        pattern: Box<CronPattern>,
        zone: jiff::tz::TimeZone,
        clock: Option<WallClock>,
        missed: MissedRuns,
    },
}

/// The treatment of due times that pass during a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Overlap {
    Skip,
    Queue,
}

/// Describes a job that runs each time `interval` has passed, for the first time after one interval.
///
/// # Errors
/// [`PeriodicConfigError`]: the interval is zero.
///
/// # Examples
/// See [the module](super).
#[track_caller]
pub fn every(interval: Duration) -> Result<Periodic, PeriodicConfigError> {
    if interval.is_zero() {
        return Err(PeriodicConfigError::NoInterval);
    }
    Ok(Periodic::new(Times::Every(interval), Location::caller()))
}

impl Periodic {
    fn new(times: Times, site: &'static Location<'static>) -> Self {
        Self {
            times,
            name: Name::from("periodic"),
            site,
            jitter: Duration::ZERO,
            overlap: Overlap::Skip,
            is_immediate: false,
        }
    }

    #[cfg(feature = "cron")]
    pub(crate) fn by_calendar(pattern: CronPattern, site: &'static Location<'static>) -> Self {
        let zone = jiff::tz::TimeZone::UTC;
        Self::new(
            Times::Calendar { pattern: Box::new(pattern), zone, clock: None, missed: MissedRuns::Once },
            site,
        )
    }

    /// Sets the name of the job in snapshots and logs.
    pub fn name(mut self, name: impl Into<Name>) -> Self {
        self.name = name.into();
        self
    }

    /// Delays each run by a random time up to `most`, so that the jobs of many processes do not run at the same time. Later due
    /// times do not move.
    pub fn jitter(mut self, most: Duration) -> Self {
        self.jitter = most;
        self
    }

    /// Runs the job once more, right after a run during which one or more due times passed. Without this setting these due times
    /// are skipped.
    pub fn queue_overlap(mut self) -> Self {
        self.overlap = Overlap::Queue;
        self
    }

    /// Runs the job also when it is started.
    pub fn immediately(mut self) -> Self {
        self.is_immediate = true;
        self
    }

    /// Sets the time zone of a cron expression; UTC unless set. A job of [`every`] has no time zone.
    #[cfg(feature = "cron")]
    pub fn zone(mut self, zone: jiff::tz::TimeZone) -> Self {
        if let Times::Calendar { zone: own, .. } = &mut self.times {
            *own = zone;
        }
        self
    }

    /// Sets the clock of a cron expression; [`WallClock::system`] unless set. A job of [`every`] uses tokio's clock.
    #[cfg(feature = "cron")]
    pub fn clock(mut self, clock: WallClock) -> Self {
        if let Times::Calendar { clock: own, .. } = &mut self.times {
            *own = Some(clock);
        }
        self
    }

    /// Skips the runs of a cron expression that are more than a minute late, because the process was suspended or the clock was
    /// set forward. Without this setting, one run takes the place of all of them.
    #[cfg(feature = "cron")]
    pub fn skip_missed(mut self) -> Self {
        if let Times::Calendar { missed, .. } = &mut self.times {
            *missed = MissedRuns::Skip;
        }
        self
    }

    /// Starts the job as a service of `scope`, whose snapshots show it. Returns its task; cancelling the task ends the job.
    ///
    /// The job is called for each run. An error that it returns, and its panic, are logged, and end only that run.
    ///
    /// # Errors
    /// [`ScopeClosedError`]: the scope has ended.
    pub fn start<J, Fut>(self, scope: &Scope, job: J) -> Result<Task<()>, ScopeClosedError<J>>
    where
        J: FnMut() -> Fut + Send + 'static,
        Fut: Future<Output: IntoResult> + Send + 'static,
    {
        // The scope is open as long as it has this member, so it does not refuse the service.
        let Some(_member) = Member::enter(&scope.0, Class::Work) else {
            return Err(ScopeClosedError::new(&scope.0.name, job));
        };
        let Self { times, name, site, jitter, overlap, is_immediate } = self;
        let status = Arc::new(JobStatus::default());
        let rhythm = times.start();
        status.waits_for(rhythm.next());
        let shown = Arc::clone(&status);
        let registration = scope.register("periodic", name.clone(), move || shown.stats());
        let running =
            JobLoop { name: name.clone(), rhythm, jitter, overlap, status, _registration: registration };
        let spec = Spec::new(name.clone(), site, Class::Service, Stop::Drop);
        match launch::<_, Plain>(&scope.0, spec, running.run(job, is_immediate)) {
            Ok(join) => Ok(Task::new(join, name, None, &scope.0)),
            Err(_) => unreachable!("a scope with a member is open"),
        }
    }
}

impl Times {
    fn start(self) -> Rhythm {
        match self {
            Self::Every(interval) => Rhythm::Interval(Interval::after(interval, Instant::now())),
            #[cfg(feature = "cron")]
            Self::Calendar { pattern, zone, clock, missed } => {
                let calendar = Calendar::new(*pattern, zone, clock.unwrap_or_default(), missed);
                Rhythm::Calendar(Box::new(calendar))
            }
        }
    }
}

/// A job that has started.
struct JobLoop {
    name: Name,
    rhythm: Rhythm,
    jitter: Duration,
    overlap: Overlap,
    status: Arc<JobStatus>,
    _registration: Registration,
}

impl JobLoop {
    async fn run<J, Fut>(mut self, mut job: J, is_immediate: bool)
    where
        J: FnMut() -> Fut,
        Fut: Future<Output: IntoResult>,
    {
        let mut is_due = is_immediate;
        loop {
            if !is_due {
                self.wait().await;
                let jitter = rng::with(|rng| rng.duration(Duration::ZERO..=self.jitter));
                sleep(jitter).await;
            }
            self.rhythm.begins();
            self.status.begins(self.rhythm.next());
            // In a future of its own, so that panics of the closure, and of the drop of its future, are caught as well.
            let ended = Caught::new(async { job().await.into_result() }).await;
            self.status.ended(self.end_of(ended));
            let passed = self.rhythm.take(Passed::Before);
            is_due = passed > 0 && self.overlap == Overlap::Queue;
            self.status.skipped(passed - u64::from(is_due));
            // A job that never waits, and is always late, must not keep its thread.
            consume_budget().await;
        }
    }

    /// Waits until a run is due.
    async fn wait(&mut self) {
        loop {
            self.status.waits_for(self.rhythm.next());
            if let Some(wait) = self.rhythm.wait() {
                sleep(wait).await;
                continue;
            }
            let due = self.rhythm.take(Passed::UpTo);
            if self.rhythm.skips_missed() {
                self.status.skipped(due);
                consume_budget().await;
                continue;
            }
            self.status.skipped(due.saturating_sub(1));
            return;
        }
    }

    fn end_of(&self, ended: Result<Result<(), BoxError>, Box<dyn Any + Send>>) -> RunEnd {
        let job = &self.name;
        match ended {
            Ok(Ok(())) => RunEnd::Ok,
            Ok(Err(error)) => {
                crate::log::warn!(%job, error = &*error as &(dyn Error + 'static), "a run of a periodic job failed");
                // Code of the user.
                let text = catch(|| error.to_string()).unwrap_or_else(|_| "its error panicked".to_owned());
                quietly_drop(error);
                RunEnd::Failed(text)
            }
            Err(payload) => {
                let message = panic_words(payload);
                crate::log::error!(%job, message, "a run of a periodic job panicked");
                RunEnd::Panicked(message)
            }
        }
    }
}

type BoxError = Box<dyn Error + Send + Sync>;

impl fmt::Debug for Periodic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Periodic").field("name", &self.name).finish_non_exhaustive()
    }
}
