use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::rules::{AdaptiveConfig, AdaptiveRules};
use super::{AdaptiveLimitBuilder, LimitPermit};
use crate::observe::Registration;
use crate::resilience::line::{LineFull, PermitLine};
use crate::resilience::listeners::Listeners;
use crate::resilience::register::RegisterWith;
use crate::resilience::{LimitStats, PolicyKind, RejectedError};
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
pub struct AdaptiveLimit(pub(super) Arc<AdaptiveShared>);

pub(super) struct AdaptiveShared {
    line: PermitLine,
    /// A copy of the limit in the rules, written under their lock.
    limit: AtomicUsize,
    in_flight: AtomicUsize,
    rejected: AtomicU64,
    rules: Mutex<LimitState>,
    listeners: Listeners<LimitChange>,
    name: Option<Name>,
    pub(super) registration: OnceLock<Registration>,
}

struct LimitState {
    rules: AdaptiveRules,
    /// The number of permits: free, taken, and being returned. It stays above the limit until enough permits have been
    /// returned.
    permits: usize,
}

/// A change of the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LimitChange {
    pub(super) from: usize,
    pub(super) to: usize,
}

/// The outcome of a call, as the limit counts it.
#[derive(Debug, Clone, Copy)]
pub(super) enum CallSample {
    Success { took: Duration },
    Failure,
}

impl AdaptiveLimit {
    /// Creates a builder, with the [defaults](AdaptiveLimitBuilder).
    pub fn builder() -> AdaptiveLimitBuilder {
        AdaptiveLimitBuilder::default()
    }

    pub(super) fn new(
        config: AdaptiveConfig,
        line: PermitLine,
        listeners: Listeners<LimitChange>,
        name: Option<Name>,
    ) -> Self {
        let permits = config.start;
        Self(Arc::new(AdaptiveShared {
            line,
            limit: AtomicUsize::new(permits),
            in_flight: AtomicUsize::new(0),
            rejected: AtomicU64::new(0),
            rules: Mutex::new(LimitState { rules: AdaptiveRules::new(config), permits }),
            listeners,
            name,
            registration: OnceLock::new(),
        }))
    }

    /// Takes a permit, if the limit allows it and no caller waits.
    ///
    /// # Errors
    /// [`RejectedError`] otherwise; also in the instant in which another thread returns a permit.
    pub fn try_acquire(&self) -> Result<LimitPermit<'_>, RejectedError> {
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
    /// [`RejectedError`] if the line is full, or if no permit was free within the longest wait.
    #[track_caller]
    pub fn acquire(&self) -> impl Future<Output = Result<LimitPermit<'_>, RejectedError>> {
        sim::at_named(
            "adaptive limit",
            "acquire",
            || self.0.name.as_ref().map(ToString::to_string),
            async move { self.permit(self.0.line.take(self.0.limit.load(Ordering::Relaxed)).await) },
        )
    }

    fn permit(&self, taken: Result<(), LineFull>) -> Result<LimitPermit<'_>, RejectedError> {
        match taken {
            Ok(()) => {
                let in_flight = self.0.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
                Ok(LimitPermit::new(&self.0, Instant::now(), in_flight))
            }
            Err(LineFull) => {
                self.0.rejected.fetch_add(1, Ordering::Relaxed);
                Err(RejectedError::new(PolicyKind::AdaptiveLimit, self.0.name.as_ref(), None))
            }
        }
    }

    /// The statistics of the limit.
    #[must_use]
    pub fn stats(&self) -> LimitStats {
        let in_flight = self.0.in_flight.load(Ordering::Relaxed);
        LimitStats {
            limit: self.0.limit.load(Ordering::Relaxed),
            in_flight,
            waiting: self.0.line.inside().saturating_sub(in_flight),
            rejected: self.0.rejected.load(Ordering::Relaxed),
        }
    }
}

impl AdaptiveShared {
    /// Returns a permit and records the outcome of its call, with the time at which it ended.
    pub(super) fn leave(&self, sample: Option<(CallSample, Instant)>, in_flight: usize) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        let mut state = self.lock();
        let before = state.rules.limit();
        match sample {
            Some((CallSample::Success { took }, now)) => state.rules.ended(Some(took), in_flight, now),
            Some((CallSample::Failure, now)) => state.rules.ended(None, in_flight, now),
            None => {}
        }
        let limit = state.rules.limit();
        self.limit.store(limit, Ordering::Relaxed);
        // The returned permit first: it is removed if there are more permits than the limit.
        let mut is_above = state.permits > limit;
        if mutant!("limit.never_shrink") {
            is_above = false;
        }
        if is_above {
            state.permits -= 1;
        }
        // Removing permits wakes no waiter, so that it may be done under the lock.
        state.permits -= self.line.remove(state.permits.saturating_sub(limit));
        let more = limit.saturating_sub(state.permits);
        state.permits += more;
        drop(state);
        if is_above {
            self.line.leave_without_permit();
        } else {
            self.line.leave();
        }
        if more > 0 {
            self.line.add(more);
        }
        if limit != before {
            self.listeners.notify(self.name.as_ref(), &LimitChange { from: before, to: limit });
        }
    }

    fn lock(&self) -> MutexGuard<'_, LimitState> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Creates a limit with the [defaults](AdaptiveLimitBuilder), which are valid.
impl Default for AdaptiveLimit {
    fn default() -> Self {
        AdaptiveLimitBuilder::default().checked(RegisterWith::AmbientScope)
    }
}

impl fmt::Debug for AdaptiveLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdaptiveLimit").field("stats", &self.stats()).finish_non_exhaustive()
    }
}
