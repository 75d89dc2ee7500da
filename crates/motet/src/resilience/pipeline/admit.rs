//! Admission policies in a pipeline: breaker, bulkhead, rate limiter, adaptive limit.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;

use super::{
    BoxFuture, CallContext, CallTypes, DescribePolicy, Layer, Layers, Machine, OneAtATime, PolicyOutcome,
};
use crate::observe::Stats;
use crate::resilience::error::Failure;
use crate::resilience::{
    AdaptiveLimit, BreakerPermit, Bulkhead, BulkheadPermit, CircuitBreaker, ErrorKind, LimitPermit,
    PolicyEventKind, PolicyKind, RateLimiter, RejectedError, Verdict,
};

/// A policy that admits calls with permits.
pub trait Gate {
    /// The permit of an admitted call; the outcome of the call is recorded with it.
    type Permit<'p>
    where
        Self: 'p;
    /// Admits a call, rejects it, or puts it in line.
    fn admit(&self) -> Admission<'_, Self::Permit<'_>>;
    /// Notes that the call has to wait.
    fn waits(_permit: &mut Self::Permit<'_>) {}
    /// Records the end of a call. `overload` is `true` if the call failed because of the load: it timed out, or the
    /// dependency asked to be called later.
    fn record(permit: Self::Permit<'_>, verdict: Verdict, overload: bool);
    /// The kind and the settings of the policy.
    fn kind_and_settings(&self) -> (PolicyKind, Stats);
}

/// The decision of a [`Gate`] on a call.
#[derive(Debug)]
pub enum Admission<'p, P> {
    /// The call is admitted.
    Admitted(P),
    /// The call is rejected.
    Rejected(RejectedError),
    /// The call waits in line. Boxed, because that is rare.
    Queued(QueuedCall<'p, P>),
}

/// A call that waits in line.
pub struct QueuedCall<'p, P>(BoxFuture<'p, Result<P, RejectedError>>);

opaque!("QueuedCall": <P> std::fmt::Debug for QueuedCall<'_, P>);

impl Gate for CircuitBreaker {
    type Permit<'p> = BreakerPermit<'p>;

    #[inline]
    fn admit(&self) -> Admission<'_, BreakerPermit<'_>> {
        match self.try_acquire_untimed() {
            Ok(permit) => Admission::Admitted(permit),
            Err(rejected) => Admission::Rejected(rejected),
        }
    }

    fn waits(permit: &mut BreakerPermit<'_>) {
        permit.waits();
    }

    #[inline]
    fn record(permit: BreakerPermit<'_>, verdict: Verdict, _: bool) {
        permit.record(verdict);
    }

    fn kind_and_settings(&self) -> (PolicyKind, Stats) {
        let settings = self.name().map_or_else(Stats::new, |name| Stats::new().text("named", name));
        (PolicyKind::CircuitBreaker, settings)
    }
}

impl Gate for Bulkhead {
    type Permit<'p> = BulkheadPermit<'p>;

    fn admit(&self) -> Admission<'_, BulkheadPermit<'_>> {
        match self.take_free() {
            Some(permit) => Admission::Admitted(permit),
            None => Admission::Queued(QueuedCall(Box::pin(self.acquire()))),
        }
    }

    fn record(permit: BulkheadPermit<'_>, _: Verdict, _: bool) {
        drop(permit);
    }

    fn kind_and_settings(&self) -> (PolicyKind, Stats) {
        (PolicyKind::Bulkhead, Stats::new().count("limit", self.stats().limit as u64))
    }
}

impl Gate for RateLimiter {
    type Permit<'p> = ();

    fn admit(&self) -> Admission<'_, ()> {
        match self.take_free(1) {
            true => Admission::Admitted(()),
            false => Admission::Queued(QueuedCall(Box::pin(self.acquire(1)))),
        }
    }

    fn record((): (), _: Verdict, _: bool) {}

    fn kind_and_settings(&self) -> (PolicyKind, Stats) {
        (PolicyKind::RateLimiter, Stats::new())
    }
}

impl Gate for AdaptiveLimit {
    type Permit<'p> = LimitPermit<'p>;

    fn admit(&self) -> Admission<'_, LimitPermit<'_>> {
        match self.take_free() {
            Some(permit) => Admission::Admitted(permit),
            None => Admission::Queued(QueuedCall(Box::pin(self.acquire()))),
        }
    }

    fn record(permit: LimitPermit<'_>, verdict: Verdict, overload: bool) {
        // A failure of another kind is unrelated to the load.
        permit.record(if verdict == Verdict::Failure && !overload { Verdict::Ignore } else { verdict });
    }

    fn kind_and_settings(&self) -> (PolicyKind, Stats) {
        (PolicyKind::AdaptiveLimit, Stats::new())
    }
}

impl<G: Gate> OneAtATime for G {}

impl<G: Gate> DescribePolicy for G {
    fn policy(&self) -> PolicyKind {
        self.kind_and_settings().0
    }

    fn settings(&self) -> Stats {
        self.kind_and_settings().1
    }
}

impl<'p, T, E, G, Inner> Layers<'p, T, E> for Layer<G, Inner>
where
    G: Gate + 'p,
    Inner: Layers<'p, T, E>,
{
    type Machine<K: CallTypes<Ok = T, Err = E>>
        = Admitting<'p, G, Inner::Machine<K>>
    where
        Self: 'p;

    #[inline]
    fn start<K: CallTypes<Ok = T, Err = E>>(&'p self) -> Admitting<'p, G, Inner::Machine<K>> {
        Admitting { gate: &self.policy, inner: Some(self.inner.start()), permit: None, queued: None }
    }
}

pin_project! {
    /// A policy that admits calls with permits.
    pub struct Admitting<'p, G, M>
    where
        G: Gate,
        G: 'p,
    {
        gate: &'p G,
        // Dropped before the permit: the permit is returned when its call has ended.
        #[pin]
        inner: Option<M>,
        permit: Option<G::Permit<'p>>,
        queued: Option<QueuedCall<'p, G::Permit<'p>>>,
    }
}

impl<'p, K: CallTypes, G: Gate, M: Machine<K>> Machine<K> for Admitting<'p, G, M> {
    #[inline]
    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        call: &mut CallContext<'_, K>,
    ) -> Poll<PolicyOutcome<K>> {
        if self.permit.is_none()
            && let Err(rejected) = ready!(self.as_mut().admit(cx))
        {
            call.notify(|| PolicyEventKind::Rejected { by: rejected.by() });
            return Poll::Ready(Err(Failure::rejected(rejected)));
        }
        let mut this = self.project();
        let Some(inner) = this.inner.as_mut().as_pin_mut() else {
            unreachable!("a policy is not polled after it has returned its outcome")
        };
        let Poll::Ready(outcome) = inner.poll(cx, call) else {
            if let Some(permit) = this.permit {
                G::waits(permit);
            }
            return Poll::Pending;
        };
        // Dropped before the permit is returned: everything that the call held is free.
        this.inner.set(None);
        let class = call.classify(&outcome);
        let timed_out = matches!(
            &outcome,
            Err(failure) if matches!(failure.kind, ErrorKind::TimedOut | ErrorKind::AttemptTimedOut)
        );
        if let Some(permit) = this.permit.take() {
            G::record(permit, class.verdict, timed_out || class.retry_after.is_some());
        }
        Poll::Ready(outcome)
    }

    fn stop(self: Pin<&mut Self>, call: &mut CallContext<'_, K>) {
        if let Some(inner) = self.project().inner.as_pin_mut() {
            inner.stop(call);
        }
    }
}

impl<'p, G: Gate, M> Admitting<'p, G, M> {
    #[inline]
    fn admit(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), RejectedError>> {
        let this = self.project();
        if this.queued.is_none() {
            match this.gate.admit() {
                Admission::Admitted(permit) => {
                    *this.permit = Some(permit);
                    return Poll::Ready(Ok(()));
                }
                Admission::Rejected(rejected) => return Poll::Ready(Err(rejected)),
                Admission::Queued(queued) => *this.queued = Some(queued),
            }
        }
        let Some(QueuedCall(queued)) = this.queued else { unreachable!("the call was put in line above") };
        let admitted = ready!(queued.as_mut().poll(cx));
        *this.queued = None;
        Poll::Ready(admitted.map(|permit| *this.permit = Some(permit)))
    }
}
