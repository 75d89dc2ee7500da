use tokio::time::Instant;

use super::calls::CallRing;
use super::time::TimeRing;
use crate::resilience::breaker::counts::{CallCounts, EndedCall};
use crate::resilience::breaker::state::TripCause;
use crate::resilience::breaker::window::{Window, WindowSpan};

/// A window with its calls.
#[derive(Debug)]
pub(super) struct WindowRule {
    window: Window,
    ring: WindowRing,
}

#[derive(Debug)]
enum WindowRing {
    Calls(CallRing),
    Time(TimeRing),
}

impl WindowRule {
    pub(super) fn new(window: Window) -> Self {
        let ring = match window.span {
            WindowSpan::Calls(size) => WindowRing::Calls(CallRing::new(size)),
            WindowSpan::Time(length) => WindowRing::Time(TimeRing::new(length, window.interval_count())),
        };
        Self { window, ring }
    }

    pub(super) fn record(&mut self, ended: EndedCall, now: impl Fn() -> Instant) {
        match &mut self.ring {
            WindowRing::Calls(ring) => ring.record(ended),
            WindowRing::Time(ring) => ring.record(ended, now()),
        }
    }

    /// The counts of the window, as of the last call or [`advance`](Self::advance).
    pub(super) fn counts(&self) -> CallCounts {
        match &self.ring {
            WindowRing::Calls(ring) => ring.counts(),
            WindowRing::Time(ring) => ring.counts(),
        }
    }

    pub(super) fn advance(&mut self, now: Instant) {
        if let WindowRing::Time(ring) = &mut self.ring {
            ring.advance(now);
        }
    }

    /// Returns the cause if the window opens the breaker.
    pub(super) fn tripped(&self) -> Option<TripCause> {
        let counts = self.counts();
        if counts.calls < u64::from(self.window.min_calls) {
            return None;
        }
        // Rates are more than zero, so that most calls need no division.
        if counts.failures > 0 && counts.failure_rate() >= self.window.failure_rate {
            return Some(TripCause::FailureRate(counts));
        }
        let is_slow = counts.slow > 0 && counts.slow_rate() >= self.window.slow_rate;
        is_slow.then_some(TripCause::SlowRate(counts))
    }

    /// Returns `true` if a success only takes a position in the window: it does not open the breaker, neither now nor
    /// before the next call that fails or is slow.
    pub(super) fn only_counts_successes(&self) -> bool {
        match &self.ring {
            // Once the window holds its minimum of calls, a success never raises a rate.
            WindowRing::Calls(ring) => ring.counts().calls >= u64::from(self.window.min_calls),
            // A success leaves the window a fixed time after it was recorded.
            WindowRing::Time(_) => false,
        }
    }

    /// Records `calls` successes, if they are [only counted](Self::only_counts_successes).
    pub(super) fn succeeded(&mut self, calls: u32) {
        if let WindowRing::Calls(ring) = &mut self.ring {
            ring.succeeded(calls);
        }
    }

    pub(super) fn is_saturated(&self) -> bool {
        match &self.ring {
            WindowRing::Calls(ring) => ring.is_saturated(),
            // A success counts, because it leaves the window at another time than the one before.
            WindowRing::Time(_) => false,
        }
    }

    pub(super) fn clear(&mut self) {
        match &mut self.ring {
            WindowRing::Calls(ring) => ring.clear(),
            WindowRing::Time(ring) => ring.clear(),
        }
    }
}
