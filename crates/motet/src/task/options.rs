use std::num::NonZeroUsize;
use std::panic::{Location, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

use super::ambient;
use super::blocking::BlockingPool;
use super::body::{Body, Ended};
use super::core::{BodyEnd, Core, Level, Settings};
use super::end::{abandon, finish, list, unlist};
use super::finalizer::RELEASE_TIMEOUT;
use super::{ChildError, Name, Nursery, Policy, Reason, ReasonKind, ScopeError, root};
use crate::sim::Site;
use crate::{mutant, sim};

/// Opens a scope: runs `body`, and returns when the body, all children, services and cleanups have ended.
///
/// A scope is a nursery, a cancel scope and a stack of resources in one. The body is handed a
/// [`Nursery`] to start children in. A scope that is opened in a task of another scope is a child of it.
///
/// # When to use
/// Whenever something has to run beside something else. For options (deadline, policy), [`Scope::builder`](super::Scope::builder).
/// To wait for a few futures in place, [`gather`](super::gather()). To borrow from the
/// stack, [`local_scope`](super::local_scope).
///
/// # Drop
/// Children are cancelled at once and handed to the scope around this one, which waits for them and for the
/// releases of resources; without one, [`drain`](super::drain) does. A scope that is leaked (`mem::forget`) is
/// not cancelled and has nobody who waits for it.
///
/// # Cancel safety
/// Safe: see Drop. Nothing that was started is left behind or forgotten.
///
/// # Errors
/// [`ScopeError`]: the body or a child returned an error, or the scope was cancelled.
///
/// # Panics
/// Rethrows the first panic of the body or a child when all have ended; the others are logged. Panics outside of a
/// tokio runtime. In a runtime without time, panics where the scope has to wait for time: for its deadline, the grace of
/// a child or a release of a resource.
///
/// # Examples
/// ```
/// use motet::task::{Nursery, scope};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let sum = scope(async |n: &Nursery| {
///     let a = n.spawn("a", async { 1 });
///     let b = n.spawn("b", async { 2 });
///     Ok(a.await.unwrap() + b.await.unwrap())
/// });
/// assert_eq!(sum.await.unwrap(), 3);
/// # });
/// ```
#[track_caller]
pub fn scope<T, E, F>(body: F) -> impl Future<Output = Result<T, ScopeError<E>>>
where
    F: AsyncFnOnce(&Nursery<E>) -> Result<T, E>,
    E: Send + 'static,
{
    ScopeBuilder::new().run(body)
}

/// Sets up a scope.
///
/// # Defaults
/// Named `scope`; no deadline; a grace of 1 s, long enough to answer a request in flight and short enough for a
/// stop by hand; 5 s for each release; [`Policy::FailFast`]; ages are kept only where a scope around keeps
/// them; closures that block have the places of the scope around, in the end [`BLOCKING_LIMIT`](super::BLOCKING_LIMIT)
/// for a runtime.
#[derive(Debug, Clone)]
#[must_use = "options do nothing until `run`"]
pub struct ScopeBuilder {
    name: Name,
    deadline: Option<Deadline>,
    grace: Duration,
    release_timeout: Duration,
    policy: Policy,
    keeps_ages: bool,
    shielded: bool,
    site: Option<&'static Location<'static>>,
    blocking_limit: Option<NonZeroUsize>,
}

/// A closure whose future is `Send`: what generic code asks for, to run a scope in a task.
///
/// Implemented for every such closure; see [`ScopeBuilder::run_send`]. The technique is lcnr's.
pub trait SendBody<A, R>: FnOnce(A) -> Self::Future {
    /// What the closure returns.
    type Future: Future<Output = R> + Send;
}

impl<F, Fut, A, R> SendBody<A, R> for F
where
    F: FnOnce(A) -> Fut,
    Fut: Future<Output = R> + Send,
{
    type Future = Fut;
}

#[derive(Debug, Clone, Copy)]
enum Deadline {
    After(Duration),
    At(Instant),
}

impl ScopeBuilder {
    pub(crate) fn new() -> Self {
        Self {
            name: Name::from("scope"),
            deadline: None,
            grace: Duration::from_secs(1),
            release_timeout: RELEASE_TIMEOUT,
            policy: Policy::default(),
            keeps_ages: false,
            shielded: false,
            site: None,
            blocking_limit: None,
        }
    }

    /// Names the scope in trees, reports and logs.
    pub fn name(mut self, name: impl Into<Name>) -> Self {
        self.name = name.into();
        self
    }

    /// Cancels the scope once `timeout` has passed since it was opened: with zero at once, with [`Duration::MAX`] never. An
    /// earlier deadline of an enclosing scope takes precedence.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.deadline = Some(Deadline::After(timeout));
        self
    }

    /// Cancels the scope at `deadline`. An earlier deadline of an enclosing scope takes precedence.
    pub fn deadline(mut self, deadline: Instant) -> Self {
        self.deadline = Some(Deadline::At(deadline));
        self
    }

    /// Gives cooperative children this long from the cancellation to their end; then they are dropped: with zero where
    /// they first wait, with [`Duration::MAX`] never.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Gives each release of a resource this long; then it is dropped and reported: with zero where it first waits, with
    /// [`Duration::MAX`] never.
    pub fn release_timeout(mut self, limit: Duration) -> Self {
        self.release_timeout = limit;
        self
    }

    /// Decides what a child's error does.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Keeps the age of every task in this scope and those below it: a look at the clock for each.
    pub fn keep_ages(mut self) -> Self {
        self.keeps_ages = true;
        self
    }

    /// Lets at most `limit` closures of this scope and those below it block at a time: see
    /// [`Scope::blocking`](super::Scope::blocking). They share no place with those of other scopes. Tokio has at most 512
    /// threads that block for a runtime, unless it is built with more.
    pub fn blocking_limit(mut self, limit: NonZeroUsize) -> Self {
        self.blocking_limit = Some(limit);
        self
    }

    /// Keeps the deadline of the scope around out. For a body that is told of it, and ends in an order of its own.
    pub(crate) fn shielded(mut self) -> Self {
        self.shielded = true;
        self
    }

    /// Opens the scope on behalf of code elsewhere.
    pub(crate) fn at(mut self, site: &'static Location<'static>) -> Self {
        self.site = Some(site);
        self
    }

    /// Opens the scope and runs `body` in it: see [`scope()`].
    ///
    /// # Cancel safety
    /// Safe: see [`scope()`].
    ///
    /// # Errors
    /// See [`scope()`].
    ///
    /// # Panics
    /// See [`scope()`].
    #[track_caller]
    pub fn run<T, E, F>(self, body: F) -> impl Future<Output = Result<T, ScopeError<E>>>
    where
        F: AsyncFnOnce(&Nursery<E>) -> Result<T, E>,
        E: Send + 'static,
    {
        // Not `unwrap_or_else(Location::caller)`: called from in there, it gives a line of the standard library.
        let site = match self.site {
            Some(site) => site,
            None => Location::caller(),
        };
        let here = Site::located("scope", "run", || Some(self.name.to_string()), site).around();
        here.of(async move {
            let open = self.open(site);
            let nursery = Nursery::new(Arc::clone(open.core()));
            // Ends before `open` is dropped, also when this future is.
            let ended = Body::new(body(&nursery), open.core()).await;
            open.settle(ended).await
        })
    }

    /// Does what [`run`](Self::run) does, for generic code that has to know that the future is `Send`.
    ///
    /// Rust cannot yet say so of an `async` closure's future; [`SendBody`] can, and every `async` closure whose
    /// future is `Send` is one. Use `run` wherever the closure is written in place.
    ///
    /// # Cancel safety
    /// Safe: see [`scope()`].
    ///
    /// # Errors
    /// See [`scope()`].
    ///
    /// # Panics
    /// See [`scope()`].
    #[track_caller]
    pub fn run_send<T, E, F>(self, body: F) -> impl Future<Output = Result<T, ScopeError<E>>> + Send
    where
        F: for<'n> SendBody<&'n Nursery<E>, Result<T, E>> + Send,
        E: Send + 'static,
        T: Send,
    {
        // Not `unwrap_or_else(Location::caller)`: called from in there, it gives a line of the standard library.
        let site = match self.site {
            Some(site) => site,
            None => Location::caller(),
        };
        let here = Site::located("scope", "run", || Some(self.name.to_string()), site).around();
        here.of(async move {
            let open = self.open(site);
            let nursery = Nursery::new(Arc::clone(open.core()));
            let ended = Body::new(body(&nursery), open.core()).await;
            open.settle(ended).await
        })
    }

    pub(crate) fn open(self, site: &'static Location<'static>) -> Open {
        sim::op("scope.open");
        let runtime = Handle::current();
        let parent = ambient::current().unwrap_or_else(|| root::of(&runtime));
        let own = self.deadline.map(|deadline| match deadline {
            // A deadline beyond the end of the clock is none.
            Deadline::After(after) => Instant::now().checked_add(after),
            Deadline::At(at) => Some(at),
        });
        let around = if self.shielded { None } else { parent.deadline };
        let deadline = match (own.flatten(), around) {
            (Some(own), Some(_)) if mutant!("scope.own_deadline") => Some(own),
            (Some(own), Some(around)) => Some(own.min(around)),
            (own, around) => own.or(around),
        };
        let settings = Settings {
            name: self.name,
            site,
            policy: self.policy,
            grace: self.grace,
            release_timeout: self.release_timeout,
            deadline,
            keeps_ages: self.keeps_ages,
            blocking: self.blocking_limit.map(|limit| BlockingPool::new(limit.get())),
        };
        let core = Arc::new(Core::new(settings, Some(parent), runtime));
        let place = list(&core);
        Open { core: Some(core), place }
    }
}

/// A scope that has not ended. Dropping it abandons the scope.
pub(crate) struct Open {
    core: Option<Arc<Core>>,
    place: Option<usize>,
}

impl Open {
    pub(crate) fn core(&self) -> &Arc<Core> {
        self.core.as_ref().expect("taken by `closed` alone, which consumes")
    }

    async fn settle<T, E: Send + 'static>(self, ended: Ended<T, E>) -> Result<T, ScopeError<E>> {
        let ended = note(self.core(), ended);
        let core = self.core();
        let name = || Some(core.name.to_string());
        Site::located("scope", "wait for its children", name, core.site).of(finish(core)).await;
        let core = self.closed();
        ended.outcome(&core)
    }

    pub(crate) fn closed(mut self) -> Arc<Core> {
        sim::op("scope.close");
        let core = self.core.take().expect("taken here alone");
        unlist(&core, self.place);
        core
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(core) = self.core.take() {
            abandon(core, self.place);
        }
    }
}

/// How the body ended, once the scope knows of errors and panics.
enum Noted<T> {
    Value(T),
    NoValue,
}

fn note<T, E: Send + 'static>(core: &Core, ended: Ended<T, E>) -> Noted<T> {
    match ended {
        Ended::Returned(Ok(value)) => {
            core.state().body = Some(BodyEnd::Value);
            return Noted::Value(value);
        }
        Ended::Returned(Err(error)) => {
            let mut state = core.state();
            state.body = Some(BodyEnd::Failed);
            state.failures.push(Box::new(ChildError { task: None, error }));
            drop(state);
            // Under this policy errors cancel nobody, the body's no more than a child's.
            if core.policy != Policy::CollectAll {
                core.raise(Level::Work, &Reason::of(ReasonKind::Failed));
            }
        }
        Ended::Panicked(payload) => core.body_panicked(payload),
        Ended::Stopped => core.state().body = Some(BodyEnd::Stopped),
    }
    Noted::NoValue
}

impl<T> Noted<T> {
    fn outcome<E: Send + 'static>(self, core: &Core) -> Result<T, ScopeError<E>> {
        let mut state = core.state();
        let mut panics = std::mem::take(&mut state.panics).into_iter();
        let failures = std::mem::take(&mut state.failures);
        let release = std::mem::take(&mut state.release_failures);
        let unfinished = std::mem::take(&mut state.unfinished);
        let succeeded = state.succeeded;
        let reason = state.reason.clone();
        drop(state);
        if let Some(first) = panics.next() {
            // Each has been logged with its name when it happened.
            resume_unwind(first);
        }
        let failures = failures.into_iter().filter_map(|failure| failure.downcast::<ChildError<E>>().ok());
        // Once one succeeded, the others may fail; the body may not.
        let mut failures = failures.filter(|failure| !succeeded || failure.task.is_none());
        if let Some(first) = failures.next() {
            let others = failures.map(|failure| *failure).collect();
            return Err(ScopeError::Failed { first: *first, others, release });
        }
        let deadline = reason.as_ref().is_some_and(|reason| reason.kind() == ReasonKind::Deadline);
        match self {
            _ if deadline => Err(ScopeError::DeadlineExceeded { unfinished, release }),
            Self::Value(value) if release.is_empty() => Ok(value),
            Self::Value(_) => Err(ScopeError::Release(release)),
            Self::NoValue => {
                let reason = reason.unwrap_or_else(|| Reason::of(ReasonKind::Requested));
                Err(ScopeError::Cancelled { reason, release })
            }
        }
    }
}
