//! The statistics of a queue, computed from its state.

use std::fmt;

use tokio::task::coop;

use super::core::QueueCore;
use super::cursors::UNBOUNDED;
use crate::observe::Stats;

impl<T> QueueCore<T> {
    /// The number of items that were sent and are not handed out.
    pub(super) fn len(&self) -> usize {
        let slow = self.lock();
        self.cursors.len() + slow.front.len() + slow.later.len()
    }

    pub(super) fn capacity(&self) -> Option<usize> {
        Some(self.cursors.capacity()).filter(|capacity| *capacity < UNBOUNDED)
    }

    pub(super) fn stats(&self) -> Stats {
        let letters = self.letters.as_ref().map_or(0, |letters| letters.waiting());
        let slow = self.lock();
        let (front, later) = (slow.front.len(), slow.later.len());
        let unsettled = self.unsettled();
        let count = |count: usize| count as u64;
        let stats = Stats::new()
            .count("len", count(self.cursors.len() + front))
            .count("later", count(later))
            .count("leased", count(unsettled.saturating_sub(front + later + letters)))
            .count("permits", count(self.cursors.held().saturating_sub(unsettled)))
            .count("letters_waiting", count(letters))
            .count("senders_waiting", count(slow.senders.waiting()))
            .count("receivers_waiting", count(slow.receivers.waiting()));
        drop(slow);
        let stats = match self.capacity() {
            Some(capacity) => stats.count("capacity", count(capacity)),
            None => stats,
        };
        stats.text("state", if self.cursors.is_closed() { "closed" } else { "open" })
    }

    pub(super) async fn wait_closed(&self) {
        coop::consume_budget().await;
        loop {
            // Registered before the state is read, so that a change between the two is not missed.
            let closed = self.closed.notified();
            if self.cursors.is_closed() {
                return;
            }
            closed.await;
        }
    }

    pub(super) fn fmt_handle(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct(name);
        shown.field("len", &self.len()).field("capacity", &self.capacity());
        shown.field("closed", &self.cursors.is_closed()).finish_non_exhaustive()
    }
}
