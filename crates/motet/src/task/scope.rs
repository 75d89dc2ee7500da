use std::fmt;
use std::panic::Location;
use std::sync::Arc;

use tokio::time::Instant;

use super::child::{Plain, Spec, Stop, launch};
use super::core::{Core, Level};
use super::finalizer::ReleaseCounts;
use super::gate::Class;
use super::{CancelToken, Name, Reason, ScopeBuilder, ScopeClosedError, Task};

/// A handle to a scope: cheap to clone, of one type whatever the scope's error is.
///
/// What starts a task takes `&Scope`. In the body a [`Nursery`](super::Nursery) stands for it, which cannot be
/// refused; a handle can outlive its scope, so what it starts can come back: [`ScopeClosedError`].
#[derive(Clone)]
pub struct Scope(pub(crate) Arc<Core>);

impl Scope {
    /// Sets up a scope with a deadline, a policy, a name.
    ///
    /// # Examples
    /// ```
    /// use motet::task::{Nursery, Scope};
    /// use std::time::Duration;
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
    /// let late = Scope::builder()
    ///     .name("lookup")
    ///     .timeout(Duration::from_secs(1))
    ///     .run(async |n: &Nursery| Ok(std::future::pending::<()>().await))
    ///     .await;
    /// assert!(late.unwrap_err().is_deadline());
    /// # });
    /// ```
    pub fn builder() -> ScopeBuilder {
        ScopeBuilder::new()
    }

    /// Starts a child. When the scope is cancelled, its future is dropped at its next await.
    ///
    /// # Errors
    /// [`ScopeClosedError`] with the future, if the scope has ended.
    #[track_caller]
    pub fn spawn<F>(&self, name: impl Into<Name>, future: F) -> Result<Task<F::Output>, ScopeClosedError<F>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.start_child(name.into(), Class::Work, future)
    }

    /// Starts a service: a child that is cancelled last, when the body and all other children have ended. The
    /// scope does not wait for it to end by itself.
    ///
    /// # Errors
    /// [`ScopeClosedError`] with the future, if the scope has ended.
    #[track_caller]
    pub fn service<F>(&self, name: impl Into<Name>, future: F) -> Result<Task<F::Output>, ScopeClosedError<F>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.start_child(name.into(), Class::Service, future)
    }

    #[track_caller]
    fn start_child<F>(
        &self,
        name: Name,
        class: Class,
        future: F,
    ) -> Result<Task<F::Output>, ScopeClosedError<F>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let spec = Spec::new(name.clone(), Location::caller(), class, Stop::Drop);
        match launch::<_, Plain>(&self.0, spec, future) {
            Ok(join) => Ok(Task::new(join, name, None)),
            Err(future) => Err(ScopeClosedError(future)),
        }
    }

    /// Cancels the scope: its body and children now, its services when those have ended. A reason that came
    /// before is kept.
    #[allow(clippy::needless_pass_by_value, reason = "callers make the reason in place")]
    pub fn cancel(&self, reason: Reason) {
        self.0.raise(Level::Work, &reason);
    }

    /// Asks whether the scope is cancelled: one relaxed load.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.reached(Level::Work)
    }

    /// Gives the reason, once the scope is cancelled.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        self.0.reason()
    }

    /// Gives a token that is cancelled with the scope.
    #[must_use]
    pub fn token(&self) -> CancelToken {
        self.0.token().clone()
    }

    /// Gives the deadline: the earliest of the scope's own and those around it.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.0.deadline
    }

    /// Gives the name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.name.as_str()
    }

    /// Asks whether the scope has ended and takes no more children.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.gate.is_closed()
    }

    /// Counts the releases of resources, in this scope and all below it.
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
