//! A million uses of a pool leave no memory behind. A separate binary, since it has its own allocator.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on is to panic")]

mod counting;

use std::convert::Infallible;
use std::time::Duration;

use motet::pool::{Manager, Pool};
use motet::task::{Nursery, scope, timeout, unscoped};
use tokio::task::yield_now;

use counting::live;

struct Numbers;

impl Manager for Numbers {
    type Connection = Box<u64>;
    type Error = Infallible;

    async fn connect(&self) -> Result<Box<u64>, Infallible> {
        Ok(Box::new(0))
    }
}

/// Sixteen tasks over four connections, of which some are given up and some are thrown away.
async fn uses(n: &Nursery<Infallible>, pool: &Pool<Numbers>, count: usize) {
    let users = Vec::from_iter((0..16).map(|_| {
        let pool = pool.clone();
        n.spawn("uses", async move {
            for turn in 0..count / 16 {
                if turn % 64 == 0 {
                    drop(timeout(Duration::ZERO, pool.acquire()).await);
                }
                let mut number = pool.acquire().await.unwrap();
                **number += 1;
                if turn % 1_000 == 0 {
                    number.poison();
                }
                if turn % 8 == 0 {
                    yield_now().await;
                }
            }
        })
    }));
    for user in users {
        user.await.unwrap();
    }
}

#[test]
fn million_uses_of_a_pool_leave_no_memory_and_no_task_behind() {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        scope(async |n: &Nursery<Infallible>| {
            let pool = Pool::builder(n, Numbers).max(4).leak_after(Duration::from_secs(60)).build().unwrap();
            // What grows once and then stays.
            uses(n, &pool, 10_000).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
            let (before, tasks) = (live(), n.snapshot().tasks.len());
            let open = pool.stats().idle;
            uses(n, &pool, 1_000_000).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
            let (stats, seen) = (pool.stats(), n.snapshot());
            assert_eq!((stats.in_use, stats.waiting, stats.connecting, stats.closing), (0, 0, 0, 0));
            assert_eq!((stats.idle as u64, seen.tasks.len()), (stats.opened - stats.closed, tasks));
            drop(seen);
            let grown = live() - before - (stats.idle as isize - open as isize) * 256;
            assert!(grown.abs() < 4096, "{grown} bytes");
            Ok(())
        })
        .await
        .unwrap();
        assert_eq!(unscoped(), 0);
    });
}
