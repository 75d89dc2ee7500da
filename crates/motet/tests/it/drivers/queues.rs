//! Drives queues: items sent one by one, in batches, with timeouts, and with permits.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;

use motet::queue::{self, Receiver, Sender, TrySendError};
use motet::task::{Either, Nursery, Scope, Task, drain, race, scope, timeout};
use motet_testkit::cancel_everywhere;
use motet_testkit::sim::{Failure, Sweep};
use tokio::task::yield_now;
use tokio::time::sleep;

use super::{Driver, draw, millis, passes, swept};
use crate::notes::{Alive, Live};

pub(super) const DRIVER: Driver = Driver {
    drives: &[
        "queue::Sender::send",
        "queue::Sender::send_timeout",
        "queue::Sender::send_all",
        "queue::Sender::reserve",
        "queue::Sender::closed",
        "queue::Receiver::recv",
        "queue::Receiver::recv_timeout",
        "queue::Receiver::recv_many",
        "queue::Receiver::closed",
    ],
    cancel,
    sweep,
};

#[test]
fn dropped_send_or_receive_loses_no_accepted_item_and_no_slot() {
    cancel();
}

#[test]
fn every_order_receives_each_item_once_and_wakes_all_waiters() {
    passes(sweep);
}

/// An item that is counted while it lives.
pub(super) struct Item {
    pub(super) id: u64,
    _alive: Alive,
}

/// The sent and the received items: in the end both are the same.
#[derive(Clone, Default)]
pub(super) struct Books {
    live: Live,
    pub(super) sent: Arc<Mutex<Vec<u64>>>,
    pub(super) received: Arc<Mutex<Vec<u64>>>,
}

impl Books {
    pub(super) fn item(&self, id: u64) -> Item {
        Item { id, _alive: self.live.enter() }
    }

    pub(super) fn sent(&self, id: u64) {
        self.sent.lock().unwrap().push(id);
    }

    pub(super) fn received(&self, item: Item) {
        self.received.lock().unwrap().push(item.id);
        // The item ends here, and is noted as received.
        drop(item);
    }

    pub(super) fn alive(&self) -> usize {
        self.live.count()
    }

    pub(super) fn balance(&self) {
        let sorted = |ids: &Mutex<Vec<u64>>| {
            let mut ids = ids.lock().unwrap().clone();
            ids.sort_unstable();
            ids
        };
        assert_eq!(sorted(&self.sent), sorted(&self.received), "the received items are not the sent ones");
        assert_eq!(self.live.count(), 0, "items are neither received nor in the queue");
    }
}

struct Yard {
    sender: Sender<Item>,
    receiver: Receiver<Item>,
    books: Books,
}

impl Yard {
    fn new(capacity: usize) -> Self {
        let (sender, receiver) = queue::bounded(capacity).unwrap();
        Self { sender, receiver, books: Books::default() }
    }
}

fn cancel() {
    // Parked senders, for which a receiver frees one slot after the other.
    cancel_everywhere(
        async || Yard::new(1),
        async |Yard { sender, receiver, books }| {
            scope(async |n: &Nursery<&'static str>| {
                let (takes, books_of_it) = (receiver.clone(), books.clone());
                n.spawn("takes", async move {
                    for _ in 0..9 {
                        sleep(millis(10)).await;
                        match takes.recv().await {
                            Some(item) => books_of_it.received(item),
                            None => return,
                        }
                    }
                });
                for id in 1..=3 {
                    if sender.send(books.item(id)).await.is_ok() {
                        books.sent(id);
                    }
                }
                let permit = sender.reserve().await.unwrap();
                yield_now().await;
                permit.send(books.item(4)).unwrap();
                books.sent(4);
                assert!(sender.send_timeout(books.item(0), millis(1)).await.is_err());
                sender.send_timeout(books.item(5), millis(100)).await.unwrap();
                books.sent(5);
                let mut items = (6..=9).map(|id| books.item(id)).collect();
                sender.send_all(&mut items).await.unwrap();
                (6..=9).for_each(|id| books.sent(id));
                Ok(())
            })
            .await
            .unwrap();
        },
        async |yard, _| {
            drain().await;
            let Yard { sender, receiver, books } = yard;
            // The lines are empty, and no slot or promise is kept.
            let stats = receiver.stats();
            for line in ["permits", "leased", "senders_waiting", "receivers_waiting"] {
                let found = stats.iter().find(|(name, _)| *name == line).map(|(_, stat)| stat.to_string());
                assert_eq!(found.as_deref(), Some("0"), "{line}");
            }
            // An item that was accepted but not noted as sent, because its future was dropped before the return, is in
            // the queue or was received. No other item is alive.
            assert_eq!(books.alive(), receiver.len());
            let mut inside = Vec::new();
            while let Ok(item) = receiver.try_recv() {
                inside.push(item.id);
            }
            let mut all = books.received.lock().unwrap().clone();
            all.extend(inside);
            let expected: Vec<u64> = (1..=all.len() as u64).collect();
            assert_eq!(all, expected, "an item is lost, doubled or out of order");
            for id in books.sent.lock().unwrap().iter() {
                assert!(all.contains(id), "{id} was sent and is lost");
            }
            sender.try_send(books.item(0)).unwrap();
            assert!(matches!(sender.try_send(books.item(0)), Err(TrySendError::Full(_))));
        },
    );
    // Parked receivers.
    cancel_everywhere(
        async || Yard::new(4),
        async |Yard { sender, receiver, books }| {
            scope(async |n: &Nursery<&'static str>| {
                let (sends, books_of_it) = (sender.clone(), books.clone());
                n.spawn("sends", async move {
                    for id in 1..=6 {
                        sleep(millis(10)).await;
                        sends
                            .send(books_of_it.item(id))
                            .await
                            .unwrap_or_else(|_| panic!("the queue is open"));
                        books_of_it.sent(id);
                    }
                });
                books.received(receiver.recv().await.unwrap());
                assert!(receiver.recv_timeout(millis(1)).await.is_err());
                books.received(receiver.recv_timeout(millis(100)).await.unwrap());
                let mut items = Vec::new();
                while books.received.lock().unwrap().len() < 6 {
                    receiver.recv_many(&mut items, 3).await;
                    items.drain(..).for_each(|item| books.received(item));
                }
                receiver.close();
                sender.closed().await;
                receiver.closed().await;
                Ok(())
            })
            .await
            .unwrap();
        },
        async |yard, _| {
            // Its items still arrive after the receiver was dropped.
            sleep(millis(1_000)).await;
            drain().await;
            let Yard { sender, receiver, books } = yard;
            let mut all = books.received.lock().unwrap().clone();
            while let Ok(item) = receiver.try_recv() {
                all.push(item.id);
            }
            assert_eq!(all, *books.sent.lock().unwrap(), "an item is lost, doubled or out of order");
            sender.close();
            assert!(timeout(millis(1), receiver.recv()).await.expect("the queue is closed").is_none());
            timeout(millis(1), async { (sender.closed().await, receiver.closed().await) })
                .await
                .expect("the queue is closed");
        },
    );
}

fn sweep(planted: Option<&'static str>) -> Result<Sweep, Failure> {
    swept(planted, || async {
        many_through_few_slots().await;
        a_future_that_changes_its_task().await;
        unused_permits().await;
        closed_while_senders_wait().await;
    })
}

/// Producers and consumers that drop some of their futures: each item is received exactly once.
async fn many_through_few_slots() {
    let books = Books::default();
    let (sender, receiver) = queue::bounded(1 + draw(3) as usize).unwrap();
    scope(async |n: &Nursery<&'static str>| {
        for producer in 0..3 {
            let (sender, books) = (sender.clone(), books.clone());
            n.spawn("sends", async move {
                for id in (0..6).map(|at| producer * 100 + at) {
                    send_somehow(&sender, &books, id).await;
                }
            });
        }
        for _ in 0..2 {
            let (receiver, books) = (receiver.clone(), books.clone());
            n.spawn("takes", async move { while take_somehow(&receiver, &books).await {} });
        }
        drop((sender, receiver));
        Ok(())
    })
    .await
    .unwrap();
    books.balance();
}

/// Sends the item, in as many attempts as it takes.
async fn send_somehow(sender: &Sender<Item>, books: &Books, id: u64) {
    let time = millis(draw(4));
    match draw(5) {
        0 => sender.send(books.item(id)).await.unwrap_or_else(|_| panic!("a receiver lives")),
        1 => {
            let mut item = books.item(id);
            while let Err(refused) = sender.send_timeout(item, time).await {
                item = refused.into_item();
            }
        }
        2 => loop {
            if let Ok(permit) = timeout(time, sender.reserve()).await {
                permit.unwrap().send(books.item(id)).unwrap_or_else(|_| panic!("a receiver lives"));
                break;
            }
        },
        3 => {
            let mut items = [books.item(id)].into();
            while timeout(time, sender.send_all(&mut items)).await.is_err() {}
        }
        _ => {
            let mut item = books.item(id);
            while let Err(refused) = sender.try_send(item) {
                item = refused.into_item();
                sleep(millis(1)).await;
            }
        }
    }
    books.sent(id);
    sleep(millis(draw(3))).await;
}

/// Takes items, or gives up, or finds that the queue has ended.
async fn take_somehow(receiver: &Receiver<Item>, books: &Books) -> bool {
    let time = millis(draw(4));
    let taken = match draw(4) {
        0 => Ok(receiver.recv().await),
        1 => timeout(time, receiver.recv()).await.map_err(|_| ()),
        2 => {
            let mut items = Vec::new();
            match timeout(time, receiver.recv_many(&mut items, 2)).await {
                Ok(0) => Ok(None),
                taken => {
                    assert!(taken.is_ok() || items.is_empty(), "a dropped future took items");
                    items.drain(..).for_each(|item| books.received(item));
                    Err(())
                }
            }
        }
        _ => match race(sleep(time), receiver.recv()).await {
            Either::Left(()) => Err(()),
            Either::Right(taken) => Ok(taken),
        },
    };
    match taken {
        Ok(Some(item)) => books.received(item),
        Ok(None) => return false,
        Err(()) => {}
    }
    true
}

/// Polled in one task and awaited in another: the second one is woken.
async fn a_future_that_changes_its_task() {
    let (sender, receiver) = queue::bounded(1).unwrap();
    scope(async |n: &Nursery<&'static str>| {
        let waits = receiver.clone();
        let received = moved(n, Box::pin(async move { waits.recv().await })).await;
        sleep(millis(draw(3))).await;
        sender.send(1).await.unwrap();
        assert_eq!(timeout(millis(100), received).await.expect("the waiter is woken").unwrap(), Some(1));

        sender.send(2).await.unwrap();
        let waits = sender.clone();
        let sent = moved(n, Box::pin(async move { waits.send(3).await })).await;
        sleep(millis(draw(3))).await;
        assert_eq!(receiver.recv().await, Some(2));
        timeout(millis(100), sent).await.expect("the waiter is woken").unwrap().unwrap();
        Ok(())
    })
    .await
    .unwrap();
}

/// Polls a future until it is in line.
async fn parked<F: Future + ?Sized>(mut future: Pin<&mut F>) {
    let mut polls = 0;
    poll_fn(|cx| {
        polls += 1;
        assert!(future.as_mut().poll(cx).is_pending());
        // A few times: the future first yields, and may have no budget left.
        if polls > 6 {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

async fn moved<T: Send + 'static>(
    scope: &Scope,
    mut future: Pin<Box<dyn Future<Output = T> + Send>>,
) -> Task<T> {
    parked(future.as_mut()).await;
    scope.spawn("awaits", future).unwrap()
}

/// Slots and items that are granted to a dropped future go to the next waiter.
async fn unused_permits() {
    let (sender, receiver) = queue::bounded(2).unwrap();
    for _ in 0..4 {
        drop(sender.reserve().await.unwrap());
    }
    sender.send(1).await.unwrap();
    sender.send(2).await.unwrap();
    scope(async |n: &Nursery<&'static str>| {
        // One sender is granted the slot at the moment at which it gives up; the other one is behind it.
        for time in [draw(3), 100] {
            let sender = sender.clone();
            n.spawn("sends", async move { timeout(millis(time), sender.send(3)).await });
        }
        sleep(millis(draw(3))).await;
        assert_eq!(receiver.recv().await, Some(1));
        assert_eq!(receiver.recv().await, Some(2));
        assert_eq!(timeout(millis(50), receiver.recv()).await.expect("one of the senders sends"), Some(3));
        Ok(())
    })
    .await
    .unwrap();
    while receiver.try_recv().is_ok() {}
    scope(async |n: &Nursery<&'static str>| {
        let got = Arc::new(Mutex::new(0));
        for time in [draw(3), 100] {
            let (receiver, got) = (receiver.clone(), Arc::clone(&got));
            n.spawn("takes", async move {
                if timeout(millis(time), receiver.recv()).await.is_ok() {
                    *got.lock().unwrap() += 1;
                }
            });
        }
        sleep(millis(draw(3))).await;
        sender.send(4).await.unwrap();
        sleep(millis(50)).await;
        assert_eq!((*got.lock().unwrap(), receiver.len()), (1, 0), "one of the receivers has the item");
        Ok(())
    })
    .await
    .unwrap();
    // Granted, and never polled again.
    for item in [4, 5] {
        sender.send(item).await.unwrap();
    }
    let mut waits = Box::pin(sender.send(6));
    parked(waits.as_mut()).await;
    assert_eq!(receiver.recv().await, Some(4));
    drop(waits);
    assert_eq!(receiver.recv().await, Some(5));
    let mut waits = Box::pin(receiver.recv());
    parked(waits.as_mut()).await;
    sender.send(7).await.unwrap();
    drop(waits);
    assert_eq!(receiver.try_recv(), Ok(7));
    // The whole capacity is available.
    assert!(sender.try_send(5).is_ok() && sender.try_send(6).is_ok() && sender.try_send(7).is_err());
}

async fn closed_while_senders_wait() {
    let (sender, receiver) = queue::bounded(1).unwrap();
    sender.send(0).await.unwrap();
    scope(async |n: &Nursery<&'static str>| {
        let waiting: Vec<_> = (1..=2)
            .map(|item| {
                let sender = sender.clone();
                n.spawn("sends", async move { sender.send(item).await })
            })
            .collect();
        let watching = sender.clone();
        let closed = n.spawn("watches", async move { watching.closed().await });
        sleep(millis(draw(3))).await;
        receiver.close();
        for (item, waits) in (1..=2).zip(waiting) {
            let refused = timeout(millis(100), waits).await.expect("the waiter is woken").unwrap();
            assert_eq!(refused.unwrap_err().0, item);
        }
        timeout(millis(100), closed).await.expect("the waiter is woken").unwrap();
        assert_eq!((receiver.recv().await, receiver.recv().await), (Some(0), None));
        Ok(())
    })
    .await
    .unwrap();
}
