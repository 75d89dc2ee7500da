//! Breakers by key.

use std::convert::Infallible;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use motet::resilience::{BreakerState, CircuitBreaker, CircuitBreakers, Trip};
use motet::task::{Nursery, scope};

fn max(count: usize) -> NonZeroUsize {
    NonZeroUsize::new(count).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_key_has_two_breakers_or_two_keys_have_one() {
    let made = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&made);
    let breakers = CircuitBreakers::new(max(10), move |key: &u32| {
        count.fetch_add(1, Ordering::Relaxed);
        CircuitBreaker::builder().opens_on(Trip::consecutive(*key)).build().unwrap()
    });
    breakers.get(&1).try_acquire().unwrap().failure();
    breakers.clone().get(&2).try_acquire().unwrap().failure();
    assert!(breakers.get(&1).try_acquire().is_err());
    assert!(breakers.get(&2).try_acquire().is_ok());
    assert_eq!(made.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_keys_grows_without_bound_or_forgets_what_is_open() {
    let builder = CircuitBreaker::builder().opens_on(Trip::consecutive(1));
    let breakers = CircuitBreakers::alike(max(50), builder).unwrap();
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
    assert!(breakers.get(&9).try_acquire().is_err(), "one that is in use was forgotten");
    assert!(breakers.remove(&8).is_some());
    assert!(breakers.get(&8).try_acquire().is_ok());
}

#[tokio::test(start_paused = true)]
async fn breakers_that_are_all_open_leave_no_room_for_a_key() {
    let breakers = CircuitBreakers::alike(max(3), CircuitBreaker::builder()).unwrap();
    (0..3).for_each(|key| breakers.get(&key).force_open());
    assert!(breakers.get(&3).try_acquire().is_ok());
    assert_eq!(breakers.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_breaker_is_made_under_the_lock() {
    let own: Arc<std::sync::OnceLock<CircuitBreakers<u32>>> = Arc::default();
    let within = Arc::clone(&own);
    let breakers = CircuitBreakers::new(max(10), move |key: &u32| {
        // Under the lock, this would hang; and the first to come is the one.
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
async fn a_named_registry_is_not_shown_or_takes_settings_that_make_no_sense() {
    scope(async |n: &Nursery<Infallible>| {
        let breakers = CircuitBreakers::alike(max(3), CircuitBreaker::builder()).unwrap().named(n, "hosts");
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
    assert!(CircuitBreakers::<u8>::alike(max(3), CircuitBreaker::builder().probes(0)).is_err());
}
