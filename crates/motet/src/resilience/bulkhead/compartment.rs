use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use super::{BulkheadBuilder, BulkheadPermit, BulkheadStats};
use crate::observe::Registration;
use crate::resilience::line::Line;
use crate::resilience::{Rejected, RejectedBy};
use crate::sim;

/// Lets so many calls be under way at the same time; some more wait, and the rest is rejected.
///
/// What is called can then hang or be slow without taking everything else with it. A handle: clones are one
/// bulkhead.
///
/// # When to use
/// Where the number of calls that the other side can take is known. An
/// [`AdaptiveLimit`](super::super::AdaptiveLimit) finds it out; a [`RateLimiter`](super::super::RateLimiter)
/// limits calls per time.
///
/// # Ordering and fairness
/// Those who wait are served in the order in which they came, and before those who come later.
///
/// # Examples
/// ```
/// use motet::resilience::Bulkhead;
/// use std::time::Duration;
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// let bulkhead = Bulkhead::builder(1).queue(1, Duration::from_secs(1)).build().unwrap();
/// let permit = bulkhead.acquire().await.unwrap();
/// let (waits, too_many) = tokio::join!(bulkhead.acquire(), bulkhead.acquire());
/// assert!(waits.is_err()); // after a second
/// assert!(too_many.is_err()); // at once
/// drop(permit);
/// assert!(bulkhead.try_acquire().is_ok());
/// # });
/// ```
#[derive(Clone)]
pub struct Bulkhead(pub(super) Arc<Shared>);

pub(super) struct Shared {
    pub(super) line: Line,
    places: usize,
    rejected: AtomicU64,
    pub(super) shown: OnceLock<Registration>,
}

impl Bulkhead {
    /// Begins a bulkhead with so many places.
    pub fn builder(places: usize) -> BulkheadBuilder {
        BulkheadBuilder::new(places)
    }

    pub(super) fn new(places: usize, line: Line) -> Self {
        let (rejected, shown) = (AtomicU64::new(0), OnceLock::new());
        Self(Arc::new(Shared { line, places, rejected, shown }))
    }

    /// Takes a place, if one is free and nobody waits for it.
    ///
    /// # Errors
    /// [`Rejected`] otherwise. So it is, too, in the instant in which another thread gives a place back.
    pub fn try_acquire(&self) -> Result<BulkheadPermit<'_>, Rejected> {
        let taken = self.0.line.try_take(self.0.places);
        taken.map(|()| BulkheadPermit::new(&self.0)).map_err(|_| self.0.reject())
    }

    /// A place that is free, without a count of those for whom there was none.
    pub(in crate::resilience) fn take_free(&self) -> Option<BulkheadPermit<'_>> {
        self.0.line.try_take(self.0.places).ok().map(|()| BulkheadPermit::new(&self.0))
    }

    /// Takes a place, or waits for one if the queue has room.
    ///
    /// # Cancel safety
    /// Safe: it leaves the queue, and a place that was to be its goes to the next in line.
    ///
    /// # Errors
    /// [`Rejected`], if the queue is full, or there was no place for as long as a call may wait.
    #[track_caller]
    pub fn acquire(&self) -> impl Future<Output = Result<BulkheadPermit<'_>, Rejected>> {
        sim::at("bulkhead", "acquire", async move {
            let taken = self.0.line.take(self.0.places).await;
            taken.map(|()| BulkheadPermit::new(&self.0)).map_err(|_| self.0.reject())
        })
    }

    /// Gives what the bulkhead knows.
    #[must_use]
    pub fn stats(&self) -> BulkheadStats {
        let inside = self.0.line.inside();
        BulkheadStats {
            places: self.0.places,
            taken: inside.min(self.0.places),
            waiting: inside.saturating_sub(self.0.places),
            rejected: self.0.rejected.load(Ordering::Relaxed),
        }
    }
}

impl Shared {
    #[cold]
    fn reject(&self) -> Rejected {
        self.rejected.fetch_add(1, Ordering::Relaxed);
        Rejected::new(RejectedBy::Bulkhead, None)
    }
}

impl fmt::Debug for Bulkhead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bulkhead").field("stats", &self.stats()).finish_non_exhaustive()
    }
}
