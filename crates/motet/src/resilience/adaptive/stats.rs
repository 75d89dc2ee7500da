use crate::observe::Stats;

/// What an adaptive limit knows, at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct AdaptiveLimitStats {
    /// The limit now.
    pub limit: usize,
    /// Calls under way: more than the limit, when that was lowered while they were.
    pub in_flight: usize,
    /// Calls that wait for a place.
    pub waiting: usize,
    /// Calls that were rejected.
    pub rejected: u64,
}

/// A change of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct LimitChange {
    /// The limit before.
    pub from: usize,
    /// The limit now.
    pub to: usize,
}

impl AdaptiveLimitStats {
    pub(super) fn shown(self) -> Stats {
        Stats::new()
            .count("limit", self.limit as u64)
            .count("in_flight", self.in_flight as u64)
            .count("waiting", self.waiting as u64)
            .count("rejected", self.rejected)
    }
}
