//! Circuit breakers and rate limiters by key.

use std::convert::Infallible;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use motet::resilience::{BreakerState, CircuitBreaker, CircuitBreakers, RateLimiter, RateLimiters};
use motet::task::{Nursery, scope};
use tokio::time::sleep;

const SECOND: Duration = Duration::from_secs(1);

fn max(count: usize) -> NonZeroUsize {
    NonZeroUsize::new(count).unwrap()
}

#[tokio::test(start_paused = true)]
async fn each_key_has_one_breaker_of_its_own() {
    let made = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&made);
    let breakers = CircuitBreakers::new(max(10), move |key: &u32| {
        count.fetch_add(1, Ordering::Relaxed);
        CircuitBreaker::builder().consecutive_failures(*key).build().unwrap()
    });
    breakers.get(&1).try_acquire().unwrap().failure();
    breakers.clone().get(&2).try_acquire().unwrap().failure();
    assert!(breakers.get(&1).try_acquire().is_err());
    assert!(breakers.get(&2).try_acquire().is_ok());
    assert_eq!(made.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn registry_is_bounded_and_keeps_open_and_used_breakers() {
    let builder = CircuitBreaker::builder().consecutive_failures(1);
    let breakers = CircuitBreakers::with_builder(max(50), builder).unwrap();
    breakers.get(&7).try_acquire().unwrap().failure();
    breakers.get(&8).force_open();
    let used = breakers.get(&9);
    let permit = used.try_acquire().unwrap();
    for key in 100..10_000 {
        assert!(breakers.get(&key).try_acquire().is_ok());
    }
    assert_eq!(breakers.len(), 50);
    assert!(breakers.get(&7).try_acquire().is_err());
    assert_eq!(breakers.get(&8).state(), BreakerState::ForcedOpen);
    permit.failure();
    assert!(breakers.get(&9).try_acquire().is_err(), "a breaker in use was evicted");
}

#[tokio::test(start_paused = true)]
async fn removed_key_gets_a_new_breaker() {
    let breakers = CircuitBreakers::with_builder(max(3), CircuitBreaker::builder()).unwrap();
    breakers.get(&8).force_open();
    assert!(breakers.remove(&8).is_some());
    assert!(breakers.get(&8).try_acquire().is_ok());
}

#[tokio::test(start_paused = true)]
async fn new_key_gets_a_breaker_in_a_registry_full_of_open_ones() {
    let breakers = CircuitBreakers::with_builder(max(3), CircuitBreaker::builder()).unwrap();
    (0..3).for_each(|key| breakers.get(&key).force_open());
    assert!(breakers.get(&3).try_acquire().is_ok());
    assert_eq!(breakers.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn closure_that_makes_a_breaker_may_use_the_registry() {
    let own: Arc<std::sync::OnceLock<CircuitBreakers<u32>>> = Arc::default();
    let within = Arc::clone(&own);
    let breakers = CircuitBreakers::new(max(10), move |key: &u32| {
        // Under the lock, this would deadlock. The breaker that is inserted first is kept.
        match key {
            1 => within.get().unwrap().get(&2),
            _ => CircuitBreaker::default(),
        }
    });
    own.set(breakers.clone()).unwrap();
    breakers.get(&1).force_open();
    assert!(breakers.get(&2).try_acquire().is_err());
}

#[tokio::test(start_paused = true)]
async fn named_registry_is_in_snapshots_and_lists_its_states() {
    scope(async |n: &Nursery<Infallible>| {
        let breakers =
            CircuitBreakers::with_builder(max(3), CircuitBreaker::builder()).unwrap().name_in(n, "hosts");
        breakers.get(&"a").force_open();
        let _ = breakers.get(&"b");
        let seen = n.snapshot().to_string();
        assert!(seen.contains("hosts") && seen.contains("open"), "{seen}");
        assert_eq!(
            breakers.states().into_iter().map(|(key, state)| (*key, state)).collect::<Vec<_>>(),
            [("a", BreakerState::ForcedOpen), ("b", BreakerState::Closed)]
        );
        Ok(())
    })
    .await
    .unwrap();
}

#[test]
fn registry_of_invalid_breakers_is_refused() {
    assert!(CircuitBreakers::<u8>::with_builder(max(3), CircuitBreaker::builder().probes(0)).is_err());
}

#[tokio::test(start_paused = true)]
async fn each_key_has_a_rate_of_its_own() {
    let each = RateLimiter::builder(1, SECOND).burst(2);
    let limiters = RateLimiters::with_builder(max(10), each).unwrap();
    limiters.get(&1).try_acquire(2).unwrap();
    assert_eq!(limiters.clone().get(&1).try_acquire(1).unwrap_err().retry_after(), Some(SECOND));
    limiters.get(&2).try_acquire(2).unwrap();
    sleep(SECOND).await;
    limiters.get(&1).try_acquire(1).unwrap();
    assert!(limiters.remove(&1).is_some());
    limiters.get(&1).try_acquire(2).unwrap();
    assert!(RateLimiters::<u32>::with_builder(max(1), RateLimiter::builder(0, SECOND)).is_err());
}

#[tokio::test(start_paused = true)]
async fn registry_of_limiters_is_bounded_and_keeps_those_in_use() {
    let limiters = RateLimiters::with_builder(max(50), RateLimiter::builder(1, SECOND * 60)).unwrap();
    limiters.get(&7).try_acquire(1).unwrap();
    for key in 100..10_000 {
        // It is asked for, and takes no cell.
        drop(limiters.get(&key));
    }
    assert_eq!(limiters.len(), 50);
    assert!(limiters.get(&7).try_acquire(1).is_err(), "the key got a new burst");
    for key in 10_000..10_100 {
        limiters.get(&key).try_acquire(1).unwrap();
    }
    assert_eq!(limiters.len(), 50, "a registry whose limiters are all in use grew");
}

#[tokio::test(start_paused = true)]
async fn named_registry_of_limiters_is_shown_with_the_number_in_use() {
    scope(async |n: &Nursery<Infallible>| {
        let limiters =
            RateLimiters::with_builder(max(9), RateLimiter::builder(1, SECOND)).unwrap().name("clients");
        limiters.get(&1).try_acquire(1).unwrap();
        drop(limiters.get(&2));
        let shown = n.snapshot().to_string();
        assert!(shown.contains("rate limiters `clients`: limiters 2, in_use 1"), "{shown}");
        Ok(())
    })
    .await
    .unwrap();
}
