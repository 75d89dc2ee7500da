use crate::observe::Stats;

/// The statistics of a rate limiter at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RateLimiterStats {
    /// The number of cells that can be taken now, if no caller waits.
    pub available: u64,
    /// The number of cells that callers wait for.
    pub wanted: u64,
    /// The number of rejected calls.
    pub rejected: u64,
}

impl RateLimiterStats {
    pub(super) fn shown(self) -> Stats {
        Stats::new()
            .count("available", self.available)
            .count("wanted", self.wanted)
            .count("rejected", self.rejected)
    }
}
