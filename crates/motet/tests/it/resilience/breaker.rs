//! Circuit breakers: which outcomes count, and which calls are admitted.

use std::convert::Infallible;
use std::future::pending;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use motet::resilience::{
    BreakerState, CircuitBreaker, CircuitBreakerBuilder, Pipeline, PolicyConfigError, PolicyKind, Retry,
    TripCause, Verdict, Window,
};
use motet::task::{Nursery, scope, timeout};
use motet::{Backoff, Jitter};
use proptest::prelude::*;
use tokio::time::{advance, sleep};

use super::{millis, seconds};
use crate::notes::Log;
use crate::reader::panics_at_events;

fn consecutive(failures: u32) -> CircuitBreakerBuilder {
    builder().consecutive_failures(failures)
}

fn windowed(window: Window) -> CircuitBreakerBuilder {
    builder().window(window)
}

fn builder() -> CircuitBreakerBuilder {
    CircuitBreaker::builder().open_for(Backoff::constant(seconds(30)))
}

fn built(builder: CircuitBreakerBuilder) -> CircuitBreaker {
    builder.build().unwrap()
}

/// Makes `count` calls that end with the verdict.
fn calls(breaker: &CircuitBreaker, count: u32, verdict: Verdict) {
    (0..count).for_each(|_| breaker.try_acquire().unwrap().record(verdict));
}

/// Counts the failures that open the breaker from here on.
fn failures_to_open(breaker: &CircuitBreaker) -> u32 {
    let mut failures = 0;
    while let Ok(permit) = breaker.try_acquire() {
        permit.failure();
        failures += 1;
        assert!(failures < 10_000, "the breaker never opens");
    }
    failures
}

async fn half_open(builder: CircuitBreakerBuilder) -> CircuitBreaker {
    let breaker = built(builder);
    failures_to_open(&breaker);
    advance(seconds(30)).await;
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
    breaker
}

#[tokio::test(start_paused = true)]
async fn window_of_calls_forgets_calls_beyond_its_size() {
    let breaker = built(windowed(Window::calls(100).failure_rate(0.5)));
    calls(&breaker, 1000, Verdict::Success);
    assert_eq!(failures_to_open(&breaker), 50);
}

#[tokio::test(start_paused = true)]
async fn breaker_opens_only_from_the_minimum_of_calls_of_a_window() {
    let breaker = built(windowed(Window::calls(100).min_calls(5)));
    assert_eq!(failures_to_open(&breaker), 5);
    let breaker = built(windowed(Window::time(seconds(60)).min_calls(5)));
    assert_eq!(failures_to_open(&breaker), 5);
}

#[tokio::test(start_paused = true)]
async fn success_that_completes_the_minimum_can_open_the_breaker() {
    let breaker = built(windowed(Window::calls(100).min_calls(20)));
    calls(&breaker, 10, Verdict::Failure);
    calls(&breaker, 9, Verdict::Success);
    assert_eq!(breaker.state(), BreakerState::Closed);
    calls(&breaker, 1, Verdict::Success);
    assert_eq!(breaker.state(), BreakerState::Open);
}

proptest! {
    /// A breaker counts its calls with the lock or without it; either way it agrees with a list of all calls.
    #[test]
    fn breaker_opens_at_the_same_call_as_a_naive_model(
        size in 1_usize..150,
        least in 1_usize..40,
        consecutive in 4_usize..9,
        calls in prop::collection::vec((0_usize..120, any::<bool>()), 1..40),
    ) {
        let least = least.min(size);
        let window = Window::calls(size as u32).min_calls(least as u32).failure_rate(0.3);
        let breaker = built(windowed(window).consecutive_failures(consecutive as u32));
        let mut ended: Vec<Verdict> = Vec::new();
        let all = calls.into_iter().flat_map(|(successes, ignored)| {
            let between = if ignored { Some(Verdict::Ignore) } else { None };
            // Mostly a few successes, sometimes enough to fill the window.
            let successes = if successes < 100 { successes / 10 } else { successes * 2 };
            std::iter::repeat_n(Verdict::Success, successes).chain(between).chain([Verdict::Failure])
        });
        for verdict in all {
            let permit = breaker.try_acquire();
            prop_assert!(permit.is_ok(), "the breaker is open");
            permit.unwrap().record(verdict);
            if verdict != Verdict::Ignore {
                ended.push(verdict);
            }
            let failed = |verdict: &&Verdict| **verdict == Verdict::Failure;
            let last = &ended[ended.len().saturating_sub(size)..];
            let failures = last.iter().filter(failed).count();
            let streak = ended.iter().rev().take_while(failed).count();
            if streak >= consecutive
                || last.len() >= least && failures as f64 / last.len() as f64 >= 0.3
            {
                prop_assert_eq!(breaker.state(), BreakerState::Open);
                return Ok(());
            }
        }
        let counts = breaker.stats().windows[0];
        let last = &ended[ended.len().saturating_sub(size)..];
        prop_assert_eq!(counts.calls, last.len() as u64);
    }
}

/// The state is read only at the end, so successes are counted without the lock until then.
#[tokio::test(start_paused = true)]
async fn window_counts_successes_and_pushes_older_failures_out() {
    let breaker = built(windowed(Window::calls(100).min_calls(20).failure_rate(0.5)));
    calls(&breaker, 19, Verdict::Success);
    calls(&breaker, 10, Verdict::Failure);
    calls(&breaker, 31, Verdict::Success);
    let window = breaker.stats().windows[0];
    assert_eq!((window.calls, window.failures), (60, 10));
    calls(&breaker, 59, Verdict::Success);
    assert_eq!(breaker.stats().windows[0].failures, 10);
    // The calls before the failures have left the window; now the failures leave it.
    calls(&breaker, 5, Verdict::Success);
    assert_eq!(breaker.stats().windows[0].failures, 5);
    calls(&breaker, 1_000, Verdict::Success);
    assert_eq!(breaker.stats().windows[0].failures, 0);
}

#[tokio::test(start_paused = true)]
async fn calls_before_a_reset_do_not_count_after_it() {
    let breaker = built(windowed(Window::calls(100).min_calls(20).failure_rate(0.5)));
    calls(&breaker, 1_000, Verdict::Success);
    calls(&breaker, 1, Verdict::Failure);
    calls(&breaker, 7, Verdict::Success);
    breaker.reset();
    assert_eq!(breaker.stats().windows[0].calls, 0);
    assert_eq!(failures_to_open(&breaker), 20);
}

#[tokio::test(start_paused = true)]
async fn either_of_two_triggers_opens_the_breaker() {
    let both = || consecutive(3).window(Window::calls(10).min_calls(10));
    assert_eq!(failures_to_open(&built(both())), 3);
    let breaker = built(both());
    for _ in 0..4 {
        calls(&breaker, 1, Verdict::Failure);
        calls(&breaker, 1, Verdict::Success);
    }
    assert_eq!(failures_to_open(&breaker), 2, "six failures of ten calls");
}

#[tokio::test(start_paused = true)]
async fn ignored_calls_change_neither_streak_nor_window() {
    let breaker = built(consecutive(3).window(Window::calls(10).min_calls(4)));
    calls(&breaker, 2, Verdict::Failure);
    calls(&breaker, 50, Verdict::Ignore);
    assert_eq!((breaker.stats().streak, breaker.stats().windows[0].calls), (2, 2));
    assert_eq!(failures_to_open(&breaker), 1);
}

#[tokio::test(start_paused = true)]
async fn ignored_and_cancelled_probes_free_their_slots() {
    let breaker = half_open(consecutive(3).probes(2)).await;
    for _ in 0..10 {
        breaker.try_acquire().unwrap().ignore();
        drop(breaker.try_acquire().unwrap());
        let call = breaker.call(pending::<()>(), |()| Verdict::Success);
        assert!(timeout(millis(5), call).await.is_err());
        drop(breaker.call(pending::<()>(), |()| Verdict::Success));
    }
    assert_eq!((breaker.state(), breaker.stats().probes), (BreakerState::HalfOpen, 0));
    calls(&breaker, 2, Verdict::Success);
    assert_eq!(breaker.state(), BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn half_open_breaker_admits_only_its_probes() {
    let breaker = half_open(consecutive(3).probes(2)).await;
    let probes: Vec<_> = (0..500).filter_map(|_| breaker.try_acquire().ok()).collect();
    assert_eq!((probes.len(), breaker.stats().rejected), (2, 499));
    assert_eq!(breaker.try_acquire().unwrap_err().retry_after(), None);
    // A probe that succeeded does not free its position for a third probe.
    probes.into_iter().next().unwrap().success();
    let second = breaker.try_acquire().unwrap();
    assert!(breaker.try_acquire().is_err());
    second.success();
    assert_eq!(breaker.state(), BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn slow_probes_reopen_a_breaker_opened_by_slow_calls() {
    let window = Window::calls(10).min_calls(4).slow_rate(0.5);
    let breaker = built(windowed(window).slow_call(millis(100)).probes(2));
    let slow = async || {
        let permit = breaker.try_acquire().unwrap();
        advance(millis(100)).await;
        permit.success();
    };
    for _ in 0..4 {
        assert_eq!(breaker.state(), BreakerState::Closed);
        slow().await;
    }
    assert_eq!(breaker.state(), BreakerState::Open);
    advance(seconds(30)).await;
    slow().await;
    assert_eq!(breaker.state(), BreakerState::Open, "one slow probe of two reaches the rate");
    advance(seconds(30)).await;
    calls(&breaker, 2, Verdict::Success);
    assert_eq!(breaker.state(), BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn calls_begun_in_an_earlier_state_do_not_count() {
    let breaker = built(consecutive(3).probes(1));
    let old: Vec<_> = (0..9).map(|_| breaker.try_acquire().unwrap()).collect();
    let mut old = old.into_iter();
    failures_to_open(&breaker);
    old.next().unwrap().success();
    assert_eq!(breaker.state(), BreakerState::Open, "a late success");
    advance(seconds(30)).await;
    let probe = breaker.try_acquire().unwrap();
    old.next().unwrap().success();
    old.next().unwrap().ignore();
    assert_eq!(breaker.state(), BreakerState::HalfOpen, "a late success while the probe is in flight");
    assert!(breaker.try_acquire().is_err(), "a late call freed the lease of a probe");
    old.next().unwrap().failure();
    probe.failure();
    assert_eq!(breaker.state(), BreakerState::Open);
    advance(seconds(30)).await;
    calls(&breaker, 1, Verdict::Success);
    assert_eq!(breaker.state(), BreakerState::Closed);
    old.for_each(|old| old.failure());
    assert_eq!((breaker.state(), breaker.stats().streak), (BreakerState::Closed, 0));
    assert_eq!(breaker.stats().stale, 9);
}

#[tokio::test(start_paused = true)]
async fn probe_of_an_earlier_half_open_state_does_not_count() {
    let builder = consecutive(3).probes(2).probe_failure_rate(0.5);
    let breaker = half_open(builder).await;
    let old = breaker.try_acquire().unwrap();
    calls(&breaker, 1, Verdict::Failure);
    assert_eq!(breaker.state(), BreakerState::Open);
    advance(seconds(30)).await;
    let probe = breaker.try_acquire().unwrap();
    old.failure();
    assert_eq!((breaker.state(), breaker.stats().probes), (BreakerState::HalfOpen, 1));
    probe.success();
}

#[tokio::test(start_paused = true)]
async fn calls_cancelled_after_a_second_open_the_breaker() {
    let all = [
        consecutive(5),
        windowed(Window::calls(100).min_calls(5)),
        windowed(Window::time(seconds(60)).min_calls(5)).slow_call(millis(500)),
    ];
    for breaker in all.map(built) {
        for _ in 0..5 {
            let call = breaker.call(pending::<()>(), |()| Verdict::Success);
            assert!(timeout(seconds(1), call).await.is_err());
        }
        assert_eq!(breaker.state(), BreakerState::Open);
    }
    let breaker = built(consecutive(5));
    for _ in 0..5 {
        let call = async {
            let _permit = breaker.try_acquire().unwrap();
            pending::<()>().await;
        };
        assert!(timeout(seconds(1), call).await.is_err());
    }
    assert_eq!(breaker.state(), BreakerState::Open);
}

#[tokio::test(start_paused = true)]
async fn calls_cancelled_within_a_second_do_not_count() {
    let breaker = built(consecutive(2));
    for _ in 0..50 {
        let call = breaker.call(pending::<()>(), |()| Verdict::Success);
        assert!(timeout(millis(999), call).await.is_err());
    }
    assert_eq!((breaker.state(), breaker.stats().streak), (BreakerState::Closed, 0));
}

#[tokio::test(start_paused = true)]
async fn dropped_call_counts_as_the_builder_sets() {
    let cases = [
        ("ignored", builder().ignore_dropped_calls(), seconds(100), 0, 0),
        ("failed", builder().fail_dropped_calls(), millis(0), 1, 0),
        ("failed and slow", builder().fail_dropped_calls(), millis(50), 1, 1),
        ("dropped early", builder().fail_dropped_calls_after(millis(20)), millis(19), 0, 0),
        ("hung", builder().fail_dropped_calls_after(millis(20)), millis(20), 1, 1),
    ];
    for (name, builder, age, failures, slow) in cases {
        let breaker = built(builder.window(Window::calls(20)).slow_call(millis(50)));
        let permit = breaker.try_acquire().unwrap();
        advance(age).await;
        drop(permit);
        let counts = breaker.stats().windows[0];
        assert_eq!((counts.failures, counts.slow), (failures, slow), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn panic_in_a_call_counts_as_a_failure() {
    for builder in
        [consecutive(2).ignore_dropped_calls(), consecutive(2).fail_dropped_calls_after(seconds(1))]
    {
        let breaker = built(builder);
        let panics = catch_unwind(AssertUnwindSafe(|| {
            let _permit = breaker.try_acquire().unwrap();
            panic!("in a call");
        }));
        assert!(panics.is_err());
        scope(async |n: &Nursery<Infallible>| {
            let breaker = breaker.clone();
            let call =
                async move { breaker.call(async { panic!("in a future") }, |()| Verdict::Success).await };
            let task = n.spawn("panics", without_its_panic(call));
            task.await.unwrap();
            Ok(())
        })
        .await
        .unwrap();
        assert_eq!(breaker.state(), BreakerState::Open);
    }
}

/// Catches the panic of a future, so that the scope does not see it.
async fn without_its_panic<F: Future>(future: F) {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(polled) => polled.map(drop),
        Err(_) => std::task::Poll::Ready(()),
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn owned_permit_counts_after_its_breaker_handle_is_dropped() {
    let breaker = built(consecutive(2));
    let other = breaker.clone();
    let permits = [(); 2].map(|()| breaker.try_acquire().unwrap().into_owned());
    drop(breaker);
    permits.into_iter().for_each(|permit| permit.failure());
    let rejected = other.try_acquire().unwrap_err();
    assert_eq!(rejected.by(), PolicyKind::CircuitBreaker);
    assert_eq!(rejected.to_string(), "rejected by the circuit breaker; try again in 30s");
}

#[tokio::test(start_paused = true)]
async fn rejection_names_the_breaker_and_the_time_to_try_again() {
    let breaker = built(consecutive(1).name("payments"));
    breaker.try_acquire().unwrap().failure();
    advance(Duration::from_nanos(1)).await;
    let rejected = breaker.try_acquire().unwrap_err();
    assert_eq!(rejected.name(), Some("payments"));
    // 29.999999999 s.
    assert_eq!(rejected.to_string(), "rejected by the circuit breaker `payments`; try again in 30s");
    let pipeline = Pipeline::new().breaker(breaker.clone());
    let error = pipeline.run(async || Ok::<_, String>(())).await.unwrap_err();
    assert_eq!(error.rejected_by(), Some("payments"));
    assert_eq!(error.to_string(), "rejected by the circuit breaker `payments`; try again in 30s");
    let retry = Retry::new().attempts(2).unwrap().retry_rejected();
    let pipeline = Pipeline::new().retry(retry).breaker(breaker);
    let error = pipeline.run(async || Ok::<_, String>(())).await.unwrap_err();
    let says = "the last attempt was rejected by the circuit breaker `payments`";
    assert!(error.to_string().ends_with(says), "{error}");
}

#[tokio::test(start_paused = true)]
async fn manual_states_override_the_counts() {
    let breaker = built(consecutive(3));
    breaker.force_open();
    assert_eq!(breaker.try_acquire().unwrap_err().retry_after(), None);
    advance(seconds(100_000)).await;
    assert!(breaker.try_acquire().is_err());
    breaker.force_closed();
    calls(&breaker, 100, Verdict::Failure);
    assert_eq!((breaker.state(), breaker.stats().streak), (BreakerState::ForcedClosed, 100));
    breaker.disable();
    calls(&breaker, 100, Verdict::Failure);
    assert_eq!((breaker.state(), breaker.stats().streak), (BreakerState::Disabled, 0));
    let before = breaker.try_acquire().unwrap();
    breaker.metrics_only();
    before.failure();
    calls(&breaker, 7, Verdict::Failure);
    let stats = breaker.stats();
    assert_eq!((stats.state, stats.would_have_opened, stats.opened), (BreakerState::MetricsOnly, 2, 0));
    breaker.reset();
    assert_eq!((breaker.state(), failures_to_open(&breaker)), (BreakerState::Closed, 3));
    breaker.reset();
    assert_eq!((breaker.state(), failures_to_open(&breaker)), (BreakerState::Closed, 3));
}

#[tokio::test(start_paused = true)]
async fn listeners_see_changes_in_order_and_unlocked_despite_panics() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let handle: Arc<OnceLock<CircuitBreaker>> = Arc::default();
    let (log, own) = (Arc::clone(&seen), Arc::clone(&handle));
    let builder = consecutive(2).on_change(|_| panic!("a listener")).on_change(move |change| {
        let breaker = own.get().unwrap();
        // Under the lock, this would deadlock.
        let now = breaker.stats().state;
        log.lock().unwrap().push((change.from, change.to, change.cause, now));
        if change.to == Open {
            breaker.reset();
        }
    });
    let breaker = built(builder);
    handle.set(breaker.clone()).unwrap();
    // Also in a drop during a panic.
    calls(&breaker, 1, Verdict::Failure);
    drop(catch_unwind(AssertUnwindSafe(|| {
        let _permit = breaker.try_acquire().unwrap();
        panic!("in a call");
    })));
    use BreakerState::{Closed, Open};
    let opened = (Closed, Open, TripCause::Consecutive { failures: 2 }, Open);
    assert_eq!(*seen.lock().unwrap(), [opened, (Open, Closed, TripCause::Manual, Closed)]);
    assert_eq!(*breaker.subscribe().borrow(), Closed);
    breaker.force_open();
    assert_eq!(seen.lock().unwrap().len(), 3, "the listener was not called");
}

#[tokio::test(start_paused = true)]
async fn changes_are_reported_despite_a_panicking_tracing_subscriber() {
    let reported = Log::default();
    let breaker = {
        let reported = reported.clone();
        built(consecutive(1).on_change(move |change| reported.note(change.to.to_string())))
    };
    let watch = breaker.subscribe();
    {
        let _broken = tracing::subscriber::set_default(panics_at_events());
        calls(&breaker, 1, Verdict::Failure);
        breaker.reset();
    }
    breaker.force_open();
    assert_eq!(reported.read(), ["open", "closed", "forced open"]);
    assert_eq!(*watch.borrow(), BreakerState::ForcedOpen);
}

#[tokio::test(start_paused = true)]
async fn subscriber_sees_the_breaker_open_and_half_open() {
    let breaker = built(consecutive(2));
    let mut watch = breaker.subscribe();
    scope(async |n: &Nursery<Infallible>| {
        let waits = n.spawn("waits", async move {
            watch.wait_for(|state| *state == BreakerState::Open).await.unwrap();
            watch.wait_for(|state| *state == BreakerState::HalfOpen).await.unwrap();
        });
        sleep(millis(1)).await;
        failures_to_open(&breaker);
        sleep(seconds(30)).await;
        // The state is read, and no call is made.
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
        timeout(seconds(1), waits).await.unwrap().unwrap();
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test(start_paused = true)]
async fn named_breaker_is_in_snapshots_until_it_is_dropped() {
    scope(async |n: &Nursery<Infallible>| {
        let breaker = consecutive(2).name("payments").build_in(n).unwrap();
        failures_to_open(&breaker);
        assert_eq!(breaker.name(), Some("payments"));
        let seen = n.snapshot().to_string();
        assert!(seen.contains("payments") && seen.contains("open"), "{seen}");
        drop(breaker);
        assert!(n.snapshot().components.is_empty());
        Ok(())
    })
    .await
    .unwrap();
}

#[test]
fn invalid_breaker_settings_are_refused_with_the_reason() {
    let no_time = Duration::ZERO;
    let all: Vec<(&str, CircuitBreakerBuilder)> = vec![
        ("`consecutive_failures` is 0", builder().consecutive_failures(0)),
        ("`failure_rate` is 0.0", builder().window(Window::calls(10).min_calls(1).failure_rate(0.0))),
        ("`slow_rate` is NaN", builder().window(Window::calls(10).min_calls(1).slow_rate(f64::NAN))),
        ("`probe_failure_rate` is 1.1", builder().probe_failure_rate(1.1)),
        ("`probe_slow_rate` is -1.0", builder().probe_slow_rate(-1.0)),
        ("at most the size of the window", builder().window(Window::calls(10))),
        ("from 1 to 2^20", builder().window(Window::calls(0))),
        ("from 1 to 2^20", builder().window(Window::calls(u32::MAX))),
        ("`min_calls` is 0", builder().window(Window::calls(10).min_calls(0))),
        ("`Window::time` is 0ns", builder().window(Window::time(no_time))),
        ("`intervals` is 9", builder().window(Window::time(seconds(1)).intervals(9))),
        ("unset for a window", builder().window(Window::calls(100).intervals(20))),
        ("`probes` is 0", builder().probes(0)),
        ("`probe_lease` is 0ns", builder().probe_lease(no_time)),
        ("`half_open_max_wait` is 0ns", builder().half_open_max_wait(no_time, BreakerState::Open)),
        ("`Open` or `Closed`", builder().half_open_max_wait(seconds(1), BreakerState::HalfOpen)),
        ("`slow_call` is 0ns", builder().slow_call(no_time)),
    ];
    for (reason, builder) in all {
        let refused: PolicyConfigError = builder.build().unwrap_err();
        assert!(refused.to_string().contains(reason), "`{refused}` does not contain `{reason}`");
    }
    builder()
        .open_for(Backoff::constant(Duration::MAX).jitter(Jitter::None).unwrap())
        .half_open_max_wait(Duration::MAX, BreakerState::Closed)
        .stable_after(Duration::MAX)
        .probe_lease(Duration::MAX)
        .build()
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn breaker_built_disabled_reports_no_change() {
    let lines = crate::reader::Lines::default();
    let _lines = tracing::subscriber::set_default(lines.subscriber());
    let breaker =
        CircuitBreaker::builder().disabled().on_change(|_| panic!("nothing changed")).build().unwrap();
    assert_eq!(breaker.state(), BreakerState::Disabled);
    for _ in 0..1_000 {
        breaker.try_acquire().unwrap().record(Verdict::Failure);
    }
    assert_eq!(breaker.state(), BreakerState::Disabled);
    assert_eq!(lines.at_least(tracing::Level::TRACE), Vec::<String>::new());
}
