use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll};

use tokio::task::JoinHandle;

use super::core::panic_message;
use super::{CancelToken, Name, Reason, ReasonKind, SharedTask, TaskError};
use crate::sim::Site;

/// A task of a scope: await it for its value.
///
/// Nobody has to await it: its scope does.
///
/// # Drop
/// The task goes on, in its scope. A value that nobody awaits is dropped by the runtime, maybe a moment after the
/// scope has returned: a value whose drop does something should be awaited.
///
/// # Cancel safety
/// Safe: awaiting `&mut task` and dropping the wait loses nothing.
pub struct Task<T, E = Infallible> {
    join: JoinHandle<Result<T, TaskError<E>>>,
    name: Name,
    /// The token of a cooperative task; the others are dropped at their next await.
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

    /// Gives the name.
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

    /// Cancels the task alone: a cooperative one is told and has its scope's grace, any other is dropped at its
    /// next await. Its scope goes on.
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
    /// Makes a handle that many can await.
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
                    // Panics are caught in the task; this one was beyond that.
                    Ok(payload) => TaskError::Panicked { task, message: panic_message(&*payload).to_owned() },
                    // Its future was dropped from outside: by `cancel`, or because the runtime went away.
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
