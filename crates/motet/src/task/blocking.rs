//! Blocking work, as children of a scope.

use std::panic::{Location, resume_unwind};
use std::pin::pin;
use std::task::Poll;

use tokio::sync::Semaphore;

use super::ambient::{self, Inside};
use super::child::{Spec, launch};
use super::coop::Cooperative;
use super::gate::Class;
use super::member::Member;
use super::{CancelToken, Closed, Name, Reason, ReasonKind, Scope, Task, TaskFailed};

/// How many closures block at a time, in the whole process. Tokio's own bound is 512 threads: enough to fill the
/// memory of a small machine with stacks, and more than any disk serves at once.
pub const BLOCKING_LIMIT: usize = 64;

static POOL: Semaphore = Semaphore::const_new(BLOCKING_LIMIT);

impl Scope {
    /// Runs a closure that blocks, on a thread that may, as a child of the scope.
    ///
    /// At most [`BLOCKING_LIMIT`] run at a time in the process; the rest wait their turn, in order. A closure
    /// cannot be stopped from outside: it is told through the token, and its scope waits for it. One that has
    /// not begun when it is cancelled never does.
    ///
    /// # Errors
    /// [`Closed`] with the closure, if the scope has ended.
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
    pub fn blocking<F, T>(&self, name: impl Into<Name>, closure: F) -> Result<Task<T>, Closed<F>>
    where
        F: FnOnce(&CancelToken) -> T + Send + 'static,
        T: Send + 'static,
    {
        let (name, site) = (name.into(), Location::caller());
        // Counted in for the moment, so that the closure can be given back before it is wrapped.
        let Some(member) = Member::enter(&self.0, Class::Work) else { return Err(Closed(closure)) };
        let token = CancelToken::new();
        let spec = Spec::told(name.clone(), site, Class::Work, token.clone());
        let work = block(name.clone(), token.clone(), self.0.runtime.clone(), closure);
        let join = launch::<_, Cooperative>(&self.0, spec, work);
        drop(member);
        match join {
            Ok(join) => Ok(Task::new(join, name, Some(token))),
            Err(_) => unreachable!("the scope was held open"),
        }
    }
}

async fn block<F, T>(
    task: Name,
    token: CancelToken,
    runtime: tokio::runtime::Handle,
    closure: F,
) -> Result<T, TaskFailed>
where
    F: FnOnce(&CancelToken) -> T + Send + 'static,
    T: Send + 'static,
{
    let turn = {
        let mut turn = pin!(POOL.acquire());
        let mut cancelled = pin!(token.cancelled());
        std::future::poll_fn(|cx| {
            if let Poll::Ready(reason) = cancelled.as_mut().poll(cx) {
                return Poll::Ready(Err(reason.clone()));
            }
            turn.as_mut().poll(cx).map(Ok)
        })
        .await
    };
    let permit = match turn {
        Ok(permit) => permit.expect("the pool is never closed"),
        Err(reason) => return Err(TaskFailed::Cancelled { task, reason }),
    };
    let inside = ambient::current();
    let blocked = runtime.spawn_blocking(move || {
        if let Some(reason) = token.reason() {
            // While it waited for a thread.
            return Err(reason.clone());
        }
        // A scope that the closure opens is a child of this one.
        let _inside = inside.as_ref().map(Inside::enter);
        let value = closure(&token);
        // When the closure is done, not when somebody has heard of it.
        drop(permit);
        Ok(value)
    });
    match blocked.await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(reason)) => Err(TaskFailed::Cancelled { task, reason }),
        Err(ended) => match ended.try_into_panic() {
            Ok(payload) => resume_unwind(payload),
            // Only a runtime that goes away cancels a closure, before it begins.
            Err(_) => Err(TaskFailed::Cancelled { task, reason: Reason::of(ReasonKind::Shutdown) }),
        },
    }
}
