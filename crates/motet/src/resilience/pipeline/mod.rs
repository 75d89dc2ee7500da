//! Policies around a call, outermost first.
//!
//! What is here beside [`Pipeline`] and [`DynPipeline`] is what their types are spelled with, and what a policy does
//! while a call is under way. Nothing of it is needed to use them.

/// Says a type's name, and nothing of what is in it.
macro_rules! opaque {
    ($name:literal: $($generics:tt)*) => {
        impl $($generics)* {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct($name).finish_non_exhaustive()
            }
        }
    };
}

mod admit;
mod boxed;
mod call;
mod describe;
mod direct;
mod layer;
mod leaf;
mod limit;
mod machine;
mod run;
pub(crate) mod with_state;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{
    AdaptiveLimit, Attempt, Bulkhead, CircuitBreaker, Class, Classify, Error, ErrorsAreRetryable, Event,
    Fallback, Hedge, Limited, RateLimiter, Retry, Timeout,
};
use crate::sim;
use crate::task::Name;

pub use admit::{Admitting, Gate, Passed, Queued};
pub use boxed::{BoxMachine, Boxed, DynPipeline, DynRun, Dynamic, Erased, Ticket};
use call::Listener;
pub use call::{Call, Hooks};
pub use describe::{Describe, DescribePolicy, Description, LayerDescription};
pub use direct::{Direct, Judged, Operate, Plain, Told};
pub use layer::{Append, End, Layer, OneAtATime};
pub use leaf::Leaf;
pub(crate) use limit::{Armed, Limit};
pub use machine::{Action, Kind, Layers, Machine, Outcome};
pub use run::Run;
pub use with_state::BoxFuture;
use with_state::Slot;

pub use super::error::Failure;
pub use super::fallback::FallingBack;
pub use super::hedge::Hedging;
pub use super::retry::Retrying;
pub use super::timeout::Timing;

/// Runs operations through policies, in the order in which they are written: the first is outermost.
///
/// `timeout(5 s) > retry > attempt_timeout(1 s)` retries attempts of one second each, and cuts all of it off after
/// five. Each policy is a handle, so that pipelines can share one; a pipeline is `Clone` where its policies are, and is
/// used through `&self`, from as many tasks as there are. Operations, values and errors need not be `Clone`, nor
/// `'static`.
///
/// A call is one future without an allocation. One that succeeds without having to wait reads no clock, arms no timer
/// and makes no event.
///
/// **One deadline.** The limits around an operation reach it: an [`Attempt`] tells what is left, a retry begins no wait
/// that would end past it, and a pipeline that is called inside of another's operation has the shorter time of both.
/// That holds within one task; what is spawned meanwhile begins anew.
///
/// # When to use
/// [`boxed`](Self::boxed) for a field of a struct, or a map of pipelines. [`Retry`] and the admission policies also
/// work alone.
///
/// # Which order
/// `fallback > timeout > retry > breaker > bulkhead > attempt_timeout` suits most clients: the breaker sees every
/// attempt, and what it rejects is not retried. What is seldom meant [`describe`](Self::describe) remarks on.
///
/// # Examples
/// ```
/// use motet::resilience::{ErrorKind, Limited, Pipeline, Retry};
/// use std::{future::pending, time::Duration};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// let pipeline = Pipeline::new()
///     .timeout(Duration::from_secs(5))
///     .retry(Retry::new().attempts(2))
///     .attempt_timeout(Duration::from_secs(1));
///
/// assert_eq!(pipeline.run(async || Ok::<_, std::io::Error>("hello")).await.unwrap(), "hello");
///
/// let hung = pipeline.run(async || pending::<Result<(), std::io::Error>>().await).await.unwrap_err();
/// assert_eq!(hung.kind(), ErrorKind::AttemptsExhausted);
/// assert_eq!(hung.last_attempt(), ErrorKind::TimedOut(Limited::Attempt));
/// # });
/// ```
#[must_use = "a pipeline does nothing until it runs something"]
pub struct Pipeline<L = End, C = ErrorsAreRetryable> {
    layers: L,
    classify: C,
    name: Option<Name>,
    listener: Option<Arc<Listener>>,
}

impl Pipeline {
    /// Makes a pipeline without policies, in which every error is a failure that may be retried.
    pub const fn new() -> Self {
        Self { layers: End, classify: ErrorsAreRetryable, name: None, listener: None }
    }

    /// Makes a pipeline that stays without policies: for tests of what takes one.
    pub const fn noop() -> Self {
        Self::new()
    }
}

impl<L, C> Pipeline<L, C> {
    /// Names it, in errors, events and logs.
    pub fn named(mut self, name: impl Into<Name>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Judges outcomes like this, for all its policies.
    pub fn classify<D>(self, classify: D) -> Pipeline<L, D> {
        Pipeline { layers: self.layers, classify, name: self.name, listener: self.listener }
    }

    /// Judges outcomes by a closure, as [`classify`](Self::classify) does.
    pub fn classify_by<T, E, F>(self, classify: F) -> Pipeline<L, F>
    where
        F: Fn(Result<&T, &E>) -> Class,
    {
        self.classify(classify)
    }

    /// Tells `listener` what happens. Called where it happens, with no lock held; it should be quick.
    pub fn on_event(mut self, listener: impl Fn(&Event<'_>) + Send + Sync + 'static) -> Self {
        self.listener = Some(Arc::new(listener));
        self
    }

    /// Limits the time of all that comes after it: attempts and the waits between them. Zero cuts off what waits,
    /// [`Duration::MAX`] nothing.
    pub fn timeout(self, within: Duration) -> Pipeline<L::Out, C>
    where
        L: Append<Timeout>,
    {
        self.layer(Timeout { within, limited: Limited::Total })
    }

    /// Limits the time of one attempt: for the inside of a retry or a hedge. Zero cuts off what waits, [`Duration::MAX`]
    /// nothing.
    pub fn attempt_timeout(self, within: Duration) -> Pipeline<L::Out, C>
    where
        L: Append<Timeout>,
    {
        self.layer(Timeout { within, limited: Limited::Attempt })
    }

    /// Calls again what comes after it.
    pub fn retry(self, retry: Retry) -> Pipeline<L::Out, C>
    where
        L: Append<Retry>,
    {
        self.layer(retry)
    }

    /// Calls what comes after it once more when it takes long.
    pub fn hedge(self, hedge: Hedge) -> Pipeline<L::Out, C>
    where
        L: Append<Hedge>,
    {
        self.layer(hedge)
    }

    /// Rejects calls of what comes after it while that fails.
    pub fn breaker(self, breaker: CircuitBreaker) -> Pipeline<L::Out, C>
    where
        L: Append<CircuitBreaker>,
    {
        self.layer(breaker)
    }

    /// Has so many calls of what comes after it under way at a time, and lets others wait as that says.
    ///
    /// A call that has to wait costs one allocation.
    pub fn bulkhead(self, bulkhead: Bulkhead) -> Pipeline<L::Out, C>
    where
        L: Append<Bulkhead>,
    {
        self.layer(bulkhead)
    }

    /// Begins so many calls of what comes after it in a time, and lets others wait as that says.
    ///
    /// A call that has to wait costs one allocation.
    pub fn rate_limit(self, limiter: RateLimiter) -> Pipeline<L::Out, C>
    where
        L: Append<RateLimiter>,
    {
        self.layer(limiter)
    }

    /// Has as many calls of what comes after it under way as that bears.
    ///
    /// Of failures, those count against the limit whose time was up, or to which the called side has said when to come
    /// back; the others say nothing of the load. A call that has to wait costs one allocation.
    pub fn adaptive_limit(self, limit: AdaptiveLimit) -> Pipeline<L::Out, C>
    where
        L: Append<AdaptiveLimit>,
    {
        self.layer(limit)
    }

    /// Asks for another answer when what comes after it has none.
    ///
    /// # Examples
    /// ```
    /// use motet::resilience::Pipeline;
    ///
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let pipeline = Pipeline::new().fallback(async |error| match error.error() {
    ///     Some(&404) => Err(error),
    ///     _ => Ok("from the cache"),
    /// });
    /// assert_eq!(pipeline.run(async || Err(503)).await.unwrap(), "from the cache");
    /// assert_eq!(pipeline.run(async || Err(404)).await.unwrap_err().into_error(), Some(404));
    /// # });
    /// ```
    pub fn fallback<F, Fut, T, E>(self, answer: F) -> Pipeline<L::Out, C>
    where
        L: Append<Fallback<F>>,
        F: Fn(Error<E>) -> Fut,
        Fut: Future<Output = Result<T, Error<E>>>,
    {
        self.layer(Fallback(answer))
    }

    fn layer<P>(self, policy: P) -> Pipeline<L::Out, C>
    where
        L: Append<P>,
    {
        let Self { layers, classify, name, listener } = self;
        Pipeline { layers: layers.append(policy), classify, name, listener }
    }

    /// Runs an operation through the policies.
    ///
    /// The operation is called once for each attempt, at its first poll: what it does besides making a future is done
    /// after the policies have let it through.
    ///
    /// # Cancel safety
    /// The attempts under way are dropped where they are, and what the policies hold for them goes back: places,
    /// charges. A breaker counts it as that says.
    ///
    /// # Errors
    /// [`Error`], whose [`kind`](Error::kind) says what ended the call, with the operation's last error.
    ///
    /// # Panics
    /// With a panic of the operation, of the classification or of the listener. If the future is polled after its end.
    /// Outside of a runtime with time, once there is something to wait for.
    #[inline]
    #[track_caller]
    pub fn run<'p, F, Fut, T, E>(&'p self, operation: F) -> Run<'p, L, Plain<F>, C>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, E>>,
        L: Layers<'p, T, E>,
        C: Classify<T, E>,
    {
        Run::new(self.layers.start(), Plain(operation), &self.classify, self.hooks())
    }

    /// Runs an operation that is told of its attempts.
    ///
    /// # Cancel safety
    /// As [`run`](Self::run).
    ///
    /// # Errors
    /// As [`run`](Self::run).
    ///
    /// # Panics
    /// As [`run`](Self::run).
    ///
    /// # Examples
    /// ```
    /// use motet::resilience::{Attempt, Pipeline, Retry};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
    /// let pipeline = Pipeline::new().retry(Retry::new());
    /// let third = pipeline.run_attempts(|attempt: Attempt<'_, &str>| {
    ///     let (number, before) = (attempt.number(), attempt.last_error().copied());
    ///     async move { if number < 3 { Err("busy") } else { Ok((number, before)) } }
    /// });
    /// assert_eq!(third.await.unwrap(), (3, Some("busy")));
    /// # });
    /// ```
    #[inline]
    #[track_caller]
    pub fn run_attempts<'p, F, Fut, T, E>(&'p self, operation: F) -> Run<'p, L, Told<F, E>, C>
    where
        F: FnMut(Attempt<'_, E>) -> Fut,
        Fut: Future<Output = Result<T, E>>,
        L: Layers<'p, T, E>,
        C: Classify<T, E>,
    {
        Run::new(self.layers.start(), Told::new(operation), &self.classify, self.hooks())
    }

    /// Runs an operation that borrows mutably what it has captured: a counter, a connection.
    ///
    /// # When to use
    /// For an `async ||` closure that changes something, awaited where it is. The compiler cannot show that the
    /// futures of such closures are `Send`: in a task of its own use [`run_with`](Self::run_with).
    ///
    /// # Cancel safety
    /// As [`run`](Self::run).
    ///
    /// # Errors
    /// As [`run`](Self::run).
    ///
    /// # Panics
    /// As [`run`](Self::run).
    ///
    /// # Examples
    /// ```
    /// use motet::resilience::{Pipeline, Retry};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
    /// let mut calls = 0;
    /// let pipeline = Pipeline::new().retry(Retry::new());
    /// let done = pipeline.run_mut(async || {
    ///     calls += 1;
    ///     if calls < 3 { Err("busy") } else { Ok(()) }
    /// });
    /// done.await.unwrap();
    /// assert_eq!(calls, 3);
    /// # });
    /// ```
    #[track_caller]
    pub fn run_mut<'p, F, T, E>(&'p self, operation: F) -> impl Future<Output = Result<T, Error<E>>>
    where
        F: AsyncFnMut() -> Result<T, E>,
        L: Layers<'p, T, E> + OneAtATime,
        C: Classify<T, E>,
    {
        sim::around("pipeline", "run", async move {
            let slot = Slot::new(operation);
            self.run(|| with_state::call_mut(&slot)).await
        })
    }

    /// Runs an operation that is lent `state`, mutably, for each attempt; its futures are boxed and `Send`.
    ///
    /// # When to use
    /// For `&mut` state in a task of its own or a boxed future, of which [`run_mut`](Self::run_mut) cannot show that it
    /// is `Send`. What else the operation borrows goes into `state` too: its futures may borrow from there alone.
    ///
    /// # Cancel safety
    /// As [`run`](Self::run); `state` is as the attempt left it.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    ///
    /// # Panics
    /// As [`run`](Self::run).
    ///
    /// # Examples
    /// ```
    /// use motet::resilience::{Pipeline, Retry};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
    /// let mut log = vec!["begin"];
    /// let pipeline = Pipeline::new().retry(Retry::new());
    /// let done = pipeline.run_with(&mut log, |log| Box::pin(async move {
    ///     log.push("called");
    ///     if log.len() < 4 { Err("busy") } else { Ok(()) }
    /// }));
    /// done.await.unwrap();
    /// assert_eq!(log, ["begin", "called", "called", "called"]);
    /// # });
    /// ```
    #[track_caller]
    pub fn run_with<'p, S, F, T, E>(
        &'p self,
        state: &mut S,
        operation: F,
    ) -> impl Future<Output = Result<T, Error<E>>>
    where
        S: ?Sized,
        F: for<'s> FnMut(&'s mut S) -> BoxFuture<'s, Result<T, E>>,
        L: Layers<'p, T, E> + OneAtATime,
        C: Classify<T, E>,
    {
        sim::around("pipeline", "run", async move {
            let slot = Slot::new((state, operation));
            self.run(|| with_state::call_with(&slot)).await
        })
    }

    /// Runs an operation that says more of itself than a closure can.
    #[inline]
    #[track_caller]
    pub(crate) fn operate<'p, O>(&'p self, operation: O) -> Run<'p, L, O, C>
    where
        O: Operate,
        L: Layers<'p, O::Ok, O::Err>,
        C: Classify<O::Ok, O::Err>,
    {
        Run::new(self.layers.start(), operation, &self.classify, self.hooks())
    }

    fn hooks(&self) -> Hooks<'_> {
        Hooks { name: self.name.as_ref(), listener: self.listener.as_deref() }
    }

    /// Says what it is made of.
    #[must_use]
    pub fn describe(&self) -> Description
    where
        L: Describe,
    {
        Description::of(self.name.as_ref(), &self.layers)
    }

    /// Hides of what policies it is made, so that it can be a field, or one of many in a map.
    ///
    /// A call through it costs one allocation, however many attempts it makes; a hedge that is begun costs two more.
    pub fn boxed<T, E>(self) -> DynPipeline<T, E>
    where
        Self: Dynamic<T, E> + Send + Sync + 'static,
    {
        DynPipeline(Arc::new(self))
    }
}

impl<L: Clone, C: Clone> Clone for Pipeline<L, C> {
    fn clone(&self) -> Self {
        let Self { layers, classify, name, listener } = self;
        Self {
            layers: layers.clone(),
            classify: classify.clone(),
            name: name.clone(),
            listener: listener.clone(),
        }
    }
}

impl Default for Pipeline {
    fn default() -> Self {
        Self::new()
    }
}

impl<L: Describe, C> fmt::Debug for Pipeline<L, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pipeline({})", self.describe())
    }
}
