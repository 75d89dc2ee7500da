use super::shared::BatchShared;
use crate::observe::Stats;

/// The numbers of a batcher or a loader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct BatchStats {
    /// Items that wait for their batch to run.
    pub waiting: usize,
    /// Callers that wait for capacity for their item.
    pub in_line: usize,
    /// Batches whose handler runs.
    pub in_flight: usize,
    /// Items that were added so far.
    pub items: u64,
    /// Batches that were started so far: `items / batches` is the average size.
    pub batches: u64,
    /// Batches without answers: the handler failed for all items, panicked, returned a wrong number of answers, or was
    /// cancelled.
    pub failed_batches: u64,
    /// Items that were posted, and failed or were lost with the scope.
    pub failed_posts: u64,
    /// `true` if it is closed.
    pub is_closed: bool,
}

impl BatchStats {
    pub(super) fn of<T, R, E>(shared: &BatchShared<T, R, E>) -> Self {
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
            .total("items", self.items)
            .total("batches", self.batches)
            .total("failed_batches", self.failed_batches)
            .total("failed_posts", self.failed_posts)
            .text("state", if self.is_closed { "closed" } else { "open" })
    }
}
