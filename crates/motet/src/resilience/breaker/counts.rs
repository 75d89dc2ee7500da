/// Finished calls, and how many of them were not well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Counts {
    /// All that ended, but for those whose verdict is to ignore them.
    pub calls: u64,
    /// Those that failed.
    pub failures: u64,
    /// Those that took as long as a slow call, failed or not.
    pub slow: u64,
}

/// How one call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) failed: bool,
    pub(super) slow: bool,
}

impl Counts {
    /// Gives the part of the calls that failed, from 0 to 1; 0 where there are none.
    #[must_use]
    pub fn failure_rate(&self) -> f64 {
        self.part(self.failures)
    }

    /// Gives the part of the calls that were slow, from 0 to 1; 0 where there are none.
    #[must_use]
    pub fn slow_rate(&self) -> f64 {
        self.part(self.slow)
    }

    // A division, not a product with the threshold: 7/100 is the very number that `0.07` is, and 0.07 * 100
    // is not 7.
    fn part(&self, count: u64) -> f64 {
        if self.calls == 0 { 0.0 } else { count as f64 / self.calls as f64 }
    }

    pub(super) fn add(&mut self, ended: Ended) {
        self.calls += 1;
        self.failures += u64::from(ended.failed);
        self.slow += u64::from(ended.slow);
    }

    pub(super) fn subtract(&mut self, other: Self) {
        self.calls -= other.calls;
        self.failures -= other.failures;
        self.slow -= other.slow;
    }

    /// Whether all calls were well.
    pub(super) fn is_clean(&self) -> bool {
        self.failures == 0 && self.slow == 0
    }
}
