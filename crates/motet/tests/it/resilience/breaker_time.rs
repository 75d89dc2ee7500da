//! Circuit breakers and the clock.

use std::time::Duration;

use motet::resilience::{BreakerState, CircuitBreaker, CircuitBreakerBuilder, Verdict, Window};
use motet::{Backoff, Jitter, rng};
use tokio::time::advance;

use super::{millis, seconds};

fn built(builder: CircuitBreakerBuilder) -> CircuitBreaker {
    builder.build().unwrap()
}

fn calls(breaker: &CircuitBreaker, count: u32, verdict: Verdict) {
    (0..count).for_each(|_| breaker.try_acquire().unwrap().record(verdict));
}

/// Opens the breaker, and returns its open time.
fn open(breaker: &CircuitBreaker) -> Duration {
    loop {
        match breaker.try_acquire() {
            Ok(permit) => permit.failure(),
            Err(rejected) => return rejected.retry_after().unwrap(),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn open_breaker_admits_a_probe_after_its_open_time() {
    let breaker =
        built(CircuitBreaker::builder().consecutive_failures(1).open_for(Backoff::constant(seconds(30))));
    assert_eq!(open(&breaker), seconds(30));
    advance(millis(29_999)).await;
    assert_eq!(breaker.try_acquire().unwrap_err().retry_after(), Some(millis(1)));
    advance(millis(1)).await;
    assert!(breaker.try_acquire().is_ok());
}

#[tokio::test(start_paused = true)]
async fn open_time_of_a_thousand_years_does_not_overflow() {
    let millennium = seconds(1_000 * 365 * 24 * 60 * 60);
    let breaker = CircuitBreaker::builder().consecutive_failures(1);
    let breaker = built(breaker.open_for(Backoff::constant(millennium)));
    breaker.try_acquire().unwrap().failure();
    let rejected = breaker.try_acquire().unwrap_err();
    assert_eq!(rejected.retry_after(), Some(millennium));
}

#[tokio::test(start_paused = true)]
async fn window_of_time_forgets_old_failures() {
    for length in [seconds(10), millis(500)] {
        let window = Window::time(length).min_calls(4);
        let breaker = built(CircuitBreaker::builder().window(window));
        calls(&breaker, 3, Verdict::Failure);
        advance(length).await;
        calls(&breaker, 3, Verdict::Failure);
        assert_eq!((breaker.state(), breaker.stats().windows[0].calls), (BreakerState::Closed, 3));
        advance(length * 8 / 10).await;
        calls(&breaker, 1, Verdict::Failure);
        assert_eq!(breaker.state(), BreakerState::Open);
    }
}

#[tokio::test(start_paused = true)]
async fn probes_far_apart_close_the_breaker() {
    let window = Window::time(seconds(1)).min_calls(2);
    let builder = CircuitBreaker::builder().window(window).open_for(Backoff::constant(seconds(1))).probes(3);
    let breaker = built(builder);
    open(&breaker);
    for probe in 0..3 {
        advance(seconds(20)).await;
        assert_ne!(breaker.state(), BreakerState::Closed, "after {probe} probes");
        calls(&breaker, 1, Verdict::Success);
    }
    assert_eq!(breaker.state(), BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn probe_lease_reopens_a_breaker_with_a_hanging_probe() {
    let builder = CircuitBreaker::builder()
        .consecutive_failures(1)
        .open_for(Backoff::constant(seconds(1)))
        .probes(2)
        .probe_failure_rate(1.0)
        .probe_slow_rate(1.0)
        .probe_lease(seconds(10));
    let breaker = built(builder);
    open(&breaker);
    advance(seconds(1)).await;
    let (one, two) = (breaker.try_acquire().unwrap(), breaker.try_acquire().unwrap());
    advance(millis(9_999)).await;
    assert_eq!((breaker.state(), breaker.stats().probes), (BreakerState::HalfOpen, 2));
    advance(millis(1)).await;
    assert_eq!(breaker.state(), BreakerState::Open);
    advance(seconds(1)).await;
    assert!(breaker.try_acquire().is_ok());
    // Too late: their leases have expired.
    two.success();
    one.success();
    assert_eq!((breaker.state(), breaker.stats().stale), (BreakerState::HalfOpen, 2));
}

#[tokio::test(start_paused = true)]
async fn half_open_max_wait_ends_the_half_open_state() {
    for then in [BreakerState::Open, BreakerState::Closed] {
        let builder = CircuitBreaker::builder()
            .consecutive_failures(1)
            .open_for(Backoff::constant(seconds(1)))
            .half_open_max_wait(seconds(5), then);
        let breaker = built(builder);
        open(&breaker);
        advance(seconds(1)).await;
        calls(&breaker, 1, Verdict::Success);
        advance(millis(4_999)).await;
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
        advance(millis(1)).await;
        assert_eq!(breaker.state(), then);
    }
}

#[tokio::test(start_paused = true)]
async fn open_time_backs_off_up_to_its_cap_until_stable() {
    let backoff = Backoff::exponential(seconds(10), seconds(60)).unwrap().jitter(Jitter::None).unwrap();
    let builder = CircuitBreaker::builder()
        .consecutive_failures(1)
        .open_for(backoff)
        .probes(1)
        .stable_after(seconds(100));
    let breaker = built(builder);
    let mut open_for = open(&breaker);
    for expected in [10, 20, 40, 60, 60] {
        assert_eq!(open_for, seconds(expected));
        advance(open_for).await;
        // The probe fails.
        open_for = open(&breaker);
    }
    // Closed, but not for long enough: the open time does not start again.
    advance(open_for).await;
    calls(&breaker, 1, Verdict::Success);
    advance(seconds(99)).await;
    open_for = open(&breaker);
    assert_eq!(open_for, seconds(60));
    advance(open_for).await;
    calls(&breaker, 1, Verdict::Success);
    advance(seconds(100)).await;
    assert_eq!(open(&breaker), seconds(10));
}

#[tokio::test(start_paused = true)]
async fn open_times_vary_and_repeat_under_a_seed() {
    let times = || {
        let _seeded = rng::seed_thread(7);
        (0..20).map(|_| open(&CircuitBreaker::default())).collect::<Vec<_>>()
    };
    let all = times();
    assert_eq!(all, times());
    assert!(all.iter().all(|time| (seconds(24)..=seconds(36)).contains(time)), "{all:?}");
    assert!(all.iter().any(|time| *time != all[0]));
}

/// The jitter of the open time is drawn where the call ends, which may be inside of another draw.
#[tokio::test(start_paused = true)]
async fn breaker_jitter_leaves_the_random_draws_of_callers_unchanged() {
    let times = || {
        let _seeded = rng::seed_thread(7);
        let opened = || rng::with(|_| [open(&CircuitBreaker::default()), open(&CircuitBreaker::default())]);
        (opened(), rng::with(|rng| rng.below(1_000)))
    };
    let ([one, two], next) = times();
    assert_ne!(one, two, "the breakers admit probes at the same time");
    assert_eq!(times(), ([one, two], next), "a replay differs");
    let _seeded = rng::seed_thread(7);
    assert_eq!(rng::with(|rng| rng.below(1_000)), next, "the draws of the caller have shifted");
}

/// A breaker that outlives a runtime, such as a static, is used with another clock, which is paused.
#[test]
fn breaker_opens_for_its_full_time_on_a_clock_that_is_behind() {
    let breaker = CircuitBreaker::builder().consecutive_failures(1).open_for(Backoff::constant(seconds(30)));
    let breaker = built(breaker);
    let open = || assert_eq!(breaker.try_acquire().unwrap_err().retry_after(), Some(seconds(30)));
    let runtime =
        || tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime().block_on(async {
        calls(&breaker, 1, Verdict::Failure);
        open();
        breaker.reset();
        advance(seconds(1_000_000)).await;
        calls(&breaker, 1, Verdict::Failure);
        open();
    });
    // A clock that is a million seconds behind.
    runtime().block_on(async {
        breaker.reset();
        calls(&breaker, 1, Verdict::Failure);
        open();
        advance(seconds(30)).await;
        calls(&breaker, 1, Verdict::Success);
    });
}
