use std::time::Duration;

use crate::rng::Rng;

/// Spreads the delays of clients that failed together, so that their next attempts do not come together.
///
/// The kinds are those of Marc Brooker, "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015), without the
/// decorrelated one: there, a delay depends on the delay before it, so the attempt number does not bound it, and in the
/// measurements of that article it does no better than [`Full`](Self::Full).
///
/// # When to use
/// Use `Full` by default: it needs the fewest attempts in total. Use [`Equal`](Self::Equal) where a delay near zero
/// does harm, [`Proportional`](Self::Proportional) to keep a period close to its nominal length, and
/// [`None`](Self::None) for a single client.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub enum Jitter {
    /// Uses the ceiling itself.
    None,
    /// Draws uniformly from zero to the ceiling.
    #[default]
    Full,
    /// Draws uniformly from half the ceiling to the ceiling.
    Equal,
    /// Draws uniformly from this fraction below the ceiling to this fraction above it, and never past the cap.
    ///
    /// The fraction must be within `0.0..=1.0`.
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

/// Returns `fraction` of `whole`, exact to the nanosecond and never more than `whole`.
///
/// Not `Duration::mul_f64`, which panics if rounding carries one of the longest durations past `Duration::MAX`.
fn part(whole: Duration, fraction: f64) -> Duration {
    let whole = whole.as_nanos();
    Duration::from_nanos_u128(((whole as f64 * fraction).round() as u128).min(whole))
}
