use std::sync::OnceLock;

use tokio::task::coop;

use super::store::BuildOutcome;
use crate::sync::Notify;

/// The outcome of a build, for all callers that wait for it.
///
/// It replaces tokio's `watch`, which wakes its receivers in random order, so that a simulation could not be replayed.
#[derive(Default)]
pub(crate) struct SettledBuild {
    outcome: OnceLock<BuildOutcome>,
    ended: Notify,
}

impl SettledBuild {
    pub(crate) fn settle(&self, outcome: BuildOutcome) {
        // An attempt settles once.
        drop(self.outcome.set(outcome));
        self.ended.notify_waiters();
    }

    /// The outcome of an attempt that has ended.
    pub(crate) fn now(&self) -> BuildOutcome {
        self.outcome.get().cloned().expect("an attempt settles before it ends")
    }

    pub(crate) async fn wait(&self) -> BuildOutcome {
        coop::consume_budget().await;
        until(&self.ended, || self.outcome.get().cloned()).await
    }
}

/// Calls `look` after each notification, until it returns a value.
pub(crate) async fn until<T>(changed: &Notify, mut look: impl FnMut() -> Option<T>) -> T {
    loop {
        // Registered before the look, so that a change between the two is not missed.
        let notified = changed.notified();
        if let Some(found) = look() {
            return found;
        }
        notified.await;
    }
}
