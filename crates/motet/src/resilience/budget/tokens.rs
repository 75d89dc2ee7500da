//! The balance of a budget, without a clock and without threads: one word, for one compare-and-swap.

/// The time constant with which earned tokens fade, in milliseconds.
pub(super) const MEMORY: f64 = 10_000.0;
/// The length of a tick in milliseconds: a tenth of a token a second is then a whole unit of the balance in each tick.
pub(super) const TICK: u64 = 10;
/// The bits of the tick in a word. Ticks wrap around after five years. The balance may go unread for long, because a
/// healthy backend causes no retries; milliseconds in 32 bits would cover a gap of 25 days only.
const TIME_BITS: u32 = 34;
pub(super) const LAST_TICK: u64 = (1 << TIME_BITS) - 1;
/// A longer step is a clock that went backwards, by up to an hour.
const BACK: u64 = LAST_TICK - 3_600_000 / TICK;
/// A token, in units of the balance.
pub(super) const TOKEN: u32 = 1_000;
/// The largest balance that fits into the word: a million tokens.
pub(super) const MOST: u32 = (1 << (u64::BITS - TIME_BITS)) - 1;

/// The rates at which a budget earns tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rates {
    /// Tokens for each call.
    pub(super) ratio: f64,
    /// Tokens for each second.
    pub(super) floor: f64,
}

/// A balance in thousandths of a token, and the tick at which it was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tokens {
    pub(super) balance: u32,
    pub(super) at: u64,
}

impl Tokens {
    /// Returns the balance of a budget that has been idle for long.
    pub(super) fn full(rates: Rates) -> Self {
        Self { balance: units(rates.floor * MEMORY / 1_000.0), at: 0 }
    }

    pub(super) fn pack(self) -> u64 {
        u64::from(self.balance) << TIME_BITS | self.at
    }

    pub(super) fn unpack(word: u64) -> Self {
        Self { balance: (word >> TIME_BITS) as u32, at: word & LAST_TICK }
    }

    /// Adds the tokens that were earned up to `now`, with `calls` since the last count. The calls count as spread
    /// evenly over that time, because their times were not recorded.
    pub(super) fn earned(self, rates: Rates, calls: u64, now: u64) -> Self {
        // Ticks wrap around. A clock that went backwards counts as a clock that stands still.
        let passed = match now.wrapping_sub(self.at) & LAST_TICK {
            passed @ 0..=BACK => passed,
            _ => 0,
        };
        let time = (passed * TICK) as f64 / MEMORY;
        let (keep, share) = fade(time);
        let old = f64::from(self.balance) / f64::from(TOKEN) * keep;
        let by_calls = rates.ratio * calls as f64 * share;
        let by_time = rates.floor * MEMORY / 1_000.0 * (1.0 - keep);
        Self { balance: units(old + by_calls + by_time), at: self.at.wrapping_add(passed) & LAST_TICK }
    }

    /// Takes a token, if there is a whole one.
    pub(super) fn taken(self) -> Option<Self> {
        Some(Self { balance: self.balance.checked_sub(TOKEN)?, ..self })
    }

    pub(super) fn returned(self) -> Self {
        Self { balance: (self.balance + TOKEN).min(MOST), ..self }
    }
}

/// Returns the share that is left of a value after `time`, and the average share that is left of values that arrived
/// evenly over `time`. `time` is in units of the time constant.
///
/// The decay is exponential, by the first terms of its series, so that its last digits are the same on every platform.
fn fade(time: f64) -> (f64, f64) {
    let series = 1.0 + time * (1.0 + time / 2.0 * (1.0 + time / 3.0));
    (1.0 / series, (1.0 + time / 2.0 * (1.0 + time / 3.0)) / series)
}

fn units(tokens: f64) -> u32 {
    // `as` saturates.
    ((tokens * f64::from(TOKEN)).round() as u32).min(MOST)
}
