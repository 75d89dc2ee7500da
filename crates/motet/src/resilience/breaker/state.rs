use std::fmt;
use std::time::Duration;

use super::Counts;

/// Says what a breaker does with calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum BreakerState {
    /// Lets all calls through, and counts how they end.
    #[default]
    Closed,
    /// Rejects all calls until its time is over.
    Open,
    /// Lets a few calls through, to see how they end.
    HalfOpen,
    /// Rejects all calls until it is told otherwise.
    ForcedOpen,
    /// Lets all calls through and counts how they end, until it is told otherwise.
    ForcedClosed,
    /// Lets all calls through, counts how they end, and says when it would have opened.
    MetricsOnly,
    /// Lets all calls through and counts nothing.
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

/// What made a breaker change its state.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Cause {
    /// So many failures in a row.
    Consecutive {
        /// How many.
        failures: u32,
    },
    /// The rate of failures within a window.
    FailureRate(Counts),
    /// The rate of slow calls within a window.
    SlowRate(Counts),
    /// The breaker had been open for its time.
    OpenTimeOver,
    /// The probes went well.
    ProbesSucceeded(Counts),
    /// Too many probes failed, or were slow.
    ProbesFailed(Counts),
    /// It was half open for as long as it may be, and too few probes had ended.
    HalfOpenWaitOver(Counts),
    /// It was told to.
    Manual,
}

/// A change of a breaker's state, with what made it.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct StateChange {
    /// The state before.
    pub from: BreakerState,
    /// The state now. The same as before for a breaker of [metrics only](BreakerState::MetricsOnly), which
    /// says that it would have opened.
    pub to: BreakerState,
    /// What made it.
    pub cause: Cause,
    /// For how long it is open, where it opened by itself.
    pub open_for: Option<Duration>,
}
