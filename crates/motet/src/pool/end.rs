//! The end of a pool: closed by its user, with its last handle, or with its scope.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use tokio::task::coop;
use tokio::time::Instant;

use super::manager::Manager;
use super::shared::PoolShared;
use super::stats::{CloseReport, Holder};
use crate::mutant;
use crate::resource::{Exit, PendingRelease};
use crate::sync::{WakerSetEntry, quietly_drop};
use crate::task::finalizer::{Event, ReleaseFuture};
use crate::task::timeout;

/// The part that all handles of a pool share. The drop of the last handle closes the pool.
pub(super) struct Handles<M: Manager>(pub(super) Arc<PoolShared<M>>);

impl<M: Manager> Drop for Handles<M> {
    fn drop(&mut self) {
        self.0.begin_close();
    }
}

pub(super) async fn close<M: Manager>(shared: &Arc<PoolShared<M>>, within: Duration) -> CloseReport {
    shared.begin_close();
    let mut place = WakerSetEntry::of(&shared.changed);
    let over = poll_fn(|cx| {
        let coop = ready!(coop::poll_proceed(cx));
        // Registered before the state is read, so that no change is missed.
        place.set(cx.waker());
        if mutant!("pool.close_at_once") {
            return Poll::Ready(());
        }
        if !shared.state().is_over() {
            return Poll::Pending;
        }
        coop.made_progress();
        Poll::Ready(())
    });
    let _ = timeout(within, over).await;
    let now = Instant::now();
    let state = shared.state();
    let (counts, holders) = (state.counts(), state.holders(now));
    drop(state);
    CloseReport {
        in_use: counts.live,
        closing: counts.closing,
        holders: holders.into_iter().map(Holder::new).collect(),
    }
}

/// The close of a pool, as a pending release of its scope.
pub(super) struct PendingClose<M: Manager> {
    pub(super) shared: Arc<PoolShared<M>>,
    pub(super) has_begun: bool,
}

impl<M: Manager> PendingRelease for PendingClose<M> {
    fn begin(mut self: Box<Self>, _: Exit) -> Option<ReleaseFuture> {
        self.has_begun = true;
        let shared = Arc::clone(&self.shared);
        Some(Box::pin(async move {
            // Half of the time: the close must end before the release times out, or the report that names the holders
            // would be lost.
            let report = close(&shared, shared.core.release_timeout / 2).await;
            if report.is_complete() { Ok(()) } else { Err(report.into()) }
        }))
    }
}

impl<M: Manager> Drop for PendingClose<M> {
    fn drop(&mut self) {
        if self.has_begun || self.shared.state().is_over() {
            return;
        }
        // The runtime has shut down, so connections cannot be closed properly.
        self.shared.core.count_release(Event::Lost);
        crate::log::error!(pool = %self.shared.settings.name, "a pool was not closed: its runtime has shut down");
        let idle = self.shared.state().take_all();
        quietly_drop(idle);
        self.shared.begin_close();
    }
}
