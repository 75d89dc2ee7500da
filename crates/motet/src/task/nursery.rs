use std::convert::Infallible;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::panic::Location;
use std::sync::Arc;

use super::child::{Fallible, Plain, Sink, Spec, Stop, launch};
use super::coop::cooperative;
use super::core::Core;
use super::failure::Failure;
use super::outcome::IntoResult;
use super::start::{self, Ready, Starter};
use super::{CancelToken, Name, Scope, Task, TaskError};
use crate::resource::Exit;
use crate::sim::Site;
use crate::sync::Class;

/// Starts the children of a scope, in the body of that scope.
///
/// `E` is the error type of the scope. `&Nursery` without a type is the nursery of a scope in which no child can fail.
///
/// A nursery dereferences to [`Scope`], the handle that functions take and tasks keep. A scope is open while its body runs,
/// so a nursery never refuses a child.
///
/// The [module](super#starting-a-child) has a table of the methods that start a child.
pub struct Nursery<E = Infallible> {
    scope: Scope,
    error: PhantomData<fn(E)>,
}

impl<E: Send + 'static> Nursery<E> {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { scope: Scope(core), error: PhantomData }
    }

    /// Spawns a child. When the scope is cancelled, the future is dropped at its next await.
    ///
    /// The scope takes the output as a value, even if it is an `Err`. To cancel the siblings on an error, use
    /// [`try_spawn`](Self::try_spawn).
    ///
    /// The task runs in the `tracing` span that is current where it is spawned: see `docs/guide/logs-and-spans.md`. For messages
    /// of the compiler, as that the future is not `Send`, see `docs/guide/when-the-compiler-says.md`.
    #[track_caller]
    pub fn spawn<F>(&self, name: impl Into<Name>, future: F) -> Task<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.launch::<_, _, _, Plain>(name.into(), Class::Work, None, future)
    }

    /// Spawns a child whose error goes to the scope, which acts on it by its [`Policy`](super::Policy).
    #[track_caller]
    pub fn try_spawn<F, T>(&self, name: impl Into<Name>, future: F) -> Task<T, E>
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
    {
        self.launch::<_, _, _, Fallible<E>>(name.into(), Class::Work, None, future)
    }

    /// Spawns a cooperative child: it sees the cancellation and its reason through the token, and has the scope's grace
    /// period to end. After that it is dropped.
    ///
    /// # Examples
    /// ```
    /// use motet::task::{CancelToken, Nursery, Reason, scope};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// scope(async |n: &Nursery<_>| {
    ///     let flush = n.spawn_coop("flush", async |token: CancelToken| {
    ///         let reason = token.cancelled().await;
    ///         format!("flushed: {reason}")
    ///     });
    ///     flush.cancel(Reason::requested("end of the example"));
    ///     assert_eq!(flush.await?, "flushed: cancelled on request: end of the example");
    ///     Ok::<_, motet::task::TaskError>(())
    /// })
    /// .await?;
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn spawn_coop<F, Fut>(&self, name: impl Into<Name>, task: F) -> Task<Fut::Output>
    where
        F: FnOnce(CancelToken) -> Fut,
        Fut: Future + Send + 'static,
        Fut::Output: Send + 'static,
    {
        self.launch_coop(name.into(), Class::Work, task)
    }

    /// Spawns a service: a child that the scope cancels when the body and all other children have ended. The scope does not
    /// wait for a service to end by itself. A service runs in the `tracing` span in which the scope was opened.
    #[track_caller]
    pub fn service<F>(&self, name: impl Into<Name>, future: F) -> Task<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.launch::<_, _, _, Plain>(name.into(), Class::Service, None, future)
    }

    /// Spawns a service whose error goes to the scope, which acts on it by its [`Policy`](super::Policy).
    #[track_caller]
    pub fn try_service<F, T>(&self, name: impl Into<Name>, future: F) -> Task<T, E>
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
    {
        self.launch::<_, _, _, Fallible<E>>(name.into(), Class::Service, None, future)
    }

    /// Spawns a cooperative service: it sees its cancellation through the token, and has the scope's grace period to end.
    #[track_caller]
    pub fn service_coop<F, Fut>(&self, name: impl Into<Name>, service: F) -> Task<Fut::Output>
    where
        F: FnOnce(CancelToken) -> Fut,
        Fut: Future + Send + 'static,
        Fut::Output: Send + 'static,
    {
        self.launch_coop(name.into(), Class::Service, service)
    }

    /// Spawns a child and waits until it is ready. Returns the value that the child sends through [`Ready`].
    ///
    /// Once it is ready, the task is a child like any other.
    ///
    /// # Cancel safety
    /// Dropping the future does not stop the child. The value that it sends is dropped.
    ///
    /// # Errors
    /// [`TaskError`]: the child ended before it was ready. The scope does not act on an error that is returned here.
    ///
    /// # Examples
    /// ```
    /// use motet::task::{Nursery, Reason, scope};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let port = scope(async |n: &Nursery| {
    ///     let started = n.start("server", async |ready| {
    ///         ready.send(8080);
    ///         std::future::pending().await
    ///     });
    ///     let port = started.await.unwrap_or(0);
    ///     n.cancel(Reason::requested("end of the example"));
    ///     Ok(port)
    /// })
    /// .await?;
    /// assert_eq!(port, 8080);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn start<N, F, Fut, R>(
        &self,
        name: N,
        task: F,
    ) -> impl Future<Output = Result<R, TaskError<E>>> + use<E, N, F, Fut, R>
    where
        N: Into<Name>,
        F: FnOnce(Ready<R, E>) -> Fut,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        R: Send + 'static,
    {
        let name = name.into();
        let site = Site::named("task", "wait for its start", || Some(name.to_string()));
        let (ready, starting) = start::handshake();
        let answer = ready.answer();
        let child = start::answering(answer, task(ready));
        let task = self.launch::<_, _, _, Starter<E>>(name.clone(), Class::Work, None, child);
        site.of(starting.ready(name, task))
    }

    /// Runs a closure that blocks, on a thread for such closures. See [`Scope::blocking`].
    #[track_caller]
    pub fn blocking<F, T>(&self, name: impl Into<Name>, closure: F) -> Task<T>
    where
        F: FnOnce(&CancelToken) -> T + Send + 'static,
        T: Send + 'static,
    {
        open(self.scope.blocking(name, closure))
    }

    /// Registers a cleanup for the end of the scope. See [`Scope::defer`].
    #[track_caller]
    pub fn defer<C, Fut>(&self, name: impl Into<Name>, cleanup: C)
    where
        C: FnOnce(Exit) -> Fut + Send + 'static,
        Fut: Future<Output: IntoResult> + Send + 'static,
    {
        open(self.scope.defer(name, cleanup));
    }

    #[track_caller]
    fn launch_coop<F, Fut>(&self, name: Name, class: Class, task: F) -> Task<Fut::Output>
    where
        F: FnOnce(CancelToken) -> Fut,
        Fut: Future + Send + 'static,
        Fut::Output: Send + 'static,
    {
        let token = CancelToken::new();
        let future = cooperative(name.clone(), token.clone(), self.scope.0.grace, task(token.clone()));
        self.launch::<_, _, _, super::coop::Cooperative>(name, class, Some(token), future)
    }

    #[track_caller]
    pub(crate) fn launch<F, T, X, S>(
        &self,
        name: Name,
        class: Class,
        token: Option<CancelToken>,
        future: F,
    ) -> Task<T, X>
    where
        F: Future + Send + 'static,
        S: Sink<F::Output, Out = Result<T, Failure<X>>> + 'static,
        T: Send + 'static,
        X: Send + 'static,
    {
        self.launch_at::<F, T, X, S>(name, class, token, Location::caller(), future)
    }

    /// Spawns a child on behalf of code at `site`.
    pub(crate) fn launch_at<F, T, X, S>(
        &self,
        name: Name,
        class: Class,
        token: Option<CancelToken>,
        site: &'static Location<'static>,
        future: F,
    ) -> Task<T, X>
    where
        F: Future + Send + 'static,
        S: Sink<F::Output, Out = Result<T, Failure<X>>> + 'static,
        T: Send + 'static,
        X: Send + 'static,
    {
        let spec = match &token {
            Some(token) => Spec::cooperative(name.clone(), site, class, token.clone()),
            None => Spec::new(name.clone(), site, class, Stop::Drop),
        };
        Task::new(open(launch::<F, S>(&self.scope.0, spec, future)), name, token, &self.scope.0)
    }
}

/// Unwraps the result of a method that only a closed scope refuses: the scope of a nursery is open.
fn open<T, Refused>(taken: Result<T, Refused>) -> T {
    match taken {
        Ok(taken) => taken,
        Err(_) => unreachable!("a scope does not close while its body runs"),
    }
}

impl<E> Deref for Nursery<E> {
    type Target = Scope;

    fn deref(&self) -> &Scope {
        &self.scope
    }
}

impl<E> fmt::Debug for Nursery<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.scope.fmt(f)
    }
}
