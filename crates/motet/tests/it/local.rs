//! Local scopes: children that borrow, waits, drops, and wakers of any origin.

#![allow(clippy::disallowed_methods, reason = "the tests wake their own tasks")]

use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn, ready};
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use motet::task::{LocalNursery, LocalTask, local_scope};
use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, sleep};

const SECOND: Duration = Duration::from_secs(1);

/// Adds to a log when dropped.
struct Noted<'a>(&'a RefCell<Vec<u32>>, u32);

impl Drop for Noted<'_> {
    fn drop(&mut self) {
        self.0.borrow_mut().push(self.1);
    }
}

/// Panics when dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic_any("bomb");
    }
}

fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[tokio::test(start_paused = true)]
async fn local_children_may_borrow_differ_in_type_and_be_not_send() {
    let text = String::from("borrowed");
    let rc = Rc::new(Cell::new(0));
    let begin = Instant::now();
    let sum = local_scope(async |s| {
        let length = s.spawn(async { text.len() });
        let slow = s.spawn(async {
            sleep(SECOND).await;
            rc.set(rc.get() + 1);
            "slow"
        });
        s.spawn(ready([0_u8; 1000]));
        length.await + slow.await.len()
    });
    assert_eq!(sum.await, 12);
    assert_eq!((rc.get(), begin.elapsed()), (1, SECOND));
}

#[tokio::test(start_paused = true)]
async fn local_scope_waits_for_children_whose_handles_were_dropped() {
    let ended = Cell::new(0);
    let begin = Instant::now();
    local_scope(async |s| {
        for seconds in 1..=3 {
            let ended = &ended;
            s.spawn(async move {
                sleep(SECOND * seconds).await;
                ended.set(ended.get() + 1);
            });
        }
    })
    .await;
    assert_eq!((ended.get(), begin.elapsed()), (3, SECOND * 3));
}

#[tokio::test(start_paused = true)]
async fn local_scope_waits_for_children_started_by_children() {
    let depth = Cell::new(0);
    fn deeper<'s>(s: &'s LocalNursery<'s, '_>, depth: &'s Cell<u32>) {
        s.spawn(async move {
            sleep(SECOND).await;
            depth.set(depth.get() + 1);
            if depth.get() < 5 {
                deeper(s, depth);
            }
        });
    }
    let begin = Instant::now();
    local_scope(async |s| deeper(s, &depth)).await;
    assert_eq!((depth.get(), begin.elapsed()), (5, SECOND * 5));
}

#[tokio::test(start_paused = true)]
async fn children_can_await_tasks_of_their_siblings() {
    let value = local_scope(async |s| {
        let first = s.spawn(async {
            yield_now().await;
            20
        });
        // A child's output is a task in turn.
        let second = s.spawn(async { (s.spawn(async { first.await + 1 }),) });
        second.await.0.await * 2
    });
    assert_eq!(value.await, 42);
}

#[tokio::test(start_paused = true)]
async fn wake_polls_only_the_child_that_was_woken() {
    let polls = RefCell::new([0; 100]);
    let wakers = RefCell::new(vec![None; 100]);
    local_scope(async |s| {
        for at in 0..100 {
            let (polls, wakers) = (&polls, &wakers);
            s.spawn(poll_fn(move |cx| {
                polls.borrow_mut()[at] += 1;
                wakers.borrow_mut()[at] = Some(cx.waker().clone());
                if polls.borrow()[at] < 2 + at % 2 { Poll::Pending } else { Poll::Ready(()) }
            }));
        }
        // More polls than one turn has.
        sleep(SECOND).await;
        assert_eq!(*polls.borrow(), [1; 100]);
        let wake = |at: usize| wakers.borrow_mut()[at].take().into_iter().for_each(Waker::wake);
        wake(7);
        wake(8);
        sleep(SECOND).await;
        let others = polls.borrow().iter().enumerate().filter(|(_, polls)| **polls > 1).count();
        assert_eq!((polls.borrow()[7], polls.borrow()[8], others), (2, 2, 2));
        (0..100).for_each(wake);
        sleep(SECOND).await;
        (0..100).for_each(wake);
    })
    .await;
    assert!(polls.borrow().iter().enumerate().all(|(at, polls)| *polls == 2 + at % 2));
}

#[tokio::test(start_paused = true)]
async fn children_are_polled_in_the_order_of_their_wakes() {
    let order = RefCell::new(Vec::new());
    let wakers = RefCell::new(Vec::new());
    local_scope(async |s| {
        for at in 0..3 {
            let (order, wakers) = (&order, &wakers);
            let mut polled = false;
            s.spawn(poll_fn(move |cx| {
                order.borrow_mut().push(at);
                wakers.borrow_mut().push(cx.waker().clone());
                if std::mem::replace(&mut polled, true) { Poll::Ready(()) } else { Poll::Pending }
            }));
        }
        sleep(SECOND).await;
        for at in [2, 0, 1] {
            wakers.borrow()[at].wake_by_ref();
        }
    })
    .await;
    assert_eq!(*order.borrow(), [0, 1, 2, 2, 0, 1]);
}

#[tokio::test(start_paused = true)]
async fn spinning_child_lets_other_tasks_run() {
    let stop = Arc::new(AtomicBool::new(false));
    let mut others = JoinSet::new();
    let theirs = Arc::clone(&stop);
    others.spawn(async move { theirs.store(true, Ordering::Relaxed) });
    let spun = local_scope(async |s| {
        s.spawn(poll_fn(|cx| {
            if stop.load(Ordering::Relaxed) {
                return Poll::Ready(1);
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        }))
        .await
    });
    assert_eq!(spun.await, 1);
}

#[tokio::test(start_paused = true)]
async fn loop_of_scopes_with_ready_children_lets_other_tasks_run() {
    let stop = Arc::new(AtomicBool::new(false));
    let mut others = JoinSet::new();
    let theirs = Arc::clone(&stop);
    others.spawn(async move { theirs.store(true, Ordering::Relaxed) });
    while !stop.load(Ordering::Relaxed) {
        assert_eq!(local_scope(async |s| s.spawn(async { 1 }).await).await, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn dropped_scope_drops_its_children_last_first_then_the_body() {
    let log = RefCell::new(Vec::new());
    {
        let mut scope = pin!(local_scope(async |s| {
            let _body = Noted(&log, 0);
            for at in 1..=3 {
                let noted = Noted(&log, at);
                s.spawn(async move {
                    let _noted = noted;
                    pending::<()>().await;
                });
            }
            pending::<()>().await;
        }));
        assert!(poll_once(scope.as_mut()).is_pending());
        assert!(log.borrow().is_empty());
    }
    assert_eq!(*log.borrow(), [3, 2, 1, 0]);
}

#[test]
fn scope_never_polled_does_not_run_its_body() {
    let ran = Cell::new(false);
    drop(local_scope(async |_| ran.set(true)));
    assert!(!ran.get());
}

#[test]
fn each_output_is_dropped_once() {
    let log = RefCell::new(Vec::new());
    {
        let mut scope = pin!(local_scope(async |s| {
            // Dropped at once when the child ends.
            s.spawn(async { Noted(&log, 1) });
            // Dropped with the task, which is dropped with the body.
            let _kept = s.spawn(async { Noted(&log, 2) });
            // Dropped by the body.
            drop(s.spawn(async { Noted(&log, 3) }).await);
            pending::<()>().await;
        }));
        assert!(poll_once(scope.as_mut()).is_pending());
        assert_eq!(*log.borrow(), [1, 3]);
    }
    assert_eq!(*log.borrow(), [1, 3, 2]);
    let kept = pin!(local_scope(async |_| Noted(&log, 4)));
    let Poll::Ready(kept) = poll_once(kept) else { panic!() };
    assert_eq!(log.borrow().len(), 3);
    drop(kept);
    assert_eq!(log.borrow().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn panic_of_a_child_resumes_after_its_siblings_are_dropped() {
    let log = RefCell::new(Vec::new());
    let mut scope = pin!(local_scope(async |s| {
        for at in 1..=2 {
            let noted = Noted(&log, at);
            s.spawn(async move {
                let _noted = noted;
                // A second panic while the first is on its way.
                let _bomb = Bomb;
                pending::<()>().await;
            });
        }
        s.spawn(async {
            yield_now().await;
            panic_any(17)
        });
        let _noted = Noted(&log, 0);
        pending::<()>().await
    }));
    let payload = poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| scope.as_mut().poll(cx))) {
        Ok(polled) => polled.map(|()| panic!("it panics")),
        Err(payload) => Poll::Ready(payload),
    })
    .await;
    assert_eq!(payload.downcast_ref(), Some(&17));
    assert_eq!(*log.borrow(), [2, 1, 0]);
}

#[test]
fn panic_in_a_destructor_resumes_after_siblings_are_dropped() {
    let log = RefCell::new(Vec::new());
    let mut scope = Box::pin(local_scope(async |s| {
        for at in 1..=3 {
            let noted = Noted(&log, at);
            s.spawn(async move {
                let _noted = noted;
                let _bomb = Bomb;
                pending::<()>().await;
            });
        }
        pending::<()>().await;
    }));
    assert!(poll_once(scope.as_mut()).is_pending());
    let payload = catch_unwind(AssertUnwindSafe(|| drop(scope))).unwrap_err();
    assert_eq!(payload.downcast_ref(), Some(&"bomb"));
    assert_eq!(*log.borrow(), [3, 2, 1]);
}

#[test]
fn future_whose_destructor_panics_is_dropped_once() {
    struct Ends<'a>(&'a Cell<u32>);
    impl Future for Ends<'_> {
        type Output = ();
        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
            Poll::Ready(())
        }
    }
    impl Drop for Ends<'_> {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
            panic_any("end");
        }
    }
    let dropped = Cell::new(0);
    let scope = pin!(local_scope(async |s| s.spawn(Ends(&dropped)).await));
    let payload = catch_unwind(AssertUnwindSafe(|| poll_once(scope))).unwrap_err();
    assert_eq!((payload.downcast_ref(), dropped.get()), (Some(&"end"), 1));
}

#[test]
fn child_that_panics_in_drop_during_an_unwind_does_not_abort() {
    let payload = catch_unwind(|| {
        let mut scope = Box::pin(local_scope(async |s| {
            s.spawn(async {
                let _bomb = Bomb;
                pending::<()>().await;
            });
            pending::<()>().await;
        }));
        assert!(poll_once(scope.as_mut()).is_pending());
        panic_any("first");
    });
    assert_eq!(payload.unwrap_err().downcast_ref(), Some(&"first"));
}

#[test]
fn children_started_by_a_destructor_are_dropped() {
    struct Starts<'s, 'env>(&'s LocalNursery<'s, 'env>, &'s RefCell<Vec<u32>>, u32);
    impl Drop for Starts<'_, '_> {
        fn drop(&mut self) {
            let Self(s, log, at) = *self;
            log.borrow_mut().push(at);
            if at > 0 {
                let starts = Starts(s, log, at - 1);
                s.spawn(async move {
                    let _starts = starts;
                    pending::<()>().await;
                });
            }
        }
    }
    let log = RefCell::new(Vec::new());
    let mut scope = Box::pin(local_scope(async |s| {
        let starts = Starts(s, &log, 3);
        s.spawn(async move {
            let _starts = starts;
            pending::<()>().await;
        });
        pending::<()>().await;
    }));
    assert!(poll_once(scope.as_mut()).is_pending());
    drop(scope);
    assert_eq!(*log.borrow(), [3, 2, 1, 0]);
}

#[test]
fn task_polled_within_its_own_future_is_pending() {
    type Slot<'s> = RefCell<Option<LocalTask<'s, u32>>>;
    /// Polls the task, and drops it, while the future that owns it is being dropped.
    struct Looks<'a, 's>(&'a Slot<'s>, &'a RefCell<Vec<u32>>);
    impl Drop for Looks<'_, '_> {
        fn drop(&mut self) {
            let mut task = self.0.take().unwrap();
            let polled = poll_once(Pin::new(&mut task));
            self.1.borrow_mut().push(u32::from(polled.is_ready()));
        }
    }
    let log = &RefCell::new(Vec::new());
    for ends in [true, false] {
        let mut scope = Box::pin(local_scope(async |s| {
            let slot = Rc::new(Slot::default());
            let theirs = Rc::clone(&slot);
            let task = s.spawn(async move {
                let own = theirs;
                poll_fn(|_| {
                    let mut task = own.borrow_mut();
                    assert!(poll_once(Pin::new(task.as_mut().unwrap())).is_pending());
                    Poll::Ready(())
                })
                .await;
                let _looks = Looks(&own, log);
                if !ends {
                    pending::<()>().await;
                }
                7
            });
            *slot.borrow_mut() = Some(task);
        }));
        assert_eq!(poll_once(scope.as_mut()).is_ready(), ends);
    }
    assert_eq!(*log.borrow(), [0, 0]);
}

#[test]
#[should_panic = "polled after it returned its value"]
fn polling_a_task_after_its_end_panics() {
    let scope = pin!(local_scope(async |s| {
        let mut task = s.spawn(async { 1 });
        (&mut task).await + task.await
    }));
    let _ = poll_once(scope);
}

#[tokio::test(start_paused = true)]
async fn task_polled_once_and_moved_still_yields_its_value() {
    let value = local_scope(async |s| {
        let mut task = s.spawn(async {
            sleep(SECOND).await;
            5
        });
        assert!(poll_once(Pin::new(&mut task)).is_pending());
        task.await
    });
    assert_eq!(value.await, 5);
}

/// Leaves the scope's future behind, and keeps the waker of a child.
#[test]
fn waker_of_a_child_of_a_leaked_scope_can_be_used() {
    let kept = Cell::new(None);
    let mut scope = ManuallyDrop::new(Box::pin(local_scope(async |s| {
        let _task = s.spawn(async { 1 });
        s.spawn(poll_fn(|cx| {
            kept.set(Some(cx.waker().clone()));
            Poll::<()>::Pending
        }))
        .await;
    })));
    assert!(poll_once(scope.as_mut()).is_pending());
    let waker = kept.take().unwrap();
    waker.wake_by_ref();
    waker.wake();
    // Dropped after all, so that a leak checker reports nothing.
    drop(ManuallyDrop::into_inner(scope));
}

struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn wakes_from_another_thread_wake_the_scope_once() {
    let count = Arc::new(Count(AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&count));
    let mut cx = Context::from_waker(&waker);
    let (send, wakers) = mpsc::channel();
    let mut scope = pin!(local_scope(async |s| {
        for _ in 0..10 {
            let (send, mut polled) = (send.clone(), false);
            s.spawn(poll_fn(move |cx| {
                send.send(cx.waker().clone()).unwrap();
                if std::mem::replace(&mut polled, true) { Poll::Ready(()) } else { Poll::Pending }
            }));
        }
    }));
    assert!(scope.as_mut().poll(&mut cx).is_pending());
    assert_eq!(count.0.load(Ordering::Relaxed), 0);
    thread::scope(|threads| {
        let wakers: Vec<Waker> = wakers.try_iter().collect();
        assert_eq!(wakers.len(), 10);
        drop(threads.spawn(|| wakers.into_iter().for_each(Waker::wake)));
    });
    // The first finds the scope waiting; for the others it is awake.
    assert_eq!(count.0.load(Ordering::Relaxed), 1);
    assert!(scope.as_mut().poll(&mut cx).is_ready());
}

/// Threads wake, clone and drop wakers of children while these are polled, end and are dropped, and after it.
#[test]
fn wakes_of_other_threads_may_race_with_the_end_of_a_scope() {
    let rounds = if cfg!(miri) { 3 } else { 60 };
    for round in 0..rounds {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let shared: Mutex<Vec<Waker>> = Mutex::default();
        let stop = AtomicBool::new(false);
        let log = AtomicUsize::new(0);
        thread::scope(|threads| {
            for _ in 0..2 {
                threads.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        let wakers = shared.lock().unwrap().clone();
                        for waker in &wakers {
                            waker.wake_by_ref();
                            drop(waker.clone());
                        }
                        wakers.into_iter().for_each(Waker::wake);
                        thread::yield_now();
                    }
                });
            }
            let scope = local_scope(async |s| {
                for at in 0..20 {
                    let (shared, log) = (&shared, &log);
                    let mut left = at;
                    s.spawn(async move {
                        poll_fn(|cx| {
                            if left == 0 {
                                return Poll::Ready(());
                            }
                            left -= 1;
                            // Only the other threads wake it.
                            shared.lock().unwrap().push(cx.waker().clone());
                            Poll::Pending
                        })
                        .await;
                        log.fetch_add(1, Ordering::Relaxed);
                    });
                }
                if round % 2 == 1 {
                    // The scope is dropped with half of its children.
                    poll_fn(|cx| {
                        cx.waker().wake_by_ref();
                        if log.load(Ordering::Relaxed) < 10 { Poll::Pending } else { Poll::Ready(()) }
                    })
                    .await;
                    panic_any("enough");
                }
            });
            let ended = catch_unwind(AssertUnwindSafe(|| runtime.block_on(scope)));
            assert_eq!(ended.is_ok(), round % 2 == 0);
            // After the scope: wakes go on for a while.
            for _ in 0..10 {
                thread::yield_now();
            }
            stop.store(true, Ordering::Relaxed);
        });
        assert!(log.load(Ordering::Relaxed) >= 10 + 10 * usize::from(round % 2 == 0));
    }
}
