use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::sync::watch;
use tokio::time::Instant;

use super::shared::Shared;
use super::{BreakerPermit, BreakerState, BreakerStats, CircuitBreakerBuilder, OnCancel};
use crate::resilience::{Rejected, RejectedBy, Verdict};
use crate::sim;

/// Stops calling what fails, and tries now and then whether it is well again.
///
/// Closed, it lets calls through and counts how they end; when its [`Trip`](super::Trip) says so it opens,
/// and rejects calls without calling anything. After its open time it is half open: it lets a few calls
/// through as probes, and closes or opens again by how they end. A handle: clones are one breaker.
///
/// The state moves with calls, and when it is asked for: no task runs and no timer is armed for it. Time is
/// tokio's.
///
/// # When to use
/// Where calls to something that fails cost more than they bring: time, connections, load on what tries to
/// recover. Not for the errors of a caller: their verdict is [`Verdict::Ignore`]. Inside a retry it sees each
/// attempt.
///
/// # Drop
/// When the last handle is dropped, the breaker is. Permits borrow it.
///
/// # Examples
/// ```
/// use motet::resilience::{BreakerState, CircuitBreaker, Trip};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// let breaker = CircuitBreaker::builder().opens_on(Trip::consecutive(2)).build()?;
/// breaker.try_acquire()?.failure();
/// breaker.try_acquire()?.failure();
///
/// let rejected = breaker.try_acquire().unwrap_err();
/// assert_eq!(breaker.state(), BreakerState::Open);
/// tokio::time::advance(rejected.retry_after().unwrap()).await;
/// breaker.try_acquire()?.success();
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct CircuitBreaker(pub(super) Arc<Shared>);

impl CircuitBreaker {
    /// Begins a breaker, with the [defaults](CircuitBreakerBuilder).
    pub fn builder() -> CircuitBreakerBuilder {
        CircuitBreakerBuilder::default()
    }

    /// Lets a call through that is to tell how it ended.
    ///
    /// While the breaker is closed that takes no lock. It reads the clock where slow calls count, or where a
    /// call that is dropped counts by its age, which is the default: [`call`](Self::call) does not, for a
    /// future that is ready.
    ///
    /// # Errors
    /// [`Rejected`] when the breaker is open, half open with all probes under way, or forced open; with the
    /// time until it lets probes through, where it is open.
    #[inline]
    pub fn try_acquire(&self) -> Result<BreakerPermit<'_>, Rejected> {
        self.admit(self.0.times_permits)
    }

    /// The same for a call that says when it [waits](BreakerPermit::waits), so that one that is ready reads no clock
    /// only because it could have been cancelled.
    #[inline]
    pub(crate) fn try_acquire_untimed(&self) -> Result<BreakerPermit<'_>, Rejected> {
        self.admit(self.0.slow_call.is_some())
    }

    #[inline]
    fn admit(&self, timed: bool) -> Result<BreakerPermit<'_>, Rejected> {
        let Some(call) = self.0.admit() else { return self.admit_by_machine() };
        let begun = if timed { Some(Instant::now()) } else { None };
        Ok(BreakerPermit::new(self, call, begun))
    }

    #[cold]
    fn admit_by_machine(&self) -> Result<BreakerPermit<'_>, Rejected> {
        // One that is forced closed since a moment ago, say, is timed all the same: it reads the clock here anyway.
        let now = Instant::now();
        if let Some(left) = self.0.reject(now) {
            return Err(Rejected::new(RejectedBy::CircuitBreaker, Some(left)));
        }
        match self.0.with(|machine| machine.admit(now)) {
            Ok(call) => Ok(BreakerPermit::new(self, call, Some(now))),
            Err(retry_after) => Err(Rejected::new(RejectedBy::CircuitBreaker, retry_after)),
        }
    }

    /// Calls, if the breaker lets it through, and counts the output as `verdict` says.
    ///
    /// # Cancel safety
    /// As safe as the future, which is dropped where it is. The call then counts as the breaker's
    /// [`OnCancel`] says; how long it was under way is counted from its first wait.
    ///
    /// # Errors
    /// [`Rejected`], as [`try_acquire`](Self::try_acquire); the future is dropped unpolled.
    ///
    /// # Examples
    /// ```
    /// use motet::resilience::{CircuitBreaker, Verdict};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let breaker = CircuitBreaker::default();
    /// let answer = async { Ok::<_, std::io::Error>(7) };
    /// let answer = breaker.call(answer, |answer| match answer {
    ///     Ok(_) => Verdict::Success,
    ///     Err(_) => Verdict::Failure,
    /// });
    /// assert_eq!(answer.await.unwrap().unwrap(), 7);
    /// # });
    /// ```
    #[track_caller]
    pub fn call<F: Future>(
        &self,
        future: F,
        verdict: impl FnOnce(&F::Output) -> Verdict,
    ) -> impl Future<Output = Result<F::Output, Rejected>> {
        let site = sim::Site::named("circuit breaker", "call", || self.name().map(str::to_owned)).around();
        site.of(async move {
            let mut permit = self.try_acquire_untimed()?;
            // Dropped before the permit, which tells: a probe's place is free when its call is over.
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

    /// Gives the state, after the changes that are due.
    #[must_use]
    pub fn state(&self) -> BreakerState {
        let now = Instant::now();
        self.0.with(|machine| {
            machine.pass_time(now);
            machine.state()
        })
    }

    /// Gives what the breaker knows.
    #[must_use]
    pub fn stats(&self) -> BreakerStats {
        let now = Instant::now();
        self.0.with(|machine| {
            machine.pass_time(now);
            BreakerStats {
                state: machine.state(),
                streak: machine.streak(),
                windows: machine.windows(now),
                probes: machine.probes_under_way(),
                retry_after: machine.retry_after(now),
                opened: machine.totals.opened,
                would_have_opened: machine.totals.would_have_opened,
                rejected: machine.totals.rejected + self.0.rejected(),
                stale: machine.totals.stale,
            }
        })
    }

    /// Watches the state: the receiver has the latest.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<BreakerState> {
        self.0.subscribe()
    }

    /// Gives the name, if it has one.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.0.name.as_ref().map(crate::task::Name::as_str)
    }

    /// Rejects all calls until told otherwise. Calls under way count for nothing, as after each of these.
    pub fn force_open(&self) {
        self.force(BreakerState::ForcedOpen);
    }

    /// Lets all calls through until told otherwise, and counts how they end.
    pub fn force_closed(&self) {
        self.force(BreakerState::ForcedClosed);
    }

    /// Lets all calls through until told otherwise, counts how they end, and says when it would have opened:
    /// to try settings out on calls that matter.
    pub fn measure_only(&self) {
        self.force(BreakerState::MetricsOnly);
    }

    /// Lets all calls through until told otherwise, and counts nothing.
    pub fn disable(&self) {
        self.force(BreakerState::Disabled);
    }

    /// Begins anew: closed, with empty windows, and by itself again.
    pub fn reset(&self) {
        self.force(BreakerState::Closed);
    }

    fn force(&self, state: BreakerState) {
        self.0.with(|machine| machine.force(state));
    }

    /// The state as it is, without the changes that are due: tells nobody of anything.
    pub(in crate::resilience) fn peek(&self) -> BreakerState {
        self.0.peek()
    }

    pub(in crate::resilience) fn handles(&self) -> usize {
        Arc::strong_count(&self.0)
    }

    /// Says what a call counts as that is dropped.
    #[must_use]
    pub fn on_cancel(&self) -> OnCancel {
        self.0.on_cancel
    }
}

/// With the [defaults](CircuitBreakerBuilder), which make sense.
impl Default for CircuitBreaker {
    fn default() -> Self {
        CircuitBreakerBuilder::default().checked()
    }
}

impl fmt::Debug for CircuitBreaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the state: to print it is not to change it.
        f.debug_struct("CircuitBreaker").field("name", &self.name()).finish_non_exhaustive()
    }
}
