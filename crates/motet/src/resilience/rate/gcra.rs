//! The generic cell rate algorithm (ITU-T I.371) in its form of virtual scheduling: its whole state is one instant.

#[cfg(all(test, motet_loom))]
use loom::sync::atomic::{AtomicU64, Ordering};
#[cfg(not(all(test, motet_loom)))]
use std::sync::atomic::{AtomicU64, Ordering};

use crate::mutant;

/// Times are nanoseconds since an instant of the caller's choice, for 584 years.
#[derive(Debug)]
pub(in crate::resilience) struct Gcra {
    /// When all cells that were taken will have come back.
    full_at: AtomicU64,
    /// How long one cell takes to come back.
    cell: u64,
    /// How long the whole burst takes to come back.
    burst: u64,
}

/// The error if no cells were taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::resilience) enum Refused {
    /// The cells can be taken in this many nanoseconds, if no other caller takes any.
    For(u64),
    /// The burst never holds as many cells.
    ForEver,
}

impl Gcra {
    pub(in crate::resilience) fn new(cell: u64, burst: u64) -> Self {
        Self { full_at: AtomicU64::new(0), cell, burst }
    }

    /// Returns how long `cells` take to come back.
    pub(in crate::resilience) fn cost(&self, cells: u32) -> u64 {
        self.cell.saturating_mul(cells.into())
    }

    /// Takes the cells that take `cost` to come back.
    #[inline]
    pub(in crate::resilience) fn take(&self, cost: u64, now: u64) -> Result<(), Refused> {
        // Relaxed: the instant is the whole state, and no other memory is read by it.
        let mut full_at = self.full_at.load(Ordering::Relaxed);
        loop {
            let then = self.check(full_at, cost, now)?;
            if mutant!("rate.lost_update") {
                self.full_at.store(then, Ordering::Relaxed);
                return Ok(());
            }
            let (taken, failed) = (Ordering::Relaxed, Ordering::Relaxed);
            match self.full_at.compare_exchange_weak(full_at, then, taken, failed) {
                Ok(_) => return Ok(()),
                Err(changed) => full_at = changed,
            }
        }
    }

    /// Returns how long to wait until cells of `cost` can be taken, if cells of `before` are taken first.
    pub(in crate::resilience) fn wait(&self, before: u64, cost: u64, now: u64) -> Result<u64, Refused> {
        let full_at = self.full_at.load(Ordering::Relaxed).max(now).saturating_add(before);
        match self.check(full_at, cost, now) {
            Ok(_) => Ok(0),
            Err(Refused::For(wait)) => Ok(wait),
            Err(refused) => Err(refused),
        }
    }

    #[inline]
    fn check(&self, full_at: u64, cost: u64, now: u64) -> Result<u64, Refused> {
        let then = full_at.max(now).saturating_add(cost);
        let missing = (then - now).saturating_sub(self.burst);
        if missing == 0 {
            return Ok(then);
        }
        Err(if cost > self.burst { Refused::ForEver } else { Refused::For(missing) })
    }

    /// Returns `true` if all cells have come back.
    pub(in crate::resilience) fn is_full(&self, now: u64) -> bool {
        self.full_at.load(Ordering::Relaxed) <= now
    }

    /// Returns the number of cells that can be taken.
    pub(in crate::resilience) fn available(&self, now: u64) -> u64 {
        let ahead = self.full_at.load(Ordering::Relaxed).saturating_sub(now);
        self.burst.saturating_sub(ahead) / self.cell
    }
}

#[cfg(all(test, not(motet_loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rate_limit_agrees_with_a_bucket_and_holds_in_every_interval(
            calls in prop::collection::vec((0_u64..300, 1_u32..4), 1..200),
            cell in 1_u64..100,
            burst in 1_u64..20,
        ) {
            let gcra = Gcra::new(cell, cell * burst);
            let mut now = 0;
            let mut passed: Vec<(u64, u64)> = Vec::new();
            // A bucket that is filled drop by drop, in units of a `cell`th of a cell.
            let (mut bucket, mut filled_at) = (cell * burst, 0);
            for (pause, cells) in calls {
                // Mostly close together.
                now += if pause > 250 { pause * 10 } else { pause / 10 };
                let cost = gcra.cost(cells);
                bucket = (bucket + (now - filled_at)).min(cell * burst);
                filled_at = now;
                prop_assert_eq!(gcra.available(now), bucket / cell);
                let taken = gcra.take(cost, now);
                if bucket >= cost {
                    bucket -= cost;
                    prop_assert_eq!(taken, Ok(()));
                    passed.push((now, cells.into()));
                    let (last, mut sum) = (now, 0);
                    for (at, cells) in passed.iter().rev() {
                        sum += cells;
                        prop_assert!(sum <= burst + (last - at).div_ceil(cell));
                    }
                } else if u64::from(cells) > burst {
                    prop_assert_eq!(taken, Err(Refused::ForEver));
                } else {
                    prop_assert_eq!(taken, Err(Refused::For(cost - bucket)));
                    // The cells are free after exactly that time.
                    prop_assert_eq!(gcra.wait(0, cost, now + cost - bucket), Ok(0));
                    prop_assert_eq!(gcra.wait(0, cost, now + cost - bucket - 1), Ok(1));
                }
            }
        }
    }

    #[test]
    fn rate_limit_take_near_the_largest_time_does_not_overflow() {
        let gcra = Gcra::new(u64::MAX / 2, u64::MAX);
        assert_eq!(gcra.take(u64::MAX, u64::MAX - 1), Ok(()));
        assert_eq!(gcra.available(u64::MAX), 2);
    }
}
