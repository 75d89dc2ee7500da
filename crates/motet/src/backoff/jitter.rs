use std::time::Duration;

use crate::rng::Rng;

/// Spreads the waits of clients that failed together, so that they do not come back together.
///
/// The kinds are those of Marc Brooker, "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015), but
/// for the decorrelated one: there a wait depends on the wait before it, so no attempt number tells its bounds,
/// and in the measurements of that article it does no better than [`Full`](Self::Full).
///
/// # When to use
/// `Full`, unless there is a reason: it takes the fewest attempts in all. [`Equal`](Self::Equal) where a
/// wait near zero does harm, [`Proportional`](Self::Proportional) to keep a period about what it is,
/// [`None`](Self::None) where one client is all there is.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub enum Jitter {
    /// Waits for the ceiling itself.
    None,
    /// Draws evenly from zero to the ceiling.
    #[default]
    Full,
    /// Draws evenly from half the ceiling to the ceiling.
    Equal,
    /// Draws evenly from this fraction below the ceiling to this fraction above it, and not past the cap.
    ///
    /// The fraction is within `0.0..=1.0`.
    Proportional(f64),
}

impl Jitter {
    pub(super) fn draw(self, ceiling: Duration, max: Duration, rng: &mut Rng) -> Duration {
        match self {
            Self::None => ceiling,
            Self::Full => rng.duration(Duration::ZERO..=ceiling),
            Self::Equal => rng.duration(ceiling / 2..=ceiling),
            Self::Proportional(fraction) => {
                let reach = part(ceiling, fraction);
                rng.duration(ceiling - reach..=ceiling.saturating_add(reach).min(max))
            }
        }
    }
}

/// `fraction` of `whole`, to the nanosecond and never more than `whole`.
///
/// `Duration::mul_f64` panics where rounding carries the longest durations past `Duration::MAX`.
fn part(whole: Duration, fraction: f64) -> Duration {
    let whole = whole.as_nanos();
    Duration::from_nanos_u128(((whole as f64 * fraction).round() as u128).min(whole))
}
