//! Wakes from the writer to the driver of the replays.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

/// The changes that the driver must look at.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct ReplayWake {
    /// Endpoints with fewer deliveries that replays made: the next ones can be made.
    pub(crate) freed: BTreeSet<i64>,
    /// `true` if there may be a new job.
    pub(crate) has_new: bool,
}

/// Coalesces wakes: at most one entry per endpoint, however far the driver is behind.
#[derive(Debug, Default)]
pub(in crate::store) struct ReplaySignal {
    waiting: Mutex<ReplayWake>,
    notify: Notify,
}

impl ReplaySignal {
    pub(in crate::store) fn note(&self, freed: Vec<i64>, has_new: bool) {
        if freed.is_empty() && !has_new {
            return;
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.freed.extend(freed);
        waiting.has_new |= has_new;
        drop(waiting);
        self.notify.notify_one();
    }

    /// Waits for a wake, and returns it.
    ///
    /// # Cancel safety
    /// Safe: a wake is taken only by the poll that returns it.
    pub(super) async fn next(&self) -> ReplayWake {
        loop {
            let taken = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
            if taken != ReplayWake::default() {
                return taken;
            }
            // `Notify` keeps a permit for a wake between the check and the wait.
            self.notify.notified().await;
        }
    }
}
