//! Tests with several threads. `cargo xtask verify` also runs them under valgrind, with fewer items.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use motet::queue::{self, Receiver, Sender};
use motet::rng;
use motet::task::{Nursery, scope, timeout};
use tokio::runtime::Builder;
use tokio::task::yield_now;

fn items(count: usize) -> usize {
    match std::env::var_os("MOTET_STRESS_ROUNDS") {
        Some(rounds) => {
            rounds.to_str().and_then(|rounds| rounds.parse::<usize>().ok()).expect("a number") * 50
        }
        None => count,
    }
}

/// An item that counts the living items, and detects that it was read twice.
struct Counted(Arc<AtomicUsize>, Box<usize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[test]
fn threads_receive_each_item_once_from_a_queue_of_capacity_1() {
    run(1, false);
}

#[test]
fn threads_receive_each_item_once_from_a_queue_of_capacity_3() {
    run(3, false);
}

#[test]
fn threads_receive_each_item_once_from_a_queue_of_capacity_64() {
    run(64, false);
}

#[test]
fn threads_receive_each_item_once_from_an_unbounded_queue() {
    run(0, true);
}

/// Each dead letter is sent by the thread that fails the item or frees a slot, and only one thread sends at a time.
#[test]
fn threads_deliver_every_dead_letter() {
    let count = items(20_000);
    let runtime = Builder::new_multi_thread().worker_threads(4).enable_time().build().unwrap();
    runtime.block_on(async {
        let (dead, letters) = queue::bounded(1).unwrap();
        let (sender, receiver) = queue::builder(8).dead_letters(NonZeroU32::MIN, dead).build().unwrap();
        scope(async |n: &Nursery<()>| {
            for _ in 0..3 {
                let receiver = receiver.clone();
                n.spawn("fails", async move { while receiver.lease().await.is_some() {} });
            }
            drop(receiver);
            let reads = n.spawn("reads", async move {
                let mut sum = 0;
                while let Some(letter) = letters.recv().await {
                    sum += letter.item;
                }
                sum
            });
            for item in 1..=count {
                sender.send(item).await.unwrap();
            }
            sender.join().await.unwrap();
            drop(sender);
            assert_eq!(reads.await.unwrap(), count * (count + 1) / 2);
            Ok(())
        })
        .await
        .unwrap();
    });
}

/// Uses every way to send and receive concurrently, and drops some of the futures.
fn run(capacity: usize, unbounded: bool) {
    const SIDES: usize = 4;
    let each = items(5_000);
    let alive = Arc::new(AtomicUsize::new(0));
    let sum = Arc::new(AtomicUsize::new(0));
    let runtime = Builder::new_multi_thread().worker_threads(SIDES).enable_time().build().unwrap();
    runtime.block_on(async {
        let (sender, receiver) =
            if unbounded { queue::unbounded() } else { queue::bounded(capacity).unwrap() };
        scope(async |n: &Nursery<()>| {
            for side in 0..SIDES {
                n.spawn(
                    "sends",
                    sends(sender.clone(), side * each + 1..=(side + 1) * each, Arc::clone(&alive)),
                );
                n.spawn("takes", takes(receiver.clone(), Arc::clone(&sum)));
            }
            drop(receiver);
            drop(sender);
            Ok(())
        })
        .await
        .unwrap();
    });
    let all = SIDES * each;
    assert_eq!(sum.load(Ordering::SeqCst), all * (all + 1) / 2);
    assert_eq!(alive.load(Ordering::SeqCst), 0);
}

async fn sends(sender: Sender<Counted>, ids: std::ops::RangeInclusive<usize>, alive: Arc<AtomicUsize>) {
    let mut buffer = VecDeque::new();
    for id in ids {
        alive.fetch_add(1, Ordering::SeqCst);
        let item = Counted(Arc::clone(&alive), Box::new(id));
        match rng::with(|rng| rng.below(4)) {
            0 => assert!(sender.send(item).await.is_ok()),
            1 => {
                // Polled a few times, and dropped.
                while timeout(Duration::ZERO, sender.reserve()).await.is_err() {}
                assert!(sender.reserve().await.unwrap().send(item).is_ok());
            }
            2 => {
                let mut item = item;
                while let Err(refused) = sender.try_send(item) {
                    item = refused.into_item();
                    yield_now().await;
                }
            }
            _ => {
                buffer.push_back(item);
                if buffer.len() > 5 {
                    sender.send_all(&mut buffer).await.unwrap();
                }
            }
        }
    }
    sender.send_all(&mut buffer).await.unwrap();
}

async fn takes(receiver: Receiver<Counted>, sum: Arc<AtomicUsize>) {
    let mut items = Vec::new();
    loop {
        match rng::with(|rng| rng.below(4)) {
            0 => match receiver.recv().await {
                Some(item) => items.push(item),
                None => return,
            },
            1 => drop(timeout(Duration::ZERO, receiver.recv_many(&mut items, 7)).await),
            2 => match receiver.lease().await {
                Some(lease) => {
                    let id = *lease.1;
                    if rng::with(|rng| rng.below(3)) > 0 {
                        lease.done().await.unwrap();
                        sum.fetch_add(id, Ordering::SeqCst);
                    }
                }
                None => return,
            },
            _ => items.extend(receiver.try_recv()),
        }
        for item in items.drain(..) {
            sum.fetch_add(*item.1, Ordering::SeqCst);
        }
    }
}
