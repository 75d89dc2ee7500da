use std::convert::Infallible;
use std::fmt;
use std::panic::Location;
use std::pin::pin;
use std::sync::Arc;

use tokio::task::coop::unconstrained;

use super::root::Root;
use super::shared::Shared;
use crate::sync::{Class, panic_message};
use crate::task::caught::Caught;
use crate::task::coop::Cooperative;
use crate::task::{CancelToken, Name, Nursery, Scope, Task, TaskError};

/// The state of a phase while the program runs.
pub(super) struct Open {
    pub(super) name: Name,
    pub(super) limit: std::time::Duration,
    /// Cancelled when the phase begins.
    pub(super) scope: Scope,
    /// Cancelled when the time of the phase is over: the members are dropped.
    pub(super) cut: CancelToken,
}

/// A phase of the shutdown, in which members are started.
///
/// Members are services: the program does not wait for them to end by themselves. They run as soon as they are started; the
/// phase determines when they end. An error or a panic of a member begins the shutdown; the other members of its phase are
/// cancelled when their phase begins.
pub struct Phase<'a, E> {
    pub(super) open: &'a Open,
    pub(super) root: &'a Root<E>,
}

impl<E: Send + 'static> Phase<'_, E> {
    /// Spawns a member that is dropped at its next await when the phase begins.
    #[track_caller]
    pub fn service<F>(&self, name: impl Into<Name>, future: F) -> Task<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.try_service(name, async { Ok(future.await) })
    }

    /// Spawns a member like [`service`](Self::service), whose error begins the shutdown.
    #[track_caller]
    pub fn try_service<F, T>(&self, name: impl Into<Name>, future: F) -> Task<T>
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
    {
        let (name, shared) = (name.into(), self.root.shared());
        let member = member(name.clone(), shared, future);
        self.nursery().launch_at::<_, _, _, Cooperative>(name, Class::Work, None, Location::caller(), member)
    }

    /// Spawns a member whose token is cancelled when the phase begins. It has the time of the phase to end, and is then
    /// dropped.
    ///
    /// Cancelling its [`Task`] cancels the token of this member only. The member then has until the end of its phase.
    #[track_caller]
    pub fn service_coop<F, Fut>(&self, name: impl Into<Name>, service: F) -> Task<Fut::Output>
    where
        F: FnOnce(CancelToken) -> Fut,
        Fut: Future + Send + 'static,
        Fut::Output: Send + 'static,
    {
        self.try_service_coop(name, |token| {
            let future = service(token);
            async { Ok(future.await) }
        })
    }

    /// Spawns a member like [`service_coop`](Self::service_coop), whose error begins the shutdown.
    #[track_caller]
    pub fn try_service_coop<F, Fut, T>(&self, name: impl Into<Name>, service: F) -> Task<T>
    where
        F: FnOnce(CancelToken) -> Fut,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
    {
        let (name, token) = (name.into(), CancelToken::new());
        let member = member(name.clone(), self.root.shared(), service(token.clone()));
        let member = until_cut(name.clone(), self.open.cut.clone(), member);
        let site = Location::caller();
        self.nursery().launch_at::<_, _, _, Cooperative>(name, Class::Work, Some(token), site, member)
    }

    /// The scope of the phase, for code that starts tasks in a scope.
    ///
    /// The scope is cancelled when the phase begins. Its cooperative children, such as workers of a queue, have the time
    /// of the phase as their grace period; tasks that are cut off are in the report. A panic of one of its tasks that is not a member begins the shutdown,
    /// and cancels this phase at the same time.
    #[must_use]
    pub fn scope(&self) -> &Scope {
        &self.open.scope
    }

    fn nursery(&self) -> Nursery<Infallible> {
        // The scope is open while the body runs, and `self` borrows from the body.
        Nursery::new(Arc::clone(&self.open.scope.0))
    }
}

/// Runs a member, and reports its end to the program.
async fn member<T, E: Send + 'static>(
    name: Name,
    shared: Arc<Shared<E>>,
    future: impl Future<Output = Result<T, E>>,
) -> Result<T, TaskError> {
    match Caught::new(future).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => {
            shared.failed(name.clone(), error);
            Err(TaskError::Reported { task: name })
        }
        Err(payload) => {
            let message = panic_message(&*payload).to_owned();
            crate::log::error!(task = %name, message, "a task panicked");
            shared.panicked(&name, payload);
            Err(TaskError::Panicked { task: name, message })
        }
    }
}

/// Runs a member, and drops it when the time of its phase is over.
async fn until_cut<T>(
    name: Name,
    cut: CancelToken,
    member: impl Future<Output = Result<T, TaskError>>,
) -> Result<T, TaskError> {
    let member = pin!(member);
    tokio::select! {
        biased;
        ended = member => ended,
        // Unconstrained: the member may use up the budget at each poll.
        reason = unconstrained(cut.cancelled()) => Err(TaskError::Cancelled { task: name, reason: reason.clone() }),
    }
}

impl<E> fmt::Debug for Phase<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Phase").field("name", &self.open.name).field("limit", &self.open.limit).finish()
    }
}
