//! Adaptive limits.

use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use motet::resilience::{AdaptiveLimit, PolicyKind, Verdict};
use motet::task::{Nursery, gather, scope, timeout};
use tokio::time::{advance, sleep};

use super::{millis, seconds};

/// A limit with small windows, so that a few calls change it.
fn quick() -> AdaptiveLimit {
    AdaptiveLimit::builder().start(4).between(1, 8).window(millis(10), 1).build().unwrap()
}

/// Fails all calls of a window.
async fn lower(limit: &AdaptiveLimit) {
    limit.try_acquire().unwrap().failure();
    advance(millis(10)).await;
    limit.try_acquire().unwrap().failure();
}

#[tokio::test(start_paused = true)]
async fn calls_in_flight_stay_within_the_adaptive_limit() {
    let limit = AdaptiveLimit::default();
    let permits: Vec<_> = (0..100).filter_map(|_| limit.try_acquire().ok()).collect();
    assert_eq!((permits.len(), limit.stats().in_flight), (20, 20));
    assert_eq!(limit.acquire().await.unwrap_err().by(), PolicyKind::AdaptiveLimit);
    drop(permits);
    assert_eq!((limit.stats().in_flight, limit.stats().waiting), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn lowered_limit_admits_fewer_calls() {
    let limit = quick();
    let held = limit.try_acquire().unwrap();
    while limit.stats().limit > 2 {
        lower(&limit).await;
    }
    let second = limit.try_acquire().unwrap();
    assert!(limit.try_acquire().is_err(), "{limit:?}");
    drop((held, second));
    let permits: Vec<_> = (0..10).filter_map(|_| limit.try_acquire().ok()).collect();
    assert_eq!(permits.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn waiters_get_only_the_permits_of_a_lowered_limit() {
    let builder = AdaptiveLimit::builder().start(100).between(1, 100).window(millis(10), 1);
    let limit = builder.queue(100, millis(5)).build().unwrap();
    // Lowers the limit by ten; one of the ten permits is returned at that moment.
    lower(&limit).await;
    let permits = limit.stats().limit;
    assert!(permits < 99, "{limit:?}");
    let all = gather((0..100).map(|_| limit.acquire())).await;
    assert_eq!(all.iter().filter(|permit| permit.is_ok()).count(), permits);
}

#[tokio::test(start_paused = true)]
async fn limit_changed_during_calls_admits_exactly_its_number() {
    let limit = quick();
    for round in 0..20 {
        let all: Vec<_> = (0..10).filter_map(|_| limit.try_acquire().ok()).collect();
        assert_eq!(all.len(), limit.stats().limit, "round {round}");
        advance(millis(10)).await;
        // Down to the minimum and up again.
        let verdict = if round % 8 < 4 { Verdict::Failure } else { Verdict::Success };
        all.into_iter().for_each(|permit| permit.record(verdict));
        assert_eq!(limit.stats().in_flight, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn cancelled_and_ignored_calls_do_not_change_the_limit() {
    let limit = quick();
    for _ in 0..100 {
        let permit = limit.acquire().await.unwrap();
        advance(millis(20)).await;
        drop(permit);
        limit.acquire().await.unwrap().ignore();
    }
    assert_eq!(limit.stats().limit, 4);
}

#[tokio::test(start_paused = true)]
async fn freed_slot_of_an_adaptive_limit_goes_to_a_waiter() {
    let builder = AdaptiveLimit::builder().start(1).between(1, 10).window(millis(1), 1);
    let limit = builder.queue(10, seconds(10)).build().unwrap();
    let held = limit.acquire().await.unwrap().into_owned();
    scope(async |n: &Nursery<Infallible>| {
        let tasks: Vec<_> = (0..5)
            .map(|_| {
                let limit = limit.clone();
                n.spawn("waits", async move {
                    let permit = limit.acquire().await.unwrap();
                    sleep(millis(10)).await;
                    permit.success();
                })
            })
            .collect();
        sleep(millis(5)).await;
        assert_eq!(limit.stats().waiting, 5);
        held.success();
        for task in tasks {
            timeout(seconds(1), task).await.unwrap().unwrap();
        }
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!((limit.stats().in_flight, limit.stats().waiting), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn on_change_reports_a_change_despite_a_panicking_listener() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let builder = AdaptiveLimit::builder().start(4).between(1, 8).window(millis(10), 1);
    let builder = builder
        .on_change(|_, _| panic!("a listener"))
        .on_change(move |from, to| log.lock().unwrap().push((from, to)));
    let limit = builder.build().unwrap();
    let lowered = catch_unwind(AssertUnwindSafe(|| limit.try_acquire().unwrap().failure()));
    assert!(lowered.is_ok());
    advance(millis(10)).await;
    limit.try_acquire().unwrap().failure();
    assert_eq!(*seen.lock().unwrap(), [(4, 3)]);
}

#[test]
fn invalid_adaptive_limits_are_refused() {
    let builder = AdaptiveLimit::builder;
    let refused = [
        builder().start(0),
        builder().between(30, 40),
        builder().between(0, 40),
        builder().between(1, usize::MAX),
        builder().queue(usize::MAX, seconds(1)),
        builder().window(seconds(1), 0),
        builder().window(std::time::Duration::MAX, 1),
    ];
    for builder in refused {
        assert!(builder.clone().build().is_err(), "{builder:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn named_adaptive_limit_is_in_snapshots() {
    scope(async |n: &Nursery<Infallible>| {
        let _limit = AdaptiveLimit::builder().name("search").build_in(n).unwrap();
        assert!(n.snapshot().to_string().contains("search"));
        Ok(())
    })
    .await
    .unwrap();
}
