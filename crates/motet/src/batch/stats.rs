use super::shared::Shared;
use crate::observe::Stats;

/// What a batcher does now, and what it has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct BatchStats {
    /// Items that wait to be taken.
    pub waiting: usize,
    /// Callers that wait for a place for their item.
    pub in_line: usize,
    /// Batches whose handler runs.
    pub in_flight: usize,
    /// Items that came in so far.
    pub items: u64,
    /// Batches that were begun so far: `items / batches` is how well it batches.
    pub batches: u64,
    /// Batches whose handler failed for all of their items, panicked, or was cancelled.
    pub failed_batches: u64,
    /// Items that were posted, and failed or were lost with the scope.
    pub failed_posts: u64,
    /// Whether it takes no more items.
    pub is_closed: bool,
}

impl BatchStats {
    pub(super) fn of<T, R, E>(shared: &Shared<T, R, E>) -> Self {
        let state = shared.state();
        Self {
            waiting: state.waiting(),
            in_line: state.line.len() + state.line.offered(),
            in_flight: state.in_flight(),
            items: state.totals.items,
            batches: state.totals.batches,
            failed_batches: state.totals.failed_batches,
            failed_posts: state.totals.failed_posts,
            is_closed: state.is_closed(),
        }
    }

    pub(super) fn show(&self) -> Stats {
        Stats::new()
            .count("waiting", self.waiting as u64)
            .count("in_line", self.in_line as u64)
            .count("in_flight", self.in_flight as u64)
            .count("items", self.items)
            .count("batches", self.batches)
            .count("failed_batches", self.failed_batches)
            .count("failed_posts", self.failed_posts)
            .text("state", if self.is_closed { "closed" } else { "open" })
    }
}
