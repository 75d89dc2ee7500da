//! The balance of a budget, without a clock and without threads: one word, for one compare-and-swap.

/// How long what was earned is remembered, in milliseconds.
pub(super) const MEMORY: f64 = 10_000.0;
/// Time goes on in steps of this: a tenth of a token a second is then a whole unit of the balance in each.
const STEP: u32 = 10;
/// A step that is longer leads back.
const BACK: u32 = u32::MAX / 2;
/// A token, in units of the balance.
pub(super) const TOKEN: u32 = 1_000;

/// What a budget earns.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rates {
    /// Tokens for each call.
    pub(super) ratio: f64,
    /// Tokens for each second.
    pub(super) floor: f64,
}

/// Thousandths of tokens, and the millisecond at which they were counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tokens {
    pub(super) balance: u32,
    pub(super) at: u32,
}

impl Tokens {
    /// What a budget that has stood idle for long has.
    pub(super) fn full(rates: Rates) -> Self {
        Self { balance: units(rates.floor * MEMORY / 1_000.0), at: 0 }
    }

    pub(super) fn pack(self) -> u64 {
        u64::from(self.balance) << 32 | u64::from(self.at)
    }

    pub(super) fn unpack(word: u64) -> Self {
        Self { balance: (word >> 32) as u32, at: word as u32 }
    }

    /// Counts what was earned up to `now`: with `calls` since the last count, spread evenly over that time, for
    /// nobody noted when each came.
    pub(super) fn earned(self, rates: Rates, calls: u64, now: u32) -> Self {
        // Milliseconds wrap after 49 days. A clock that seems to have gone back stands still.
        let passed = match now.wrapping_sub(self.at) {
            passed @ STEP..=BACK => passed,
            _ => 0,
        };
        let time = f64::from(passed) / MEMORY;
        let (keep, share) = fade(time);
        let old = f64::from(self.balance) / f64::from(TOKEN) * keep;
        let by_calls = rates.ratio * calls as f64 * share;
        let by_time = rates.floor * MEMORY / 1_000.0 * (1.0 - keep);
        Self { balance: units(old + by_calls + by_time), at: self.at.wrapping_add(passed) }
    }

    /// Takes a token, if there is a whole one.
    pub(super) fn taken(self) -> Option<Self> {
        Some(Self { balance: self.balance.checked_sub(TOKEN)?, ..self })
    }

    pub(super) fn returned(self) -> Self {
        Self { balance: self.balance.saturating_add(TOKEN), ..self }
    }
}

/// What is left of something after `time`, and what is left on average of things that came evenly over it; in times
/// of the memory.
///
/// An exponential decay, by the first terms of its series: its last digits are then the same on every platform.
fn fade(time: f64) -> (f64, f64) {
    let series = 1.0 + time * (1.0 + time / 2.0 * (1.0 + time / 3.0));
    (1.0 / series, (1.0 + time / 2.0 * (1.0 + time / 3.0)) / series)
}

fn units(tokens: f64) -> u32 {
    // `as` saturates.
    (tokens * f64::from(TOKEN)).round() as u32
}
