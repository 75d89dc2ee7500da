//! A million items in each mode leave no memory, no task and no waiter behind.
//!
//! A separate binary, since it has its own allocator.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on is to panic")]

mod counting;

use std::time::Duration;

use motet::batch::{Batcher, BatcherBuilder, Loader};
use motet::task::{Nursery, Reason, scope, timeout, unscoped};
use tokio::task::yield_now;

use counting::live;

const CALLERS: u32 = 64;

/// The number of items in each mode. It is smaller without optimizations, where the test would take minutes.
const ITEMS: u32 = if cfg!(debug_assertions) { 100_000 } else { 1_000_000 };

/// Items that are submitted, posted, and cancelled; some handlers fail or panic.
async fn turns(n: &Nursery, batcher: &Batcher<u32, u32, u32>, each: u32, stays: usize) {
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let batcher = batcher.clone();
            n.spawn("caller", async move {
                for turn in 0..each {
                    let item = caller * each + turn;
                    match turn % 16 {
                        3 => batcher.post(item).await.unwrap(),
                        7 => drop(timeout(Duration::ZERO, batcher.submit(item)).await),
                        _ => drop(batcher.submit(item).await),
                    }
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    batcher.flush().await;
    while n.snapshot().tasks.len() + n.snapshot().starting > stays {
        tokio::time::sleep(Duration::from_millis(2)).await;
        yield_now().await;
    }
}

/// Keys with many callers, some of which are cancelled.
async fn loads(n: &Nursery, loader: &Loader<u32, u32, u32>, each: u32) {
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let loader = loader.clone();
            n.spawn("caller", async move {
                for turn in 0..each {
                    let key = (turn + caller % 8) % 1_000;
                    match turn % 16 {
                        7 => drop(timeout(Duration::ZERO, loader.load(key)).await),
                        _ => drop(loader.load(key).await),
                    }
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    loader.flush().await;
    while n.snapshot().tasks.len() + n.snapshot().starting > 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
        yield_now().await;
    }
}

/// The mode of a batcher.
const MODES: [&str; 5] = ["by count", "by weight", "eager", "by deadline", "on request"];

fn builder(n: &Nursery, mode: &str) -> BatcherBuilder<u32> {
    let builder = Batcher::builder(n).max_waiting(48).max_in_flight(2);
    match mode {
        "by count" => builder.max_items(32),
        "by weight" => builder.max_items(48).max_weight(64, |item| u64::from(item % 4)),
        "eager" => builder.max_items(32).eager(),
        // The limit is never reached.
        "by deadline" => builder.max_items(48),
        "on request" => builder.max_items(48).max_delay(None),
        other => unreachable!("there is no mode {other}"),
    }
}

/// Flushes at short intervals, until it is cancelled with its scope.
async fn flushes(batcher: Batcher<u32, u32, u32>) {
    loop {
        tokio::time::sleep(Duration::from_millis(1)).await;
        batcher.flush().await;
    }
}

#[test]
fn many_batched_items_leave_no_memory_task_or_slot_behind() {
    // Handlers panic in this test; the default hook would print all panics.
    std::panic::set_hook(Box::new(|panicked| {
        if !panicked.to_string().contains("some batches panic") {
            eprintln!("{panicked}");
        }
    }));
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    for mode in MODES {
        let done = runtime.block_on(scope(async |n: &Nursery| {
            let batcher = builder(n, mode).build(async |items: Vec<u32>| {
                yield_now().await;
                assert!(items[0] % 1_000 != 7, "some batches panic");
                if items[0] % 100 == 3 { Err(items[0]) } else { Ok(items.into_iter().map(Ok).collect()) }
            });
            let batcher = batcher.unwrap();
            // Without a delay, one idle task stays.
            let stays = usize::from(mode == "on request");
            let requests = scope(async |flushing: &Nursery| {
                if mode == "on request" {
                    flushing.spawn("flushes", flushes(batcher.clone()));
                }
                // Memory that grows once and stays: queues of the runtime, the slab of waiters.
                turns(n, &batcher, 2_000, stays).await;
                let before = live();
                turns(n, &batcher, ITEMS / CALLERS, stays).await;
                let grown = live() - before;
                assert!(grown < 16 << 10, "{mode}: {grown} bytes more than before");
                flushing.cancel(Reason::requested("done"));
                Ok(())
            });
            drop(requests.await);
            let stats = batcher.stats();
            assert_eq!((stats.waiting, stats.in_line, stats.in_flight), (0, 0, 0), "{mode}");
            assert!(
                stats.failed_batches > 0 && stats.failed_posts > 0 && stats.items > u64::from(ITEMS),
                "{stats:?}"
            );
            assert_eq!(n.snapshot().tasks.len(), stays, "{mode}: a task was left");
            Ok(())
        }));
        done.unwrap();
    }
    let done = runtime.block_on(scope(async |n: &Nursery| {
        let loader = Loader::builder(n).max_items(32).max_waiting(48).max_in_flight(2);
        let loader = loader.build(async |keys: Vec<u32>| {
            yield_now().await;
            assert!(keys[0] % 100 != 7, "some batches panic");
            if keys[0] % 100 == 3 { Err(keys[0]) } else { Ok(keys.into_iter().map(Ok).collect()) }
        });
        let loader = loader.unwrap();
        loads(n, &loader, 2_000).await;
        let before = live();
        loads(n, &loader, ITEMS / CALLERS).await;
        let grown = live() - before;
        assert!(grown < 16 << 10, "by key: {grown} bytes more than before");
        let stats = loader.stats();
        assert_eq!((stats.waiting, stats.in_line, stats.in_flight), (0, 0, 0));
        assert!(stats.failed_batches > 0 && stats.batches > 1_000, "{stats:?}");
        Ok(())
    }));
    done.unwrap();
    runtime.block_on(async { assert_eq!(unscoped(), 0) });
}
