use proptest::prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// Doubles naively: step by step, in whole nanoseconds.
fn doubled(base: Duration, max: Duration, attempt: u32) -> Duration {
    let mut ceiling = base;
    for _ in 0..attempt {
        if ceiling.is_zero() || ceiling >= max {
            break;
        }
        ceiling = ceiling.saturating_mul(2);
    }
    ceiling.min(max)
}

/// Up to 100 days: beyond 2^53 ns, doubling is exact to 53 bits only.
fn some_duration() -> impl Strategy<Value = Duration> {
    prop_oneof![0..1_000u64, 0..8_640_000_000_000_000u64].prop_map(Duration::from_nanos)
}

fn any_duration() -> impl Strategy<Value = Duration> {
    prop_oneof![
        some_duration(),
        (any::<u64>(), 0..1_000_000_000u32).prop_map(|(s, ns)| Duration::new(s, ns)),
        Just(Duration::ZERO),
        Just(Duration::MAX),
    ]
}

fn any_attempt() -> impl Strategy<Value = u32> {
    prop_oneof![0..100u32, any::<u32>(), Just(u32::MAX - 1)]
}

fn any_jitter() -> impl Strategy<Value = Jitter> {
    prop_oneof![
        Just(Jitter::None),
        Just(Jitter::Full),
        Just(Jitter::Equal),
        (0.0..=1.0).prop_map(Jitter::Proportional)
    ]
}

fn any_backoff() -> impl Strategy<Value = Backoff> {
    let factor = prop_oneof![Just(1.0), 1.01..20.0, Just(f64::MAX)];
    (any_duration(), any_duration(), factor, any_jitter()).prop_map(|(one, two, factor, jitter)| {
        Backoff::exponential(one.min(two), one.max(two)).unwrap().factor(factor).unwrap().with_jitter(jitter)
    })
}

proptest! {
    #[test]
    fn ceiling_of_a_doubling_backoff_agrees_with_a_naive_model(
        one in some_duration(), two in any_duration(), attempt in any_attempt(),
    ) {
        let (base, max) = (one.min(two), one.max(two));
        prop_assert_eq!(Backoff::doubling(base, max).ceiling(attempt), doubled(base, max, attempt));
    }

    #[test]
    fn ceiling_never_falls_and_lies_between_base_and_max(backoff in any_backoff(), attempt in any_attempt()) {
        let (here, next) = (backoff.ceiling(attempt), backoff.ceiling(attempt.saturating_add(1)));
        prop_assert!(backoff.base <= here && here <= next && next <= backoff.max, "{here:?}, {next:?}");
    }

    #[test]
    fn delay_stays_within_the_interval_of_its_jitter(
        backoff in any_backoff(), attempt in any_attempt(), seed: u64,
    ) {
        let delay = backoff.delay(attempt, &mut Rng::seeded(seed));
        let ceiling = backoff.ceiling(attempt);
        let (low, high) = match backoff.jitter {
            Jitter::None => (ceiling, ceiling),
            Jitter::Full => (Duration::ZERO, ceiling),
            Jitter::Equal => (ceiling / 2, ceiling),
            Jitter::Proportional(fraction) => {
                // A relative slack of 2^-50, because the bounds are computed in another way here.
                let seconds = ceiling.as_secs_f64();
                let slack = Duration::from_nanos(1 + (seconds * 1e-6) as u64);
                let low = Duration::try_from_secs_f64(seconds * (1.0 - fraction)).unwrap_or(Duration::MAX);
                let high = Duration::try_from_secs_f64(seconds * (1.0 + fraction)).unwrap_or(Duration::MAX);
                (low.saturating_sub(slack), high.saturating_add(slack).min(backoff.max))
            }
        };
        prop_assert!(low <= delay && delay <= high, "{delay:?} not in {low:?}..={high:?}");
    }
}

#[test]
fn constant_backoff_has_the_same_delay_at_every_attempt() {
    let backoff = Backoff::constant(SECOND);
    let mut rng = Rng::seeded(1);
    for attempt in [0, 1, 2, 50, u32::MAX] {
        assert_eq!(backoff.delay(attempt, &mut rng), SECOND);
    }
}

#[test]
fn backoff_of_the_longest_duration_does_not_overflow() {
    for jitter in [Jitter::None, Jitter::Full, Jitter::Equal, Jitter::Proportional(1.0)] {
        let backoff = Backoff::constant(Duration::MAX).factor(2.0).unwrap().with_jitter(jitter);
        for seed in 0..10 {
            assert!(backoff.delay(u32::MAX, &mut Rng::seeded(seed)) > SECOND, "{jitter:?}");
        }
    }
}

#[test]
fn delays_grow_by_the_factor_up_to_the_maximum() {
    let backoff = Backoff::doubling(SECOND, 60 * SECOND).factor(1.5).unwrap().with_jitter(Jitter::None);
    let millis = [0, 1, 2, 3, 10, 11, u32::MAX].map(|n| backoff.delay(n, &mut Rng::seeded(1)).as_millis());
    assert_eq!(millis, [1_000, 1_500, 2_250, 3_375, 57_665, 60_000, 60_000]);
}

/// The lowest, middle and highest delay, in milliseconds, of 10,000 draws.
fn spread(backoff: &Backoff, attempt: u32) -> [u128; 3] {
    let mut rng = Rng::seeded(11);
    let mut waits: Vec<_> = (0..10_000).map(|_| backoff.delay(attempt, &mut rng).as_millis()).collect();
    waits.sort_unstable();
    [waits[0], waits[5_000], waits[9_999]]
}

#[test]
fn drawn_delays_fill_the_interval_of_their_jitter() {
    let backoff = Backoff::doubling(SECOND, 10 * SECOND);
    let cases = [
        ("full", backoff.clone(), 2, [0, 2_000, 4_000]),
        ("full at the cap", backoff.clone(), 30, [0, 5_000, 10_000]),
        ("equal", backoff.clone().with_jitter(Jitter::Equal), 2, [2_000, 3_000, 4_000]),
        ("proportional", backoff.clone().with_jitter(Jitter::Proportional(0.25)), 2, [3_000, 4_000, 5_000]),
        // Half of the interval lies past the cap: the draw is from the half below it, without a spike at the cap.
        (
            "proportional at the cap",
            backoff.with_jitter(Jitter::Proportional(0.2)),
            30,
            [8_000, 9_000, 10_000],
        ),
        (
            "constant",
            Backoff::constant(SECOND).with_jitter(Jitter::Proportional(0.5)),
            u32::MAX,
            [500, 1_000, 1_500],
        ),
    ];
    for (name, backoff, attempt, expected) in cases {
        let found = spread(&backoff, attempt);
        let near = found.iter().zip(expected).all(|(found, expected)| found.abs_diff(expected) <= 100);
        assert!(near, "{name}: lowest, middle, highest {found:?}, expected about {expected:?}");
    }
}

#[test]
fn default_backoff_has_full_jitter_and_documented_ceilings() {
    let backoff = Backoff::default();
    assert_eq!(backoff.jitter, Jitter::Full);
    assert_eq!(
        [0, 1, 7, 8].map(|n| backoff.ceiling(n).as_millis()),
        [100, 200, 12_800, 20_000],
        "the schedule of the documentation"
    );
}

#[test]
fn invalid_backoff_is_refused_with_the_setting_and_its_value() {
    let capped = Backoff::exponential(2 * SECOND, SECOND);
    assert_eq!(capped.unwrap_err().to_string(), "`base` is 2s; it must be at most `max`, which is 1s");
    for factor in [0.99, -2.0, f64::NAN, f64::INFINITY] {
        let message = Backoff::constant(SECOND).factor(factor).unwrap_err().to_string();
        assert_eq!(message, format!("`factor` is {factor}; it must be finite and at least 1"));
    }
    for fraction in [-0.1, 1.1, f64::NAN] {
        let message = Backoff::default().jitter(Jitter::Proportional(fraction)).unwrap_err().to_string();
        assert_eq!(
            message,
            format!("the fraction of `Jitter::Proportional` is {fraction}; it must be from 0 to 1")
        );
    }
}
