use std::time::Duration;

/// Sixteen bins for each doubling: a quantile is exact to a sixteenth, for any durations.
const BINS: u32 = 16;
/// Durations below about a microsecond share a bin, and durations above half an hour.
const LOWEST: u32 = 10;
const HIGHEST: u32 = 41;

/// A histogram of durations, from which a quantile is read.
#[derive(Debug)]
pub(super) struct DurationHistogram {
    bins: Box<[u32]>,
    count: u32,
}

impl DurationHistogram {
    pub(super) fn new() -> Self {
        Self { bins: vec![0; ((HIGHEST - LOWEST) * BINS) as usize].into_boxed_slice(), count: 0 }
    }

    pub(super) fn add(&mut self, time: Duration) {
        let bin = &mut self.bins[bin(time)];
        *bin = bin.saturating_add(1);
        self.count = self.count.saturating_add(1);
    }

    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// Returns the nanoseconds that this share of the durations does not exceed, exact to a sixteenth; 0 without any
    /// durations.
    pub(super) fn quantile(&self, part: f64) -> f64 {
        let rank = part * f64::from(self.count);
        let mut below = 0.0;
        for (at, times) in self.bins.iter().enumerate().filter(|(_, times)| **times > 0) {
            let times = f64::from(*times);
            if below + times >= rank {
                let (least, most) = (edge(at), edge(at + 1));
                return least + (most - least) * (rank - below) / times;
            }
            below += times;
        }
        0.0
    }

    pub(super) fn clear(&mut self) {
        self.bins.fill(0);
        self.count = 0;
    }
}

fn bin(time: Duration) -> usize {
    let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(1 << LOWEST);
    let power = nanos.ilog2();
    if power >= HIGHEST {
        return ((HIGHEST - LOWEST) * BINS - 1) as usize;
    }
    let within = (nanos >> (power - BINS.ilog2())) as u32 - BINS;
    ((power - LOWEST) * BINS + within) as usize
}

/// Returns the lower bound of a bin, in nanoseconds.
fn edge(bin: usize) -> f64 {
    let (power, within) = (bin as u32 / BINS + LOWEST, bin as u32 % BINS);
    (1_u64 << power) as f64 * f64::from(BINS + within) / f64::from(BINS)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn histogram_quantile_is_off_by_at_most_a_sixteenth(
            mut times in prop::collection::vec(2_000_u64..1_000_000_000, 1..200),
            part in 0.01_f64..1.0,
        ) {
            let mut histogram = DurationHistogram::new();
            times.iter().for_each(|time| histogram.add(Duration::from_nanos(*time)));
            times.sort_unstable();
            let rank = ((part * times.len() as f64).ceil() as usize).clamp(1, times.len());
            let exact = times[rank - 1] as f64;
            let error = (histogram.quantile(part) / exact - 1.0).abs();
            prop_assert!(error <= 1.0 / 16.0 + 1e-9, "{} is not {exact}", histogram.quantile(part));
        }
    }

    #[test]
    fn durations_outside_the_bins_are_counted() {
        let mut histogram = DurationHistogram::new();
        histogram.add(Duration::ZERO);
        histogram.add(Duration::MAX);
        assert_eq!(histogram.count(), 2);
        assert!(histogram.quantile(1.0) > 1e12);
    }
}
