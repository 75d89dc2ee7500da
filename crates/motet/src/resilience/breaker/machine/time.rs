use std::time::Duration;

use tokio::time::Instant;

use crate::resilience::breaker::counts::{CallCounts, EndedCall};

/// The calls of the last intervals of time: its cost does not depend on the number of calls.
#[derive(Debug)]
pub(super) struct TimeRing {
    /// The length of an interval.
    width: Duration,
    intervals: Box<[CallCounts]>,
    current: usize,
    /// The end of the current interval; `None` before the first call.
    ends: Option<Instant>,
    /// The counts of all intervals together.
    counts: CallCounts,
}

impl TimeRing {
    pub(super) fn new(length: Duration, intervals: u32) -> Self {
        Self {
            // An interval of no time would divide by zero in `advance`.
            width: (length / intervals).max(Duration::from_nanos(1)),
            intervals: vec![CallCounts::default(); intervals as usize].into_boxed_slice(),
            current: 0,
            ends: None,
            counts: CallCounts::default(),
        }
    }

    pub(super) fn record(&mut self, ended: EndedCall, now: Instant) {
        self.advance(now);
        self.intervals[self.current].add(ended);
        self.counts.add(ended);
    }

    /// Drops the intervals that have passed. An earlier `now`, from a thread that was late at the lock, counts for the
    /// current interval.
    pub(super) fn advance(&mut self, now: Instant) {
        let Some(ends) = self.ends else {
            self.ends = now.checked_add(self.width);
            return;
        };
        if now < ends {
            return;
        }
        let steps = (now - ends).as_nanos() / self.width.as_nanos() + 1;
        if steps >= self.intervals.len() as u128 {
            // All intervals have passed, and start again.
            self.clear();
            self.ends = now.checked_add(self.width);
            return;
        }
        for _ in 0..steps {
            self.current = (self.current + 1) % self.intervals.len();
            self.counts.subtract(std::mem::take(&mut self.intervals[self.current]));
        }
        // Fewer steps than intervals, so that this does not overflow.
        self.ends = ends.checked_add(self.width * steps as u32);
    }

    pub(super) fn counts(&self) -> CallCounts {
        self.counts
    }

    pub(super) fn clear(&mut self) {
        self.intervals.fill(CallCounts::default());
        self.counts = CallCounts::default();
        self.ends = None;
    }
}
