use std::fmt;
use std::sync::Arc;

use tokio::sync::oneshot;

/// A call that waits for an answer of the test, returned by [`MockFn::next_call`](super::MockFn::next_call).
///
/// # Drop
/// If it is dropped without a reply, the waiting call panics with an explanation, instead of waiting without end.
#[must_use = "dropped without a reply, it makes the call panic"]
pub struct PendingCall<A, R> {
    pub(super) args: Arc<A>,
    pub(super) reply: oneshot::Sender<R>,
}

impl<A, R> PendingCall<A, R> {
    /// Returns the arguments of the call.
    #[must_use]
    pub fn args(&self) -> &A {
        &self.args
    }

    /// Answers the call with `value`.
    ///
    /// If the caller has dropped the call, the value is dropped too, and the history shows the call as cancelled.
    pub fn reply(self, value: R) {
        drop(self.reply.send(value));
    }

    /// Returns `true` if the caller has dropped the call.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.reply.is_closed()
    }

    /// Waits until the caller has dropped the call.
    ///
    /// # Cancel safety
    /// Safe: nothing is lost, and it can be awaited again.
    pub async fn cancelled(&mut self) {
        self.reply.closed().await;
    }
}

impl<A: fmt::Debug, R> fmt::Debug for PendingCall<A, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingCall").field("args", &self.args).finish_non_exhaustive()
    }
}
