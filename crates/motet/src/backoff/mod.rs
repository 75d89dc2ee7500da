//! Delays between attempts.

mod jitter;

use std::error::Error;
use std::fmt;
use std::time::Duration;

pub use jitter::Jitter;

use crate::rng::Rng;

/// The delay before the next attempt: constant or growing, with jitter.
///
/// A back-off is a plain value: it reads no clock, never sleeps and keeps no count. The caller counts the failed
/// attempts, starts again at zero after a success, and passes the random number generator, usually that of its thread
/// ([`rng::with`](crate::rng::with)).
///
/// The *ceiling* of an attempt is `base * factor^attempt`, at most `max`. The delay is drawn from an interval that the
/// [`Jitter`] spans below the ceiling (around it, with [`Jitter::Proportional`]), and that never exceeds `max`: the cap
/// is applied before the draw. If the delay were clamped after the draw, every late attempt of every client would come
/// at the same moment.
///
/// # Defaults
/// [`Backoff::default`] is 100 ms, doubling up to 20 s, with full jitter, as in the AWS SDKs. An
/// [`exponential`](Self::exponential) back-off has factor 2 and [`Jitter::Full`]. A [`constant`](Self::constant)
/// back-off has no jitter, because with jitter it would not be constant.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use motet::{Backoff, Jitter, rng};
///
/// let backoff = Backoff::exponential(Duration::from_millis(100), Duration::from_secs(2))?;
/// for attempt in 0..10 {
///     let wait = rng::with(|rng| backoff.delay(attempt, rng));
///     assert!(wait <= backoff.ceiling(attempt) && wait <= Duration::from_secs(2));
/// }
///
/// let plain = backoff.jitter(Jitter::None)?;
/// let waits: Vec<_> = (0..6).map(|n| rng::with(|rng| plain.delay(n, rng)).as_millis()).collect();
/// assert_eq!(waits, [100, 200, 400, 800, 1600, 2000]);
/// # Ok::<(), motet::BackoffConfigError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Backoff {
    base: Duration,
    max: Duration,
    factor: f64,
    jitter: Jitter,
}

impl Backoff {
    /// Creates a back-off of `delay` after each attempt. Zero does not wait, and [`Duration::MAX`] waits forever.
    ///
    /// There is no cap, so that [`Jitter::Proportional`] extends to both sides of `delay`. With a
    /// [`factor`](Self::factor) the delay would grow without bound: use [`exponential`](Self::exponential).
    #[must_use]
    pub const fn constant(delay: Duration) -> Self {
        Self { base: delay, max: Duration::MAX, factor: 1.0, jitter: Jitter::None }
    }

    /// Creates a back-off of up to `base` after the first attempt, up to twice as much after each further attempt, and
    /// never more than `max`.
    ///
    /// # Errors
    /// [`BackoffConfigError`] if `base` is longer than `max`: the delay could never grow.
    pub const fn exponential(base: Duration, max: Duration) -> Result<Self, BackoffConfigError> {
        if base.as_nanos() > max.as_nanos() {
            return Err(BackoffConfigError(Setting::Base { base, max }));
        }
        Ok(Self::doubling(base, max))
    }

    /// Creates the back-off of [`exponential`](Self::exponential) for a `base` that is known to be at most `max`.
    pub(crate) const fn doubling(base: Duration, max: Duration) -> Self {
        Self { base, max, factor: 2.0, jitter: Jitter::Full }
    }

    /// Sets a jitter that is known to be valid.
    pub(crate) const fn with_jitter(mut self, jitter: Jitter) -> Self {
        self.jitter = jitter;
        self
    }

    /// Multiplies the ceiling by `factor` from one attempt to the next.
    ///
    /// # Errors
    /// [`BackoffConfigError`] if `factor` is below 1, infinite or not a number: with shrinking delays, the load on a
    /// dependency that fails would grow.
    pub fn factor(mut self, factor: f64) -> Result<Self, BackoffConfigError> {
        if !factor.is_finite() || factor < 1.0 {
            return Err(BackoffConfigError(Setting::Factor(factor)));
        }
        self.factor = factor;
        Ok(self)
    }

    /// Sets the jitter.
    ///
    /// # Errors
    /// [`BackoffConfigError`] if the fraction of [`Jitter::Proportional`] is not within `0.0..=1.0`.
    pub fn jitter(self, jitter: Jitter) -> Result<Self, BackoffConfigError> {
        match jitter {
            Jitter::Proportional(fraction) if !(0.0..=1.0).contains(&fraction) => {
                Err(BackoffConfigError(Setting::Fraction(fraction)))
            }
            valid => Ok(self.with_jitter(valid)),
        }
    }

    /// Draws the delay after attempt number `attempt`; the first attempt has number 0.
    ///
    /// `attempt` may be any number up to `u32::MAX`: the delay stays at its cap.
    #[must_use]
    pub fn delay(&self, attempt: u32, rng: &mut Rng) -> Duration {
        self.jitter.draw(self.ceiling(attempt), self.max, rng)
    }

    /// Returns `base * factor^attempt`, at most `max`: the delay after `attempt` without jitter.
    #[must_use]
    pub fn ceiling(&self, attempt: u32) -> Duration {
        // Zero times infinity is not a number.
        if self.base.is_zero() {
            return Duration::ZERO;
        }
        // In nanoseconds, not seconds: doubling a base of less than 104 days (2^53 ns) is then exact.
        let nanos = self.base.as_nanos() as f64 * power(self.factor, attempt);
        if nanos < self.max.as_nanos() as f64 {
            // Clamped, because beyond 2^53 ns rounding goes below the base and past the cap.
            Duration::from_nanos_u128(nanos.round() as u128).clamp(self.base, self.max)
        } else {
            self.max
        }
    }
}

/// Creates the default back-off: 100 ms, doubling up to 20 s, with full jitter.
impl Default for Backoff {
    fn default() -> Self {
        Self::doubling(Duration::from_millis(100), Duration::from_secs(20))
    }
}

/// The error of an invalid setting of a [`Backoff`].
#[derive(Debug, Clone, PartialEq)]
pub struct BackoffConfigError(Setting);

#[derive(Debug, Clone, PartialEq)]
enum Setting {
    Base { base: Duration, max: Duration },
    Factor(f64),
    Fraction(f64),
}

impl fmt::Display for BackoffConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Setting::Base { base, max } => {
                write!(f, "`base` is {base:?}; it must be at most `max`, which is {max:?}")
            }
            Setting::Factor(factor) => write!(f, "`factor` is {factor}; it must be finite and at least 1"),
            Setting::Fraction(fraction) => {
                write!(f, "the fraction of `Jitter::Proportional` is {fraction}; it must be from 0 to 1")
            }
        }
    }
}

impl Error for BackoffConfigError {}

/// Returns `factor^exponent` by squaring; infinity if it overflows.
///
/// Not `f64::powi`, whose last digits may differ between platforms: a seed must replay everywhere.
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
