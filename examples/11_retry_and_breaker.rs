//! Retry and circuit breaker, around an operation that fails more often than not.
//!
//! `cargo run -p motet-examples --example 11_retry_and_breaker`

use std::fmt;
use std::time::Duration;

use motet::resilience::{
    CircuitBreaker, Error, Event, EventKind, InvalidPolicy, Pipeline, Retry, StateChange, Trip,
};
use motet::{Backoff, rng};
use motet_examples::Journal;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct RandomFailure;

/// Fails seven times of ten.
async fn unreliable_operation() -> Result<&'static str, RandomFailure> {
    if rng::with(|rng| rng.unit()) < 0.7 { Err(RandomFailure) } else { Ok("Success") }
}

/// Opens after three failures in a row, for five seconds.
fn circuit_breaker(journal: &Journal<Note>) -> Result<CircuitBreaker, InvalidPolicy> {
    let journal = journal.clone();
    CircuitBreaker::builder()
        .opens_on(Trip::consecutive(3))
        .open_for(Backoff::constant(Duration::from_secs(5)))
        .on_change(move |change: &StateChange| journal.note(Note::Breaker(change.to.to_string())))
        .build()
}

/// Three attempts, a second or two apart at most; the breaker sees each of them.
async fn call(
    breaker: &CircuitBreaker,
    journal: &Journal<Note>,
    operation: impl AsyncFn() -> Result<&'static str, RandomFailure>,
) -> Result<&'static str, Error<RandomFailure>> {
    let retry = Retry::new()
        .attempts(3)
        .backoff(Backoff::exponential(Duration::from_secs(1), Duration::from_secs(20)));
    let listener = journal.clone();
    let pipeline = Pipeline::new()
        .on_event(move |event: &Event<'_>| match event.what {
            EventKind::RetryScheduled { delay, .. } => listener.note(Note::Retrying(event.attempts, delay)),
            EventKind::GaveUp { .. } => listener.note(Note::GaveUp(event.attempts)),
            _ => {}
        })
        .retry(retry)
        .breaker(breaker.clone());
    pipeline.run(|| operation()).await
}

async fn program(journal: &Journal<Note>) -> Result<(), InvalidPolicy> {
    let breaker = circuit_breaker(journal)?;
    match call(&breaker, journal, unreliable_operation).await {
        Ok(result) => journal.note(Note::Result(result)),
        Err(error) => journal.note(Note::FinalError(error.to_string())),
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), InvalidPolicy> {
    program(&Journal::on_terminal()).await
}

#[derive(Debug, Clone, PartialEq)]
enum Note {
    Retrying(u32, Duration),
    GaveUp(u32),
    Breaker(String),
    Result(&'static str),
    FinalError(String),
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Retrying(attempt, delay) => {
                write!(f, "Attempt {attempt} failed, retrying in {delay:.1?}...")
            }
            Self::GaveUp(attempts) => write!(f, "All {attempts} attempts failed"),
            Self::Breaker(state) => write!(f, "The circuit breaker is {state}"),
            Self::Result(result) => write!(f, "Result: {result}"),
            Self::FinalError(error) => write!(f, "Final error: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::pending;

    use motet::resilience::{BreakerState, ErrorKind, RejectedBy, RetryBudget};
    use motet::task::gather;
    use motet_testkit::MockFn;
    use motet_testkit::mock::{err, ok};
    use tokio::time::{Instant, advance, sleep, timeout};

    use super::*;

    type Operation = MockFn<(), Result<&'static str, RandomFailure>>;

    const SECOND: Duration = Duration::from_secs(1);

    fn operation(fails: usize) -> Operation {
        let operation = Operation::new("operation");
        operation.script((0..fails).map(|_| err(RandomFailure)));
        operation.then(|| ok("Success"));
        operation
    }

    fn setup() -> (Journal<Note>, CircuitBreaker) {
        let journal = Journal::in_memory();
        let breaker = circuit_breaker(&journal).unwrap();
        (journal, breaker)
    }

    async fn opened() -> (Journal<Note>, CircuitBreaker) {
        let (journal, breaker) = setup();
        let failed = call(&breaker, &journal, async || Err(RandomFailure)).await.unwrap_err();
        assert_eq!((failed.kind(), failed.attempts()), (ErrorKind::AttemptsExhausted, 3));
        assert_eq!(breaker.state(), BreakerState::Open);
        (journal, breaker)
    }

    #[tokio::test(start_paused = true)]
    async fn call_that_fails_twice_succeeds_at_the_third_attempt() {
        let (journal, breaker) = setup();
        let operation = operation(2);
        assert_eq!(call(&breaker, &journal, async || operation.call(()).await).await.unwrap(), "Success");
        operation.assert_calls(3);
        let events = journal.events();
        assert!(matches!(events[..], [Note::Retrying(1, _), Note::Retrying(2, _)]), "{events:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn program_ends_with_a_result_or_the_final_error() {
        for seed in 0..20 {
            let _seeded = rng::seed_thread(seed);
            let journal = Journal::in_memory();
            program(&journal).await.unwrap();
            match journal.events().last() {
                Some(Note::Result("Success")) => {}
                Some(Note::FinalError(error)) => assert_eq!(error, "gave up after 3 attempts"),
                other => panic!("it ends with {other:?}"),
            }
        }
    }

    /// The origin's retry called an open circuit again, and waited in between.
    #[tokio::test(start_paused = true)]
    async fn open_circuit_rejects_at_once_and_is_not_retried() {
        let (journal, breaker) = opened().await;
        let (operation, begin) = (operation(0), Instant::now());
        let rejected = call(&breaker, &journal, async || operation.call(()).await).await.unwrap_err();
        assert_eq!(rejected.kind(), ErrorKind::Rejected(RejectedBy::CircuitBreaker));
        assert_eq!((rejected.attempts(), begin.elapsed()), (0, Duration::ZERO));
        assert!(rejected.retry_after().is_some_and(|after| after <= 5 * SECOND), "it says when to come back");
        operation.assert_calls(0);
    }

    /// The origin waited for exactly 1 s and 2 s, so that callers that fail together come back together.
    #[tokio::test(start_paused = true)]
    async fn delays_vary_between_callers_and_stay_below_the_ceiling() {
        let mut delays = Vec::new();
        for seed in 0..20 {
            let _seeded = rng::seed_thread(seed);
            let (journal, breaker) = setup();
            let _ = call(&breaker, &journal, async || Err(RandomFailure)).await;
            let [Note::Retrying(1, one), Note::Retrying(2, two), ..] = journal.events()[..] else { panic!() };
            assert!(one <= SECOND && two <= 2 * SECOND, "{one:?} and {two:?}");
            delays.push(one);
        }
        delays.sort_unstable();
        delays.dedup();
        assert_eq!(delays.len(), 20);
    }

    /// The origin had no budget: every caller of a backend that is down calls three times.
    #[tokio::test(start_paused = true)]
    async fn budget_bounds_the_load_of_retries() {
        let retry = Retry::new().budget(RetryBudget::new(0.2, 1.0));
        let calls = Cell::new(0);
        let call = async || {
            calls.set(calls.get() + 1);
            sleep(Duration::from_millis(5)).await;
            Err::<(), _>(RandomFailure)
        };
        let errors = gather((0..1_000).map(|_| async { retry.run(call).await.unwrap_err() })).await;
        assert!((1_200..1_250).contains(&calls.get()), "{} calls", calls.get());
        let refused = errors.iter().filter(|error| error.kind() == ErrorKind::BudgetExhausted);
        assert!(refused.clone().all(|error| error.error() == Some(&RandomFailure)), "it says why");
        assert!(refused.count() > 700);
    }

    /// The origin counted failures for ever: three in a week opened its circuit.
    #[tokio::test(start_paused = true)]
    async fn failures_between_successes_do_not_open_the_circuit() {
        let (journal, breaker) = setup();
        for _ in 0..10 {
            let operation = operation(2);
            call(&breaker, &journal, async || operation.call(()).await).await.unwrap();
        }
        assert_eq!(breaker.state(), BreakerState::Closed);
    }

    /// The origin let every caller through once its circuit was half open.
    #[tokio::test(start_paused = true)]
    async fn half_open_circuit_admits_only_its_probes() {
        let (_, breaker) = opened().await;
        advance(6 * SECOND).await;
        let probes: Vec<_> = (0..100).filter_map(|_| breaker.try_acquire().ok()).collect();
        assert_eq!(probes.len(), 3);
        // Each that is given up is free again: the circuit cannot stay half open for ever.
        drop(probes);
        for _ in 0..3 {
            breaker.try_acquire().unwrap().success();
        }
        assert_eq!(breaker.state(), BreakerState::Closed);
    }

    /// The origin did not count a call that was cancelled, so that a backend that hangs never opened its circuit.
    #[tokio::test(start_paused = true)]
    async fn cancelled_calls_open_the_circuit() {
        let (journal, breaker) = setup();
        for _ in 0..3 {
            assert!(timeout(2 * SECOND, call(&breaker, &journal, async || pending().await)).await.is_err());
        }
        assert_eq!(breaker.state(), BreakerState::Open);
    }
}
