//! Live bytes end where they began. A separate program, since it has its own allocator.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on is to panic")]

mod counting;

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::time::Duration;

use motet::observe::Stat;
use motet::queue::{self, DeadLetter, Job, Receiver, Sender};
use motet::task::{Nursery, scope, timeout, unscoped};
use tokio::runtime::Builder;
use tokio::time::Instant;

use counting::live;

type Make = Box<dyn Fn() -> (Sender<u64>, Receiver<u64>)>;

/// The number of items in each order. It is smaller without optimizations, where the test would take minutes.
const ROUNDS: u64 = if cfg!(debug_assertions) { 100 } else { 1_000 };
const IN_A_ROUND: u64 = 500;

/// Sends items, and receives them, or leases them and completes or returns the lease.
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

/// The other ways in and out: permits that are used and dropped, batches, and waits for capacity or for an item that are
/// dropped.
async fn turn_by_other_ways(sender: &Sender<u64>, receiver: &Receiver<u64>) {
    const SHORT: Duration = Duration::from_millis(1);
    drop(sender.reserve().await.unwrap());
    sender.reserve().await.unwrap().send(7).unwrap();
    let mut items: VecDeque<u64> = (1..IN_A_ROUND).map(|number| number % 60).collect();
    sender.send_all(&mut items).await.unwrap();
    if sender.capacity().is_some() {
        while sender.try_send(7).is_ok() {}
        assert!(timeout(SHORT, sender.send(7)).await.is_err());
        assert!(timeout(SHORT, sender.reserve()).await.is_err());
        assert!(timeout(SHORT, sender.send_all(&mut VecDeque::from([7]))).await.is_err());
        assert!(sender.send_timeout(7, SHORT).await.is_err());
    }
    let mut taken = Vec::with_capacity(64);
    while !receiver.is_empty() {
        assert!(receiver.recv_many(&mut taken, 64).await > 0);
        taken.clear();
    }
    assert!(timeout(SHORT, receiver.recv()).await.is_err());
    assert!(timeout(SHORT, receiver.lease()).await.is_err());
    assert!(timeout(SHORT, receiver.recv_many(&mut taken, 64)).await.is_err());
    assert!(receiver.recv_timeout(SHORT).await.is_err());
    assert!(receiver.try_recv().is_err() && receiver.try_lease().is_err());
}

/// Each item is leased twice, and is a dead letter then.
async fn turn_to_dead_letters(
    sender: &Sender<u64>,
    receiver: &Receiver<u64>,
    letters: &Receiver<DeadLetter<u64>>,
) {
    for number in 0..IN_A_ROUND {
        sender.send(number).await.unwrap();
    }
    for _ in 0..IN_A_ROUND {
        drop(receiver.lease().await.unwrap());
        drop(receiver.lease().await.unwrap());
    }
    // Workers without capacity for an item wait for it.
    for _ in 0..IN_A_ROUND {
        assert_eq!(letters.recv().await.unwrap().attempts, 2);
    }
    sender.join().await.unwrap();
}

/// No item, no lease, no permit, and no waiter except workers.
fn assert_at_rest(order: &str, sender: &Sender<u64>) {
    let others = if order == "workers" { &["capacity", "receivers_waiting"][..] } else { &["capacity"] };
    for (name, stat) in sender.stats().iter().filter(|(name, _)| !others.contains(name)) {
        assert!(matches!(stat, Stat::Count(0) | Stat::Text(_)), "{order}: {name} is {stat} at the end");
    }
}

/// An empty queue is compared with its state many operations before; it may keep a few more entries. The memory after its
/// end is compared with the memory before its creation.
#[test]
fn queue_memory_does_not_grow_with_its_throughput() {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let now = Instant::now();
        let queues: [(_, Make); 5] = [
            ("first in, first out", Box::new(|| queue::bounded(512).unwrap())),
            ("unbounded", Box::new(queue::unbounded)),
            ("last in, first out", Box::new(|| queue::lifo(512).unwrap())),
            ("by rank", Box::new(|| queue::priority(512, |item| *item as i64).unwrap())),
            (
                "when due",
                Box::new(move || queue::delay(512, move |item| now + Duration::from_micros(*item)).unwrap()),
            ),
        ];
        for (order, make) in queues {
            // The runtime keeps the memory of the first timers.
            let (sender, receiver) = make();
            turn(&sender, &receiver, 59).await;
            turn_by_other_ways(&sender, &receiver).await;
            drop((sender, receiver));
            let begin = live();
            let (sender, receiver) = make();
            turn(&sender, &receiver, 59).await;
            turn_by_other_ways(&sender, &receiver).await;
            let before = live();
            for at in 0..ROUNDS {
                turn(&sender, &receiver, at).await;
                turn_by_other_ways(&sender, &receiver).await;
            }
            assert_at_rest(order, &sender);
            let grown = live() - before;
            assert!(grown <= 64 * 1024, "{order}: {grown} bytes more than before");
            drop((sender, receiver));
            assert_eq!(live() - begin, 0, "{order}: a dropped queue left memory");
        }
    });
    runtime.block_on(async {
        let make = || {
            let (to, letters) = queue::bounded(8).unwrap();
            let (sender, receiver) =
                queue::builder(512).dead_letters(NonZeroU32::new(2).unwrap(), to).build().unwrap();
            (sender, receiver, letters)
        };
        // As above, for memory that is allocated once.
        let (sender, receiver, letters) = make();
        turn_to_dead_letters(&sender, &receiver, &letters).await;
        drop((sender, receiver, letters));
        let begin = live();
        let (sender, receiver, letters) = make();
        turn_to_dead_letters(&sender, &receiver, &letters).await;
        let before = live();
        for _ in 0..ROUNDS {
            turn_to_dead_letters(&sender, &receiver, &letters).await;
        }
        assert_at_rest("dead letters", &sender);
        let grown = live() - before;
        assert!(grown <= 4 * 1024, "dead letters: {grown} bytes more than before");
        drop((sender, receiver, letters));
        assert_eq!(live() - begin, 0, "a dropped queue with dead letters left memory");
    });
    runtime.block_on(async {
        let crews = async |keys: u64, rounds: u64| {
            scope(async |n: &Nursery| {
                let (sender, receiver) = queue::bounded(64).unwrap();
                // Every hundredth item fails at its first attempt.
                let handler = async |job: Job<u64>| match *job % 100 == 3 && job.attempt() == 1 {
                    true => Err("once"),
                    false => Ok(()),
                };
                let workers = receiver.workers(4).unwrap();
                let workers = if keys > 0 { workers.keyed(move |item: &u64| item % keys) } else { workers };
                let crew = workers.start(n, "works", handler).unwrap();
                let tasks = || n.snapshot().tasks.len() + n.snapshot().starting;
                let before = tasks();
                for number in 0..rounds {
                    sender.send(number).await.unwrap();
                }
                sender.join().await.unwrap();
                assert_at_rest("workers", &sender);
                assert_eq!(tasks(), before, "a worker left a task behind");
                let live = live();
                drop(sender);
                assert_eq!(crew.ended().await.done, rounds);
                Ok(live)
            })
            .await
            .unwrap()
        };
        // In any order, with one key per item, and with few keys.
        for keys in [0, u64::MAX, 7] {
            let (few, many) = (crews(keys, 1_000).await, crews(keys, ROUNDS * IN_A_ROUND).await);
            assert!((many - few).abs() <= 4 * 1024, "workers keep {} bytes more", many - few);
        }
        assert_eq!(unscoped(), 0);
    });
}
