//! The part that the clones of a handle share; it is dropped with the last one.

use std::sync::Arc;

use super::shared::BatchShared;
use super::stats::BatchStats;
use crate::mutant;
use crate::observe::{Registration, Stats};
use crate::task::Scope;

pub(super) struct BatchHandle<T, R, E> {
    pub(super) shared: Arc<BatchShared<T, R, E>>,
    /// The registration in snapshots, if there is a name.
    _shown: Option<Registration>,
}

impl<T: Send + 'static, R: Send + 'static, E: Send + Sync + 'static> BatchHandle<T, R, E> {
    /// Shows it in the snapshots of its scope.
    pub(super) fn shown(mut self, kind: &'static str, scope: &Scope) -> Self {
        let shared = Arc::downgrade(&self.shared);
        let stats = move || shared.upgrade().map_or_else(Stats::new, |shared| BatchStats::of(&shared).show());
        self._shown = Some(scope.register(kind, self.shared.name.clone(), stats));
        self
    }
}

impl<T, R, E> BatchHandle<T, R, E> {
    pub(super) fn new(shared: Arc<BatchShared<T, R, E>>) -> Self {
        Self { shared, _shown: None }
    }

    pub(super) async fn flush(&self) {
        tokio::task::coop::consume_budget().await;
        let count = self.flush_now();
        self.ended(count).await;
    }

    pub(super) async fn close(&self) {
        tokio::task::coop::consume_budget().await;
        let count = self.close_now();
        self.ended(count).await;
    }

    fn flush_now(&self) -> u64 {
        let mut state = self.shared.state();
        let count = state.flush();
        self.shared.settle(state);
        count
    }

    fn close_now(&self) -> u64 {
        let mut state = self.shared.state();
        let count = state.close();
        self.shared.settle(state);
        self.shared.watch.notify_waiters();
        count
    }

    /// Waits until the first `count` batches have ended.
    async fn ended(&self, count: u64) {
        loop {
            // Registered before the state is read, so that an end between the two is not missed.
            let ended = self.shared.ended.notified();
            if self.shared.state().window.have_ended(count) {
                return;
            }
            ended.await;
        }
    }
}

/// No caller can add an item any more: the waiting items run, and no task waits for a deadline.
impl<T, R, E> Drop for BatchHandle<T, R, E> {
    fn drop(&mut self) {
        if mutant!("batch.forget_at_drop") {
            return;
        }
        self.close_now();
    }
}
