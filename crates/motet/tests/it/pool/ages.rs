//! The ages of connections, of waits and of holders.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use motet::pool::AcquireError;
use motet::task::{gather, timeout};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

use super::backend::{Answer, Backend};
use super::{millis, seconds, with_pool};
use crate::caught::caught;

#[tokio::test(start_paused = true)]
async fn connection_is_checked_after_being_idle_for_check_after() {
    let backend = Backend::limited_to(1);
    with_pool(
        &backend,
        |pool| pool.max(1),
        async |_, pool| {
            for _ in 0..20 {
                drop(pool.acquire().await.unwrap());
                sleep(millis(300)).await;
            }
            assert_eq!(backend.checked(), 0, "the connection was just used");
            for checks in 1..5 {
                sleep(millis(510)).await;
                assert!(pool.try_acquire().is_none(), "the connection would have to be checked");
                drop(pool.acquire().await.unwrap());
                assert_eq!(backend.checked(), checks);
            }
        },
    )
    .await;
    assert_eq!(backend.opened(), 1);
}

#[tokio::test(start_paused = true)]
async fn check_after_zero_checks_always_and_none_never() {
    for (after, checks) in [(Some(millis(0)), 4), (None, 0)] {
        let backend = Backend::limited_to(1);
        with_pool(
            &backend,
            |pool| pool.max(1).check_after(after),
            async |_, pool| {
                drop(pool.acquire().await.unwrap());
                for pause in [0, 1, 5_000] {
                    sleep(millis(pause)).await;
                    drop(pool.acquire().await.unwrap());
                }
            },
        )
        .await;
        // Always, also a connection that was just opened.
        assert_eq!(backend.checked(), checks);
    }
}

#[tokio::test(start_paused = true)]
async fn connection_whose_check_fails_hangs_or_panics_is_replaced() {
    let backend = Backend::limited_to(2);
    with_pool(
        &backend,
        |pool| pool.max(2),
        async |_, pool| {
            let mut link = pool.acquire().await.unwrap();
            drop(pool.acquire().await.unwrap());
            link.uses = 7;
            drop(link);
            sleep(seconds(1)).await;
            backend.behave(|b| b.check = Answer::Fail);
            assert_eq!(pool.acquire().await.unwrap().id, 2, "both checks had failed");
            assert_eq!(backend.checked(), 2);

            sleep(seconds(1)).await;
            backend.behave(|b| b.check = Answer::Hang);
            let begin = Instant::now();
            assert_eq!(pool.acquire().await.unwrap().id, 3);
            assert_eq!(begin.elapsed(), seconds(3), "the timeout of a check");

            sleep(seconds(1)).await;
            backend.behave(|b| b.check = Answer::Panic);
            let checks = AssertUnwindSafe(async { pool.acquire().await.map(|link| link.id) });
            assert!(caught(checks).await.is_err(), "the caller gets the panic");
            backend.behave(|b| b.check = Answer::Well);
            assert_eq!(pool.acquire().await.unwrap().id, 4);
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn check_cut_off_by_its_caller_is_repeated_at_the_next_use() {
    let backend = Backend::limited_to(4);
    backend.behave(|b| b.check_takes = millis(20));
    with_pool(
        &backend,
        |pool| pool.max(4),
        async |_, pool| {
            drop(gather((0..4).map(|_| pool.acquire())).await);
            sleep(seconds(1)).await;
            for round in 0..200 {
                drop(timeout(millis(round % 18), pool.acquire()).await);
            }
            let checked = backend.checked();
            let links = gather((0..4).map(|_| pool.acquire())).await;
            assert!(links.iter().all(Result::is_ok));
            assert_eq!(backend.checked() - checked, 4, "each connection was unverified");
        },
    )
    .await;
    assert_eq!(backend.opened(), 4);
}

#[tokio::test(start_paused = true)]
async fn check_that_hangs_over_several_callers_is_given_up() {
    let backend = Backend::limited_to(1);
    with_pool(
        &backend,
        |pool| pool.max(1),
        async |_, pool| {
            drop(pool.acquire().await.unwrap());
            sleep(seconds(1)).await;
            backend.behave(|b| b.check = Answer::Hang);
            let mut tries = 0;
            let link = loop {
                tries += 1;
                if let Ok(link) = timeout(millis(500), pool.acquire()).await {
                    break link.unwrap();
                }
            };
            assert_eq!((link.id, tries), (1, 7), "after three seconds of checks in all");
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn idle_timeout_closes_connections_down_to_the_minimum() {
    let backend = Backend::default();
    let settings =
        |pool: motet::pool::PoolBuilder<Backend>| pool.min(2).max(6).connects(6).max_lifetime(None);
    with_pool(&backend, settings, async |_, pool| {
        drop(gather((0..6).map(|_| pool.acquire())).await);
        // A second of use now and then keeps one of the connections.
        for _ in 0..12 {
            sleep(seconds(60)).await;
            drop(pool.acquire().await.unwrap());
        }
        let stats = pool.stats();
        assert_eq!((stats.idle, stats.closed, stats.opened), (2, 4, 6));
        sleep(seconds(100_000)).await;
        assert_eq!(pool.stats().idle, 2);
    })
    .await;
    assert_eq!(backend.attempts(), 6, "no connection was closed and opened again");
}

#[tokio::test(start_paused = true)]
async fn max_lifetime_replaces_idle_and_busy_connections() {
    let backend = Backend::default();
    let settings = |pool: motet::pool::PoolBuilder<Backend>| {
        pool.min(1).max(2).idle_timeout(None).acquire_timeout(None).max_lifetime(seconds(100))
    };
    with_pool(&backend, settings, async |n, pool| {
        pool.warm_up().await.unwrap();
        sleep(seconds(89)).await;
        assert_eq!(pool.stats().closed, 0, "the lifetime is shortened by at most a tenth");
        sleep(seconds(12)).await;
        let stats = pool.stats();
        assert_eq!((stats.closed, stats.idle), (1, 1), "the idle connection was replaced");

        // A connection that is never idle: it goes from caller to caller.
        pool.resize(1).unwrap();
        for _ in 0..2 {
            let pool = pool.clone();
            n.service("uses", async move {
                loop {
                    let _link = pool.acquire().await.unwrap();
                    sleep(seconds(1)).await;
                }
            });
        }
        sleep(seconds(1_000)).await;
        let closed = pool.stats().closed;
        assert!((10..=12).contains(&closed), "{closed} in eleven lifetimes");

        // A connection that is held beyond its lifetime is closed when it comes back.
        let id = {
            let link = pool.acquire().await.unwrap();
            sleep(seconds(200)).await;
            link.id
        };
        assert_ne!(pool.acquire().await.unwrap().id, id);
        n.cancel(motet::task::Reason::requested("enough"));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn connections_opened_together_are_renewed_apart() {
    let backend = Backend::default();
    let settings = |pool: motet::pool::PoolBuilder<Backend>| {
        pool.min(50).max(50).connects(50).idle_timeout(None).check_after(None).max_lifetime(seconds(1_000))
    };
    with_pool(&backend, settings, async |_, pool| {
        pool.warm_up().await.unwrap();
        let mut at_once = 0;
        for _ in 0..1_000 {
            let before = backend.closed();
            sleep(seconds(1)).await;
            at_once = at_once.max(backend.closed() - before);
        }
        assert!(backend.closed() >= 50 && at_once <= 10, "{at_once} within a second");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn acquire_fails_exactly_after_its_timeout() {
    let backend = Backend::limited_to(1);
    with_pool(
        &backend,
        |pool| pool.max(1).acquire_timeout(millis(700)),
        async |n, pool| {
            let held = pool.acquire().await.unwrap();
            let begin = Instant::now();
            let late = pool.clone();
            let late = n.spawn("late", async move {
                sleep(millis(300)).await;
                (late.acquire().await.map(|link| link.id), Instant::now())
            });
            let refused = pool.acquire().await.unwrap_err();
            assert!(matches!(refused, AcquireError::TimedOut { cause: None, .. }), "{refused:?}");
            assert_eq!(begin.elapsed(), millis(700));
            sleep(millis(200)).await;
            drop(held);
            let (got, at) = late.await.unwrap();
            assert_eq!((got.unwrap(), at - begin), (0, millis(900)), "a tenth of a second was left");
            assert_eq!(pool.stats().waiting, 0);
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn leaks_are_reported_with_the_site_of_the_acquire() {
    let backend = Backend::default();
    with_pool(
        &backend,
        |pool| pool.leak_after(seconds(10)).name("db"),
        async |n, pool| {
            let line = line!() + 1;
            let leaked = pool.acquire().await.unwrap();
            for _ in 0..15 {
                drop(pool.acquire().await.unwrap());
                sleep(seconds(1)).await;
            }
            let leaks = pool.leaks();
            assert_eq!(leaks.len(), 1);
            assert_eq!((leaks[0].site.file(), leaks[0].site.line()), (file!(), line));
            assert_eq!((leaks[0].held_for, pool.stats().overdue), (seconds(15), 1));
            assert!(n.snapshot().to_string().contains("overdue 1"));
            let report = pool.close(seconds(1)).await;
            assert_eq!((report.in_use, report.holders.len()), (1, 1));
            assert!(report.to_string().contains(file!()), "{report}");
            drop(leaked);
            assert!(pool.leaks().is_empty() && pool.close(seconds(1)).await.is_complete());
        },
    )
    .await;
}

/// The waiter was first: neither its turn nor its timeout starts again.
#[tokio::test(start_paused = true)]
async fn waiter_keeps_its_turn_and_timeout_after_a_failed_check() {
    for (held_for, expected) in
        [(100, [(0, true, 600), (1, true, 600)]), (900, [(0, false, 1000), (1, false, 1000)])]
    {
        let backend = Backend::limited_to(1);
        backend.behave(|b| b.connect_takes = millis(500));
        let ends = Arc::new(Mutex::new(Vec::new()));
        with_pool(
            &backend,
            |pool| pool.max(1).check_after(Duration::ZERO).acquire_timeout(seconds(1)),
            async |n, pool| {
                let held = pool.acquire().await.unwrap();
                backend.behave(|b| b.check = Answer::Fail);
                let begin = Instant::now();
                let waits = [0, 1].map(|who| {
                    let (pool, ends) = (pool.clone(), Arc::clone(&ends));
                    n.spawn("waits", async move {
                        let got = pool.acquire().await.is_ok();
                        ends.lock().unwrap().push((who, got, begin.elapsed().as_millis()));
                    })
                });
                sleep(millis(held_for)).await;
                drop(held);
                while backend.checked() < 2 {
                    yield_now().await;
                }
                backend.behave(|b| b.check = Answer::Well);
                for waits in waits {
                    waits.await.unwrap();
                }
            },
        )
        .await;
        assert_eq!(*ends.lock().unwrap(), expected);
    }
}
