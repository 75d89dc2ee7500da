//! Pipelines of policies.

use std::cell::{Cell, RefCell};
use std::error::Error as _;
use std::future::{pending, ready};
use std::io;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use motet::resilience::{
    Attempt, CircuitBreaker, Error, ErrorKind, Pipeline, PolicyEvent, PolicyEventKind, PolicyKind, Retry,
    RetryBudget,
};
use tokio::time::{Instant, sleep, timeout};

use super::{millis, steady};

#[tokio::test(start_paused = true)]
async fn first_policy_is_outermost() {
    // Around the retry, all attempts share one second; inside, each has its own.
    let around = Pipeline::new().timeout(millis(1_000)).retry(steady(millis(0)).attempts(3).unwrap());
    let inside = Pipeline::new().retry(steady(millis(0)).attempts(3).unwrap()).timeout(millis(1_000));
    let begin = Instant::now();
    let error = around.run(pending::<Result<(), ()>>).await.unwrap_err();
    assert_eq!((error.attempts(), begin.elapsed()), (1, millis(1_000)));
    let begin = Instant::now();
    let error = inside.run(pending::<Result<(), ()>>).await.unwrap_err();
    assert_eq!((error.attempts(), begin.elapsed()), (3, millis(3_000)));
}

#[tokio::test(start_paused = true)]
async fn timeout_error_names_the_limit_that_elapsed() {
    let pipeline = Pipeline::new().name("users").timeout(millis(1_000)).attempt_timeout(millis(100));
    let error = pipeline.run(pending::<Result<(), io::Error>>).await.unwrap_err();
    assert_eq!((error.kind(), error.elapsed()), (ErrorKind::AttemptTimedOut, millis(100)));
    assert_eq!(error.to_string(), "`users`: the attempt timed out");
    let pipeline = Pipeline::new().timeout(millis(100)).attempt_timeout(millis(1_000));
    let error = pipeline.run(pending::<Result<(), io::Error>>).await.unwrap_err();
    assert_eq!((error.kind(), error.policy()), (ErrorKind::TimedOut, Some(PolicyKind::Timeout)));
    assert_eq!(error.to_string(), "timed out after 1 attempt");
    assert!(error.source().is_none());
}

#[tokio::test(start_paused = true)]
async fn error_message_does_not_repeat_its_source() {
    let pipeline = Pipeline::new().retry(steady(millis(1)));
    let error = pipeline.run(async || Err::<(), _>(io::Error::other("disk on fire"))).await.unwrap_err();
    assert_eq!(error.to_string(), "gave up after 3 attempts");
    assert_eq!(error.source().unwrap().to_string(), "disk on fire");
    assert_eq!(error.policy(), Some(PolicyKind::Retry));
    let error =
        Pipeline::noop().run(async || Err::<(), _>(io::Error::other("disk on fire"))).await.unwrap_err();
    assert_eq!((error.to_string().as_str(), error.policy()), ("the operation failed", None));
    assert_eq!(error.into_error().unwrap().to_string(), "disk on fire");
}

#[tokio::test(start_paused = true)]
async fn timed_out_attempt_is_dropped_before_the_wait() {
    for boxed in [false, true] {
        let alive = Rc::new(());
        let operation = || {
            let alive = Rc::clone(&alive);
            async move {
                let _alive = alive;
                pending::<Result<(), ()>>().await
            }
        };
        let pipeline =
            Pipeline::new().retry(steady(millis(1_000)).attempts(2).unwrap()).attempt_timeout(millis(100));
        let dynamic = pipeline.clone().boxed();
        let look = async {
            sleep(millis(500)).await;
            // The operation holds one reference; another one would belong to an attempt.
            assert_eq!(Rc::strong_count(&alive), 1);
        };
        match boxed {
            false => drop(tokio::join!(pipeline.run(operation), look)),
            true => drop(tokio::join!(dynamic.run(operation), look)),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn inner_retry_begins_no_attempt_past_the_outer_deadline() {
    let outer = Pipeline::new().timeout(millis(1_000));
    let inner = Pipeline::new().timeout(millis(60_000)).retry(steady(millis(400)).attempts(100).unwrap());
    let begin = Instant::now();
    let remaining = RefCell::new(Vec::new());
    let error = outer
        .run(async || {
            sleep(millis(100)).await;
            let inner = inner.run_attempts(|attempt: Attempt<'_, &str>| {
                remaining.borrow_mut().push(attempt.remaining().unwrap());
                async { Err::<(), _>("down") }
            });
            inner.await
        })
        .await
        .unwrap_err();
    // The third attempt would begin at 900 ms, the fourth at 1300.
    assert_eq!(begin.elapsed(), millis(900));
    assert_eq!(error.into_error().unwrap().kind(), ErrorKind::OutOfTime);
    assert_eq!(remaining.into_inner(), [millis(900), millis(500), millis(100)]);
}

#[tokio::test(start_paused = true)]
async fn later_pipeline_inherits_no_deadline() {
    let outer = Pipeline::new().timeout(millis(1_000));
    outer.run(|| ready(Ok::<_, ()>(()))).await.unwrap();
    assert!(timeout(millis(10), outer.run(pending::<Result<(), ()>>)).await.is_err());
    let free = Pipeline::new();
    let free = free.run_attempts(|attempt: Attempt<'_, ()>| ready(Ok(attempt.remaining())));
    assert_eq!(free.await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn timeout_of_duration_max_lets_a_call_of_1000_s_end() {
    let pipeline = Pipeline::new().timeout(std::time::Duration::MAX).retry(Retry::new());
    let value = pipeline.run(async || {
        sleep(millis(1_000_000)).await;
        Ok::<_, ()>(7)
    });
    assert_eq!(value.await.unwrap(), 7);
}

#[tokio::test(start_paused = true)]
async fn fallback_replaces_a_failure_or_passes_it_on() {
    let pipeline = Pipeline::new()
        .fallback(async |error: Error<&str>| {
            sleep(millis(5)).await;
            if error.error() == Some(&"fatal") { Err(error) } else { Ok(error.attempts()) }
        })
        .retry(steady(millis(10)));
    assert_eq!(pipeline.run(async || Ok(77)).await.unwrap(), 77);
    assert_eq!(pipeline.run(async || Err("down")).await.unwrap(), 3);
    let error = pipeline.run(async || Err("fatal")).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.attempts(), error.elapsed()),
        (ErrorKind::AttemptsExhausted, 3, millis(25))
    );
    assert_eq!(error.into_error(), Some("fatal"));
}

/// The name of the pipeline, the number of attempts, and the kind of the event.
type Seen = (Option<String>, u32, PolicyEventKind);

#[tokio::test(start_paused = true)]
async fn events_are_reported_in_order_with_the_name_of_the_pipeline() {
    let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
    let log = Arc::clone(&seen);
    let listener = move |event: &PolicyEvent<'_>| {
        log.lock().unwrap().push((event.pipeline.map(str::to_owned), event.attempts, event.kind));
    };
    let pipeline = Pipeline::new()
        .name("users")
        .on_event(listener)
        .fallback(async |_: Error<&str>| Ok::<_, Error<&str>>(()))
        .retry(steady(millis(10)).attempts(2).unwrap())
        .attempt_timeout(millis(100));
    let first = Cell::new(true);
    pipeline
        .run(async || match first.replace(false) {
            true => Err("down"),
            false => pending().await,
        })
        .await
        .unwrap();
    let expected = [
        (1, PolicyEventKind::AttemptStarted),
        (1, PolicyEventKind::RetryScheduled { delay: millis(10), after: Some(ErrorKind::Failed) }),
        (2, PolicyEventKind::AttemptStarted),
        (2, PolicyEventKind::AttemptTimedOut),
        (2, PolicyEventKind::GaveUp { reason: ErrorKind::AttemptsExhausted }),
        (2, PolicyEventKind::FellBack),
    ];
    let seen = seen.lock().unwrap();
    assert!(seen.iter().all(|(name, ..)| name.as_deref() == Some("users")));
    let seen: Vec<_> = seen.iter().map(|(_, attempts, what)| (*attempts, *what)).collect();
    assert_eq!(seen, expected);
}

#[tokio::test(start_paused = true)]
async fn outer_retry_stops_when_an_inner_one_is_out_of_budget_or_time() {
    let inner = steady(millis(1)).attempts(3).unwrap().budget(RetryBudget::new(0.0, 0.0).unwrap());
    let pipeline = Pipeline::new().retry(steady(millis(1)).attempts(5).unwrap()).retry(inner);
    let error = pipeline.run(async || Err::<(), _>("down")).await.unwrap_err();
    assert_eq!((error.kind(), error.attempts()), (ErrorKind::BudgetExhausted, 1));
    // Likewise if the time runs out.
    let inner = steady(millis(200)).timeout(millis(100));
    let pipeline = Pipeline::new().retry(steady(millis(1)).attempts(5).unwrap()).retry(inner);
    let error = pipeline.run(async || Err::<(), _>("down")).await.unwrap_err();
    assert_eq!((error.kind(), error.attempts()), (ErrorKind::OutOfTime, 1));
}

#[tokio::test(start_paused = true)]
async fn pipeline_without_policies_changes_nothing() {
    let pipeline = Pipeline::noop();
    assert_eq!(pipeline.describe(), "no policies");
    let mut calls = 0;
    assert_eq!(
        pipeline
            .run_mut(async || {
                calls += 1;
                Ok::<_, ()>(3)
            })
            .await
            .unwrap(),
        3
    );
    assert_eq!(calls, 1);
}

#[test]
fn describe_shows_the_policies_and_remarks_report_odd_orders() {
    let pipeline = Pipeline::new()
        .name("users")
        .timeout(millis(5_000))
        .retry(Retry::new().attempt_timeout(millis(500)))
        .attempt_timeout(millis(1_000));
    let described = pipeline.describe();
    assert_eq!(
        described,
        "users: timeout (total, within 5s) > retry (attempts 3, delays 100ms to 20s, budget 20 % and 10 a second, each \
         within 500ms) > timeout (attempt, within 1s)"
    );
    assert!(pipeline.remarks().is_empty());
    let policies = pipeline.policies();
    assert_eq!(policies[1].0, PolicyKind::Retry);
    let boxed = pipeline.boxed::<(), ()>();
    assert_eq!((boxed.describe(), boxed.policies()), (described, policies));
    let twice = Pipeline::new().attempt_timeout(millis(1)).retry(Retry::new()).retry(Retry::new());
    let attempt_timeout = "an attempt timeout around a retry limits all its attempts together";
    assert_eq!(twice.remarks(), ["two retries multiply their attempts", attempt_timeout]);
    let breaker = Pipeline::new().breaker(CircuitBreaker::default()).retry(Retry::new());
    let counted = "a breaker around a retry counts a call once, even if several attempts fail";
    assert_eq!(breaker.remarks(), [counted]);
    let answer = |error: Error<()>| async move { Err::<(), _>(error) };
    let fallback = Pipeline::new().retry(Retry::new()).fallback(answer);
    let unseen = "a retry around a fallback sees the result of the fallback, not the failure";
    assert_eq!(fallback.remarks(), [unseen]);
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "polled after its end")]
async fn polling_a_call_after_its_end_panics() {
    let pipeline = Pipeline::noop();
    let mut run = Box::pin(pipeline.run(|| ready(Ok::<_, ()>(()))));
    (&mut run).await.unwrap();
    let _ = run.await;
}
