include!("../../16_retry_and_breaker.rs");

mod tests {
    use std::cell::Cell;
    use std::future::pending;

    use motet::resilience::{BreakerState, ErrorKind, PolicyKind, RetryBudget};
    use motet::task::gather;
    use motet_testkit::MockFn;
    use motet_testkit::mock::{call as calling, ok};
    use tokio::time::{Instant, advance, sleep, timeout};

    use super::*;
    use crate::Printed;

    type Operation = MockFn<(), io::Result<&'static str>>;

    const SECOND: Duration = Duration::from_secs(1);

    fn failure<T>() -> io::Result<T> {
        Err(io::Error::other("random failure"))
    }

    fn operation(fails: usize) -> Operation {
        let operation = Operation::new("operation");
        operation.script((0..fails).map(|_| calling(async |()| failure())));
        operation.then(|| ok("Success"));
        operation
    }

    async fn opened() -> CircuitBreaker {
        let breaker = circuit_breaker().unwrap();
        let failed = call(&breaker, async || failure()).await.unwrap_err();
        assert_eq!((failed.kind(), failed.attempts()), (ErrorKind::AttemptsExhausted, 3));
        assert_eq!(breaker.state(), BreakerState::Open);
        breaker
    }

    #[tokio::test(start_paused = true)]
    async fn call_that_fails_twice_succeeds_at_the_third_attempt() {
        let printed = Printed::begin();
        let operation = operation(2);
        let breaker = circuit_breaker().unwrap();
        assert_eq!(call(&breaker, async || operation.call(()).await).await.unwrap(), "Success");
        operation.assert_calls(3);
        let lines = printed.lines();
        assert_eq!(lines.len(), 2, "{lines:?}");
        for (number, line) in (1..).zip(lines) {
            assert!(line.starts_with(&format!("Attempt {number} failed, retrying in ")), "{line}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn program_ends_with_a_result_or_the_final_error() {
        for seed in 0..20 {
            let _seeded = rng::seed_thread(seed);
            let printed = Printed::begin();
            match call(&circuit_breaker().unwrap(), unreliable_operation).await {
                Ok(result) => assert_eq!(result, "Success"),
                Err(error) => {
                    assert_eq!(error.to_string(), "gave up after 3 attempts");
                    assert!(printed.lines().contains(&"All 3 attempts failed".to_owned()));
                }
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn open_circuit_rejects_at_once_and_is_not_retried() {
        let breaker = opened().await;
        let (operation, begin) = (operation(0), Instant::now());
        let rejected = call(&breaker, async || operation.call(()).await).await.unwrap_err();
        assert_eq!(rejected.kind(), ErrorKind::Rejected(PolicyKind::CircuitBreaker));
        assert_eq!((rejected.attempts(), begin.elapsed()), (0, Duration::ZERO));
        assert!(rejected.retry_after().is_some_and(|after| after <= 5 * SECOND), "no time to try again");
        operation.assert_calls(0);
    }

    /// Without jitter, callers that fail together would return together.
    #[tokio::test(start_paused = true)]
    async fn delays_vary_between_callers_and_stay_below_the_ceiling() {
        let mut delays = Vec::new();
        for seed in 0..20 {
            let _seeded = rng::seed_thread(seed);
            let begin = Instant::now();
            let _ = call(&circuit_breaker().unwrap(), async || failure()).await;
            assert!(begin.elapsed() <= 3 * SECOND, "{:?}", begin.elapsed());
            delays.push(begin.elapsed());
        }
        delays.sort_unstable();
        delays.dedup();
        assert!(delays.len() >= 19, "{delays:?}");
    }

    /// Without a budget, every caller of a backend that is down calls three times.
    #[tokio::test(start_paused = true)]
    async fn budget_bounds_the_load_of_retries() {
        let retry = Retry::new().budget(RetryBudget::new(0.2, 1.0).unwrap());
        let calls = Cell::new(0);
        let call = async || {
            calls.set(calls.get() + 1);
            sleep(Duration::from_millis(5)).await;
            failure::<()>()
        };
        let errors = gather((0..1_000).map(|_| async { retry.run(call).await.unwrap_err() })).await;
        assert!((1_200..1_250).contains(&calls.get()), "{} calls", calls.get());
        let refused = errors.iter().filter(|error| error.kind() == ErrorKind::BudgetExhausted);
        assert!(refused.clone().all(|error| error.error().is_some()), "the last error is kept");
        assert!(refused.count() > 700);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_between_successes_do_not_open_the_circuit() {
        let breaker = circuit_breaker().unwrap();
        for _ in 0..10 {
            let operation = operation(2);
            call(&breaker, async || operation.call(()).await).await.unwrap();
        }
        assert_eq!(breaker.state(), BreakerState::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn half_open_circuit_admits_only_its_probes() {
        let breaker = opened().await;
        advance(6 * SECOND).await;
        let probes: Vec<_> = (0..100).filter_map(|_| breaker.try_acquire().ok()).collect();
        assert_eq!(probes.len(), 3);
        // A dropped probe frees its slot: the circuit cannot stay half-open.
        drop(probes);
        for _ in 0..3 {
            breaker.try_acquire().unwrap().success();
        }
        assert_eq!(breaker.state(), BreakerState::Closed);
    }

    /// A backend that hangs fails no call: its callers give up.
    #[tokio::test(start_paused = true)]
    async fn cancelled_calls_open_the_circuit() {
        let breaker = circuit_breaker().unwrap();
        for _ in 0..3 {
            assert!(timeout(2 * SECOND, call(&breaker, async || pending().await)).await.is_err());
        }
        assert_eq!(breaker.state(), BreakerState::Open);
    }
}
