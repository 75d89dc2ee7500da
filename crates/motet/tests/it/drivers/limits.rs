//! Bulkheads, rate limiters, adaptive limits: no permit and no cell is lost or given twice.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use motet::resilience::{AdaptiveLimit, Bulkhead, RateLimiter, Verdict};
use motet::task::{Nursery, scope, timeout};
use motet_testkit::cancel_everywhere;
use motet_testkit::sim::{Failure, Sweep};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

use super::{Driver, draw, millis, passes, swept};
use crate::notes::Live;

pub(super) const BULKHEAD: Driver = Driver {
    drives: &["resilience::bulkhead::Bulkhead::acquire"],
    cancel: cancel_bulkhead,
    sweep: sweep_bulkhead,
};

pub(super) const RATE: Driver =
    Driver { drives: &["resilience::rate::RateLimiter::acquire"], cancel: cancel_rate, sweep: sweep_rate };

pub(super) const ADAPTIVE: Driver = Driver {
    drives: &["resilience::adaptive::AdaptiveLimit::acquire"],
    cancel: cancel_adaptive,
    sweep: sweep_adaptive,
};

#[test]
fn bulkhead_call_dropped_anywhere_frees_its_slot() {
    cancel_bulkhead();
}

#[test]
fn every_order_holds_the_limit_of_a_bulkhead_and_frees_slots() {
    passes(sweep_bulkhead);
}

#[test]
fn rate_limiter_wait_dropped_anywhere_frees_its_turn() {
    cancel_rate();
}

#[test]
fn every_order_keeps_the_rate_and_burst_of_a_limiter() {
    passes(sweep_rate);
}

#[test]
fn adaptive_limit_call_dropped_anywhere_frees_its_slot() {
    cancel_adaptive();
}

#[test]
fn every_order_loses_no_slot_of_an_adaptive_limit() {
    passes(sweep_adaptive);
}

fn cancel_bulkhead() {
    cancel_everywhere(
        async || Bulkhead::builder(1).queue(2, Duration::from_secs(1)).build().unwrap(),
        async |bulkhead| {
            let call = async || {
                let _permit = bulkhead.acquire().await.unwrap();
                yield_now().await;
                sleep(millis(5)).await;
            };
            tokio::join!(biased; call(), call(), call());
        },
        async |bulkhead, _| {
            assert_eq!((bulkhead.stats().in_flight, bulkhead.stats().waiting), (0, 0));
            let permit = bulkhead.try_acquire().unwrap();
            assert!(
                timeout(millis(1), bulkhead.acquire()).await.is_err(),
                "two callers hold the same permit"
            );
            drop(permit);
        },
    );
}

fn sweep_bulkhead(planted: Option<&'static str>) -> Result<Sweep, Failure> {
    swept(planted, || async {
        let (limit, queue) = (1 + draw(3) as usize, draw(4) as usize);
        let bulkhead = Bulkhead::builder(limit).queue(queue, millis(20)).build().unwrap();
        let inside = Live::default();
        scope(async |n: &Nursery<Infallible>| {
            for _ in 0..8 {
                let (bulkhead, inside) = (bulkhead.clone(), inside.clone());
                let (comes, takes, patience) = (draw(10), draw(15), draw(40));
                n.spawn("calls", async move {
                    sleep(millis(comes)).await;
                    let call = async {
                        let Ok(_permit) = bulkhead.acquire().await else { return };
                        let _inside = inside.enter();
                        assert!(inside.count() <= limit, "more calls than permits");
                        assert!(bulkhead.stats().waiting <= queue);
                        sleep(millis(takes)).await;
                    };
                    let _ = timeout(millis(patience), call).await;
                });
            }
            Ok(())
        })
        .await
        .unwrap();
        assert_eq!((bulkhead.stats().in_flight, bulkhead.stats().waiting), (0, 0));
        let permits: Vec<_> = (0..limit + 1).filter_map(|_| bulkhead.try_acquire().ok()).collect();
        assert_eq!(permits.len(), limit);
    })
}

fn cancel_rate() {
    cancel_everywhere(
        async || {
            let limiter = RateLimiter::builder(1, millis(10)).build().unwrap();
            limiter.try_acquire(1).unwrap();
            limiter
        },
        async |limiter| {
            let (one, two) = tokio::join!(biased; limiter.acquire(1), limiter.acquire(1));
            assert!(one.is_ok() && two.is_ok());
        },
        async |limiter, _| {
            assert_eq!(limiter.stats().wanted, 0);
            assert_eq!(timeout(millis(12), limiter.acquire(1)).await, Ok(Ok(())));
        },
    );
}

fn sweep_rate(planted: Option<&'static str>) -> Result<Sweep, Failure> {
    const CELL: u64 = 5;
    swept(planted, || async {
        let burst = 1 + draw(4);
        let limiter = RateLimiter::builder(1, millis(CELL)).burst(burst as u32).max_wait(millis(60));
        let limiter = limiter.build().unwrap();
        let passed: Arc<Mutex<Vec<(Instant, u64)>>> = Arc::default();
        scope(async |n: &Nursery<Infallible>| {
            for _ in 0..10 {
                let (limiter, passed) = (limiter.clone(), Arc::clone(&passed));
                let (comes, cells, patience) = (draw(20), 1 + draw(burst), draw(80));
                n.spawn("calls", async move {
                    sleep(millis(comes)).await;
                    if draw(4) == 0 {
                        if limiter.try_acquire(cells as u32).is_ok() {
                            passed.lock().unwrap().push((Instant::now(), cells));
                        }
                        return;
                    }
                    let wait = async {
                        if limiter.acquire(cells as u32).await.is_ok() {
                            passed.lock().unwrap().push((Instant::now(), cells));
                        }
                    };
                    let _ = timeout(millis(patience), wait).await;
                });
            }
            Ok(())
        })
        .await
        .unwrap();
        let passed = std::mem::take(&mut *passed.lock().unwrap());
        for (at, (last, _)) in passed.iter().enumerate() {
            let mut sum = 0;
            for (first, cells) in passed[..=at].iter().rev() {
                sum += cells;
                let back = (*last - *first).as_millis() as u64 / CELL + 1;
                assert!(sum <= burst + back, "{sum} cells within {:?}", *last - *first);
            }
        }
        assert_eq!(limiter.stats().wanted, 0);
        // After any sequence of calls, the burst is available again in its time, and no more than the burst.
        sleep(millis(CELL * (burst + 1))).await;
        assert_eq!(limiter.stats().available, burst);
    })
}

fn adaptive(queue: usize) -> AdaptiveLimit {
    let builder = AdaptiveLimit::builder().start(3).between(1, 6).window(millis(2), 2);
    builder.queue(queue, millis(20)).build().unwrap()
}

/// Asserts that exactly as many callers as the limit get a permit.
async fn admits_its_limit(limit: &AdaptiveLimit) {
    let stats = limit.stats();
    assert_eq!((stats.in_flight, stats.waiting), (0, 0));
    let mut permits = Vec::new();
    while let Ok(Ok(permit)) = timeout(millis(1), limit.acquire()).await {
        permits.push(permit);
        assert!(permits.len() <= stats.limit, "more permits than {}", stats.limit);
    }
    assert_eq!(permits.len(), stats.limit);
}

fn cancel_adaptive() {
    cancel_everywhere(
        async || adaptive(4),
        async |limit| {
            let call = async || {
                let permit = limit.acquire().await.unwrap();
                yield_now().await;
                sleep(millis(5)).await;
                permit.success();
            };
            tokio::join!(biased; call(), call(), call(), call(), call());
        },
        async |limit, _| admits_its_limit(limit).await,
    );
}

fn sweep_adaptive(planted: Option<&'static str>) -> Result<Sweep, Failure> {
    swept(planted, || async {
        let limit = adaptive(4);
        scope(async |n: &Nursery<Infallible>| {
            for _ in 0..8 {
                let limit = limit.clone();
                n.spawn("calls", async move {
                    for _ in 0..4 {
                        let (takes, patience, verdict) = (draw(6), draw(30), draw(4) as usize);
                        let verdict =
                            [Verdict::Success, Verdict::Failure, Verdict::Failure, Verdict::Ignore][verdict];
                        let call = async {
                            let Ok(permit) = limit.acquire().await else { return };
                            assert!(limit.stats().in_flight <= 6);
                            sleep(millis(takes)).await;
                            permit.record(verdict);
                        };
                        let _ = timeout(millis(patience), call).await;
                    }
                });
            }
            Ok(())
        })
        .await
        .unwrap();
        motet::sometimes!(limit.stats().limit < 3, "the limit was lowered");
        motet::sometimes!(limit.stats().limit > 3, "the limit was raised");
        admits_its_limit(&limit).await;
        lowered_with_waiters().await;
    })
}

/// A permit above the new limit goes to no waiter.
async fn lowered_with_waiters() {
    let limit = adaptive(4);
    let mut held: Vec<_> = (0..3).map(|_| limit.try_acquire().unwrap()).collect();
    scope(async |n: &Nursery<Infallible>| {
        for _ in 0..3 {
            let limit = limit.clone();
            n.spawn("waits", async move {
                if let Ok(_permit) = limit.acquire().await {
                    sleep(millis(100)).await;
                }
            });
        }
        for pause in [1, 3] {
            sleep(millis(pause)).await;
            held.pop().unwrap().failure();
        }
        sleep(millis(2)).await;
        assert_eq!(limit.stats().limit, 2);
        assert_eq!(limit.stats().in_flight, 2, "a permit above the limit was given to a waiter");
        Ok(())
    })
    .await
    .unwrap();
}
