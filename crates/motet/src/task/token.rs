use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::task::coop;

use super::Reason;
use crate::sim;
use crate::sync::Notify;

/// Requests tasks to stop, with a reason.
///
/// A cancellation is final. [`is_cancelled`](Self::is_cancelled) is one relaxed load, so that a loop can check it in every
/// iteration.
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
}

impl CancelToken {
    /// Creates a token that is not cancelled.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancels the token. The first reason is kept.
    pub fn cancel(&self, reason: Reason) {
        if self.0.reason.set(reason).is_ok() {
            sim::op("token.cancel");
            // Release, after the reason is stored: a task that this wakes finds the reason.
            self.0.cancelled.store(true, Ordering::Release);
            self.0.waiters.notify_waiters();
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

impl fmt::Debug for CancelToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelToken").field("reason", &self.reason()).finish()
    }
}
