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

/// Finds out how many calls the other side can take at the same time, and lets no more through.
///
/// It compares how long calls take with how long they took before: calls that take longer queue somewhere,
/// and the limit is lowered; else it is raised, as long as that brings more calls through, and to no more
/// than five times the calls that there are. The rules are failsafe-go's. Each call reads the clock twice. A
/// handle: clones are one limit.
///
/// # When to use
/// In front of what has no known limit, or one that changes. Where it is known, a
/// [`Bulkhead`](super::super::Bulkhead) is simpler.
///
/// # Ordering and fairness
/// As a [`Bulkhead`](super::super::Bulkhead): first come, first served.
///
/// # Examples
/// ```
/// use motet::resilience::AdaptiveLimit;
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let limit = AdaptiveLimit::default();
/// let permit = limit.acquire().await.unwrap();
/// // The call, and then how it went:
/// permit.success();
/// assert_eq!(limit.stats().limit, 20);
/// # });
/// ```
#[derive(Clone)]
pub struct AdaptiveLimit(pub(super) Arc<Shared>);

pub(super) struct Shared {
    line: Line,
    /// A copy of the limit of the rules, written under their lock.
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
    /// How many places there are, free, taken, and on their way back. Above the limit until enough have come
    /// back.
    places: usize,
}

/// How a call ended, as the limit sees it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Sample {
    Success { took: Duration },
    Failure,
}

impl AdaptiveLimit {
    /// Begins a limit, with the [defaults](AdaptiveLimitBuilder).
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

    /// Takes a place, if there is one below the limit and nobody waits for it.
    ///
    /// # Errors
    /// [`Rejected`] otherwise. So it is, too, in the instant in which another thread gives a place back.
    pub fn try_acquire(&self) -> Result<LimitPermit<'_>, Rejected> {
        self.permit(self.0.line.try_take(self.0.limit.load(Ordering::Relaxed)))
    }

    /// A place that is free, without a count of those for whom there was none.
    pub(in crate::resilience) fn take_free(&self) -> Option<LimitPermit<'_>> {
        let taken = self.0.line.try_take(self.0.limit.load(Ordering::Relaxed));
        taken.is_ok().then(|| self.permit(taken).ok()).flatten()
    }

    /// Takes a place, or waits for one if the queue has room.
    ///
    /// # Cancel safety
    /// Safe: it leaves the queue, and a place that was to be its goes to the next in line.
    ///
    /// # Errors
    /// [`Rejected`], if the queue is full, or there was no place for as long as a call may wait.
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

    /// Gives what the limit knows.
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
    /// Gives a place back, and takes notice of how its call went; `now` is read where there is a sample.
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
        // This place first: above the limit, it is not given back.
        let back = ruled.places <= limit || mutant!("limit.never_shrink");
        if !back {
            ruled.places -= 1;
        }
        // Closing wakes nobody, so it may be done under the lock.
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

/// With the [defaults](AdaptiveLimitBuilder), which make sense.
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
