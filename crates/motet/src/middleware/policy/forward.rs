//! The inner parts of a part, as the operation of a pipeline.

use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::convert::Convert;
use super::replay::Replay;
use crate::middleware::{BoxFuture, Next};
use crate::mutant;
use crate::resilience::pipeline::{Failure, Operate};
use crate::resilience::{Attempt, Error, ErrorKind};

/// Runs the inner parts, once for each attempt.
#[allow(unnameable_types, reason = "a parameter of `Policies`, which users do not write")]
pub struct Forward<'p, Q: 'static, R: 'static, S, P> {
    // Both are moved into the last possible attempt.
    next: Option<Next<Q, R>>,
    request: Option<Q>,
    replay: &'p P,
    /// `true` if an inner part is a policy, which may report how it ended the attempt.
    has_inner_policies: bool,
    convert: PhantomData<fn() -> S>,
}

impl<'p, Q: 'static, R: 'static, S, P> Forward<'p, Q, R, S, P> {
    pub(super) fn new(next: Next<Q, R>, request: Q, replay: &'p P) -> Self {
        let has_inner_policies = next.built.has_policies(next.at);
        Self { next: Some(next), request: Some(request), replay, has_inner_policies, convert: PhantomData }
    }
}

impl<Q, R, S, P> Operate for Forward<'_, Q, R, S, P>
where
    Q: 'static,
    R: 'static,
    S: Convert<R>,
    P: Replay<Q>,
{
    type Ok = S::Ok;
    type Err = S::Err;
    type Future = InnerCall<R, S>;

    fn call(&mut self, _: Attempt<'_, S::Err>) -> InnerCall<R, S> {
        let request = self.replay.take(&mut self.request);
        let next = if self.request.is_some() { self.next.clone() } else { self.next.take() };
        let (Some(request), Some(mut next)) = (request, next) else {
            unreachable!("`repeatable` is checked before another attempt")
        };
        let outcome = self.has_inner_policies.then(Arc::<AttemptOutcome>::default);
        next.context.outcome.clone_from(&outcome);
        InnerCall { future: next.run(request), outcome, convert: PhantomData }
    }

    fn repeatable(&self) -> bool {
        self.request.is_some()
    }

    fn failure(finished: &InnerCall<R, S>, error: S::Err) -> Failure<S::Err> {
        let mut reported = finished.outcome.as_ref().and_then(|outcome| outcome.take());
        if mutant!("middleware.policies_apart") {
            reported = None;
        }
        match reported {
            Some(end) => Failure::of(end.kind, Some(error), end.retry_after),
            None => Failure::of(ErrorKind::Failed, Some(error), None),
        }
    }
}

/// The future of an attempt.
#[allow(unnameable_types, reason = "a parameter of `Policies`, which users do not write")]
pub struct InnerCall<R, S> {
    future: BoxFuture<R>,
    outcome: Option<Arc<AttemptOutcome>>,
    convert: PhantomData<fn() -> S>,
}

impl<R, S: Convert<R>> Future for InnerCall<R, S> {
    type Output = Result<S::Ok, S::Err>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(S::split(ready!(self.future.as_mut().poll(cx))))
    }
}

/// The report of an inner policy to the policies around it, which is passed inward with an attempt.
///
/// An answer does not show which part created it: to a retry, the error that an inner breaker made of a rejection looks
/// like an error of the handler. Within one pipeline the policies know of each other; the policies of separate parts
/// use this report.
#[derive(Default)]
pub(in crate::middleware) struct AttemptOutcome(Mutex<Option<PolicyEnd>>);

/// How an inner policy ended the attempt.
#[derive(Clone, Copy)]
pub(super) struct PolicyEnd {
    pub(super) kind: ErrorKind,
    pub(super) retry_after: Option<Duration>,
}

impl AttemptOutcome {
    /// Stores how a policy saw its call end; the last report counts.
    pub(super) fn set<E>(&self, error: Option<&Error<E>>) {
        let ended = error.and_then(|error| match error.kind() {
            ErrorKind::Failed => None,
            kind => Some(PolicyEnd { kind, retry_after: error.retry_after() }),
        });
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = ended;
    }

    pub(super) fn take(&self) -> Option<PolicyEnd> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

opaque!("Forward": <Q: 'static, R: 'static, S, P> std::fmt::Debug for Forward<'_, Q, R, S, P>);
opaque!("InnerCall": <R, S> std::fmt::Debug for InnerCall<R, S>);
