use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::coop;
use tokio::time::{Instant, sleep};

use super::gcra::{Gcra, Refused};
use super::{RateLimiterBuilder, RateLimiterStats};
use crate::observe::Registration;
use crate::resilience::{Rejected, RejectedBy};
use crate::{mutant, sim};

/// Lets so many calls through per time, with a burst: the rest waits, or is rejected.
///
/// It counts in *cells*: a call takes one, or as many as it costs. Taken cells come back one by one, evenly:
/// with 100 per second, every 10 ms one, up to the burst. In any stretch of time no more are taken than come
/// back within it, and the burst. All of it is one moment in one atomic (GCRA). Time is tokio's. A handle:
/// clones are one limiter.
///
/// # When to use
/// To keep to a limit per time: of an API, of a budget. A [`Bulkhead`](super::super::Bulkhead) limits how
/// many calls are under way, which follows what the other side can take; a rate does not.
///
/// # Ordering and fairness
/// Those who wait are served in the order in which they came; while somebody waits, nobody else takes cells.
///
/// # Examples
/// ```
/// use motet::resilience::RateLimiter;
/// use std::time::Duration;
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// let limiter = RateLimiter::builder(100, Duration::from_secs(1)).burst(10).build().unwrap();
/// limiter.try_acquire(10).unwrap();
/// let rejected = limiter.try_acquire(1).unwrap_err();
/// assert_eq!(rejected.retry_after(), Some(Duration::from_millis(10)));
/// limiter.acquire(1).await.unwrap(); // 10 ms later
/// # });
/// ```
#[derive(Clone)]
pub struct RateLimiter(pub(super) Arc<Shared>);

pub(super) struct Shared {
    gcra: Gcra,
    /// What the gcra's times are counted from.
    since: Instant,
    max_wait: Duration,
    /// What those who wait want, as the time it takes to come back.
    wanted: AtomicU64,
    /// Whose turn it is: one at a time, in order.
    turn: Semaphore,
    rejected: AtomicU64,
    pub(super) shown: OnceLock<Registration>,
}

impl RateLimiter {
    /// Begins a limiter of `count` cells per time. `count` is also its burst, unless that is set. No time, and one of
    /// centuries as [`Duration::MAX`], are no rate: the limiter is not built.
    pub fn builder(count: u32, per: Duration) -> RateLimiterBuilder {
        RateLimiterBuilder::new(count, per)
    }

    pub(super) fn new(cell: u64, burst: u64, max_wait: Duration) -> Self {
        Self(Arc::new(Shared {
            gcra: Gcra::new(cell, burst),
            since: Instant::now(),
            max_wait,
            wanted: AtomicU64::new(0),
            turn: Semaphore::new(1),
            rejected: AtomicU64::new(0),
            shown: OnceLock::new(),
        }))
    }

    /// Takes cells, if they are there and nobody waits for some.
    ///
    /// # Errors
    /// [`Rejected`], with the time until there will be as many after those who wait; without it, where the
    /// burst has never as many.
    #[inline]
    pub fn try_acquire(&self, cells: u32) -> Result<(), Rejected> {
        let shared = &*self.0;
        let (cost, now) = (shared.gcra.cost(cells), shared.now());
        if shared.wanted.load(Ordering::Relaxed) == 0 && shared.gcra.take(cost, now).is_ok() {
            return Ok(());
        }
        let before = shared.wanted.load(Ordering::Relaxed);
        Err(shared.reject(shared.gcra.wait(before, cost, now).ok()))
    }

    /// Takes cells that are there, without a count of those for whom there were none.
    pub(in crate::resilience) fn take_free(&self, cells: u32) -> bool {
        let (cost, now) = (self.0.gcra.cost(cells), self.0.now());
        self.0.wanted.load(Ordering::Relaxed) == 0 && self.0.gcra.take(cost, now).is_ok()
    }

    /// Waits for its turn, and until the cells are there; and takes them.
    ///
    /// One who would have to wait for longer than the longest wait is rejected at once.
    ///
    /// Timers are as fine as a millisecond: to let more than a thousand per second through that wait, give a
    /// burst of as many as come back within some milliseconds.
    ///
    /// # Cancel safety
    /// Safe: cells are taken when it returns and not before, and the next in line has its turn.
    ///
    /// # Errors
    /// [`Rejected`], with the time after which the wait would be short enough; without it, where the burst
    /// has never as many.
    #[track_caller]
    pub fn acquire(&self, cells: u32) -> impl Future<Output = Result<(), Rejected>> {
        sim::at("rate limiter", "acquire", async move {
            // Before any is taken: a call that is put off here has taken nothing.
            coop::consume_budget().await;
            let shared = &*self.0;
            let cost = shared.gcra.cost(cells);
            if shared.wanted.load(Ordering::Relaxed) == 0 && shared.gcra.take(cost, shared.now()).is_ok() {
                return Ok(());
            }
            let _wanted = shared.queue(cost)?;
            // It is never closed.
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

    /// Gives what the limiter knows.
    #[must_use]
    pub fn stats(&self) -> RateLimiterStats {
        RateLimiterStats {
            available: self.0.gcra.available(self.0.now()),
            wanted: self.0.wanted.load(Ordering::Relaxed) / self.0.gcra.cost(1),
            rejected: self.0.rejected.load(Ordering::Relaxed),
        }
    }
}

impl Shared {
    #[inline]
    fn now(&self) -> u64 {
        let since = Instant::now().saturating_duration_since(self.since);
        since.as_secs() * 1_000_000_000 + u64::from(since.subsec_nanos())
    }

    /// Gets in line, unless the wait would be too long.
    fn queue(&self, cost: u64) -> Result<Wanted<'_>, Rejected> {
        let now = self.now();
        let mut too_long = None;
        // Asked before it is counted: one who is rejected is never in the way of another.
        let one_more = |before: u64| {
            let wait = Duration::from_nanos(self.gcra.wait(before, cost, now).ok()?);
            too_long = wait.checked_sub(self.max_wait).filter(|too_long| !too_long.is_zero());
            if too_long.is_some() { None } else { before.checked_add(cost) }
        };
        match self.wanted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more) {
            Ok(_) => Ok(Wanted { shared: self, cost }),
            Err(_) => Err(self.reject(too_long.map(|too_long| too_long.as_nanos() as u64))),
        }
    }

    #[cold]
    fn reject(&self, after: Option<u64>) -> Rejected {
        self.rejected.fetch_add(1, Ordering::Relaxed);
        Rejected::new(RejectedBy::RateLimiter, after.map(Duration::from_nanos))
    }
}

/// A place in line.
struct Wanted<'a> {
    shared: &'a Shared,
    cost: u64,
}

impl Drop for Wanted<'_> {
    fn drop(&mut self) {
        if !mutant!("rate.keep_place") {
            self.shared.wanted.fetch_sub(self.cost, Ordering::Relaxed);
        }
    }
}

impl fmt::Debug for RateLimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimiter").field("stats", &self.stats()).finish_non_exhaustive()
    }
}
