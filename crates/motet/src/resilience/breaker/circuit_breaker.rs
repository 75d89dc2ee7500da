use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::shared::BreakerShared;
use super::{BreakerPermit, BreakerState, BreakerStats, CircuitBreakerBuilder};
use crate::resilience::register::RegisterWith;
use crate::resilience::{PolicyKind, RejectedError, Verdict};
use crate::sim;

/// Stops calls to a dependency that fails, and tries from time to time whether it has recovered.
///
/// A closed breaker admits calls and counts how they end. By default it opens when at least half of the last 100 calls
/// failed, once there were 20 calls; then it rejects calls without calling anything. After its open time it is half-open:
/// it admits a few calls as probes, and closes or opens again by their outcomes. It is a handle: clones share one breaker.
///
/// The state changes during calls, and when it is read: the breaker runs no task and arms no timer. Time is tokio's.
///
/// # When to use
/// Use it where calls to a failing dependency cost more than they are worth: time, connections, load on a dependency
/// that tries to recover. Record the caller's own mistakes, such as a 404, as [`Verdict::Ignore`]: they show nothing about
/// the dependency. Inside a retry, the breaker sees each attempt.
///
/// # Drop
/// The breaker is dropped with its last handle. Permits borrow it.
///
/// # Examples
/// ```
/// use motet::resilience::{BreakerState, CircuitBreaker};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let breaker = CircuitBreaker::builder().consecutive_failures(2).build()?;
/// breaker.try_acquire()?.failure();
/// breaker.try_acquire()?.failure();
///
/// let rejected = breaker.try_acquire().unwrap_err();
/// assert_eq!(breaker.state(), BreakerState::Open);
/// tokio::time::advance(rejected.retry_after().unwrap()).await;
/// breaker.try_acquire()?.success();
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct CircuitBreaker(pub(super) Arc<BreakerShared>);

impl CircuitBreaker {
    /// Creates a builder, with the [defaults](CircuitBreakerBuilder).
    pub fn builder() -> CircuitBreakerBuilder {
        CircuitBreakerBuilder::default()
    }

    /// Admits a call, whose outcome is recorded with the permit.
    ///
    /// While the breaker is closed, this takes no lock. It reads the clock if slow calls count, or if a dropped call
    /// counts by its duration, which is the default; in the second case, [`call`](Self::call) reads it only if the future
    /// has to wait.
    ///
    /// # Errors
    /// [`RejectedError`] if the breaker is open, half-open with all probes in flight, or forced open. If it is open,
    /// the error carries the time until it admits probes.
    #[inline]
    pub fn try_acquire(&self) -> Result<BreakerPermit<'_>, RejectedError> {
        self.admit(self.0.times_permits)
    }

    /// Like [`try_acquire`](Self::try_acquire), but for a call that reports when it [waits](BreakerPermit::waits), so
    /// that a call that is ready does not read the clock only because it could have been dropped.
    #[inline]
    pub(crate) fn try_acquire_untimed(&self) -> Result<BreakerPermit<'_>, RejectedError> {
        self.admit(self.0.slow_call.is_some())
    }

    #[inline]
    fn admit(&self, timed: bool) -> Result<BreakerPermit<'_>, RejectedError> {
        let Some(call) = self.0.admit() else { return self.admit_by_machine() };
        let begun = if timed { Some(Instant::now()) } else { None };
        Ok(BreakerPermit::new(self, call, begun))
    }

    #[cold]
    fn admit_by_machine(&self) -> Result<BreakerPermit<'_>, RejectedError> {
        // The permit is timed in every case here, also if the breaker was forced closed a moment ago: the clock is read
        // anyway.
        let now = Instant::now();
        if let Some(left) = self.0.reject(now) {
            return Err(self.rejection(Some(left)));
        }
        match self.0.with(|machine| machine.admit(now)) {
            Ok(call) => Ok(BreakerPermit::new(self, call, Some(now))),
            Err(retry_after) => Err(self.rejection(retry_after)),
        }
    }

    fn rejection(&self, retry_after: Option<Duration>) -> RejectedError {
        RejectedError::new(PolicyKind::CircuitBreaker, self.0.name.as_ref(), retry_after)
    }

    /// Runs a future, if the breaker admits it, and records the verdict on its output.
    ///
    /// # Cancel safety
    /// The future is dropped. The call then counts according to
    /// [the setting](CircuitBreakerBuilder::fail_dropped_calls_after) for dropped calls; its duration is counted from its
    /// first wait.
    ///
    /// # Errors
    /// [`RejectedError`], as for [`try_acquire`](Self::try_acquire); the future is dropped without having been polled.
    ///
    /// # Examples
    /// ```
    /// use motet::resilience::{CircuitBreaker, Verdict};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let breaker = CircuitBreaker::default();
    /// let request = async { Ok::<_, std::io::Error>(7) };
    /// let call = breaker.call(request, |response| match response {
    ///     Ok(_) => Verdict::Success,
    ///     Err(_) => Verdict::Failure,
    /// });
    /// assert_eq!(call.await??, 7);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn call<F: Future>(
        &self,
        future: F,
        verdict: impl FnOnce(&F::Output) -> Verdict,
    ) -> impl Future<Output = Result<F::Output, RejectedError>> {
        let site = sim::Site::named("circuit breaker", "call", || self.name().map(str::to_owned)).around();
        site.of(async move {
            let mut permit = self.try_acquire_untimed()?;
            // Dropped before the permit records the outcome: the lease of a probe is free when its call has ended.
            let mut future = pin!(future);
            let output = poll_fn(|cx| match future.as_mut().poll(cx) {
                Poll::Pending => {
                    permit.waits();
                    Poll::Pending
                }
                ready @ Poll::Ready(_) => ready,
            })
            .await;
            permit.record(verdict(&output));
            Ok(output)
        })
    }

    /// The current state. A change that time has made due, such as from open to half-open, is made first.
    #[must_use]
    pub fn state(&self) -> BreakerState {
        let now = Instant::now();
        self.0.with(|machine| {
            machine.pass_time(now);
            machine.state()
        })
    }

    /// The statistics of the breaker.
    #[must_use]
    pub fn stats(&self) -> BreakerStats {
        let now = Instant::now();
        self.0.with(|machine| {
            machine.pass_time(now);
            BreakerStats {
                state: machine.state(),
                streak: machine.streak(),
                windows: machine.windows(now),
                probes: machine.probes_in_flight(),
                retry_after: machine.retry_after(now),
                opened: machine.totals.opened,
                would_have_opened: machine.totals.would_have_opened,
                rejected: machine.totals.rejected + self.0.rejected(),
                stale: machine.totals.stale,
            }
        })
    }

    /// Subscribes to the state: the receiver holds the latest state.
    ///
    /// The breaker runs no task, so the change from open to half-open is reported at the next call, or when the state is
    /// read.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<BreakerState> {
        self.0.subscribe()
    }

    /// The name, if the breaker has one.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.0.name.as_ref().map(crate::task::Name::as_str)
    }

    /// Rejects all calls until another state is forced, or the breaker is [reset](Self::reset). The outcomes of calls
    /// in flight no longer count. This holds for each method that forces a state.
    pub fn force_open(&self) {
        self.force(BreakerState::ForcedOpen);
    }

    /// Admits all calls, and counts how they end, until another state is forced, or the breaker is
    /// [reset](Self::reset).
    pub fn force_closed(&self) {
        self.force(BreakerState::ForcedClosed);
    }

    /// Admits all calls, counts how they end, and reports when the breaker would have opened, until another state is
    /// forced, or the breaker is [reset](Self::reset): use it to try out settings in production.
    pub fn metrics_only(&self) {
        self.force(BreakerState::MetricsOnly);
    }

    /// Admits all calls, and counts nothing, until another state is forced, or the breaker is [reset](Self::reset).
    pub fn disable(&self) {
        self.force(BreakerState::Disabled);
    }

    /// Returns the breaker to its initial state: closed, with empty windows, and no state forced.
    pub fn reset(&self) {
        self.force(BreakerState::Closed);
    }

    fn force(&self, state: BreakerState) {
        self.0.with(|machine| machine.force(state));
    }

    /// The state without the changes that are due, so that no listener is called.
    pub(in crate::resilience) fn peek(&self) -> BreakerState {
        self.0.peek()
    }

    pub(in crate::resilience) fn handles(&self) -> usize {
        Arc::strong_count(&self.0)
    }
}

/// Creates a breaker with the [defaults](CircuitBreakerBuilder), which are valid.
impl Default for CircuitBreaker {
    fn default() -> Self {
        CircuitBreakerBuilder::default().checked(RegisterWith::AmbientScope)
    }
}

impl fmt::Debug for CircuitBreaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the state: printing must not change it.
        f.debug_struct("CircuitBreaker").field("name", &self.name()).finish_non_exhaustive()
    }
}
