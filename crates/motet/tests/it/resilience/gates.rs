//! Admission policies in a pipeline: which calls are admitted, and how a call counts.

use std::future::pending;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::task::{Context, Waker};

use motet::resilience::{
    AdaptiveLimit, BreakerState, Bulkhead, CircuitBreaker, Class, ErrorKind, Hedge, Pipeline, PolicyKind,
    RateLimiter, RejectedError,
};
use tokio::time::{Instant, sleep, timeout};

use super::{millis, seconds, steady, tokens};

fn trips_after(failures: u32) -> CircuitBreaker {
    CircuitBreaker::builder().consecutive_failures(failures).build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn retry_ends_once_its_attempts_have_opened_an_inner_breaker() {
    let breaker = trips_after(2);
    let pipeline = Pipeline::new().retry(steady(millis(10)).attempts(5).unwrap()).breaker(breaker.clone());
    let error = pipeline.run(async || Err::<(), _>("down")).await.unwrap_err();
    assert_eq!(breaker.state(), BreakerState::Open);
    // The third attempt is rejected, and a rejection is not retried.
    assert_eq!((error.kind(), error.attempts()), (ErrorKind::Rejected(PolicyKind::CircuitBreaker), 2));
    assert_eq!((error.policy(), error.error()), (Some(PolicyKind::CircuitBreaker), Some(&"down")));
    assert!(error.retry_after().is_some_and(|after| after > seconds(1)), "{error:?}");
    let begin = Instant::now();
    let error = pipeline.run(async || Err::<(), _>("called")).await.unwrap_err();
    assert_eq!((error.attempts(), error.error(), begin.elapsed()), (0, None, millis(0)));
}

#[tokio::test(start_paused = true)]
async fn retried_rejection_waits_for_its_retry_after() {
    let breaker = trips_after(1);
    let retry = steady(millis(10)).attempts(2).unwrap().retry_rejected().follow_hints_for(seconds(600));
    let pipeline = Pipeline::new().retry(retry).breaker(breaker.clone());
    let after = {
        breaker.try_acquire().unwrap().failure();
        breaker.try_acquire().unwrap_err().retry_after().unwrap()
    };
    let begin = Instant::now();
    assert_eq!(pipeline.run(async || Ok::<_, ()>(1)).await.unwrap(), 1);
    assert!(begin.elapsed() >= after && begin.elapsed() <= after + millis(2), "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn rejected_attempt_costs_no_budget() {
    let (breaker, budget) = (CircuitBreaker::default(), tokens(5));
    let retry = steady(millis(0)).attempts(4).unwrap().retry_rejected().budget(budget.clone());
    let pipeline = Pipeline::new().retry(retry).breaker(breaker.clone());
    breaker.force_open();
    let error = pipeline.run(async || Ok::<_, ()>(1)).await.unwrap_err();
    assert_eq!((error.kind(), error.attempts()), (ErrorKind::AttemptsExhausted, 0));
    assert_eq!(budget.balance().round(), 6.0, "five tokens, and one for the call");
}

#[tokio::test(start_paused = true)]
async fn ignored_errors_change_neither_breaker_nor_streak() {
    let breaker = trips_after(2);
    let pipeline = Pipeline::new()
        .classify_by(|outcome: Result<&(), &u16>| match outcome {
            Ok(()) => Class::success(),
            Err(404) => Class::ignore(),
            Err(_) => Class::retry(),
        })
        .breaker(breaker.clone());
    for status in [404, 404, 503, 404] {
        let _ = pipeline.run(async || Err(status)).await;
        assert_eq!(breaker.state(), BreakerState::Closed);
    }
    let _ = pipeline.run(async || Err(503)).await;
    assert_eq!(breaker.state(), BreakerState::Open);
}

#[tokio::test(start_paused = true)]
async fn hanging_backend_opens_the_breaker_wherever_the_timeout_is() {
    // The timeout is inside of the breaker, around it, or that of the caller.
    for position in 0..3 {
        let breaker = trips_after(3);
        for _ in 0..3 {
            let hang = pending::<Result<(), ()>>;
            match position {
                0 => {
                    let inside = Pipeline::new().breaker(breaker.clone()).attempt_timeout(seconds(5));
                    assert!(inside.run(hang).await.is_err());
                }
                1 => {
                    let around = Pipeline::new().timeout(seconds(5)).breaker(breaker.clone());
                    assert!(around.run(hang).await.is_err());
                }
                _ => {
                    let bare = Pipeline::new().breaker(breaker.clone());
                    assert!(timeout(seconds(5), bare.run(hang)).await.is_err());
                }
            }
        }
        assert_eq!(breaker.state(), BreakerState::Open, "{position}");
    }
}

#[tokio::test(start_paused = true)]
async fn bulkhead_slot_is_held_exactly_as_long_as_its_call() {
    let bulkhead = Bulkhead::builder(1).build().unwrap();
    let pipeline = Pipeline::new().attempt_timeout(millis(100)).bulkhead(bulkhead.clone());
    let alive = Rc::new(());
    let hang = || {
        let alive = Rc::clone(&alive);
        async move {
            let _alive = alive;
            pending::<Result<(), ()>>().await
        }
    };
    let second = async {
        sleep(millis(50)).await;
        let error = pipeline.run(async || Ok::<_, ()>(())).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Rejected(PolicyKind::Bulkhead));
    };
    let _ = tokio::join!(pipeline.run(hang), second);
    assert_eq!((Rc::strong_count(&alive), bulkhead.stats().in_flight), (1, 0));
    drop(timeout(millis(10), pipeline.run(hang)).await);
    assert_eq!((Rc::strong_count(&alive), bulkhead.stats().in_flight), (1, 0));
    assert_eq!(bulkhead.stats().rejected, 1);
}

#[tokio::test(start_paused = true)]
async fn timeout_limits_the_wait_for_a_slot_of_a_bulkhead() {
    let bulkhead = Bulkhead::builder(1).queue(8, seconds(60)).build().unwrap();
    let pipeline = Pipeline::new().timeout(seconds(5)).bulkhead(bulkhead.clone());
    let permit = bulkhead.try_acquire().unwrap();
    let begin = Instant::now();
    let waits = async {
        let value = pipeline.run(async || Ok::<_, ()>(1)).await;
        (value.unwrap(), begin.elapsed())
    };
    let (waited, ()) = tokio::join!(waits, async {
        sleep(seconds(1)).await;
        drop(permit);
    });
    assert_eq!((waited, bulkhead.stats().rejected), ((1, seconds(1)), 0));
    let _permit = bulkhead.try_acquire().unwrap();
    let error = pipeline.run(async || Ok::<_, ()>(1)).await.unwrap_err();
    assert_eq!((error.policy(), error.attempts()), (Some(PolicyKind::Timeout), 0));
    assert_eq!(bulkhead.stats().waiting, 0);
}

#[tokio::test(start_paused = true)]
async fn rate_limit_spaces_the_calls() {
    let limiter = RateLimiter::builder(10, seconds(1)).burst(1).max_wait(seconds(10)).build().unwrap();
    let pipeline = Pipeline::new().rate_limit(limiter);
    let begin = Instant::now();
    for _ in 0..11 {
        pipeline.run(async || Ok::<_, ()>(())).await.unwrap();
    }
    assert!(begin.elapsed() >= seconds(1) && begin.elapsed() <= millis(1_050), "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn adaptive_limit_frees_the_slot_of_each_ended_call() {
    let limit = AdaptiveLimit::builder().build().unwrap();
    let pipeline = Pipeline::new().adaptive_limit(limit.clone());
    assert!(timeout(millis(10), pipeline.run(pending::<Result<(), ()>>)).await.is_err());
    pipeline.run(async || Ok::<_, ()>(())).await.unwrap();
    assert!(pipeline.run(async || Err::<(), _>(())).await.is_err());
    let mut panics = Box::pin(pipeline.run(async || -> Result<(), ()> { panic!("in a call") }));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(catch_unwind(AssertUnwindSafe(|| panics.as_mut().poll(&mut cx))).is_err());
    drop(panics);
    assert_eq!(limit.stats().in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn rejected_hedge_leaves_the_first_attempt_running() {
    let bulkhead = Bulkhead::builder(1).build().unwrap();
    let pipeline =
        Pipeline::new().hedge(Hedge::after(millis(10)).without_budget()).bulkhead(bulkhead.clone());
    let value = pipeline.run(async || {
        sleep(millis(100)).await;
        Ok::<_, ()>(1)
    });
    assert_eq!(value.await.unwrap(), 1);
    assert_eq!((bulkhead.stats().rejected, bulkhead.stats().in_flight), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn rejection_of_an_inner_breaker_does_not_open_the_outer_one() {
    let outer = trips_after(1);
    let inner = trips_after(1);
    inner.force_open();
    let pipeline = Pipeline::new().breaker(outer.clone()).breaker(inner);
    let error = pipeline.run(async || Ok::<_, ()>(())).await.unwrap_err();
    assert_eq!(
        (error.kind(), outer.state()),
        (ErrorKind::Rejected(PolicyKind::CircuitBreaker), BreakerState::Closed)
    );
    assert_eq!(error.retry_after(), RejectedError::retry_after(&trips_forced()));
}

fn trips_forced() -> RejectedError {
    let breaker = trips_after(1);
    breaker.force_open();
    breaker.try_acquire().unwrap_err()
}

/// A probe that an inner bulkhead rejects does not show whether the backend is healthy.
#[tokio::test(start_paused = true)]
async fn probe_rejected_by_an_inner_bulkhead_frees_its_slot() {
    let breaker = CircuitBreaker::builder().consecutive_failures(1).probes(1).build().unwrap();
    let bulkhead = Bulkhead::builder(1).build().unwrap();
    let pipeline = Pipeline::new().breaker(breaker.clone()).bulkhead(bulkhead.clone());
    breaker.try_acquire().unwrap().failure();
    sleep(seconds(40)).await;
    let permit = bulkhead.try_acquire().unwrap();
    for _ in 0..1_000 {
        let error = pipeline.run(async || Ok::<_, ()>(1)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Rejected(PolicyKind::Bulkhead));
    }
    assert_eq!((breaker.state(), breaker.stats().probes), (BreakerState::HalfOpen, 0));
    drop(permit);
    assert_eq!(pipeline.run(async || Ok::<_, ()>(1)).await.unwrap(), 1);
    assert_eq!(breaker.state(), BreakerState::Closed);
}
