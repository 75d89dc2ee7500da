//! The future of a task of a scope: the user's future, wrapped in the guarantees of the scope.

use std::any::Any;
use std::convert::Infallible;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tokio::task::JoinHandle;

use super::ambient::Inside;
use super::core::{Core, Level, own_list};
use super::error::{ChildError, TaskError};
use super::failure::{Failure, KeptError};
use super::list::{ListingState, Node};
use super::member::Hold;
use super::span::TaskSpan;
use super::stall;
use super::{CancelToken, Name, Policy, Reason, ReasonKind};
use crate::mutant;
use crate::sim::{PollKind, TaskHook};
use crate::sync::{Class, panic_message};

/// The description of a child before it runs.
pub(crate) struct Spec {
    pub(crate) name: Name,
    pub(crate) site: &'static Location<'static>,
    pub(crate) class: Class,
    pub(crate) stop: Stop,
    /// The token of a cooperative child.
    pub(crate) token: Option<CancelToken>,
    /// The span in which the child runs; set when it is launched.
    span: TaskSpan,
    /// The child runs in the span of its scope, and not in the span of the code that starts it.
    in_span_of_scope: bool,
    /// Here it fits into padding: a byte elsewhere would add a word to every task.
    pub(super) listing: ListingState,
}

impl Spec {
    pub(crate) fn new(name: Name, site: &'static Location<'static>, class: Class, stop: Stop) -> Self {
        Self {
            name,
            site,
            class,
            stop,
            token: None,
            span: TaskSpan::default(),
            in_span_of_scope: class == Class::Service,
            listing: ListingState::default(),
        }
    }

    /// Runs the child in the span of its scope: it works for many callers.
    #[cfg(any(feature = "batch", feature = "event", feature = "pool"))]
    pub(crate) fn in_span_of_scope(mut self) -> Self {
        self.in_span_of_scope = true;
        self
    }

    fn with_span(mut self, core: &Core) -> Self {
        let span = if self.in_span_of_scope { core.span.clone() } else { TaskSpan::current() };
        self.span = if core.has_task_spans && !self.is_hidden() { span.of_task(&self.name) } else { span };
        self
    }

    /// Hides the child from snapshots and reports: it is a task of the library.
    pub(crate) fn hidden(mut self) -> Self {
        self.listing.hide();
        self
    }

    pub(crate) fn is_hidden(&self) -> bool {
        self.listing.is_hidden()
    }

    /// The description of a cooperative child, whose cancellation cancels the token.
    pub(crate) fn cooperative(
        name: Name,
        site: &'static Location<'static>,
        class: Class,
        token: CancelToken,
    ) -> Self {
        Self { token: Some(token), ..Self::new(name, site, class, Stop::Token) }
    }
}

/// The reaction of a child to the cancellation of its class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The child is dropped at its next await.
    Drop,
    /// The token of the child is cancelled, and the child ends by itself.
    Token,
    /// The child continues: it is a cleanup.
    Never,
}

/// Spawns a child of the scope. Returns the future if the scope is closed.
#[allow(clippy::disallowed_methods, reason = "the one place where tasks are started")]
pub(crate) fn launch<F, S>(core: &Arc<Core>, spec: Spec, future: F) -> Result<JoinHandle<S::Out>, F>
where
    F: Future + Send + 'static,
    S: Sink<F::Output> + 'static,
    S::Out: Send + 'static,
{
    let Some(hold) = Hold::enter(core, spec.class) else { return Err(future) };
    let child = Child::<F, S> {
        future: Some(future),
        core: hold,
        hook: TaskHook::new(spec.name.as_str(), spec.site, spec.class.simulated()),
        node: Node::new(spec.with_span(core)),
        sink: PhantomData,
    };
    Ok(core.runtime.spawn(child))
}

/// Converts the end of a child to the output of its task, and reports it to the scope.
pub(crate) trait Sink<O> {
    type Out;
    fn returned(link: &Link<'_>, output: O) -> Self::Out;
    fn failed(failed: TaskError<Infallible>) -> Self::Out;
}

/// The sink of children that cannot fail.
pub(crate) struct Plain;

impl<T> Sink<T> for Plain {
    type Out = Result<T, Failure<Infallible>>;

    fn returned(_: &Link<'_>, output: T) -> Self::Out {
        Ok(output)
    }

    fn failed(failed: TaskError) -> Self::Out {
        Err(Failure::Ended(failed))
    }
}

/// The sink of children that return a `Result`: errors are reported to the scope.
pub(crate) struct Fallible<E>(PhantomData<fn(E)>);

impl<T, E: Send + 'static> Sink<Result<T, E>> for Fallible<E> {
    type Out = Result<T, Failure<E>>;

    fn returned(link: &Link<'_>, output: Result<T, E>) -> Self::Out {
        let core = link.core;
        match (output, core.policy) {
            (Ok(value), Policy::FirstOk) => {
                core.state().succeeded = true;
                core.raise(Level::Children, &Reason::by(ReasonKind::Succeeded, Some(link.name())));
                Ok(value)
            }
            (Ok(value), _) => Ok(value),
            (Err(error), Policy::Isolate) => Err(Failure::Kept(Box::new(KeptError {
                task: link.name(),
                site: link.spec.site,
                find_cause: core.find_cause(),
                error: Some(error),
            }))),
            (Err(error), policy) => {
                let failure = ChildError::new(Some(link.name()), error);
                core.state().failures.push(Box::new(failure));
                let reported = Err(Failure::Ended(TaskError::Reported { task: link.name() }));
                if mutant!("scope.fail_slow") {
                    return reported;
                }
                if policy == Policy::FailFast {
                    core.raise(Level::Work, &Reason::by(ReasonKind::Failed, Some(link.name())));
                }
                reported
            }
        }
    }

    fn failed(failed: TaskError) -> Self::Out {
        Err(Failure::Ended(failed.widen()))
    }
}

pin_project! {
    pub(crate) struct Child<F, S> {
        #[pin]
        future: Option<F>,
        core: Hold,
        #[pin]
        node: Node,
        hook: TaskHook,
        sink: PhantomData<fn(S)>,
    }

    impl<F, S> PinnedDrop for Child<F, S> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            // Also if the drop of the future panics: the scope would wait forever for a child that is not counted out.
            let node = this.node.into_ref();
            let out = CountOut { core: this.core, node };
            if this.future.is_none() {
                return;
            }
            // The task was aborted: tokio would swallow a panic of the drop, and the scope would miss it.
            let _span = node.spec().span.enter();
            if let Err(payload) = drop_inside(this.future, out.core) {
                out.core.task_panicked(out.node.spec().name.clone(), payload);
            }
        }
    }
}

impl<F: Future, S: Sink<F::Output>> Future for Child<F, S> {
    type Output = S::Out;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<S::Out> {
        let mut this = self.project();
        let node = this.node.into_ref();
        let _span = node.spec().span.enter();
        loop {
            let link = Link { core: this.core, spec: node.spec() };
            let lists_early = link.spec.token.is_some() || link.core.opened.is_some();
            if lists_early && !node.is_listed() {
                // Before the first poll, which may be long: it may check the token, or it may never end, and a program
                // that keeps ages has to be able to name it.
                link.list(node, cx);
            }
            let stop = link.must_stop();
            let polled = {
                let _watched = stall::polling(node.spec());
                let _inside = Inside::enter(this.core);
                let (future, hook) = (&mut this.future, &mut *this.hook);
                catch_unwind(AssertUnwindSafe(|| hook.poll(cx, |cx| step(future, stop, cx))))
            };
            match polled {
                Ok(Poll::Ready(Some(output))) => return Poll::Ready(S::returned(&link, output)),
                Ok(Poll::Ready(None)) => {
                    let cancelled = TaskError::Cancelled { task: link.name(), reason: link.reason() };
                    return Poll::Ready(S::failed(cancelled));
                }
                Ok(Poll::Pending) => {
                    if !node.is_listed() {
                        // Only once: the waker of a task is the same at every poll.
                        link.list(node, cx);
                    }
                    if mutant!("task.miss_cancel") {
                        return Poll::Pending;
                    }
                    if stop || !link.must_stop() {
                        return Poll::Pending;
                    }
                }
                Err(payload) => {
                    let failed = link.panicked(payload);
                    if let Err(payload) = drop_inside(this.future, this.core) {
                        // The task returns the first panic; the scope receives both.
                        link.panicked(payload);
                    }
                    return Poll::Ready(S::failed(failed));
                }
            }
        }
    }
}

/// Polls the future, or drops it if `stop` is set. A future that is ready is dropped here as well, where the caller catches a
/// panic of its drop.
pub(super) fn step<F: Future>(
    future: &mut Pin<&mut Option<F>>,
    stop: bool,
    cx: &mut Context<'_>,
) -> Poll<Option<F::Output>> {
    if stop {
        future.set(None);
        return Poll::Ready(None);
    }
    let running = future.as_mut().as_pin_mut().expect("a future is not polled after its end");
    let polled = running.poll(cx).map(Some);
    if polled.is_ready() {
        future.set(None);
    }
    polled
}

fn drop_inside<F>(mut future: Pin<&mut Option<F>>, core: &Arc<Core>) -> Result<(), Box<dyn Any + Send>> {
    let _inside = Inside::enter(core);
    catch_unwind(AssertUnwindSafe(|| future.set(None)))
}

/// A child's connection to its scope.
pub(crate) struct Link<'a> {
    core: &'a Arc<Core>,
    spec: &'a Spec,
}

impl Link<'_> {
    pub(crate) fn name(&self) -> Name {
        self.spec.name.clone()
    }

    fn reason(&self) -> Reason {
        let reason = match self.spec.class {
            Class::Work => self.core.reason(),
            Class::Service => None,
        };
        reason.unwrap_or_else(|| Reason::of(ReasonKind::Ended))
    }

    /// Returns `true` if the future of this child has to be dropped.
    #[inline]
    fn must_stop(&self) -> bool {
        self.spec.stop == Stop::Drop && self.core.reached(self.spec.class.cancelled_at())
    }

    /// Lists the child with its waker, so that a cancellation reaches it.
    #[allow(unsafe_code, reason = "the list borrows the task's waker")]
    fn list(&self, node: Pin<&Node>, cx: &Context<'_>) {
        let waker = (self.spec.stop == Stop::Drop).then(|| cx.waker());
        let age = self.core.opened.map(|opened| opened.elapsed());
        let number = own_list();
        let mut list = self.core.list(number);
        // SAFETY: `launch` makes the child a task of its own, so this is the runtime's waker of the task that
        // holds the node.
        unsafe { list.push(number, node, waker, age) };
        drop(list);
        // After the lock: a cancellation that locked this list earlier had raised the level before, so it is visible
        // here.
        let cancelled = self.core.reached(self.spec.class.cancelled_at());
        if let (true, Some(token)) = (cancelled, &self.spec.token) {
            token.cancel(self.reason());
        }
    }

    fn panicked(&self, payload: Box<dyn Any + Send>) -> TaskError {
        let message = panic_message(&*payload).to_owned();
        if mutant!("task.lose_panic") {
            return TaskError::Panicked { task: self.name(), message };
        }
        self.core.task_panicked(self.name(), payload);
        TaskError::Panicked { task: self.name(), message }
    }
}

/// Counts a child out when dropped.
struct CountOut<'a> {
    core: &'a mut Hold,
    node: Pin<&'a Node>,
}

impl Class {
    fn simulated(self) -> PollKind {
        match self {
            Self::Work => PollKind::Work,
            Self::Service => PollKind::Service,
        }
    }
}

impl Drop for CountOut<'_> {
    #[allow(unsafe_code, reason = "the hold is given up")]
    fn drop(&mut self) {
        if self.node.is_listed() {
            self.core.list(self.node.number()).remove(self.node);
        }
        // SAFETY: once, in the drop of the child, which entered with this class and touches its scope no more.
        unsafe { self.core.leave(self.node.spec().class) };
    }
}
