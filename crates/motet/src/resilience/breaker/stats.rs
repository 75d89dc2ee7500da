use std::time::Duration;

use super::{BreakerState, CallCounts};
use crate::observe::Stats;

/// The statistics of a breaker at one moment.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct BreakerStats {
    /// The state.
    pub state: BreakerState,
    /// The number of consecutive failures.
    pub streak: u32,
    /// The counts of its windows, in the order in which they were added.
    pub windows: Vec<CallCounts>,
    /// The number of probes in flight.
    pub probes: usize,
    /// The time until it admits a probe, if it is open.
    pub retry_after: Option<Duration>,
    /// The number of times that it opened by itself.
    pub opened: u64,
    /// The number of times that it would have opened while it only measured.
    pub would_have_opened: u64,
    /// The number of rejected calls.
    pub rejected: u64,
    /// The number of calls that ended after the state had changed, and so did not count.
    pub stale: u64,
}

impl BreakerStats {
    pub(super) fn shown(&self) -> Stats {
        let mut stats = Stats::new()
            .text("state", self.state.to_string())
            .count("streak", self.streak.into())
            .count("probes", self.probes as u64)
            .total("opened", self.opened)
            .total("would_have_opened", self.would_have_opened)
            .total("rejected", self.rejected)
            .total("stale", self.stale);
        if let Some(window) = self.windows.first() {
            stats = stats
                .count("calls", window.calls)
                .value("failure_rate", window.failure_rate())
                .value("slow_rate", window.slow_rate());
        }
        stats
    }
}
