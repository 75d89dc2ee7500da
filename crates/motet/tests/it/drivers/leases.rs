//! Drives leases that are done, released, due later or tried too often; and `join`.

use std::num::NonZeroU32;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};

use motet::queue::{self, DeadLetter, LeaseError, Receiver, Sender, TryRecvError};
use motet::task::{Nursery, drain, scope, timeout};
use motet_testkit::cancel_everywhere;
use motet_testkit::sim::{Failure, Sweep};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

use super::queues::{Books, Item};
use super::{Driver, draw, millis, passes, swept};

pub(super) const DRIVER: Driver = Driver {
    drives: &[
        "queue::Receiver::lease",
        "queue::Lease::done",
        "queue::Lease::done_with",
        "queue::Lease::extend",
        "queue::Lease::retry",
        "queue::Sender::join",
    ],
    cancel,
    sweep,
};

#[test]
fn lease_dropped_anywhere_returns_its_item_and_slot() {
    cancel();
}

#[test]
fn every_order_settles_each_leased_item_once() {
    passes(sweep);
}

struct Yard {
    sender: Sender<Item>,
    receiver: Receiver<Item>,
    letters: Receiver<DeadLetter<Item>>,
    books: Books,
}

fn yard(capacity: usize, attempts: u32) -> Yard {
    let (dead, letters) = queue::bounded(1).unwrap();
    let attempts = NonZeroU32::new(attempts).unwrap();
    let (sender, receiver) = queue::builder(capacity).dead_letters(attempts, dead).build().unwrap();
    Yard { sender, receiver, letters, books: Books::default() }
}

fn cancel() {
    cancel_everywhere(
        async || {
            let yard = yard(2, 3);
            for id in 1..=2 {
                yard.sender.try_send(yard.books.item(id)).unwrap_or_else(|_| panic!("the queue is full"));
                yard.books.sent(id);
            }
            yard
        },
        async |Yard { receiver, sender, books, .. }| {
            let take = async || receiver.lease().await.unwrap();
            let mut first = take().await;
            yield_now().await;
            first.extend(millis(10)).await.unwrap();
            assert!(sender.try_send(books.item(0)).is_err(), "a leased item gave up its slot");
            first.retry(millis(20)).await.unwrap();
            let second = take().await;
            assert_eq!(second.id, 2);
            second.done_with(|item| books.received(item)).await.unwrap();
            let again = take().await;
            assert_eq!((again.id, again.attempt()), (1, 2));
            again.done().await.unwrap();
            books.received.lock().unwrap().push(1);
            sender.join().await.unwrap();
        },
        async |yard, _| {
            drain().await;
            let Yard { sender, receiver, books, .. } = yard;
            // The remaining items come back, at once or when they are due.
            while books.received.lock().unwrap().len() < 2 {
                let left =
                    timeout(millis(100), receiver.lease()).await.expect("the item comes back").unwrap();
                let id = left.id;
                left.done().await.unwrap();
                books.received.lock().unwrap().push(id);
            }
            books.balance();
            timeout(millis(1), sender.join()).await.expect("every item is settled").unwrap();
            for id in 0..2 {
                sender.try_send(books.item(id)).unwrap_or_else(|_| panic!("a slot is still held"));
            }
        },
    );
}

fn sweep(planted: Option<&'static str>) -> Result<Sweep, Failure> {
    swept(planted, || async {
        workers_that_fail().await;
        back_to_the_front().await;
        due_later().await;
        dead_letters_wait_for_capacity().await;
        shut_down_in_the_middle().await;
        nobody_is_left().await;
        settled_after_its_closure().await;
        workers_that_send().await;
    })
}

/// Workers that succeed, fail, retry and release: each item is done once, or is a dead letter.
async fn workers_that_fail() {
    let Yard { sender, receiver, letters, books } = yard(3, 3);
    scope(async |n: &Nursery<&'static str>| {
        for producer in 0..2 {
            let (sender, books) = (sender.clone(), books.clone());
            n.spawn("sends", async move {
                for id in (0..5).map(|at| producer * 100 + at) {
                    sender.send(books.item(id)).await.unwrap_or_else(|_| panic!("a receiver lives"));
                    books.sent(id);
                }
            });
        }
        for _ in 0..2 {
            let (receiver, books) = (receiver.clone(), books.clone());
            n.spawn("works", async move { while work(&receiver, &books).await {} });
        }
        let books_of_it = books.clone();
        n.spawn("buries", async move {
            while let Some(letter) = letters.recv().await {
                assert_eq!(letter.attempts, 3, "a dead letter before its last attempt");
                books_of_it.received(letter.item);
                sleep(millis(draw(5))).await;
            }
        });
        drop(receiver);
        // Once all items are sent, all are settled.
        let joined = timeout(millis(60_000), async {
            while books.sent.lock().unwrap().len() < 10 {
                sleep(millis(1)).await;
            }
            sender.join().await
        });
        joined.await.expect("the join ends").unwrap();
        drop(sender);
        Ok(())
    })
    .await
    .unwrap();
    books.balance();
}

async fn work(receiver: &Receiver<Item>, books: &Books) -> bool {
    let leased = match draw(3) {
        0 => timeout(millis(draw(4)), receiver.lease()).await,
        _ => Ok(receiver.lease().await),
    };
    let Ok(leased) = leased else { return true };
    let Some(mut lease) = leased else { return false };
    sleep(millis(draw(4))).await;
    lease.extend(millis(10)).await.unwrap();
    match draw(5) {
        0 => drop(lease),
        1 => lease.retry(millis(draw(6))).await.unwrap(),
        2 => lease.done_with(|item| books.received(item)).await.unwrap(),
        _ => {
            let id = lease.id;
            lease.done().await.unwrap();
            books.received.lock().unwrap().push(id);
        }
    }
    true
}

/// A returned item comes before items that were sent after it, also before other returned items; and it goes to a
/// parked receiver.
async fn back_to_the_front() {
    let (sender, receiver) = queue::bounded(4).unwrap();
    for item in 1..=3 {
        sender.send(item).await.unwrap();
    }
    let (one, two) = (receiver.lease().await.unwrap(), receiver.lease().await.unwrap());
    assert_eq!((*one, *two, two.attempt()), (1, 2, 1));
    drop(two);
    drop(one);
    for (item, attempt) in [(1, 2), (2, 2), (3, 1)] {
        let lease = receiver.lease().await.unwrap();
        assert_eq!((*lease, lease.attempt()), (item, attempt));
        lease.done().await.unwrap();
    }
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty), "a done item came back");
    scope(async |n: &Nursery<&'static str>| {
        sender.send(4).await.unwrap();
        let held = receiver.lease().await.unwrap();
        let waits = receiver.clone();
        let parked = n.spawn("takes", async move { waits.recv().await });
        sleep(millis(draw(3))).await;
        drop(held);
        assert_eq!(timeout(millis(50), parked).await.expect("the receiver is woken").unwrap(), Some(4));
        sender.join().await.unwrap();
        Ok(())
    })
    .await
    .unwrap();
}

/// Each item comes when it is due, though the receiver that watched the clock was dropped, or waits for a later item.
async fn due_later() {
    let begin = Instant::now();
    let (sender, receiver) = queue::delay(8, move |after: &u64| begin + millis(*after)).unwrap();
    scope(async |n: &Nursery<&'static str>| {
        let times = [40 + draw(10), 20 + draw(10)];
        sender.send(times[0]).await.unwrap();
        let got = Arc::new(Mutex::new(Vec::new()));
        for patience in [draw(15), 1_000, 1_000] {
            let (receiver, got) = (receiver.clone(), Arc::clone(&got));
            n.spawn("takes", async move {
                if let Ok(Some(due)) = timeout(millis(patience), receiver.recv()).await {
                    let late =
                        begin.elapsed().checked_sub(millis(due)).expect("the item came before it was due");
                    assert!(late <= millis(1), "the item came late: {late:?}");
                    got.lock().unwrap().push(due);
                }
            });
        }
        sleep(millis(draw(15))).await;
        sender.send(times[1]).await.unwrap();
        timeout(millis(500), sender.join()).await.expect("both items are received").unwrap();
        yield_now().await;
        sleep(millis(1)).await;
        assert_eq!(*got.lock().unwrap(), [times[1], times[0]]);
        Ok(())
    })
    .await
    .unwrap();
}

/// Dead letters that find the other queue full wait, and keep their slots.
async fn dead_letters_wait_for_capacity() {
    let Yard { sender, receiver, letters, books } = yard(3, 1);
    for id in 1..=3 {
        sender.send(books.item(id)).await.unwrap_or_else(|_| panic!("a receiver lives"));
        books.sent(id);
    }
    for _ in 1..=3 {
        drop(receiver.lease().await);
    }
    // One dead letter was sent, two wait.
    assert!(sender.try_send(books.item(4)).is_ok());
    assert!(sender.try_send(books.item(5)).is_err(), "a waiting dead letter gave up its slot");
    books.received(receiver.recv().await.unwrap());
    books.sent(4);
    assert!(timeout(millis(draw(3)), sender.join()).await.is_err(), "a waiting dead letter was settled");
    for id in 1..=3 {
        let letter = timeout(millis(10), letters.recv())
            .await
            .expect("the dead letter comes when a slot is free")
            .unwrap();
        assert_eq!((letter.item.id, letter.attempts), (id, 1));
        books.received(letter.item);
    }
    timeout(millis(1), sender.join()).await.expect("every item is settled").unwrap();
    books.balance();
}

async fn shut_down_in_the_middle() {
    let Yard { sender, receiver, books, .. } = yard(4, 9);
    scope(async |n: &Nursery<&'static str>| {
        for id in 1..=4 {
            sender.send(books.item(id)).await.unwrap_or_else(|_| panic!("a receiver lives"));
            books.sent(id);
        }
        let (held, put_off) = (receiver.lease().await.unwrap(), receiver.lease().await.unwrap());
        put_off.retry(millis(500)).await.unwrap();
        let (sends, item) = (sender.clone(), books.item(5));
        let waits = n.spawn("sends", async move { sends.send(item).await.map_err(|refused| refused.0.id) });
        let joins = sender.clone();
        let joined = n.spawn("joins", async move { joins.join().await });
        sleep(millis(draw(3))).await;
        let left = receiver.shutdown_now();
        assert_eq!(left.iter().map(|item| item.id).collect::<Vec<_>>(), [3, 4, 2]);
        left.into_iter().for_each(|item| books.received(item));
        assert_eq!(timeout(millis(10), waits).await.expect("the waiter is woken").unwrap(), Err(5));
        assert!(receiver.recv().await.is_none() && receiver.lease().await.is_none());
        timeout(millis(10), joined).await.expect("no item is left").unwrap().unwrap();
        let id = held.id;
        assert_eq!(held.done().await, Err(LeaseError::Closed), "an old lease is not void");
        books.received.lock().unwrap().push(id);
        Ok(())
    })
    .await
    .unwrap();
    books.balance();
}

/// The last receiver is dropped: the items in the queue are dropped, and `join` returns their number once the last
/// lease has ended.
async fn nobody_is_left() {
    let Yard { sender, receiver, books, .. } = yard(8, 9);
    scope(async |n: &Nursery<&'static str>| {
        for id in 1..=5 {
            sender.send(books.item(id)).await.unwrap_or_else(|_| panic!("a receiver lives"));
        }
        let (done, fails) = (receiver.lease().await.unwrap(), receiver.lease().await.unwrap());
        let joins = sender.clone();
        let joined = n.spawn("joins", async move { joins.join().await });
        sleep(millis(draw(3))).await;
        drop(receiver);
        assert!(sender.is_closed() && books.alive() == 2);
        sleep(millis(draw(3))).await;
        done.done().await.unwrap();
        drop(fails);
        let left = timeout(millis(10), joined).await.expect("the join ends").unwrap().unwrap_err().left;
        assert_eq!((left, books.alive()), (4, 0));
        Ok(())
    })
    .await
    .unwrap();
}

/// While the closure runs, the item is unsettled and holds its slot; a change by the holder stays in an item that comes back.
async fn settled_after_its_closure() {
    let (sender, receiver) = queue::bounded(1).unwrap();
    sender.send(1).await.unwrap();
    let mut lease = receiver.lease().await.unwrap();
    *lease += 1;
    drop(lease);
    let lease = receiver.lease().await.unwrap();
    let mut joined = pin!(sender.join());
    let seen = lease
        .done_with(|item| (item, sender.try_send(3).is_err(), is_ready_now(joined.as_mut())))
        .await
        .unwrap();
    assert_eq!(seen, (2, true, false), "the item was settled before the closure was called");
    timeout(millis(1), joined).await.expect("the item is settled").unwrap();
    sender.try_send(3).unwrap();
    let lease = receiver.lease().await.unwrap();
    assert!(receiver.shutdown_now().is_empty());
    assert_eq!(lease.done_with(|_| panic!("the lease is void")).await, Err::<(), _>(LeaseError::Closed));
}

/// Returns `true` if the future is ready now.
fn is_ready_now(future: Pin<&mut impl Future>) -> bool {
    future.poll(&mut Context::from_waker(Waker::noop())).is_ready()
}

/// Workers that send into their own queue: every item is handled once, and the workers end by themselves when no work is
/// left. A weak sender does not keep the queue open, and the sender that it creates does.
async fn workers_that_send() {
    let (sender, receiver) = queue::unbounded::<u32>();
    let visited = Arc::new(Mutex::new(Vec::new()));
    let weak = sender.downgrade();
    let ended = scope(async |n: &Nursery<&'static str>| {
        for _ in 0..2 {
            let (receiver, weak, visited) = (receiver.clone(), weak.clone(), Arc::clone(&visited));
            n.spawn("works", async move {
                while let Some(node) = receiver.lease().await {
                    sleep(millis(draw(4))).await;
                    for child in [2 * *node, 2 * *node + 1].into_iter().filter(|child| *child < 12) {
                        let sender = weak.upgrade().expect("a sender exists while an item is unsettled");
                        sender.send(child).await.unwrap();
                    }
                    node.done_with(|node| visited.lock().unwrap().push(node)).await.unwrap();
                }
            });
        }
        sender.send(1).await.unwrap();
        sender.join().await.unwrap();
        visited.lock().unwrap().sort_unstable();
        assert_eq!(*visited.lock().unwrap(), Vec::from_iter(1..12));
        let kept = draw(2) == 0;
        let other = weak.upgrade().filter(|_| kept);
        drop(sender);
        assert_eq!((weak.upgrade().is_some(), receiver.is_closed()), (kept, !kept));
        drop(other);
        assert!(weak.upgrade().is_none() && receiver.is_closed());
        Ok(())
    });
    timeout(millis(1_000), ended).await.expect("the workers end by themselves").unwrap();
}
