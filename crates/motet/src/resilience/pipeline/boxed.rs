//! A pipeline without its policies in the type.
//!
//! The state of the policies is one box for a whole call. The attempts live in the future of the call; the box holds a
//! ticket for each.

use std::fmt;
use std::marker::PhantomData;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;

use super::Pipeline;
use super::call::{CallContext, CallSession, Hooks};
use super::describe::{Describe, PipelineDescription};
use super::direct::{Operate, Plain, WithAttempt};
use super::machine::{Action, CallTypes, Layers, Machine};
use crate::observe::Stats;
use crate::resilience::error::Failure;
use crate::resilience::{Attempt, Class, Classify, Error, PolicyKind};
use crate::sim::Site;

/// A [`Pipeline`] of any policies, for operations that return `Result<T, E>`.
///
/// It is a handle: clones share the policies. A call costs one allocation.
///
/// # When to use
/// Use it for the field of a struct, or for a map of pipelines by name. Where its type can be inferred, a [`Pipeline`]
/// costs no allocation.
///
/// # Examples
/// ```
/// use motet::resilience::{DynPipeline, Pipeline, Retry};
/// use std::{collections::HashMap, io, time::Duration};
///
/// struct Client {
///     calls: HashMap<&'static str, DynPipeline<String, io::Error>>,
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let read = Pipeline::new().timeout(Duration::from_secs(1)).retry(Retry::new()).boxed();
/// let client = Client { calls: HashMap::from([("read", read), ("write", Pipeline::noop().boxed())]) };
/// assert_eq!(client.calls["read"].run(async || Ok("hello".to_owned())).await?, "hello");
/// # Ok(())
/// # }
/// ```
pub struct DynPipeline<T, E>(pub(super) Arc<dyn Dynamic<T, E> + Send + Sync>);

impl<T: 'static, E: 'static> DynPipeline<T, E> {
    /// Runs an operation through the policies: see [`Pipeline::run`].
    ///
    /// # Cancel safety
    /// As [`Pipeline::run`].
    ///
    /// # Errors
    /// As [`Pipeline::run`].
    ///
    /// # Panics
    /// As [`Pipeline::run`].
    #[track_caller]
    pub fn run<F, Fut>(&self, operation: F) -> DynRun<'_, Plain<F>>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        DynRun::new(&*self.0, Plain(operation))
    }

    /// Runs an operation that receives its [`Attempt`]: see [`Pipeline::run_attempts`].
    ///
    /// # Cancel safety
    /// As [`Pipeline::run`].
    ///
    /// # Errors
    /// As [`Pipeline::run`].
    ///
    /// # Panics
    /// As [`Pipeline::run`].
    #[track_caller]
    pub fn run_attempts<F, Fut>(&self, operation: F) -> DynRun<'_, WithAttempt<F, E>>
    where
        F: FnMut(Attempt<'_, E>) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        DynRun::new(&*self.0, WithAttempt::new(operation))
    }

    /// Describes the policies and their settings: see [`Pipeline::describe`].
    #[must_use]
    pub fn describe(&self) -> String {
        self.0.description().to_string()
    }

    /// Returns the policies with their settings: see [`Pipeline::policies`].
    #[must_use]
    pub fn policies(&self) -> Vec<(PolicyKind, Stats)> {
        self.0.description().into_policies()
    }
}

impl<T, E> Clone for DynPipeline<T, E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T, E> fmt::Debug for DynPipeline<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DynPipeline({})", self.0.description())
    }
}

/// A pipeline that can be boxed: it owns its policies, and its values and errors are `Send`.
pub trait Dynamic<T, E> {
    /// Starts a call.
    fn start(&self) -> BoxMachine<'_, T, E>;
    /// Classifies an outcome.
    fn judge(&self, outcome: Result<&T, &E>) -> Class;
    /// The name and the listener of the pipeline.
    fn hooks(&self) -> Hooks<'_>;
    /// Describes the policies and their settings.
    fn description(&self) -> PipelineDescription;
}

/// The state of policies of an unknown type.
pub(crate) type BoxMachine<'p, T, E> = Pin<Box<dyn Machine<Erased<T, E>> + Send + 'p>>;

/// Policies whose state can be boxed. The bound that the state is `Send` for every lifetime is stated in the
/// implementation, where the compiler knows its type.
pub trait Boxed<'p, T, E> {
    /// Starts a call.
    fn start_boxed(&'p self) -> BoxMachine<'p, T, E>;
}

impl<'p, L, T: 'static, E: 'static> Boxed<'p, T, E> for L
where
    L: Layers<'p, T, E>,
    L::Machine<Erased<T, E>>: Send + 'p,
{
    fn start_boxed(&'p self) -> BoxMachine<'p, T, E> {
        Box::pin(self.start())
    }
}

impl<L, C, T, E> Dynamic<T, E> for Pipeline<L, C>
where
    L: for<'p> Boxed<'p, T, E> + Describe,
    C: Classify<T, E>,
    T: 'static,
    E: 'static,
{
    fn start(&self) -> BoxMachine<'_, T, E> {
        self.layers.start_boxed()
    }

    fn judge(&self, outcome: Result<&T, &E>) -> Class {
        self.classify.classify(outcome)
    }

    fn hooks(&self) -> Hooks<'_> {
        Self::hooks(self)
    }

    fn description(&self) -> PipelineDescription {
        Self::description(self)
    }
}

/// The types of a call whose policies do not know the operation.
pub struct Erased<T, E>(PhantomData<fn() -> (T, E)>);

/// A ticket for an attempt that lives in the future of the call.
#[derive(Debug)]
pub struct Ticket(Option<NonZeroU32>);

impl<T: 'static, E: 'static> CallTypes for Erased<T, E> {
    type Ok = T;
    type Err = E;
    type Started = Ticket;
    type Action<'x> = dyn Action<Self> + 'x;
}

pin_project! {
    /// The future of a call through a [`DynPipeline`].
    #[must_use = "futures do nothing unless awaited"]
    pub struct DynRun<'p, O>
    where
        O: Operate,
    {
        // The attempts are dropped before the policies' state for them.
        #[pin]
        first: Option<O::Future>,
        more: Vec<Numbered<O::Future>>,
        machine: Option<BoxMachine<'p, O::Ok, O::Err>>,
        operation: O,
        session: CallSession<O::Err>,
        pipeline: &'p (dyn Dynamic<O::Ok, O::Err> + Send + Sync),
        site: Site,
    }
}

impl<'p, O> DynRun<'p, O>
where
    O: Operate<Ok: 'static, Err: 'static>,
{
    #[track_caller]
    fn new(pipeline: &'p (dyn Dynamic<O::Ok, O::Err> + Send + Sync), operation: O) -> Self {
        Self {
            first: None,
            more: Vec::new(),
            machine: Some(pipeline.start()),
            operation,
            session: CallSession::new(),
            pipeline,
            site: Site::new("pipeline", "run").around(),
        }
    }
}

impl<O> Future for DynRun<'_, O>
where
    O: Operate<Ok: 'static, Err: 'static>,
{
    type Output = Result<O::Ok, Error<O::Err>>;

    #[track_caller]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let entered = self.site.enter();
        let polled = self.poll_here(cx);
        entered.leave(polled)
    }
}

impl<O> DynRun<'_, O>
where
    O: Operate<Ok: 'static, Err: 'static>,
{
    #[track_caller]
    fn poll_here(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<<Self as Future>::Output> {
        let this = self.project();
        let Some(machine) = this.machine else { panic!("a pipeline call was polled after its end") };
        this.session.polled();
        let mut attempts = Attempts {
            operation: this.operation,
            first: this.first,
            more: this.more,
            pipeline: *this.pipeline,
        };
        let mut call: CallContext<'_, Erased<O::Ok, O::Err>> =
            CallContext { action: &mut attempts, session: this.session, hooks: this.pipeline.hooks() };
        let output = match machine.as_mut().poll(cx, &mut call) {
            Poll::Pending => {
                call.session.now();
                return Poll::Pending;
            }
            Poll::Ready(Ok(value)) => Ok(value),
            Poll::Ready(Err(failure)) => Err(call.error(failure)),
        };
        *this.machine = None;
        Poll::Ready(output)
    }
}

impl<O: Operate> fmt::Debug for DynRun<'_, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DynRun").field("attempts", &self.session.attempts).finish_non_exhaustive()
    }
}

/// An attempt after the first, with the number of its ticket.
type Numbered<F> = (Option<NonZeroU32>, Pin<Box<F>>);

fn poll_one<O: Operate>(
    mut attempt: Pin<&mut O::Future>,
    cx: &mut Context<'_>,
) -> Poll<Result<O::Ok, Failure<O::Err>>> {
    let output = ready!(attempt.as_mut().poll(cx));
    Poll::Ready(output.map_err(|error| O::failure(&attempt, error)))
}

/// The operation and its attempts, as they are lent to the policies.
struct Attempts<'x, O: Operate> {
    operation: &'x mut O,
    first: Pin<&'x mut Option<O::Future>>,
    more: &'x mut Vec<Numbered<O::Future>>,
    pipeline: &'x (dyn Dynamic<O::Ok, O::Err> + Send + Sync),
}

impl<O> Action<Erased<O::Ok, O::Err>> for Attempts<'_, O>
where
    O: Operate<Ok: 'static, Err: 'static>,
{
    fn begin(&mut self, attempt: Attempt<'_, O::Err>) -> Ticket {
        let number = NonZeroU32::new(attempt.number);
        let future = self.operation.call(attempt);
        if self.first.is_none() {
            self.first.set(Some(future));
            return Ticket(None);
        }
        self.more.push((number, Box::pin(future)));
        Ticket(number)
    }

    fn repeatable(&self) -> bool {
        self.operation.repeatable()
    }

    fn poll(
        &mut self,
        ticket: Pin<&mut Ticket>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<O::Ok, Failure<O::Err>>> {
        let polled = match ticket.0 {
            None => self.first.as_mut().as_pin_mut().map(|future| poll_one::<O>(future, cx)),
            Some(_) => {
                let mut more = self.more.iter_mut();
                more.find(|(number, _)| *number == ticket.0)
                    .map(|(_, future)| poll_one::<O>(future.as_mut(), cx))
            }
        };
        let Some(polled) = polled else { unreachable!("a dropped attempt is not polled") };
        if polled.is_ready() {
            self.stop(ticket);
        }
        polled
    }

    fn stop(&mut self, ticket: Pin<&mut Ticket>) {
        match ticket.0 {
            None => self.first.set(None),
            Some(_) => self.more.retain(|(number, _)| *number != ticket.0),
        }
    }

    fn classify(&self, outcome: Result<&O::Ok, &O::Err>) -> Class {
        self.pipeline.judge(outcome)
    }
}

opaque!("Erased": <T, E> fmt::Debug for Erased<T, E>);
