//! Circuit breakers.

use std::convert::Infallible;
use std::future::pending;
use std::sync::{Arc, Mutex};

use motet::Backoff;
use motet::resilience::{BreakerState, CircuitBreaker, CircuitBreakerBuilder, StateChange, Verdict};
use motet::task::{Nursery, scope, timeout};
use motet_testkit::cancel_everywhere;
use motet_testkit::sim::{Failure, Sweep};
use tokio::task::yield_now;
use tokio::time::sleep;

use super::{Driver, draw, millis, passes, swept};

pub(super) const DRIVER: Driver =
    Driver { drives: &["resilience::breaker::CircuitBreaker::call"], cancel, sweep };

#[test]
fn probe_of_a_breaker_dropped_anywhere_frees_its_slot() {
    cancel();
}

#[test]
fn every_order_lets_a_breaker_recover_and_ignores_stale_calls() {
    passes(sweep);
}

const PROBES: usize = 2;

fn builder() -> CircuitBreakerBuilder {
    CircuitBreaker::builder()
        .consecutive_failures(2)
        .open_for(Backoff::constant(millis(20)))
        .slow_call(millis(50))
        .probes(PROBES as u32)
}

/// Makes the breaker half-open, without a probe in flight.
async fn half_open(breaker: &CircuitBreaker) {
    while let Ok(permit) = breaker.try_acquire() {
        permit.failure();
    }
    sleep(millis(25)).await;
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
}

fn cancel() {
    cancel_everywhere(
        async || {
            let breaker = builder().build().unwrap();
            half_open(&breaker).await;
            breaker
        },
        async |breaker| {
            let probe = async |time| {
                let call = async {
                    yield_now().await;
                    sleep(millis(time)).await;
                };
                breaker.call(call, |()| Verdict::Success).await.unwrap();
            };
            tokio::join!(biased; probe(5), probe(10));
        },
        async |breaker, _| {
            assert_eq!(breaker.stats().probes, 0);
            if breaker.state() == BreakerState::HalfOpen {
                let permits: Vec<_> = (0..PROBES + 1).filter_map(|_| breaker.try_acquire().ok()).collect();
                assert!(!permits.is_empty(), "the breaker admits no call");
            }
        },
    );
}

fn sweep(planted: Option<&'static str>) -> Result<Sweep, Failure> {
    swept(planted, || async {
        let changes: Arc<Mutex<Vec<StateChange>>> = Arc::default();
        let log = Arc::clone(&changes);
        let breaker = builder().on_change(move |change| log.lock().unwrap().push(*change)).build().unwrap();
        scope(async |n: &Nursery<Infallible>| {
            for _ in 0..4 {
                let breaker = breaker.clone();
                n.spawn("calls", calls(breaker));
            }
            Ok(())
        })
        .await
        .unwrap();
        let now = breaker.state();
        assert_eq!(*breaker.subscribe().borrow(), now, "the subscriber missed a change");
        let changes = std::mem::take(&mut *changes.lock().unwrap());
        let mut state = BreakerState::Closed;
        for change in changes {
            assert_eq!(change.from, state, "a change was reported out of order, or not at all");
            state = change.to;
        }
        assert_eq!(state, now, "a change was not reported");
        assert_eq!(breaker.stats().probes, 0, "no call is in flight");
        // After any sequence of calls, time alone makes the breaker admit calls again.
        sleep(millis(25)).await;
        assert!(breaker.try_acquire().is_ok(), "the breaker admits no call");
        stale_calls(&breaker).await;
        hung_and_slow(&breaker).await;
    })
}

/// Makes calls with random durations and verdicts, some of which are dropped.
async fn calls(breaker: CircuitBreaker) {
    for _ in 0..draw(8) {
        let (takes, patience, verdict) = (draw(60), draw(80), draw(3));
        let verdict = [Verdict::Success, Verdict::Failure, Verdict::Ignore][verdict as usize];
        let call = async {
            yield_now().await;
            assert!(breaker.stats().probes <= PROBES, "too many concurrent probes");
            sleep(millis(takes)).await;
        };
        if timeout(millis(patience), breaker.call(call, |()| verdict)).await == Ok(Ok(())) {
            motet::sometimes!(breaker.stats().stale > 0, "a stale call has ended");
        } else {
            sleep(millis(draw(10))).await;
        }
    }
}

async fn stale_calls(breaker: &CircuitBreaker) {
    breaker.reset();
    half_open(breaker).await;
    let old = breaker.try_acquire().unwrap();
    breaker.reset();
    half_open(breaker).await;
    let probe = breaker.try_acquire().unwrap();
    match draw(3) {
        0 => old.failure(),
        1 => old.success(),
        _ => drop(old),
    }
    assert_eq!(breaker.stats().probes, 1, "a stale call freed the lease of a probe");
    probe.success();
}

async fn hung_and_slow(breaker: &CircuitBreaker) {
    breaker.reset();
    for _ in 0..2 {
        let hung = breaker.call(pending::<()>(), |()| Verdict::Success);
        assert!(timeout(millis(60), hung).await.is_err());
    }
    assert_eq!(breaker.state(), BreakerState::Open, "hung calls did not count");
    sleep(millis(25)).await;
    for _ in 0..2 {
        if breaker.state() == BreakerState::HalfOpen {
            breaker.call(sleep(millis(60)), |()| Verdict::Success).await.unwrap();
        }
    }
    assert_ne!(breaker.state(), BreakerState::Closed, "slow probes closed the breaker");
}
