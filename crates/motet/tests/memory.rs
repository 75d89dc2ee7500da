//! Live bytes end where they began. In a program of its own, for it has an allocator of its own.

#![allow(unsafe_code, reason = "an allocator that counts")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on is to panic")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::convert::Infallible;
use std::sync::atomic::{AtomicIsize, Ordering};
use std::time::Duration;

use motet::queue::{self, Job, Receiver, Sender};
use motet::task::{Nursery, scope};
use tokio::runtime::Builder;
use tokio::time::Instant;

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

fn live() -> isize {
    LIVE.load(Ordering::Relaxed)
}

type Make = Box<dyn Fn() -> (Sender<u64>, Receiver<u64>)>;

const ROUNDS: u64 = 1_000;
const IN_A_ROUND: u64 = 500;

/// In, and out again: received, or leased and done, or brought back first.
async fn turn(sender: &Sender<u64>, receiver: &Receiver<u64>, at: u64) {
    for number in 0..IN_A_ROUND {
        sender.send(number * 7919 % (1 + at % 60)).await.unwrap();
    }
    for number in 0..IN_A_ROUND {
        match number % 5 {
            0 => drop(receiver.lease().await),
            1 => receiver.lease().await.unwrap().retry(Duration::from_millis(1)).await.unwrap(),
            2 => receiver.lease().await.unwrap().release().await.unwrap(),
            _ => {}
        }
        match number % 2 {
            0 => receiver.lease().await.unwrap().done().await.unwrap(),
            _ => drop(receiver.recv().await.unwrap()),
        }
    }
    assert!(receiver.is_empty());
}

/// A million operations in each order. An empty queue is compared with the same one a million operations before, when it
/// may keep a few places more; and what is there after its end with what was there before it was made.
///
/// One test for all, since whatever runs beside it would be counted.
#[test]
fn a_queue_grows_with_what_went_through_it() {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let now = Instant::now();
        let queues: [(_, Make); 5] = [
            ("first in, first out", Box::new(|| queue::bounded(512))),
            ("unbounded", Box::new(queue::unbounded)),
            ("last in, first out", Box::new(|| queue::lifo(512))),
            ("by rank", Box::new(|| queue::priority(512, |item| *item as i64))),
            ("when due", Box::new(move || queue::delay(512, move |item| now + Duration::from_micros(*item)))),
        ];
        for (order, make) in queues {
            // The runtime keeps what it has made for the first timers.
            let (sender, receiver) = make();
            turn(&sender, &receiver, 59).await;
            drop((sender, receiver));
            let begin = live();
            let (sender, receiver) = make();
            turn(&sender, &receiver, 59).await;
            let before = live();
            for at in 0..ROUNDS {
                turn(&sender, &receiver, at).await;
            }
            let grown = live() - before;
            assert!(grown <= 64 * 1024, "{order}: {grown} bytes more than before");
            drop((sender, receiver));
            assert_eq!(live() - begin, 0, "{order}: a queue that is gone has left something");
        }
    });
    runtime.block_on(async {
        let crews = async |rounds: u64| {
            scope(async |n: &Nursery| {
                let (sender, receiver) = queue::bounded(64);
                let handler = async |_: Job<u64>| Ok::<_, Infallible>(());
                let crew = receiver.workers(4).keyed(|item: &u64| *item).start(n, "works", handler).unwrap();
                for number in 0..rounds {
                    sender.send(number).await.unwrap();
                }
                sender.join().await.unwrap();
                let live = live();
                drop(sender);
                assert_eq!(crew.ended().await.done, rounds);
                Ok(live)
            })
            .await
            .unwrap()
        };
        let (few, many) = (crews(1_000).await, crews(100_000).await);
        assert!((many - few).abs() <= 4 * 1024, "workers keep {} bytes more", many - few);
    });
}
