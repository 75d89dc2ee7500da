use std::time::Duration;

use super::{AfterWait, Trip};
use crate::Backoff;

/// The settings of a breaker, validated.
#[derive(Debug, Clone)]
pub(super) struct Config {
    pub(super) trip: Trip,
    /// The time from which a call counts as slow.
    pub(super) slow_call: Option<Duration>,
    pub(super) open_for: Backoff,
    pub(super) stable_after: Duration,
    pub(super) probes: Probes,
}

#[derive(Debug, Clone)]
pub(super) struct Probes {
    pub(super) count: u32,
    pub(super) failure_rate: f64,
    pub(super) slow_rate: f64,
    pub(super) lease: Duration,
    pub(super) max_wait: Option<(Duration, AfterWait)>,
}
