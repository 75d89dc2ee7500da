use std::fmt;
use std::panic::{Location, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::acquired::Acquired;
use super::open::open;
use super::pending_release::{OnLost, PendingRelease, ResourceRelease, Slot};
use super::{Exit, ResourceError};
use crate::task::caught::Caught;
use crate::task::core::Core;
use crate::task::end::{self, adopt};
use crate::task::finalizer::{self, RELEASE_TIMEOUT};
use crate::task::outcome::IntoResult;
use crate::task::{Name, ReleaseError, TaskError, ambient, root};
use crate::{mutant, sim};

/// Describes a resource by how it is opened.
///
/// `opening` runs as a task of its own, so it is `Send + 'static`.
///
/// See [the module](super) for an example.
#[track_caller]
pub fn resource<O, R, E>(opening: O) -> Resource<O>
where
    O: Future<Output = Result<R, E>> + Send + 'static,
{
    Resource {
        opening,
        name: Name::from("resource"),
        site: Location::caller(),
        close: (),
        limit: RELEASE_TIMEOUT,
        on_lost: None,
    }
}

/// Describes a resource: how it is opened, and how it is released.
///
/// Created by [`resource()`]; [`release`](Self::release) sets how it is released, and [`with`](Self::with) uses it.
#[must_use = "a resource is opened by `with`"]
pub struct Resource<O, R = (), C = ()> {
    opening: O,
    name: Name,
    site: &'static Location<'static>,
    close: C,
    limit: Duration,
    on_lost: Option<OnLost<R>>,
}

impl<O> Resource<O> {
    /// Sets how the resource is released. `close` receives the resource and the [`Exit`] of its use.
    pub fn release<R, E, C, Fut>(self, close: C) -> Resource<O, R, C>
    where
        O: Future<Output = Result<R, E>>,
        C: FnOnce(R, Exit) -> Fut + Send + 'static,
        Fut: Future<Output: IntoResult> + Send + 'static,
    {
        let Self { opening, name, site, close: (), limit, on_lost: _ } = self;
        Resource { opening, name, site, close, limit, on_lost: None }
    }
}

impl<O, R, C> Resource<O, R, C> {
    /// Sets the name in reports and logs; `resource` unless set.
    pub fn name(mut self, name: impl Into<Name>) -> Self {
        self.name = name.into();
        self
    }

    /// Drops the release when it takes longer than this; 5 s unless set. With zero it is dropped where it first waits, with
    /// [`Duration::MAX`] never.
    pub fn release_timeout(mut self, timeout: Duration) -> Self {
        self.limit = timeout;
        self
    }

    /// Hands the resource to `on_lost` if its release cannot run, since the runtime is gone.
    pub fn on_lost(mut self, on_lost: impl FnOnce(R) + Send + 'static) -> Self {
        self.on_lost = Some(Box::new(on_lost));
        self
    }
}

impl<O, R, E, C, Fut> Resource<O, R, C>
where
    O: Future<Output = Result<R, E>> + Send + 'static,
    R: Send + 'static,
    E: Send + 'static,
    C: FnOnce(R, Exit) -> Fut + Send + 'static,
    Fut: Future<Output: IntoResult> + Send + 'static,
{
    /// Opens the resource, uses it, and releases it.
    ///
    /// # Cancel safety
    /// Safe: whenever the future is dropped, the enclosing scope releases the resource, with [`Exit::Cancelled`]. A resource
    /// that is being opened has the release timeout left to become open, and is then released.
    ///
    /// # Errors
    /// [`ResourceError`]: opening, using or releasing the resource failed.
    ///
    /// # Panics
    /// Rethrows a panic of `using`, after the release. A panic while opening is a panic of a task of the scope around:
    /// that scope ends with it.
    #[track_caller]
    pub fn with<T, F>(self, using: F) -> impl Future<Output = Result<T, ResourceError<E>>>
    where
        F: AsyncFnOnce(&mut R) -> Result<T, E>,
    {
        sim::around("resource", "use", async move {
            let host = ambient::current().unwrap_or_else(|| root::of(&Handle::current()));
            let (caller, opened) = oneshot::channel();
            let (name, site) = (self.name.clone(), self.site);
            drop(adopt(&host, &name, site, self.open(Arc::clone(&host), caller)));
            let (acquired, pending) = match opened.await {
                Ok(Ok(held)) => held,
                Ok(Err(error)) => return Err(ResourceError::Open(error)),
                Err(_) => return Err(ResourceError::OpenEnded),
            };
            let ended = {
                // Dropped before `pending` when this future is: then the release finds the resource in its place.
                let mut acquired = acquired;
                Caught::new(using(&mut acquired)).await
            };
            let mut exit = match &ended {
                Ok(Ok(_)) => Exit::Ok,
                Ok(Err(_)) => Exit::Err,
                Err(_) => Exit::Panic,
            };
            if mutant!("resource.always_commit") {
                exit = Exit::Ok;
            }
            let released = pending.release(exit).await;
            match (ended, released) {
                (Err(payload), _) => resume_unwind(payload),
                (Ok(Err(error)), released) => Err(ResourceError::Use { error, release: released.err() }),
                (Ok(Ok(_)), Err(failed)) => Err(ResourceError::Release(failed)),
                (Ok(Ok(value)), Ok(())) => Ok(value),
            }
        })
    }

    /// Opens the resource in a task, and hands it to the caller with its pending release.
    async fn open(self, host: Arc<Core>, mut caller: oneshot::Sender<Result<(Acquired<R>, Release), E>>) {
        let Self { opening, name, site, close, limit, on_lost } = self;
        let opened = match open(opening, &mut caller, limit).await {
            None => return,
            Some(Ok(resource)) => {
                let slot = Slot::new();
                let pending = ResourceRelease {
                    slot: Arc::clone(&slot),
                    core: Arc::clone(&host),
                    close: Some(close),
                    on_lost,
                };
                let release = Release { pending: Some(Box::new(pending)), host, name, site, limit };
                Ok((Acquired::new(resource, slot, None), release))
            }
            Some(Err(error)) => Err(error),
        };
        // If the caller is gone this drops the two, and that starts the release.
        drop(caller.send(opened));
    }
}

/// The pending release of a resource in use. Dropping it starts the release.
struct Release {
    pending: Option<Box<dyn PendingRelease>>,
    host: Arc<Core>,
    name: Name,
    site: &'static Location<'static>,
    limit: Duration,
}

impl Release {
    async fn release(mut self, exit: Exit) -> Result<(), ReleaseError> {
        match self.start(exit, |outcome| outcome) {
            Some(released) => finalizer::outcome(released, self.name.clone()).await,
            None => Ok(()),
        }
    }

    /// Starts the release, in the scope around; its outcome goes to `then`. `None` if it was started before.
    fn start<T, F>(&mut self, exit: Exit, then: F) -> Option<JoinHandle<Result<T, TaskError>>>
    where
        F: FnOnce(Result<(), ReleaseError>) -> T + Send + 'static,
        T: Send + 'static,
    {
        let pending = self.pending.take()?;
        if mutant!("resource.forget_release") {
            return None;
        }
        let (core, name, limit) = (Arc::clone(&self.host), self.name.clone(), self.limit);
        let release = async move { then(finalizer::run(&core, name, limit, pending, exit).await) };
        Some(adopt(&self.host, &self.name, self.site, release))
    }
}

impl Drop for Release {
    fn drop(&mut self) {
        drop(self.start(Exit::Cancelled, |outcome| {
            if let Err(failed) = outcome {
                // No caller waits for the release: the scope that adopted it reports the error.
                end::inherit(Vec::new(), vec![failed]);
            }
        }));
    }
}

impl<O, R, C> fmt::Debug for Resource<O, R, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resource").field("name", &self.name).finish_non_exhaustive()
    }
}
