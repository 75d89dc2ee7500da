use std::time::Duration;

use super::{BreakerState, Counts};
use crate::observe::Stats;

/// What a breaker knows, at one moment.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct BreakerStats {
    /// Its state.
    pub state: BreakerState,
    /// How many failures in a row it has seen.
    pub streak: u32,
    /// What is in its windows, in the order in which they were given.
    pub windows: Vec<Counts>,
    /// Probes under way.
    pub probes: usize,
    /// In how long it will let a probe through, where it is open.
    pub retry_after: Option<Duration>,
    /// How often it opened by itself.
    pub opened: u64,
    /// How often it would have opened, had it not been told to measure only.
    pub would_have_opened: u64,
    /// Calls that it rejected.
    pub rejected: u64,
    /// Calls that ended after it had changed, and so counted for nothing.
    pub stale: u64,
}

impl BreakerStats {
    pub(super) fn shown(&self) -> Stats {
        let mut stats = Stats::new()
            .text("state", self.state.to_string())
            .count("streak", self.streak.into())
            .count("probes", self.probes as u64)
            .count("opened", self.opened)
            .count("would_have_opened", self.would_have_opened)
            .count("rejected", self.rejected)
            .count("stale", self.stale);
        if let Some(window) = self.windows.first() {
            stats = stats
                .count("calls", window.calls)
                .value("failure_rate", window.failure_rate())
                .value("slow_rate", window.slow_rate());
        }
        stats
    }
}
