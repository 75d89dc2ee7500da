use std::error::Error;
use std::fmt;
use std::panic::Location;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::task::outcome::IntoResult;
use crate::task::{CancelToken, Name};

/// The condition under which a supervisor restarts a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// Always: returning is a failure as well.
    Permanent,
    /// After a failure: an error or a panic.
    Transient,
    /// Never: the failure is recorded, and the supervisor continues.
    Temporary,
}

/// The output of a child.
pub(super) type Ended = Result<(), Box<dyn Error + Send + Sync>>;

pub(super) type ChildFuture = Pin<Box<dyn Future<Output = Ended> + Send>>;

/// Creates the future of the child, for its start and every restart.
pub(super) type Factory = Box<dyn FnMut(ChildContext) -> ChildFuture + Send>;

/// A child of a supervisor that reports when it is ready, and sees when it has to stop.
///
/// # When to use
/// When other children need this one, or when it has to end tidily. A plain loop is shorter with
/// [`Supervisor::child`](super::Supervisor::child).
///
/// # Defaults
/// A stop timeout of 5 s, after the default of OTP.
#[must_use = "a child is started by the supervisor it is added to"]
pub struct Child {
    pub(super) name: Name,
    pub(super) site: &'static Location<'static>,
    pub(super) restart: Restart,
    pub(super) stop: ChildStop,
    pub(super) factory: Factory,
}

/// How a child is stopped, which also determines how it becomes ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChildStop {
    /// The child has no context: it is ready at once, and dropped at its next await.
    Drop,
    /// The token of the child is cancelled, and the child is dropped after this time.
    Cooperative(Duration),
}

impl Child {
    /// Describes a child: `child` is called for its start and every restart.
    ///
    /// # Examples
    /// ```
    /// use motet::task::{Child, Restart};
    ///
    /// let child = Child::new("ticker", Restart::Permanent, async |cx| {
    ///     cx.ready();
    ///     while !cx.token().is_cancelled() {
    ///         tokio::task::yield_now().await;
    ///     }
    /// });
    /// # drop(child);
    /// ```
    #[track_caller]
    pub fn new<F, Fut>(name: impl Into<Name>, restart: Restart, mut child: F) -> Self
    where
        F: FnMut(ChildContext) -> Fut + Send + 'static,
        Fut: Future<Output: IntoResult> + Send + 'static,
    {
        Self {
            name: name.into(),
            site: Location::caller(),
            restart,
            stop: ChildStop::Cooperative(Duration::from_secs(5)),
            factory: Box::new(move |cx| {
                let future = child(cx);
                Box::pin(async { future.await.into_result() })
            }),
        }
    }

    #[track_caller]
    pub(super) fn plain<F, Fut>(name: Name, restart: Restart, mut child: F) -> Self
    where
        F: FnMut() -> Fut + Send + 'static,
        Fut: Future<Output: IntoResult> + Send + 'static,
    {
        Self { stop: ChildStop::Drop, ..Self::new(name, restart, move |_| child()) }
    }

    /// Sets the time from the cancellation after which the child is dropped. With zero, it is dropped at its next await; with
    /// [`Duration::MAX`], never.
    pub fn stop_timeout(mut self, timeout: Duration) -> Self {
        self.stop = ChildStop::Cooperative(timeout);
        self
    }
}

impl fmt::Debug for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Child")
            .field("name", &self.name)
            .field("restart", &self.restart)
            .field("stop", &self.stop)
            .finish_non_exhaustive()
    }
}

/// The context of a child of a supervisor: reports readiness, and has the token of the stop. Each start has a new one.
#[derive(Clone)]
pub struct ChildContext {
    token: CancelToken,
    ready: Arc<Mutex<Option<oneshot::Sender<()>>>>,
}

impl ChildContext {
    pub(super) fn new(token: CancelToken) -> (Self, oneshot::Receiver<()>) {
        let (sender, receiver) = oneshot::channel();
        (Self { token, ready: Arc::new(Mutex::new(Some(sender))) }, receiver)
    }

    /// Reports that the child is ready, so that the supervisor starts the next child. Further calls have no effect.
    pub fn ready(&self) {
        let sender = self.ready.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(sender) = sender {
            // The supervisor may be gone, and not wait any more.
            let _ = sender.send(());
        }
    }

    /// The token that is cancelled when the child has to stop.
    #[must_use]
    pub fn token(&self) -> &CancelToken {
        &self.token
    }
}

impl fmt::Debug for ChildContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildContext").field("token", &self.token).finish_non_exhaustive()
    }
}
