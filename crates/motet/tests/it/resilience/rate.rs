//! Rate limiters.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use std::{hint, thread};

use motet::resilience::{PolicyKind, RateLimiter};
use motet::task::{Nursery, scope, timeout};
use tokio::runtime::Builder;
use tokio::time::{Instant, advance};

use super::{millis, seconds};

#[tokio::test(start_paused = true)]
async fn rate_limiter_refills_at_its_rate_up_to_its_burst() {
    let limiter = RateLimiter::builder(10, seconds(1)).burst(3).build().unwrap();
    let take = || (0..100).take_while(|_| limiter.try_acquire(1).is_ok()).count();
    assert_eq!(take(), 3);
    let rejected = limiter.try_acquire(2).unwrap_err();
    assert_eq!((rejected.by(), rejected.retry_after()), (PolicyKind::RateLimiter, Some(millis(200))));
    advance(millis(99)).await;
    assert_eq!(take(), 0);
    advance(millis(1)).await;
    assert_eq!(take(), 1);
    advance(millis(250)).await;
    assert_eq!(take(), 2);
    advance(seconds(100)).await;
    assert_eq!(take(), 3);
}

#[tokio::test(start_paused = true)]
async fn call_above_the_burst_is_rejected_and_takes_no_cell() {
    let limiter = RateLimiter::builder(10, seconds(1)).burst(3).build().unwrap();
    let rejected = limiter.acquire(4).await.unwrap_err();
    assert_eq!(rejected.retry_after(), None);
    assert_eq!(limiter.try_acquire(4).unwrap_err().retry_after(), None);
    assert_eq!(limiter.stats().available, 3, "the rejected call took cells");
    limiter.acquire(0).await.unwrap();
    limiter.acquire(u32::MAX).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn call_waits_up_to_max_wait_and_is_else_rejected_at_once() {
    let limiter = RateLimiter::builder(1, seconds(1)).max_wait(seconds(2)).build().unwrap();
    limiter.acquire(1).await.unwrap();
    let begin = Instant::now();
    let (one, two, three) = tokio::join!(limiter.acquire(1), limiter.acquire(1), limiter.acquire(1));
    assert!(one.is_ok() && two.is_ok());
    assert_eq!(begin.elapsed(), seconds(2));
    // In a second, the wait would be two seconds.
    assert_eq!(three.unwrap_err().retry_after(), Some(seconds(1)));
}

#[tokio::test(start_paused = true)]
async fn waiters_of_a_rate_limiter_are_served_in_order() {
    let limiter = RateLimiter::builder(10, seconds(1)).burst(2).build().unwrap();
    limiter.acquire(2).await.unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    let begin = Instant::now();
    scope(async |n: &Nursery<Infallible>| {
        for (number, cells) in [2, 1, 2, 1].into_iter().enumerate() {
            let (limiter, order) = (limiter.clone(), Arc::clone(&order));
            n.spawn("waits", async move {
                limiter.acquire(cells).await.unwrap();
                order.lock().unwrap().push((number, begin.elapsed()));
            });
        }
        tokio::time::sleep(millis(150)).await;
        // A cell is free, but the first waiter wants it.
        let rejected = limiter.try_acquire(1).unwrap_err();
        assert_eq!(rejected.retry_after(), Some(millis(550)));
        limiter.acquire(1).await.unwrap();
        order.lock().unwrap().push((4, begin.elapsed()));
        Ok(())
    })
    .await
    .unwrap();
    let expected = [(0, millis(200)), (1, millis(300)), (2, millis(500)), (3, millis(600)), (4, millis(700))];
    assert_eq!(*order.lock().unwrap(), expected);
}

#[tokio::test(start_paused = true)]
async fn dropped_waiter_frees_its_turn_and_its_cells() {
    let limiter = RateLimiter::builder(1, seconds(1)).max_wait(seconds(10)).build().unwrap();
    limiter.acquire(1).await.unwrap();
    let begin = Instant::now();
    let (gives_up, waits) = tokio::join!(timeout(millis(500), limiter.acquire(1)), limiter.acquire(1));
    assert!(gives_up.is_err() && waits.is_ok());
    assert_eq!(begin.elapsed(), seconds(1));
    assert_eq!(limiter.stats().wanted, 0);
}

#[test]
fn call_above_the_burst_rejects_no_concurrent_call() {
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    let _inside = runtime.enter();
    // An hour, so that no cell comes back while the test runs.
    let limiter = RateLimiter::builder(1, seconds(3_600)).max_wait(seconds(7_200)).build().unwrap();
    limiter.try_acquire(1).unwrap();
    let (begun, done) = (AtomicBool::new(false), AtomicBool::new(false));
    let rejected = thread::scope(|threads| {
        threads.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                assert!(matches!(poll_once(limiter.acquire(u32::MAX)), Poll::Ready(Err(_))));
                begun.store(true, Ordering::Relaxed);
            }
        });
        while !begun.load(Ordering::Relaxed) {
            hint::spin_loop();
        }
        let rejected = (0..50_000).filter(|_| poll_once(limiter.acquire(1)).is_ready()).count();
        done.store(true, Ordering::Relaxed);
        rejected
    });
    assert_eq!(rejected, 0, "the call fits into its longest wait");
}

fn poll_once<T>(future: impl Future<Output = T>) -> Poll<T> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn invalid_rate_limits_are_refused() {
    let refused = [
        RateLimiter::builder(0, seconds(1)),
        RateLimiter::builder(1, Duration::ZERO),
        RateLimiter::builder(1, seconds(1)).burst(0),
        RateLimiter::builder(1, Duration::MAX),
        RateLimiter::builder(1, seconds(3600 * 24 * 365)).burst(u32::MAX),
    ];
    for builder in refused {
        assert!(builder.clone().build().is_err(), "{builder:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn time_per_cell_of_a_rate_limiter_is_rounded_up() {
    let limiter = RateLimiter::builder(3, Duration::from_nanos(10)).build().unwrap();
    limiter.try_acquire(3).unwrap();
    assert_eq!(limiter.try_acquire(3).unwrap_err().retry_after(), Some(Duration::from_nanos(12)));
}

#[tokio::test(start_paused = true)]
async fn named_rate_limiter_is_in_snapshots() {
    scope(async |n: &Nursery<Infallible>| {
        let _limiter = RateLimiter::builder(3, seconds(1)).name("partner api").build_in(n).unwrap();
        assert!(n.snapshot().to_string().contains("partner api"));
        Ok(())
    })
    .await
    .unwrap();
}
