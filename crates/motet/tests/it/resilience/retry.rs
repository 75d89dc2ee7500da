//! Retries: attempts, delays, deadlines and budgets.

use std::cell::{Cell, RefCell};
use std::future::pending;
use std::iter;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use motet::resilience::{Attempt, Class, Error, ErrorKind, Pipeline, Retry, RetryBudget};
use motet::{Backoff, Jitter, rng};
use tokio::task::JoinSet;
use tokio::time::{Instant, advance, sleep, timeout};

use super::{doubling, millis, seconds, steady, tokens};

/// Runs a retry, and returns when each attempt began.
async fn times(retry: &Retry, fails: u32) -> (Vec<Duration>, Result<u32, Error<u32>>) {
    let (begin, times) = (Instant::now(), RefCell::new(Vec::new()));
    let result = retry.run_attempts(|attempt: Attempt<'_, u32>| {
        times.borrow_mut().push(begin.elapsed());
        let number = attempt.number();
        async move { if number <= fails { Err(number) } else { Ok(number) } }
    });
    let result = result.await;
    (times.into_inner(), result)
}

#[tokio::test(start_paused = true)]
async fn retry_makes_exactly_its_attempts_and_keeps_the_last_error() {
    for attempts in 1..6 {
        let (times, result) = times(&steady(millis(10)).attempts(attempts).unwrap(), 9).await;
        let error = result.unwrap_err();
        assert_eq!(times.len(), attempts as usize);
        assert_eq!((error.kind(), error.attempts()), (ErrorKind::AttemptsExhausted, attempts));
        assert_eq!((error.last_attempt(), error.error()), (ErrorKind::Failed, Some(&attempts)));
        assert_eq!(error.elapsed(), millis(10) * (attempts - 1));
    }
}

#[tokio::test(start_paused = true)]
async fn waits_of_exponential_backoff_without_jitter_double() {
    let (times, result) = times(&doubling().attempts(4).unwrap(), 3).await;
    assert_eq!(result.unwrap(), 4);
    assert_eq!(times, [millis(0), millis(100), millis(300), millis(700)]);
}

#[tokio::test(start_paused = true)]
async fn jitter_stays_below_the_cap_without_piling_up_there() {
    let cap = millis(2_000);
    let retry = Retry::new()
        .attempts(60)
        .unwrap()
        .without_budget()
        .backoff(Backoff::exponential(millis(100), cap).unwrap());
    let (times, _) = times(&retry, 99).await;
    let waits: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    // The timer has a resolution of a millisecond.
    assert!(waits.iter().all(|wait| *wait <= cap + millis(1)), "{waits:?}");
    assert!(
        waits.iter().filter(|wait| **wait >= cap).count() < 6,
        "the delays were clamped after the draw: {waits:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn calls_that_share_a_policy_wait_for_different_times() {
    let _seeded = rng::seed_thread(5);
    let retry = Retry::new().attempts(2).unwrap().without_budget();
    let mut waits = Vec::new();
    for _ in 0..8 {
        waits.push(times(&retry.clone(), 1).await.0[1]);
    }
    waits.sort_unstable();
    waits.dedup();
    assert!(waits.len() >= 7, "{waits:?}");
}

#[tokio::test(start_paused = true)]
async fn retry_after_hint_extends_the_wait_up_to_its_limit() {
    for (hint, wait) in [(50, 100), (100, 100), (900, 900), (5_100, 5_100), (60_000, 5_100)] {
        let pipeline = Pipeline::new()
            .classify_by(move |outcome: Result<&(), &&str>| match outcome {
                Ok(()) => Class::success(),
                Err(_) => Class::retry().after(millis(hint)),
            })
            .retry(doubling().attempts(2).unwrap());
        let begin = Instant::now();
        let error = pipeline.run(async || Err("busy")).await.unwrap_err();
        assert_eq!((error.attempts(), begin.elapsed()), (2, millis(wait)), "a hint of {hint} ms");
        assert_eq!(error.retry_after(), Some(millis(hint)), "for the outer layers");
    }
}

#[tokio::test(start_paused = true)]
async fn retry_after_hint_past_the_deadline_ends_the_call_at_once() {
    let pipeline = Pipeline::new()
        .classify_by(|_: Result<&(), &&str>| Class::retry().after(millis(2_000)))
        .timeout(millis(1_500))
        .retry(doubling());
    let begin = Instant::now();
    let error = pipeline.run(async || Err("busy")).await.unwrap_err();
    assert_eq!((error.kind(), error.attempts()), (ErrorKind::OutOfTime, 1));
    assert_eq!((error.error(), begin.elapsed()), (Some(&"busy"), millis(0)));
}

#[tokio::test(start_paused = true)]
async fn only_errors_classed_as_retryable_are_retried() {
    let pipeline = Pipeline::new()
        .classify_by(|outcome: Result<&(), &u16>| match outcome {
            Ok(()) => Class::success(),
            Err(400..=499) => Class::ignore(),
            Err(501) => Class::fail(),
            Err(_) => Class::retry(),
        })
        .retry(steady(millis(10)));
    for (status, attempts) in [(404, 1), (501, 1), (503, 3)] {
        let error = pipeline.run(async || Err(status)).await.unwrap_err();
        assert_eq!((error.attempts(), error.error()), (attempts, Some(&status)));
        let kind = if attempts == 1 { ErrorKind::Failed } else { ErrorKind::AttemptsExhausted };
        assert_eq!(error.kind(), kind);
    }
}

#[tokio::test(start_paused = true)]
async fn value_classed_as_retryable_is_retried_and_finally_returned() {
    let pipeline = Pipeline::new()
        .classify_by(|outcome: Result<&u16, &&str>| match outcome {
            Ok(503) => Class::retry(),
            _ => Class::success(),
        })
        .retry(steady(millis(10)));
    let calls = Cell::new(0);
    let status = |of: u16| {
        calls.set(0);
        move |calls: &Cell<u16>| {
            calls.set(calls.get() + 1);
            Ok::<_, &str>(if calls.get() < of { 503 } else { 200 })
        }
    };
    let second = status(2);
    assert_eq!(pipeline.run_mut(async || second(&calls)).await.unwrap(), 200);
    assert_eq!(calls.get(), 2);
    let never = status(9);
    assert_eq!(pipeline.run_mut(async || never(&calls)).await.unwrap(), 503, "the last value is returned");
    assert_eq!(calls.get(), 3);
}

#[tokio::test(start_paused = true)]
async fn timeout_of_a_retry_covers_waits_and_attempts() {
    let retry = steady(millis(10)).attempts(100).unwrap().timeout(millis(1_000));
    let begin = Instant::now();
    let error = retry
        .run(async || {
            sleep(millis(300)).await;
            Err::<(), _>("slow")
        })
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert_eq!((error.attempts(), error.elapsed(), begin.elapsed()), (4, millis(1_000), millis(1_000)));
    assert_eq!(error.error(), Some(&"slow"), "the error of the attempt before");
}

#[tokio::test(start_paused = true)]
async fn wait_that_would_end_past_the_deadline_is_not_begun() {
    let retry = steady(millis(400)).attempts(100).unwrap().timeout(millis(1_000));
    let begin = Instant::now();
    let error = retry.run(async || Err::<(), _>("down")).await.unwrap_err();
    assert_eq!((error.kind(), error.attempts()), (ErrorKind::OutOfTime, 3));
    assert_eq!(begin.elapsed(), millis(800));
}

#[tokio::test(start_paused = true)]
async fn deadline_ends_a_hanging_attempt_and_prevents_further_ones() {
    let begin = Instant::now();
    let deadline = begin + millis(1_000);
    let retry = || steady(millis(400)).attempts(100).unwrap().deadline(deadline);
    let error = retry().run(async || Err::<(), _>("down")).await.unwrap_err();
    assert_eq!((error.kind(), error.attempts(), begin.elapsed()), (ErrorKind::OutOfTime, 3, millis(800)));
    let hung = async || {
        // The attempt wakes itself, but does not end.
        sleep(millis(200)).await;
        pending::<Result<(), &str>>().await
    };
    let error = retry().run(hung).await.unwrap_err();
    assert_eq!((error.kind(), error.attempts()), (ErrorKind::TimedOut, 1));
    assert_eq!(begin.elapsed(), millis(1_000));
    // After the deadline, a ready result counts, and no further attempt begins.
    assert_eq!(retry().run(async || Ok::<_, &str>(7)).await.unwrap(), 7);
    assert_eq!(retry().run(async || Err::<(), _>("down")).await.unwrap_err().attempts(), 1);
}

#[tokio::test(start_paused = true)]
async fn nearest_of_deadline_timeout_and_attempt_timeout_ends_a_call() {
    for (cut_off, timeout, attempt, kind) in [
        (10, 20, 30, ErrorKind::TimedOut),
        (30, 10, 20, ErrorKind::TimedOut),
        (30, 20, 10, ErrorKind::AttemptTimedOut),
    ] {
        let begin = Instant::now();
        let retry =
            steady(millis(0)).attempts(1).unwrap().timeout(millis(timeout)).attempt_timeout(millis(attempt));
        let polled_often = async || -> Result<(), &str> {
            loop {
                sleep(millis(1)).await;
            }
        };
        let error = retry.deadline(begin + millis(cut_off)).run(polled_often).await.unwrap_err();
        assert_eq!((error.last_attempt(), begin.elapsed()), (kind, millis(10)));
    }
}

/// An attempt that blocks its thread: the clock advances within a poll.
#[tokio::test(start_paused = true)]
async fn no_attempt_begins_after_one_that_blocked_past_the_deadline() {
    let retry = steady(millis(10)).attempts(5).unwrap().timeout(millis(100));
    let calls = Cell::new(0);
    let error = retry.run(async || {
        calls.set(calls.get() + 1);
        if calls.get() == 1 {
            sleep(millis(50)).await;
        } else {
            let computes = pin!(advance(millis(100)));
            assert!(computes.poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        Err::<(), _>("down")
    });
    let error = error.await.unwrap_err();
    assert_eq!((error.kind(), calls.get()), (ErrorKind::OutOfTime, 2));
    assert_eq!(error.elapsed(), millis(160));
}

#[tokio::test(start_paused = true)]
async fn attempt_timeout_ends_a_hanging_attempt_if_it_is_nearest() {
    let retry = steady(millis(10)).attempt_timeout(millis(100));
    let begin = Instant::now();
    let error = retry.run(pending::<Result<(), &str>>).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.last_attempt()),
        (ErrorKind::AttemptsExhausted, ErrorKind::AttemptTimedOut)
    );
    assert_eq!(error.to_string(), "gave up after 3 attempts; the last attempt timed out");
    assert_eq!(begin.elapsed(), millis(320));
    // The error names the nearer of both limits.
    let error = retry.clone().timeout(millis(50)).run(pending::<Result<(), &str>>).await.unwrap_err();
    assert_eq!((error.kind(), error.elapsed()), (ErrorKind::TimedOut, millis(50)));
}

#[tokio::test(start_paused = true)]
async fn attempt_knows_its_remaining_time_and_the_last_error() {
    let retry = steady(millis(100)).attempts(9).unwrap().timeout(millis(1_000)).attempt_timeout(millis(500));
    let seen = RefCell::new(Vec::new());
    let _ = retry
        .run_attempts(|attempt: Attempt<'_, u32>| {
            let number = attempt.number();
            seen.borrow_mut().push((number, attempt.remaining().unwrap(), attempt.last_error().copied()));
            async move {
                sleep(millis(200)).await;
                Err::<(), _>(number)
            }
        })
        .await;
    let expected = [
        (1, millis(500), None),
        (2, millis(500), Some(1)),
        (3, millis(400), Some(2)),
        (4, millis(100), Some(3)),
    ];
    assert_eq!(seen.into_inner(), expected);
}

#[tokio::test(start_paused = true)]
async fn budget_charges_retries_before_their_wait() {
    // Of a hundred calls that fail at the same time, nine may wait for a retry, although none of these has begun.
    let retry = steady(millis(1_000)).attempts(2).unwrap().budget(RetryBudget::new(0.1, 0.0).unwrap());
    let mut calls = JoinSet::new();
    for _ in 0..100 {
        let retry = retry.clone();
        calls.spawn(async move {
            let failed = retry.run(async || {
                sleep(millis(10)).await;
                Err::<(), _>("down")
            });
            failed.await.unwrap_err()
        });
    }
    let errors = calls.join_all().await;
    let retried = errors.iter().filter(|error| error.attempts() == 2).count();
    // A little of the earned tokens has faded in the 10 ms.
    assert_eq!(retried, 9);
    let out = errors.iter().filter(|error| error.kind() == ErrorKind::BudgetExhausted);
    assert!(out.clone().all(|error| error.error() == Some(&"down") && error.elapsed() == millis(10)));
    assert_eq!(out.count(), 91);
}

#[tokio::test(start_paused = true)]
async fn budget_grants_its_share_of_the_calls() {
    let retry = steady(millis(1)).attempts(2).unwrap().budget(RetryBudget::new(0.6, 0.0).unwrap());
    let mut retried = 0;
    for _ in 0..100 {
        retried += retry.run(async || Err::<(), _>("down")).await.unwrap_err().attempts() - 1;
    }
    assert!((59..=60).contains(&retried), "{retried}");
}

#[tokio::test(start_paused = true)]
async fn budget_lets_rare_calls_retry() {
    let retry = steady(millis(1)).attempts(2).unwrap().budget(RetryBudget::default());
    for _ in 0..50 {
        sleep(millis(60_000)).await;
        assert_eq!(retry.run(async || Err::<(), _>("down")).await.unwrap_err().attempts(), 2);
    }
}

/// While a backend is healthy, the balance is never read: calls are only counted.
#[tokio::test(start_paused = true)]
async fn budget_unread_for_days_grants_only_ten_seconds_of_tokens() {
    for days in [1, 24, 25, 40, 49, 50, 60, 200, 600] {
        let budget = RetryBudget::new(0.2, 10.0).unwrap();
        (0..1_000_000).for_each(|_| budget.deposit());
        advance(seconds(days * 24 * 60 * 60)).await;
        let granted =
            iter::from_fn(|| budget.try_withdraw()).take(10_000).map(|charge| charge.spend()).count();
        // A hundred tokens for the time, and those that a day's calls earned in its last ten seconds.
        assert!((100..=125).contains(&granted), "{granted} tokens after {days} days");
    }
}

#[tokio::test(start_paused = true)]
async fn budget_unread_for_an_hour_grants_ten_seconds_of_tokens() {
    let budget = RetryBudget::new(0.2, 0.0).unwrap();
    for _ in 0..3_600 {
        sleep(millis(1_000)).await;
        (0..100).for_each(|_| budget.deposit());
    }
    // 100 a second for the ten seconds of the time constant.
    let mut granted = 0;
    while let Some(charge) = budget.try_withdraw() {
        charge.spend();
        granted += 1;
    }
    assert!((180..=220).contains(&granted), "{granted}");
}

#[tokio::test(start_paused = true)]
async fn call_dropped_during_its_wait_refunds_the_charge() {
    let budget = tokens(1);
    let retry = steady(millis(1_000)).attempts(2).unwrap().budget(budget.clone());
    for _ in 0..5 {
        let before = budget.balance();
        assert!(
            timeout(millis(10), retry.run(async || Err::<(), _>("down"))).await.is_err(),
            "the call waits"
        );
        assert!(budget.balance() > before - 0.1, "the charge was not returned");
    }
}

#[tokio::test(start_paused = true)]
async fn clones_of_a_retry_share_its_budget() {
    let retry = steady(millis(1)).attempts(9).unwrap().budget(tokens(4));
    let clone = retry.clone();
    let one = retry.run(async || Err::<(), _>("down")).await.unwrap_err();
    let two = clone.run(async || Err::<(), _>("down")).await.unwrap_err();
    // The calls themselves earn one token each.
    assert_eq!((one.kind(), one.attempts()), (ErrorKind::BudgetExhausted, 6));
    assert_eq!((two.kind(), two.attempts()), (ErrorKind::BudgetExhausted, 2));
}

#[tokio::test(start_paused = true)]
async fn retry_without_a_wait_lets_other_futures_run() {
    let retry = steady(millis(0)).attempts(1_000_000).unwrap();
    let other = async {
        tokio::task::yield_now().await;
        "polled"
    };
    let busy = retry.run(async || Err::<(), _>("down"));
    assert!(matches!(motet::task::race(busy, other).await, motet::task::Either::Right("polled")));
}

#[test]
fn invalid_retry_settings_are_refused_with_setting_and_value() {
    let refused = Retry::new().attempts(0).unwrap_err();
    assert_eq!(refused.to_string(), "`attempts` is 0; it must be at least 1");
    for (ratio, floor, text) in [(f64::NAN, 1.0, "`ratio` is NaN"), (0.2, -1.0, "`floor` is -1.0")] {
        let refused = RetryBudget::new(ratio, floor).unwrap_err();
        assert_eq!(refused.to_string(), format!("{text}; it must be finite and at least 0"));
    }
}

#[test]
fn default_backoff_has_full_jitter() {
    assert_eq!(Backoff::default(), Backoff::default().jitter(Jitter::Full).unwrap());
}
