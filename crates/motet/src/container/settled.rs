use std::sync::OnceLock;

use tokio::task::coop;

use super::store::Outcome;
use crate::task::notify::Notify;

/// How a build ended, once it has, for all who wait for it.
///
/// Tokio's `watch` would do, but wakes in an order by chance, and a test could not be repeated.
#[derive(Default)]
pub(crate) struct Settled {
    outcome: OnceLock<Outcome>,
    ended: Notify,
}

impl Settled {
    pub(crate) fn settle(&self, outcome: Outcome) {
        // An attempt settles once.
        drop(self.outcome.set(outcome));
        self.ended.notify_waiters();
    }

    /// The outcome, of an attempt that has ended.
    pub(crate) fn now(&self) -> Outcome {
        self.outcome.get().cloned().expect("an attempt settles before it ends")
    }

    pub(crate) async fn wait(&self) -> Outcome {
        coop::consume_budget().await;
        until(&self.ended, || self.outcome.get().cloned()).await
    }
}

/// Looks again whenever it is notified, until it has found something.
pub(crate) async fn until<T>(changed: &Notify, mut look: impl FnMut() -> Option<T>) -> T {
    loop {
        // Before the look, so that a change between the two is not missed.
        let notified = changed.notified();
        if let Some(found) = look() {
            return found;
        }
        notified.await;
    }
}
