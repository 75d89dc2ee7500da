use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::RateLimiter;
use crate::resilience::InvalidPolicy;
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
    shown: Option<(Scope, Name)>,
}

impl RateLimiterBuilder {
    pub(super) fn new(count: u32, per: Duration) -> Self {
        Self { count, per, burst: count, max_wait: Duration::from_secs(5), shown: None }
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

    /// Sets the name, and registers the limiter with the scope, whose snapshots show it.
    pub fn named(mut self, scope: &Scope, name: impl Into<Name>) -> Self {
        self.shown = Some((scope.clone(), name.into()));
        self
    }

    /// Builds the limiter. The time of one cell is rounded up to whole nanoseconds: the limiter is never faster than
    /// asked for, and at a million calls per second slower by a thousandth at most.
    ///
    /// # Errors
    /// [`InvalidPolicy`] if the count, the time or the burst is zero, or if a burst takes more than two centuries to
    /// come back.
    pub fn build(self) -> Result<RateLimiter, InvalidPolicy> {
        let some = self.count > 0 && self.burst > 0 && !self.per.is_zero();
        InvalidPolicy::unless(some, "a rate lets 1 cell or more through, in more than no time")?;
        let cell = self.per.as_nanos().div_ceil(self.count.into());
        let cell = u64::try_from(cell).ok().filter(|cell| *cell < CENTURIES);
        let burst =
            cell.and_then(|cell| cell.checked_mul(self.burst.into())).filter(|burst| *burst < CENTURIES);
        InvalidPolicy::unless(burst.is_some(), "the cells of a burst come back within two centuries")?;
        let limiter = RateLimiter::new(cell.unwrap_or(1), burst.unwrap_or(1), self.max_wait);
        if let Some((scope, name)) = self.shown {
            let weak = Arc::downgrade(&limiter.0);
            let shown = scope.register("rate limiter", name, move || {
                weak.upgrade().map(|shared| RateLimiter(shared).stats().shown()).unwrap_or_default()
            });
            // The limiter is new, so the cell is empty.
            let _ = limiter.0.shown.set(shown);
        }
        Ok(limiter)
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
