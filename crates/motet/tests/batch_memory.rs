//! What a million items leave behind: no memory, no task, no place that is taken.
//!
//! A binary of its own, since it counts what is allocated in the whole process.

#![allow(unsafe_code, reason = "an allocator that counts")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on is to panic")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicIsize, Ordering};
use std::time::Duration;

use motet::batch::{Batcher, Builder};
use motet::task::{Nursery, scope, timeout};
use tokio::task::yield_now;

struct Counting;

static LIVE: AtomicIsize = AtomicIsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call goes to the system's allocator unchanged; the counter is beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size().cast_signed(), Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size().cast_signed(), Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(memory, layout) }
    }
}

const CALLERS: u32 = 64;

/// Items that are asked for, posted, and given up half-way; handlers that fail and panic now and then.
async fn turns(n: &Nursery, batcher: &Batcher<u32, u32, u32>, each: u32) {
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
    while n.snapshot().tasks.len() + n.snapshot().starting > 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
        yield_now().await;
    }
}

#[test]
fn a_million_items_leave_memory_a_task_or_a_taken_place_behind() {
    // A panic in a handler is part of the test, and its report would be most of the output.
    std::panic::set_hook(Box::new(|_| {}));
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let done = runtime.block_on(scope(async |n: &Nursery| {
        let batcher =
            Builder::new(n).max_items(32).max_waiting(48).max_in_flight(2).build(async |items: Vec<u32>| {
                yield_now().await;
                assert!(items[0] % 1_000 != 7, "now and then");
                if items[0] % 100 == 3 { Err(items[0]) } else { Ok(items.into_iter().map(Ok).collect()) }
            });
        let batcher = batcher.unwrap();
        // What grows once and stays: queues of the runtime, the slab of the line.
        turns(n, &batcher, 2_000).await;
        let before = LIVE.load(Ordering::Relaxed);
        turns(n, &batcher, 1_000_000 / CALLERS).await;
        let grown = LIVE.load(Ordering::Relaxed) - before;
        assert!(grown < 16 << 10, "{grown} bytes more than before a million items");
        let stats = batcher.stats();
        assert_eq!((stats.waiting, stats.in_line, stats.in_flight), (0, 0, 0));
        assert!(stats.failed_batches > 0 && stats.failed_posts > 0 && stats.items > 1_000_000, "{stats:?}");
        Ok(())
    }));
    done.unwrap();
}
