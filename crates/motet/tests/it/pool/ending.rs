//! The end of a pool.

use std::convert::Infallible;
use std::future::pending;

use motet::pool::{AcquireError, Pool};
use motet::task::{Nursery, Reason, Scope, drain, scope, timeout, unscoped};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

use super::backend::{Answer, Backend};
use super::{millis, poll_once, seconds, with_pool};

#[tokio::test(start_paused = true)]
async fn close_refuses_newcomers_and_waits_for_users() {
    let backend = Backend::default();
    backend.behave(|b| b.close_takes = millis(30));
    with_pool(
        &backend,
        |pool| pool.max(3),
        async |n, pool| {
            let (held, _idle) = (pool.acquire().await.unwrap(), drop(pool.acquire().await.unwrap()));
            let user = n.spawn("uses", async move {
                sleep(millis(200)).await;
                held.id
            });
            let begin = Instant::now();
            let mut closes = Box::pin(pool.close(seconds(1)));
            assert!(poll_once(&mut closes).await.is_pending());
            assert!(matches!(pool.acquire().await, Err(AcquireError::Closed { .. })));
            assert!(pool.is_closed() && pool.try_acquire().is_none());
            assert!(closes.await.is_complete());
            assert_eq!(
                begin.elapsed(),
                millis(230),
                "the close waits for the return and the close of the connection"
            );
            assert_eq!(user.await.unwrap(), 0);
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn close_reports_the_connections_in_use_after_its_limit() {
    let backend = Backend::default();
    with_pool(
        &backend,
        |pool| pool.max(2),
        async |_, pool| {
            let held = pool.acquire().await.unwrap();
            let begin = Instant::now();
            let report = pool.close(millis(300)).await;
            assert_eq!((report.in_use, report.is_complete(), begin.elapsed()), (1, false, millis(300)));
            assert_eq!(report.to_string(), "connections still in use: 1, being closed: 0");
            drop(held);
            assert!(pool.close(millis(300)).await.is_complete());
            assert_eq!((backend.closed(), begin.elapsed()), (1, millis(300)));
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn waiters_fail_when_the_pool_closes() {
    let backend = Backend::default();
    backend.behave(|b| b.connect = Answer::Hang);
    with_pool(
        &backend,
        |pool| pool.max(2).min(1),
        async |_, pool| {
            let (mut waits, mut warms) = (Box::pin(pool.acquire()), Box::pin(pool.warm_up()));
            assert!(poll_once(&mut waits).await.is_pending() && poll_once(&mut warms).await.is_pending());
            let begin = Instant::now();
            assert!(pool.close(seconds(1)).await.is_complete(), "the connect is cancelled");
            assert!(matches!(waits.await, Err(AcquireError::Closed { .. })));
            assert!(matches!(warms.await, Err(AcquireError::Closed { .. })));
            assert_eq!(begin.elapsed(), millis(0));
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn connections_are_closed_before_the_scope_ends() {
    let backend = Backend::default();
    backend.behave(|b| b.close_takes = millis(50));
    let mut outside = None;
    scope(async |n: &Nursery<Infallible>| {
        let pool = Pool::builder(n, backend.clone()).min(3).build().unwrap();
        pool.warm_up().await.unwrap();
        let user = pool.clone();
        // The scope waits for the caller, and the caller for a connection.
        n.spawn("uses", async move {
            sleep(millis(100)).await;
            drop(user.acquire().await.unwrap());
        });
        outside = Some(pool);
        Ok(())
    })
    .await
    .unwrap();
    backend.assert_settled();
    let refused = outside.unwrap().acquire().await;
    assert!(matches!(refused, Err(AcquireError::Closed { .. })));
}

#[tokio::test(start_paused = true)]
async fn connection_held_after_the_scope_is_a_failed_release() {
    let backend = Backend::default();
    let mut outside = None;
    let begin = Instant::now();
    let ended = scope(async |n: &Nursery<Infallible>| {
        let pool = Pool::builder(n, backend.clone()).name("db").leak_after(seconds(60)).build().unwrap();
        outside = Some(pool.acquire().await.unwrap());
        Ok(())
    });
    let failed = ended.await.unwrap_err();
    let failures = failed.release_failures();
    assert_eq!(failures.len(), 1);
    let text = format!("{}: {}", failures[0], std::error::Error::source(&failures[0]).unwrap());
    assert!(text.contains("`db`") && text.contains("connections still in use: 1"), "{text}");
    assert!(text.contains(file!()), "{text}");
    assert_eq!(begin.elapsed(), millis(2_500), "half of the release timeout");
    drop(outside);
    assert_eq!((backend.alive(), backend.dropped()), (0, 1), "no scope is left to close the connection in");
}

#[tokio::test(start_paused = true)]
async fn acquire_in_a_release_gets_an_idle_connection_or_fails() {
    let backend = Backend::default();
    scope(async |n: &Nursery<Infallible>| {
        let pool = Pool::builder(n, backend.clone()).max(1).build().unwrap();
        drop(pool.acquire().await.unwrap());
        // Released before the pool, because it was registered after it.
        n.defer("goodbye", async move |_| {
            let link = pool.acquire().await.unwrap();
            assert_eq!(link.id, 0);
            let begin = Instant::now();
            assert!(
                matches!(pool.acquire().await, Err(AcquireError::Closed { .. })),
                "a closed pool does not connect"
            );
            assert_eq!(begin.elapsed(), millis(0));
        });
        Ok(())
    })
    .await
    .unwrap();
    backend.assert_settled();
}

#[tokio::test(start_paused = true)]
async fn cancelled_or_dropped_scope_closes_connections_of_its_pool() {
    let backend = Backend::default();
    backend.behave(|b| (b.connect_takes, b.close_takes) = (millis(10), millis(20)));
    let body = async |n: &Nursery<Infallible>| {
        let pool = Pool::builder(n, backend.clone()).max(2).min(2).build().unwrap();
        let held = pool.acquire().await.unwrap();
        let waiter = pool.clone();
        n.spawn("waits", async move {
            let _both = (waiter.acquire().await, waiter.acquire().await);
        });
        yield_now().await;
        n.cancel(Reason::requested("enough"));
        pending::<()>().await;
        drop(held);
        Ok(())
    };
    assert!(scope(body).await.unwrap_err().is_cancelled());
    backend.assert_settled();

    for after in [0, 5, 10, 15] {
        let body = async |n: &Nursery<Infallible>| {
            let pool = Pool::builder(n, backend.clone()).max(2).min(2).build().unwrap();
            let _held = pool.acquire().await.unwrap();
            pending::<()>().await;
            Ok(())
        };
        assert!(timeout(millis(after), scope(body)).await.is_err());
        drain().await;
        assert_eq!(unscoped(), 0);
        backend.assert_settled();
    }
}

#[tokio::test(start_paused = true)]
async fn pool_closes_when_its_handles_and_guards_are_dropped() {
    let backend = Backend::default();
    scope(async |n: &Nursery<Infallible>| {
        for _ in 0..100 {
            let pool = Pool::builder(n, backend.clone()).min(1).name("of a tenant").build().unwrap();
            let held = pool.acquire().await.unwrap();
            drop(pool.clone());
            drop(pool);
            sleep(millis(1)).await;
            assert_eq!(backend.alive(), 1, "the connection is in use");
            drop(held);
            sleep(millis(1)).await;
            backend.assert_settled();
            let seen = n.snapshot();
            assert_eq!((seen.tasks.len(), seen.components.len()), (0, 0), "{seen}");
        }
        assert_eq!(Scope::clone(n).release_counts().lost, 0);
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test(start_paused = true)]
async fn pool_opened_in_an_ended_scope_is_closed() {
    let ended = scope(async |n: &Nursery<Infallible>| Ok(Scope::clone(n))).await.unwrap();
    let backend = Backend::default();
    let pool = Pool::new(&ended, backend.clone());
    assert!(pool.is_closed());
    assert!(matches!(pool.acquire().await, Err(AcquireError::Closed { .. })));
    assert!(matches!(pool.warm_up().await, Err(AcquireError::Closed { .. })));
    assert!(pool.close(seconds(1)).await.is_complete());
    assert_eq!(backend.attempts(), 0);
}

#[test]
fn dropped_runtime_drops_the_idle_connections_of_a_pool() {
    let backend = Backend::default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let held = runtime.block_on(async {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let opened = backend.clone();
        motet::task::detach("program", async move {
            let lives = scope(async |n: &Nursery<Infallible>| {
                let pool = Pool::builder(n, opened).min(2).build().unwrap();
                pool.warm_up().await.unwrap();
                drop(sender.send(pool.acquire().await.unwrap()));
                pending::<()>().await;
                Ok(())
            });
            drop(lives.await);
        });
        receiver.await.unwrap()
    });
    drop(runtime);
    assert_eq!(backend.alive(), 1, "the held connection is alive");
    drop(held);
    assert_eq!((backend.alive(), backend.dropped()), (0, 2));
}
