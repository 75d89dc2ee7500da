use std::hash::{BuildHasher, Hasher, RandomState};
use std::ops::RangeInclusive;
use std::time::Duration;

/// A generator of pseudo-random numbers. The same seed yields the same numbers on every platform.
///
/// The algorithm is xoshiro256++ 1.0 by David Blackman and Sebastiano Vigna ("Scrambled Linear Pseudorandom
/// Number Generators", 2018; <https://prng.di.unimi.it>). SplitMix64 fills its 256 bits of state, as its authors
/// advise. Its period is 2^256 - 1. Do not use it for secrets.
///
/// It is not `Clone`, since a clone repeats the numbers of its original: callers that should spread out would act at the
/// same time. [`fork`](Self::fork) returns an independent generator.
///
/// # Examples
/// ```
/// use motet::rng::Rng;
///
/// let mut rng = Rng::seeded(7);
/// let die = 1 + rng.below(6);
/// assert!((1..=6).contains(&die));
/// assert_eq!(Rng::seeded(7).next_u64(), Rng::seeded(7).next_u64());
/// ```
#[derive(Debug)]
pub struct Rng {
    state: [u64; 4],
}

impl Rng {
    /// Creates the generator of this seed.
    ///
    /// Seeds that differ in one bit yield unrelated numbers, so small seeds such as 1, 2, 3 are good.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        let mut mix = SplitMix64 { state: seed };
        // Never all zero, which xoshiro cannot leave: SplitMix64 returns each number once in its period, so at most one
        // of the four is zero.
        Self { state: [mix.next_u64(), mix.next_u64(), mix.next_u64(), mix.next_u64()] }
    }

    /// Creates a generator with a random seed of 64 bits from the operating system.
    #[must_use]
    pub fn from_entropy() -> Self {
        // The standard library takes the key of each `RandomState` from the operating system. This avoids a dependency.
        Self::seeded(RandomState::new().build_hasher().finish())
    }

    /// Creates a generator whose numbers do not depend on the later draws of this one.
    ///
    /// For a simulator: draws of the program must not change the draws of the scheduler.
    #[must_use]
    pub fn fork(&mut self) -> Self {
        Self::seeded(self.next_u64())
    }

    /// A seed that depends on the state, and does not change it.
    pub(super) fn aside(&self) -> u64 {
        self.state[0].wrapping_add(self.state[2].rotate_left(32))
    }

    /// Returns a number of the whole range of `u64`, uniformly distributed.
    pub fn next_u64(&mut self) -> u64 {
        let [a, b, c, d] = &mut self.state;
        let drawn = a.wrapping_add(*d).rotate_left(23).wrapping_add(*a);
        let shifted = *b << 17;
        *c ^= *a;
        *d ^= *b;
        *b ^= *c;
        *a ^= *d;
        *c ^= shifted;
        *d = d.rotate_left(45);
        drawn
    }

    /// Returns a number from `0..bound`, uniformly distributed, for every bound.
    ///
    /// The method is that of Daniel Lemire ("Fast Random Integer Generation in an Interval", 2019): one multiplication,
    /// and a second draw only if the first one would make some numbers more likely.
    ///
    /// # Panics
    /// If `bound` is zero, since the range is empty.
    #[track_caller]
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "`bound` is 0; it must be at least 1");
        loop {
            let product = u128::from(self.next_u64()) * u128::from(bound);
            let (high, low) = ((product >> 64) as u64, product as u64);
            // The first 2^64 mod bound values of `low` are rejected, since they would make some numbers more likely. The
            // comparison before it almost always avoids the division.
            if low >= bound || low >= bound.wrapping_neg() % bound {
                return high;
            }
        }
    }

    /// Returns a number from `0.0..1.0`, uniformly distributed, in steps of 2^-53. Zero is possible, one is not.
    pub fn unit(&mut self) -> f64 {
        const STEP: f64 = 1.0 / (1u64 << 53) as f64;
        (self.next_u64() >> 11) as f64 * STEP
    }

    /// Returns a duration from `range`, uniformly distributed, in nanoseconds. Both ends are included.
    ///
    /// # Panics
    /// If the end of the range is less than its start.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    ///
    /// let (short, long) = (Duration::from_millis(10), Duration::from_millis(20));
    /// let drawn = motet::rng::with(|rng| rng.duration(short..=long));
    /// assert!(short <= drawn && drawn <= long);
    /// ```
    #[track_caller]
    pub fn duration(&mut self, range: RangeInclusive<Duration>) -> Duration {
        let (start, end) = range.into_inner();
        let Some(span) = end.checked_sub(start) else {
            panic!("the range of durations {start:?}..={end:?} is empty")
        };
        start + Duration::from_nanos_u128(self.up_to(span.as_nanos()))
    }

    /// Returns a number from `0..=last`, uniformly distributed.
    fn up_to(&mut self, last: u128) -> u128 {
        // More than 584 years do not fit into a u64 of nanoseconds. `Duration::MAX` means "no limit".
        if let Ok(last) = u64::try_from(last)
            && let Some(bound) = last.checked_add(1)
        {
            return u128::from(self.below(bound));
        }
        let mask = u128::MAX >> last.leading_zeros();
        loop {
            let drawn = (u128::from(self.next_u64()) << 64 | u128::from(self.next_u64())) & mask;
            if drawn <= last {
                return drawn;
            }
        }
    }
}

/// The generator that fills the state of [`Rng`]. Every seed is good, and similar seeds yield unrelated numbers.
///
/// Source: the public domain code of Sebastiano Vigna, <https://prng.di.unimi.it/splitmix64.c>.
struct SplitMix64 {
    state: u64,
}

impl SplitMix64 {
    fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = self.state;
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Just, Strategy, any, prop_assert, prop_oneof, proptest};

    use super::*;

    /// The first numbers of the authors' C program from the state 1, 2, 3, 4.
    #[test]
    fn xoshiro_agrees_with_its_reference() {
        let mut rng = Rng { state: [1, 2, 3, 4] };
        let drawn: [u64; 10] = std::array::from_fn(|_| rng.next_u64());
        let reference = [
            41943041,
            58720359,
            3588806011781223,
            3591011842654386,
            9228616714210784205,
            9973669472204895162,
            14011001112246962877,
            12406186145184390807,
            15849039046786891736,
            10450023813501588000,
        ];
        assert_eq!(drawn, reference);
    }

    /// The first numbers of the authors' C program from the state 1477776061723855037.
    #[test]
    fn splitmix_agrees_with_its_reference() {
        let mut mix = SplitMix64 { state: 1477776061723855037 };
        let drawn: [u64; 4] = std::array::from_fn(|_| mix.next_u64());
        let reference = [1985237415132408290, 2979275885539914483, 13511426838097143398, 8488337342461049707];
        assert_eq!(drawn, reference);
    }

    #[test]
    fn seed_is_expanded_to_the_state_by_splitmix() {
        let mut mix = SplitMix64 { state: 42 };
        let state = std::array::from_fn(|_| mix.next_u64());
        assert_eq!(Rng::seeded(42).state, state);
    }

    #[test]
    fn generators_from_entropy_differ() {
        assert_ne!(Rng::from_entropy().state, Rng::from_entropy().state);
    }

    #[test]
    fn forks_differ_and_follow_from_the_seed() {
        let mut parent = Rng::seeded(3);
        let numbers = |mut rng: Rng| -> [u64; 4] { std::array::from_fn(|_| rng.next_u64()) };
        let (one, two) = (numbers(parent.fork()), numbers(parent.fork()));
        assert_ne!(one, two);
        assert_ne!(one, numbers(parent));
        assert_eq!(one, numbers(Rng::seeded(3).fork()));
    }

    /// With a bound of three quarters of the range: without rejection, every third number would be twice as likely.
    #[test]
    fn large_bound_favours_no_number() {
        let (bound, mut rng) = (3 << 62, Rng::seeded(1));
        let mut counts = [0; 3];
        (0..30_000).for_each(|_| counts[(rng.below(bound) % 3) as usize] += 1);
        assert!(counts.iter().all(|count| (9_500..10_500).contains(count)), "{counts:?}");
    }

    #[test]
    fn small_bound_favours_no_number() {
        let mut rng = Rng::seeded(2);
        let mut faces = [0; 6];
        (0..60_000).for_each(|_| faces[rng.below(6) as usize] += 1);
        assert!(faces.iter().all(|count| (9_600..10_400).contains(count)), "{faces:?}");
    }

    #[test]
    fn unit_draws_fill_the_unit_interval_evenly() {
        let mut rng = Rng::seeded(4);
        let mut tenths = [0; 10];
        (0..100_000).for_each(|_| tenths[(rng.unit() * 10.0) as usize] += 1);
        assert!(tenths.iter().all(|count| (9_500..10_500).contains(count)), "{tenths:?}");
    }

    #[test]
    #[should_panic(expected = "`bound` is 0")]
    fn bound_of_zero_panics() {
        Rng::seeded(0).below(0);
    }

    #[test]
    #[should_panic(expected = "1s..=0ns is empty")]
    fn reversed_duration_range_panics() {
        Rng::seeded(0).duration(Duration::from_secs(1)..=Duration::ZERO);
    }

    #[test]
    fn both_ends_of_a_duration_range_come_up() {
        let mut rng = Rng::seeded(5);
        let (one, three) = (Duration::from_nanos(1), Duration::from_nanos(3));
        let mut counts = [0; 5];
        (0..300).for_each(|_| counts[rng.duration(one..=three).as_nanos() as usize] += 1);
        assert!(counts[0] == 0 && counts[4] == 0 && counts[1..4].iter().all(|&c| c > 50), "{counts:?}");
    }

    #[test]
    fn durations_of_the_widest_range_lie_in_both_halves_equally() {
        let mut rng = Rng::seeded(6);
        let upper = (0..1_000).filter(|_| rng.duration(Duration::ZERO..=Duration::MAX) > Duration::MAX / 2);
        let count = upper.count();
        assert!((440..560).contains(&count), "{count} of 1000 in the upper half");
    }

    fn any_duration() -> impl Strategy<Value = Duration> {
        prop_oneof![
            (0..50u64).prop_map(Duration::from_nanos),
            any::<u64>().prop_map(Duration::from_nanos),
            (any::<u64>(), 0..1_000_000_000u32).prop_map(|(s, ns)| Duration::new(s, ns)),
            Just(Duration::MAX),
        ]
    }

    proptest! {
        #[test]
        fn draws_stay_below_the_bound(seed: u64, bound in 1..=u64::MAX) {
            prop_assert!(Rng::seeded(seed).below(bound) < bound);
        }

        #[test]
        fn durations_stay_within_the_range(seed: u64, one in any_duration(), two in any_duration()) {
            let (start, end) = (one.min(two), one.max(two));
            let drawn = Rng::seeded(seed).duration(start..=end);
            prop_assert!(start <= drawn && drawn <= end, "{drawn:?} of {start:?}..={end:?}");
        }
    }
}
