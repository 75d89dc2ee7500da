use tokio::time::Instant;

use super::calls::CallRing;
use super::time::TimeRing;
use crate::resilience::breaker::counts::{Counts, Ended};
use crate::resilience::breaker::state::Cause;
use crate::resilience::breaker::trip::{Over, Window};

/// A window, with the calls in it.
#[derive(Debug)]
pub(super) struct Rule {
    window: Window,
    ring: Ring,
}

#[derive(Debug)]
enum Ring {
    Calls(CallRing),
    Time(TimeRing),
}

impl Rule {
    pub(super) fn new(window: Window) -> Self {
        let ring = match window.over {
            Over::Calls(size) => Ring::Calls(CallRing::new(size)),
            Over::Time { length, intervals } => Ring::Time(TimeRing::new(length, intervals)),
        };
        Self { window, ring }
    }

    pub(super) fn record(&mut self, ended: Ended, now: impl Fn() -> Instant) {
        match &mut self.ring {
            Ring::Calls(ring) => ring.record(ended),
            Ring::Time(ring) => ring.record(ended, now()),
        }
    }

    /// What is in the window, as of the last call or [`advance`](Self::advance).
    pub(super) fn counts(&self) -> Counts {
        match &self.ring {
            Ring::Calls(ring) => ring.counts(),
            Ring::Time(ring) => ring.counts(),
        }
    }

    pub(super) fn advance(&mut self, now: Instant) {
        if let Ring::Time(ring) = &mut self.ring {
            ring.advance(now);
        }
    }

    /// Whether what is in the window opens the breaker.
    pub(super) fn tripped(&self) -> Option<Cause> {
        let counts = self.counts();
        if counts.calls < u64::from(self.window.min_calls) {
            return None;
        }
        // A rate is more than zero, so that most calls need no division.
        if counts.failures > 0 && counts.failure_rate() >= self.window.failure_rate {
            return Some(Cause::FailureRate(counts));
        }
        let is_slow = counts.slow > 0 && counts.slow_rate() >= self.window.slow_rate;
        is_slow.then_some(Cause::SlowRate(counts))
    }

    /// Whether a success is of no interest but for the place it takes: it does not open the breaker, now or before the
    /// next call that is not well.
    pub(super) fn only_counts_successes(&self) -> bool {
        match &self.ring {
            // From the minimum on, one more never raises a rate.
            Ring::Calls(ring) => ring.counts().calls >= u64::from(self.window.min_calls),
            // It leaves some time after it came.
            Ring::Time(_) => false,
        }
    }

    /// Records so many successes, where they are [only counted](Self::only_counts_successes).
    pub(super) fn succeeded(&mut self, calls: u32) {
        if let Ring::Calls(ring) = &mut self.ring {
            ring.succeeded(calls);
        }
    }

    pub(super) fn is_saturated(&self) -> bool {
        match &self.ring {
            Ring::Calls(ring) => ring.is_saturated(),
            // A good call counts, for it leaves at another time than the one before.
            Ring::Time(_) => false,
        }
    }

    pub(super) fn clear(&mut self) {
        match &mut self.ring {
            Ring::Calls(ring) => ring.clear(),
            Ring::Time(ring) => ring.clear(),
        }
    }
}
