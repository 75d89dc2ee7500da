use std::fmt;
use std::time::Duration;

use super::RateLimiter;
use crate::resilience::PolicyConfigError;
use crate::resilience::register::{RegisterWith, register};
use crate::task::{Name, Scope};

/// A builder of a [`RateLimiter`].
///
/// # Defaults
/// The burst is the number of cells of the rate. The longest wait is 5 s, as in Resilience4j.
#[derive(Clone)]
#[must_use = "nothing is limited until the limiter is built"]
pub struct RateLimiterBuilder {
    count: u32,
    per: Duration,
    burst: u32,
    max_wait: Duration,
    name: Option<Name>,
}

impl RateLimiterBuilder {
    pub(super) fn new(count: u32, per: Duration) -> Self {
        Self { count, per, burst: count, max_wait: Duration::from_secs(5), name: None }
    }

    /// Sets how many cells may be taken at once after a pause.
    pub fn burst(mut self, cells: u32) -> Self {
        self.burst = cells;
        self
    }

    /// Sets the longest wait: a caller that would have to wait longer is rejected at once. It also bounds the number of
    /// waiters, to those that can be served in that time. With zero no caller waits, with [`Duration::MAX`] every
    /// caller does.
    pub fn max_wait(mut self, time: Duration) -> Self {
        self.max_wait = time;
        self
    }

    /// Sets the name, for snapshots and errors.
    pub fn name(mut self, name: impl Into<Name>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Builds the limiter. If it has a name, the snapshots of the scope of the running task show it.
    ///
    /// The time of one cell is rounded up to whole nanoseconds: the limiter is never faster than asked for, and at a
    /// million calls per second slower by a thousandth at most.
    ///
    /// # Errors
    /// [`PolicyConfigError`] if the count, the time or the burst is zero, or if a burst takes more than two centuries
    /// to come back.
    pub fn build(self) -> Result<RateLimiter, PolicyConfigError> {
        self.build_with(RegisterWith::AmbientScope)
    }

    /// Builds the limiter as [`build`](Self::build) does. If it has a name, the snapshots of `scope` show it.
    ///
    /// # Errors
    /// [`PolicyConfigError`], as for [`build`](Self::build).
    pub fn build_in(self, scope: &Scope) -> Result<RateLimiter, PolicyConfigError> {
        self.build_with(RegisterWith::Scope(scope))
    }

    fn build_with(self, with: RegisterWith<'_>) -> Result<RateLimiter, PolicyConfigError> {
        let limiter = self.clone().check()?.limiter();
        let stats = |shared| RateLimiter(shared).stats().shown();
        if let Some(registration) = register(with, "rate limiter", self.name, &limiter.0, stats) {
            // The limiter is new, so the cell is empty.
            let _ = limiter.0.registration.set(registration);
        }
        Ok(limiter)
    }

    pub(in crate::resilience) fn check(self) -> Result<CheckedRate, PolicyConfigError> {
        PolicyConfigError::unless(self.count > 0, "count", self.count, "at least 1")?;
        PolicyConfigError::unless(self.burst > 0, "burst", self.burst, "at least 1")?;
        PolicyConfigError::unless(!self.per.is_zero(), "per", self.per, "more than zero")?;
        let cell = self.per.as_nanos().div_ceil(self.count.into());
        let cell = u64::try_from(cell).ok().filter(|cell| *cell < CENTURIES);
        let burst =
            cell.and_then(|cell| cell.checked_mul(self.burst.into())).filter(|burst| *burst < CENTURIES);
        let allowed = "short enough that the burst comes back within two centuries";
        PolicyConfigError::unless(burst.is_some(), "per", self.per, allowed)?;
        let (cell, burst) = (cell.unwrap_or(1), burst.unwrap_or(1));
        Ok(CheckedRate { cell, burst, max_wait: self.max_wait, name: self.name })
    }
}

/// The settings of a limiter, which are valid.
pub(in crate::resilience) struct CheckedRate {
    cell: u64,
    burst: u64,
    max_wait: Duration,
    name: Option<Name>,
}

impl CheckedRate {
    pub(in crate::resilience) fn limiter(&self) -> RateLimiter {
        RateLimiter::new(self.cell, self.burst, self.max_wait, self.name.clone())
    }
}

/// Two centuries in nanoseconds: the time since the limiter was created, plus the time of the cells that are taken
/// ahead, fits into a `u64`.
const CENTURIES: u64 = 200 * 365 * 24 * 60 * 60 * 1_000_000_000;

impl fmt::Debug for RateLimiterBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { count, per, burst, max_wait, .. } = self;
        f.debug_struct("RateLimiterBuilder")
            .field("count", count)
            .field("per", per)
            .field("burst", burst)
            .field("max_wait", max_wait)
            .finish_non_exhaustive()
    }
}
