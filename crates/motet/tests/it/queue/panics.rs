//! Code of users that panics when a queue calls it.

use std::num::NonZeroU32;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};

use motet::queue::{self, DeadLetter};
use tokio::time::Instant;

use super::now;

#[tokio::test(start_paused = true)]
async fn panic_of_a_due_time_function_frees_the_slot_of_its_item() {
    let (sender, receiver) = queue::delay(1, |item: &u32| match item {
        0 => panic!("no such time"),
        _ => Instant::now(),
    })
    .unwrap();
    let sent = catch_unwind(AssertUnwindSafe(|| sender.try_send(0)));
    assert!(sent.is_err());
    let sent = catch_unwind(AssertUnwindSafe(|| now(sender.send(0))));
    assert!(sent.is_err());
    let permit = now(sender.reserve()).unwrap().unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| permit.send(0))).is_err());
    assert!(sender.try_send(1).is_ok());
    assert_eq!(receiver.recv().await, Some(1));
}

#[tokio::test(start_paused = true)]
async fn dead_letter_whose_rank_panics_is_lost_and_others_are_not() {
    let (dead, letters) = queue::priority(1, |letter: &DeadLetter<u32>| match letter.item {
        1 | 3 => panic!("no such rank"),
        _ => 0,
    })
    .unwrap();
    let other = dead.clone();
    let (sender, receiver) = queue::builder(4).dead_letters(NonZeroU32::MIN, dead).build().unwrap();
    for item in 0..4 {
        sender.send(item).await.unwrap();
    }
    for _ in 0..4 {
        drop(receiver.lease().await);
    }
    for item in [0, 2] {
        assert_eq!(letters.recv().await.map(|letter| letter.item), Some(item));
    }
    sender.join().await.unwrap();
    assert!(other.try_send(DeadLetter { item: 4, attempts: 1 }).is_ok(), "a lost dead letter keeps its slot");
}

struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("an item panics in its drop");
    }
}

#[tokio::test(start_paused = true)]
async fn dead_letter_that_panics_on_drop_does_not_block_join() {
    let (dead, letters) = queue::bounded(1).unwrap();
    drop(letters);
    let (sender, receiver) = queue::builder(4).dead_letters(NonZeroU32::MIN, dead).build().unwrap();
    for _ in 0..3 {
        assert!(sender.send(Some(Bomb)).await.is_ok());
    }
    for _ in 0..3 {
        drop(receiver.lease().await);
    }
    sender.join().await.unwrap();
}

/// Panics, or counts how often it is woken.
struct Alarm {
    panics: bool,
    woken: AtomicUsize,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        assert!(!self.panics, "a waker has a bug");
        self.woken.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn close_wakes_other_receivers_despite_a_panicking_waker() {
    let (sender, receiver) = queue::bounded::<u32>(1).unwrap();
    let alarms: Vec<_> =
        [true, false, false].map(|panics| Arc::new(Alarm { panics, woken: AtomicUsize::new(0) })).into();
    let wakers: Vec<Waker> = alarms.iter().map(|alarm| Waker::from(Arc::clone(alarm))).collect();
    let mut waiting = [pin!(receiver.recv()), pin!(receiver.recv()), pin!(receiver.recv())];
    for (waits, waker) in waiting.iter_mut().zip(&wakers) {
        // At the first poll the receiver yields.
        while waits.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {}
        assert!(waits.as_mut().poll(&mut Context::from_waker(waker)).is_pending());
    }
    let _ = catch_unwind(AssertUnwindSafe(|| sender.close()));
    let woken: Vec<_> = alarms.iter().map(|alarm| alarm.woken.load(Ordering::Relaxed)).collect();
    assert_eq!(woken, [0, 1, 1]);
}
