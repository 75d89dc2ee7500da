//! The seeded chance of one run: SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number
//! Generators, 2014).

use std::cell::Cell;

/// Draws numbers that depend on the seed alone.
#[derive(Debug)]
pub(super) struct Chance(Cell<u64>);

impl Chance {
    pub(super) const fn seeded(seed: u64) -> Self {
        Self(Cell::new(seed))
    }

    pub(super) fn draw(&self) -> u64 {
        let state = self.0.get().wrapping_add(0x9E37_79B9_7F4A_7C15);
        self.0.set(state);
        mix(state)
    }

    /// A number below the bound, or zero for a bound of zero. The bias of the remainder is at most bound / 2^64.
    pub(super) fn below(&self, bound: u64) -> u64 {
        self.draw() % bound.max(1)
    }
}

/// Tosses a coin that depends on seed and name alone, not on what was drawn before.
pub(super) fn coin(seed: u64, name: &str) -> bool {
    // FNV-1a; the standard hasher is not promised to stay the same.
    let hash = name
        .bytes()
        .fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3));
    mix(seed ^ hash) & 1 == 1
}

const fn mix(state: u64) -> u64 {
    let x = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_differ_from_those_of_the_published_generator() {
        let chance = Chance::seeded(1_234_567);
        let drawn = [chance.draw(), chance.draw(), chance.draw()];
        assert_eq!(drawn, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn a_point_is_enabled_by_nearly_all_or_nearly_no_seeds() {
        for name in ["a", "b", "pool.connect"] {
            let heads = (0..1_000).filter(|seed| coin(*seed, name)).count();
            assert!((400..600).contains(&heads), "{name}: {heads} of 1000");
        }
    }
}
