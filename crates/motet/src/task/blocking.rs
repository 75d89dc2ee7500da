//! Blocking work, as children of a scope.

use std::cell::RefCell;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::thread;

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::ambient::{self, Inside, Shield};
use super::child::{Spec, launch};
use super::coop::Cooperative;
use super::core::Core;
use super::member::Member;
use super::span::TaskSpan;
use super::{CancelToken, Name, Reason, ReasonKind, Scope, ScopeClosedError, Task, TaskError};
use crate::sync::{Class, quietly_drop};

/// The number of closures that may block at a time in a runtime, unless a scope or the program sets its own limit. Tokio's
/// limit is 512 threads: their stacks can fill the memory of a small machine, and no disk serves 512 requests at once.
pub const BLOCKING_LIMIT: usize = 64;

/// The permits of closures that block.
#[derive(Clone)]
pub(crate) struct BlockingPool {
    places: Arc<Semaphore>,
    limit: usize,
    /// `true` if the closures are started by a blocking closure.
    nested: bool,
}

thread_local! {
    /// On a thread that runs a blocking closure: the pool of the closures that it starts, created by the first.
    static NESTED: RefCell<Option<Nested>> = const { RefCell::new(None) };
}

struct Nested {
    limit: usize,
    pool: Option<BlockingPool>,
}

impl BlockingPool {
    pub(crate) fn new(limit: usize) -> Self {
        let limit = limit.min(Semaphore::MAX_PERMITS);
        Self { places: Arc::new(Semaphore::new(limit)), limit, nested: false }
    }

    /// The pool for a closure that the current thread starts in a scope.
    ///
    /// A closure that a blocking closure starts must not wait for a permit of the same pool: closures that wait for others may
    /// hold all permits. It uses a pool that belongs to the closure that starts it.
    fn here(core: &Core) -> Self {
        let nested = NESTED.with_borrow_mut(|nested| {
            let Nested { limit, pool } = nested.as_mut()?;
            Some(pool.get_or_insert_with(|| Self { nested: true, ..Self::new(*limit) }).clone())
        });
        nested.unwrap_or_else(|| Self::of(core))
    }

    fn of(core: &Core) -> Self {
        match (&core.blocking, &core.parent) {
            (Some(pool), _) => pool.clone(),
            (None, Some(parent)) => Self::of(parent),
            (None, None) => unreachable!("the root has a pool"),
        }
    }
}

/// Marks the thread as one that runs a closure, until it is dropped.
struct Blocks {
    around: Option<Nested>,
}

impl Blocks {
    fn begin(limit: usize) -> Self {
        Self { around: NESTED.replace(Some(Nested { limit, pool: None })) }
    }
}

impl Drop for Blocks {
    fn drop(&mut self) {
        NESTED.set(self.around.take());
    }
}

impl Scope {
    /// Runs a closure that blocks, as a child of the scope, on a thread for such closures.
    ///
    /// At most [`BLOCKING_LIMIT`] closures run at a time in a runtime, or the
    /// [`blocking_limit`](super::ScopeBuilder::blocking_limit) of the scope or an enclosing scope; further closures wait in
    /// line. A running closure cannot be stopped from outside: its token is cancelled, and its scope waits for it. A closure
    /// that is cancelled before it starts never runs.
    ///
    /// A closure may start other closures and wait for them (`Handle::block_on`). These nested closures run on threads of
    /// their own and take no permit of the runtime, since closures that wait for nested closures may hold all permits. The
    /// limit applies to the nested closures of each closure separately. This does not cover a closure that waits for a task
    /// which starts a closure: if closures that wait in this way hold all permits, they wait forever.
    ///
    /// # Errors
    /// [`ScopeClosedError`] with the closure, if the scope has ended.
    ///
    /// # Examples
    /// ```
    /// use motet::task::{Nursery, scope};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// scope(async |n: &Nursery| {
    ///     let sum = n.blocking("sum", |cx| (1..=100).take_while(|_| !cx.is_cancelled()).sum::<u32>());
    ///     assert_eq!(sum.await.unwrap(), 5050);
    ///     Ok(())
    /// }).await.unwrap();
    /// # });
    /// ```
    #[track_caller]
    pub fn blocking<F, T>(&self, name: impl Into<Name>, closure: F) -> Result<Task<T>, ScopeClosedError<F>>
    where
        F: FnOnce(&CancelToken) -> T + Send + 'static,
        T: Send + 'static,
    {
        let (name, site) = (name.into(), Location::caller());
        // A member until the closure is wrapped, so that a closed scope can hand it back.
        let Some(member) = Member::enter(&self.0, Class::Work) else {
            return Err(ScopeClosedError::new(&self.0.name, closure));
        };
        let token = CancelToken::new();
        let spec = Spec::cooperative(name.clone(), site, Class::Work, token.clone());
        let pool = BlockingPool::here(&self.0);
        let work = block(name.clone(), token.clone(), self.0.runtime.clone(), pool, closure);
        let join = launch::<_, Cooperative>(&self.0, spec, work);
        drop(member);
        match join {
            Ok(join) => Ok(Task::new(join, name, Some(token), &self.0)),
            Err(_) => unreachable!("the scope was held open"),
        }
    }
}

async fn block<F, T>(
    task: Name,
    token: CancelToken,
    runtime: Handle,
    pool: BlockingPool,
    closure: F,
) -> Result<T, TaskError>
where
    F: FnOnce(&CancelToken) -> T + Send + 'static,
    T: Send + 'static,
{
    let BlockingPool { places, limit, nested } = pool;
    let turn = {
        let mut turn = pin!(places.acquire_owned());
        let mut cancelled = pin!(token.cancelled());
        poll_fn(|cx| {
            if let Poll::Ready(reason) = cancelled.as_mut().poll(cx) {
                return Poll::Ready(Err(reason.clone()));
            }
            turn.as_mut().poll(cx).map(Ok)
        })
        .await
    };
    let permit = match turn {
        Ok(permit) => permit.expect("the pool is never closed"),
        Err(reason) => return Err(TaskError::Cancelled { task, reason }),
    };
    let (inside, span) = (ambient::current(), TaskSpan::current());
    let run = move || {
        if let Some(reason) = token.reason() {
            // It was cancelled while it waited for a thread.
            return Err(reason.clone());
        }
        // A scope that the closure opens is a child of this scope.
        let _inside = inside.as_ref().map(Inside::enter);
        let _shield = Shield::raise();
        let _span = span.enter();
        let _blocks = Blocks::begin(limit);
        let value = closure(&token);
        // At the end of the closure, and not when its result is received.
        drop::<OwnedSemaphorePermit>(permit);
        Ok(value)
    };
    let ended = if nested {
        on_a_thread(&runtime, run).await
    } else {
        match runtime.spawn_blocking(run).await {
            Ok(ended) => ended,
            Err(ended) => match ended.try_into_panic() {
                Ok(payload) => resume_unwind(payload),
                // Only a runtime that shuts down cancels a closure before it begins.
                Err(_) => Err(Reason::of(ReasonKind::Shutdown)),
            },
        }
    };
    ended.map_err(|reason| TaskError::Cancelled { task, reason })
}

/// Runs a closure on a thread of its own. The number of tokio's threads is limited, and closures that wait for this one may
/// hold all of them.
async fn on_a_thread<T: Send + 'static>(
    runtime: &Handle,
    run: impl FnOnce() -> Result<T, Reason> + Send + 'static,
) -> Result<T, Reason> {
    let (sender, receiver) = oneshot::channel();
    let runtime = runtime.clone();
    let started = thread::Builder::new().name("motet-blocking".to_owned()).spawn(move || {
        let _inside = runtime.enter();
        let ended = catch_unwind(AssertUnwindSafe(run));
        // The waiter may be gone, with its runtime.
        let _ = sender.send(ended).map_err(quietly_drop);
    });
    if let Err(error) = started {
        return Err(Reason::requested(format!("no thread could be started for the closure: {error}")));
    }
    match receiver.await {
        Ok(Ok(ended)) => ended,
        Ok(Err(payload)) => resume_unwind(payload),
        Err(_) => Err(Reason::of(ReasonKind::Shutdown)),
    }
}
