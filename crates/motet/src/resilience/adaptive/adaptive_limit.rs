use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::rules::{Config, Rules};
use super::{AdaptiveLimitBuilder, AdaptiveLimitStats, LimitChange, LimitPermit};
use crate::observe::Registration;
use crate::resilience::line::{Full, Line};
use crate::resilience::listeners::Listeners;
use crate::resilience::{Rejected, RejectedBy};
use crate::task::Name;
use crate::{mutant, sim};

/// Limits concurrent calls to a number that it measures: the number that the dependency can sustain.
///
/// It compares the durations of recent calls with earlier ones. If calls take longer, they queue somewhere, and the
/// limit is lowered. Otherwise the limit is raised, as long as that increases the throughput, and to at most five times
/// the calls in flight. The rules are those of failsafe-go. Each call reads the clock twice. It is a handle: clones
/// share one limit.
///
/// # When to use
/// Use it for a dependency without a known limit, or with one that changes. Where the limit is known, a
/// [`Bulkhead`](super::super::Bulkhead) is simpler.
///
/// # Ordering and fairness
/// First come, first served, as with a [`Bulkhead`](super::super::Bulkhead).
///
/// # Examples
/// ```
/// use motet::resilience::AdaptiveLimit;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let limit = AdaptiveLimit::default();
/// let permit = limit.acquire().await?;
/// // The call runs here, and then its outcome is recorded:
/// permit.success();
/// assert_eq!(limit.stats().limit, 20);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct AdaptiveLimit(pub(super) Arc<Shared>);

pub(super) struct Shared {
    line: Line,
    /// A copy of the limit in the rules, written under their lock.
    limit: AtomicUsize,
    in_flight: AtomicUsize,
    rejected: AtomicU64,
    rules: Mutex<Ruled>,
    listeners: Listeners<LimitChange>,
    name: Option<Name>,
    pub(super) shown: OnceLock<Registration>,
}

struct Ruled {
    rules: Rules,
    /// The number of permits: free, taken, and being returned. It stays above the limit until enough permits have been
    /// returned.
    places: usize,
}

/// The outcome of a call, as the limit counts it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Sample {
    Success { took: Duration },
    Failure,
}

impl AdaptiveLimit {
    /// Creates a builder, with the [defaults](AdaptiveLimitBuilder).
    pub fn builder() -> AdaptiveLimitBuilder {
        AdaptiveLimitBuilder::default()
    }

    pub(super) fn new(
        config: Config,
        line: Line,
        listeners: Listeners<LimitChange>,
        name: Option<Name>,
    ) -> Self {
        let places = config.start;
        Self(Arc::new(Shared {
            line,
            limit: AtomicUsize::new(places),
            in_flight: AtomicUsize::new(0),
            rejected: AtomicU64::new(0),
            rules: Mutex::new(Ruled { rules: Rules::new(config), places }),
            listeners,
            name,
            shown: OnceLock::new(),
        }))
    }

    /// Takes a permit, if the limit allows it and no caller waits.
    ///
    /// # Errors
    /// [`Rejected`] otherwise; also in the instant in which another thread returns a permit.
    pub fn try_acquire(&self) -> Result<LimitPermit<'_>, Rejected> {
        self.permit(self.0.line.try_take(self.0.limit.load(Ordering::Relaxed)))
    }

    /// Takes a free permit, without counting a rejection if there is none.
    pub(in crate::resilience) fn take_free(&self) -> Option<LimitPermit<'_>> {
        let taken = self.0.line.try_take(self.0.limit.load(Ordering::Relaxed));
        taken.is_ok().then(|| self.permit(taken).ok()).flatten()
    }

    /// Takes a permit, or waits for one if the line has capacity.
    ///
    /// # Cancel safety
    /// Safe: the caller leaves the line, and a permit that was assigned to it goes to the next waiter.
    ///
    /// # Errors
    /// [`Rejected`] if the line is full, or if no permit was free within the longest wait.
    #[track_caller]
    pub fn acquire(&self) -> impl Future<Output = Result<LimitPermit<'_>, Rejected>> {
        sim::at_named(
            "adaptive limit",
            "acquire",
            || self.0.name.as_ref().map(ToString::to_string),
            async move { self.permit(self.0.line.take(self.0.limit.load(Ordering::Relaxed)).await) },
        )
    }

    fn permit(&self, taken: Result<(), Full>) -> Result<LimitPermit<'_>, Rejected> {
        match taken {
            Ok(()) => {
                let in_flight = self.0.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
                Ok(LimitPermit::new(&self.0, Instant::now(), in_flight))
            }
            Err(Full) => {
                self.0.rejected.fetch_add(1, Ordering::Relaxed);
                Err(Rejected::new(RejectedBy::AdaptiveLimit, None))
            }
        }
    }

    /// The statistics of the limit.
    #[must_use]
    pub fn stats(&self) -> AdaptiveLimitStats {
        let in_flight = self.0.in_flight.load(Ordering::Relaxed);
        AdaptiveLimitStats {
            limit: self.0.limit.load(Ordering::Relaxed),
            in_flight,
            waiting: self.0.line.inside().saturating_sub(in_flight),
            rejected: self.0.rejected.load(Ordering::Relaxed),
        }
    }
}

impl Shared {
    /// Returns a permit and records the outcome of its call, with the time at which it ended.
    pub(super) fn leave(&self, sample: Option<(Sample, Instant)>, in_flight: usize) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        let mut ruled = self.lock();
        let before = ruled.rules.limit();
        match sample {
            Some((Sample::Success { took }, now)) => ruled.rules.ended(Some(took), in_flight, now),
            Some((Sample::Failure, now)) => ruled.rules.ended(None, in_flight, now),
            None => {}
        }
        let limit = ruled.rules.limit();
        self.limit.store(limit, Ordering::Relaxed);
        // The returned permit first: it is removed if there are more permits than the limit.
        let back = ruled.places <= limit || mutant!("limit.never_shrink");
        if !back {
            ruled.places -= 1;
        }
        // Removing permits wakes no waiter, so that it may be done under the lock.
        ruled.places -= self.line.close(ruled.places.saturating_sub(limit));
        let more = limit.saturating_sub(ruled.places);
        ruled.places += more;
        drop(ruled);
        self.line.leave(back);
        if more > 0 {
            self.line.open(more);
        }
        if limit != before {
            self.listeners.tell(self.name.as_ref(), &LimitChange { from: before, to: limit });
        }
    }

    fn lock(&self) -> MutexGuard<'_, Ruled> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Creates a limit with the [defaults](AdaptiveLimitBuilder), which are valid.
impl Default for AdaptiveLimit {
    fn default() -> Self {
        AdaptiveLimitBuilder::default().checked()
    }
}

impl fmt::Debug for AdaptiveLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdaptiveLimit").field("stats", &self.stats()).finish_non_exhaustive()
    }
}
