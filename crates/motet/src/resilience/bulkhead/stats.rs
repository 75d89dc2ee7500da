use crate::observe::Stats;

/// The statistics of a bulkhead at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct BulkheadStats {
    /// The number of permits.
    pub places: usize,
    /// The number of permits that are taken.
    pub taken: usize,
    /// The number of calls that wait for a permit.
    pub waiting: usize,
    /// The number of rejected calls.
    pub rejected: u64,
}

impl BulkheadStats {
    pub(super) fn shown(self) -> Stats {
        Stats::new()
            .count("places", self.places as u64)
            .count("taken", self.taken as u64)
            .count("waiting", self.waiting as u64)
            .count("rejected", self.rejected)
    }
}
