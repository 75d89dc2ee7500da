//! A backend that cannot be reached.

use std::error::Error;
use std::time::Duration;

use motet::pool::{AcquireError, ConnectError, Pool};
use motet::task::{gather, timeout};
use motet::{Backoff, Jitter};
use tokio::time::{Instant, sleep};

use super::backend::{Answer, Backend};
use super::{millis, poll_once, seconds, with_pool};

/// Checks that the outcome is the failure of that attempt.
#[track_caller]
fn assert_refused<T>(outcome: Result<T, AcquireError<super::backend::Refused>>, attempt: usize) {
    let Err(error) = outcome else { panic!("the acquire did not fail") };
    let AcquireError::Unavailable { cause, .. } = &error else { panic!("{error:?}") };
    let ConnectError::Failed(refused) = &**cause else { panic!("{cause:?}") };
    assert_eq!(refused.0, attempt);
    let sources = [error.source().unwrap().to_string(), cause.source().unwrap().to_string()];
    assert_eq!(sources, ["connecting failed", &format!("attempt {attempt} was refused")]);
}

fn no_jitter(pool: motet::pool::PoolBuilder<Backend>) -> motet::pool::PoolBuilder<Backend> {
    pool.backoff(Backoff::exponential(millis(100), seconds(5)).unwrap().jitter(Jitter::None).unwrap())
}

#[tokio::test(start_paused = true)]
async fn callers_fail_at_once_while_the_backend_is_down() {
    let backend = Backend::limited_to(8);
    backend.behave(|b| (b.connect, b.connect_takes) = (Answer::Fail, millis(20)));
    with_pool(
        &backend,
        |pool| no_jitter(pool).max(8).connects(2),
        async |_, pool| {
            let begin = Instant::now();
            for outcome in gather((0..100).map(|_| pool.acquire())).await {
                let Err(AcquireError::Unavailable { .. }) = outcome else { panic!("{outcome:?}") };
            }
            assert_eq!(
                begin.elapsed(),
                millis(20),
                "callers fail with the first attempts, and not one after the other"
            );
            assert_eq!(backend.attempts(), 2);

            assert_refused(pool.acquire().await, 2);
            assert_eq!(begin.elapsed(), millis(20), "new callers fail at once");
            assert!(pool.stats().is_down);

            // After the back-off one caller tries; the others do not wait for it.
            sleep(millis(100)).await;
            let mut tries = Box::pin(pool.acquire());
            assert!(poll_once(&mut tries).await.is_pending());
            assert_refused(pool.acquire().await, 2);
            assert_refused(tries.await, 3);
            assert_refused(pool.acquire().await, 3);
        },
    )
    .await;
    assert_eq!(backend.attempts(), 3);
}

#[tokio::test(start_paused = true)]
async fn pool_connects_one_at_a_time_until_the_backend_is_up_again() {
    let backend = Backend::limited_to(20);
    backend.behave(|b| (b.connect, b.connect_takes) = (Answer::Fail, millis(20)));
    with_pool(
        &backend,
        |pool| no_jitter(pool).max(20).connects(3),
        async |_, pool| {
            assert!(pool.acquire().await.is_err());
            backend.behave(|b| b.connect = Answer::Well);
            let load = async {
                while pool.stats().is_down {
                    drop(gather((0..200).map(|_| timeout(millis(200), pool.acquire()))).await);
                    sleep(millis(10)).await;
                }
            };
            let watch = async {
                let mut peak = 0;
                while pool.stats().is_down {
                    peak = peak.max(backend.connecting());
                    sleep(millis(1)).await;
                }
                peak
            };
            let ((), peak) = tokio::join!(load, watch);
            assert_eq!(peak, 1, "while the backend was down");
            drop(gather((0..20).map(|_| pool.acquire())).await);
        },
    )
    .await;
    assert_eq!(backend.connecting_peak(), 3, "after the recovery");
}

#[tokio::test(start_paused = true)]
async fn downtime_is_probed_with_backoff_until_it_is_over() {
    let backend = Backend::limited_to(5);
    backend.behave(|b| b.connect = Answer::Fail);
    with_pool(
        &backend,
        |pool| pool.min(5).max(5),
        async |_, pool| {
            assert!(pool.warm_up().await.is_err());
            sleep(seconds(600)).await;
            let attempts = backend.attempts();
            assert!((120..300).contains(&attempts), "{attempts} in ten minutes");
            backend.behave(|b| b.connect = Answer::Well);
            sleep(seconds(5)).await;
            pool.warm_up().await.unwrap();
            let stats = pool.stats();
            assert_eq!((stats.idle, stats.is_down), (5, false));
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn connect_that_panics_fails_its_caller() {
    let backend = Backend::limited_to(1);
    backend.behave(|b| b.connect = Answer::Panic);
    with_pool(
        &backend,
        |pool| no_jitter(pool).max(1),
        async |_, pool| {
            let Err(AcquireError::Unavailable { cause, .. }) = pool.acquire().await else {
                panic!("the backend is up")
            };
            assert_eq!(cause.to_string(), "connecting panicked: the driver has a bug");
            backend.behave(|b| b.connect = Answer::Well);
            sleep(millis(100)).await;
            assert_eq!(pool.acquire().await.unwrap().id, 0);
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn connect_that_hangs_times_out() {
    let backend = Backend::limited_to(1);
    backend.behave(|b| b.connect = Answer::Hang);
    with_pool(
        &backend,
        |pool| no_jitter(pool).max(1).acquire_timeout(None),
        async |_, pool| {
            let begin = Instant::now();
            let Err(AcquireError::Unavailable { cause, .. }) = pool.acquire().await else {
                panic!("the backend is up")
            };
            assert_eq!(cause.to_string(), "connecting took longer than 10s");
            assert_eq!(begin.elapsed(), seconds(10));
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn existing_connections_serve_while_no_more_can_be_made() {
    let backend = Backend::limited_to(4);
    with_pool(
        &backend,
        |pool| no_jitter(pool).max(4).acquire_timeout(seconds(1)),
        async |_, pool| {
            let held = pool.acquire().await.unwrap();
            backend.behave(|b| b.connect = Answer::Fail);
            // Ten users of one connection.
            let uses = gather((0..10).map(|_| async {
                let _link = pool.acquire().await?;
                sleep(millis(10)).await;
                Ok::<_, AcquireError<_>>(())
            }));
            drop(held);
            uses.await.into_iter().for_each(|used| used.unwrap());
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn waiter_fails_when_the_last_connection_breaks_during_downtime() {
    let backend = Backend::limited_to(4);
    with_pool(
        &backend,
        |pool| no_jitter(pool).max(4).acquire_timeout(seconds(1)),
        async |_, pool| {
            let first = pool.acquire().await.unwrap();
            backend.behave(|b| b.connect = Answer::Fail);
            drop(first);
            let held = pool.acquire().await.unwrap();
            let Err(AcquireError::TimedOut { cause: Some(_), .. }) = pool.acquire().await else {
                panic!("the timeout has no cause")
            };
            // When the last connection goes, no caller can wait for it.
            let begin = Instant::now();
            let mut waits = Box::pin(pool.acquire());
            assert!(poll_once(&mut waits).await.is_pending());
            let mut broken = held;
            broken.is_broken = true;
            drop(broken);
            assert!(matches!(waits.await, Err(AcquireError::Unavailable { .. })));
            assert!(begin.elapsed() < millis(100));
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn close_that_hangs_to_its_timeout_or_panics_frees_its_slot() {
    let backend = Backend::limited_to(1);
    backend.behave(|b| b.close = Answer::Hang);
    with_pool(
        &backend,
        |pool| pool.max(1),
        async |_, pool| {
            pool.acquire().await.unwrap().poison();
            let begin = Instant::now();
            assert_eq!(pool.acquire().await.unwrap().id, 1);
            assert_eq!(begin.elapsed(), seconds(5), "a caller waited longer");
            backend.behave(|b| b.close = Answer::Panic);
            pool.acquire().await.unwrap().poison();
            assert_eq!(pool.acquire().await.unwrap().id, 2);
            backend.behave(|b| b.close = Answer::Well);
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn warm_up_returns_when_the_minimum_is_connected() {
    let backend = Backend::limited_to(6);
    backend.behave(|b| b.connect_takes = millis(30));
    with_pool(
        &backend,
        |pool| pool.min(6).max(6).connects(4),
        async |_, pool: Pool<Backend>| {
            let begin = Instant::now();
            pool.warm_up().await.unwrap();
            assert_eq!(
                (pool.stats().idle, begin.elapsed()),
                (6, millis(60)),
                "the connects run in two rounds"
            );
            pool.warm_up().await.unwrap();
            assert_eq!(begin.elapsed(), millis(60));
        },
    )
    .await;
    assert_eq!(backend.connecting_peak(), 4);
}

#[tokio::test(start_paused = true)]
async fn pool_with_a_backoff_of_duration_max_connects_only_once() {
    let backend = Backend::default();
    backend.behave(|b| b.connect = Answer::Fail);
    with_pool(
        &backend,
        |pool| pool.max(1).backoff(Backoff::constant(Duration::MAX)),
        async |_, pool| {
            for _ in 0..3 {
                assert!(pool.acquire().await.is_err());
                sleep(seconds(1_000_000)).await;
            }
        },
    )
    .await;
    assert_eq!(backend.attempts(), 1);
}
