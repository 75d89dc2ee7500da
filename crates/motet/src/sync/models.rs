//! Models of the gate, of the notification and of the set of wakers under every order in which two or three threads can meet,
//! with loom.
//!
//! `RUSTFLAGS="--cfg motet_loom" cargo test -p motet --lib models`, which `cargo xtask test` does. What needs two
//! threads is out of reach of the simulator, which has one: these are the tests for it, and for the bugs planted
//! there.

use std::future::poll_fn;
use std::process::Command;
use std::task::Context;

use loom::future::block_on;
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::sync::{Arc, Mutex};
use loom::thread;

use super::{Class, Entered, Gate, Notify, WakerSet, WakerSetEntry};
use crate::sim::mutants;

const WORK: Class = Class::Work;

fn enters(gate: &Gate, class: Class) -> bool {
    gate.enter(class) != Entered::Refused
}

async fn emptied(gate: &Gate, class: Class) {
    poll_fn(|cx| gate.poll_until(cx, || gate.count(class) == 0)).await;
}

/// At most two switches away from a thread that could go on; all orders of three threads take minutes, and most
/// bugs need one or two.
fn three_threads(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(model);
}

#[test]
fn child_enters_or_the_scope_closes_but_never_both() {
    loom::model(|| {
        let gate = Arc::new(Gate::new());
        let child = thread::spawn({
            let gate = Arc::clone(&gate);
            move || enters(&gate, WORK)
        });
        let closed = gate.close();
        let entered = child.join().unwrap();
        assert!(closed != entered, "closed: {closed}, entered: {entered}");
        assert_eq!((gate.is_closed(), gate.count(WORK)), (closed, usize::from(entered)));
    });
}

#[test]
fn scope_closes_at_most_once_and_admits_no_child_after() {
    loom::model(|| {
        let gate = Arc::new(Gate::new());
        assert!(enters(&gate, WORK));
        let tries = |gate: &Arc<Gate>| {
            let gate = Arc::clone(gate);
            thread::spawn(move || {
                let closed = gate.close();
                assert!(!enters(&gate, WORK) || !closed);
                closed
            })
        };
        let one = tries(&gate);
        gate.leave(WORK);
        let two = gate.close();
        assert!(!(one.join().unwrap() && two), "both closed it");
    });
}

/// Where the probe below finds the bug that it is to run with.
const PLANTED: &str = "MOTET_PLANTED";

#[test]
fn end_of_the_last_child_wakes_the_scope() {
    let _planted = std::env::var(PLANTED).ok().map(mutants::enable);
    loom::model(|| {
        let gate = Arc::new(Gate::new());
        let wrote = Arc::new(AtomicBool::new(false));
        assert!(enters(&gate, WORK));
        let child = thread::spawn({
            let (gate, wrote) = (Arc::clone(&gate), Arc::clone(&wrote));
            move || {
                wrote.store(true, Ordering::Relaxed);
                gate.leave(WORK);
            }
        });
        block_on(emptied(&gate, WORK));
        assert!(wrote.load(Ordering::Relaxed), "the scope ended and does not see what its child did");
        child.join().unwrap();
    });
}

/// In a process of its own: a deadlock that loom finds aborts it.
#[test]
fn planted_bugs_of_a_lost_wake_up_are_found() {
    // The first needs two threads: in one, nothing happens between the question and the waker.
    for planted in ["scope.check_once", "scope.skip_wake"] {
        let probe = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "sync::models::end_of_the_last_child_wakes_the_scope"])
            .env(PLANTED, planted)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&probe.stderr) + String::from_utf8_lossy(&probe.stdout);
        assert!(!probe.status.success() && said.contains("deadlock"), "{planted}: {said}");
    }
}

#[test]
fn scope_wakes_when_two_children_end_at_once() {
    three_threads(|| {
        let gate = Arc::new(Gate::new());
        let leaves = |class| {
            assert!(enters(&gate, class));
            let gate = Arc::clone(&gate);
            thread::spawn(move || _ = gate.leave(class))
        };
        let children = [leaves(WORK), leaves(WORK)];
        block_on(emptied(&gate, WORK));
        children.into_iter().for_each(|child| child.join().unwrap());
    });
}

#[test]
fn scope_wakes_for_the_last_child_beside_an_ending_service() {
    three_threads(|| {
        let gate = Arc::new(Gate::new());
        let leaves = |class| {
            assert!(enters(&gate, class));
            let gate = Arc::clone(&gate);
            thread::spawn(move || _ = gate.leave(class))
        };
        let (child, service) = (leaves(WORK), leaves(Class::Service));
        block_on(emptied(&gate, WORK));
        block_on(emptied(&gate, Class::Service));
        assert!(gate.close());
        child.join().unwrap();
        service.join().unwrap();
    });
}

/// The reference that members of a class share, as `Hold` has it: the first makes it, while it borrows one of its own,
/// and the last gives it back.
#[test]
fn scope_is_freed_once_and_only_after_its_last_task_left() {
    three_threads(|| {
        let gate = Arc::new(Gate::new());
        // One for each of the two that start a member.
        let references = Arc::new(AtomicUsize::new(2));
        let member = |gate: Arc<Gate>, references: Arc<AtomicUsize>| {
            let gives_back = |references: &AtomicUsize| {
                assert!(references.fetch_sub(1, Ordering::AcqRel) > 0, "given back twice");
            };
            if gate.enter(WORK) == Entered::First {
                references.fetch_add(1, Ordering::Relaxed);
            }
            gives_back(&references);
            assert!(references.load(Ordering::Acquire) > 0, "the scope is gone, and a member is inside");
            if gate.leave(WORK) {
                gives_back(&references);
            }
        };
        let start = || {
            let (gate, references) = (Arc::clone(&gate), Arc::clone(&references));
            thread::spawn(move || member(gate, references))
        };
        let members = [start(), start()];
        members.into_iter().for_each(|member| member.join().unwrap());
        assert_eq!(references.load(Ordering::Relaxed), 0, "the scope is never freed");
    });
}

/// The canceller sets a flag of its own, and wakes the joiner.
#[test]
fn cancellation_wakes_a_scope_that_is_about_to_sleep() {
    loom::model(|| {
        let gate = Arc::new(Gate::new());
        let cancelled = Arc::new(AtomicBool::new(false));
        assert!(enters(&gate, WORK));
        let canceller = thread::spawn({
            let (gate, cancelled) = (Arc::clone(&gate), Arc::clone(&cancelled));
            move || {
                // Relaxed, as the level of a scope: the joiner's lock orders the two.
                cancelled.store(true, Ordering::Relaxed);
                gate.wake_joiner();
            }
        });
        let done = || gate.count(WORK) == 0 || cancelled.load(Ordering::Relaxed);
        block_on(poll_fn(|cx| gate.poll_until(cx, done)));
        canceller.join().unwrap();
    });
}

/// A task of a dropped scope goes to the parent if the parent can still wait for it, and otherwise to the parent's parent.
#[test]
fn adopted_child_ends_before_the_scope_that_adopted_it() {
    loom::model(|| {
        let (parent, root) = (Arc::new(Gate::new()), Arc::new(Gate::new()));
        let ended = Arc::new(AtomicUsize::new(0));
        let adopter = thread::spawn({
            let (parent, root, ended) = (Arc::clone(&parent), Arc::clone(&root), Arc::clone(&ended));
            move || {
                let hosts = [&parent, &root];
                let host = hosts.into_iter().find(|host| enters(host, WORK)).expect("a root never closes");
                ended.fetch_add(1, Ordering::Relaxed);
                host.leave(WORK);
            }
        });
        block_on(poll_fn(|cx| parent.poll_until(cx, || parent.count(WORK) == 0)));
        if parent.close() {
            // It never came in, or it has left again; else it is above.
            let done_here = ended.load(Ordering::Relaxed) == 1;
            adopter.join().unwrap();
            block_on(emptied(&root, WORK));
            assert_eq!(ended.load(Ordering::Relaxed), 1, "ended in the parent: {done_here}");
        } else {
            block_on(emptied(&parent, WORK));
            assert_eq!(ended.load(Ordering::Relaxed), 1, "the parent took it and does not wait for it");
            adopter.join().unwrap();
        }
    });
}

/// The registration of a release from outside, and the end of the scope, as `finalizer::push` and `Core::close`
/// have them: the holder of the gate registers under the same lock under which the end looks and closes.
#[test]
fn registered_release_runs_before_its_scope_ends() {
    loom::model(|| {
        let gate = Arc::new(Gate::new());
        let pending = Arc::new(Mutex::new(0));
        let registers = thread::spawn({
            let (gate, pending) = (Arc::clone(&gate), Arc::clone(&pending));
            move || {
                let entered = enters(&gate, WORK);
                if entered {
                    *pending.lock().unwrap() += 1;
                    gate.leave(WORK);
                }
                usize::from(entered)
            }
        });
        let mut released = 0;
        loop {
            block_on(emptied(&gate, WORK));
            let mut pending = pending.lock().unwrap();
            released += std::mem::take(&mut *pending);
            if gate.close() {
                break;
            }
        }
        assert_eq!(registers.join().unwrap(), released);
    });
}

/// A waiter that creates its wait before it looks at the condition.
fn waits_for(notify: &Notify, condition: &AtomicBool) {
    block_on(async {
        loop {
            let notified = notify.notified();
            if condition.load(Ordering::Relaxed) {
                return;
            }
            notified.await;
        }
    });
}

#[test]
fn notification_between_check_and_wait_wakes_every_waiter() {
    three_threads(|| {
        let (notify, condition) = (Arc::new(Notify::default()), Arc::new(AtomicBool::new(false)));
        let waiters = [(); 2].map(|()| {
            let (notify, condition) = (Arc::clone(&notify), Arc::clone(&condition));
            thread::spawn(move || waits_for(&notify, &condition))
        });
        // Relaxed: the lock of the notification orders the two.
        condition.store(true, Ordering::Relaxed);
        notify.notify_waiters();
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
    });
}

#[test]
fn waiter_wakes_though_another_wait_is_dropped_concurrently() {
    loom::model(|| {
        let (notify, condition) = (Arc::new(Notify::default()), Arc::new(AtomicBool::new(false)));
        let mut dropped = Box::pin(notify.notified());
        let polled = dropped.as_mut().poll(&mut Context::from_waker(std::task::Waker::noop()));
        assert!(polled.is_pending());
        let waiter = thread::spawn({
            let (notify, condition) = (Arc::clone(&notify), Arc::clone(&condition));
            move || waits_for(&notify, &condition)
        });
        drop(dropped);
        condition.store(true, Ordering::Relaxed);
        notify.notify_waiters();
        waiter.join().unwrap();
    });
}

/// Two drains wait at one gate, which keeps the waker of the set, as [`drain`](crate::drain) has it.
#[test]
fn two_waiters_of_a_scope_wake_when_its_last_child_ends() {
    three_threads(|| {
        let (gate, wakers) = (Arc::new(Gate::new()), std::sync::Arc::<WakerSet>::default());
        assert!(enters(&gate, WORK));
        let waits = |gate: &Gate, wakers: &std::sync::Arc<WakerSet>| {
            let mut entry = WakerSetEntry::of(wakers);
            let all = entry.all();
            block_on(poll_fn(|cx| {
                entry.set(cx.waker());
                gate.poll_until(&Context::from_waker(&all), || gate.count(WORK) == 0)
            }));
        };
        let waiter = thread::spawn({
            let (gate, wakers) = (Arc::clone(&gate), std::sync::Arc::clone(&wakers));
            move || waits(&gate, &wakers)
        });
        let child = thread::spawn({
            let gate = Arc::clone(&gate);
            move || _ = gate.leave(WORK)
        });
        waits(&gate, &wakers);
        waiter.join().unwrap();
        child.join().unwrap();
    });
}
