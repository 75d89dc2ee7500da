//! The statistics of an emitter in snapshots.

use std::sync::atomic::{AtomicU64, Ordering};

use super::shared::EmitterShared;
use crate::observe::Stats;

/// Counts of failed and dropped posted events, which no caller waits for.
#[derive(Default)]
pub(super) struct EmitterCounters {
    pub(super) failed: AtomicU64,
    pub(super) dropped: AtomicU64,
}

impl EmitterShared {
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
