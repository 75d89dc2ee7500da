//! Edge cases of queues.

use std::cell::Cell;
use std::future::poll_fn;
use std::num::NonZeroU32;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use motet::queue::{self, Receiver, TrySendError};
use motet::task::{Nursery, scope, timeout};
use tokio::task::yield_now;

use super::now;

#[test]
fn queue_capacity_out_of_range_is_refused() {
    for capacity in [0, (1 << 22) + 1] {
        let error = queue::bounded::<()>(capacity).unwrap_err();
        assert_eq!(error, queue::QueueConfigError::Capacity(capacity));
        assert_eq!(error.to_string(), format!("`capacity` is {capacity}; it must be from 1 to 4194304"));
    }
    assert!(queue::bounded::<()>(1 << 22).is_ok());
}

/// An item, or a waker, that counts its drops and reads the length of its queue in its drop.
struct Looks(Receiver<Option<Self>>, Arc<AtomicUsize>);

impl Drop for Looks {
    fn drop(&mut self) {
        self.1.fetch_add(self.0.len() + 1, Ordering::Relaxed);
    }
}

impl Wake for Looks {
    fn wake(self: Arc<Self>) {}
}

/// If one of the two were dropped under the lock, this test would not end.
#[test]
fn queue_drops_wakers_and_items_outside_of_its_lock() {
    let dropped = Arc::new(AtomicUsize::new(0));
    let (sender, receiver) = queue::bounded(1).unwrap();
    let looks = || Looks(receiver.clone(), Arc::clone(&dropped));
    for _ in 0..2 {
        let mut waits = pin!(receiver.recv());
        for _ in 0..4 {
            let waker = Waker::from(Arc::new(looks()));
            assert!(waits.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        }
        sender.try_send(None).unwrap_or_else(|_| panic!("the queue is full"));
        assert!(now(waits).is_some());
    }
    sender.try_send(Some(looks())).unwrap_or_else(|_| panic!("the queue is full"));
    drop(now(receiver.lease()).flatten());
    let mut waits = pin!(sender.send(Some(looks())));
    for _ in 0..4 {
        let waker = Waker::from(Arc::new(looks()));
        assert!(waits.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    assert_eq!(receiver.shutdown_now().len(), 1);
    assert!(now(waits).unwrap().is_err());
    assert!(dropped.load(Ordering::Relaxed) > 8);
}

#[test]
fn last_receiver_drops_the_items_and_last_sender_keeps_them() {
    let alive = Rc::new(());
    let (sender, receiver) = queue::bounded(4).unwrap();
    sender.try_send(Rc::clone(&alive)).unwrap();
    let other = receiver.clone();
    drop(receiver);
    assert!(sender.try_send(Rc::clone(&alive)).is_ok());
    drop(other);
    assert_eq!(Rc::strong_count(&alive), 1);
    assert!(matches!(sender.try_send(Rc::clone(&alive)), Err(TrySendError::Closed(_))));
    let (sender, receiver) = queue::bounded(4).unwrap();
    sender.try_send(Rc::clone(&alive)).unwrap();
    drop(sender);
    assert!(now(receiver.recv()).flatten().is_some() && now(receiver.recv()) == Some(None));
    let (sender, receiver) = queue::bounded(3).unwrap();
    (0..3).for_each(|_| sender.try_send(Rc::clone(&alive)).unwrap());
    drop((now(receiver.recv()), receiver, sender));
    assert_eq!(Rc::strong_count(&alive), 1);
}

/// Four items per unit of the budget, and twice that between two turns of a `join!`.
#[tokio::test]
async fn draining_a_full_queue_lets_other_futures_run() {
    const ITEMS: usize = 100_000;
    let (sender, receiver) = queue::bounded(ITEMS).unwrap();
    (0..ITEMS).for_each(|item| sender.try_send(item).unwrap());
    let (taken, done) = (Cell::new(0), Cell::new(false));
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async {
            let drains = async {
                for _ in 0..ITEMS {
                    receiver.recv().await.unwrap();
                    taken.set(taken.get() + 1);
                }
                done.set(true);
            };
            let watches = async {
                let (mut before, mut most) = (0, 0);
                while !done.get() {
                    most = most.max(taken.get() - before);
                    before = taken.get();
                    yield_now().await;
                }
                assert!(most <= 1032, "{most} items between two turns of a neighbour");
            };
            tokio::join!(drains, watches);
        })
        .await;
}

/// Polls a few times, because a sender first yields.
async fn goes_into_the_line(mut sender: Pin<&mut impl Future>) {
    for _ in 0..20 {
        assert!(
            poll_fn(|cx| Poll::Ready(sender.as_mut().poll(cx).is_pending())).await,
            "the sender found a free slot"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn waiting_send_all_gets_its_slots_together_or_frees_them() {
    for goes in [false, true] {
        let (sender, receiver) = queue::bounded(4).unwrap();
        sender.send_all(&mut (0..4).collect()).await.unwrap();
        let mut items = (4..7).collect();
        let mut first = Box::pin(sender.send_all(&mut items));
        let mut second = Box::pin(sender.send(7));
        goes_into_the_line(first.as_mut()).await;
        goes_into_the_line(second.as_mut()).await;
        let mut taken = Vec::new();
        assert_eq!(receiver.recv_many(&mut taken, 9).await, 4);
        if goes {
            drop(first);
            second.await.unwrap();
            (0..3).for_each(|item| sender.try_send(item).unwrap());
        } else {
            // The future that is polled first is not the first in line.
            second.await.unwrap();
            assert!(sender.try_send(0).is_err(), "slots of the first sender were given to another one");
            first.await.unwrap();
        }
        assert!(sender.try_send(0).is_err(), "more items than the capacity");
        assert_eq!(receiver.recv_many(&mut taken, 9).await, 4);
        assert_eq!(taken[4..], if goes { [7, 0, 1, 2] } else { [7, 4, 5, 6] });
    }
}

/// The sender may find a free slot before it is in line. Otherwise it is in line after a bounded number of polls, and
/// the next sender is behind it.
#[tokio::test(start_paused = true)]
async fn sender_queues_as_a_waiter_after_a_bounded_number_of_polls() {
    let (sender, receiver) = queue::bounded(1).unwrap();
    sender.send(0).await.unwrap();
    let mut waits = pin!(sender.send(1));
    let is_in_line =
        || receiver.stats().iter().any(|(name, stat)| name == "senders_waiting" && stat.to_string() == "1");
    for looks in 0.. {
        assert!(poll_fn(|cx| Poll::Ready(waits.as_mut().poll(cx).is_pending())).await);
        if is_in_line() {
            break;
        }
        assert!(looks < 32, "the sender never joined the line");
        assert!(receiver.recv().await.is_some());
        sender.try_send(2).unwrap();
    }
    assert_eq!(receiver.recv().await, Some(2));
    assert!(sender.try_send(3).is_err(), "a new sender overtook the sender in line");
    waits.await.unwrap();
    assert_eq!(receiver.recv().await, Some(1));
}

#[tokio::test]
async fn try_reserve_takes_no_slot_from_a_sender_in_line() {
    let (sender, receiver) = queue::bounded(1).unwrap();
    let permit = sender.try_reserve().unwrap();
    assert_eq!(sender.try_reserve().unwrap_err(), TrySendError::Full(()));
    let mut waits = pin!(sender.send(2));
    // It yields a few times before it enters the line.
    for _ in 0..100 {
        assert!(now(waits.as_mut()).is_none());
    }
    permit.send(1).unwrap();
    assert_eq!(receiver.recv().await, Some(1));
    assert_eq!(sender.try_reserve().unwrap_err(), TrySendError::Full(()));
    waits.await.unwrap();
    assert_eq!(receiver.recv().await, Some(2));
    drop(sender.try_reserve().unwrap());
    receiver.close();
    assert_eq!(sender.try_reserve().unwrap_err(), TrySendError::Closed(()));
}

#[tokio::test(start_paused = true)]
async fn named_queue_is_in_snapshots_until_it_ends() {
    scope(async |n: &Nursery<()>| {
        let (sender, receiver) = queue::builder(4).name("jobs").build_in(n).unwrap();
        sender.send(1).await.unwrap();
        sender.send(2).await.unwrap();
        let held = receiver.lease().await.unwrap();
        let permit = sender.reserve().await.unwrap();
        let seen = n.snapshot().to_string();
        assert!(seen.contains("queue `jobs`: len 1, later 0, leased 1, permits 1,"), "{seen}");
        drop((permit, held, receiver));
        drop(sender);
        assert!(n.snapshot().components.is_empty());
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test(start_paused = true)]
async fn unbounded_queue_takes_every_item_in_order() {
    let (sender, receiver) = queue::unbounded();
    for item in 0..10_000 {
        sender.try_send(item).unwrap();
    }
    assert_eq!(sender.capacity(), None);
    drop(receiver.lease().await);
    for item in 0..10_000 {
        assert_eq!(receiver.recv().await, Some(item));
    }
    sender.join().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn dead_letter_to_a_closed_queue_frees_its_slot() {
    let (dead, letters) = queue::bounded(1).unwrap();
    let (sender, receiver) = queue::builder(1).dead_letters(NonZeroU32::MIN, dead).build().unwrap();
    drop(letters);
    sender.send(1).await.unwrap();
    drop(receiver.lease().await);
    sender.join().await.unwrap();
    assert!(sender.try_send(2).is_ok());
}

#[tokio::test(start_paused = true)]
async fn receiver_of_a_closed_queue_waits_for_leased_items() {
    let (sender, receiver) = queue::bounded(4).unwrap();
    sender.send(1).await.unwrap();
    let lease = receiver.lease().await.unwrap();
    drop(sender);
    let waits = receiver.recv_timeout(Duration::from_secs(1)).await;
    assert_eq!(waits, Err(queue::TryRecvError::Empty));
    lease.retry(Duration::from_secs(2)).await.unwrap();
    assert_eq!(receiver.recv().await, Some(1));
    assert_eq!(receiver.recv().await, None);
}

/// The item is the holder's: it was neither returned to the queue nor tried too often.
#[tokio::test(start_paused = true)]
async fn lease_dropped_after_shutdown_now_makes_no_dead_letter() {
    let (dead, letters) = queue::bounded(4).unwrap();
    let (sender, receiver) = queue::builder(4).dead_letters(NonZeroU32::MIN, dead).build().unwrap();
    for item in 0..3 {
        sender.send(item).await.unwrap();
    }
    let leases = [receiver.lease().await.unwrap(), receiver.lease().await.unwrap()];
    assert_eq!(receiver.shutdown_now(), [2]);
    let [done, dropped] = leases;
    assert_eq!(done.done().await, Err(queue::LeaseError::Closed));
    drop(dropped);
    assert_eq!(letters.try_recv().map(|letter| letter.item), Err(queue::TryRecvError::Empty));
    sender.join().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn dropped_join_does_not_keep_the_end_from_a_receiver() {
    let (sender, receiver) = queue::bounded(4).unwrap();
    sender.send(1).await.unwrap();
    let lease = receiver.lease().await.unwrap();
    sender.close();
    let mut waits = pin!(receiver.recv());
    assert!(timeout(Duration::from_secs(1), &mut waits).await.is_err());
    assert!(timeout(Duration::from_secs(1), sender.join()).await.is_err());
    lease.done().await.unwrap();
    assert_eq!(timeout(Duration::from_secs(1), waits).await, Ok(None));
}

/// A receiver that has been granted an item may be polled late.
#[tokio::test(start_paused = true)]
async fn delayed_item_is_received_though_another_receiver_is_unpolled() {
    let (sender, receiver) = queue::bounded(4).unwrap();
    sender.send("later").await.unwrap();
    receiver.lease().await.unwrap().retry(Duration::from_secs(5)).await.unwrap();
    let (mut first, mut second) = (pin!(receiver.recv()), pin!(receiver.recv()));
    assert!(timeout(Duration::from_secs(1), &mut first).await.is_err());
    assert!(timeout(Duration::from_secs(1), &mut second).await.is_err());
    sender.send("now").await.unwrap();
    assert_eq!(timeout(Duration::from_secs(5), second).await, Ok(Some("later")));
    assert_eq!(first.await, Some("now"));
}
