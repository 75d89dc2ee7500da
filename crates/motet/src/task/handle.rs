use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll};

use tokio::task::JoinHandle;

use super::{CancelToken, Name, Reason, ReasonKind, SharedTask, TaskError};
use crate::sim::Site;
use crate::sync::panic_words;

/// The handle of a task of a scope. Awaiting it returns the value of the task.
///
/// A task does not have to be awaited: its scope waits for it.
///
/// # Drop
/// Dropping the handle does not stop the task. The runtime drops a value that was not awaited, possibly after the scope has
/// returned: await the task if the drop of its value has an effect.
///
/// # Cancel safety
/// Safe: awaiting `&mut task` and dropping that future loses nothing.
///
/// # Panics
/// If it is polled after it returned the value.
pub struct Task<T, E = Infallible> {
    join: JoinHandle<Result<T, TaskError<E>>>,
    name: Name,
    /// The token of a cooperative task; other tasks are dropped at their next await.
    token: Option<CancelToken>,
    cancelled: OnceLock<Reason>,
    site: Site,
}

impl<T, E> Task<T, E> {
    #[track_caller]
    pub(crate) fn new(
        join: JoinHandle<Result<T, TaskError<E>>>,
        name: Name,
        token: Option<CancelToken>,
    ) -> Self {
        let site = Site::named("task", "join", || Some(name.to_string()));
        Self { join, name, token, cancelled: OnceLock::new(), site }
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// Returns `true` if the task has ended: awaiting it returns its value at once.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.join.is_finished()
    }

    /// Returns `true` if the task was cancelled through this handle. It may still be running.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.get().is_some()
    }

    /// Cancels this task only. The token of a cooperative task is cancelled, and the task has the grace period of its scope
    /// to end; any other task is dropped at its next await.
    pub fn cancel(&self, reason: Reason) {
        // The first reason is kept.
        let reason = self.cancelled.get_or_init(|| reason).clone();
        match &self.token {
            Some(token) => token.cancel(reason),
            None => self.join.abort(),
        }
    }
}

impl<T: Send + Sync + 'static, E: Send + Sync + 'static> Task<T, E> {
    /// Converts the task to a handle that several tasks can await.
    #[must_use]
    #[track_caller]
    pub fn shared(self) -> SharedTask<T, E> {
        SharedTask::new(self)
    }
}

impl<T, E> Future for Task<T, E> {
    type Output = Result<T, TaskError<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let entered = self.site.enter();
        let polled = self.poll_here(cx);
        entered.leave(polled)
    }
}

impl<T, E> Task<T, E> {
    fn poll_here(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<<Self as Future>::Output> {
        Pin::new(&mut self.join).poll(cx).map(|joined| {
            joined.unwrap_or_else(|error| {
                let task = self.name.clone();
                Err(match error.try_into_panic() {
                    // The task catches panics of its future; this panic occurred outside of it.
                    Ok(payload) => TaskError::Panicked { task, message: panic_words(payload) },
                    // The runtime dropped the future: after `cancel`, or because it shut down.
                    Err(_) => {
                        let shutdown = || Reason::of(ReasonKind::Shutdown);
                        let reason = self.cancelled.get().cloned().unwrap_or_else(shutdown);
                        TaskError::Cancelled { task, reason }
                    }
                })
            })
        })
    }
}

impl<T, E> fmt::Debug for Task<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task")
            .field("name", &self.name)
            .field("is_finished", &self.is_finished())
            .field("is_cancelled", &self.is_cancelled())
            .finish_non_exhaustive()
    }
}
