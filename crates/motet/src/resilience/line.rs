//! A bounded number of permits with a bounded line of waiters, first come, first served: shared by bulkheads and
//! adaptive limits.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, TryAcquireError};
use tokio::task::coop;

use crate::mutant;
use crate::task::timeout;

#[derive(Debug)]
pub(super) struct Line {
    /// The free permits. The semaphore serves its waiters in order, and later callers queue behind them.
    free: Semaphore,
    /// The number of callers that hold a permit or wait for one. The semaphore alone does not count its waiters.
    inside: AtomicUsize,
    queue: usize,
    max_wait: Duration,
}

/// No permit was free, or not in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

impl Line {
    pub(super) fn new(places: usize, queue: usize, max_wait: Duration) -> Self {
        Self { free: Semaphore::new(places), inside: AtomicUsize::new(0), queue, max_wait }
    }

    /// Takes a permit if one of `places` is free and no caller waits. [`leave`](Self::leave) returns it.
    pub(super) fn try_take(&self, places: usize) -> Result<(), Full> {
        let inside = self.enter(places)?;
        match self.free.try_acquire() {
            Ok(place) => {
                place.forget();
                inside.stay();
                Ok(())
            }
            Err(TryAcquireError::NoPermits | TryAcquireError::Closed) => Err(Full),
        }
    }

    /// Waits for a permit, if the line has capacity.
    ///
    /// # Cancel safety
    /// Safe: a permit that was assigned to this caller goes to the next waiter.
    pub(super) async fn take(&self, places: usize) -> Result<(), Full> {
        // Before the timeout starts: a caller whose task has used up its coop budget is not late.
        coop::consume_budget().await;
        let inside = self.enter(places + self.queue)?;
        if let Ok(place) = self.free.try_acquire() {
            place.forget();
            inside.stay();
            return Ok(());
        }
        let place = timeout(self.max_wait, self.free.acquire()).await;
        // It timed out; the semaphore is never closed.
        let Ok(Ok(place)) = place else { return Err(Full) };
        place.forget();
        inside.stay();
        Ok(())
    }

    /// Leaves the line with a permit that was taken. `back` decides whether another caller may have the permit.
    pub(super) fn leave(&self, back: bool) {
        // Counted first: a caller that is woken by the permit, and finishes, must not find the line full of callers
        // that have left.
        self.inside.fetch_sub(1, Ordering::Relaxed);
        if back {
            self.free.add_permits(1);
        }
    }

    /// Adds permits.
    pub(super) fn open(&self, places: usize) {
        self.free.add_permits(places);
    }

    /// Removes up to `places` free permits. Returns the number that was removed.
    pub(super) fn close(&self, places: usize) -> usize {
        self.free.forget_permits(places)
    }

    pub(super) fn inside(&self) -> usize {
        self.inside.load(Ordering::Relaxed)
    }

    fn enter(&self, room: usize) -> Result<Inside<'_>, Full> {
        let one_more = |inside| (inside < room).then_some(inside + 1);
        let entered = self.inside.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        entered.map(|_| Inside(Some(self))).map_err(|_| Full)
    }
}

/// A caller that waits, and leaves the line when it is dropped.
struct Inside<'a>(Option<&'a Line>);

impl Inside<'_> {
    fn stay(mut self) {
        self.0 = None;
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        if let Some(line) = self.0
            && !mutant!("line.never_leave")
        {
            line.inside.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
