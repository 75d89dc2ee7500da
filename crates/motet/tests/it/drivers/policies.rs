//! Retries and pipelines.

use std::cell::{Cell, RefCell};
use std::future::pending;

use motet::resilience::{
    Attempt, Bulkhead, Class, DynPipeline, Error, ErrorKind, Hedge, Pipeline, Retry, RetryBudget,
};
use motet::task::timeout;
use motet::{Backoff, Jitter};
use motet_testkit::cancel_everywhere;
use motet_testkit::sim::{Failure, Sweep};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

use super::{Driver, draw, millis, passes, swept};
use crate::notes::Live;

/// A retry alone, and operations that borrow mutably.
pub(super) const RETRY: Driver = Driver {
    drives: &[
        "resilience::retry::Retry::run_mut",
        "resilience::retry::Retry::run_with",
        "resilience::pipeline::Pipeline::run_mut",
        "resilience::pipeline::Pipeline::run_with",
    ],
    cancel: cancel_retry,
    sweep: sweep_retry,
};

/// Pipelines of several policies.
pub(super) const PIPELINE: Driver = Driver {
    drives: &["resilience::pipeline::Run", "resilience::pipeline::DynRun"],
    cancel: cancel_pipeline,
    sweep: sweep_pipeline,
};

#[test]
fn dropped_retry_pays_for_begun_attempts_only_and_drops_them() {
    cancel_retry();
}

#[test]
fn every_order_keeps_attempts_timeout_and_state_of_a_retry() {
    passes(sweep_retry);
}

#[test]
fn pipeline_dropped_anywhere_frees_slots_and_drops_attempts() {
    cancel_pipeline();
}

#[test]
fn every_order_keeps_successes_limits_and_permits_of_pipelines() {
    passes(sweep_pipeline);
}

fn constant(wait: u64) -> Retry {
    Retry::new().backoff(Backoff::constant(millis(wait))).without_budget()
}

fn cancel_retry() {
    struct State {
        live: Live,
        budget: RetryBudget,
        retries: Cell<u32>,
    }
    cancel_everywhere(
        async || State {
            live: Live::default(),
            budget: RetryBudget::new(8.0, 0.0).unwrap(),
            retries: Cell::new(0),
        },
        async |state| {
            // Within the tick in which no token fades.
            let retry = constant(1).attempts(3).unwrap().budget(state.budget.clone());
            let mut calls = 0;
            let called = retry.run_mut(async || {
                let _alive = state.live.enter();
                calls += 1;
                state.retries.set(calls - 1);
                yield_now().await;
                if calls < 3 { Err("busy") } else { Ok(calls) }
            });
            assert_eq!(called.await.unwrap(), 3);
        },
        async |state, _| {
            assert_eq!(state.live.count(), 0);
            let earned = state.budget.balance() + f64::from(state.retries.get());
            assert!(earned == 0.0 || earned == 8.0, "{earned}: a charge was lost");
        },
    );
    cancel_everywhere(
        async || Live::default(),
        async |live| {
            let pipeline =
                Pipeline::new().timeout(millis(1_000)).retry(constant(5)).attempt_timeout(millis(20));
            let mut log = Vec::new();
            let live = live.clone();
            let called = pipeline.run_with(&mut log, move |log| {
                let live = live.clone();
                Box::pin(async move {
                    log.push(live.enter());
                    yield_now().await;
                    match log.len() {
                        1 => pending().await,
                        2 => Err("busy"),
                        calls => Ok(calls),
                    }
                })
            });
            assert_eq!(called.await.unwrap(), 3);
        },
        async |live, _| assert_eq!(live.count(), 0),
    );
}

fn sweep_retry(planted: Option<&'static str>) -> Result<Sweep, Failure> {
    swept(planted, || async {
        counts_attempts().await;
        keeps_its_time().await;
        has_its_state_back().await;
    })
}

async fn counts_attempts() {
    let (attempts, wait) = (1 + draw(4) as u32, 10 + draw(50));
    let pipeline = Pipeline::new()
        .classify_by(|outcome: Result<&(), &u32>| match outcome {
            Ok(()) => Class::success(),
            Err(hint) => Class::retry().after(millis((*hint).into())),
        })
        .retry(constant(wait).attempts(attempts).unwrap());
    let begin = Instant::now();
    let error = pipeline
        .run(async || {
            yield_now().await;
            Err(draw(100) as u32)
        })
        .await
        .unwrap_err();
    assert_eq!((error.kind(), error.attempts()), (ErrorKind::AttemptsExhausted, attempts));
    assert!(begin.elapsed() >= millis(wait) * (attempts - 1), "a delay was skipped");
}

async fn keeps_its_time() {
    let (limit, wait, takes) = (50 + draw(200), 20 + draw(50), draw(20));
    let retry = constant(wait).attempts(100).unwrap().timeout(millis(limit));
    let (begin, ended) = (Instant::now(), Cell::new(Instant::now()));
    let error = retry
        .run(async || {
            sleep(millis(takes)).await;
            ended.set(Instant::now());
            Err::<(), _>("busy")
        })
        .await
        .unwrap_err();
    assert!(begin.elapsed() <= millis(limit + 1));
    match error.kind() {
        ErrorKind::OutOfTime => {
            assert_eq!(ended.get(), Instant::now(), "a delay began that could not end in time")
        }
        kind => assert_eq!(kind, ErrorKind::TimedOut, "an attempt was cut off"),
    }
    if error.kind() != ErrorKind::OutOfTime {
        assert!(
            ended.get() + millis(wait) < begin + millis(limit + 1),
            "the next attempt would begin in time"
        );
    }
}

async fn has_its_state_back() {
    let pipeline = Pipeline::new().retry(constant(draw(10)).attempts(5).unwrap()).attempt_timeout(millis(10));
    let mut calls = 0;
    let called = pipeline.run_mut(async || {
        calls += 1;
        sleep(millis(if calls < 4 { draw(30) } else { 0 })).await;
        if calls < 4 { Err("busy") } else { Ok(calls) }
    });
    let called = called.await.unwrap();
    assert_eq!((called, calls), (4, 4));
    let (mut log, retry) = (Vec::new(), constant(1).attempt_timeout(millis(10)));
    let called = retry.run_with(&mut log, |log| {
        Box::pin(async move {
            log.push(());
            if log.len() < 3 {
                sleep(millis(50)).await
            }
            Ok::<_, &str>(log.len())
        })
    });
    assert_eq!(called.await.unwrap(), 3);
}

fn cancel_pipeline() {
    struct State {
        live: Live,
        bulkhead: Bulkhead,
    }
    let setup = async || State {
        live: Live::default(),
        bulkhead: Bulkhead::builder(2).queue(4, millis(1_000)).build().unwrap(),
    };
    let hedged = |state: &State| {
        Pipeline::new()
            .fallback(async |error: Error<&'static str>| {
                yield_now().await;
                Err::<u32, _>(error)
            })
            .timeout(millis(5_000))
            .retry(constant(5))
            .hedge(Hedge::after(millis(10)).without_budget())
            .bulkhead(state.bulkhead.clone())
            .attempt_timeout(millis(50))
    };
    async fn attempt(live: &Live, number: u32) -> Result<u32, &'static str> {
        let _alive = live.enter();
        yield_now().await;
        match number {
            1 | 2 => pending().await,
            3 => Err("busy"),
            _ => Ok(number),
        }
    }
    let invariant = async |state: &State, _| {
        assert_eq!((state.live.count(), state.bulkhead.stats().in_flight), (0, 0));
        assert_eq!(state.bulkhead.stats().waiting, 0);
    };
    let ended = |state: &State, result: Result<u32, Error<&'static str>>| {
        assert_eq!(result.unwrap(), 4);
        assert_eq!((state.live.count(), state.bulkhead.stats().in_flight), (0, 0));
    };
    cancel_everywhere(
        setup,
        async |state| {
            let pipeline = hedged(state);
            // Not yet dropped when its result is checked.
            let mut run =
                Box::pin(pipeline.run_attempts(|a: Attempt<'_, _>| attempt(&state.live, a.number())));
            ended(state, (&mut run).await);
        },
        invariant,
    );
    cancel_everywhere(
        setup,
        async |state| {
            let pipeline = hedged(state).boxed();
            let mut run =
                Box::pin(pipeline.run_attempts(|a: Attempt<'_, _>| attempt(&state.live, a.number())));
            ended(state, (&mut run).await);
        },
        invariant,
    );
}

fn sweep_pipeline(planted: Option<&'static str>) -> Result<Sweep, Failure> {
    swept(planted, || async {
        the_quickest_success_wins().await;
        attempts_do_not_overlap().await;
        an_inner_call_knows_the_limit().await;
        permits_come_back().await;
    })
}

async fn the_quickest_success_wins() {
    let delay = 5 + draw(20);
    let pipeline = Pipeline::new().hedge(Hedge::after(millis(delay)).extra_attempts(2).without_budget());
    let takes: [u64; 3] = std::array::from_fn(|_| 2 + draw(60));
    let fails: [bool; 3] = std::array::from_fn(|_| draw(3) == 0);
    let began = Cell::new(0);
    let result = pipeline
        .run_attempts(|attempt: Attempt<'_, u32>| {
            let number = attempt.number();
            began.set(number);
            let at = number as usize - 1;
            async move {
                sleep(millis(takes[at])).await;
                if fails[at] { Err(number) } else { Ok(number) }
            }
        })
        .await;
    let begun = began.get() as usize;
    match result {
        Ok(number) => assert!(!fails[number as usize - 1]),
        Err(error) => {
            assert!(fails[..begun].iter().all(|fails| *fails), "an attempt that succeeds was dropped");
            assert_eq!(error.into_error(), Some(1), "the error of the first attempt");
        }
    }
}

async fn attempts_do_not_overlap() {
    let live = Live::default();
    let pipeline: DynPipeline<(), &str> =
        Pipeline::new().retry(constant(draw(20)).attempts(4).unwrap()).attempt_timeout(millis(10)).boxed();
    let result = pipeline.run(|| {
        assert_eq!(live.count(), 0, "the previous attempt is still alive");
        let alive = live.enter();
        async move {
            let _alive = alive;
            sleep(millis(draw(20))).await;
            if draw(2) == 0 { Err("busy") } else { Ok(()) }
        }
    });
    drop(result.await);
    assert_eq!(live.count(), 0);
}

async fn an_inner_call_knows_the_limit() {
    let (limit, first) = (20 + draw(50), draw(15));
    let outer = Pipeline::new().timeout(millis(limit));
    let inner = Pipeline::new().timeout(millis(10_000)).retry(constant(10).attempts(100).unwrap());
    let remaining = RefCell::new(Vec::new());
    let (begin, last) = (Instant::now(), Cell::new(Instant::now()));
    let error = outer
        .run(async || {
            sleep(millis(first)).await;
            let called = inner.run_attempts(|attempt: Attempt<'_, &str>| {
                remaining.borrow_mut().push(attempt.remaining());
                last.set(Instant::now());
                async { Err::<(), _>("busy") }
            });
            called.await.map_err(|error| error.kind())
        })
        .await
        .unwrap_err();
    match error.into_error() {
        Some(kind) => assert_eq!(kind, ErrorKind::OutOfTime),
        // Cut off when the next attempt was due: a timer has a resolution of a millisecond.
        None => assert!(last.get() + millis(10) <= begin + millis(limit + 1), "cut off during a delay"),
    }
    assert!(remaining.borrow().iter().all(|left| left.is_some_and(|left| left <= millis(limit))));
}

async fn permits_come_back() {
    let bulkhead = Bulkhead::builder(1).queue(8, millis(40)).build().unwrap();
    let budget = RetryBudget::new(0.5, 100.0).unwrap();
    let retry = Retry::new()
        .backoff(Backoff::exponential(millis(1), millis(20)).unwrap().jitter(Jitter::Full).unwrap())
        .budget(budget)
        .retry_rejected();
    let pipeline = Pipeline::new().timeout(millis(100)).retry(retry).bulkhead(bulkhead.clone());
    let live = Live::default();
    let call = async || {
        let called = pipeline.run(async || {
            let _alive = live.enter();
            assert_eq!(live.count(), 1, "more calls than permits");
            sleep(millis(draw(20))).await;
            if draw(3) == 0 { Err("busy") } else { Ok(()) }
        });
        drop(timeout(millis(1 + draw(120)), called).await);
    };
    tokio::join!(call(), call(), call(), call(), call());
    assert_eq!((live.count(), bulkhead.stats().in_flight, bulkhead.stats().waiting), (0, 0, 0));
}
