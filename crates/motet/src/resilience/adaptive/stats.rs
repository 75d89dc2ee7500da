use crate::observe::Stats;

/// The statistics of an adaptive limit at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct AdaptiveLimitStats {
    /// The limit now.
    pub limit: usize,
    /// The number of calls in flight: more than the limit, if it was lowered while they ran.
    pub in_flight: usize,
    /// The number of calls that wait for a permit.
    pub waiting: usize,
    /// The number of rejected calls.
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
