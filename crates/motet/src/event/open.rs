//! Whether an emitter is closed, and how many posted events wait for their listeners. Both in one number, so that
//! nothing is posted between the question and the close.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::task::coop;

use crate::mutant;
use crate::task::notify::Notify;

const CLOSED: usize = 1 << (usize::BITS - 1);

#[derive(Default)]
pub(super) struct Open {
    /// Posted events that wait, and `CLOSED`.
    waiting: AtomicUsize,
    settled: Notify,
}

impl Open {
    /// One relaxed load. Who was told of the close sees it; who was not is before it.
    #[inline]
    pub(super) fn is_closed(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) & CLOSED != 0
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed) & !CLOSED
    }

    /// Counts one more in; false if it is closed, and then there is still one to [`leave`](Self::leave).
    pub(super) fn enter(&self) -> bool {
        self.waiting.fetch_add(1, Ordering::AcqRel) & CLOSED == 0
    }

    /// Counts one out; true for the last one, once it is closed.
    pub(super) fn leave(&self) -> bool {
        // Release and acquire: who comes last sees what all others did.
        self.waiting.fetch_sub(1, Ordering::AcqRel) == CLOSED + 1
    }

    /// Closes; true if nothing waits.
    pub(super) fn close(&self) -> bool {
        self.waiting.fetch_or(CLOSED, Ordering::AcqRel) & !CLOSED == 0
    }

    fn is_settled(&self) -> bool {
        let waiting = self.waiting.load(Ordering::Acquire);
        waiting == CLOSED || (mutant!("event.drain_looks_away") && waiting >= CLOSED)
    }

    pub(super) fn wake(&self) {
        self.settled.notify_waiters();
    }

    /// Waits until it is closed and nothing waits any more.
    pub(super) async fn settled(&self) {
        coop::consume_budget().await;
        loop {
            // Before the question, so that an end between the two is not missed.
            let settled = self.settled.notified();
            if self.is_settled() {
                return;
            }
            settled.await;
        }
    }
}
