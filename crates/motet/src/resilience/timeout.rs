use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::task::coop;
use tokio::time::{Sleep, sleep_until};

use super::error::Failure;
use super::pipeline::{Armed, CallContext, CallTypes, Layer, Layers, Machine, OneAtATime, PolicyOutcome};
use super::{ErrorKind, PolicyEventKind};
use crate::mutant;
use crate::task::timeout::poll_limit;

/// Limits the time of the policies and the operation inside of it, in a [`Pipeline`](super::Pipeline).
///
/// The clock is read, and a timer is armed, only when the inside first has to wait. When the time is up, the attempts
/// in flight are dropped before the error is returned.
///
/// # When to use
/// Use [`task::timeout`](crate::task::timeout()) for a future without other policies.
#[derive(Debug, Clone)]
#[allow(unnameable_types, reason = "`Pipeline::timeout` creates it")]
pub struct Timeout {
    pub(super) within: Duration,
    pub(super) limited: Limited,
}

/// The part of a call that a timeout limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limited {
    /// The whole call: the attempts and the delays between them.
    Total,
    /// A single attempt.
    Attempt,
}

impl Limited {
    pub(super) fn error(self) -> ErrorKind {
        match self {
            Self::Total => ErrorKind::TimedOut,
            Self::Attempt => ErrorKind::AttemptTimedOut,
        }
    }

    pub(super) fn event(self) -> PolicyEventKind {
        match self {
            Self::Total => PolicyEventKind::TimedOut,
            Self::Attempt => PolicyEventKind::AttemptTimedOut,
        }
    }
}

impl OneAtATime for Timeout {}

impl<'p, T, E, Inner: Layers<'p, T, E>> Layers<'p, T, E> for Layer<Timeout, Inner> {
    type Machine<K: CallTypes<Ok = T, Err = E>>
        = Timing<Inner::Machine<K>>
    where
        Self: 'p;

    #[inline]
    fn start<K: CallTypes<Ok = T, Err = E>>(&'p self) -> Timing<Inner::Machine<K>> {
        let Timeout { within, limited } = self.policy;
        Timing { inner: Some(self.inner.start()), timer: None, armed: Armed::No, within, limited }
    }
}

pin_project! {
    /// The state of a [`Timeout`] in one call.
    #[allow(unnameable_types, reason = "it is the state of a call, and users never see it")]
    pub struct Timing<M> {
        #[pin]
        inner: Option<M>,
        #[pin]
        timer: Option<Sleep>,
        armed: Armed,
        within: Duration,
        limited: Limited,
    }
}

impl<K: CallTypes, M: Machine<K>> Machine<K> for Timing<M> {
    #[inline]
    fn poll(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        call: &mut CallContext<'_, K>,
    ) -> Poll<PolicyOutcome<K>> {
        let mut this = self.project();
        let Some(mut inner) = this.inner.as_mut().as_pin_mut() else {
            unreachable!("a policy is not polled after it has returned its outcome")
        };
        let had_budget = coop::has_budget_remaining();
        let around = call.session.limit;
        call.session.limit = around.and(Some(*this.within), *this.armed);
        let polled = inner.as_mut().poll(cx, call);
        call.session.limit = around;
        if polled.is_ready() {
            return polled;
        }
        if *this.armed == Armed::No {
            *this.armed = call.session.arm(*this.within);
            if let Armed::At(at) = *this.armed {
                this.timer.set(Some(sleep_until(at)));
            }
        }
        let Some(timer) = this.timer.as_mut().as_pin_mut() else { return Poll::Pending };
        if poll_limit(timer, had_budget, cx).is_pending() {
            return Poll::Pending;
        }
        let limited = *this.limited;
        if mutant!("resilience.keep_timed_out") {
            return Poll::Ready(Err(Failure::of(limited.error(), None, None)));
        }
        inner.stop(call);
        this.inner.set(None);
        this.timer.set(None);
        call.notify(|| limited.event());
        Poll::Ready(Err(Failure::of(limited.error(), None, None)))
    }

    fn stop(self: Pin<&mut Self>, call: &mut CallContext<'_, K>) {
        if let Some(inner) = self.project().inner.as_pin_mut() {
            inner.stop(call);
        }
    }
}
