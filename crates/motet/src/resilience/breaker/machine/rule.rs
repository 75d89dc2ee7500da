use tokio::time::Instant;

use super::calls::CallRing;
use super::time::TimeRing;
use crate::resilience::breaker::counts::{Counts, Ended};
use crate::resilience::breaker::state::Cause;
use crate::resilience::breaker::trip::{Over, Window};

/// A window with its calls.
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

    /// The counts of the window, as of the last call or [`advance`](Self::advance).
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

    /// Returns the cause if the window opens the breaker.
    pub(super) fn tripped(&self) -> Option<Cause> {
        let counts = self.counts();
        if counts.calls < u64::from(self.window.min_calls) {
            return None;
        }
        // Rates are more than zero, so that most calls need no division.
        if counts.failures > 0 && counts.failure_rate() >= self.window.failure_rate {
            return Some(Cause::FailureRate(counts));
        }
        let is_slow = counts.slow > 0 && counts.slow_rate() >= self.window.slow_rate;
        is_slow.then_some(Cause::SlowRate(counts))
    }

    /// Returns `true` if a success only takes a position in the window: it does not open the breaker, neither now nor
    /// before the next call that fails or is slow.
    pub(super) fn only_counts_successes(&self) -> bool {
        match &self.ring {
            // Once the window holds its minimum of calls, a success never raises a rate.
            Ring::Calls(ring) => ring.counts().calls >= u64::from(self.window.min_calls),
            // A success leaves the window a fixed time after it was recorded.
            Ring::Time(_) => false,
        }
    }

    /// Records `calls` successes, if they are [only counted](Self::only_counts_successes).
    pub(super) fn succeeded(&mut self, calls: u32) {
        if let Ring::Calls(ring) = &mut self.ring {
            ring.succeeded(calls);
        }
    }

    pub(super) fn is_saturated(&self) -> bool {
        match &self.ring {
            Ring::Calls(ring) => ring.is_saturated(),
            // A success counts, because it leaves the window at another time than the one before.
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
