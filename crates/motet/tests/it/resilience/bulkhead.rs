//! Bulkheads.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use motet::resilience::{Bulkhead, PolicyKind};
use motet::task::{Nursery, scope, timeout};
use tokio::time::{Instant, sleep};

use super::{millis, seconds};

#[tokio::test(start_paused = true)]
async fn bulkhead_admits_at_most_its_capacity() {
    let bulkhead = Bulkhead::default();
    let permits: Vec<_> = (0..100).filter_map(|_| bulkhead.try_acquire().ok()).collect();
    assert_eq!(permits.len(), 25);
    let rejected = bulkhead.acquire().await.unwrap_err();
    assert_eq!((rejected.by(), rejected.retry_after()), (PolicyKind::Bulkhead, None));
    drop(permits);
    let stats = bulkhead.stats();
    assert_eq!((stats.in_flight, stats.waiting, stats.rejected), (0, 0, 76));
    assert!(bulkhead.acquire().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn waiter_that_was_handed_a_slot_no_longer_fills_the_queue() {
    let bulkhead = Bulkhead::builder(1).queue(1, Duration::MAX).build().unwrap();
    let first = bulkhead.acquire().await.unwrap();
    let mut second = Box::pin(bulkhead.acquire());
    assert!(timeout(millis(1), &mut second).await.is_err());
    assert!(bulkhead.acquire().await.is_err());
    drop(first);
    // The second caller has the permit without having been polled; the line is empty.
    assert!(bulkhead.try_acquire().is_err(), "a newcomer took the permit of a waiter");
    let mut third = Box::pin(bulkhead.acquire());
    assert!(timeout(millis(1), &mut third).await.is_err(), "the third caller waits");
    drop(second);
    assert!(third.await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn waiters_of_a_bulkhead_are_served_in_order_within_max_wait() {
    let bulkhead = Bulkhead::builder(1).queue(10, seconds(2)).build().unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    scope(async |n: &Nursery<Infallible>| {
        for number in 0..8 {
            let (bulkhead, order) = (bulkhead.clone(), Arc::clone(&order));
            n.spawn("calls", async move {
                let begin = Instant::now();
                match bulkhead.acquire().await {
                    Ok(_permit) => {
                        order.lock().unwrap().push(number);
                        sleep(millis(500)).await;
                    }
                    Err(_) => assert_eq!(begin.elapsed(), seconds(2)),
                }
            });
        }
        Ok(())
    })
    .await
    .unwrap();
    // After two seconds, a permit is free and the wait times out: either may come first.
    assert!(order.lock().unwrap().starts_with(&[0, 1, 2, 3]), "{order:?}");
    assert!(order.lock().unwrap().len() <= 5);
    assert_eq!((bulkhead.stats().in_flight, bulkhead.stats().waiting), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn loop_of_bulkhead_acquires_succeeds_beyond_the_coop_budget() {
    let bulkhead = Bulkhead::builder(1).build().unwrap();
    for _ in 0..1_000 {
        assert!(bulkhead.acquire().await.is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn owned_permit_holds_its_slot_until_it_is_dropped() {
    let bulkhead = Bulkhead::builder(1).build().unwrap();
    let permit = bulkhead.try_acquire().unwrap().into_owned();
    let other = bulkhead.clone();
    drop(bulkhead);
    assert!(other.try_acquire().is_err());
    drop(permit);
    assert!(other.try_acquire().is_ok());
}

#[test]
fn invalid_bulkheads_are_refused() {
    assert!(Bulkhead::builder(0).build().is_err());
    assert!(Bulkhead::builder(usize::MAX).build().is_err());
    assert!(Bulkhead::builder(1).queue(usize::MAX, seconds(1)).build().is_err());
}

#[tokio::test(start_paused = true)]
async fn named_bulkhead_is_in_snapshots() {
    scope(async |n: &Nursery<Infallible>| {
        let _bulkhead = Bulkhead::builder(3).name("reports").build_in(n).unwrap();
        assert!(n.snapshot().to_string().contains("reports"));
        Ok(())
    })
    .await
    .unwrap();
}
