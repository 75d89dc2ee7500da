use crate::observe::Stats;

/// What a bulkhead knows, at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct BulkheadStats {
    /// How many places it has.
    pub places: usize,
    /// How many are taken.
    pub taken: usize,
    /// How many calls wait for a place.
    pub waiting: usize,
    /// Calls that were rejected.
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
