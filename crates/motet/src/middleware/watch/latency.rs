//! The durations of calls in buckets, as in HdrHistogram with three bits of precision.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Eight buckets per power of two, so that a quantile is off by at most an eighth.
const BITS: u32 = 3;
/// The bits of the shortest and the longest duration in nanoseconds: all durations below about a microsecond share a
/// bucket, and all durations above about an hour.
const LEAST: u32 = 10;
const MOST: u32 = 42;
const BUCKETS: usize = ((MOST - LEAST) as usize) << BITS;

/// A histogram: 2 KiB, and one relaxed addition per call.
pub(super) struct Latency(Box<[AtomicU64; BUCKETS]>);

impl Latency {
    pub(super) fn new() -> Self {
        Self(Box::new([const { AtomicU64::new(0) }; BUCKETS]))
    }

    pub(super) fn add(&self, took: Duration) {
        self.0[bucket(took)].fetch_add(1, Ordering::Relaxed);
    }

    /// Returns an upper bound, at most an eighth too high, of the duration of the fraction `part` of all calls; `None`
    /// before the first call has ended.
    pub(super) fn quantile(&self, part: f64) -> Option<Duration> {
        let counts: Vec<u64> = self.0.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let all: u64 = counts.iter().sum();
        let wanted = (all as f64 * part).ceil().max(1.0) as u64;
        let mut seen = 0;
        let at = counts.iter().position(|count| {
            seen += count;
            seen >= wanted
        })?;
        Some(upper(at))
    }
}

fn bucket(took: Duration) -> usize {
    let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).clamp(1 << LEAST, (1 << MOST) - 1);
    let exponent = nanos.ilog2();
    let fraction = (nanos >> (exponent - BITS)) as usize & ((1 << BITS) - 1);
    (((exponent - LEAST) as usize) << BITS) + fraction
}

/// The upper end of a bucket.
fn upper(at: usize) -> Duration {
    let (exponent, fraction) = (LEAST + (at >> BITS) as u32, (at & ((1 << BITS) - 1)) as u64);
    Duration::from_nanos(((1 << BITS) + fraction + 1) << (exponent - BITS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_rise_and_end_at_most_an_eighth_above_their_durations() {
        let mut before = None;
        for nanos in (0..44).flat_map(|bit| (0..16).map(move |part| (1_u64 << bit) * (16 + part) / 16)) {
            let took = Duration::from_nanos(nanos);
            let at = bucket(took);
            assert!(before.is_none_or(|before| before <= at), "{took:?}");
            before = Some(at);
            if (1 << LEAST..1 << MOST).contains(&nanos) {
                assert!(
                    took < upper(at) && upper(at).as_nanos() <= u128::from(nanos) * 9 / 8 + 1,
                    "{took:?}"
                );
            }
        }
        assert_eq!(bucket(Duration::ZERO), 0);
        assert_eq!(bucket(Duration::MAX), BUCKETS - 1);
    }

    #[test]
    fn latency_quantile_is_at_most_an_eighth_above_the_exact_one() {
        let latency = Latency::new();
        assert_eq!(latency.quantile(0.5), None);
        for millis in 1..=1_000 {
            latency.add(Duration::from_millis(millis));
        }
        for part in [0.0, 0.001, 0.5, 0.9, 0.99, 1.0] {
            let exact = (1_000.0_f64 * part).max(1.0) / 1_000.0;
            let found = latency.quantile(part).unwrap().as_secs_f64();
            assert!((exact..exact * 1.126).contains(&found), "{part}: {exact} {found}");
        }
    }
}
