/// The number of finished calls, and how many of them failed or were slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct CallCounts {
    /// The calls that ended, except those with the verdict [`Ignore`](crate::resilience::Verdict::Ignore).
    pub calls: u64,
    /// The calls that failed.
    pub failures: u64,
    /// The calls that took at least the time of a slow call, failed or not.
    pub slow: u64,
}

/// The outcome of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EndedCall {
    pub(super) failed: bool,
    pub(super) slow: bool,
}

impl CallCounts {
    /// The share of the calls that failed, from 0 to 1; 0 if there are no calls.
    #[must_use]
    pub fn failure_rate(&self) -> f64 {
        self.part(self.failures)
    }

    /// The share of the calls that were slow, from 0 to 1; 0 if there are no calls.
    #[must_use]
    pub fn slow_rate(&self) -> f64 {
        self.part(self.slow)
    }

    // A division, not a product with the threshold: 7/100 is exactly the number that `0.07` is, but 0.07 * 100 is not
    // 7.
    fn part(&self, count: u64) -> f64 {
        if self.calls == 0 { 0.0 } else { count as f64 / self.calls as f64 }
    }

    pub(super) fn add(&mut self, ended: EndedCall) {
        self.calls += 1;
        self.failures += u64::from(ended.failed);
        self.slow += u64::from(ended.slow);
    }

    pub(super) fn subtract(&mut self, other: Self) {
        self.calls -= other.calls;
        self.failures -= other.failures;
        self.slow -= other.slow;
    }

    /// Returns `true` if no call failed or was slow.
    pub(super) fn is_clean(&self) -> bool {
        self.failures == 0 && self.slow == 0
    }
}
