//! What an adaptive limit goes by: no clock of its own, no lock, no runtime.
//!
//! The rules are those of failsafe-go's adaptive limiter (Jonathan Halterman, 2024; version 0.9), which is in
//! the line of TCP Vegas and of Netflix's concurrency-limits: the times of late are compared with a slow
//! average of them, which tells how many calls queue; few are room for more, many are too many. An average
//! drifts up with a queue that stays, so that the comparison alone would raise a limit without end
//! (Netflix/concurrency-limits has that). Hence the second look: whether more calls under way have brought
//! more through. From concurrency-limits' AIMD is the answer to calls that failed of too much load.

mod history;
mod quantile;

use std::time::Duration;

use tokio::time::Instant;

use history::{History, Seen};
use quantile::Times;

#[derive(Debug, Clone, PartialEq)]
pub(in crate::resilience::adaptive) struct Config {
    pub(in crate::resilience::adaptive) start: usize,
    pub(in crate::resilience::adaptive) min: usize,
    pub(in crate::resilience::adaptive) max: usize,
    pub(in crate::resilience::adaptive) window: Duration,
    pub(in crate::resilience::adaptive) min_samples: u32,
}

#[derive(Debug)]
pub(in crate::resilience::adaptive) struct Rules {
    config: Config,
    limit: f64,
    /// Until when the window lasts at least; `None` before its first call ended.
    until: Option<Instant>,
    times: Times,
    failures: u32,
    /// The most calls that were under way when one of the window began.
    most: usize,
    shortest: Duration,
    baseline: Average,
    history: History,
}

/// No window is longer, however slow calls are.
const LONGEST: Duration = Duration::from_secs(30);
/// Most calls of a window are quicker; what the rest needs is often their own affair.
const QUANTILE: f64 = 0.9;
/// There is no telling where the limit of calls that are few would be: it is not raised above this many times
/// them.
const AHEAD: f64 = 5.0;
/// One failure of this many calls lowers the limit; fewer are errors, as there always are.
const FAILURES: u32 = 10;
const BACK_OFF: f64 = 0.9;

impl Rules {
    pub(in crate::resilience::adaptive) fn new(config: Config) -> Self {
        Self {
            limit: config.start as f64,
            config,
            until: None,
            times: Times::new(),
            failures: 0,
            most: 0,
            shortest: Duration::MAX,
            baseline: Average::default(),
            history: History::default(),
        }
    }

    pub(in crate::resilience::adaptive) fn limit(&self) -> usize {
        self.limit as usize
    }

    /// Takes notice of a call that succeeded in this time, or failed of too much load.
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
        // Of slow calls a window of the least length would see few, and those that began before it.
        let twice = if self.times.count() > 0 { self.shortest.saturating_mul(2) } else { Duration::ZERO };
        self.until = Some(now + twice.min(LONGEST).max(self.config.window));
        self.times.clear();
        (self.failures, self.most, self.shortest) = (0, 0, Duration::MAX);
    }

    /// What the limit is to be after this window.
    fn next(&mut self) -> f64 {
        let all = self.times.count() + self.failures;
        if self.failures.saturating_mul(FAILURES) >= all {
            return self.limit * BACK_OFF;
        }
        let time = self.times.quantile(QUANTILE).max(1.0);
        let baseline = self.baseline.add(time);
        self.history.add(Seen { in_flight: self.most as f64, time });
        let queued = self.limit * (1.0 - baseline / time);
        let step = self.limit.log10().max(1.0);
        let is_full = self.most as f64 >= self.limit.floor();
        if queued > 6.0 * step || is_full && self.history.queues() {
            return self.limit - step;
        }
        let highest = self.most as f64 * AHEAD;
        if self.limit > highest {
            // Step by step: calls that pause for a moment have not become fewer.
            return self.limit - step;
        }
        if queued < 3.0 * step { (self.limit + step).min(highest) } else { self.limit }
    }
}

/// An average in which the last ten windows or so count.
#[derive(Debug, Default)]
struct Average {
    value: f64,
    count: u32,
}

impl Average {
    fn add(&mut self, value: f64) -> f64 {
        // Plain at first, so that the first window is not all there is.
        const AGE: f64 = 10.0;
        self.count = self.count.saturating_add(1);
        let weight = (1.0 / f64::from(self.count)).max(2.0 / (AGE + 1.0));
        self.value += (value - self.value) * weight;
        self.value
    }
}

#[cfg(test)]
mod tests;
