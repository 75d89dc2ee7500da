//! Policies as parts: the calls they allow, the answers they create, and what they report to each other.

use std::error::Error;
use std::future::{Ready, pending, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use motet::Backoff;
use motet::middleware::{
    Chain, Handler, Next, PolicyError, adaptive_limit, breaker, bulkhead, fallback, hedge, pipeline,
    rate_limit, retry, timeout,
};
use motet::resilience::{
    AdaptiveLimit, Bulkhead, CircuitBreaker, Class, ErrorKind, Hedge, Pipeline, PolicyEventKind, PolicyKind,
    RateLimiter, Retry,
};
use tokio::time::{Instant, sleep};

use super::{Noting, pass};
use crate::notes::Log;

const SECOND: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("busy")]
    Busy,
    #[error("no such row")]
    Missing,
    #[error(transparent)]
    Policy(#[from] PolicyError),
}

type Answer = Result<u32, Failed>;

fn attempts(attempts: u32) -> Retry {
    Retry::new().attempts(attempts).unwrap().backoff(Backoff::constant(SECOND)).without_budget()
}

/// Fails the given number of times, and then answers with the number of the call.
fn failing(times: u32, calls: &Arc<AtomicU32>) -> impl Fn(u32) -> Ready<Answer> + use<> {
    let calls = Arc::clone(calls);
    move |_| {
        let call = calls.fetch_add(1, Ordering::Relaxed) + 1;
        ready(if call > times { Ok(call) } else { Err(Failed::Busy) })
    }
}

fn kind(answer: Answer) -> ErrorKind {
    match answer {
        Err(Failed::Policy(error)) => error.kind(),
        other => panic!("no policy ended the call: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn timeout_drops_the_call_and_fails() {
    let log = Log::default();
    let handler: Handler<u32, Answer> =
        Chain::new().with(timeout(SECOND)).with(Noting("inside", log.clone())).to(|_| pending());
    let begun = Instant::now();
    let Err(Failed::Policy(error)) = handler.call(1).await else { panic!("the call must time out") };
    assert_eq!(begun.elapsed(), SECOND);
    assert_eq!(log.read(), ["inside begins", "inside dropped"]);
    assert_eq!((error.kind(), error.attempts()), (ErrorKind::TimedOut, 1));
    assert_eq!((error.policy(), error.elapsed()), (Some(PolicyKind::Timeout), SECOND));
    assert_eq!((error.retry_after(), error.pipeline()), (None, None));
    assert_eq!(error.to_string(), "timed out after 1 attempt");
    assert!(error.source().is_none());
}

#[tokio::test(start_paused = true)]
async fn retry_makes_at_most_its_attempts_and_returns_the_error() {
    let calls = Arc::default();
    let handler = Chain::new().with(retry(attempts(3))).to(failing(2, &calls));
    assert_eq!(handler.call(1).await.unwrap(), 3);
    let calls = Arc::default();
    let handler = Chain::new().with(retry(attempts(3))).to(failing(9, &calls));
    // The last error, unchanged.
    assert!(matches!(handler.call(1).await, Err(Failed::Busy)));
    assert_eq!(calls.load(Ordering::Relaxed), 3);
}

#[tokio::test(start_paused = true)]
async fn middleware_inside_of_a_retry_runs_once_per_attempt() {
    let (log, calls) = (Log::default(), Arc::default());
    let handler = Chain::new()
        .with(Noting("outside", log.clone()))
        .with(retry(attempts(3)))
        .with(Noting("inside", log.clone()))
        .to(failing(2, &calls));
    assert_eq!(handler.call(1).await.unwrap(), 3);
    let begun = |name: &str| log.read().iter().filter(|line| **line == format!("{name} begins")).count();
    assert_eq!((begun("outside"), begun("inside")), (1, 3));
}

#[tokio::test(start_paused = true)]
async fn request_that_cannot_be_replayed_is_sent_once() {
    #[derive(Debug)]
    struct Request(Option<u32>); // not `Clone`
    let calls: Arc<AtomicU32> = Arc::default();
    let counted = Arc::clone(&calls);
    let again = |request: &Request| request.0.map(|n| Request(Some(n)));
    let handler = Chain::new().with(retry(attempts(3)).replay_by(again)).to(move |_: Request| {
        counted.fetch_add(1, Ordering::Relaxed);
        async { Err::<u32, _>(Failed::Busy) }
    });
    let begun = Instant::now();
    assert!(matches!(handler.call(Request(None)).await, Err(Failed::Busy)));
    assert_eq!((calls.swap(0, Ordering::Relaxed), begun.elapsed()), (1, Duration::ZERO));
    assert!(handler.call(Request(Some(1))).await.is_err());
    assert_eq!(calls.load(Ordering::Relaxed), 3);
}

#[tokio::test(start_paused = true)]
async fn request_that_cannot_be_replayed_is_not_hedged() {
    struct Request(bool);
    let calls: Arc<AtomicU32> = Arc::default();
    let counted = Arc::clone(&calls);
    let part = hedge(Hedge::after(SECOND).without_budget());
    let part = part.replay_by(|request: &Request| request.0.then_some(Request(true)));
    let handler = Chain::new().with(part).to(move |_: Request| {
        let call = counted.fetch_add(1, Ordering::Relaxed);
        async move {
            sleep(if call == 0 { SECOND * 10 } else { SECOND }).await;
            Ok::<_, Failed>(call)
        }
    });
    let begun = Instant::now();
    assert_eq!(handler.call(Request(false)).await.unwrap(), 0);
    assert_eq!(begun.elapsed(), SECOND * 10);
    calls.store(0, Ordering::Relaxed);
    assert_eq!(handler.call(Request(true)).await.unwrap(), 1);
    assert_eq!(begun.elapsed(), SECOND * 12);
}

#[tokio::test(start_paused = true)]
async fn retry_does_not_repeat_a_rejection_of_an_inner_breaker() {
    let opens = CircuitBreaker::builder().consecutive_failures(1).build().unwrap();
    let calls = Arc::default();
    let handler =
        Chain::new().with(retry(attempts(5))).with(pass).with(breaker(opens.clone())).to(failing(9, &calls));
    let begun = Instant::now();
    // The first attempt opens the breaker, and the second is rejected, which the retry does not repeat.
    assert_eq!(kind(handler.call(1).await), ErrorKind::Rejected(PolicyKind::CircuitBreaker));
    assert_eq!((calls.load(Ordering::Relaxed), begun.elapsed()), (1, SECOND));
    assert_eq!(kind(handler.call(1).await), ErrorKind::Rejected(PolicyKind::CircuitBreaker));
    assert_eq!((calls.load(Ordering::Relaxed), begun.elapsed()), (1, SECOND));
}

#[tokio::test(start_paused = true)]
async fn retry_with_retry_rejected_repeats_a_rejected_call() {
    let one = Bulkhead::builder(1).build().unwrap();
    let handler: Handler<u32, Answer> = Chain::new()
        .with(retry(attempts(5).retry_rejected()))
        .with(bulkhead(one.clone()))
        .to(async |n| Ok(n));
    let permit = one.try_acquire().unwrap().into_owned();
    let (answer, ()) = tokio::join!(handler.call(1), async {
        sleep(SECOND * 3 / 2).await;
        drop(permit);
    });
    assert_eq!(answer.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn retry_repeats_an_attempt_that_timed_out() {
    let calls: Arc<AtomicU32> = Arc::default();
    let counted = Arc::clone(&calls);
    let handler: Handler<u32, Answer> =
        Chain::new().with(retry(attempts(3))).with(timeout(SECOND)).to(move |n| {
            let call = counted.fetch_add(1, Ordering::Relaxed);
            async move { if call < 2 { pending().await } else { Ok(n) } }
        });
    let begun = Instant::now();
    assert_eq!(handler.call(7).await.unwrap(), 7);
    assert_eq!(begun.elapsed(), SECOND * 4);
}

#[tokio::test(start_paused = true)]
async fn breaker_ignores_the_rejection_of_an_inner_bulkhead() {
    let outer = CircuitBreaker::builder().consecutive_failures(1).build().unwrap();
    let one = Bulkhead::builder(1).build().unwrap();
    let handler: Handler<u32, Answer> =
        Chain::new().with(breaker(outer)).with(bulkhead(one.clone())).to(async |n| Ok(n));
    let permit = one.try_acquire().unwrap();
    assert_eq!(kind(handler.call(1).await), ErrorKind::Rejected(PolicyKind::Bulkhead));
    drop(permit);
    assert_eq!(handler.call(1).await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn middleware_may_recover_from_a_rejection() {
    let shut = Bulkhead::builder(1).build().unwrap();
    let _permit = shut.try_acquire().unwrap();
    let repair = async |n: u32, next: Next<u32, Answer>| match next.run(n).await {
        Err(Failed::Policy(_)) => Ok(0),
        answer => answer,
    };
    let handler: Handler<u32, Answer> =
        Chain::new().with(retry(attempts(3))).with(repair).with(bulkhead(shut.clone())).to(async |n| Ok(n));
    assert_eq!(handler.call(1).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn recovered_rejection_does_not_prevent_a_retry() {
    let one = Bulkhead::builder(1).build().unwrap();
    let permit = std::sync::Mutex::new(Some(one.try_acquire().unwrap().into_owned()));
    let insist = move |n: u32, next: Next<u32, Answer>| {
        let first = next.clone().run(n);
        let permit = permit.lock().unwrap().take();
        async move {
            if first.await.is_err() {
                drop(permit);
            }
            next.run(n).await
        }
    };
    let calls = Arc::default();
    let handler =
        Chain::new().with(retry(attempts(3))).with(insist).with(bulkhead(one.clone())).to(failing(1, &calls));
    // The call is rejected, then fails: the retry starts another attempt, which runs the handler twice.
    assert_eq!(handler.call(1).await.unwrap(), 3);
}

#[tokio::test(start_paused = true)]
async fn outer_timeout_keeps_a_retry_from_waiting_past_it() {
    let calls = Arc::default();
    let handler =
        Chain::new().with(timeout(SECOND * 5 / 2)).with(pass).with(retry(attempts(9))).to(failing(9, &calls));
    let begun = Instant::now();
    // A third delay would end after the timeout, so the retry does not begin it.
    assert!(matches!(handler.call(1).await, Err(Failed::Busy)));
    assert_eq!((calls.load(Ordering::Relaxed), begun.elapsed()), (3, SECOND * 2));
}

#[tokio::test(start_paused = true)]
async fn adaptive_limit_rejects_a_call_above_it() {
    let limit = AdaptiveLimit::builder().start(1).between(1, 1).build().unwrap();
    let handler: Handler<u32, Answer> = Chain::new().with(adaptive_limit(limit.clone())).to(async |n| Ok(n));
    assert_eq!(handler.call(1).await.unwrap(), 1);
    let _permit = limit.try_acquire().unwrap();
    assert_eq!(kind(handler.call(1).await), ErrorKind::Rejected(PolicyKind::AdaptiveLimit));
}

#[tokio::test(start_paused = true)]
async fn rate_limit_and_bulkhead_reject_calls_above_their_limit() {
    let rate = RateLimiter::builder(1, SECOND).max_wait(Duration::ZERO).build().unwrap();
    let handler: Handler<u32, Answer> = Chain::new().with(rate_limit(rate)).to(async |n| Ok(n));
    assert_eq!(handler.call(1).await.unwrap(), 1);
    let Err(Failed::Policy(error)) = handler.call(1).await else { panic!("the call must be rejected") };
    assert_eq!(error.kind(), ErrorKind::Rejected(PolicyKind::RateLimiter));
    assert_eq!((error.retry_after(), error.attempts()), (Some(SECOND), 0));

    let one = Bulkhead::builder(1).queue(1, SECOND).build().unwrap();
    let handler: Handler<u32, Answer> = Chain::new().with(bulkhead(one)).to(async |n| {
        sleep(SECOND / 2).await;
        Ok(n)
    });
    let (a, b, c) = tokio::join!(handler.call(1), handler.call(2), handler.call(3));
    assert_eq!((a.unwrap(), b.unwrap()), (1, 2));
    assert_eq!(kind(c), ErrorKind::Rejected(PolicyKind::Bulkhead));
}

#[tokio::test(start_paused = true)]
async fn timeout_and_retry_accept_answer_types_other_than_result() {
    #[derive(Debug, PartialEq)]
    struct Response(u16);
    let calls: Arc<AtomicU32> = Arc::default();
    let counted = Arc::clone(&calls);
    let handler = Chain::new()
        .with(timeout(SECOND * 10).or_answer(|_| Response(504)))
        .with(retry(attempts(3)).or_answer(|_| Response(500)).classify_by(
            |answer: Result<&Response, &std::convert::Infallible>| match answer {
                Ok(Response(503)) => Class::retry(),
                _ => Class::success(),
            },
        ))
        .to(move |status: u16| {
            counted.fetch_add(1, Ordering::Relaxed);
            async move { if status == 0 { pending().await } else { Response(status) } }
        });
    assert_eq!(handler.call(0).await, Response(504));
    assert_eq!(calls.swap(0, Ordering::Relaxed), 1);
    // The last answer that was not acceptable.
    assert_eq!(handler.call(503).await, Response(503));
    assert_eq!(calls.swap(0, Ordering::Relaxed), 3);
    assert_eq!(handler.call(404).await, Response(404));
    assert_eq!(calls.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn policy_error_converts_into_boxed_and_custom_errors() {
    type Boxed = Result<u32, Box<dyn Error + Send + Sync>>;
    let handler: Handler<u32, Boxed> = Chain::new().with(timeout(SECOND)).to(|_| pending());
    assert!(handler.call(1).await.unwrap_err().is::<PolicyError>());
    let status = timeout(SECOND).or_error(|error: PolicyError| match error.kind() {
        ErrorKind::TimedOut => 504_u16,
        _ => 503,
    });
    let handler: Handler<u32, Result<u32, u16>> = Chain::new().with(status).to(|_| pending());
    assert_eq!(handler.call(1).await, Err(504));
}

#[tokio::test(start_paused = true)]
async fn classify_by_decides_what_is_retried() {
    let calls: Arc<AtomicU32> = Arc::default();
    let judged = retry(attempts(3)).classify_by(|outcome: Result<&u32, &Failed>| match outcome {
        Err(Failed::Missing) => Class::ignore(),
        Err(_) => Class::retry(),
        Ok(_) => Class::success(),
    });
    let first = Arc::clone(&calls);
    let handler = Chain::new().with(judged).to(move |_: u32| {
        let call = first.fetch_add(1, Ordering::Relaxed);
        async move { if call == 0 { Err(Failed::Busy) } else { Err(Failed::Missing) } }
    });
    assert!(matches!(handler.call(1).await, Err(Failed::Missing)));
    assert_eq!(calls.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn pipeline_as_middleware_applies_all_its_policies() {
    let log = Log::default();
    let noted = log.clone();
    let policies = Pipeline::new()
        .name("db")
        .fallback(async |error: motet::resilience::Error<Failed>| match error.error() {
            Some(Failed::Missing) => Ok(0),
            _ => Err(error),
        })
        .retry(attempts(2))
        .attempt_timeout(SECOND);
    let part = pipeline(policies).on_event(move |event| {
        if let PolicyEventKind::GaveUp { .. } = event.kind {
            noted.note("gave up");
        }
    });
    let handler = Chain::new().with(part).to(|n: u32| async move {
        match n {
            0 => Err(Failed::Missing),
            1 => pending().await,
            n => Ok(n),
        }
    });
    assert_eq!(handler.call(7).await.unwrap(), 7);
    assert_eq!(handler.call(0).await.unwrap(), 0);
    let Err(Failed::Policy(error)) = handler.call(1).await else { panic!("the call must time out") };
    assert_eq!((error.kind(), error.pipeline()), (ErrorKind::AttemptsExhausted, Some("db")));
    assert_eq!(error.last_attempt(), ErrorKind::AttemptTimedOut);
    assert_eq!(log.read(), ["gave up", "gave up"]);
    assert_eq!(
        handler.describe().to_string(),
        "db (fallback > retry (attempts 2, delays 1s, budget none) > timeout (attempt, within 1s)) > closure"
    );
}

#[tokio::test]
async fn fallback_replaces_only_the_errors_it_accepts() {
    let part = fallback(|error: Failed| async move {
        match error {
            Failed::Busy => Ok(0),
            other => Err(other),
        }
    });
    let handler = Chain::new().with(part).to(|n: u32| async move {
        match n {
            0 => Err(Failed::Busy),
            1 => Err(Failed::Missing),
            n => Ok(n),
        }
    });
    assert_eq!((handler.call(0).await.unwrap(), handler.call(2).await.unwrap()), (0, 2));
    assert!(matches!(handler.call(1).await, Err(Failed::Missing)));
}

#[test]
fn description_shows_policies_in_order_and_main_settings() {
    let handler: Handler<u32, Answer> = Chain::new()
        .with(timeout(SECOND))
        .with(retry(attempts(3)))
        .with(breaker(CircuitBreaker::default()))
        .with(bulkhead(Bulkhead::builder(4).build().unwrap()))
        .with(hedge(Hedge::after(SECOND).without_budget()))
        .to(async |n| Ok(n));
    assert_eq!(
        handler.describe().to_string(),
        "timeout (total, within 1s) > retry (attempts 3, delays 1s, budget none) > breaker > bulkhead (limit 4) > \
         hedge (after 1s, extra 1, budget none) > closure"
    );
}
