use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use super::{BulkheadBuilder, BulkheadPermit, BulkheadStats};
use crate::observe::Registration;
use crate::resilience::line::Line;
use crate::resilience::{Rejected, RejectedBy};
use crate::sim;

/// Limits the number of concurrent calls: further calls wait in a bounded line, or are rejected.
///
/// A dependency that hangs or is slow then ties up a bounded number of callers. It is a handle: clones share one
/// bulkhead.
///
/// # When to use
/// Use it where the number of calls that the dependency can sustain is known. An
/// [`AdaptiveLimit`](super::super::AdaptiveLimit) measures that number; a [`RateLimiter`](super::super::RateLimiter)
/// limits calls per unit of time.
///
/// # Ordering and fairness
/// Waiters are served in order, and before callers that come later.
///
/// # Examples
/// ```
/// use motet::resilience::Bulkhead;
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bulkhead = Bulkhead::builder(1).queue(1, Duration::from_secs(1)).build()?;
/// let permit = bulkhead.acquire().await?;
/// let (waits, too_many) = tokio::join!(bulkhead.acquire(), bulkhead.acquire());
/// assert!(waits.is_err()); // after a second
/// assert!(too_many.is_err()); // at once
/// drop(permit);
/// assert!(bulkhead.try_acquire().is_ok());
/// # Ok(())
/// # }
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
    /// Creates a builder of a bulkhead with `places` permits.
    pub fn builder(places: usize) -> BulkheadBuilder {
        BulkheadBuilder::new(places)
    }

    pub(super) fn new(places: usize, line: Line) -> Self {
        let (rejected, shown) = (AtomicU64::new(0), OnceLock::new());
        Self(Arc::new(Shared { line, places, rejected, shown }))
    }

    /// Takes a permit, if one is free and no caller waits.
    ///
    /// # Errors
    /// [`Rejected`] otherwise; also in the instant in which another thread returns a permit.
    pub fn try_acquire(&self) -> Result<BulkheadPermit<'_>, Rejected> {
        let taken = self.0.line.try_take(self.0.places);
        taken.map(|()| BulkheadPermit::new(&self.0)).map_err(|_| self.0.reject())
    }

    /// Takes a free permit, without counting a rejection if there is none.
    pub(in crate::resilience) fn take_free(&self) -> Option<BulkheadPermit<'_>> {
        self.0.line.try_take(self.0.places).ok().map(|()| BulkheadPermit::new(&self.0))
    }

    /// Takes a permit, or waits for one if the line has capacity.
    ///
    /// # Cancel safety
    /// Safe: the caller leaves the line, and a permit that was assigned to it goes to the next waiter.
    ///
    /// # Errors
    /// [`Rejected`] if the line is full, or if no permit was free within the longest wait.
    #[track_caller]
    pub fn acquire(&self) -> impl Future<Output = Result<BulkheadPermit<'_>, Rejected>> {
        sim::at("bulkhead", "acquire", async move {
            let taken = self.0.line.take(self.0.places).await;
            taken.map(|()| BulkheadPermit::new(&self.0)).map_err(|_| self.0.reject())
        })
    }

    /// The statistics of the bulkhead.
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
