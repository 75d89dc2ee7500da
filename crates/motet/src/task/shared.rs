use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use super::{Task, TaskError};
use crate::mutant;
use crate::sim::Site;
use crate::sync::{WakerSet, WakerSetEntry};

/// A handle of a task that several tasks can await, each through a clone.
///
/// Every clone returns the same result, in an `Arc`, also if it is first awaited after the end of the task. To give several
/// tasks a value that is set from outside, share a task that awaits a tokio `oneshot`, as in the example.
///
/// # Cancel safety
/// Safe: each clone polls the task by itself. A clone that is dropped, or that is held and not polled, delays no other
/// clone.
///
/// # Examples
/// ```
/// use motet::task::{Nursery, scope};
/// use tokio::sync::oneshot;
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// scope(async |n: &Nursery| {
///     let (settle, settled) = oneshot::channel();
///     let answer = n.spawn("answer", async { settled.await.unwrap_or(0) }).shared();
///     let waiters = [1, 2].map(|_| n.spawn("waiter", answer.clone()));
///     settle.send(42).unwrap();
///     for waiter in waiters {
///         assert!(matches!(*waiter.await.unwrap(), Ok(42)));
///     }
///     Ok(())
/// }).await.unwrap();
/// # });
/// ```
pub struct SharedTask<T, E = Infallible> {
    inner: Arc<Inner<T, E>>,
    /// Where this waiter is woken.
    place: WakerSetEntry,
    site: Site,
}

struct Inner<T, E>(Mutex<State<T, E>>);

enum State<T, E> {
    Running(Task<T, E>),
    Ended(Arc<Result<T, TaskError<E>>>),
}

impl<T, E> SharedTask<T, E> {
    #[track_caller]
    pub(crate) fn new(task: Task<T, E>) -> Self {
        let site = Site::named("shared task", "join", || Some(task.name().to_owned()));
        let inner = Inner(Mutex::new(State::Running(task)));
        Self { inner: Arc::new(inner), place: WakerSetEntry::of(&Arc::<WakerSet>::default()), site }
    }
}

impl<T, E> Future for SharedTask<T, E> {
    type Output = Arc<Result<T, TaskError<E>>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let entered = self.site.enter();
        let polled = self.poll_here(cx);
        entered.leave(polled)
    }
}

impl<T, E> SharedTask<T, E> {
    fn poll_here(mut self: Pin<&mut Self>, cx: &Context<'_>) -> Poll<<Self as Future>::Output> {
        let this = &mut *self;
        this.place.set(cx.waker());
        let mut state = this.inner.0.lock().unwrap_or_else(PoisonError::into_inner);
        let output = match &mut *state {
            State::Ended(output) => return Poll::Ready(Arc::clone(output)),
            State::Running(task) => {
                // The task keeps only the last waker; this waker wakes all handles.
                let mut all = this.place.all();
                if mutant!("shared.wake_last") {
                    all = cx.waker().clone();
                }
                match Pin::new(task).poll(&mut Context::from_waker(&all)) {
                    Poll::Ready(output) => Arc::new(output),
                    Poll::Pending => return Poll::Pending,
                }
            }
        };
        *state = State::Ended(Arc::clone(&output));
        Poll::Ready(output)
    }
}

impl<T, E> Clone for SharedTask<T, E> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), place: self.place.another(), site: self.site.another() }
    }
}

impl<T, E> fmt::Debug for SharedTask<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedTask").finish_non_exhaustive()
    }
}
