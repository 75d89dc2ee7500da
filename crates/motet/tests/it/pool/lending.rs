//! The order in which callers get connections.

use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Waker};

use motet::pool::{AcquireError, Manager, Pool, PoolConfigError};
use motet::task::{Nursery, Policy, Scope, gather, timeout};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

use super::backend::{Answer, Backend};
use super::{millis, poll_once, seconds, with_pool};

#[tokio::test(start_paused = true)]
async fn most_recently_used_idle_connection_is_used_first() {
    let backend = Backend::default();
    with_pool(
        &backend,
        |pool| pool,
        async |_, pool| {
            assert!(pool.try_acquire().is_none(), "no connection is open yet");
            let (first, second) = (pool.acquire().await.unwrap(), pool.acquire().await.unwrap());
            assert_eq!((first.id, second.id), (0, 1));
            drop(second);
            drop(first);
            assert_eq!(pool.acquire().await.unwrap().id, 0, "the connection that was used last");
            assert_eq!(pool.try_acquire().unwrap().id, 0);
            assert_eq!(pool.stats().idle, 2);
        },
    )
    .await;
    assert_eq!(backend.opened(), 2);
}

#[tokio::test(start_paused = true)]
async fn newcomers_queue_behind_waiters() {
    let backend = Backend::limited_to(1);
    with_pool(
        &backend,
        |pool| pool.max(1),
        async |n, pool| {
            let served = Arc::new(Mutex::new(Vec::new()));
            let held = pool.acquire().await.unwrap();
            for number in 0..10 {
                let (pool, served) = (pool.clone(), Arc::clone(&served));
                n.spawn("waits", async move {
                    let _held = pool.acquire().await.unwrap();
                    served.lock().unwrap().push(number);
                    yield_now().await;
                });
                yield_now().await;
            }
            drop(held);
            // The connection goes from waiter to waiter, and is never idle.
            assert!(pool.try_acquire().is_none(), "a new caller overtook the waiters");
            let _last = pool.acquire().await.unwrap();
            assert_eq!(*served.lock().unwrap(), Vec::from_iter(0..10));
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn burst_has_at_most_max_connections_open_at_once() {
    let backend = Backend::limited_to(4);
    backend.behave(|b| (b.connect_takes, b.close_takes) = (millis(10), millis(50)));
    with_pool(
        &backend,
        |pool| pool.max(4).connects(100),
        async |_, pool| {
            gather((0..32).map(|number| {
                let pool = &pool;
                async move {
                    let mut link = pool.acquire().await.unwrap();
                    sleep(millis(number % 7)).await;
                    link.is_broken = number % 3 == 0;
                }
            }))
            .await;
        },
    )
    .await;
    assert_eq!(backend.peak(), 4);
}

#[tokio::test(start_paused = true)]
async fn first_callers_open_one_connection_each() {
    let backend = Backend::limited_to(5);
    backend.behave(|b| b.connect_takes = millis(10));
    with_pool(
        &backend,
        |pool| pool.max(5),
        async |_, pool| {
            gather((0..2).map(|_| pool.acquire())).await.into_iter().for_each(|link| drop(link.unwrap()));
            assert_eq!(backend.opened(), 2, "one connection per caller");
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn dropped_callers_leave_their_connects_to_the_pool() {
    let backend = Backend::limited_to(4);
    backend.behave(|b| b.connect_takes = millis(30));
    with_pool(
        &backend,
        |pool| pool.max(4),
        async |_, pool| {
            for round in 0..200 {
                drop(timeout(millis(round % 50), pool.acquire()).await);
            }
            let links = gather((0..4).map(|_| pool.acquire())).await;
            assert!(links.iter().all(Result::is_ok), "not every connection is usable");
        },
    )
    .await;
    assert!(backend.attempts() <= 4, "{} connects", backend.attempts());
}

#[tokio::test(start_paused = true)]
async fn connection_handed_to_a_dropped_waiter_goes_to_the_next() {
    let backend = Backend::limited_to(1);
    with_pool(
        &backend,
        |pool| pool.max(1),
        async |_, pool| {
            let held = pool.acquire().await.unwrap();
            let (mut goes, mut stays) = (Box::pin(pool.acquire()), Box::pin(pool.acquire()));
            assert!(poll_once(&mut goes).await.is_pending() && poll_once(&mut stays).await.is_pending());
            drop(held);
            // The future has been handed the connection, and was not polled since.
            drop(goes);
            let Poll::Ready(link) = poll_once(&mut stays).await else { panic!("the caller was not served") };
            assert_eq!(link.unwrap().id, 0);

            // The same without another waiter.
            let held = pool.acquire().await.unwrap();
            let mut goes = Box::pin(pool.acquire());
            assert!(poll_once(&mut goes).await.is_pending());
            drop(held);
            drop(goes);
            assert_eq!(pool.stats().idle, 1);
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn dropped_waiter_of_a_shrunk_pool_leaves_no_extra_connection() {
    let backend = Backend::limited_to(2);
    with_pool(
        &backend,
        |pool| pool.max(2),
        async |_, pool| {
            let (first, second) = (pool.acquire().await.unwrap(), pool.acquire().await.unwrap());
            let mut goes = Box::pin(pool.acquire());
            assert!(poll_once(&mut goes).await.is_pending());
            drop(first);
            pool.resize(1).unwrap();
            drop(goes);
            drop(second);
            assert_eq!((pool.stats().idle, pool.stats().in_use), (1, 0));
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn max_waiting_bounds_the_callers_that_wait_for_a_connection() {
    let backend = Backend::limited_to(1);
    with_pool(
        &backend,
        |pool| pool.max(1).max_waiting(2),
        async |_, pool| {
            let held = pool.acquire().await.unwrap();
            let (mut first, mut second) = (Box::pin(pool.acquire()), Box::pin(pool.acquire()));
            assert!(poll_once(&mut first).await.is_pending());
            assert!(poll_once(&mut second).await.is_pending());
            let refused = pool.acquire().await.unwrap_err();
            assert!(matches!(refused, AcquireError::TooManyWaiting { limit: 2, .. }));
            let says = "2 callers are already waiting for a connection of the pool `pool` (`max_waiting`)";
            assert_eq!(refused.to_string(), says);
            // A waiter that is dropped frees a slot, and so does a waiter that is served.
            drop(first);
            let mut third = Box::pin(pool.acquire());
            assert!(poll_once(&mut third).await.is_pending());
            drop(held);
            drop(second.await.unwrap());
            drop(third.await.unwrap());
            assert_eq!(pool.stats().waiting, 0);
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn timeout_of_an_acquire_names_pool_wait_and_longest_holders() {
    let backend = Backend::default();
    with_pool(
        &backend,
        |pool| pool.max(4).name("db").leak_after(seconds(60)).acquire_timeout(seconds(5)),
        async |_, pool| {
            let mut held = Vec::new();
            for _ in 0..4 {
                held.push((pool.acquire().await.unwrap(), line!()));
                sleep(seconds(1)).await;
            }
            let refused = pool.acquire().await.err().unwrap();
            let AcquireError::TimedOut { waited, holders, .. } = &refused else { panic!("{refused:?}") };
            assert_eq!((*waited, holders.len()), (seconds(5), 3));
            let line = held[0].1;
            let at = format!("{}:{line}:{}", file!(), holders[0].site.column());
            let says = format!(
                "no connection of the pool `db` became free within 5s; held longest by {at} for 9s, {at} for 8s, {at} for 7s"
            );
            assert_eq!(refused.to_string(), says);
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn timeout_of_an_acquire_explains_how_to_record_holders() {
    let backend = Backend::limited_to(1);
    with_pool(
        &backend,
        |pool| pool.max(1).name("db").acquire_timeout(millis(1_500)),
        async |_, pool| {
            let _held = pool.acquire().await.unwrap();
            let refused = pool.acquire().await.err().unwrap();
            let says = "no connection of the pool `db` became free within 1.5s; set `leak_after` to record the callers that \
                        hold them";
            assert_eq!(refused.to_string(), says);
            let _report = pool.close(seconds(0)).await;
            assert_eq!(pool.acquire().await.err().unwrap().to_string(), "the pool `db` is closed");
        },
    )
    .await;
}

/// None of the callers waits, and each of them causes a connect.
#[tokio::test(start_paused = true)]
async fn acquire_with_zero_timeout_still_starts_a_connect() {
    let backend = Backend::limited_to(1);
    with_pool(
        &backend,
        |pool| pool.max(1).acquire_timeout(std::time::Duration::ZERO),
        async |_, pool| {
            let begin = Instant::now();
            let refused = pool.acquire().await;
            assert!(matches!(refused, Err(AcquireError::TimedOut { cause: None, .. })));
            assert_eq!(begin.elapsed(), std::time::Duration::ZERO);
            sleep(millis(1)).await;
            let held = pool.acquire().await.unwrap();
            assert!(matches!(pool.acquire().await, Err(AcquireError::TimedOut { .. })));
            drop(held);
            assert!(pool.acquire().await.is_ok());
        },
    )
    .await;
}

/// No other event in the pool makes the pool check the connection.
#[tokio::test(start_paused = true)]
async fn connection_of_a_dropped_waiter_is_checked_and_expires() {
    let backend = Backend::limited_to(1);
    with_pool(
        &backend,
        |pool| pool.max(1),
        async |_, pool| {
            let give_to_nobody = async || {
                let held = pool.acquire().await.unwrap();
                let mut goes = Box::pin(pool.acquire());
                assert!(poll_once(&mut goes).await.is_pending());
                drop(held);
                drop(goes);
                assert_eq!(pool.stats().idle, 1);
            };
            give_to_nobody().await;
            sleep(seconds(60)).await;
            let checked = backend.checked();
            give_to_nobody().await;
            assert_eq!(backend.checked(), checked + 1, "the connection was idle for a minute");
            sleep(seconds(3600)).await;
            assert_eq!(pool.stats().idle, 0, "the connection was idle for an hour");
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn waiter_moved_to_another_task_is_woken() {
    let backend = Backend::limited_to(1);
    with_pool(
        &backend,
        |pool| pool.max(1),
        async |n, pool| {
            let held = pool.acquire().await.unwrap();
            let waiter = pool.clone();
            let mut waits = Box::pin(async move { waiter.acquire().await.map(|link| link.id) });
            assert!(poll_once(&mut waits).await.is_pending());
            let moved = n.spawn("waits on", waits);
            yield_now().await;
            drop(held);
            assert_eq!(moved.await.unwrap().unwrap(), 0);
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn connection_is_replaced_if_broken_poisoned_or_recycle_panics() {
    let backend = Backend::limited_to(1);
    with_pool(
        &backend,
        |pool| pool.max(1),
        async |_, pool| {
            let mut broken = pool.acquire().await.unwrap();
            broken.is_broken = true;
            drop(broken);
            let mut poisoned = pool.acquire().await.unwrap();
            assert_eq!(poisoned.id, 1);
            poisoned.poison();
            drop(poisoned);
            backend.behave(|b| b.recycle = Answer::Panic);
            let recycled = pool.acquire().await.unwrap();
            assert_eq!(recycled.id, 2);
            drop(recycled);
            backend.behave(|b| b.recycle = Answer::Well);
            assert_eq!(pool.acquire().await.unwrap().id, 3);
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn connection_of_a_panicked_holder_is_replaced() {
    let backend = Backend::limited_to(1);
    Scope::builder()
        .policy(Policy::Isolate)
        .run(async |n: &Nursery<Infallible>| {
            let pool = Pool::builder(n, backend.clone()).max(1).build().unwrap();
            let user = pool.clone();
            let panics = n.spawn("panics", async move {
                let _link = user.acquire().await.unwrap();
                panic!("in the middle of a transaction");
            });
            assert!(panics.await.is_err());
            assert_eq!(pool.acquire().await.unwrap().id, 1);
            Ok(())
        })
        .await
        .unwrap();
    backend.assert_settled();
}

#[tokio::test(start_paused = true)]
async fn detached_connection_frees_its_slot_and_stays_open() {
    let backend = Backend::default();
    let mut detached = None;
    let ended = motet::task::scope(async |n: &Nursery<Infallible>| {
        let pool = Pool::builder(n, backend.clone()).max(1).build().unwrap();
        let link = pool.acquire().await.unwrap();
        let mut waits = Box::pin(pool.acquire());
        assert!(poll_once(&mut waits).await.is_pending());
        detached = Some(link.detach());
        assert_eq!(waits.await.unwrap().id, 1);
        Ok(())
    });
    ended.await.unwrap();
    assert_eq!((detached.unwrap().id, backend.closed()), (0, 1));
    assert_eq!(backend.dropped(), 1, "its owner dropped it just now");
}

#[tokio::test(start_paused = true)]
async fn retain_closes_connections_its_closure_rejects_or_panics_on() {
    let backend = Backend::default();
    with_pool(
        &backend,
        |pool| pool.max(6).connects(6),
        async |_, pool| {
            drop(gather((0..6).map(|_| pool.acquire())).await);
            assert_eq!(pool.retain(|link| link.id % 2 == 0), 3);
            assert_eq!(pool.stats().idle, 3);
            let panicked = catch_unwind(AssertUnwindSafe(|| {
                pool.retain(|link| if link.id == 2 { panic!("a bug") } else { true })
            }));
            assert!(panicked.is_err());
            sleep(millis(1)).await;
            let stats = pool.stats();
            assert_eq!((stats.idle, stats.in_use, stats.closing, stats.closed), (2, 0, 0, 4));
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn resize_lowers_the_maximum_of_a_pool_that_is_not_full() {
    let backend = Backend::default();
    with_pool(
        &backend,
        |pool| pool.max(10).connects(10),
        async |_, pool| {
            let held = pool.acquire().await.unwrap();
            pool.resize(3).unwrap();
            let rest = gather((0..9).map(|_| timeout(millis(10), pool.acquire()))).await;
            assert_eq!(rest.iter().filter(|link| link.is_ok()).count(), 2, "three connections in all");
            assert_eq!(backend.peak(), 3);
            drop((held, rest));
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn resize_closes_idle_connections_and_opens_one_for_a_waiter() {
    let backend = Backend::default();
    backend.behave(|b| b.close_takes = millis(20));
    with_pool(
        &backend,
        |pool| pool.max(8).connects(8),
        async |_, pool| {
            let mut held = gather((0..8).map(|_| pool.acquire())).await;
            held.truncate(6);
            pool.resize(3).unwrap();
            let stats = pool.stats();
            assert_eq!(
                (stats.idle, stats.in_use, stats.closing),
                (0, 6, 2),
                "idle connections are closed at once"
            );
            drop(held);
            let stats = pool.stats();
            assert_eq!((stats.idle, stats.closing), (3, 5), "of the returned connections, three stay");
            sleep(millis(30)).await;
            assert_eq!(pool.stats().closing, 0);

            let held = gather((0..3).map(|_| pool.acquire())).await;
            let mut waits = Box::pin(pool.acquire());
            assert!(poll_once(&mut waits).await.is_pending());
            pool.resize(4).unwrap();
            assert_eq!(waits.await.unwrap().id, 8, "the maximum allows the connection now");
            drop(held);
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn resize_during_a_connect_closes_the_surplus() {
    let backend = Backend::default();
    backend.behave(|b| b.connect_takes = millis(10));
    with_pool(
        &backend,
        |pool| pool.max(2),
        async |_, pool| {
            let mut both = Box::pin(gather((0..2).map(|_| pool.acquire())));
            assert!(poll_once(&mut both).await.is_pending());
            pool.resize(1).unwrap();
            sleep(millis(50)).await;
            let stats = pool.stats();
            assert_eq!((stats.in_use + stats.idle, stats.closed, stats.waiting), (1, 1, 1));
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn loop_of_acquires_lets_other_tasks_run() {
    let backend = Backend::default();
    with_pool(
        &backend,
        |pool| pool,
        async |n, pool| {
            drop(pool.acquire().await.unwrap());
            let turns = Arc::new(AtomicUsize::new(0));
            let counted = Arc::clone(&turns);
            n.service("other", async move {
                loop {
                    counted.fetch_add(1, Ordering::Relaxed);
                    yield_now().await;
                }
            });
            for _ in 0..10_000 {
                drop(pool.acquire().await.unwrap());
            }
            assert!(turns.load(Ordering::Relaxed) > 50);
        },
    )
    .await;
}

#[test]
fn guard_dropped_on_another_thread_returns_its_connection() {
    let backend = Backend::limited_to(2);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
    runtime.block_on(with_pool(
        &backend,
        |pool| pool.max(2),
        async |_, pool| {
            let (kept, mut broken) = (pool.acquire().await.unwrap(), pool.acquire().await.unwrap());
            broken.is_broken = true;
            std::thread::scope(|threads| {
                threads.spawn(|| drop((kept, broken)));
            });
            drop(gather((0..2).map(|_| pool.acquire())).await);
        },
    ));
    assert_eq!(backend.opened(), 3);
}

#[tokio::test(start_paused = true)]
async fn snapshot_shows_the_state_of_a_pool_until_it_is_closed() {
    let backend = Backend::default();
    with_pool(&backend, |pool| pool.name("db").max(2).min(1), async |n, pool| {
        pool.warm_up().await.unwrap();
        let held = pool.acquire().await.unwrap();
        let other = pool.acquire().await.unwrap();
        let mut waits = Box::pin(pool.acquire());
        assert!(poll_once(&mut waits).await.is_pending());
        drop(other);
        drop(waits);
        let shown = n.snapshot().to_string();
        let expected = "pool `db`: state open, idle 1, in_use 1, connecting 0, closing 0, waiting 0, overdue 0, max 2";
        assert!(shown.contains(expected), "{shown}");
        assert!(shown.contains("db: keep the pool"), "{shown}");
        drop(held);
        assert!(pool.close(millis(1)).await.is_complete());
        sleep(millis(1)).await;
        assert!(n.snapshot().components.is_empty(), "the pool has ended");
    })
    .await;
}

#[tokio::test]
async fn invalid_pool_settings_are_refused_by_build_and_resize() {
    motet::task::scope(async |n: &Nursery<Infallible>| {
        let pool = || Pool::builder(n, Backend::default());
        assert_eq!(pool().max(0).build().unwrap_err(), PoolConfigError::NoConnections);
        assert_eq!(
            pool().min(3).max(2).build().unwrap_err(),
            PoolConfigError::MinAboveMax { min: 3, max: 2 }
        );
        assert_eq!(pool().connects(0).build().unwrap_err(), PoolConfigError::NoConnects);
        assert_eq!(pool().max_waiting(0).build().unwrap_err(), PoolConfigError::NoneWaiting);
        let pool = pool().min(2).build().unwrap();
        assert_eq!(pool.resize(1), Err(PoolConfigError::MinAboveMax { min: 2, max: 1 }));
        assert_eq!(pool.resize(0), Err(PoolConfigError::NoConnections));
        assert_eq!(pool.stats().max, 10);
        Ok(())
    })
    .await
    .unwrap();
}

#[test]
fn futures_of_a_pool_are_send_for_a_generic_manager() {
    fn spawned<M: Manager>(n: &Nursery<Infallible>, pool: Pool<M>) {
        n.spawn("uses", async move {
            pool.warm_up().await.map_err(drop)?;
            drop(pool.acquire().await.map_err(drop)?);
            drop(pool.close(millis(1)).await);
            Ok::<_, ()>(())
        });
    }
    let _: fn(&Nursery<Infallible>, Pool<Backend>) = spawned::<Backend>;
}

/// A waker whose clones are never recognised as waking the same task. With optimisations, wakers of the standard
/// library sometimes behave like that, too.
#[allow(unsafe_code, reason = "no safe waker is like that for sure")]
fn unlike_its_clones() -> Waker {
    static TABLE: RawWakerVTable = RawWakerVTable::new(another, |_| (), |_| (), |_| ());
    fn another(data: *const ()) -> RawWaker {
        RawWaker::new(data.wrapping_byte_add(1), &TABLE)
    }
    // SAFETY: the pointer is a number, and no code dereferences it.
    unsafe { Waker::from_raw(RawWaker::new(ptr::null(), &TABLE)) }
}

#[tokio::test(start_paused = true)]
async fn waiter_with_a_waker_that_equals_no_clone_gets_a_connection() {
    let backend = Backend::limited_to(1);
    with_pool(
        &backend,
        |pool| pool.max(1),
        async |_, pool| {
            let held = pool.acquire().await.unwrap();
            let waker = unlike_its_clones();
            let mut cx = Context::from_waker(&waker);
            let mut waits = pin!(pool.acquire());
            for _ in 0..3 {
                assert!(waits.as_mut().poll(&mut cx).is_pending());
            }
            drop(held);
            let Poll::Ready(Ok(link)) = waits.as_mut().poll(&mut cx) else {
                panic!("a connection was handed over")
            };
            assert_eq!(link.id, 0);
        },
    )
    .await;
}
