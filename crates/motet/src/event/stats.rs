//! The statistics of an emitter in snapshots.

use std::sync::atomic::{AtomicU64, Ordering};

use super::inner::Inner;
use crate::observe::Stats;

/// Counts of failed and dropped posted events, which no caller waits for.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) failed: AtomicU64,
    pub(super) dropped: AtomicU64,
}

impl Inner {
    pub(super) fn stats(&self) -> Stats {
        let (topics, listeners, patterns) = self.count_listeners();
        Stats::new()
            .count("events", topics as u64)
            .count("listeners", listeners as u64)
            .count("patterns", patterns as u64)
            .count("posted", self.open.waiting() as u64)
            .count("failed", self.counters.failed.load(Ordering::Relaxed))
            .count("dropped", self.counters.dropped.load(Ordering::Relaxed))
            .text("state", if self.open.is_closed() { "closed" } else { "open" })
    }
}
