//! The rules of an adaptive limit: without a clock of their own, a lock or a runtime.
//!
//! The rules are those of failsafe-go's adaptive limiter (Jonathan Halterman, 2024; version 0.9), in the line of TCP
//! Vegas and Netflix's concurrency-limits: the recent durations are compared with a slow average of durations, which
//! shows how many calls queue. With few queued calls the limit is raised, with many it is lowered. A queue that stays
//! raises the average, so that the comparison alone would raise the limit without end (as Netflix/concurrency-limits
//! does). So a second check looks at whether more calls in flight have increased the throughput. The response to calls
//! that failed because of too much load is that of AIMD in concurrency-limits.

mod history;
mod quantile;

use std::time::Duration;

use tokio::time::Instant;

use history::{WindowHistory, WindowSample};
use quantile::DurationHistogram;

#[derive(Debug, Clone, PartialEq)]
pub(in crate::resilience::adaptive) struct AdaptiveConfig {
    pub(in crate::resilience::adaptive) start: usize,
    pub(in crate::resilience::adaptive) min: usize,
    pub(in crate::resilience::adaptive) max: usize,
    pub(in crate::resilience::adaptive) window: Duration,
    pub(in crate::resilience::adaptive) min_samples: u32,
}

#[derive(Debug)]
pub(in crate::resilience::adaptive) struct AdaptiveRules {
    config: AdaptiveConfig,
    limit: f64,
    /// When the window ends at the earliest; `None` before its first call has ended.
    until: Option<Instant>,
    times: DurationHistogram,
    failures: u32,
    /// The largest number of calls in flight when a call of the window began.
    most: usize,
    shortest: Duration,
    baseline: Average,
    history: WindowHistory,
}

/// The longest window, for any duration of calls.
const LONGEST: Duration = Duration::from_secs(30);
/// The quantile that is compared: most calls of a window are shorter, and the longer ones often have causes of their
/// own.
const QUANTILE: f64 = 0.9;
/// The limit is not raised above this multiple of the calls in flight: a few calls do not show where the limit is.
const AHEAD: f64 = 5.0;
/// The limit is lowered if at least one in this many calls fails; fewer failures are normal.
const FAILURES: u32 = 10;
const BACK_OFF: f64 = 0.9;

impl AdaptiveRules {
    pub(in crate::resilience::adaptive) fn new(config: AdaptiveConfig) -> Self {
        Self {
            limit: config.start as f64,
            config,
            until: None,
            times: DurationHistogram::new(),
            failures: 0,
            most: 0,
            shortest: Duration::MAX,
            baseline: Average::default(),
            history: WindowHistory::default(),
        }
    }

    pub(in crate::resilience::adaptive) fn limit(&self) -> usize {
        self.limit as usize
    }

    /// Records a call that succeeded in `time`, or, with `None`, failed because of too much load.
    pub(in crate::resilience::adaptive) fn ended(
        &mut self,
        time: Option<Duration>,
        in_flight: usize,
        now: Instant,
    ) {
        match time {
            Some(time) => {
                self.times.add(time);
                self.shortest = self.shortest.min(time);
            }
            None => self.failures += 1,
        }
        self.most = self.most.max(in_flight);
        let until = *self.until.get_or_insert_with(|| now + self.config.window);
        if now < until || self.times.count() + self.failures < self.config.min_samples {
            return;
        }
        let limit = self.next();
        self.limit = limit.clamp(self.config.min as f64, self.config.max as f64);
        // A window of the shortest length would have few slow calls, and mostly those that began before it.
        let twice = if self.times.count() > 0 { self.shortest.saturating_mul(2) } else { Duration::ZERO };
        self.until = Some(now + twice.min(LONGEST).max(self.config.window));
        self.times.clear();
        (self.failures, self.most, self.shortest) = (0, 0, Duration::MAX);
    }

    /// Returns the limit after this window.
    fn next(&mut self) -> f64 {
        let all = self.times.count() + self.failures;
        if self.failures.saturating_mul(FAILURES) >= all {
            return self.limit * BACK_OFF;
        }
        let time = self.times.quantile(QUANTILE).max(1.0);
        let baseline = self.baseline.add(time);
        self.history.add(WindowSample { in_flight: self.most as f64, time });
        let queued = self.limit * (1.0 - baseline / time);
        let step = self.limit.log10().max(1.0);
        let is_full = self.most as f64 >= self.limit.floor();
        if queued > 6.0 * step || is_full && self.history.queues() {
            return self.limit - step;
        }
        let highest = self.most as f64 * AHEAD;
        if self.limit > highest {
            // Step by step, because a pause in the calls does not mean that there are fewer calls.
            return self.limit - step;
        }
        if queued < 3.0 * step { (self.limit + step).min(highest) } else { self.limit }
    }
}

/// An average of about the last ten windows.
#[derive(Debug, Default)]
struct Average {
    value: f64,
    count: u32,
}

impl Average {
    fn add(&mut self, value: f64) -> f64 {
        // A plain average at first, so that the first window does not dominate.
        const AGE: f64 = 10.0;
        self.count = self.count.saturating_add(1);
        let weight = (1.0 / f64::from(self.count)).max(2.0 / (AGE + 1.0));
        self.value += (value - self.value) * weight;
        self.value
    }
}

#[cfg(test)]
mod tests;
