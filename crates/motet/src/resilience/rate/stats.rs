use crate::observe::Stats;

/// What a rate limiter knows, at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RateLimiterStats {
    /// Cells that can be taken now, if nobody waits.
    pub available: u64,
    /// Cells that are waited for.
    pub wanted: u64,
    /// Calls that were rejected.
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
