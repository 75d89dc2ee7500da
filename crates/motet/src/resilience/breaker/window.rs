use std::time::Duration;

use crate::resilience::PolicyConfigError;

/// A rate of failures, or of slow calls, at which a breaker opens, and the calls over which the rate is taken.
///
/// The window slides: a call leaves it after a number of later calls, or after a time. Rates count once the window
/// holds its minimum of calls, full or not, and are checked after each call, including a success.
///
/// # Defaults
/// A failure rate of 0.5, a slow rate of 0.5, at least 20 calls, and 10 intervals for a window of time. A minimum of
/// 100, as in other libraries, would leave a service with few calls without a breaker.
///
/// Slow calls are counted if the breaker knows which calls are [slow](super::CircuitBreakerBuilder::slow_call); a
/// dropped call that [hung](super::CircuitBreakerBuilder::fail_dropped_calls_after) always counts as slow.
///
/// # Examples
/// ```
/// use motet::resilience::{CircuitBreaker, Window};
/// use std::time::Duration;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let breaker = CircuitBreaker::builder()
///     .window(Window::calls(100).failure_rate(0.5).min_calls(20))
///     .window(Window::time(Duration::from_secs(30)).slow_rate(0.8))
///     .slow_call(Duration::from_secs(2))
///     .build()?;
/// # drop(breaker);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
#[must_use = "a window opens a breaker when it is passed to its builder"]
pub struct Window {
    pub(super) span: WindowSpan,
    pub(super) failure_rate: f64,
    pub(super) slow_rate: f64,
    pub(super) min_calls: u32,
    /// `None` is the default of a window of time.
    intervals: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum WindowSpan {
    Calls(u32),
    Time(Duration),
}

/// A quarter of a megabyte, at two bits for each call.
const MAX_CALLS: u32 = 1 << 20;

impl Window {
    /// Creates a window of the last `size` calls, from 1 to 2^20. It keeps two bits for each.
    ///
    /// A success reads no clock, unless slow calls count; while a full window holds no failed and no slow call, a
    /// success takes no lock.
    pub const fn calls(size: u32) -> Self {
        Self::spanning(WindowSpan::Calls(size))
    }

    /// Creates a window of the calls that ended within `length`, more than zero.
    ///
    /// Time passes in intervals of a tenth of `length`: a call leaves the window when its age is between nine tenths of
    /// `length` and `length`. The cost does not depend on the number of calls. An interval is at least a nanosecond; a
    /// window of [`Duration::MAX`] forgets no call.
    pub const fn time(length: Duration) -> Self {
        Self::spanning(WindowSpan::Time(length))
    }

    const fn spanning(span: WindowSpan) -> Self {
        Self { span, failure_rate: 0.5, slow_rate: 0.5, min_calls: 20, intervals: None }
    }

    /// Sets the share of failed calls at which the breaker opens, more than 0 and at most 1.
    pub const fn failure_rate(mut self, rate: f64) -> Self {
        self.failure_rate = rate;
        self
    }

    /// Sets the share of slow calls at which the breaker opens, more than 0 and at most 1.
    pub const fn slow_rate(mut self, rate: f64) -> Self {
        self.slow_rate = rate;
        self
    }

    /// Sets the number of calls from which rates count, at least 1; for a window of calls, at most its size.
    pub const fn min_calls(mut self, calls: u32) -> Self {
        self.min_calls = calls;
        self
    }

    /// Sets the number of intervals of a window of time, from 10 to 1000. A window of calls has no intervals, and this
    /// setting is an error for it.
    pub const fn intervals(mut self, count: u32) -> Self {
        self.intervals = Some(count);
        self
    }

    /// The number of intervals of a window of time.
    pub(super) fn interval_count(&self) -> u32 {
        self.intervals.unwrap_or(10)
    }

    pub(super) fn check(&self) -> Result<(), PolicyConfigError> {
        check_rate("failure_rate", self.failure_rate)?;
        check_rate("slow_rate", self.slow_rate)?;
        PolicyConfigError::unless(self.min_calls > 0, "min_calls", self.min_calls, "at least 1")?;
        match self.span {
            WindowSpan::Calls(size) => {
                let fits = (1..=MAX_CALLS).contains(&size);
                PolicyConfigError::unless(fits, "Window::calls", size, "from 1 to 2^20")?;
                if let Some(count) = self.intervals {
                    PolicyConfigError::unless(false, "intervals", count, "unset for a window of calls")?;
                }
                let is_reached = self.min_calls <= size;
                PolicyConfigError::unless(
                    is_reached,
                    "min_calls",
                    self.min_calls,
                    "at most the size of the window of calls",
                )
            }
            WindowSpan::Time(length) => {
                let intervals = self.interval_count();
                let fits = (10..=1000).contains(&intervals);
                PolicyConfigError::unless(fits, "intervals", intervals, "from 10 to 1000")?;
                PolicyConfigError::unless(!length.is_zero(), "Window::time", length, "more than zero")
            }
        }
    }
}

pub(super) fn check_rate(setting: &'static str, rate: f64) -> Result<(), PolicyConfigError> {
    PolicyConfigError::unless(rate > 0.0 && rate <= 1.0, setting, rate, "more than 0 and at most 1")
}
