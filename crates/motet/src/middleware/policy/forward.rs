//! The inner parts of a part, as the operation of a pipeline.

use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use super::mark::Mark;
use super::{Replay, Settle};
use crate::middleware::{BoxFuture, Next};
use crate::mutant;
use crate::resilience::pipeline::{Failure, Operate};
use crate::resilience::{Attempt, ErrorKind};

/// Runs the inner parts, once for each attempt.
pub struct Forward<'p, Q: 'static, R: 'static, S, P> {
    // Both are moved into the last possible attempt.
    next: Option<Next<Q, R>>,
    request: Option<Q>,
    replay: &'p P,
    /// `true` if an inner part is a policy, which may report how it ended the attempt.
    listens: bool,
    settle: PhantomData<fn() -> S>,
}

impl<'p, Q: 'static, R: 'static, S, P> Forward<'p, Q, R, S, P> {
    pub(super) fn new(next: Next<Q, R>, request: Q, replay: &'p P) -> Self {
        let listens = next.built.has_policies(next.at);
        Self { next: Some(next), request: Some(request), replay, listens, settle: PhantomData }
    }
}

impl<Q, R, S, P> Operate for Forward<'_, Q, R, S, P>
where
    Q: 'static,
    R: 'static,
    S: Settle<R>,
    P: Replay<Q>,
{
    type Ok = S::Ok;
    type Err = S::Err;
    type Future = Inside<R, S>;

    fn call(&mut self, _: Attempt<'_, S::Err>) -> Inside<R, S> {
        let request = self.replay.take(&mut self.request);
        let next = if self.request.is_some() { self.next.clone() } else { self.next.take() };
        let (Some(request), Some(mut next)) = (request, next) else {
            unreachable!("`repeatable` is checked before another attempt")
        };
        let mark = self.listens.then(Arc::<Mark>::default);
        next.context.mark.clone_from(&mark);
        Inside { future: next.run(request), mark, settle: PhantomData }
    }

    fn repeatable(&self) -> bool {
        self.request.is_some()
    }

    fn failure(finished: &Inside<R, S>, error: S::Err) -> Failure<S::Err> {
        let told = finished.mark.as_ref().and_then(|mark| mark.take());
        match told {
            Some(ended) if !mutant!("middleware.policies_apart") => {
                Failure::of(ended.kind, Some(error), ended.retry_after)
            }
            _ => Failure::of(ErrorKind::Failed, Some(error), None),
        }
    }
}

/// The future of an attempt.
pub struct Inside<R, S> {
    future: BoxFuture<R>,
    mark: Option<Arc<Mark>>,
    settle: PhantomData<fn() -> S>,
}

impl<R, S: Settle<R>> Future for Inside<R, S> {
    type Output = Result<S::Ok, S::Err>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(S::split(ready!(self.future.as_mut().poll(cx))))
    }
}

opaque!("Forward": <Q: 'static, R: 'static, S, P> std::fmt::Debug for Forward<'_, Q, R, S, P>);
opaque!("Inside": <R, S> std::fmt::Debug for Inside<R, S>);
