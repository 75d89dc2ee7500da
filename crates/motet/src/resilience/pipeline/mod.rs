//! Pipelines: policies around a call, outermost first.
//!
//! Users name [`Pipeline`] and [`DynPipeline`]. The other types appear in signatures only, and drive a call.
#![allow(unnameable_types, reason = "users never write the types that drive a call")]

/// Implements `Debug` with the name of the type, without its fields.
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
pub(crate) mod direct;
mod layer;
mod leaf;
mod limit;
mod machine;
mod run;
pub(crate) mod with_state;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::fallback::Fallback;
use super::timeout::{Limited, Timeout};
use super::{
    AdaptiveLimit, Attempt, Bulkhead, CircuitBreaker, Class, Classify, Error, ErrorsAreRetryable, Hedge,
    PolicyEvent, PolicyKind, RateLimiter, Retry,
};
use crate::observe::Stats;
use crate::sim;
use crate::task::Name;

pub(crate) use admit::Gate;
pub use boxed::DynPipeline;
use boxed::Dynamic;
use call::Listener;
pub(crate) use call::{CallContext, Hooks};
pub(crate) use describe::Describe;
use describe::{DescribePolicy, PipelineDescription};
pub(crate) use direct::{Direct, Operate};
use direct::{Plain, WithAttempt};
use layer::Append;
pub(crate) use layer::{End, Layer, OneAtATime};
pub(crate) use limit::{Armed, Limit};
pub(crate) use machine::{Action, CallTypes, Layers, Machine, PolicyOutcome};
pub(crate) use run::Run;
use with_state::{BoxFuture, OperationSlot};

pub(crate) use super::error::Failure;

/// Runs operations through policies, in the order in which they are added: the first one is outermost.
///
/// `timeout(5 s) > retry > attempt_timeout(1 s)` retries attempts of one second each, and cuts all of them off after
/// five seconds. Each policy is a handle, so that pipelines can share one. A pipeline is `Clone` if its policies are,
/// and is used through `&self`, from any number of tasks. Operations, values and errors need neither `Clone` nor
/// `'static`.
///
/// A call is one future, without an allocation. A call that succeeds without having to wait arms no timer and creates no
/// event, and reads no clock, except through a rate limiter, an adaptive limit, or a breaker that counts slow calls.
///
/// **One deadline.** An operation sees the limits around it: an [`Attempt`] reports the time that is left, a retry
/// begins no delay that would end past the limit, and a pipeline that is called inside the operation of another
/// pipeline has the shorter time of both. That holds within one task; a task that the operation spawns has no limit. The
/// deadline of a scope is not one of these limits.
///
/// # When to use
/// Use [`boxed`](Self::boxed) for a field of a struct, or a map of pipelines. [`Retry`] and the admission policies also
/// work alone.
///
/// # Which order
/// `fallback > timeout > retry > breaker > bulkhead > attempt_timeout` suits most clients: the breaker sees every
/// attempt, and its rejections are not retried. [`remarks`](Self::remarks) points out orders that are seldom
/// intended.
///
/// # Examples
/// ```
/// use motet::resilience::{ErrorKind, Pipeline, Retry};
/// use std::{future::pending, time::Duration};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pipeline = Pipeline::new()
///     .timeout(Duration::from_secs(5))
///     .retry(Retry::new().attempts(2)?)
///     .attempt_timeout(Duration::from_secs(1));
///
/// assert_eq!(pipeline.run(async || Ok::<_, std::io::Error>("hello")).await?, "hello");
///
/// let hung = pipeline.run(async || pending::<Result<(), std::io::Error>>().await).await.unwrap_err();
/// assert_eq!(hung.kind(), ErrorKind::AttemptsExhausted);
/// assert_eq!(hung.last_attempt(), ErrorKind::AttemptTimedOut);
/// # Ok(())
/// # }
/// ```
#[must_use = "a pipeline does nothing until it runs something"]
pub struct Pipeline<L = End, C = ErrorsAreRetryable> {
    layers: L,
    classify: C,
    name: Option<Name>,
    listener: Option<Arc<Listener>>,
}

impl Pipeline {
    /// Creates a pipeline without policies, in which every error is a failure that may be retried.
    pub const fn new() -> Self {
        Self { layers: End, classify: ErrorsAreRetryable, name: None, listener: None }
    }

    /// Creates a pipeline that stays without policies, for tests of code that takes a pipeline.
    pub const fn noop() -> Self {
        Self::new()
    }
}

impl<L, C> Pipeline<L, C> {
    /// Sets the name, for errors, events and logs.
    pub fn name(mut self, name: impl Into<Name>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets the classification of outcomes, for all policies of the pipeline.
    pub fn classify<D>(self, classify: D) -> Pipeline<L, D> {
        Pipeline { layers: self.layers, classify, name: self.name, listener: self.listener }
    }

    /// Sets the classification to a closure, as [`classify`](Self::classify) does.
    pub fn classify_by<T, E, F>(self, classify: F) -> Pipeline<L, F>
    where
        F: Fn(Result<&T, &E>) -> Class,
    {
        self.classify(classify)
    }

    /// Calls `listener` for every event of a call. It runs inside the call, with no lock held, and should be quick.
    pub fn on_event(mut self, listener: impl Fn(&PolicyEvent<'_>) + Send + Sync + 'static) -> Self {
        self.listener = Some(Arc::new(listener));
        self
    }

    /// Limits the total time of the policies that follow: attempts and the delays between them. Zero cuts off every
    /// call that waits, [`Duration::MAX`] none.
    pub fn timeout(self, timeout: Duration) -> Pipeline<L::Out, C>
    where
        L: Append<Timeout>,
    {
        self.layer(Timeout { within: timeout, limited: Limited::Total })
    }

    /// Limits the time of one attempt, inside a retry or a hedge. Zero cuts off every attempt that waits,
    /// [`Duration::MAX`] none.
    pub fn attempt_timeout(self, timeout: Duration) -> Pipeline<L::Out, C>
    where
        L: Append<Timeout>,
    {
        self.layer(Timeout { within: timeout, limited: Limited::Attempt })
    }

    /// Repeats failed calls of the policies that follow.
    pub fn retry(self, retry: Retry) -> Pipeline<L::Out, C>
    where
        L: Append<Retry>,
    {
        self.layer(retry)
    }

    /// Starts another attempt, through the policies that follow, when the first one takes long.
    pub fn hedge(self, hedge: Hedge) -> Pipeline<L::Out, C>
    where
        L: Append<Hedge>,
    {
        self.layer(hedge)
    }

    /// Rejects calls while the dependency fails.
    pub fn breaker(self, breaker: CircuitBreaker) -> Pipeline<L::Out, C>
    where
        L: Append<CircuitBreaker>,
    {
        self.layer(breaker)
    }

    /// Limits the concurrent calls of the policies that follow. Further calls wait or are rejected, as the bulkhead is
    /// set.
    ///
    /// A call that has to wait costs one allocation.
    pub fn bulkhead(self, bulkhead: Bulkhead) -> Pipeline<L::Out, C>
    where
        L: Append<Bulkhead>,
    {
        self.layer(bulkhead)
    }

    /// Limits the calls per unit of time of the policies that follow. Further calls wait or are rejected, as the
    /// limiter is set.
    ///
    /// A call that has to wait costs one allocation.
    pub fn rate_limit(self, limiter: RateLimiter) -> Pipeline<L::Out, C>
    where
        L: Append<RateLimiter>,
    {
        self.layer(limiter)
    }

    /// Limits the concurrent calls of the policies that follow to the number that the dependency currently sustains.
    ///
    /// A failure counts against the limit if the call timed out, or if the dependency asked to be called later; other
    /// failures are unrelated to the load. A call that has to wait costs one allocation.
    pub fn adaptive_limit(self, limit: AdaptiveLimit) -> Pipeline<L::Out, C>
    where
        L: Append<AdaptiveLimit>,
    {
        self.layer(limit)
    }

    /// Calls `answer` for another result when the policies that follow fail.
    ///
    /// # Examples
    /// ```
    /// use motet::resilience::Pipeline;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let pipeline = Pipeline::new().fallback(async |error| match error.error() {
    ///     Some(&404) => Err(error),
    ///     _ => Ok("from the cache"),
    /// });
    /// assert_eq!(pipeline.run(async || Err(503)).await.unwrap(), "from the cache");
    /// assert_eq!(pipeline.run(async || Err(404)).await.unwrap_err().into_error(), Some(404));
    /// # Ok(())
    /// # }
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
    /// The operation is called once for each attempt, when the attempt is first polled. Code in the closure before its
    /// `async` block therefore also runs only after the policies have admitted the attempt.
    ///
    /// # Cancel safety
    /// The attempts in flight are dropped, and the policies get back everything that they hold for them: permits and
    /// charges. A breaker counts the call according to its setting for dropped calls.
    ///
    /// # Errors
    /// [`Error`], whose [`kind`](Error::kind) is the reason why the call ended, with the last error of the operation.
    ///
    /// # Panics
    /// Passes on a panic of the operation, of the classification or of the listener. Panics if the future is polled
    /// after its end, and, if the call has to wait, outside of a runtime with a clock.
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

    /// Runs an operation that receives its [`Attempt`].
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
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let pipeline = Pipeline::new().retry(Retry::new());
    /// let third = pipeline.run_attempts(|attempt: Attempt<'_, &str>| {
    ///     let (number, before) = (attempt.number(), attempt.last_error().copied());
    ///     async move { if number < 3 { Err("busy") } else { Ok((number, before)) } }
    /// });
    /// assert_eq!(third.await.unwrap(), (3, Some("busy")));
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    #[track_caller]
    pub fn run_attempts<'p, F, Fut, T, E>(&'p self, operation: F) -> Run<'p, L, WithAttempt<F, E>, C>
    where
        F: FnMut(Attempt<'_, E>) -> Fut,
        Fut: Future<Output = Result<T, E>>,
        L: Layers<'p, T, E>,
        C: Classify<T, E>,
    {
        Run::new(self.layers.start(), WithAttempt::new(operation), &self.classify, self.hooks())
    }

    /// Runs an operation that mutably borrows captured variables: a counter, a connection.
    ///
    /// # When to use
    /// Use it for an `async ||` closure that changes a captured variable, and await it in the same task. The compiler
    /// cannot show that the futures of such closures are `Send`: in a spawned task, use [`run_with`](Self::run_with).
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
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let mut calls = 0;
    /// let pipeline = Pipeline::new().retry(Retry::new());
    /// let done = pipeline.run_mut(async || {
    ///     calls += 1;
    ///     if calls < 3 { Err("busy") } else { Ok(()) }
    /// });
    /// done.await.unwrap();
    /// assert_eq!(calls, 3);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn run_mut<'p, F, T, E>(&'p self, operation: F) -> impl Future<Output = Result<T, Error<E>>>
    where
        F: AsyncFnMut() -> Result<T, E>,
        L: Layers<'p, T, E> + OneAtATime,
        C: Classify<T, E>,
    {
        sim::around("pipeline", "run", async move {
            let slot = OperationSlot::new(operation);
            self.run(|| with_state::call_mut(&slot)).await
        })
    }

    /// Runs an operation that borrows `state` mutably in each attempt; its futures are boxed and `Send`.
    ///
    /// # When to use
    /// Use it for `&mut` state in a spawned task or a boxed future, where [`run_mut`](Self::run_mut) cannot show that
    /// its future is `Send`. Put everything else that the operation borrows into `state` as well: its futures may
    /// borrow from there only.
    ///
    /// # Cancel safety
    /// As [`run`](Self::run). `state` is left as the dropped attempt left it.
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
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let mut log = vec!["begin"];
    /// let pipeline = Pipeline::new().retry(Retry::new());
    /// let done = pipeline.run_with(&mut log, |log| Box::pin(async move {
    ///     log.push("called");
    ///     if log.len() < 4 { Err("busy") } else { Ok(()) }
    /// }));
    /// done.await.unwrap();
    /// assert_eq!(log, ["begin", "called", "called", "called"]);
    /// # Ok(())
    /// # }
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
            let slot = OperationSlot::new((state, operation));
            self.run(|| with_state::call_with(&slot)).await
        })
    }

    /// Runs an operation of another module, which decides whether it can be repeated.
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

    /// Describes the policies and their settings, outermost first.
    ///
    /// # Examples
    /// ```
    /// use motet::resilience::{Pipeline, Retry};
    /// use std::time::Duration;
    ///
    /// let pipeline = Pipeline::new().name("users").timeout(Duration::from_secs(5)).retry(Retry::new());
    /// assert!(pipeline.describe().starts_with("users: timeout (total, within 5s) > retry (attempts 3"));
    /// ```
    #[must_use]
    pub fn describe(&self) -> String
    where
        L: Describe,
    {
        self.description().to_string()
    }

    /// Returns the policies with their settings, outermost first.
    #[must_use]
    pub fn policies(&self) -> Vec<(PolicyKind, Stats)>
    where
        L: Describe,
    {
        self.description().into_policies()
    }

    /// Returns remarks on an order of policies that is seldom intended; empty for most pipelines.
    ///
    /// # Examples
    /// ```
    /// use motet::resilience::{Pipeline, Retry};
    ///
    /// let twice = Pipeline::new().retry(Retry::new()).retry(Retry::new());
    /// assert_eq!(twice.remarks(), ["two retries multiply their attempts"]);
    /// ```
    #[must_use]
    pub fn remarks(&self) -> Vec<&'static str>
    where
        L: Describe,
    {
        self.description().remarks()
    }

    pub(crate) fn description(&self) -> PipelineDescription
    where
        L: Describe,
    {
        PipelineDescription::of(self.name.as_ref(), &self.layers)
    }

    /// Erases the policy types, so that the pipeline can be stored in a field or a map.
    ///
    /// A call through it costs one allocation, for any number of attempts; a hedge that starts costs two more.
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
        write!(f, "Pipeline({})", self.description())
    }
}
