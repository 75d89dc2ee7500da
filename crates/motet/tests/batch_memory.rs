//! What a million items in each mode leave behind: no memory, no task, no place that is taken.
//!
//! A binary of its own, since it counts what is allocated in the whole process.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on is to panic")]

mod counting;

use std::time::Duration;

use motet::batch::{Batcher, Builder, Loader, LoaderBuilder};
use motet::task::{Nursery, Reason, scope, timeout, unscoped};
use tokio::task::yield_now;

use counting::live;

const CALLERS: u32 = 64;

/// In each mode; without optimizations, where it takes minutes, enough of them.
const ITEMS: u32 = if cfg!(debug_assertions) { 100_000 } else { 1_000_000 };

/// Items that are asked for, posted, and given up half-way; handlers that fail and panic now and then.
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

/// Keys that many ask for, some of which are given up half-way.
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

/// How a batcher's batches go.
const MODES: [&str; 5] = ["by count", "by weight", "eager", "by deadline", "on request"];

fn builder(n: &Nursery, mode: &str) -> Builder<u32> {
    let builder = Builder::new(n).max_waiting(48).max_in_flight(2);
    match mode {
        "by count" => builder.max_items(32),
        "by weight" => builder.max_items(48).max_weight(64, |item| u64::from(item % 4)),
        "eager" => builder.max_items(32).eager(),
        // There are never as many.
        "by deadline" => builder.max_items(48),
        "on request" => builder.max_items(48).max_delay(None),
        other => unreachable!("there is no mode {other}"),
    }
}

/// Has what waits go at short intervals, until it is cancelled with its scope.
async fn flushes(batcher: Batcher<u32, u32, u32>) {
    loop {
        tokio::time::sleep(Duration::from_millis(1)).await;
        batcher.flush().await;
    }
}

#[test]
fn many_items_leave_no_memory_task_or_slot_behind() {
    // A panic in a handler is part of the test, and its report would be most of the output.
    std::panic::set_hook(Box::new(|panicked| {
        if !panicked.to_string().contains("now and then") {
            eprintln!("{panicked}");
        }
    }));
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    for mode in MODES {
        let done = runtime.block_on(scope(async |n: &Nursery| {
            let batcher = builder(n, mode).build(async |items: Vec<u32>| {
                yield_now().await;
                assert!(items[0] % 1_000 != 7, "now and then");
                if items[0] % 100 == 3 { Err(items[0]) } else { Ok(items.into_iter().map(Ok).collect()) }
            });
            let batcher = batcher.unwrap();
            // Without a delay one task stays, and sleeps.
            let stays = usize::from(mode == "on request");
            let requests = scope(async |flushing: &Nursery| {
                if mode == "on request" {
                    flushing.spawn("flushes", flushes(batcher.clone()));
                }
                // What grows once and stays: queues of the runtime, the slab of the line.
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
        let loader = LoaderBuilder::new(n).max_keys(32).max_waiting(48).max_in_flight(2);
        let loader = loader.build(async |keys: Vec<u32>| {
            yield_now().await;
            assert!(keys[0] % 100 != 7, "now and then");
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
