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
        if counts.failure_rate() >= self.window.failure_rate {
            return Some(Cause::FailureRate(counts));
        }
        (counts.slow_rate() >= self.window.slow_rate).then_some(Cause::SlowRate(counts))
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
