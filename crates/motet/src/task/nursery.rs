use std::convert::Infallible;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::panic::Location;
use std::sync::Arc;

use super::child::{Fallible, Plain, Sink, Spec, Stop, launch};
use super::coop::cooperative;
use super::core::Core;
use super::gate::Class;
use super::outcome::IntoResult;
use super::start::{self, Ready, Starter};
use super::{CancelToken, Name, Scope, Task, TaskError};
use crate::resource::Exit;
use crate::sim::Site;

/// What the body of a scope starts children with.
///
/// `E` is the error of the scope; without one, `&Nursery` is a scope in which nothing fails.
///
/// It derefs to [`Scope`], the handle that functions take and tasks carry. Inside the body a scope is open, so
/// nothing started here is refused.
pub struct Nursery<E = Infallible> {
    scope: Scope,
    error: PhantomData<fn(E)>,
}

impl<E: Send + 'static> Nursery<E> {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { scope: Scope(core), error: PhantomData }
    }

    /// Starts a child. When the scope is cancelled, its future is dropped at its next await.
    ///
    /// What it returns is a value to the scope, also if it is an error: for one that cancels the siblings,
    /// [`try_spawn`](Self::try_spawn).
    #[track_caller]
    pub fn spawn<F>(&self, name: impl Into<Name>, future: F) -> Task<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.launch::<_, _, _, Plain>(name.into(), Class::Work, None, future)
    }

    /// Starts a child whose error goes to the scope, which acts by its [`Policy`](super::Policy).
    #[track_caller]
    pub fn try_spawn<F, T>(&self, name: impl Into<Name>, future: F) -> Task<T, E>
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
    {
        self.launch::<_, _, _, Fallible<E>>(name.into(), Class::Work, None, future)
    }

    /// Starts a child that sees the cancellation and its reason, and has the scope's grace to end by itself;
    /// then it is dropped.
    ///
    /// # Examples
    /// ```
    /// use motet::task::{CancelToken, Nursery, Reason, scope};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// scope(async |n: &Nursery| {
    ///     let last_words = n.spawn_coop("flush", async |cx: CancelToken| {
    ///         let reason = cx.cancelled().await;
    ///         format!("flushed, because {reason}")
    ///     });
    ///     last_words.cancel(Reason::requested("that is enough"));
    ///     assert_eq!(last_words.await.unwrap(), "flushed, because cancelled on request: that is enough");
    ///     Ok(())
    /// }).await.unwrap();
    /// # });
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

    /// Starts a service: a child that is cancelled last, when the body and all other children have ended. The
    /// scope does not wait for it to end by itself.
    #[track_caller]
    pub fn service<F>(&self, name: impl Into<Name>, future: F) -> Task<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.launch::<_, _, _, Plain>(name.into(), Class::Service, None, future)
    }

    /// Starts a service whose error goes to the scope.
    #[track_caller]
    pub fn try_service<F, T>(&self, name: impl Into<Name>, future: F) -> Task<T, E>
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
    {
        self.launch::<_, _, _, Fallible<E>>(name.into(), Class::Service, None, future)
    }

    /// Starts a service that sees its cancellation, and has the scope's grace to end by itself.
    #[track_caller]
    pub fn service_coop<F, Fut>(&self, name: impl Into<Name>, service: F) -> Task<Fut::Output>
    where
        F: FnOnce(CancelToken) -> Fut,
        Fut: Future + Send + 'static,
        Fut::Output: Send + 'static,
    {
        self.launch_coop(name.into(), Class::Service, service)
    }

    /// Starts a child, and waits until it says that it is ready.
    ///
    /// Gives what the child sent through [`Ready`]. From then on it is a child like any other.
    ///
    /// # Cancel safety
    /// The child goes on; whether it became ready is not heard.
    ///
    /// # Errors
    /// [`TaskError`]: the child ended before it was ready. The scope does not act on an error that is returned here.
    ///
    /// # Examples
    /// ```
    /// use motet::task::{Nursery, Reason, scope};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let port = scope(async |n: &Nursery| {
    ///     let port = n.start("server", async |ready| {
    ///         ready.send(8080);
    ///         std::future::pending().await
    ///     }).await.expect("the server starts");
    ///     n.cancel(Reason::requested("the example is over"));
    ///     Ok(port)
    /// });
    /// assert_eq!(port.await.unwrap(), 8080);
    /// # });
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

    /// Runs a closure that blocks, on a thread that may: see [`Scope::blocking`].
    #[track_caller]
    pub fn blocking<F, T>(&self, name: impl Into<Name>, closure: F) -> Task<T>
    where
        F: FnOnce(&CancelToken) -> T + Send + 'static,
        T: Send + 'static,
    {
        open(self.scope.blocking(name, closure))
    }

    /// Owes a cleanup to the end of the scope: see [`Scope::defer`].
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
        S: Sink<F::Output, Out = Result<T, TaskError<X>>> + 'static,
        T: Send + 'static,
        X: Send + 'static,
    {
        self.launch_at::<F, T, X, S>(name, class, token, Location::caller(), future)
    }

    /// Starts a child on behalf of code at `site`.
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
        S: Sink<F::Output, Out = Result<T, TaskError<X>>> + 'static,
        T: Send + 'static,
        X: Send + 'static,
    {
        let spec = match &token {
            Some(token) => Spec::told(name.clone(), site, class, token.clone()),
            None => Spec::new(name.clone(), site, class, Stop::Drop),
        };
        Task::new(open(launch::<F, S>(&self.scope.0, spec, future)), name, token)
    }
}

/// The scope is open while its body runs, and the nursery is the body's.
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
