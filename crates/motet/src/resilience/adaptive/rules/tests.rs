//! A limit for a backend with a number of workers, under full load.

use super::*;
use crate::rng::Rng;

fn config() -> AdaptiveConfig {
    AdaptiveConfig { start: 20, min: 1, max: 200, window: Duration::from_secs(1), min_samples: 50 }
}

/// A backend that handles `workers` calls at a time; further calls queue.
struct Backend {
    workers: f64,
    time: Duration,
    rng: Rng,
}

impl Backend {
    fn new(workers: f64) -> Self {
        Self { workers, time: Duration::from_millis(20), rng: Rng::seeded(11) }
    }

    /// Runs for a second with `in_flight` calls in flight.
    fn second(&mut self, rules: &mut AdaptiveRules, in_flight: usize, now: &mut Instant) {
        for _ in 0..60 {
            let queued = (in_flight as f64 / self.workers).max(1.0);
            let noise = 0.9 + 0.2 * self.rng.unit();
            rules.ended(Some(self.time.mul_f64(queued * noise)), in_flight, *now);
            *now += Duration::from_secs(1) / 60;
        }
    }
}

#[test]
fn limit_settles_between_half_and_twice_the_backend_capacity() {
    let (mut rules, mut backend, mut now) =
        (AdaptiveRules::new(config()), Backend::new(40.0), Instant::now());
    let mut most = 0;
    for _ in 0..3_000 {
        let in_flight = rules.limit();
        backend.second(&mut rules, in_flight, &mut now);
        most = most.max(rules.limit());
    }
    let end = rules.limit();
    assert!(
        (20..=80).contains(&end) && most <= 120,
        "40 workers, a limit of {end} at the end, at most {most}"
    );
}

#[test]
fn limit_falls_when_the_backend_shrinks() {
    let (mut rules, mut backend, mut now) =
        (AdaptiveRules::new(config()), Backend::new(100.0), Instant::now());
    for _ in 0..300 {
        let in_flight = rules.limit();
        backend.second(&mut rules, in_flight, &mut now);
    }
    let before = rules.limit();
    backend.workers = 10.0;
    for _ in 0..600 {
        let in_flight = rules.limit();
        backend.second(&mut rules, in_flight, &mut now);
    }
    assert!(before >= 50 && rules.limit() <= 40, "{before}, then {}", rules.limit());
}

#[test]
fn limit_under_light_load_is_about_five_times_the_calls() {
    let (mut rules, mut backend, mut now) =
        (AdaptiveRules::new(config()), Backend::new(1000.0), Instant::now());
    for _ in 0..500 {
        backend.second(&mut rules, 10, &mut now);
    }
    assert_eq!(rules.limit(), 50);
    for _ in 0..500 {
        backend.second(&mut rules, 2, &mut now);
    }
    assert!(rules.limit() <= 12, "{}", rules.limit());
}

#[test]
fn limit_changes_only_after_a_window_with_enough_calls() {
    let (mut rules, begin) = (AdaptiveRules::new(config()), Instant::now());
    let quick = Some(Duration::from_millis(10));
    for _ in 0..1_000 {
        rules.ended(quick, 20, begin + Duration::from_millis(999));
    }
    assert_eq!(rules.limit(), 20);
    let mut rules = AdaptiveRules::new(config());
    for second in 0..49 {
        rules.ended(quick, 20, begin + Duration::from_secs(second));
    }
    assert_eq!(rules.limit(), 20);
    rules.ended(quick, 20, begin + Duration::from_secs(50));
    assert!(rules.limit() > 20);
}

#[test]
fn limit_falls_with_many_failures_not_a_few_and_recovers() {
    let (mut rules, mut now) = (AdaptiveRules::new(config()), Instant::now());
    let mut second = |failures: u32| {
        for number in 0..100 {
            let time = (number >= failures).then_some(Duration::from_millis(10));
            rules.ended(time, 20, now);
            now += Duration::from_millis(11);
        }
        rules.limit()
    };
    let start = second(0);
    let few = second(5);
    assert!(few > start, "{few}");
    let many = second(100);
    assert!(many < few, "{many}");
    let least = (0..200).map(|_| second(100)).last();
    assert_eq!(least, Some(1));
    // The limit recovers.
    let again = (0..50).map(|_| second(0)).last();
    assert!(again > Some(10), "{again:?}");
}
