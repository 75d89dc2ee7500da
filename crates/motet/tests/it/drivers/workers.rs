//! Drives the workers of a queue, and its orders.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};

use motet::Backoff;
use motet::queue::{self, Job, Receiver};
use motet::task::{Nursery, Reason, Scope, drain, scope, timeout};
use motet_testkit::cancel_everywhere;
use motet_testkit::sim::{Failure, Sweep};
use tokio::time::sleep;

use super::{Driver, draw, millis, passes, swept};

pub(super) const DRIVER: Driver =
    Driver { drives: &["queue::workers::Crew::ended", "queue::Lease::release"], cancel, sweep };

#[test]
fn workers_dropped_anywhere_lose_and_repeat_no_item() {
    cancel();
}

#[test]
fn every_order_of_workers_keeps_items_and_their_order_per_key() {
    passes(sweep);
}

/// A key, and a number that grows within it.
type Item = (u32, u32);

/// The items that the handler has seen.
#[derive(Clone, Default)]
struct Books(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    busy: BTreeSet<u32>,
    failed: BTreeMap<Item, u32>,
    done: Vec<Item>,
}

/// An item in progress: no other item of its key is in progress.
struct UnderWay(Books, u32);

impl Books {
    fn begin(&self, item: Item) -> UnderWay {
        assert!(self.0.lock().unwrap().busy.insert(item.0), "two items of a key are in progress");
        UnderWay(self.clone(), item.0)
    }

    fn failed(&self, item: Item) {
        *self.0.lock().unwrap().failed.entry(item).or_default() += 1;
    }

    fn done(&self, item: Item) {
        self.0.lock().unwrap().done.push(item);
    }

    fn all_done(&self) -> Vec<Item> {
        self.0.lock().unwrap().done.clone()
    }

    /// How often the item has failed.
    fn failures(&self, item: Item) -> u32 {
        self.0.lock().unwrap().failed.get(&item).copied().unwrap_or(0)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.0.lock().unwrap().busy.remove(&self.1);
    }
}

/// Succeeds, fails or panics, after a delay.
async fn handle(job: Job<Item>, books: Books) -> Result<(), &'static str> {
    assert_eq!(job.attempt(), books.failures(*job) + 1, "the attempts are not the failures and this attempt");
    let _under_way = books.begin(*job);
    if draw(2) == 0 {
        sleep(millis(draw(6))).await;
    }
    match draw(12) {
        0 | 1 => books.failed(*job),
        2 => {
            books.failed(*job);
            std::panic::panic_any(23);
        }
        _ => {
            books.done(*job);
            return Ok(());
        }
    }
    Err("not now")
}

fn numbers(items: &[Item], key: u32) -> Vec<u32> {
    items.iter().filter(|(other, _)| *other == key).map(|(_, number)| *number).collect()
}

async fn rest(receiver: &Receiver<Item>, books: &Books) -> Vec<Item> {
    let mut left = Vec::new();
    while !receiver.is_empty() {
        let lease = timeout(millis(100), receiver.lease()).await.expect("the item came back").unwrap();
        assert_eq!(lease.attempt(), books.failures(*lease) + 1, "an attempt that was cut off was counted");
        left.push(*lease);
        lease.done().await.unwrap();
    }
    left
}

fn cancel() {
    cancel_everywhere(
        async || (queue::bounded::<Item>(4).unwrap(), Books::default()),
        async |((sender, receiver), books)| {
            let options = Scope::builder().grace(millis(5));
            let done = options.run(async |n: &Nursery<Infallible>| {
                let seen = books.clone();
                let handler = move |job: Job<Item>| {
                    let books = seen.clone();
                    async move {
                        let _under_way = books.begin(*job);
                        sleep(millis(10)).await;
                        books.done(*job);
                        Ok::<_, Infallible>(())
                    }
                };
                let workers = receiver.workers(2).unwrap().keyed(|(key, _): &Item| *key);
                let crew = workers.start(n, "works", handler).expect("the scope is open");
                for item in [(0, 0), (0, 1), (1, 2), (0, 3)] {
                    // An item that is refused here is not sent, so it is not lost.
                    sender.try_send(item).unwrap();
                }
                sleep(millis(15)).await;
                sender.close();
                let stats = crew.ended().await;
                assert_eq!((stats.done, stats.waiting, stats.workers), (4, 0, 0));
                Ok(())
            });
            done.await.unwrap();
            // No item comes back to a lease that was released, and each is counted once.
            let (sender, receiver) = queue::lifo(2).unwrap();
            sender.send(1).await.unwrap();
            receiver.lease().await.unwrap().release().await.unwrap();
            assert_eq!(receiver.lease().await.unwrap().attempt(), 1);
        },
        async |((sender, receiver), books), _| {
            drain().await;
            sender.close();
            let mut all = books.all_done();
            all.extend(rest(receiver, books).await);
            assert!(all.is_empty() || all.len() == 4, "an item is lost or doubled: {all:?}");
            assert!(numbers(&all, 0).is_sorted(), "items of a key are out of order: {all:?}");
        },
    );
}

fn sweep(planted: Option<&'static str>) -> Result<Sweep, Failure> {
    swept(planted, || async {
        // One of them per seed, because each takes a while.
        match draw(6) {
            0 | 1 => by_key_with_failures().await,
            2 | 3 => cancelled_in_the_middle().await,
            4 => crew_after_crew().await,
            _ => {
                idle_when_told().await;
                back_before_others_of_its_rank().await;
            }
        }
    })
}

/// Each item is done once or a dead letter, and the items of each key are in order.
async fn by_key_with_failures() {
    let (dead, letters) = queue::bounded(64).unwrap();
    let books = Books::default();
    let crew = scope(async |n: &Nursery| {
        let (sender, receiver) = queue::builder(2 + draw(6) as usize)
            .dead_letters(NonZeroU32::new(3).unwrap(), dead)
            .build()
            .unwrap();
        let seen = books.clone();
        let mut workers = receiver
            .workers(1 + draw(3) as usize)
            .unwrap()
            .keyed(|(key, _): &Item| *key)
            .max_waiting(draw(4) as usize);
        if draw(2) == 0 {
            workers = workers.backoff(Backoff::constant(millis(1 + draw(4))));
        }
        let crew =
            workers.start(n, "works", move |job| handle(job, seen.clone())).expect("the scope is open");
        drop(receiver);
        for producer in 0..2 {
            let sender = sender.clone();
            n.spawn("sends", async move {
                for number in 0..5 {
                    sender.send((producer * 2 + number % 2, number)).await.unwrap();
                }
            });
        }
        drop(sender);
        let stats = timeout(millis(60_000), crew.ended()).await.expect("the workers end with their queue");
        Ok(stats)
    });
    let stats = crew.await.unwrap();
    let done = books.all_done();
    assert_eq!((stats.done, stats.waiting, stats.busy), (done.len() as u64, 0, 0));
    let mut all = done.clone();
    while let Ok(letter) = letters.try_recv() {
        assert_eq!((letter.attempts, books.failures(letter.item)), (3, 3));
        all.push(letter.item);
    }
    assert_eq!(
        (all.len(), all.iter().collect::<BTreeSet<_>>().len()),
        (10, 10),
        "an item is lost, or was done twice"
    );
    for key in 0..4 {
        assert!(numbers(&done, key).is_sorted(), "items of a key are out of order: {done:?}");
    }
}

/// No item is lost, no attempt counts without a failure, and returned items are in order.
async fn cancelled_in_the_middle() {
    let (sender, receiver) = queue::bounded(16).unwrap();
    let books = Books::default();
    let keyed = draw(3) > 0;
    for number in 0..8 {
        // Without keys, each item has a key of its own.
        sender.send((if keyed { number % 3 } else { number }, number)).await.unwrap();
    }
    let options = Scope::builder().grace(millis(draw(5)));
    let told = draw(2) == 0;
    let ended = options.run(async |n: &Nursery<Infallible>| {
        let seen = books.clone();
        let mut workers = receiver.workers(1 + draw(3) as usize).unwrap().max_waiting(draw(6) as usize);
        if keyed {
            workers = workers.keyed(|(key, _): &Item| *key);
        }
        // Longer than this test: an item that will be tried again still waits for its delay.
        let workers = workers.backoff(Backoff::constant(millis(40)));
        drop(workers.start(n, "works", move |job| handle(job, seen.clone())));
        sleep(millis(draw(15))).await;
        n.cancel(Reason::requested("enough"));
        std::future::pending::<Result<(), _>>().await
    });
    if told {
        assert!(ended.await.is_err());
    } else {
        // Dropped before the end of the crew, or cancelled after all.
        drop(timeout(millis(draw(12)), ended).await);
        drain().await;
    }
    let done = books.all_done();
    let left = rest(&receiver, &books).await;
    let all: BTreeSet<Item> = done.iter().chain(&left).copied().collect();
    assert_eq!((all.len(), done.len() + left.len()), (8, 8), "an item is lost or doubled");
    for key in 0..3 {
        assert!(numbers(&done, key).is_sorted(), "items of a key are out of order: {done:?}");
        // The same holds for items that failed: they are tried again before the others of their key.
        assert!(!keyed || numbers(&left, key).is_sorted(), "items of a key came back out of order: {left:?}");
    }
}

/// Several crews, each of which is cancelled except for the last. Each continues where the previous one stopped, and
/// the items of each key are handled in order.
async fn crew_after_crew() {
    let (sender, receiver) = queue::bounded(16).unwrap();
    let books = Books::default();
    for number in 0..9 {
        sender.send((number % 3, number)).await.unwrap();
    }
    sender.close();
    let options = Scope::builder().grace(millis(draw(5)));
    let ended = options.run(async |n: &Nursery<Infallible>| {
        for crew in 0.. {
            let seen = books.clone();
            let workers = receiver.workers(1 + draw(3) as usize).unwrap().keyed(|(key, _): &Item| *key);
            let workers = workers.max_waiting(draw(6) as usize).backoff(Backoff::constant(millis(draw(30))));
            let crew_of = workers.start(n, "works", move |job| handle(job, seen.clone()));
            let crew_of = crew_of.expect("the scope is open");
            // The last crew reaches the end of the queue.
            if crew < 3 {
                sleep(millis(draw(8))).await;
                crew_of.cancel(Reason::requested("the next"));
            }
            let stats = timeout(millis(60_000), crew_of.ended()).await.expect("the workers end");
            assert_eq!((stats.waiting, stats.busy, stats.workers), (0, 0, 0));
            if crew >= 3 {
                break;
            }
        }
        Ok(())
    });
    ended.await.unwrap();
    let done = books.all_done();
    assert_eq!(
        (done.len(), done.iter().collect::<BTreeSet<_>>().len()),
        (9, 9),
        "an item is lost, or was done twice"
    );
    for key in 0..3 {
        assert!(numbers(&done, key).is_sorted(), "items of a key are out of order: {done:?}");
    }
}

async fn idle_when_told() {
    scope(async |n: &Nursery| {
        let (sender, receiver) = queue::bounded(4).unwrap();
        let crew =
            receiver.workers(2).unwrap().start(n, "idle", async |_: Job<Item>| Ok::<_, Infallible>(()));
        let crew = crew.expect("the scope is open");
        sleep(millis(draw(2))).await;
        crew.cancel(Reason::requested("enough"));
        sender.try_send((0, 0)).unwrap();
        assert_eq!(crew.ended().await.done, 0, "an idle worker took an item when it was cancelled");
        assert_eq!(
            timeout(millis(1), receiver.recv()).await.expect("the item is in the queue"),
            Some((0, 0))
        );
        Ok(())
    })
    .await
    .unwrap();
}

async fn back_before_others_of_its_rank() {
    let (sender, receiver) = queue::priority(8, |(key, _): &Item| i64::from(*key)).unwrap();
    for item in [(1, 0), (0, 1), (1, 2), (0, 3)] {
        sender.send(item).await.unwrap();
    }
    let (first, second) = (receiver.lease().await.unwrap(), receiver.lease().await.unwrap());
    assert_eq!((*first, *second), ((0, 1), (0, 3)));
    sender.send((0, 4)).await.unwrap();
    drop(second);
    drop(first);
    for item in [(0, 1), (0, 3), (0, 4), (1, 0), (1, 2)] {
        assert_eq!(receiver.recv().await, Some(item));
    }
}
