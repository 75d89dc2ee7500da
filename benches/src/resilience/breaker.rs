//! Question: what does a circuit breaker cost per call?
//!
//! Each side guards a call that is ready at once. `failsafe` and `recloser` guard closures and futures; motet guards with a
//! permit, and futures. Guarantees of motet that the other libraries do not state: the meaning of a dropped call, and that a
//! call that was admitted in one state has no effect in another state; for this, `tower-resilience` has separate permits in the
//! half-open state. A default breaker of motet reads the clock for a permit, since the age of a permit decides its meaning
//! when it is dropped. Cases without this read are called `no clock`, and compare equal work.

use std::convert::Infallible;
use std::future::{Future, ready};
use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use failsafe::failure_policy::consecutive_failures;
use failsafe::{CircuitBreaker as _, backoff};
use motet::resilience::{BreakerState, CircuitBreaker, CircuitBreakerBuilder, Verdict, Window};
use recloser::{AsyncRecloser, Recloser};
use tokio::runtime::Builder;
use tower::{Layer, Service};
use tower_resilience_circuitbreaker::{CircuitBreakerLayer, SlidingWindowType};

use crate::measure::{both_of, once};
use crate::report::{Case, Cases};

const CALLS: u32 = 1_000;
const HOUR: Duration = Duration::from_secs(3600);

pub(crate) fn run(cases: &mut Cases) {
    closures(cases);
    futures(cases);
    rejections(cases);
    windows_of_time(cases);
    two_threads(cases);
}

fn ours(builder: CircuitBreakerBuilder) -> CircuitBreaker {
    let builder = builder.ignore_dropped_calls();
    builder.build().expect("the settings are valid")
}

fn guarded(breaker: &CircuitBreaker, result: Result<u32, ()>) {
    if let Ok(permit) = breaker.try_acquire() {
        let result = black_box(result);
        permit.record(if result.is_ok() { Verdict::Success } else { Verdict::Failure });
    }
}

fn failsafe() -> impl failsafe::CircuitBreaker + failsafe::futures::CircuitBreaker + Sync {
    failsafe::Config::new().failure_policy(consecutive_failures(5, backoff::constant(HOUR))).build()
}

fn recloser() -> Recloser {
    Recloser::custom().error_rate(0.5).closed_len(100).half_open_len(10).open_wait(HOUR).build()
}

/// The interval of failures, or none.
fn result(call: u32, failures: Option<u32>) -> Result<u32, ()> {
    match failures {
        Some(every) if call.is_multiple_of(every) => Err(()),
        _ => Ok(call),
    }
}

fn closures(cases: &mut Cases) {
    for (calls, failures) in [("all well", None), ("1 of 10 fails", Some(10))] {
        let each = |call: &dyn Fn(Result<u32, ()>)| (0..CALLS).for_each(|n| call(result(n, failures)));
        let consecutive = ours(CircuitBreaker::builder().consecutive_failures(5));
        let window = ours(CircuitBreaker::builder().window(Window::calls(100)));
        let timed =
            CircuitBreaker::builder().consecutive_failures(5).build().expect("the settings are valid");
        let (failsafe, recloser) = (failsafe(), recloser());
        let with_failsafe = |result| {
            let _ = black_box(failsafe.call(|| black_box(result)));
        };
        let with_recloser = |result| {
            let _ = black_box(recloser.call(|| black_box(result)));
        };
        let mut add = |name: &str, ours: &CircuitBreaker, rival_name, rival: &dyn Fn(Result<u32, ()>)| {
            let (ours, rival) = both_of(CALLS, || each(&|result| guarded(ours, result)), || each(rival));
            cases.extend(Case::median_and_minimum(&format!("{name}, {calls}"), rival_name, ours, rival));
        };
        add("consecutive, no clock", &consecutive, "failsafe, consecutive", &with_failsafe);
        add("consecutive, no clock", &consecutive, "recloser", &with_recloser);
        add("window of calls, no clock", &window, "failsafe, consecutive", &with_failsafe);
        add("window of calls, no clock", &window, "recloser", &with_recloser);
        add("consecutive, default", &timed, "failsafe, consecutive", &with_failsafe);
        assert_eq!([&consecutive, &window, &timed].map(CircuitBreaker::state), [BreakerState::Closed; 3]);
    }
}

/// Polls a ready future.
fn now<F: Future>(future: F) -> F::Output {
    let mut cx = Context::from_waker(Waker::noop());
    match pin!(future).poll(&mut cx) {
        Poll::Ready(output) => output,
        Poll::Pending => unreachable!("it is ready"),
    }
}

fn verdict(result: &Result<u32, ()>) -> Verdict {
    if result.is_ok() { Verdict::Success } else { Verdict::Failure }
}

fn futures(cases: &mut Cases) {
    let all = |call: &dyn Fn(u32)| (0..CALLS).for_each(call);
    let consecutive =
        CircuitBreaker::builder().consecutive_failures(5).build().expect("the settings are valid");
    let window = CircuitBreaker::default();
    let (failsafe, recloser) = (failsafe(), AsyncRecloser::from(recloser()));
    let mut add = |name: &str, ours: &CircuitBreaker, rival_name, rival: &dyn Fn(u32)| {
        let call = |n: u32| {
            let _ = black_box(now(ours.call(ready(black_box(Ok(n))), verdict)));
        };
        let (ours, rival) = both_of(CALLS, || all(&call), || all(rival));
        cases.extend(Case::median_and_minimum(name, rival_name, ours, rival));
    };
    let with_failsafe = |n: u32| {
        let _ = black_box(now(failsafe::futures::CircuitBreaker::call(
            &failsafe,
            ready(black_box(Ok::<_, ()>(n))),
        )));
    };
    let with_recloser = |n: u32| {
        let _ = black_box(now(recloser.call(ready(black_box(Ok::<_, ()>(n))))));
    };
    add("a future, consecutive, default", &consecutive, "failsafe, consecutive", &with_failsafe);
    add("a future, window of calls, default", &window, "recloser", &with_recloser);

    let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
    let layer = CircuitBreakerLayer::builder().sliding_window_size(100).build().expect("a layer");
    let mut service = layer.layer(tower::service_fn(|n: u32| ready(Ok::<_, Infallible>(n))));
    let (ours, rival) = both_of(
        CALLS,
        || {
            runtime.block_on(async {
                for n in 0..CALLS {
                    let _ = black_box(window.call(ready(black_box(Ok(n))), verdict).await);
                }
            });
        },
        || {
            runtime.block_on(async {
                for n in 0..CALLS {
                    std::future::poll_fn(|cx| service.poll_ready(cx)).await.expect("closed");
                    let _ = black_box(service.call(black_box(n)).await);
                }
            });
        },
    );
    cases.extend(Case::median_and_minimum(
        "in a task, window of calls, default",
        "tower-resilience",
        ours,
        rival,
    ));
}

fn rejections(cases: &mut Cases) {
    let ours = ours(CircuitBreaker::builder().consecutive_failures(5));
    ours.force_open();
    let by_itself = CircuitBreaker::builder()
        .consecutive_failures(5)
        .open_for(motet::Backoff::constant(HOUR))
        .build()
        .expect("the settings are valid");
    (0..5).for_each(|_| guarded(&by_itself, Err(())));
    assert_eq!(by_itself.state(), BreakerState::Open);
    let (failsafe, recloser) = (failsafe(), recloser());
    for _ in 0..200 {
        let _ = failsafe.call(|| Err::<(), _>(()));
        let _ = recloser.call(|| Err::<(), _>(()));
    }
    let all = |call: &dyn Fn()| (0..CALLS).for_each(|_| call());
    let rejected = || assert!(black_box(by_itself.try_acquire()).is_err());
    let (a, b) =
        both_of(CALLS, || all(&rejected), || all(&|| assert!(!black_box(failsafe.is_call_permitted()))));
    cases.extend(Case::median_and_minimum("open, rejected", "failsafe, consecutive", a, b));
    let closure = || assert!(black_box(recloser.call(|| Ok::<_, ()>(()))).is_err());
    let (a, b) = both_of(CALLS, || all(&rejected), || all(&closure));
    cases.extend(Case::median_and_minimum("open, rejected", "recloser", a, b));
}

fn windows_of_time(cases: &mut Cases) {
    let filled = |calls: u32| {
        let breaker = ours(CircuitBreaker::builder().window(Window::time(HOUR)));
        (0..calls).for_each(|n| guarded(&breaker, Ok(n)));
        breaker
    };
    let (empty, full) = (filled(0), filled(100_000));
    let all = |breaker: &CircuitBreaker| (0..CALLS).for_each(|n| guarded(breaker, Ok(n)));
    let (a, b) = both_of(CALLS, || all(&full), || all(&empty));
    cases.extend(Case::median_and_minimum("window of time, 100 000 calls in it", "motet, few calls", a, b));

    let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
    let layer = CircuitBreakerLayer::builder()
        .sliding_window_type(SlidingWindowType::TimeBased)
        .sliding_window_duration(HOUR)
        .build()
        .expect("a layer");
    let mut service = layer.layer(tower::service_fn(|n: u32| ready(Ok::<_, Infallible>(n))));
    let mut call = |count: u32| {
        runtime.block_on(async {
            for n in 0..count {
                std::future::poll_fn(|cx| service.poll_ready(cx)).await.expect("closed");
                let _ = black_box(service.call(n).await);
            }
        });
    };
    // It stores every call, so larger numbers take too long; the measurement adds further calls.
    call(1_000);
    let few = ours(CircuitBreaker::builder().window(Window::time(HOUR)));
    let ours = once(9_000, || (0..9_000).for_each(|n| guarded(&few, Ok(n))));
    let rival = once(9_000, || call(9_000));
    let case = "window of time, the 1 000th to 10 000th call".to_owned();
    cases.push(Case::new(case, "tower-resilience", ours, rival));
}

fn two_threads(cases: &mut Cases) {
    const EACH: u32 = 50_000;
    let on_two = |call: &(dyn Fn(u32) + Sync)| {
        thread::scope(|threads| {
            for _ in 0..2 {
                threads.spawn(|| (0..EACH).for_each(call));
            }
        });
    };
    let (failsafe, recloser) = (failsafe(), recloser());
    let breakers = [
        ("consecutive", ours(CircuitBreaker::builder().consecutive_failures(5))),
        ("window of calls", ours(CircuitBreaker::builder().window(Window::calls(100)))),
    ];
    for (calls, failures) in [("all well", None), ("1 of 10 fails", Some(10))] {
        let with_failsafe = |n: u32| {
            let _ = black_box(failsafe.call(|| black_box(result(n, failures))));
        };
        let with_recloser = |n: u32| {
            let _ = black_box(recloser.call(|| black_box(result(n, failures))));
        };
        let rivals: [(_, &(dyn Fn(u32) + Sync)); 2] =
            [("failsafe, consecutive", &with_failsafe), ("recloser", &with_recloser)];
        for (name, breaker) in &breakers {
            for (rival_name, rival) in rivals {
                let guarded = |n: u32| guarded(breaker, result(n, failures));
                let (ours, rival) = both_of(2 * EACH, || on_two(&guarded), || on_two(rival));
                let case = format!("two threads, {name}, {calls}");
                cases.extend(Case::median_and_minimum(&case, rival_name, ours, rival));
            }
        }
    }
}
