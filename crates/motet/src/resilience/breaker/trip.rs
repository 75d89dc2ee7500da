use std::time::Duration;

use crate::resilience::InvalidPolicy;

/// The condition that opens a breaker: consecutive failures, a rate within a window, or any of several.
///
/// # Examples
/// ```
/// use motet::resilience::{Trip, Window};
/// use std::time::Duration;
///
/// let trip = Trip::consecutive(5)
///     .or(Window::calls(100).failure_rate(0.5).min_calls(20))
///     .or(Window::time(Duration::from_secs(30)).slow_rate(0.8));
/// # let _ = trip;
/// ```
#[derive(Debug, Clone, PartialEq)]
#[must_use = "a breaker opens on it when it is given to its builder"]
pub struct Trip {
    /// The smallest number that was given.
    pub(super) consecutive: Option<u32>,
    pub(super) windows: Vec<Window>,
}

impl Trip {
    /// Opens after this many consecutive failures, at least 1.
    ///
    /// This is the cheapest condition: a success reads no clock and takes no lock, unless it ends a streak.
    pub const fn consecutive(failures: u32) -> Self {
        Self { consecutive: Some(failures), windows: Vec::new() }
    }

    /// Also opens on `other`.
    pub fn or(mut self, other: impl Into<Self>) -> Self {
        let other = other.into();
        self.consecutive = match (self.consecutive, other.consecutive) {
            (Some(one), Some(two)) => Some(one.min(two)),
            (one, two) => one.or(two),
        };
        self.windows.extend(other.windows);
        self
    }

    pub(super) fn check(&self) -> Result<(), InvalidPolicy> {
        InvalidPolicy::unless(
            self.consecutive != Some(0),
            "a breaker opens on 1 failure in a row or more, not on 0",
        )?;
        self.windows.iter().try_for_each(Window::check)
    }
}

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
/// dropped call that [hung](super::OnCancel) always counts as slow.
#[derive(Debug, Clone, Copy, PartialEq)]
#[must_use = "a breaker opens on it when it is given to its builder"]
pub struct Window {
    pub(super) over: Over,
    pub(super) failure_rate: f64,
    pub(super) slow_rate: f64,
    pub(super) min_calls: u32,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Over {
    Calls(u32),
    Time { length: Duration, intervals: u32 },
}

/// A quarter of a megabyte, at two bits for each call.
const MAX_CALLS: u32 = 1 << 20;

impl Window {
    /// Creates a window of the last `size` calls, from 1 to 2^20. It keeps two bits for each.
    ///
    /// A success reads no clock, unless slow calls count; while a full window holds no failed and no slow call, a
    /// success takes no lock.
    pub const fn calls(size: u32) -> Self {
        Self::over(Over::Calls(size))
    }

    /// Creates a window of the calls that ended within `length`, more than zero.
    ///
    /// Time passes in intervals of a tenth of `length`: a call leaves the window when its age is between nine tenths of
    /// `length` and `length`. The cost does not depend on the number of calls. An interval is at least a nanosecond; a
    /// window of [`Duration::MAX`] forgets no call.
    pub const fn time(length: Duration) -> Self {
        Self::over(Over::Time { length, intervals: 10 })
    }

    const fn over(over: Over) -> Self {
        Self { over, failure_rate: 0.5, slow_rate: 0.5, min_calls: 20 }
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

    /// Sets the number of intervals of a window of time, from 10 to 1000. A window of calls has none.
    pub const fn intervals(mut self, count: u32) -> Self {
        if let Over::Time { length, .. } = self.over {
            self.over = Over::Time { length, intervals: count };
        }
        self
    }

    /// Also opens on `other`.
    pub fn or(self, other: impl Into<Trip>) -> Trip {
        Trip::from(self).or(other)
    }

    fn check(&self) -> Result<(), InvalidPolicy> {
        check_rate(self.failure_rate)?;
        check_rate(self.slow_rate)?;
        InvalidPolicy::unless(self.min_calls > 0, "the minimum of calls in a window is 1 or more")?;
        match self.over {
            Over::Calls(size) => {
                let fits = (1..=MAX_CALLS).contains(&size);
                InvalidPolicy::unless(fits, "a window of calls has from 1 to 2^20 of them")?;
                let reached = self.min_calls <= size;
                InvalidPolicy::unless(reached, "a window of calls never holds its minimum of calls")
            }
            Over::Time { length, intervals } => {
                let fits = (10..=1000).contains(&intervals);
                InvalidPolicy::unless(fits, "a window of time has from 10 to 1000 intervals")?;
                InvalidPolicy::unless(!length.is_zero(), "a window of time is a nanosecond or more")
            }
        }
    }
}

pub(super) fn check_rate(rate: f64) -> Result<(), InvalidPolicy> {
    InvalidPolicy::unless(rate > 0.0 && rate <= 1.0, "a rate is more than 0 and at most 1")
}

impl From<Window> for Trip {
    fn from(window: Window) -> Self {
        Self { consecutive: None, windows: vec![window] }
    }
}
