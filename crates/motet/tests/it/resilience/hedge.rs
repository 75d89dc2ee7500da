//! Hedges: which attempt wins, and when the others are dropped.

use std::cell::{Cell, RefCell};
use std::future::pending;
use std::rc::Rc;
use std::time::Duration;

use motet::resilience::{
    Attempt, Class, ErrorKind, Hedge, Pipeline, PolicyEvent, PolicyEventKind, RetryBudget,
};
use tokio::time::{Instant, sleep};

use super::{millis, steady, tokens};

/// The duration and the result of each attempt, by its number.
type Script = &'static [(u64, Result<&'static str, &'static str>)];

async fn play(
    hedge: Hedge,
    script: Script,
) -> (Result<&'static str, motet::resilience::Error<&'static str>>, u64, usize) {
    let begin = Instant::now();
    let alive = Rc::new(());
    let pipeline = Pipeline::new().hedge(hedge);
    let mut run = Box::pin(pipeline.run_attempts(|attempt: Attempt<'_, &'static str>| {
        let (takes, result) = script[attempt.number() as usize - 1];
        let alive = Rc::clone(&alive);
        async move {
            let _alive = alive;
            sleep(millis(takes)).await;
            result
        }
    }));
    let result = (&mut run).await;
    // The future of the call has not been dropped yet.
    (result, begin.elapsed().as_millis() as u64, Rc::strong_count(&alive) - 1)
}

#[tokio::test(start_paused = true)]
async fn quick_call_is_not_hedged() {
    let (result, took, alive) = play(Hedge::after(millis(50)), &[(40, Ok("first"))]).await;
    assert_eq!((result.unwrap(), took, alive), ("first", 40, 0));
}

#[tokio::test(start_paused = true)]
async fn losers_of_a_hedge_are_dropped_before_the_winner_is_returned() {
    let (result, took, alive) =
        play(Hedge::after(millis(50)), &[(500, Ok("first")), (10, Ok("second"))]).await;
    assert_eq!((result.unwrap(), took, alive), ("second", 60, 0));
    let (result, took, alive) =
        play(Hedge::after(millis(50)), &[(70, Ok("first")), (100, Ok("second"))]).await;
    assert_eq!((result.unwrap(), took, alive), ("first", 70, 0));
}

#[tokio::test(start_paused = true)]
async fn error_of_a_hedged_attempt_waits_for_the_other_attempt() {
    let script: Script = &[(100, Err("first")), (200, Ok("second"))];
    let (result, took, _) = play(Hedge::after(millis(50)), script).await;
    assert_eq!((result.unwrap(), took), ("second", 250));
    let script: Script = &[(300, Ok("first")), (10, Err("second"))];
    let (result, took, _) = play(Hedge::after(millis(50)), script).await;
    assert_eq!((result.unwrap(), took), ("first", 300));
}

#[tokio::test(start_paused = true)]
async fn error_of_the_first_attempt_is_returned_if_all_fail() {
    let script: Script = &[(100, Err("first")), (200, Err("second"))];
    let (result, took, alive) = play(Hedge::after(millis(50)), script).await;
    let error = result.unwrap_err();
    assert_eq!((error.error(), error.attempts(), took, alive), (Some(&"first"), 2, 250, 0));
}

#[tokio::test(start_paused = true)]
async fn call_that_fails_before_the_delay_ends_without_a_hedge() {
    let (result, took, _) = play(Hedge::after(millis(50)), &[(10, Err("first"))]).await;
    assert_eq!((result.unwrap_err().attempts(), took), (1, 10));
}

#[tokio::test(start_paused = true)]
async fn exhausted_budget_withholds_hedges_and_keeps_attempts() {
    let budget = RetryBudget::new(0.0, 0.0).unwrap();
    let script: Script = &[(500, Ok("first"))];
    let (result, took, _) = play(Hedge::after(millis(50)).budget(budget), script).await;
    assert_eq!((result.unwrap(), took), ("first", 500));
    // With one token left, one of two extra attempts is made, and goes on.
    let script: Script = &[(500, Ok("first")), (300, Ok("second"))];
    let (result, took, _) = play(Hedge::after(millis(50)).extra_attempts(2).budget(tokens(1)), script).await;
    assert_eq!((result.unwrap(), took), ("second", 350));
}

#[tokio::test(start_paused = true)]
async fn extra_attempts_begin_each_after_its_delay() {
    let hedge = Hedge::after_fn(|number| millis(10) * number).extra_attempts(2).without_budget();
    let script: Script = &[(500, Ok("first")), (500, Ok("second")), (100, Ok("third"))];
    let (result, took, _) = play(hedge, script).await;
    assert_eq!((result.unwrap(), took), ("third", 130));
}

#[tokio::test(start_paused = true)]
async fn delay_of_duration_max_does_not_hedge_a_call_of_1000_hours() {
    let script: Script = &[(3_600_000_000, Ok("first"))];
    let (result, took, _) = play(Hedge::after_fn(|_| Duration::MAX), script).await;
    assert_eq!((result.unwrap(), took), ("first", 3_600_000_000));
}

#[tokio::test(start_paused = true)]
async fn ignored_error_ends_a_hedged_call_at_once() {
    let pipeline = Pipeline::new()
        .classify_by(
            |outcome: Result<&(), &u16>| if outcome == Err(&404) { Class::ignore() } else { Class::retry() },
        )
        .hedge(Hedge::after(millis(50)).without_budget());
    let begin = Instant::now();
    let error = pipeline.run_attempts(|attempt: Attempt<'_, u16>| {
        let first = attempt.number() == 1;
        async move {
            sleep(millis(if first { 500 } else { 10 })).await;
            Err(404)
        }
    });
    assert_eq!((error.await.unwrap_err().error(), begin.elapsed()), (Some(&404), millis(60)));
}

#[tokio::test(start_paused = true)]
async fn attempts_are_numbered_through_retries_and_hedges() {
    let seen: Rc<RefCell<Vec<u32>>> = Rc::default();
    let pipeline = Pipeline::new()
        .retry(steady(millis(100)).attempts(2).unwrap())
        .hedge(Hedge::after(millis(50)).without_budget())
        .attempt_timeout(millis(200));
    let begin = Instant::now();
    let error = pipeline
        .run_attempts(|attempt: Attempt<'_, &str>| {
            seen.borrow_mut().push(attempt.number());
            pending::<Result<(), &str>>()
        })
        .await
        .unwrap_err();
    assert_eq!(*seen.borrow(), [1, 2, 3, 4]);
    assert_eq!((error.attempts(), begin.elapsed()), (4, millis(250 + 100 + 250)));
    assert_eq!(
        (error.kind(), error.last_attempt()),
        (ErrorKind::AttemptsExhausted, ErrorKind::AttemptTimedOut)
    );
}

#[tokio::test(start_paused = true)]
async fn boxed_pipeline_returns_the_winner_and_drops_the_losers() {
    let hedge = Hedge::after(millis(50)).extra_attempts(2).without_budget();
    let pipeline = Pipeline::new().hedge(hedge).boxed::<u32, u32>();
    for (takes, wins) in [([100, 100, 100], 1), ([500, 10, 500], 2), ([500, 500, 10], 3), ([500, 90, 10], 3)]
    {
        let alive = Rc::new(());
        let mut run = Box::pin(pipeline.run_attempts(|attempt: Attempt<'_, u32>| {
            let number = attempt.number();
            let alive = Rc::clone(&alive);
            async move {
                let _alive = alive;
                sleep(millis(takes[number as usize - 1])).await;
                Ok(number)
            }
        }));
        assert_eq!((&mut run).await.unwrap(), wins);
        assert_eq!(Rc::strong_count(&alive), 1, "the losers were not dropped");
    }
}

#[tokio::test(start_paused = true)]
async fn hedges_and_withheld_hedges_are_reported() {
    use std::sync::{Arc, Mutex};
    let seen: Arc<Mutex<Vec<PolicyEventKind>>> = Arc::default();
    let log = Arc::clone(&seen);
    let pipeline = Pipeline::new()
        .on_event(move |event: &PolicyEvent<'_>| log.lock().unwrap().push(event.kind))
        .hedge(Hedge::after(millis(50)).budget(tokens(1)).extra_attempts(2));
    let calls = Cell::new(0);
    pipeline
        .run(async || {
            calls.set(calls.get() + 1);
            // The call is polled several times: a withheld hedge is not tried again.
            for _ in 0..20 {
                sleep(millis(10)).await;
            }
            Ok::<_, &str>(())
        })
        .await
        .unwrap();
    let expected = [
        PolicyEventKind::AttemptStarted,
        PolicyEventKind::Hedged { extra: 1 },
        PolicyEventKind::AttemptStarted,
        PolicyEventKind::HedgeWithheld,
    ];
    assert_eq!(*seen.lock().unwrap(), expected);
}
