use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::coop;
use tokio::time::{Instant, sleep};

use super::RateLimiterBuilder;
use super::gcra::{Gcra, Refused};
use crate::observe::{Registration, Stats};
use crate::resilience::{PolicyKind, RejectedError};
use crate::task::Name;
use crate::{mutant, sim};

/// Limits the number of calls per unit of time, with a burst: further calls wait, or are rejected.
///
/// It counts in *cells*: a call takes one cell, or as many as it costs. Cells that were taken come back one by one at
/// equal intervals, up to the burst: with 100 per second, one every 10 ms. In any period, at most the burst and the
/// cells that come back in that period are taken. The whole state is one instant in one atomic (GCRA). Time is tokio's.
/// It is a handle: clones share one limiter.
///
/// # When to use
/// Use it to keep to a limit per unit of time: of an API, or of a budget. A [`Bulkhead`](super::super::Bulkhead) limits
/// concurrent calls, which adapts to a dependency that becomes slow; a rate does not.
///
/// # Ordering and fairness
/// Waiters are served in order; while a caller waits, no other caller takes cells.
///
/// # Examples
/// ```
/// use motet::resilience::RateLimiter;
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let limiter = RateLimiter::builder(100, Duration::from_secs(1)).burst(10).build()?;
/// limiter.try_acquire(10)?;
/// let rejected = limiter.try_acquire(1).unwrap_err();
/// assert_eq!(rejected.retry_after(), Some(Duration::from_millis(10)));
/// limiter.acquire(1).await?; // 10 ms later
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RateLimiter(pub(super) Arc<RateLimiterShared>);

pub(super) struct RateLimiterShared {
    gcra: Gcra,
    /// The instant from which times count.
    since: Instant,
    max_wait: Duration,
    name: Option<Name>,
    /// The cells that the waiters want, as the time they take to come back.
    wanted: AtomicU64,
    /// The turn of the first waiter: one at a time, in order.
    turn: Semaphore,
    rejected: AtomicU64,
    pub(super) registration: OnceLock<Registration>,
}

impl RateLimiter {
    /// Creates a builder of a limiter of `count` cells per `per`. `count` is also its burst, unless
    /// [`burst`](RateLimiterBuilder::burst) sets another one. A `per` of zero, or of centuries as [`Duration::MAX`], is
    /// invalid.
    pub fn builder(count: u32, per: Duration) -> RateLimiterBuilder {
        RateLimiterBuilder::new(count, per)
    }

    pub(super) fn new(cell: u64, burst: u64, max_wait: Duration, name: Option<Name>) -> Self {
        Self(Arc::new(RateLimiterShared {
            gcra: Gcra::new(cell, burst),
            since: Instant::now(),
            max_wait,
            name,
            wanted: AtomicU64::new(0),
            turn: Semaphore::new(1),
            rejected: AtomicU64::new(0),
            registration: OnceLock::new(),
        }))
    }

    /// Takes cells, if they are free and no caller waits.
    ///
    /// # Errors
    /// [`RejectedError`] with the time until the cells are free and no waiter comes first; without a time if the burst
    /// never holds as many cells.
    #[inline]
    pub fn try_acquire(&self, cells: u32) -> Result<(), RejectedError> {
        let shared = &*self.0;
        let (cost, now) = (shared.gcra.cost(cells), shared.now());
        if shared.wanted.load(Ordering::Relaxed) == 0 && shared.gcra.take(cost, now).is_ok() {
            return Ok(());
        }
        let before = shared.wanted.load(Ordering::Relaxed);
        Err(shared.reject(shared.gcra.wait(before, cost, now).ok()))
    }

    /// Takes free cells, without counting a rejection if there are not enough.
    pub(in crate::resilience) fn take_free(&self, cells: u32) -> bool {
        let (cost, now) = (self.0.gcra.cost(cells), self.0.now());
        self.0.wanted.load(Ordering::Relaxed) == 0 && self.0.gcra.take(cost, now).is_ok()
    }

    /// Waits until the cells are free, in order, and takes them.
    ///
    /// A caller that would have to wait longer than the longest wait is rejected at once.
    ///
    /// Timers have a resolution of a millisecond: to let more than a thousand waiting calls per second through, set a
    /// burst of the cells of several milliseconds.
    ///
    /// # Cancel safety
    /// Safe: cells are taken when the future completes and not before, and the next waiter has its turn.
    ///
    /// # Errors
    /// [`RejectedError`] with the time after which the wait would be short enough; without a time if the burst never
    /// holds as many cells.
    #[track_caller]
    pub fn acquire(&self, cells: u32) -> impl Future<Output = Result<(), RejectedError>> {
        sim::at("rate limiter", "acquire", async move {
            // Before any cell is taken: a call that yields here has taken nothing.
            coop::consume_budget().await;
            let shared = &*self.0;
            let cost = shared.gcra.cost(cells);
            if shared.wanted.load(Ordering::Relaxed) == 0 && shared.gcra.take(cost, shared.now()).is_ok() {
                return Ok(());
            }
            let _wanted = shared.queue(cost)?;
            // The semaphore is never closed.
            let _turn = shared.turn.acquire().await;
            loop {
                match shared.gcra.take(cost, shared.now()) {
                    Ok(()) => return Ok(()),
                    Err(Refused::For(wait)) => sleep(Duration::from_nanos(wait)).await,
                    Err(Refused::ForEver) => return Err(shared.reject(None)),
                }
            }
        })
    }

    /// Returns `true` if all cells have come back: the limiter is like a new one.
    pub(in crate::resilience) fn is_full(&self) -> bool {
        self.0.gcra.is_full(self.0.now())
    }

    /// The number of handles.
    pub(in crate::resilience) fn handles(&self) -> usize {
        Arc::strong_count(&self.0)
    }

    /// The statistics of the limiter.
    #[must_use]
    pub fn stats(&self) -> RateLimiterStats {
        RateLimiterStats {
            available: self.0.gcra.available(self.0.now()),
            wanted: self.0.wanted.load(Ordering::Relaxed) / self.0.gcra.cost(1),
            rejected: self.0.rejected.load(Ordering::Relaxed),
        }
    }
}

/// The statistics of a rate limiter at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RateLimiterStats {
    /// The number of cells that can be taken now, if no caller waits.
    pub available: u64,
    /// The number of cells that callers wait for.
    pub wanted: u64,
    /// The number of rejected calls.
    pub rejected: u64,
}

impl RateLimiterStats {
    pub(super) fn shown(self) -> Stats {
        Stats::new()
            .count("available", self.available)
            .count("wanted", self.wanted)
            .total("rejected", self.rejected)
    }
}

impl RateLimiterShared {
    #[inline]
    fn now(&self) -> u64 {
        let since = Instant::now().saturating_duration_since(self.since);
        since.as_secs() * 1_000_000_000 + u64::from(since.subsec_nanos())
    }

    /// Enters the line, unless the wait would be too long.
    fn queue(&self, cost: u64) -> Result<CellWaiter<'_>, RejectedError> {
        let now = self.now();
        let mut too_long = None;
        // Checked before it is counted: a caller that is rejected never holds up another caller.
        let one_more = |before: u64| {
            let wait = Duration::from_nanos(self.gcra.wait(before, cost, now).ok()?);
            too_long = wait.checked_sub(self.max_wait).filter(|too_long| !too_long.is_zero());
            if too_long.is_some() { None } else { before.checked_add(cost) }
        };
        match self.wanted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more) {
            Ok(_) => Ok(CellWaiter { shared: self, cost }),
            Err(_) => Err(self.reject(too_long.map(|too_long| too_long.as_nanos() as u64))),
        }
    }

    #[cold]
    fn reject(&self, after: Option<u64>) -> RejectedError {
        self.rejected.fetch_add(1, Ordering::Relaxed);
        RejectedError::new(PolicyKind::RateLimiter, self.name.as_ref(), after.map(Duration::from_nanos))
    }
}

/// A position in line.
struct CellWaiter<'a> {
    shared: &'a RateLimiterShared,
    cost: u64,
}

impl Drop for CellWaiter<'_> {
    fn drop(&mut self) {
        if mutant!("rate.keep_place") {
            return;
        }
        self.shared.wanted.fetch_sub(self.cost, Ordering::Relaxed);
    }
}

impl fmt::Debug for RateLimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimiter").field("stats", &self.stats()).finish_non_exhaustive()
    }
}
