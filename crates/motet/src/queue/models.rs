//! Loom models of the hand-off, under every interleaving of two threads.
//!
//! The simulator has one thread, so it cannot find errors between threads. The cursors, the slots, the flags and the
//! line are those of the queue. A lost wake is a deadlock, which loom reports.

use std::future::poll_fn;

use loom::future::block_on;
use loom::sync::Arc;
use loom::thread;

use super::core::{QueueCore, Take};
use super::cursors::Cursors;
use super::recv_waiter::{RecvWaiter, RecvWaiterGuard};
use super::ring::{Ring, slots};
use super::send_waiter::Sending;
use super::storage::Storage;

fn queue(capacity: usize) -> Arc<QueueCore<Box<u32>>> {
    let cursors = Cursors::new(capacity, Some(slots(capacity)));
    Arc::new(QueueCore::new(cursors, Storage::Ring(Ring::new(capacity)), None))
}

/// Runs a model with at most `preemptions` switches away from a thread that could continue: all interleavings take
/// minutes, and most bugs need two switches.
fn model(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 20_000;
    builder.check(model);
}

fn on_a_thread(
    core: &Arc<QueueCore<Box<u32>>>,
    work: impl FnOnce(&QueueCore<Box<u32>>) + Send + 'static,
) -> thread::JoinHandle<()> {
    let core = Arc::clone(core);
    thread::spawn(move || work(&core))
}

async fn recv(core: &QueueCore<Box<u32>>) -> Option<u32> {
    let mut waiter = RecvWaiterGuard::new(core);
    poll_fn(|cx| waiter.poll_recv(cx)).await.map(|item| *item)
}

async fn send(core: &QueueCore<Box<u32>>, item: u32) -> bool {
    Sending::new(core, Box::new(item)).await.is_ok()
}

#[test]
fn parked_receiver_wakes_for_an_item() {
    model(3, || {
        let core = queue(2);
        let sender = on_a_thread(&core, |core| assert!(block_on(send(core, 7))));
        assert_eq!(block_on(recv(&core)), Some(7));
        sender.join().unwrap();
    });
}

#[test]
fn parked_sender_wakes_for_a_free_slot() {
    model(3, || {
        let core = queue(1);
        assert!(block_on(send(&core, 1)));
        let sender = on_a_thread(&core, |core| assert!(block_on(send(core, 2))));
        assert_eq!(block_on(recv(&core)), Some(1));
        assert_eq!(block_on(recv(&core)), Some(2));
        sender.join().unwrap();
    });
}

#[test]
fn concurrent_receivers_get_each_item_once() {
    model(2, || {
        let core = queue(2);
        let takes = |core: &Arc<QueueCore<Box<u32>>>| {
            let core = Arc::clone(core);
            thread::spawn(move || block_on(recv(&core)).unwrap())
        };
        let one = takes(&core);
        assert!(block_on(send(&core, 1)));
        assert!(block_on(send(&core, 2)));
        let mut all = [block_on(recv(&core)).unwrap(), one.join().unwrap()];
        all.sort_unstable();
        assert_eq!(all, [1, 2]);
    });
}

#[test]
fn close_during_a_send_keeps_an_accepted_item_and_ends_recv() {
    model(3, || {
        let core = queue(1);
        let closer = on_a_thread(&core, QueueCore::close);
        let sent = block_on(send(&core, 1));
        assert_eq!(block_on(recv(&core)), sent.then_some(1));
        assert_eq!(block_on(recv(&core)), None);
        closer.join().unwrap();
    });
}

#[test]
fn released_permit_wakes_a_parked_sender() {
    model(3, || {
        let core = queue(1);
        core.hold(1).unwrap();
        let gives_up = on_a_thread(&core, |core| core.release(1));
        assert!(block_on(send(&core, 1)));
        gives_up.join().unwrap();
        assert_eq!((core.cursors.len(), core.cursors.held()), (1, 0));
    });
}

#[test]
fn returned_lease_wakes_a_parked_receiver() {
    model(3, || {
        let core = queue(1);
        assert!(block_on(send(&core, 1)));
        let Ok(Some(entry)) = RecvWaiter::try_take(&core, Take::Leased) else {
            panic!("an item is in the queue")
        };
        let gives_back = on_a_thread(&core, move |core| core.take_back(entry, None));
        assert_eq!(block_on(recv(&core)), Some(1));
        gives_back.join().unwrap();
        assert!(core.is_settled() && core.cursors.held() == 0);
    });
}

#[test]
fn dropped_receiver_passes_its_item_to_the_next_receiver() {
    model(2, || {
        let core = queue(1);
        let goes = on_a_thread(&core, |core| {
            let mut waiter = RecvWaiterGuard::new(core);
            // Twice: at the first poll the receiver yields before it parks.
            for _ in 0..2 {
                let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
                if waiter.poll_recv(&mut cx).is_ready() {
                    // This receiver was faster: the other one gets another item.
                    assert!(block_on(send(core, 1)));
                    return;
                }
            }
        });
        assert!(block_on(send(&core, 1)));
        assert_eq!(block_on(recv(&core)), Some(1));
        goes.join().unwrap();
    });
}

#[test]
fn queue_is_unsettled_while_the_holder_of_a_lease_sends_an_item() {
    model(3, || {
        let core = queue(2);
        assert!(block_on(send(&core, 1)));
        let Ok(Some(entry)) = RecvWaiter::try_take(&core, Take::Leased) else {
            panic!("an item is in the queue")
        };
        let works = on_a_thread(&core, move |core| {
            assert!(block_on(send(core, 2)));
            drop(entry);
            core.settle();
        });
        assert!(!core.is_settled(), "one of the two items is always unsettled");
        works.join().unwrap();
    });
}

#[test]
fn sender_wakes_when_a_lease_and_a_take_race_for_the_item() {
    model(2, || {
        let core = queue(1);
        assert!(block_on(send(&core, 1)));
        let leases = on_a_thread(&core, |core| {
            if let Ok(Some(entry)) = RecvWaiter::try_take(core, Take::Leased) {
                drop(entry);
                core.settle();
            }
        });
        let takes = on_a_thread(&core, |core| drop(RecvWaiter::try_take(core, Take::Settled)));
        // One of the two frees a slot.
        assert!(block_on(send(&core, 2)));
        leases.join().unwrap();
        takes.join().unwrap();
    });
}

#[test]
fn upgrade_succeeds_only_before_the_last_sender_is_dropped() {
    model(3, || {
        let core = queue(2);
        let upgrades = |core: &QueueCore<Box<u32>>| {
            if core.add_sender_unless_last_dropped() {
                assert!(!core.cursors.is_closed(), "the queue of a living sender is closed");
                core.drop_sender();
            }
        };
        let drops = on_a_thread(&core, |core| core.drop_sender());
        let other = on_a_thread(&core, upgrades);
        upgrades(&core);
        drops.join().unwrap();
        other.join().unwrap();
        assert!(core.cursors.is_closed(), "no sender is left");
        assert!(!core.add_sender_unless_last_dropped());
    });
}
