use std::fmt;
use std::time::Duration;

use super::CallCounts;

/// The state of a breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum BreakerState {
    /// Admits all calls, and counts how they end.
    #[default]
    Closed,
    /// Rejects all calls until another state is forced, or the breaker is reset.
    Open,
    /// Admits a few calls as probes, and decides by their outcomes.
    HalfOpen,
    /// Rejects all calls until another state is forced, or the breaker is reset.
    ForcedOpen,
    /// Admits all calls, and counts how they end, until another state is forced, or the breaker is reset.
    ForcedClosed,
    /// Admits all calls, counts how they end, and reports when the breaker would have opened.
    MetricsOnly,
    /// Admits all calls, and counts nothing.
    Disabled,
}

impl fmt::Display for BreakerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half open",
            Self::ForcedOpen => "forced open",
            Self::ForcedClosed => "forced closed",
            Self::MetricsOnly => "metrics only",
            Self::Disabled => "disabled",
        })
    }
}

/// The cause of a change of state.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum TripCause {
    /// A number of consecutive failures.
    Consecutive {
        /// The number of failures.
        failures: u32,
    },
    /// The failure rate of a window.
    FailureRate(CallCounts),
    /// The slow rate of a window.
    SlowRate(CallCounts),
    /// The open time has ended.
    OpenTimeOver,
    /// The probes succeeded.
    ProbesSucceeded(CallCounts),
    /// Too many probes failed or were slow.
    ProbesFailed(CallCounts),
    /// The breaker was half-open for the longest allowed time, and too few probes had ended.
    HalfOpenWaitOver(CallCounts),
    /// The state was forced, or the breaker was reset.
    Manual,
}

/// A change of a breaker's state, with its cause.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct StateChange {
    /// The state before.
    pub from: BreakerState,
    /// The state now. It equals `from` for a breaker with [metrics only](BreakerState::MetricsOnly), which reports that
    /// it would have opened.
    pub to: BreakerState,
    /// The cause of the change.
    pub cause: TripCause,
    /// How long the breaker stays open, if it opened by itself.
    pub open_for: Option<Duration>,
}
