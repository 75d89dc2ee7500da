//! Policies that let a call through, or not.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;

use super::{BoxFuture, Call, DescribePolicy, Kind, Layer, Layers, Machine, OneAtATime, Outcome};
use crate::observe::Stats;
use crate::resilience::error::Failure;
use crate::resilience::{BreakerPermit, CircuitBreaker, ErrorKind, EventKind, PolicyKind, Rejected, Verdict};

/// A policy that gives out permits.
pub trait Gate {
    /// What lets a call through, and is told how it ended.
    type Permit<'p>
    where
        Self: 'p;
    /// Gives a permit at once, or none.
    #[allow(clippy::missing_errors_doc, reason = "as the gate's own")]
    fn try_pass(&self) -> Result<Self::Permit<'_>, Rejected>;
    /// Waits for a permit, where there was none at once; boxed, for that is rare.
    fn wait(&self) -> Option<BoxFuture<'_, Result<Self::Permit<'_>, Rejected>>>;
    /// The call has to wait.
    fn waits(permit: &mut Self::Permit<'_>);
    /// The call has ended.
    fn record(permit: Self::Permit<'_>, verdict: Verdict);
    /// What it is, and how it is set.
    fn kind_and_settings(&self) -> (PolicyKind, Stats);
}

impl Gate for CircuitBreaker {
    type Permit<'p> = BreakerPermit<'p>;

    #[inline]
    fn try_pass(&self) -> Result<BreakerPermit<'_>, Rejected> {
        self.try_acquire_untimed()
    }

    #[inline]
    fn wait(&self) -> Option<BoxFuture<'_, Result<BreakerPermit<'_>, Rejected>>> {
        None
    }

    fn waits(permit: &mut BreakerPermit<'_>) {
        permit.waits();
    }

    #[inline]
    fn record(permit: BreakerPermit<'_>, verdict: Verdict) {
        permit.record(verdict);
    }

    fn kind_and_settings(&self) -> (PolicyKind, Stats) {
        let settings = self.name().map_or_else(Stats::new, |name| Stats::new().text(NAMED, name));
        (PolicyKind::CircuitBreaker, settings)
    }
}

const NAMED: &str = "named";

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
    type Machine<K: Kind<Ok = T, Err = E>>
        = Admitting<'p, G, Inner::Machine<K>>
    where
        Self: 'p;

    #[inline]
    fn start<K: Kind<Ok = T, Err = E>>(&'p self) -> Admitting<'p, G, Inner::Machine<K>> {
        Admitting { gate: &self.policy, inner: Some(self.inner.start()), permit: None, queued: None }
    }
}

pin_project! {
    /// A policy that gives out permits, at work on one call.
    pub struct Admitting<'p, G, M>
    where
        G: Gate,
        G: 'p,
    {
        gate: &'p G,
        // Dropped before the permit: a place is free when its call is over.
        #[pin]
        inner: Option<M>,
        permit: Option<G::Permit<'p>>,
        queued: Option<BoxFuture<'p, Result<G::Permit<'p>, Rejected>>>,
    }
}

impl<'p, K: Kind, G: Gate, M: Machine<K>> Machine<K> for Admitting<'p, G, M> {
    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>, call: &mut Call<'_, K>) -> Poll<Outcome<K>> {
        if self.permit.is_none()
            && let Err(rejected) = ready!(self.as_mut().admit(cx))
        {
            let kind = ErrorKind::Rejected(rejected.by());
            call.tell(|| EventKind::Rejected { by: rejected.by() });
            return Poll::Ready(Err(Failure::of(kind, None, rejected.retry_after())));
        }
        let mut this = self.project();
        let Some(inner) = this.inner.as_mut().as_pin_mut() else {
            unreachable!("its end was told to whoever polls it")
        };
        let Poll::Ready(outcome) = inner.poll(cx, call) else {
            if let Some(permit) = this.permit {
                G::waits(permit);
            }
            return Poll::Pending;
        };
        // Before the permit is: what the call held is free.
        this.inner.set(None);
        let verdict = call.classify(&outcome).verdict;
        if let Some(permit) = this.permit.take() {
            G::record(permit, verdict);
        }
        Poll::Ready(outcome)
    }

    fn stop(self: Pin<&mut Self>, call: &mut Call<'_, K>) {
        if let Some(inner) = self.project().inner.as_pin_mut() {
            inner.stop(call);
        }
    }
}

impl<'p, G: Gate, M> Admitting<'p, G, M> {
    #[inline]
    fn admit(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Rejected>> {
        let this = self.project();
        if this.queued.is_none() {
            match this.gate.try_pass() {
                Ok(permit) => {
                    *this.permit = Some(permit);
                    return Poll::Ready(Ok(()));
                }
                Err(rejected) => match this.gate.wait() {
                    Some(queued) => *this.queued = Some(queued),
                    None => return Poll::Ready(Err(rejected)),
                },
            }
        }
        let Some(queued) = this.queued else { unreachable!("it was queued above") };
        let admitted = ready!(queued.as_mut().poll(cx));
        *this.queued = None;
        Poll::Ready(admitted.map(|permit| *this.permit = Some(permit)))
    }
}
