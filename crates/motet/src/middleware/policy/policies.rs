use std::fmt;
use std::sync::Arc;

use super::PolicyError;
use super::convert::{Convert, IntoError, OrAnswer, OrError, into_answer};
use super::forward::Forward;
use super::replay::{Attempts, Once, Replay, ReplayBy};
use crate::middleware::part::Part;
use crate::middleware::{BoxFuture, Middleware, Next};
use crate::resilience::pipeline::{Describe, Direct, Layers, Operate, Run};
use crate::resilience::{Class, Classify, Error, ErrorsAreRetryable, Pipeline, PolicyEvent, PolicyKind};
use crate::task::Name;

/// The policies of a [`Pipeline`] as a part of a chain: see [`pipeline`], [`timeout`](super::timeout()) and the other
/// constructors.
///
/// # Errors
/// The inner parts answer with a `Result<T, E>`, whose errors the policies classify. An error that ends the call is
/// returned unchanged. If a policy ends the call, the answer is created from a [`PolicyError`]: `E` must have
/// `From<PolicyError>`. Every `Box<dyn Error + Send + Sync>` and every error of `anyhow` has it; an `enum` needs one
/// variant. [`or_error`](Self::or_error) is for other errors, [`or_answer`](Self::or_answer) for answers that are not a
/// `Result`.
///
/// # Policies in several parts
/// If a policy in an inner part ends an attempt, an outer retry classifies that as it would within one pipeline: for
/// example, it does not retry a rejection by a breaker, and it retries a timeout. This needs no setting, and errors
/// need not carry the information. It also holds for an error that a part between the two policies makes of the inner
/// error.
///
/// # Panics
/// A call that has to wait panics outside of a runtime with a timer.
#[must_use = "a part does nothing until a chain has it"]
pub struct Policies<L, C = ErrorsAreRetryable, S = IntoError, P = Once> {
    pipeline: Pipeline<L, C>,
    convert: S,
    replay: P,
}

/// Returns a part that runs the inner parts with all policies of a pipeline.
///
/// A pipeline with a retry or a hedge needs the request more than once: the request must be `Clone`, or
/// [`replay_by`](Policies::replay_by) must provide a copy.
///
/// # When to use
/// For policies that belong together: they share a name, a classifier and an event listener, and a call costs one
/// allocation for all of them. Policies in separate parts can have other parts between them.
///
/// # Examples
/// ```
/// use motet::middleware::{Chain, PolicyError, pipeline};
/// use motet::resilience::{CircuitBreaker, Pipeline, Retry};
/// use std::time::Duration;
///
/// #[derive(Debug, thiserror::Error)]
/// enum Failed {
///     #[error("the row is locked")]
///     Locked,
///     #[error(transparent)]
///     Policy(#[from] PolicyError),
/// }
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let policies = Pipeline::new().name("db").retry(Retry::new()).breaker(CircuitBreaker::default());
/// let handler = Chain::new().with(pipeline(policies)).to(|id: u32| async move {
///     if id == 0 { Err(Failed::Locked) } else { Ok(id) }
/// });
/// assert_eq!(handler.call(7).await.unwrap(), 7);
/// assert!(matches!(handler.call(0).await, Err(Failed::Locked))); // after three attempts
/// # Ok(())
/// # }
/// ```
pub fn pipeline<L: Attempts<Replay: Default>, C>(
    pipeline: Pipeline<L, C>,
) -> Policies<L, C, IntoError, L::Replay> {
    Policies { pipeline, convert: IntoError, replay: L::Replay::default() }
}

impl<L, C, S, P> Policies<L, C, S, P> {
    /// Sets the function that creates the error of a call that a policy ended.
    pub fn or_error<E, F: Fn(PolicyError) -> E>(self, error: F) -> Policies<L, C, OrError<F>, P> {
        Policies { pipeline: self.pipeline, convert: OrError(error), replay: self.replay }
    }

    /// Sets the function that creates the answer to a call that a policy ended, for answers that are not a `Result`.
    ///
    /// Every answer then counts as a success, unless [`classify_by`](Self::classify_by) is set.
    pub fn or_answer<R, F: Fn(PolicyError) -> R>(self, answer: F) -> Policies<L, C, OrAnswer<F>, P> {
        Policies { pipeline: self.pipeline, convert: OrAnswer(answer), replay: self.replay }
    }

    /// Sets the function that copies the request for another attempt. A request for which it returns `None` is tried
    /// once.
    pub fn replay_by<Q, F: Fn(&Q) -> Option<Q>>(self, again: F) -> Policies<L, C, S, ReplayBy<F>> {
        Policies { pipeline: self.pipeline, convert: self.convert, replay: ReplayBy(again) }
    }

    /// Sets the classifier of answers: see [`Classify`].
    pub fn classify<D>(self, classify: D) -> Policies<L, D, S, P> {
        Policies { pipeline: self.pipeline.classify(classify), convert: self.convert, replay: self.replay }
    }

    /// Classifies answers with a closure: see [`Pipeline::classify_by`].
    pub fn classify_by<T, E, F>(self, classify: F) -> Policies<L, F, S, P>
    where
        F: Fn(Result<&T, &E>) -> Class,
    {
        self.classify(classify)
    }

    /// Calls `listener` for the events of the policies: see [`Pipeline::on_event`].
    pub fn on_event(mut self, listener: impl Fn(&PolicyEvent<'_>) + Send + Sync + 'static) -> Self {
        self.pipeline = self.pipeline.on_event(listener);
        self
    }
}

/// A pipeline that can run `O`. The bound that its futures are `Send` is stated in the implementation, where the
/// compiler knows their types.
#[allow(unnameable_types, reason = "a bound of `Policies`, which users do not write")]
pub trait RunsWith<'p, O: Operate> {
    /// The future of a call.
    type Call: Future<Output = Result<O::Ok, Error<O::Err>>> + Send;
    /// Starts a call.
    fn call(&'p self, operation: O) -> Self::Call;
}

impl<'p, L, C, O> RunsWith<'p, O> for Pipeline<L, C>
where
    L: Layers<'p, O::Ok, O::Err, Machine<Direct<'p, O, C>>: Send>,
    C: Classify<O::Ok, O::Err> + Sync + 'p,
    O: Operate<Ok: Send, Err: Send> + Send + 'p,
{
    type Call = Run<'p, L, O, C>;

    fn call(&'p self, operation: O) -> Self::Call {
        self.operate(operation)
    }
}

impl<Q, R, L, C, S, P> Middleware<Q, R> for Policies<L, C, S, P>
where
    Q: Send + 'static,
    R: Send + 'static,
    L: Describe + Send + Sync + 'static,
    C: Send + Sync + 'static,
    S: Convert<R>,
    P: Replay<Q>,
    Pipeline<L, C>: for<'p> RunsWith<'p, Forward<'p, Q, R, S, P>>,
{
    fn handle(self: Arc<Self>, request: Q, next: Next<Q, R>) -> BoxFuture<R> {
        Box::pin(async move {
            let outer = next.context.outcome.clone();
            let operation = Forward::new(next, request, &self.replay);
            let answer = self.pipeline.call(operation).await;
            if let Some(outer) = outer {
                outer.set(answer.as_ref().err());
            }
            into_answer(&self.convert, answer)
        })
    }

    fn name(&self) -> Name {
        let description = self.pipeline.description();
        match (description.name(), description.layers()) {
            (Some(name), _) => name.clone(),
            (None, [layer]) => Name::from(name_of(layer.policy)),
            (None, _) => Name::from("policies"),
        }
    }

    fn settings(&self) -> String {
        let description = self.pipeline.description();
        match description.layers() {
            // The part has the name of the policy, so the settings do not repeat it.
            [layer] if description.name().is_none() => {
                let whole = layer.to_string();
                let settings =
                    whole.split_once('(').map_or("", |(_, settings)| settings.trim_end_matches(')'));
                settings.to_owned()
            }
            _ => description.layers().iter().map(ToString::to_string).collect::<Vec<_>>().join(" > "),
        }
    }

    fn into_part(self) -> Part<Q, R> {
        Part { policy: true, ..Part::shared(self) }
    }
}

/// The name of the function that returns the part.
fn name_of(policy: PolicyKind) -> &'static str {
    match policy {
        PolicyKind::Timeout => "timeout",
        PolicyKind::Retry => "retry",
        PolicyKind::Hedge => "hedge",
        PolicyKind::Fallback => "fallback",
        PolicyKind::CircuitBreaker => "breaker",
        PolicyKind::Bulkhead => "bulkhead",
        PolicyKind::RateLimiter => "rate_limit",
        PolicyKind::AdaptiveLimit => "adaptive_limit",
    }
}

impl<L: Clone, C: Clone, S: Clone, P: Clone> Clone for Policies<L, C, S, P> {
    fn clone(&self) -> Self {
        let Self { pipeline, convert, replay } = self;
        Self { pipeline: pipeline.clone(), convert: convert.clone(), replay: replay.clone() }
    }
}

impl<L: Describe, C, S, P> fmt::Debug for Policies<L, C, S, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Policies({})", self.pipeline.description())
    }
}
