use std::any::Any;
use std::num::NonZeroUsize;
use std::panic::{Location, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

use super::ambient;
use super::blocking::BlockingPool;
use super::body::{Body, Ended};
use super::cause::{AnyError, FindCause, printed};
use super::core::{BodyEnd, Core, Level, Settings};
use super::end::{abandon, finish, list, unlist};
use super::finalizer::RELEASE_TIMEOUT;
use super::span::TaskSpan;
use super::{ChildError, Name, Nursery, Reason, ReasonKind, ScopeError, root};
use crate::sim::Site;
use crate::{mutant, sim};

/// Opens a scope: runs `body`, and returns when the body, all children, services and cleanups have ended.
///
/// The body starts children through its [`Nursery`]. A scope that is opened in a task of another scope is a child of that
/// scope.
///
/// `E` is the error of the body and the children: an error type, a boxed error, `anyhow::Error`, a text or a number. It is
/// written in the type of the closure's argument. `docs/guide/when-the-compiler-says.md` explains the messages of the compiler
/// about a scope.
///
/// # When to use
/// For tasks that run concurrently. To set a timeout or a policy, use [`Scope::builder`](super::Scope::builder); to wait for
/// a few futures in the calling task, [`gather`](super::gather()); to borrow from the stack,
/// [`local_scope`](super::local_scope).
///
/// # Drop
/// The children are cancelled at once and handed to the enclosing scope, which waits for them and for the releases of
/// resources. Without an enclosing scope, [`drain`](super::drain) waits for them. A scope that is leaked (`mem::forget`) is
/// not cancelled, and no scope waits for its children.
///
/// # Cancel safety
/// Safe: see Drop. No task that was started is abandoned.
///
/// # Errors
/// [`ScopeError`]: the body or a child returned an error, the scope was cancelled or its deadline passed, or the release of
/// a resource failed.
///
/// # Panics
/// Rethrows the first panic of the body or a child when all tasks have ended; further panics are logged. Panics outside of a
/// tokio runtime. In a runtime without a timer, panics where the scope needs one: for its deadline, the grace period of a
/// child or the release of a resource.
///
/// # Examples
/// ```
/// use motet::task::{Nursery, TaskError, scope};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let sum = scope(async |n: &Nursery<TaskError>| {
///     let a = n.spawn("a", async { 1 });
///     let b = n.spawn("b", async { 2 });
///     Ok(a.await? + b.await?)
/// });
/// assert_eq!(sum.await?, 3);
/// # Ok(())
/// # }
/// ```
#[track_caller]
pub fn scope<T, E, F, K>(body: F) -> impl Future<Output = Result<T, ScopeError<E>>>
where
    F: AsyncFnOnce(&Nursery<E>) -> Result<T, E>,
    E: AnyError<K> + Send + 'static,
{
    ScopeBuilder::new().run(body)
}

/// The reaction of a scope to the error or success of a child.
///
/// A child that panics cancels its siblings under every policy except `Isolate`, and the scope rethrows the panic when all
/// tasks have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Policy {
    /// The first error cancels the body and all siblings. The scope returns it, together with later errors.
    #[default]
    FailFast,
    /// No error cancels a task. The scope returns all errors when all tasks have ended.
    CollectAll,
    /// The first fallible child that succeeds cancels its siblings, but not the body. The scope then ignores the errors of
    /// its children, but not an error of the body.
    FirstOk,
    /// Errors and panics belong to the task: its [`Task`](super::Task) returns them, and the scope does not. Without panics,
    /// [`gather`](super::gather()) of futures that return `Result`s does the same in one task.
    Isolate,
}

/// Sets the options of a scope, and opens it with [`run`](Self::run).
///
/// # Defaults
/// The name `scope`; no deadline; a grace period of 1 s, which is long enough to answer a request in flight and short enough
/// for an operator; 5 s for each release; [`Policy::FailFast`]; no ages of tasks, unless an enclosing scope keeps them; the
/// limit of blocking closures of the enclosing scope, or [`BLOCKING_LIMIT`](super::BLOCKING_LIMIT) if no enclosing scope
/// sets one.
#[derive(Debug, Clone)]
#[must_use = "a scope is opened by `run`"]
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
    find_cause: Option<Arc<dyn Any + Send + Sync>>,
    has_task_spans: bool,
}

/// A closure whose future is `Send`: the bound of generic code that runs a scope in a task.
///
/// It is implemented for every such closure; see [`ScopeBuilder::run_send`].
pub trait SendBody<A, R>: FnOnce(A) -> Self::Future {
    /// The future that the closure returns.
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
            find_cause: None,
            has_task_spans: false,
        }
    }

    /// Sets the name in snapshots, reports and logs.
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

    /// Sets the grace period: the time from the cancellation after which cooperative children are dropped. With zero, they
    /// are dropped at their next await; with [`Duration::MAX`], never.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Sets the timeout of each release of a resource, after which the release is dropped and reported. With zero, it is
    /// dropped at its first await; with [`Duration::MAX`], never.
    pub fn release_timeout(mut self, timeout: Duration) -> Self {
        self.release_timeout = timeout;
        self
    }

    /// Sets the policy: how the scope reacts to the error or the success of a child.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Records the age of every task in this scope and its nested scopes, for snapshots. Each task then costs a read of the
    /// clock.
    pub fn keep_ages(mut self) -> Self {
        self.keeps_ages = true;
        self
    }

    /// Runs each child of this scope and its nested scopes in a `tracing` span of its own: a span `task` of the level INFO,
    /// whose field `task` is the name of the child. Its parent is the span in which the child runs otherwise: for a child,
    /// the span that is current where it is started; for a service, the span in which the scope was opened.
    ///
    /// Without a subscriber it costs nothing; with one, each child costs a span.
    pub fn task_spans(mut self) -> Self {
        self.has_task_spans = true;
        self
    }

    /// Sets how many closures of this scope and its nested scopes may block at a time: see
    /// [`Scope::blocking`](super::Scope::blocking). Other scopes do not share this limit. Unless configured otherwise, a
    /// tokio runtime has at most 512 threads for closures that block.
    pub fn blocking_limit(mut self, limit: NonZeroUsize) -> Self {
        self.blocking_limit = Some(limit);
        self
    }

    /// Ignores the deadline of the enclosing scope. For a body that is notified of its end, and orders its own shutdown.
    pub(crate) fn shielded(mut self) -> Self {
        self.shielded = true;
        self
    }

    /// Sets the site of the code on whose behalf the scope is opened.
    pub(crate) fn at(mut self, site: &'static Location<'static>) -> Self {
        self.site = Some(site);
        self
    }

    /// Opens the scope and runs `body` in it. See [`scope()`].
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
    pub fn run<T, E, F, K>(self, body: F) -> impl Future<Output = Result<T, ScopeError<E>>>
    where
        F: AsyncFnOnce(&Nursery<E>) -> Result<T, E>,
        E: AnyError<K> + Send + 'static,
    {
        self.run_finding(E::cause, body)
    }

    /// Opens the scope like [`run`](Self::run), in code that does not know what kind of error `E` is.
    #[track_caller]
    pub(crate) fn run_finding<T, E, F>(
        self,
        find_cause: FindCause<E>,
        body: F,
    ) -> impl Future<Output = Result<T, ScopeError<E>>>
    where
        F: AsyncFnOnce(&Nursery<E>) -> Result<T, E>,
        E: Send + 'static,
    {
        // Not `unwrap_or_else(Location::caller)`: that returns a line of the standard library.
        let site = match self.site {
            Some(site) => site,
            None => Location::caller(),
        };
        let here = Site::located("scope", "run", || Some(self.name.to_string()), site).around();
        here.of(async move {
            let open = self.isolating(find_cause).open(site);
            let nursery = Nursery::new(Arc::clone(open.core()));
            // Ends before `open` is dropped, also when this future is.
            let ended = Body::new(body(&nursery), open.core()).await;
            open.settle(ended, find_cause).await
        })
    }

    /// Opens the scope like [`run`](Self::run), for generic code that requires a `Send` future.
    ///
    /// Rust cannot express yet that the future of an `async` closure is `Send`. [`SendBody`] can, and every `async` closure
    /// with a `Send` future implements it. Where the closure is written in place, use `run`.
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
    pub fn run_send<T, E, F, K>(self, body: F) -> impl Future<Output = Result<T, ScopeError<E>>> + Send
    where
        F: for<'n> SendBody<&'n Nursery<E>, Result<T, E>> + Send,
        E: AnyError<K> + Send + 'static,
        T: Send,
    {
        // Not `unwrap_or_else(Location::caller)`: that returns a line of the standard library.
        let site = match self.site {
            Some(site) => site,
            None => Location::caller(),
        };
        let here = Site::located("scope", "run", || Some(self.name.to_string()), site).around();
        here.of(async move {
            let open = self.isolating(E::cause).open(site);
            let nursery = Nursery::new(Arc::clone(open.core()));
            let ended = Body::new(body(&nursery), open.core()).await;
            open.settle(ended, E::cause).await
        })
    }

    /// Keeps the function that finds causes where the scope needs it while it runs.
    fn isolating<E: 'static>(mut self, find_cause: FindCause<E>) -> Self {
        if self.policy == Policy::Isolate {
            self.find_cause = Some(Arc::new(find_cause));
        }
        self
    }

    pub(crate) fn open(self, site: &'static Location<'static>) -> Open {
        sim::op("scope.open");
        let runtime = Handle::current();
        let parent = ambient::current().unwrap_or_else(|| root::of(&runtime));
        let own = self.deadline.map(|deadline| match deadline {
            // A deadline that the clock cannot represent is no deadline.
            Deadline::After(after) => Instant::now().checked_add(after),
            Deadline::At(at) => Some(at),
        });
        let around = if self.shielded { None } else { parent.deadline };
        let own = own.flatten();
        let mut deadline = [own, around].into_iter().flatten().min();
        if mutant!("scope.own_deadline") {
            deadline = own.or(around);
        }
        let settings = Settings {
            name: self.name,
            site,
            policy: self.policy,
            grace: self.grace,
            release_timeout: self.release_timeout,
            deadline,
            keeps_ages: self.keeps_ages,
            blocking: self.blocking_limit.map(|limit| BlockingPool::new(limit.get())),
            find_cause: self.find_cause,
            span: TaskSpan::current(),
            has_task_spans: self.has_task_spans,
            is_opened_shielded: ambient::is_shielded(),
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

    async fn settle<T, E: Send + 'static>(
        self,
        ended: Ended<T, E>,
        find_cause: FindCause<E>,
    ) -> Result<T, ScopeError<E>> {
        let ended = note(self.core(), ended);
        let core = self.core();
        let name = || Some(core.name.to_string());
        Site::located("scope", "wait for its children", name, core.site).of(finish(core)).await;
        let core = self.closed();
        ended.outcome(&core, find_cause)
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

/// The end of the body, after its error or panic was recorded in the scope.
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
            state.failures.push(Box::new(ChildError::new(None, error)));
            drop(state);
            // Under `CollectAll` no error cancels a task, and neither does an error of the body.
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
    fn outcome<E: Send + 'static>(self, core: &Core, find_cause: FindCause<E>) -> Result<T, ScopeError<E>> {
        let mut state = core.state();
        let mut panics = std::mem::take(&mut state.panics).into_iter();
        let failures = std::mem::take(&mut state.failures);
        let release = std::mem::take(&mut state.release_failures);
        let unfinished = std::mem::take(&mut state.unfinished);
        let succeeded = state.succeeded;
        let reason = state.reason.clone();
        drop(state);
        let failures = failures.into_iter().filter_map(|failure| failure.downcast::<ChildError<E>>().ok());
        if let Some(first) = panics.next() {
            // Each panic was logged with the name of its task when it occurred.
            for failure in failures {
                let task = failure.task.as_ref().map(tracing::field::display);
                crate::log::warn!(scope = %core.name, task, error = printed(&find_cause(&failure.error)), "a task failed, and its scope rethrows a panic instead");
            }
            resume_unwind(first);
        }
        // After a success under `FirstOk`, errors of children are ignored. An error of the body is not.
        let mut failures = failures.filter(|failure| !succeeded || failure.task.is_none());
        if let Some(first) = failures.next() {
            let first = first.found_by(find_cause);
            // The body may be in the middle of a poll when a child fails, and return what its `await` of the child returns.
            let is_repeated = |failure: &ChildError<E>| {
                core.policy == Policy::FailFast
                    && failure.task.is_none()
                    && first.task.as_ref().is_some_and(|task| find_cause(&failure.error).is_failure_of(task))
            };
            let others = failures.filter(|failure| !is_repeated(failure));
            let others = others.map(|failure| failure.found_by(find_cause)).collect();
            return Err(ScopeError::Failed { first, others, release });
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
