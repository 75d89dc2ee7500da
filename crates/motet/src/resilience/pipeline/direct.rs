//! Calls whose operation is known by its type.

use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use super::machine::{Action, CallTypes};
use crate::resilience::error::Failure;
use crate::resilience::{Attempt, Class, Classify, ErrorKind};

/// An operation that can be called repeatedly.
pub trait Operate {
    /// The value type.
    type Ok;
    /// The error type.
    type Err;
    /// The future of an attempt.
    type Future: Future<Output = Result<Self::Ok, Self::Err>>;
    /// Starts an attempt.
    fn call(&mut self, attempt: Attempt<'_, Self::Err>) -> Self::Future;
    /// Returns `true` if another attempt can be made.
    #[inline]
    fn repeatable(&self) -> bool {
        true
    }
    /// Converts the error of an attempt into a failure. By default, the operation has failed.
    #[inline]
    fn failure(_finished: &Self::Future, error: Self::Err) -> Failure<Self::Err> {
        Failure::of(ErrorKind::Failed, Some(error), None)
    }
}

/// An operation without arguments.
pub struct Plain<F>(pub(crate) F);

impl<F, Fut, T, E> Operate for Plain<F>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    type Ok = T;
    type Err = E;
    type Future = Fut;

    #[inline]
    fn call(&mut self, _: Attempt<'_, E>) -> Fut {
        (self.0)()
    }
}

/// An operation that receives its [`Attempt`].
pub struct WithAttempt<F, E>(F, PhantomData<fn(E)>);

impl<F, Fut, T, E> Operate for WithAttempt<F, E>
where
    F: FnMut(Attempt<'_, E>) -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    type Ok = T;
    type Err = E;
    type Future = Fut;

    #[inline]
    fn call(&mut self, attempt: Attempt<'_, E>) -> Fut {
        (self.0)(attempt)
    }
}

/// The types of a call whose operation is known by its type.
#[allow(unreachable_pub, reason = "it is in bounds of the feature `middleware` only")]
pub struct Direct<'p, O, C>(PhantomData<(O, &'p C)>);

/// An operation with its classification.
#[allow(unreachable_pub, reason = "it is in bounds of the feature `middleware` only")]
pub struct Classified<'p, O, C> {
    pub(crate) operation: O,
    pub(crate) classify: &'p C,
}

impl<'p, O, C> CallTypes for Direct<'p, O, C>
where
    O: Operate,
    C: Classify<O::Ok, O::Err>,
{
    type Ok = O::Ok;
    type Err = O::Err;
    type Started = O::Future;
    type Action<'x>
        = Classified<'p, O, C>
    where
        Self: 'x;
}

impl<'p, O, C> Action<Direct<'p, O, C>> for Classified<'p, O, C>
where
    O: Operate,
    C: Classify<O::Ok, O::Err>,
{
    #[inline]
    fn begin(&mut self, attempt: Attempt<'_, O::Err>) -> O::Future {
        self.operation.call(attempt)
    }

    #[inline]
    fn repeatable(&self) -> bool {
        self.operation.repeatable()
    }

    #[inline]
    fn poll(
        &mut self,
        mut started: Pin<&mut O::Future>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<O::Ok, Failure<O::Err>>> {
        let output = ready!(started.as_mut().poll(cx));
        Poll::Ready(output.map_err(|error| O::failure(&started, error)))
    }

    #[inline]
    fn stop(&mut self, _: Pin<&mut O::Future>) {}

    #[inline]
    fn classify(&self, outcome: Result<&O::Ok, &O::Err>) -> Class {
        self.classify.classify(outcome)
    }
}

impl<F, E> WithAttempt<F, E> {
    pub(crate) fn new(operation: F) -> Self {
        Self(operation, PhantomData)
    }
}

opaque!("Plain": <F> std::fmt::Debug for Plain<F>);
opaque!("WithAttempt": <F, E> std::fmt::Debug for WithAttempt<F, E>);
opaque!("Direct": <O, C> std::fmt::Debug for Direct<'_, O, C>);
opaque!("Classified": <O, C> std::fmt::Debug for Classified<'_, O, C>);
