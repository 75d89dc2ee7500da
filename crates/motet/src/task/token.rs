use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::Poll;

use slab::Slab;
use tokio::task::coop;

use super::Reason;
use super::timeout::poll_limit;
use crate::sim;
use crate::sync::Notify;

/// Requests tasks to stop, with a reason.
///
/// A cancellation is final. [`is_cancelled`](Self::is_cancelled) is one relaxed load, so that a loop can check it in every
/// iteration. A token has [child tokens](Self::child), which are cancelled with it.
///
/// # Examples
/// ```
/// use motet::task::{CancelToken, Reason};
///
/// let token = CancelToken::new();
/// let theirs = token.clone();
/// assert!(!theirs.is_cancelled());
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// token.cancel(Reason::requested("lunch"));
/// assert_eq!(theirs.cancelled().await.text(), Some("lunch"));
/// # });
/// ```
#[derive(Clone, Default)]
pub struct CancelToken(Arc<State>);

#[derive(Default)]
struct State {
    cancelled: AtomicBool,
    reason: OnceLock<Reason>,
    waiters: Notify,
    /// The tokens that are cancelled with this one. A box, since most tokens have none.
    linked: Mutex<Option<Box<Slab<Linked>>>>,
    /// The token of which this is a child, and the key of this one there.
    parent: OnceLock<(Arc<Self>, usize)>,
}

/// A token that is cancelled with another one.
enum Linked {
    Child(Weak<State>),
    #[cfg(feature = "tokio-util")]
    TokioUtil(tokio_util::sync::CancellationToken),
}

impl State {
    /// Only the library's own code runs under this lock, so a poisoned one holds a sound state.
    fn linked(&self) -> MutexGuard<'_, Option<Box<Slab<Linked>>>> {
        self.linked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cancels this token alone, and adds its linked tokens to `next`.
    fn cancel(&self, reason: &Reason, next: &mut Vec<Linked>) {
        if self.reason.get().is_some() || self.reason.set(reason.clone()).is_err() {
            return;
        }
        sim::op("token.cancel");
        // Release, after the reason is stored: a task that this wakes finds the reason. Before the lock: a token that is
        // linked later sees that this one is cancelled.
        self.cancelled.store(true, Ordering::Release);
        let linked = self.linked().take();
        next.extend(linked.into_iter().flat_map(|linked| linked.into_iter().map(|(_, linked)| linked)));
        self.waiters.notify_waiters();
    }

    /// Links a token, and returns its key; `None` if this one is cancelled.
    fn link(&self, linked: Linked) -> Option<usize> {
        let mut all = self.linked();
        // The cancellation takes the lock after it has stored this, so it finds the tokens that are linked before.
        if self.cancelled.load(Ordering::Acquire) {
            return None;
        }
        Some(all.get_or_insert_default().insert(linked))
    }
}

/// A child token leaves its parent, so that a parent that lives long does not collect the children of its past.
impl Drop for State {
    fn drop(&mut self) {
        // A loop: the drop of the last reference to a parent would recurse, as deep as the tokens are nested.
        let mut parent = self.parent.take();
        while let Some((state, key)) = parent {
            if let Some(linked) = &mut *state.linked() {
                drop(linked.try_remove(key));
            }
            parent = Arc::into_inner(state).and_then(|mut state| state.parent.take());
        }
    }
}

impl CancelToken {
    /// Creates a token that is not cancelled.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates a token that is cancelled with this one, for the same reason. Its own cancellation leaves this token as it is.
    ///
    /// One allocation, and one more for the first child. A child that is dropped leaves nothing behind in its parent.
    ///
    /// # Examples
    /// ```
    /// use motet::task::{CancelToken, Reason};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let requests = CancelToken::new();
    /// let (first, second) = (requests.child(), requests.child());
    /// first.cancel(Reason::requested("the client is gone"));
    /// assert!(!requests.is_cancelled() && !second.is_cancelled());
    /// requests.cancel(Reason::requested("lunch"));
    /// assert_eq!(second.reason().unwrap().text(), Some("lunch"));
    /// # });
    /// ```
    #[must_use]
    pub fn child(&self) -> Self {
        let child = Self::new();
        match self.0.link(Linked::Child(Arc::downgrade(&child.0))) {
            // Set once: this is the only place that sets it.
            Some(key) => drop(child.0.parent.set((Arc::clone(&self.0), key))),
            None => self.0.reason.get().into_iter().for_each(|reason| child.cancel(reason.clone())),
        }
        child
    }

    /// Cancels the token and its child tokens. The first reason is kept.
    #[allow(clippy::needless_pass_by_value, reason = "callers make the reason in place")]
    pub fn cancel(&self, reason: Reason) {
        let mut next = Vec::new();
        self.0.cancel(&reason, &mut next);
        // A list instead of a recursion, as deep as the tokens are nested.
        while let Some(linked) = next.pop() {
            match linked {
                Linked::Child(child) => {
                    if let Some(child) = child.upgrade() {
                        child.cancel(&reason, &mut next);
                    }
                }
                #[cfg(feature = "tokio-util")]
                Linked::TokioUtil(token) => token.cancel(),
            }
        }
    }

    /// Returns `true` if the token is cancelled. The cost is one relaxed load.
    #[must_use]
    #[inline]
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::Relaxed)
    }

    /// The reason; `None` while the token is not cancelled.
    #[must_use]
    pub fn reason(&self) -> Option<&Reason> {
        self.0.reason.get()
    }

    /// Waits until the token is cancelled, and returns the reason.
    ///
    /// # Cancel safety
    /// Safe: dropping the future loses nothing.
    #[track_caller]
    pub fn cancelled(&self) -> impl Future<Output = &Reason> {
        sim::at("token", "wait for its cancellation", async move {
            coop::consume_budget().await;
            loop {
                // Before the flag is read, so that a cancellation between the two is not missed.
                let notified = self.0.waiters.notified();
                if let Some(reason) = self.0.reason.get()
                    && self.0.cancelled.load(Ordering::Acquire)
                {
                    return reason;
                }
                notified.await;
            }
        })
    }
}

impl CancelToken {
    /// Runs the future until it is ready or the token is cancelled. In the latter case the future is dropped before the reason
    /// is returned. If the token is already cancelled, the future is not polled.
    ///
    /// A future that is ready at the poll in which the cancellation is noticed yields its value.
    ///
    /// # Errors
    /// The reason of the cancellation.
    ///
    /// # Cancel safety
    /// As safe as `future`, which is dropped with this future.
    ///
    /// # Examples
    /// ```
    /// use motet::task::{CancelToken, Reason};
    /// use std::future::pending;
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let token = CancelToken::new();
    /// assert_eq!(token.run_until_cancelled(async { 7 }).await.unwrap(), 7);
    /// token.cancel(Reason::requested("lunch"));
    /// let reason = token.run_until_cancelled(pending::<()>()).await.unwrap_err();
    /// assert_eq!(reason.text(), Some("lunch"));
    /// # });
    /// ```
    #[track_caller]
    pub fn run_until_cancelled<F: Future>(
        &self,
        future: F,
    ) -> impl Future<Output = Result<F::Output, Reason>> {
        sim::around("token", "run until it is cancelled", async move {
            if self.is_cancelled()
                && let Some(reason) = self.reason()
            {
                return Err(reason.clone());
            }
            // Dropped before this returns.
            let mut future = pin!(future);
            let mut cancelled = pin!(self.cancelled());
            poll_fn(|cx| {
                let had_budget = coop::has_budget_remaining();
                if let Poll::Ready(output) = future.as_mut().poll(cx) {
                    return Poll::Ready(Ok(output));
                }
                poll_limit(cancelled.as_mut(), had_budget, cx).map(|reason| Err(reason.clone()))
            })
            .await
        })
    }
}

/// Tokens of [`tokio_util`]. These methods need the feature `tokio-util`.
#[cfg(feature = "tokio-util")]
impl CancelToken {
    /// Creates a token of tokio-util that is cancelled with this one, like a [child](Self::child). It is kept until this token
    /// is cancelled or dropped: where many are created, create each from a child of its own.
    ///
    /// # Examples
    /// ```
    /// use motet::task::{CancelToken, Reason};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let token = CancelToken::new();
    /// let theirs = token.to_tokio_util();
    /// token.cancel(Reason::requested("lunch"));
    /// theirs.cancelled().await;
    /// # });
    /// ```
    #[must_use]
    pub fn to_tokio_util(&self) -> tokio_util::sync::CancellationToken {
        let token = tokio_util::sync::CancellationToken::new();
        if self.0.link(Linked::TokioUtil(token.clone())).is_none() {
            token.cancel();
        }
        token
    }

    /// Creates a token that is cancelled with one of tokio-util. A service of the scope waits for that, so it holds until the
    /// end of the scope.
    ///
    /// # Errors
    /// [`ScopeClosedError`](super::ScopeClosedError), if the scope has ended.
    ///
    /// # Examples
    /// ```
    /// use motet::task::{CancelToken, Nursery, scope};
    /// use tokio_util::sync::CancellationToken;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// scope(async |n: &Nursery| {
    ///     let theirs = CancellationToken::new();
    ///     let token = CancelToken::from_tokio_util(n, &theirs).expect("the scope is open");
    ///     theirs.cancel();
    ///     token.cancelled().await;
    ///     Ok(())
    /// }).await?;
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn from_tokio_util(
        scope: &super::Scope,
        token: &tokio_util::sync::CancellationToken,
    ) -> Result<Self, super::ScopeClosedError<()>> {
        let cancelled = Self::new();
        let (theirs, cancels) = (token.clone(), cancelled.clone());
        let waits = async move {
            theirs.cancelled().await;
            cancels.cancel(Reason::requested("a token of tokio-util was cancelled"));
        };
        scope.service("token of tokio-util", waits).map(|_| cancelled).map_err(|closed| closed.map(drop))
    }
}

impl fmt::Debug for CancelToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelToken").field("reason", &self.reason()).finish()
    }
}
