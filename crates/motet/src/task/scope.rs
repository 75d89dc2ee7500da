use std::fmt;
use std::panic::Location;
use std::sync::Arc;

use tokio::time::Instant;

use super::child::{Plain, Spec, Stop, launch};
use super::core::{Core, Level};
use super::finalizer::ReleaseCounts;
use super::{CancelToken, Name, Reason, ScopeBuilder, ScopeClosedError, Task};
use crate::sync::Class;

/// A handle to a scope: cheap to clone, and of the same type for every error type of a scope.
///
/// A function that starts tasks takes `&Scope`. In the body of a scope, a [`Nursery`](super::Nursery) dereferences to it. A
/// handle can outlive its scope, so its methods can refuse a future, and hand it back in a [`ScopeClosedError`].
#[derive(Clone)]
pub struct Scope(pub(crate) Arc<Core>);

impl Scope {
    /// Creates a builder, to set the name, the timeout, the policy and more of a scope.
    ///
    /// # Examples
    /// ```
    /// use motet::task::{Nursery, Scope};
    /// use std::time::Duration;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let late = Scope::builder()
    ///     .name("lookup")
    ///     .timeout(Duration::from_secs(1))
    ///     .run(async |n: &Nursery| Ok(std::future::pending::<()>().await))
    ///     .await;
    /// assert!(late.is_err_and(|error| error.is_deadline()));
    /// # }
    /// ```
    pub fn builder() -> ScopeBuilder {
        ScopeBuilder::new()
    }

    /// Spawns a child. When the scope is cancelled, the future is dropped at its next await.
    ///
    /// # Errors
    /// [`ScopeClosedError`] with the future, if the scope has ended.
    #[track_caller]
    pub fn spawn<F>(&self, name: impl Into<Name>, future: F) -> Result<Task<F::Output>, ScopeClosedError<F>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.start_child(Spec::new(name.into(), Location::caller(), Class::Work, Stop::Drop), future)
    }

    /// Spawns a child that works for many callers.
    #[cfg(feature = "event")]
    #[track_caller]
    pub(crate) fn spawn_for_many<F>(
        &self,
        name: Name,
        future: F,
    ) -> Result<Task<F::Output>, ScopeClosedError<F>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let spec = Spec::new(name, Location::caller(), Class::Work, Stop::Drop);
        self.start_child(spec.in_span_of_scope(), future)
    }

    /// Spawns a service: a child that the scope cancels when the body and all other children have ended. The scope does not
    /// wait for a service to end by itself.
    ///
    /// # Errors
    /// [`ScopeClosedError`] with the future, if the scope has ended.
    #[track_caller]
    pub fn service<F>(&self, name: impl Into<Name>, future: F) -> Result<Task<F::Output>, ScopeClosedError<F>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.start_child(Spec::new(name.into(), Location::caller(), Class::Service, Stop::Drop), future)
    }

    #[track_caller]
    fn start_child<F>(&self, spec: Spec, future: F) -> Result<Task<F::Output>, ScopeClosedError<F>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let name = spec.name.clone();
        match launch::<_, Plain>(&self.0, spec, future) {
            Ok(join) => Ok(Task::new(join, name, None, &self.0)),
            Err(future) => Err(ScopeClosedError::new(&self.0.name, future)),
        }
    }

    /// Cancels the scope: its body and children at once, its services when these have ended. If the scope is already
    /// cancelled, the first reason is kept.
    #[allow(clippy::needless_pass_by_value, reason = "callers make the reason in place")]
    pub fn cancel(&self, reason: Reason) {
        self.0.raise(Level::Work, &reason);
    }

    /// Returns `true` if the scope is cancelled, or if its work is done and its services are being cancelled. The cost is
    /// one relaxed load.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.reached(Level::Work)
    }

    /// The reason of the cancellation; `None` if there is none, also after a normal end. A success under
    /// [`Policy::FirstOk`](super::Policy::FirstOk) is a reason as well, although it does not cancel the body.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        self.0.reason()
    }

    /// A token that is cancelled with the body of the scope, or when the work of the scope is done.
    #[must_use]
    pub fn token(&self) -> CancelToken {
        self.0.token().clone()
    }

    /// The deadline: the earliest of this scope and of all enclosing scopes.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.0.deadline
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.name.as_str()
    }

    /// Returns `true` if the scope has ended and refuses children.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.gate.is_closed()
    }

    /// The counts of releases of resources, in this scope and all nested scopes.
    #[must_use]
    pub fn release_counts(&self) -> ReleaseCounts {
        self.0.releases.read()
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope")
            .field("name", &self.0.name)
            .field("site", &format_args!("{}", self.0.site))
            .field("children", &self.0.gate.count(Class::Work))
            .field("services", &self.0.gate.count(Class::Service))
            .field("reason", &self.reason())
            .finish_non_exhaustive()
    }
}
