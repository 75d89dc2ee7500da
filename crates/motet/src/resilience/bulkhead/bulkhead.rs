use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use super::{BulkheadBuilder, BulkheadPermit};
use crate::observe::Registration;
use crate::resilience::line::PermitLine;
use crate::resilience::{LimitStats, PolicyKind, RejectedError};
use crate::sim;
use crate::task::Name;

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
pub struct Bulkhead(pub(super) Arc<BulkheadShared>);

pub(super) struct BulkheadShared {
    pub(super) line: PermitLine,
    limit: usize,
    name: Option<Name>,
    rejected: AtomicU64,
    pub(super) registration: OnceLock<Registration>,
}

impl Bulkhead {
    /// Creates a builder of a bulkhead that admits `limit` concurrent calls.
    pub fn builder(limit: usize) -> BulkheadBuilder {
        BulkheadBuilder::new(limit)
    }

    pub(super) fn new(limit: usize, line: PermitLine, name: Option<Name>) -> Self {
        let (rejected, registration) = (AtomicU64::new(0), OnceLock::new());
        Self(Arc::new(BulkheadShared { line, limit, name, rejected, registration }))
    }

    /// Takes a permit, if one is free and no caller waits.
    ///
    /// # Errors
    /// [`RejectedError`] otherwise; also in the instant in which another thread returns a permit.
    pub fn try_acquire(&self) -> Result<BulkheadPermit<'_>, RejectedError> {
        let taken = self.0.line.try_take(self.0.limit);
        taken.map(|()| BulkheadPermit::new(&self.0)).map_err(|_| self.0.reject())
    }

    /// Takes a free permit, without counting a rejection if there is none.
    pub(in crate::resilience) fn take_free(&self) -> Option<BulkheadPermit<'_>> {
        self.0.line.try_take(self.0.limit).ok().map(|()| BulkheadPermit::new(&self.0))
    }

    /// Takes a permit, or waits for one if the line has capacity.
    ///
    /// # Cancel safety
    /// Safe: the caller leaves the line, and a permit that was assigned to it goes to the next waiter.
    ///
    /// # Errors
    /// [`RejectedError`] if the line is full, or if no permit was free within the longest wait.
    #[track_caller]
    pub fn acquire(&self) -> impl Future<Output = Result<BulkheadPermit<'_>, RejectedError>> {
        sim::at("bulkhead", "acquire", async move {
            let taken = self.0.line.take(self.0.limit).await;
            taken.map(|()| BulkheadPermit::new(&self.0)).map_err(|_| self.0.reject())
        })
    }

    /// The statistics of the bulkhead.
    #[must_use]
    pub fn stats(&self) -> LimitStats {
        let inside = self.0.line.inside();
        LimitStats {
            limit: self.0.limit,
            in_flight: inside.min(self.0.limit),
            waiting: inside.saturating_sub(self.0.limit),
            rejected: self.0.rejected.load(Ordering::Relaxed),
        }
    }
}

impl BulkheadShared {
    #[cold]
    fn reject(&self) -> RejectedError {
        self.rejected.fetch_add(1, Ordering::Relaxed);
        RejectedError::new(PolicyKind::Bulkhead, self.name.as_ref(), None)
    }
}

impl fmt::Debug for Bulkhead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bulkhead").field("stats", &self.stats()).finish_non_exhaustive()
    }
}
