//! The balance of a budget, without a clock and without threads: one word, for one compare-and-swap.

/// How long what was earned is remembered, in milliseconds.
pub(super) const MEMORY: f64 = 10_000.0;
/// Time goes on in ticks of so many milliseconds: a tenth of a token a second is then a whole unit of the balance in
/// each.
pub(super) const TICK: u64 = 10;
/// Bits of the time in a word. Ticks wrap after five years; nobody has to have looked at the balance for long, for a
/// backend that is well gives no cause to, and of milliseconds in 32 bits the first half would last for 25 days.
const TIME_BITS: u32 = 34;
pub(super) const LAST_TICK: u64 = (1 << TIME_BITS) - 1;
/// A step that is longer leads back, up to an hour.
const BACK: u64 = LAST_TICK - 3_600_000 / TICK;
/// A token, in units of the balance.
pub(super) const TOKEN: u32 = 1_000;
/// What is left of the word: a million tokens.
pub(super) const MOST: u32 = (1 << (u64::BITS - TIME_BITS)) - 1;

/// What a budget earns.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rates {
    /// Tokens for each call.
    pub(super) ratio: f64,
    /// Tokens for each second.
    pub(super) floor: f64,
}

/// Thousandths of tokens, and the tick at which they were counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tokens {
    pub(super) balance: u32,
    pub(super) at: u64,
}

impl Tokens {
    /// What a budget that has stood idle for long has.
    pub(super) fn full(rates: Rates) -> Self {
        Self { balance: units(rates.floor * MEMORY / 1_000.0), at: 0 }
    }

    pub(super) fn pack(self) -> u64 {
        u64::from(self.balance) << TIME_BITS | self.at
    }

    pub(super) fn unpack(word: u64) -> Self {
        Self { balance: (word >> TIME_BITS) as u32, at: word & LAST_TICK }
    }

    /// Counts what was earned up to `now`: with `calls` since the last count, spread evenly over that time, for
    /// nobody noted when each came.
    pub(super) fn earned(self, rates: Rates, calls: u64, now: u64) -> Self {
        // Ticks wrap. A clock that seems to have gone back stands still.
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
    ((tokens * f64::from(TOKEN)).round() as u32).min(MOST)
}
