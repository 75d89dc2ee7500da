use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::task::coop;
use tokio::time::{Sleep, sleep};

use super::budget::RetryBudget;
use super::pipeline::{Action, CallContext, CallTypes, Layer, Layers, Machine, PolicyOutcome};
use super::{ErrorKind, PolicyEventKind};
use crate::mutant;
use crate::task::timeout::poll_limit;

/// Starts a second attempt while the first one still runs, when the first takes long: the first acceptable result
/// counts.
///
/// A hedge cuts off the slowest results, at the price of a few more calls (Dean and Barroso, "The Tail at Scale",
/// 2013). A result is acceptable unless it is retryable; the losers are dropped before the result is returned. If all
/// attempts fail, the error of the first attempt is returned. A hedge never ends an attempt that is in flight: neither
/// an exhausted budget nor a hedge that is rejected does.
///
/// # When to use
/// For reads, and for writes that may be done twice, where a few calls take much longer than the others. A
/// [`Retry`](super::Retry) waits until an attempt has failed.
///
/// A loser is dropped, and a policy inside of the hedge sees a dropped call. A [breaker](super::CircuitBreaker) counts it as a
/// failure only if it ran for at least [a second](super::CircuitBreakerBuilder::fail_dropped_calls_after), unless set otherwise, and
/// an [`AdaptiveLimit`](super::AdaptiveLimit) does not count it. So if each attempt goes to another replica with a breaker of its own,
/// set that time below the delay of the hedge: a replica that hangs would otherwise be asked again and again.
///
/// # Defaults
/// One extra attempt, and a budget of its own: 5 % of the calls, and one a second.
///
/// # Examples
/// ```
/// use motet::resilience::{Hedge, Pipeline};
/// use std::{cell::Cell, time::Duration};
/// use tokio::time::{Instant, sleep};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pipeline = Pipeline::new().hedge(Hedge::after(Duration::from_millis(50)));
/// let calls = Cell::new(0);
/// let read = async || {
///     calls.set(calls.get() + 1);
///     let takes = if calls.get() == 1 { 1_000 } else { 10 };
///     sleep(Duration::from_millis(takes)).await;
///     Ok::<_, std::io::Error>("row")
/// };
/// let begin = Instant::now();
/// assert_eq!(pipeline.run(read).await?, "row");
/// assert_eq!(begin.elapsed(), Duration::from_millis(60));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Hedge {
    delay: Delay,
    pub(super) extra: u32,
    pub(super) budget: Option<RetryBudget>,
}

#[derive(Clone)]
enum Delay {
    Fixed(Duration),
    By(Arc<dyn Fn(u32) -> Duration + Send + Sync>),
}

impl Hedge {
    /// Creates a hedge that starts another attempt when there is no result after `delay`: about the time that 95 of 100
    /// calls take. Zero starts it as soon as the first attempt has to wait, and [`Duration::MAX`] never.
    #[must_use]
    pub fn after(delay: Duration) -> Self {
        Self { delay: Delay::Fixed(delay), extra: 1, budget: Some(RetryBudget::with_rates(0.05, 1.0)) }
    }

    /// Creates a hedge that calls `delay` for the time before each extra attempt, counted from the start of the attempt
    /// before it; the first extra attempt has number 1.
    ///
    /// The closure is called when an attempt first has to wait: use it for a delay that is measured or drawn. It can
    /// also switch hedging off, under high load for example: [`Duration::MAX`] starts no attempt.
    #[must_use]
    pub fn after_fn(delay: impl Fn(u32) -> Duration + Send + Sync + 'static) -> Self {
        Self { delay: Delay::By(Arc::new(delay)), ..Self::after(Duration::ZERO) }
    }

    /// Sets the number of attempts that may be started in addition to the first. Zero never hedges.
    #[must_use]
    pub fn extra_attempts(mut self, attempts: u32) -> Self {
        self.extra = attempts;
        self
    }

    /// Sets the budget that pays for the extra attempts.
    #[must_use]
    pub fn budget(mut self, budget: RetryBudget) -> Self {
        self.budget = Some(budget);
        self
    }

    /// Removes the budget.
    #[must_use]
    pub fn without_budget(mut self) -> Self {
        self.budget = None;
        self
    }

    /// The delay, if it is fixed.
    pub(super) fn fixed(&self) -> Option<Duration> {
        match self.delay {
            Delay::Fixed(delay) => Some(delay),
            Delay::By(_) => None,
        }
    }

    fn delay(&self, number: u32) -> Duration {
        match &self.delay {
            Delay::Fixed(delay) => *delay,
            Delay::By(delay) => delay(number),
        }
    }
}

impl fmt::Debug for Hedge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hedge")
            .field("delay", &self.fixed())
            .field("extra", &self.extra)
            .field("budget", &self.budget)
            .finish()
    }
}

impl<'p, T, E, Inner: Layers<'p, T, E> + 'p> Layers<'p, T, E> for Layer<Hedge, Inner> {
    type Machine<K: CallTypes<Ok = T, Err = E>>
        = Hedging<'p, K, Inner>
    where
        Self: 'p;

    #[inline]
    fn start<K: CallTypes<Ok = T, Err = E>>(&'p self) -> Hedging<'p, K, Inner> {
        Hedging {
            hedge: &self.policy,
            next: &self.inner,
            first: Some(self.inner.start()),
            more: Vec::new(),
            timer: None,
            launched: 0,
            begun: false,
            withheld: false,
            first_is_last: false,
            failed: None,
        }
    }
}

pin_project! {
    /// The state of a [`Hedge`] in one call.
    #[allow(unnameable_types, reason = "it is the state of a call, and users never see it")]
    pub struct Hedging<'p, K: CallTypes, Inner: Layers<'p, K::Ok, K::Err>> {
        hedge: &'p Hedge,
        next: &'p Inner,
        #[pin]
        first: Option<Inner::Machine<K>>,
        // Boxed, because few calls have any.
        more: Vec<Pin<Box<Inner::Machine<K>>>>,
        #[pin]
        timer: Option<Sleep>,
        launched: u32,
        begun: bool,
        withheld: bool,
        // The first attempt used up the coop budget in the last poll: in the next one, the other attempts are polled
        // first.
        first_is_last: bool,
        // How the first attempt failed.
        failed: Option<PolicyOutcome<K>>,
    }
}

impl<'p, K: CallTypes, Inner: Layers<'p, K::Ok, K::Err>> Machine<K> for Hedging<'p, K, Inner> {
    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        call: &mut CallContext<'_, K>,
    ) -> Poll<PolicyOutcome<K>> {
        if !self.begun {
            *self.as_mut().project().begun = true;
            if let Some(budget) = &self.hedge.budget {
                budget.deposit();
            }
        }
        loop {
            let had_budget = coop::has_budget_remaining();
            if let Some(outcome) = self.as_mut().poll_attempts(cx, call) {
                self.as_mut().stop(call);
                let mut this = self.project();
                this.more.clear();
                this.first.set(None);
                return Poll::Ready(outcome);
            }
            if !self.as_mut().launch(cx, had_budget, call) {
                return Poll::Pending;
            }
        }
    }

    fn stop(self: Pin<&mut Self>, call: &mut CallContext<'_, K>) {
        let this = self.project();
        if let Some(first) = this.first.as_pin_mut() {
            first.stop(call);
        }
        for attempt in this.more {
            attempt.as_mut().stop(call);
        }
    }
}

impl<'p, K: CallTypes, Inner: Layers<'p, K::Ok, K::Err>> Hedging<'p, K, Inner> {
    /// Returns the outcome of the call, once there is one.
    fn poll_attempts(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        call: &mut CallContext<'_, K>,
    ) -> Option<PolicyOutcome<K>> {
        let mut first_is_last = std::mem::take(self.as_mut().project().first_is_last);
        if mutant!("resilience.hedge_first_is_first") {
            first_is_last = false;
        }
        let accepted = if first_is_last {
            let accepted = self.as_mut().poll_more(cx, call);
            accepted.or_else(|| self.as_mut().poll_first(cx, call))
        } else {
            let accepted = self.as_mut().poll_first(cx, call);
            accepted.or_else(|| self.as_mut().poll_more(cx, call))
        };
        let this = self.project();
        // All attempts have failed: the error of the first one is the error of the call.
        accepted.or_else(|| this.failed.take_if(|_| this.more.is_empty()))
    }

    fn poll_first(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        call: &mut CallContext<'_, K>,
    ) -> Option<PolicyOutcome<K>> {
        let mut this = self.project();
        let had_budget = coop::has_budget_remaining();
        let Poll::Ready(outcome) = this.first.as_mut().as_pin_mut()?.poll(cx, call) else {
            *this.first_is_last = had_budget && !coop::has_budget_remaining();
            return None;
        };
        this.first.set(None);
        if accepts(&outcome, call) {
            return Some(outcome);
        }
        *this.failed = Some(outcome);
        None
    }

    fn poll_more(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        call: &mut CallContext<'_, K>,
    ) -> Option<PolicyOutcome<K>> {
        let this = self.project();
        let (mut at, mut left_no_budget) = (0, None);
        while let Some(attempt) = this.more.get_mut(at) {
            let had_budget = coop::has_budget_remaining();
            let Poll::Ready(outcome) = attempt.as_mut().poll(cx, call) else {
                if had_budget && !coop::has_budget_remaining() {
                    left_no_budget = Some(at);
                }
                at += 1;
                continue;
            };
            drop(this.more.remove(at));
            if accepts(&outcome, call) {
                return Some(outcome);
            }
        }
        if let Some(at) = left_no_budget.filter(|at| *at < this.more.len()) {
            // The attempts behind it are polled before it next time.
            this.more.rotate_left(at + 1);
        }
        None
    }

    /// Starts another attempt if its time has come. Returns `true` if it did.
    fn launch(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        had_budget: bool,
        call: &CallContext<'_, K>,
    ) -> bool {
        let mut this = self.project();
        if *this.withheld || *this.launched == this.hedge.extra || !call.action.repeatable() {
            return false;
        }
        if this.timer.is_none() {
            this.timer.set(Some(sleep(this.hedge.delay(*this.launched + 1))));
        }
        let Some(timer) = this.timer.as_mut().as_pin_mut() else { return false };
        if poll_limit(timer, had_budget, cx).is_pending() {
            return false;
        }
        this.timer.set(None);
        match this.hedge.budget.as_ref().map(RetryBudget::try_withdraw) {
            Some(None) => {
                *this.withheld = true;
                call.notify(|| PolicyEventKind::HedgeWithheld);
                return false;
            }
            Some(Some(charge)) => charge.spend(),
            None => {}
        }
        *this.launched += 1;
        this.more.push(Box::pin(this.next.start()));
        let extra = *this.launched;
        call.notify(|| PolicyEventKind::Hedged { extra });
        true
    }
}

/// Returns `true` if the outcome ends the call while other attempts are in flight.
fn accepts<K: CallTypes>(outcome: &PolicyOutcome<K>, call: &CallContext<'_, K>) -> bool {
    let is_of_the_operation = match outcome {
        Ok(_) => true,
        Err(failure) => matches!(failure.kind, ErrorKind::Failed),
    };
    if mutant!("resilience.hedge_takes_failures") {
        return is_of_the_operation;
    }
    is_of_the_operation && !call.classify(outcome).retryable
}
