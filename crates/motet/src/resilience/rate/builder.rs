use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::RateLimiter;
use crate::resilience::InvalidPolicy;
use crate::task::{Name, Scope};

/// Builds a [`RateLimiter`].
///
/// # Defaults
/// A burst of as many cells as come back in the time that the rate is given for, and a longest wait of 5 s, as
/// Resilience4j has it.
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

    /// Lets so many cells be taken at once, after a pause.
    pub fn burst(mut self, cells: u32) -> Self {
        self.burst = cells;
        self
    }

    /// Rejects who would have to wait for longer. So it bounds how many wait, too: as many as are served in that time. With
    /// zero no caller waits, with [`Duration::MAX`] each does.
    pub fn max_wait(mut self, time: Duration) -> Self {
        self.max_wait = time;
        self
    }

    /// Names the limiter, and shows it in the snapshots of the scope.
    pub fn named(mut self, scope: &Scope, name: impl Into<Name>) -> Self {
        self.shown = Some((scope.clone(), name.into()));
        self
    }

    /// Makes the limiter. The time of one cell is rounded up to whole nanoseconds: never faster than asked
    /// for, and at a million per second slower by a thousandth at most.
    ///
    /// # Errors
    /// [`InvalidPolicy`], if the count, the time or the burst is zero, or all cells take centuries to come
    /// back.
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
            // It is new, so nothing is there yet.
            let _ = limiter.0.shown.set(shown);
        }
        Ok(limiter)
    }
}

/// Two, in nanoseconds: what runs since a moment, and what is taken ahead, are together less than a `u64`.
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
