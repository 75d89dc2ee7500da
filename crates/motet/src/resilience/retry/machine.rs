use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::task::coop;
use tokio::time::{Instant, Sleep, sleep_until};

use super::{Retry, RetryDecision};
use crate::mutant;
use crate::resilience::budget::Charge;
use crate::resilience::error::Failure;
use crate::resilience::pipeline::{
    Action, Armed, CallContext, CallTypes, Layer, Layers, Limit, Machine, OneAtATime, PolicyOutcome,
};
use crate::resilience::timeout::Limited;
use crate::resilience::{ErrorKind, PolicyEventKind};
use crate::task::timeout::poll_limit;

impl OneAtATime for Retry {}

impl<'p, T, E, Inner: Layers<'p, T, E> + 'p> Layers<'p, T, E> for Layer<Retry, Inner> {
    type Machine<K: CallTypes<Ok = T, Err = E>>
        = Retrying<'p, K, Inner>
    where
        Self: 'p;

    #[inline]
    fn start<K: CallTypes<Ok = T, Err = E>>(&'p self) -> Retrying<'p, K, Inner> {
        Retrying::new(&self.policy, &self.inner)
    }
}

pin_project! {
    /// The state of a [`Retry`] in one call.
    #[allow(unnameable_types, reason = "it is the state of a call, and users never see it")]
    pub struct Retrying<'p, K: CallTypes, Inner: Layers<'p, K::Ok, K::Err>> {
        retry: &'p Retry,
        next: &'p Inner,
        #[pin]
        inner: Option<Inner::Machine<K>>,
        // During an attempt, the nearer of both limits; between two attempts, the delay.
        #[pin]
        timer: Option<Sleep>,
        tries: u32,
        total: Armed,
        attempt: Armed,
        waits: bool,
        // The charge of an attempt that has not begun: its delay runs, or an inner policy holds it up.
        charge: Option<Charge>,
    }
}

impl<'p, K: CallTypes, Inner: Layers<'p, K::Ok, K::Err>> Retrying<'p, K, Inner> {
    #[inline]
    pub(crate) fn new(retry: &'p Retry, next: &'p Inner) -> Self {
        Self {
            retry,
            next,
            inner: Some(next.start()),
            timer: None,
            tries: 0,
            total: Armed::No,
            attempt: Armed::No,
            waits: false,
            charge: None,
        }
    }
}

impl<'p, K: CallTypes, Inner: Layers<'p, K::Ok, K::Err>> Machine<K> for Retrying<'p, K, Inner> {
    #[inline]
    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        call: &mut CallContext<'_, K>,
    ) -> Poll<PolicyOutcome<K>> {
        if self.tries == 0 {
            *self.as_mut().project().tries = 1;
            if let Some(budget) = &self.retry.budget {
                budget.deposit();
            }
        }
        loop {
            if self.waits {
                ready!(self.as_mut().wait(cx));
            }
            let outcome = ready!(self.as_mut().attempt(cx, call));
            if outcome.is_ok() && !call.classify(&outcome).retryable {
                return Poll::Ready(outcome);
            }
            match self.as_mut().decide(call, outcome) {
                Some(outcome) => return Poll::Ready(outcome),
                None => continue,
            }
        }
    }

    fn stop(self: Pin<&mut Self>, call: &mut CallContext<'_, K>) {
        if let Some(inner) = self.project().inner.as_pin_mut() {
            inner.stop(call);
        }
    }
}

impl<'p, K: CallTypes, Inner: Layers<'p, K::Ok, K::Err>> Retrying<'p, K, Inner> {
    /// Waits between two attempts, and starts the next one.
    fn wait(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        if let Some(timer) = this.timer.as_mut().as_pin_mut() {
            ready!(timer.poll(cx));
            this.timer.set(None);
        }
        *this.waits = false;
        *this.tries += 1;
        *this.attempt = Armed::No;
        this.inner.set(Some(this.next.start()));
        Poll::Ready(())
    }

    /// Polls the attempt within its limits.
    #[inline]
    fn attempt(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        call: &mut CallContext<'_, K>,
    ) -> Poll<PolicyOutcome<K>> {
        let mut this = self.project();
        let Some(mut inner) = this.inner.as_mut().as_pin_mut() else {
            unreachable!("a policy is not polled after it has returned its outcome")
        };
        let is_limited = this.retry.timeout.is_some() || this.retry.attempt_timeout.is_some();
        let had_budget = is_limited && coop::has_budget_remaining();
        let around = call.session.limit;
        let within = limit(this.retry, *this.total, around).and(this.retry.attempt_timeout, *this.attempt);
        call.session.limit = within;
        let begun = call.session.attempts;
        let polled = inner.as_mut().poll(cx, call);
        call.session.limit = around;
        if call.session.attempts > begun
            && let Some(charge) = this.charge.take()
        {
            charge.spend();
        }
        let outcome = match polled {
            Poll::Ready(outcome) => outcome,
            Poll::Pending => {
                if this.timer.is_none() {
                    arm(this.total, this.retry.timeout, call);
                    arm(this.attempt, this.retry.attempt_timeout, call);
                    let until = [*this.total, *this.attempt].into_iter().filter_map(end).min();
                    this.timer.set(until.map(sleep_until));
                }
                let is_cut_off = this.retry.cut_off.is_some_and(|at| at <= call.session.now());
                if !is_cut_off {
                    let Some(timer) = this.timer.as_mut().as_pin_mut() else { return Poll::Pending };
                    ready!(poll_limit(timer, had_budget, cx));
                }
                inner.stop(call);
                let limited = match (end(*this.total), end(*this.attempt)) {
                    _ if is_cut_off => Limited::Total,
                    (Some(total), Some(attempt)) if attempt < total => Limited::Attempt,
                    (None, _) => Limited::Attempt,
                    _ => Limited::Total,
                };
                call.notify(|| limited.event());
                Err(Failure::of(limited.error(), None, None))
            }
        };
        // Everything that an attempt holds is free during the delay before the next one.
        this.inner.set(None);
        this.timer.set(None);
        Poll::Ready(outcome)
    }

    /// Returns the outcome if it is the last one.
    #[cold]
    fn decide(
        self: Pin<&mut Self>,
        call: &mut CallContext<'_, K>,
        mut outcome: PolicyOutcome<K>,
    ) -> Option<PolicyOutcome<K>> {
        let mut this = self.project();
        // The attempt may have blocked the thread since the clock was read, past the deadline.
        call.session.reread_clock();
        // Returned to the budget, if its attempt was rejected before it began.
        *this.charge = None;
        if matches!(&outcome, Err(failure) if failure.kind == ErrorKind::TimedOut)
            && [end(*this.total), this.retry.cut_off]
                .into_iter()
                .flatten()
                .any(|total| total <= call.session.now())
        {
            return Some(outcome);
        }
        let mut class = call.classify(&outcome);
        if this.retry.rejected
            && matches!(&outcome, Err(failure) if matches!(failure.kind, ErrorKind::Rejected(_)))
        {
            class.retryable = true;
        }
        if !class.retryable || !call.action.repeatable() {
            return Some(outcome);
        }
        arm(this.total, this.retry.timeout, call);
        let limit = limit(this.retry, *this.total, call.session.limit);
        let now = call.session.now();
        match this.retry.decide(*this.tries, class.retry_after, limit.remaining(|| now)) {
            RetryDecision::After(delay, charge) => {
                let after = outcome.as_ref().err().map(|failure| failure.kind);
                let attempts = call.session.attempts;
                let pipeline = call.hooks.name.map(tracing::field::display);
                crate::log::debug!(pipeline, attempts, ?delay, ?after, "an attempt will be retried");
                call.notify(|| PolicyEventKind::RetryScheduled { delay, after });
                if let Err(Failure { source: Some(error), .. }) = outcome {
                    call.session.last_error = Some(error);
                }
                (*this.waits, *this.charge) = (true, charge);
                this.timer.set(wake(now, delay));
                None
            }
            RetryDecision::GiveUp(reason) => {
                let pipeline = call.hooks.name.map(tracing::field::display);
                crate::log::debug!(pipeline, attempts = call.session.attempts, ?reason, "a retry gave up");
                call.notify(|| PolicyEventKind::GaveUp { reason });
                if let Err(failure) = &mut outcome {
                    failure.kind = reason;
                }
                Some(outcome)
            }
        }
    }
}

/// Returns the limit of all attempts together.
#[inline]
fn limit(retry: &Retry, total: Armed, around: Limit) -> Limit {
    let limit = around.and(retry.timeout, total);
    retry.cut_off.map_or(limit, |at| limit.and(None, Armed::At(at)))
}

/// Returns a timer for the delay, or `None` if the delay is zero.
fn wake(now: Instant, delay: Duration) -> Option<Sleep> {
    if mutant!("resilience.no_wait") {
        return None;
    }
    if delay.is_zero() {
        return None;
    }
    // Too far in the future for a clock: tokio's notion of never.
    Some(now.checked_add(delay).map_or_else(|| tokio::time::sleep(Duration::MAX), sleep_until))
}

fn end(armed: Armed) -> Option<Instant> {
    match armed {
        Armed::At(at) => Some(at),
        Armed::No | Armed::Never => None,
    }
}

fn arm<K: CallTypes>(armed: &mut Armed, within: Option<Duration>, call: &mut CallContext<'_, K>) {
    if let (Armed::No, Some(within)) = (*armed, within) {
        *armed = call.session.arm(within);
    }
}
