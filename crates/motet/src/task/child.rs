//! The future that a task of a scope runs: the user's, and around it all that a scope promises.

use std::any::Any;
use std::convert::Infallible;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::ambient::Inside;
use super::core::{Core, Entry, Level, Stop, panic_message};
use super::error::{Failure, TaskFailed};
use super::gate::Class;
use super::{Name, Policy, Reason, ReasonKind};

/// What is known of a child before it runs.
pub(crate) struct Spec {
    pub(crate) name: Name,
    pub(crate) site: &'static Location<'static>,
    pub(crate) class: Class,
    pub(crate) stop: Stop,
}

/// Starts a child of the scope; gives the future back if the scope is closed.
#[allow(clippy::disallowed_methods, reason = "the one place where tasks are started")]
pub(crate) fn launch<F, S>(core: &Arc<Core>, spec: Spec, future: F) -> Result<JoinHandle<S::Out>, F>
where
    F: Future + Send + 'static,
    S: Sink<F::Output> + 'static,
    S::Out: Send + 'static,
{
    if !core.gate.enter(spec.class) {
        return Err(future);
    }
    let link = Link { core: Some(Arc::clone(core)), key: None, spec };
    let child = Child::<F, S> { future: Some(future), link, sink: PhantomData };
    Ok(core.runtime.spawn(child))
}

/// What becomes of a child's end.
pub(crate) trait Sink<O> {
    type Out;
    fn returned(link: &Link, output: O) -> Self::Out;
    fn failed(failed: TaskFailed<Infallible>) -> Self::Out;
}

/// The sink of children that cannot fail.
pub(crate) struct Plain;

impl<T> Sink<T> for Plain {
    type Out = Result<T, TaskFailed>;

    fn returned(_: &Link, output: T) -> Self::Out {
        Ok(output)
    }

    fn failed(failed: TaskFailed) -> Self::Out {
        Err(failed)
    }
}

/// The sink of children that return a `Result`: the scope hears of errors.
pub(crate) struct Fallible<E>(PhantomData<fn(E)>);

impl<T, E: Send + 'static> Sink<Result<T, E>> for Fallible<E> {
    type Out = Result<T, TaskFailed<E>>;

    fn returned(link: &Link, output: Result<T, E>) -> Self::Out {
        let core = link.core();
        match (output, core.policy) {
            (Ok(value), Policy::FirstOk) => {
                core.state().succeeded = true;
                core.raise(Level::Children, Reason::by(ReasonKind::Succeeded, Some(link.name())));
                Ok(value)
            }
            (Ok(value), _) => Ok(value),
            (Err(error), Policy::Isolate) => Err(TaskFailed::Error { task: link.name(), error }),
            (Err(error), policy) => {
                let failure = Failure { task: Some(link.name()), error };
                core.state().failures.push(Box::new(failure));
                if policy == Policy::FailFast {
                    core.raise(Level::Work, Reason::by(ReasonKind::Failed, Some(link.name())));
                }
                Err(TaskFailed::Reported { task: link.name() })
            }
        }
    }

    fn failed(failed: TaskFailed) -> Self::Out {
        Err(failed.widen())
    }
}

pin_project! {
    pub(crate) struct Child<F, S> {
        // Dropped before `link`, which counts the child out: a scope must not end before its futures have.
        #[pin]
        future: Option<F>,
        link: Link,
        sink: PhantomData<fn(S)>,
    }
}

impl<F: Future, S: Sink<F::Output>> Future for Child<F, S> {
    type Output = S::Out;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<S::Out> {
        let mut this = self.project();
        if this.link.must_stop() {
            return Poll::Ready(end::<F, S>(this.future, this.link));
        }
        let polled = {
            let _inside = Inside::enter(&mut this.link.core);
            catch_unwind(AssertUnwindSafe(|| {
                let future = this.future.as_mut().as_pin_mut().expect("a child is not polled after its end");
                let polled = future.poll(cx);
                if polled.is_ready() {
                    // Here, where a panic of its drop is caught, too.
                    this.future.set(None);
                }
                polled
            }))
        };
        match polled {
            Ok(Poll::Ready(output)) => Poll::Ready(S::returned(this.link, output)),
            Ok(Poll::Pending) if this.link.register(cx) => Poll::Ready(end::<F, S>(this.future, this.link)),
            Ok(Poll::Pending) => Poll::Pending,
            Err(payload) => {
                let failed = this.link.panicked(payload);
                let dropped = drop_inside(this.future, this.link);
                // One panic is enough for the task's answer; the scope hears of both.
                drop(dropped.map_err(|payload| this.link.panicked(payload)));
                Poll::Ready(S::failed(failed))
            }
        }
    }
}

/// Drops the future of a cancelled child.
fn end<F: Future, S: Sink<F::Output>>(future: Pin<&mut Option<F>>, link: &mut Link) -> S::Out {
    let failed = match drop_inside(future, link) {
        Ok(()) => TaskFailed::Cancelled { task: link.name(), reason: link.reason() },
        Err(payload) => link.panicked(payload),
    };
    S::failed(failed)
}

fn drop_inside<F>(mut future: Pin<&mut Option<F>>, link: &mut Link) -> Result<(), Box<dyn Any + Send>> {
    let _inside = Inside::enter(&mut link.core);
    catch_unwind(AssertUnwindSafe(|| future.set(None)))
}

/// A child's place in its scope. Dropping it counts the child out.
pub(crate) struct Link {
    /// `None` only while the child is being polled: then it is the current scope.
    core: Option<Arc<Core>>,
    /// The child's entry in the scope's list; made when it first waits.
    key: Option<usize>,
    spec: Spec,
}

impl Link {
    fn core(&self) -> &Arc<Core> {
        self.core.as_ref().expect("outside of a poll the link holds its scope")
    }

    pub(crate) fn name(&self) -> Name {
        self.spec.name.clone()
    }

    fn reason(&self) -> Reason {
        let reason = match self.spec.class {
            Class::Work => self.core().reason(),
            Class::Service => None,
        };
        reason.unwrap_or_else(|| Reason::of(ReasonKind::Ended))
    }

    /// Whether the scope wants this child's future dropped.
    fn must_stop(&self) -> bool {
        matches!(self.spec.stop, Stop::Drop) && self.core().reached(self.spec.class.cancelled_at())
    }

    /// Lists the child with its waker, so that a cancellation reaches it; true if it came already.
    fn register(&mut self, cx: &Context<'_>) -> bool {
        if self.key.is_some() {
            // The waker of a task is the same at every poll.
            return self.must_stop();
        }
        let waker = matches!(self.spec.stop, Stop::Drop).then(|| cx.waker().clone());
        let core = self.core.as_ref().expect("outside of a poll the link holds its scope");
        let since = core.opened.is_some().then(Instant::now);
        let Spec { name, site, class, stop } = &self.spec;
        let entry = Entry { name: name.clone(), site, class: *class, since, waker, stop: stop.clone() };
        let mut state = core.state();
        // Under the lock, as the level is raised under it.
        let cancelled = core.reached(class.cancelled_at());
        self.key = Some(state.children.insert(entry));
        drop(state);
        if let (true, Stop::Tell(token)) = (cancelled, stop) {
            token.cancel(self.reason());
        }
        self.must_stop()
    }

    fn panicked(&self, payload: Box<dyn Any + Send>) -> TaskFailed {
        let message = panic_message(&*payload).to_owned();
        self.core().task_panicked(self.name(), payload);
        TaskFailed::Panicked { task: self.name(), message }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let Some(core) = &self.core else { return };
        if let Some(key) = self.key {
            let entry = core.state().children.remove(key);
            // Outside of the lock: it holds a waker.
            drop(entry);
        }
        core.leave(self.spec.class);
    }
}
