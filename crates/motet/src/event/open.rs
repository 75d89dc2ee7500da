//! The state of an emitter: open or closed, and the number of posted events that wait for their listeners. Both are in
//! one number, so that no event is posted between a check for waiting events and the close.
//!
//! It is not a [`Gate`](crate::sync::Gate): that one closes only when it has no member, this one closes at once and then
//! waits for the posted events.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::task::coop;

use crate::mutant;
use crate::sync::Notify;

const CLOSED: usize = 1 << (usize::BITS - 1);

#[derive(Default)]
pub(super) struct EmitterGate {
    /// The number of posted events that wait, and the `CLOSED` bit.
    waiting: AtomicUsize,
    settled: Notify,
}

impl EmitterGate {
    /// Returns `true` if the emitter is closed. A relaxed load suffices: a caller that was notified of the close has
    /// synchronised with it, and any other caller is ordered before the close.
    #[inline]
    pub(super) fn is_closed(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) & CLOSED != 0
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed) & !CLOSED
    }

    /// Counts one more event. Returns `false` if the emitter is closed; the caller must [`leave`](Self::leave) in
    /// either case.
    pub(super) fn enter(&self) -> bool {
        self.waiting.fetch_add(1, Ordering::AcqRel) & CLOSED == 0
    }

    /// Counts one event less. Returns `true` if it was the last event of a closed emitter.
    pub(super) fn leave(&self) -> bool {
        // Release and acquire: the last caller sees the writes of all callers before it.
        self.waiting.fetch_sub(1, Ordering::AcqRel) == CLOSED + 1
    }

    /// Closes the emitter. Returns `true` if no event waits.
    pub(super) fn close(&self) -> bool {
        self.waiting.fetch_or(CLOSED, Ordering::AcqRel) & !CLOSED == 0
    }

    fn is_settled(&self) -> bool {
        if mutant!("event.drain_looks_away") {
            return self.is_closed();
        }
        self.waiting.load(Ordering::Acquire) == CLOSED
    }

    pub(super) fn wake(&self) {
        self.settled.notify_waiters();
    }

    /// Waits until the emitter is closed and no event waits.
    pub(super) async fn settled(&self) {
        coop::consume_budget().await;
        loop {
            // AnyListener before the check, so that an end between the check and the wait is not missed.
            let settled = self.settled.notified();
            if self.is_settled() {
                return;
            }
            settled.await;
        }
    }
}
