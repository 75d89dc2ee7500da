use std::convert::Infallible;
use std::fmt;
use std::panic::Location;
use std::pin::pin;
use std::sync::Arc;

use tokio::task::coop::unconstrained;

use super::root::Root;
use super::shared::Shared;
use crate::task::caught::Caught;
use crate::task::coop::Cooperative;
use crate::task::core::panic_message;
use crate::task::gate::Class;
use crate::task::{CancelToken, Name, Nursery, Scope, Task, TaskError};

/// A phase while the program runs.
pub(super) struct Open {
    pub(super) name: Name,
    pub(super) limit: std::time::Duration,
    /// Cancelled when the members are told.
    pub(super) scope: Scope,
    /// Cancelled when they are dropped.
    pub(super) cut: CancelToken,
}

/// What members join a phase of the shutdown with.
///
/// Members are services: the program does not wait for them to end by themselves. All of them run from their
/// start; the phase decides when they end. The error or panic of a member begins the shutdown; the other members
/// of its phase are told in their turn.
pub struct Phase<'a, E> {
    pub(super) open: &'a Open,
    pub(super) root: &'a Root<E>,
}

impl<E: Send + 'static> Phase<'_, E> {
    /// Starts a member that is dropped at its next await when the phase is told.
    #[track_caller]
    pub fn service<F>(&self, name: impl Into<Name>, future: F) -> Task<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.try_service(name, async { Ok(future.await) })
    }

    /// Starts a member whose error begins the shutdown.
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

    /// Starts a member that sees that its phase is told, and has the time of the phase to end; then it is
    /// dropped.
    ///
    /// Cancelling its [`Task`] tells this member alone, which has until the end of its phase then.
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

    /// Starts a member that sees that its phase is told, and whose error begins the shutdown.
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

    /// Gives the scope of the phase, for whatever starts tasks in a scope that it is given.
    ///
    /// It is cancelled when the phase is told. A panic of what is started in it, other than of members, begins the
    /// shutdown and cancels this phase with it.
    #[must_use]
    pub fn scope(&self) -> &Scope {
        &self.open.scope
    }

    fn nursery(&self) -> Nursery<Infallible> {
        // Open as long as the body runs, and `self` borrows from the body.
        Nursery::new(Arc::clone(&self.open.scope.0))
    }
}

/// Runs a member, and tells the program how it ended.
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

/// Drops a member when the time of its phase is over.
async fn until_cut<T>(
    name: Name,
    cut: CancelToken,
    member: impl Future<Output = Result<T, TaskError>>,
) -> Result<T, TaskError> {
    let member = pin!(member);
    tokio::select! {
        biased;
        ended = member => ended,
        // The member may use up the budget at each poll.
        reason = unconstrained(cut.cancelled()) => Err(TaskError::Cancelled { task: name, reason: reason.clone() }),
    }
}

impl<E> fmt::Debug for Phase<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Phase").field("name", &self.open.name).field("limit", &self.open.limit).finish()
    }
}
