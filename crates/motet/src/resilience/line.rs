//! A bounded number of permits with a bounded line of waiters, first come, first served: shared by bulkheads and
//! adaptive limits.
//!
//! The line is that of tokio's semaphore and not a [`WaitList`](crate::sync::WaitList): all permits are equal, and a free one
//! is taken without a lock.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, TryAcquireError};
use tokio::task::coop;

use crate::mutant;
use crate::observe::Stats;
use crate::task::timeout;

#[derive(Debug)]
pub(super) struct PermitLine {
    /// The free permits. The semaphore serves its waiters in order, and later callers queue behind them.
    free: Semaphore,
    /// The number of callers that hold a permit or wait for one. The semaphore alone does not count its waiters.
    inside: AtomicUsize,
    max_waiting: usize,
    max_wait: Duration,
}

/// No permit was free, or not in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LineFull;

impl PermitLine {
    pub(super) fn new(permits: usize, max_waiting: usize, max_wait: Duration) -> Self {
        Self { free: Semaphore::new(permits), inside: AtomicUsize::new(0), max_waiting, max_wait }
    }

    /// Takes a permit if one of `permits` is free and no caller waits. [`leave`](Self::leave) returns it.
    pub(super) fn try_take(&self, permits: usize) -> Result<(), LineFull> {
        let inside = self.enter(permits)?;
        match self.free.try_acquire() {
            Ok(permit) => {
                permit.forget();
                inside.stay();
                Ok(())
            }
            Err(TryAcquireError::NoPermits | TryAcquireError::Closed) => Err(LineFull),
        }
    }

    /// Waits for a permit, if the line has capacity.
    ///
    /// # Cancel safety
    /// Safe: a permit that was assigned to this caller goes to the next waiter.
    pub(super) async fn take(&self, permits: usize) -> Result<(), LineFull> {
        // Before the timeout starts: a caller whose task has used up its coop budget is not late.
        coop::consume_budget().await;
        let inside = self.enter(permits + self.max_waiting)?;
        if let Ok(permit) = self.free.try_acquire() {
            permit.forget();
            inside.stay();
            return Ok(());
        }
        let permit = timeout(self.max_wait, self.free.acquire()).await;
        // It timed out; the semaphore is never closed.
        let Ok(Ok(permit)) = permit else { return Err(LineFull) };
        permit.forget();
        inside.stay();
        Ok(())
    }

    /// Leaves the line, and returns the permit.
    pub(super) fn leave(&self) {
        // First: a caller that is woken by the permit, and finishes, must not find the line full of callers that have
        // left.
        self.leave_without_permit();
        self.free.add_permits(1);
    }

    /// Leaves the line without returning the permit: no other caller may have it.
    pub(super) fn leave_without_permit(&self) {
        self.inside.fetch_sub(1, Ordering::Relaxed);
    }

    /// Adds permits.
    pub(super) fn add(&self, permits: usize) {
        self.free.add_permits(permits);
    }

    /// Removes up to `permits` free permits. Returns the number that was removed.
    pub(super) fn remove(&self, permits: usize) -> usize {
        self.free.forget_permits(permits)
    }

    pub(super) fn inside(&self) -> usize {
        self.inside.load(Ordering::Relaxed)
    }

    fn enter(&self, capacity: usize) -> Result<LineMember<'_>, LineFull> {
        let one_more = |inside| (inside < capacity).then_some(inside + 1);
        let entered = self.inside.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        entered.map(|_| LineMember(Some(self))).map_err(|_| LineFull)
    }
}

/// A caller that waits, and leaves the line when it is dropped.
struct LineMember<'a>(Option<&'a PermitLine>);

impl LineMember<'_> {
    fn stay(mut self) {
        self.0 = None;
    }
}

impl Drop for LineMember<'_> {
    fn drop(&mut self) {
        if mutant!("line.never_leave") {
            return;
        }
        if let Some(line) = self.0 {
            line.inside.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// The statistics of a [`Bulkhead`](super::Bulkhead) or an [`AdaptiveLimit`](super::AdaptiveLimit) at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct LimitStats {
    /// The limit of concurrent calls.
    pub limit: usize,
    /// The number of calls in flight: more than the limit, if an adaptive limit was lowered while they ran.
    pub in_flight: usize,
    /// The number of calls that wait for a permit.
    pub waiting: usize,
    /// The number of rejected calls.
    pub rejected: u64,
}

impl LimitStats {
    pub(super) fn shown(self) -> Stats {
        Stats::new()
            .count("limit", self.limit as u64)
            .count("in_flight", self.in_flight as u64)
            .count("waiting", self.waiting as u64)
            .total("rejected", self.rejected)
    }
}
