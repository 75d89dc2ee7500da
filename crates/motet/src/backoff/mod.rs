//! How long to wait between attempts.

mod jitter;

use std::time::Duration;

pub use jitter::Jitter;

use crate::rng::Rng;

/// Says how long to wait before the next attempt: constant or growing, with jitter.
///
/// A pure value: it reads no clock, sleeps never and keeps no count. The caller counts failed attempts, starts
/// again from zero after a success, and lends the generator, usually that of its thread
/// ([`rng::with`](crate::rng::with)).
///
/// The growth is `base * factor^attempt`, at most `max`: the *ceiling* of an attempt. The wait itself is
/// drawn from an interval that the [`Jitter`] spans below (with [`Jitter::Proportional`], around) the ceiling,
/// and that never reaches past `max`: the cap is applied before the draw. Clamped after it, every late attempt
/// of every client would come at the same moment.
///
/// # Defaults
/// [`Backoff::default`] is 100 ms doubling up to 20 s with full jitter, as the AWS SDKs have it. An
/// [`exponential`](Self::exponential) one has factor 2 and [`Jitter::Full`]; a [`constant`](Self::constant)
/// one has no jitter, for then it would not be constant.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use motet::{Backoff, Jitter, rng};
///
/// let backoff = Backoff::exponential(Duration::from_millis(100), Duration::from_secs(2));
/// for attempt in 0..10 {
///     let wait = rng::with(|rng| backoff.delay(attempt, rng));
///     assert!(wait <= backoff.ceiling(attempt) && wait <= Duration::from_secs(2));
/// }
///
/// let plain = backoff.jitter(Jitter::None);
/// let waits: Vec<_> = (0..6).map(|n| rng::with(|rng| plain.delay(n, rng)).as_millis()).collect();
/// assert_eq!(waits, [100, 200, 400, 800, 1600, 2000]);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Backoff {
    base: Duration,
    max: Duration,
    factor: f64,
    jitter: Jitter,
}

impl Backoff {
    /// Waits `delay` after each attempt: zero is at once, and [`Duration::MAX`] never.
    ///
    /// There is no cap, so that [`Jitter::Proportional`] reaches to both sides of `delay`. With a
    /// [`factor`](Self::factor) it would grow without bound: use [`exponential`](Self::exponential).
    #[must_use]
    pub const fn constant(delay: Duration) -> Self {
        Self { base: delay, max: Duration::MAX, factor: 1.0, jitter: Jitter::None }
    }

    /// Waits up to `base` after the first attempt, up to twice as long after each further one, and never
    /// longer than `max`.
    ///
    /// # Panics
    /// If `base` is longer than `max`: the wait would never grow, and is [`constant`](Self::constant).
    #[must_use]
    #[track_caller]
    pub fn exponential(base: Duration, max: Duration) -> Self {
        assert!(base <= max, "a backoff that starts at {base:?} cannot be capped at {max:?}");
        Self { base, max, factor: 2.0, jitter: Jitter::Full }
    }

    /// Multiplies the ceiling by `factor` from one attempt to the next.
    ///
    /// # Panics
    /// If `factor` is below one, infinite or not a number: waits that shrink press harder on what fails.
    #[must_use]
    #[track_caller]
    pub fn factor(mut self, factor: f64) -> Self {
        assert!(
            factor.is_finite() && factor >= 1.0,
            "a backoff grows by a factor of 1 or more, not {factor}"
        );
        self.factor = factor;
        self
    }

    /// Draws the waits as `jitter` says.
    ///
    /// # Panics
    /// If the fraction of [`Jitter::Proportional`] is not within `0.0..=1.0`.
    #[must_use]
    #[track_caller]
    pub fn jitter(mut self, jitter: Jitter) -> Self {
        jitter.check();
        self.jitter = jitter;
        self
    }

    /// Draws how long to wait after attempt number `attempt`, the first being 0.
    ///
    /// `attempt` may be anything up to `u32::MAX`: the wait stays at its cap.
    #[must_use]
    pub fn delay(&self, attempt: u32, rng: &mut Rng) -> Duration {
        self.jitter.draw(self.ceiling(attempt), self.max, rng)
    }

    /// Returns `base * factor^attempt`, at most `max`: the wait after `attempt` without jitter.
    #[must_use]
    pub fn ceiling(&self, attempt: u32) -> Duration {
        // Zero times infinity is no number.
        if self.base.is_zero() {
            return Duration::ZERO;
        }
        // In nanoseconds, not seconds: doubling a base of less than 104 days (2^53 ns) is then exact.
        let nanos = self.base.as_nanos() as f64 * power(self.factor, attempt);
        if nanos < self.max.as_nanos() as f64 {
            // Clamped, for at sizes past 2^53 ns rounding reaches below the base and past the cap.
            Duration::from_nanos_u128(nanos.round() as u128).clamp(self.base, self.max)
        } else {
            self.max
        }
    }
}

/// 100 ms doubling up to 20 s, with full jitter.
impl Default for Backoff {
    fn default() -> Self {
        Self::exponential(Duration::from_millis(100), Duration::from_secs(20))
    }
}

/// `factor^exponent` by squaring; infinite where it overflows.
///
/// Not `f64::powi`, whose last digits may differ from one platform to the next: a seed must replay anywhere.
fn power(factor: f64, mut exponent: u32) -> f64 {
    let (mut result, mut square) = (1.0, factor);
    while exponent > 0 {
        if exponent & 1 == 1 {
            result *= square;
        }
        square *= square;
        exponent >>= 1;
    }
    result
}

#[cfg(test)]
mod tests;
