use std::time::Duration;

use tokio::time::Instant;

use crate::resilience::breaker::counts::{Counts, Ended};

/// The calls that ended lately, by intervals of time: what it costs does not depend on how many there are.
#[derive(Debug)]
pub(super) struct TimeRing {
    /// How long an interval is.
    width: Duration,
    intervals: Box<[Counts]>,
    current: usize,
    /// Where the current interval ends; `None` before the first call.
    ends: Option<Instant>,
    /// Of all intervals together.
    counts: Counts,
}

impl TimeRing {
    pub(super) fn new(length: Duration, intervals: u32) -> Self {
        Self {
            // Of an interval of no time there would be endlessly many.
            width: (length / intervals).max(Duration::from_nanos(1)),
            intervals: vec![Counts::default(); intervals as usize].into_boxed_slice(),
            current: 0,
            ends: None,
            counts: Counts::default(),
        }
    }

    pub(super) fn record(&mut self, ended: Ended, now: Instant) {
        self.advance(now);
        self.intervals[self.current].add(ended);
        self.counts.add(ended);
    }

    /// Lets go of the intervals that are past. A `now` of before, from a thread that was late at the lock, is
    /// taken for the current interval.
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
            // All are past; the intervals begin anew.
            self.clear();
            self.ends = now.checked_add(self.width);
            return;
        }
        for _ in 0..steps {
            self.current = (self.current + 1) % self.intervals.len();
            self.counts.subtract(std::mem::take(&mut self.intervals[self.current]));
        }
        // Few steps, so this does not overflow.
        self.ends = ends.checked_add(self.width * steps as u32);
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    pub(super) fn clear(&mut self) {
        self.intervals.fill(Counts::default());
        self.counts = Counts::default();
        self.ends = None;
    }
}
