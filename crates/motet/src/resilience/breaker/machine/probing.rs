use std::time::Duration;

use tokio::time::Instant;

use crate::mutant;
use crate::resilience::breaker::builder::ProbeConfig;
use crate::resilience::breaker::counts::{CallCounts, EndedCall};
use crate::resilience::breaker::state::TripCause;

/// The state of a half-open breaker.
#[derive(Debug)]
pub(super) struct Probing {
    since: Instant,
    /// The counts of the probes that ended or expired.
    counts: CallCounts,
    /// The probes in flight: their numbers, and when their leases expire.
    leases: Vec<(u32, Instant)>,
    last: u32,
}

impl Probing {
    pub(super) fn new(since: Instant) -> Self {
        Self { since, counts: CallCounts::default(), leases: Vec::new(), last: 0 }
    }

    pub(super) fn in_flight(&self) -> usize {
        self.leases.len()
    }

    /// Returns the number of a new probe, if a lease is free.
    pub(super) fn admit(&mut self, probes: &ProbeConfig, now: Instant) -> Option<u32> {
        if self.counts.calls + self.leases.len() as u64 >= u64::from(probes.count) {
            return None;
        }
        self.last = self.last.wrapping_add(1);
        self.leases.push((self.last, later(now, probes.lease)));
        Some(self.last)
    }

    /// Records the outcome of a probe; `None` if it does not count. Returns `false` if its lease has expired.
    pub(super) fn end(&mut self, probe: u32, ended: Option<EndedCall>) -> bool {
        let Some(at) = self.leases.iter().position(|(number, _)| *number == probe) else { return false };
        if mutant!("breaker.keep_cancelled_probe") {
            let Some(_) = ended else { return true };
        }
        self.leases.swap_remove(at);
        if let Some(ended) = ended {
            self.counts.add(ended);
        }
        true
    }

    /// Removes expired leases: each of their probes counts as hung.
    pub(super) fn expire(&mut self, now: Instant) {
        let before = self.leases.len();
        self.leases.retain(|(_, until)| now < *until);
        for _ in self.leases.len()..before {
            self.counts.add(EndedCall { failed: true, slow: true });
        }
    }

    /// Returns the decision of the probes, if there is one: `true` closes the breaker.
    pub(super) fn verdict(&self, probes: &ProbeConfig) -> Option<(bool, TripCause)> {
        // A share of all probes, not of those that ended: the first failure of ten is not a rate of 1.
        let reached = |count: u64, rate: f64| count as f64 / f64::from(probes.count) >= rate;
        let mut slow = reached(self.counts.slow, probes.slow_rate);
        if mutant!("breaker.slow_probe_is_well") {
            slow = false;
        }
        if reached(self.counts.failures, probes.failure_rate) || slow {
            return Some((false, TripCause::ProbesFailed(self.counts)));
        }
        let all = self.counts.calls >= u64::from(probes.count);
        all.then_some((true, TripCause::ProbesSucceeded(self.counts)))
    }

    /// Returns the cause if the breaker has been half-open for `longest`.
    pub(super) fn waited(&self, longest: Duration, now: Instant) -> Option<TripCause> {
        let over = now.saturating_duration_since(self.since) >= longest;
        over.then_some(TripCause::HalfOpenWaitOver(self.counts))
    }
}

/// Returns `now + time`, or an instant in the far future if the clock cannot represent it.
pub(super) fn later(now: Instant, time: Duration) -> Instant {
    const THIRTY_YEARS: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);
    now.checked_add(time).unwrap_or_else(|| now + THIRTY_YEARS)
}
