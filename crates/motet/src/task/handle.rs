use std::convert::Infallible;
use std::fmt;
use std::future::poll_fn;
use std::panic::Location;
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll};

use tokio::task::JoinHandle;

use super::ambient;
use super::core::{Core, Level};
use super::failure::Failure;
use super::{CancelToken, Name, Policy, Reason, ReasonKind, SharedTask, TaskError};
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
    join: JoinHandle<Result<T, Failure<E>>>,
    name: Name,
    /// The number and the policy of the scope. A reference to the scope would cost an atomic operation for each task.
    scope: u64,
    policy: Policy,
    /// The token of a cooperative task; other tasks are dropped at their next await.
    token: Option<CancelToken>,
    cancelled: OnceLock<Reason>,
    site: Site,
}

impl<T, E> Task<T, E> {
    #[track_caller]
    pub(crate) fn new(
        join: JoinHandle<Result<T, Failure<E>>>,
        name: Name,
        token: Option<CancelToken>,
        scope: &Core,
    ) -> Self {
        let site = Site::named("task", "join", || Some(name.to_string()));
        Self { join, name, scope: scope.id, policy: scope.policy, token, cancelled: OnceLock::new(), site }
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

impl<T, E> Task<T, E> {
    /// Waits for the task, and returns its value. If the task ends without a value, the scope of the task is cancelled, and
    /// the code that awaits the value is dropped with the scope.
    ///
    /// # When to use
    /// In a scope with [`Policy::FailFast`], the default: the failure of the task ends the scope, which returns the error of
    /// the task, so the code that awaits the value has nothing to handle. It works whatever the error of the scope is. To act
    /// on a failure, await the task itself.
    ///
    /// | The task | The scope |
    /// |---|---|
    /// | returns an error | is cancelled already, and returns the error |
    /// | panics | is cancelled already, and rethrows the panic |
    /// | is cancelled by itself ([`cancel`](Self::cancel)) | is cancelled with [`ReasonKind::NoValue`] |
    ///
    /// # Cancel safety
    /// The handle is dropped, and the task continues.
    ///
    /// # Panics
    /// In any other scope, which would not end the wait: if the policy of the scope is not [`Policy::FailFast`], when it is
    /// called; if the code that awaits it belongs neither to the scope nor to a scope within it, when it is first polled. Also
    /// if the task has no value, and the code that awaits it is not cancelled with its scope: in a release, in the opening of
    /// a resource, in the factory of a component, in a blocking closure.
    ///
    /// # Examples
    /// ```
    /// use motet::task::{Nursery, scope};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let sum = scope(async |n: &Nursery<std::num::ParseIntError>| {
    ///     let a = n.try_spawn("a", async { "40".parse::<u32>() });
    ///     let b = n.spawn("b", async { 2 });
    ///     Ok(a.value().await + b.value().await)
    /// });
    /// assert_eq!(sum.await?, 42);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn value(self) -> impl Future<Output = T> {
        let (name, at) = (self.name.clone(), Location::caller());
        let site = Site::located("task", "wait for its value", || Some(name.to_string()), at);
        let policy = self.policy;
        assert!(
            policy == Policy::FailFast,
            "the scope of the task `{name}` has `Policy::{policy:?}`, under which `value` could wait forever: await the task",
        );
        site.of(async move {
            let Some(scope) = ambient::enclosing(self.scope) else {
                panic!(
                    "the value of the task `{name}` is awaited outside of its scope (at {at}), where the wait could be endless: await the task"
                );
            };
            let why = match self.await {
                Ok(value) => return value,
                Err(TaskError::Cancelled { reason, .. }) => reason.to_string(),
                Err(TaskError::Panicked { message, .. }) => message,
                Err(TaskError::Error { .. } | TaskError::Reported { .. }) => "it failed".to_owned(),
                Err(TaskError::NeverReady { .. }) => "it never was ready".to_owned(),
            };
            match end_with(&scope, name, why, at).await {}
        })
    }
}

/// Cancels the scope, and waits until this future is dropped with it: in a service, when all other work has ended.
async fn end_with(scope: &Core, task: Name, why: String, at: &Location<'_>) -> Infallible {
    let reason = Reason::new(ReasonKind::NoValue, Some(task.clone()), Some(Name::from(why)));
    scope.raise(Level::Work, &reason);
    poll_fn(|_| {
        assert!(
            !ambient::is_shielded_from(scope),
            "the task `{task}` has no value, and the code that awaits it (at {at}) is not cancelled with its scope: await the task"
        );
        Poll::Pending
    })
    .await
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
        Pin::new(&mut self.join).poll(cx).map(|joined| match joined {
            Ok(ended) => ended.map_err(Failure::received),
            Err(error) => {
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
            }
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
