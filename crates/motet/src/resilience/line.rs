//! Places that are taken by few and waited for by some, in order: what a bulkhead and an adaptive limit share.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, TryAcquireError};
use tokio::task::coop;

use crate::mutant;
use crate::task::timeout;

#[derive(Debug)]
pub(super) struct Line {
    /// Free places; it serves in order, and whoever comes later waits behind those who wait.
    free: Semaphore,
    /// Who has a place or waits for one. The semaphore alone does not say how many wait.
    inside: AtomicUsize,
    queue: usize,
    max_wait: Duration,
}

/// There was no place, or not in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

impl Line {
    pub(super) fn new(places: usize, queue: usize, max_wait: Duration) -> Self {
        Self { free: Semaphore::new(places), inside: AtomicUsize::new(0), queue, max_wait }
    }

    /// Takes a place if one of `places` is free and nobody waits. It is given back by [`leave`](Self::leave).
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

    /// Waits for a place, if the queue has one.
    ///
    /// # Cancel safety
    /// Safe: a place that was to be this one's goes to the next in line.
    pub(super) async fn take(&self, places: usize) -> Result<(), Full> {
        // Here, not under the limit of time: one whose task has used up its budget is not late.
        coop::consume_budget().await;
        let inside = self.enter(places + self.queue)?;
        if let Ok(place) = self.free.try_acquire() {
            place.forget();
            inside.stay();
            return Ok(());
        }
        let place = timeout(self.max_wait, self.free.acquire()).await;
        // Not in time; it is never closed.
        let Ok(Ok(place)) = place else { return Err(Full) };
        place.forget();
        inside.stay();
        Ok(())
    }

    /// Gives up a place that was taken; `back` says whether another may have it.
    pub(super) fn leave(&self, back: bool) {
        // First: whoever is woken by the place, and ends, must not find the line full of those who have left.
        self.inside.fetch_sub(1, Ordering::Relaxed);
        if back {
            self.free.add_permits(1);
        }
    }

    /// Opens more places.
    pub(super) fn open(&self, places: usize) {
        self.free.add_permits(places);
    }

    /// Closes so many places, or as many as are free; says how many.
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

/// Somebody who waits, and leaves when dropped.
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
