use std::fmt;
use std::future::poll_fn;
use std::panic::{Location, resume_unwind};
use std::pin::Pin;
use std::time::Duration;

use tokio::task::coop::consume_budget;

use super::lifecycle::{Lifecycle, Settings};
use super::pending_release::OnLost;
use super::{Exit, ResourceError};
use crate::task::Name;
use crate::task::caught::Caught;
use crate::task::end::adopt;
use crate::task::finalizer::RELEASE_TIMEOUT;
use crate::task::outcome::IntoResult;
use crate::{mutant, sim};

/// Describes a resource by how it is opened.
///
/// `opening` continues in a task if its caller is dropped, so it is `Send + 'static`.
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
    /// Opens the resource, uses it, and releases it, in the task of the caller. In a scope it allocates once.
    ///
    /// # Cancel safety
    /// Safe: whenever the future is dropped, a task of the enclosing scope releases the resource, with [`Exit::Cancelled`],
    /// or continues a release that has begun. A resource that is being opened has the release timeout left to become open,
    /// and is then released. A future that is dropped before its first poll, or where it gives way to other tasks before `opening` is
    /// polled, opens nothing.
    ///
    /// # Errors
    /// [`ResourceError`]: opening, using or releasing the resource failed.
    ///
    /// # Panics
    /// Rethrows a panic of `using`, after the release. A panic while opening is a panic of a task of the scope around:
    /// that scope ends with it. Panics outside of a runtime.
    #[track_caller]
    pub fn with<T, F>(self, using: F) -> impl Future<Output = Result<T, ResourceError<E>>>
    where
        F: AsyncFnOnce(&mut R) -> Result<T, E>,
    {
        sim::around("resource", "use", async move {
            // Nothing else waits if `opening` and the release are ready, and a loop of such uses must not keep its thread.
            consume_budget().await;
            let Self { opening, name, site, close, limit, on_lost } = self;
            let settings = Settings { close, on_lost, name, site, limit };
            let mut held = Held(Some(Box::pin(Lifecycle::new(opening, settings))));
            poll_fn(|cx| held.lifecycle().poll_open(cx)).await?;
            let resource = held.lifecycle().resource();
            // Within a future, so that a panic of a closure that returns a future is caught as well.
            let ended = Caught::new(async { using(resource).await }).await;
            let mut exit = match &ended {
                Ok(Ok(_)) => Exit::Ok,
                Ok(Err(_)) => Exit::Err,
                Err(_) => Exit::Panic,
            };
            if mutant!("resource.always_commit") {
                exit = Exit::Ok;
            }
            let released = held.lifecycle().release(exit).await;
            match (ended, released) {
                (Err(payload), _) => resume_unwind(payload),
                (Ok(Err(error)), released) => Err(ResourceError::Use { error, release: released.err() }),
                (Ok(Ok(_)), Err(failed)) => Err(ResourceError::Release(failed)),
                (Ok(Ok(value)), Ok(())) => Ok(value),
            }
        })
    }
}

/// The life of a resource, in one allocation.
type BoxedLifecycle<O, R, C, Fut> = Pin<Box<Lifecycle<O, R, C, Fut>>>;

/// A resource that is polled by its caller.
///
/// # Drop
/// Passes a resource whose release has not ended to a task of the enclosing scope.
struct Held<O, R, E, C, Fut>(Option<BoxedLifecycle<O, R, C, Fut>>)
where
    O: Future<Output = Result<R, E>> + Send + 'static,
    R: Send + 'static,
    E: Send + 'static,
    C: FnOnce(R, Exit) -> Fut + Send + 'static,
    Fut: Future<Output: IntoResult> + Send + 'static;

impl<O, R, E, C, Fut> Held<O, R, E, C, Fut>
where
    O: Future<Output = Result<R, E>> + Send + 'static,
    R: Send + 'static,
    E: Send + 'static,
    C: FnOnce(R, Exit) -> Fut + Send + 'static,
    Fut: Future<Output: IntoResult> + Send + 'static,
{
    fn lifecycle(&mut self) -> Pin<&mut Lifecycle<O, R, C, Fut>> {
        self.0.as_mut().expect("only the drop takes it").as_mut()
    }
}

impl<O, R, E, C, Fut> Drop for Held<O, R, E, C, Fut>
where
    O: Future<Output = Result<R, E>> + Send + 'static,
    R: Send + 'static,
    E: Send + 'static,
    C: FnOnce(R, Exit) -> Fut + Send + 'static,
    Fut: Future<Output: IntoResult> + Send + 'static,
{
    fn drop(&mut self) {
        let Some(mut lifecycle) = self.0.take().filter(|lifecycle| !lifecycle.has_ended()) else { return };
        let (scope, name, site) = lifecycle.as_mut().task();
        drop(adopt(&scope, &name, site, async move { lifecycle.as_mut().finish().await }));
    }
}

impl<O, R, C> fmt::Debug for Resource<O, R, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resource").field("name", &self.name).finish_non_exhaustive()
    }
}
