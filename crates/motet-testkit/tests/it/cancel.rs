//! Dropping an operation everywhere.

use std::cell::Cell;
use std::future::{pending, poll_fn};
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::time::Duration;

use motet::sim::{PollKind, TaskHook};
use motet_testkit::cancel::Outcome;
use motet_testkit::mock::value;
use motet_testkit::{CancelEverywhere, MockFn, cancel_everywhere};
use tokio::sync::{Mutex, Semaphore, mpsc, oneshot};
use tokio::task::yield_now;
use tokio::time::sleep;

/// Counts those within, with a guard or by hand.
#[derive(Debug, Default)]
struct Counted {
    inside: Cell<usize>,
}

struct Inside<'a>(&'a Counted);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.inside.set(self.0.inside.get() - 1);
    }
}

impl Counted {
    fn enter(&self) -> Inside<'_> {
        self.inside.set(self.inside.get() + 1);
        Inside(self)
    }
}

struct State {
    permits: Semaphore,
    counted: Counted,
}

async fn state() -> State {
    State { permits: Semaphore::new(1), counted: Counted::default() }
}

async fn three_awaits() {
    sleep(Duration::from_secs(1)).await;
    yield_now().await;
    sleep(Duration::from_secs(1)).await;
}

async fn by_hand(state: &State) {
    let _permit = state.permits.acquire().await.unwrap();
    state.counted.inside.set(state.counted.inside.get() + 1);
    three_awaits().await;
    state.counted.inside.set(state.counted.inside.get() - 1);
}

async fn guarded(state: &State) {
    let _permit = state.permits.acquire().await.unwrap();
    let _inside = state.counted.enter();
    three_awaits().await;
}

fn panic_of(run: impl FnOnce()) -> String {
    let payload = catch_unwind(AssertUnwindSafe(run)).expect_err("it passes");
    *payload.downcast::<String>().unwrap()
}

#[test]
fn counter_without_a_guard_is_wrong_after_a_drop_at_its_awaits() {
    let wrong = std::cell::RefCell::new(Vec::new());
    let report = cancel_everywhere(state, by_hand, async |state: &State, outcome| {
        if state.counted.inside.get() != 0 {
            wrong.borrow_mut().push(outcome);
        }
    });
    let wrong = wrong.into_inner();
    // Not before the first poll, nor at the first suspension, which is the `acquire`, nor once it is done.
    assert_eq!(report.points(), wrong.len() + 2, "{wrong:?}");
    assert!(wrong.len() >= 3, "{wrong:?}");
    let right =
        [Outcome::Completed(()), Outcome::Dropped { suspensions: 0 }, Outcome::Dropped { suspensions: 1 }];
    assert!(!right.iter().any(|outcome| wrong.contains(outcome)), "{wrong:?}");
}

#[test]
fn broken_invariant_fails_with_the_point_of_the_drop() {
    let said = panic_of(|| {
        cancel_everywhere(state, by_hand, async |state: &State, _| {
            assert_eq!(state.counted.inside.get(), 0, "the counter is not back at zero");
        });
    });
    assert!(
        said.starts_with("cancel_everywhere, dropped after suspension 2: the invariant panicked"),
        "{said}"
    );
    assert!(
        said.contains("the counter is not back at zero") && said.contains("operation: pending"),
        "{said}"
    );
}

#[test]
fn counter_with_a_guard_is_right_after_a_drop_at_each_await() {
    let completed = Cell::new(0);
    let report = cancel_everywhere(state, guarded, async |state: &State, outcome| {
        assert_eq!((state.counted.inside.get(), state.permits.available_permits()), (0, 1));
        completed.set(completed.get() + usize::from(outcome == Outcome::Completed(())));
    });
    assert!(report.points() >= 4, "{report:?}");
    assert_eq!(completed.get(), 1);
}

#[test]
fn await_of_a_ready_value_is_a_point_to_drop_at() {
    // Never contended: in an ordinary run nothing here suspends.
    let report = cancel_everywhere(
        async || Mutex::new(0),
        async |total: &Mutex<u32>| {
            let read = *total.lock().await;
            *total.lock().await = read + 1;
        },
        async |total: &Mutex<u32>, outcome| {
            let expected = u32::from(outcome == Outcome::Completed(()));
            assert_eq!(*total.lock().await, expected);
        },
    );
    assert_eq!(report.points(), 3);
}

#[test]
fn first_await_of_a_ready_value_is_a_point_to_drop_at() {
    let at_the_lock = async |(lock, counted): &(Mutex<()>, Counted)| {
        counted.inside.set(1);
        drop(lock.lock().await);
        counted.inside.set(0);
    };
    let said = panic_of(|| {
        cancel_everywhere(
            async || (Mutex::new(()), Counted::default()),
            at_the_lock,
            async |(_, counted): &(Mutex<()>, Counted), _| assert_eq!(counted.inside.get(), 0),
        );
    });
    assert!(said.contains("dropped after suspension 1: the invariant panicked"), "{said}");
}

#[test]
fn first_call_of_a_mock_is_a_point_to_drop_at() {
    let at_the_call = async |(charge, counted): &(MockFn<(u32,), ()>, Counted)| {
        counted.inside.set(1);
        charge.call((1,)).await;
        counted.inside.set(0);
    };
    let said = panic_of(|| {
        cancel_everywhere(
            async || {
                let charge = MockFn::new("charge");
                charge.script([value(())]);
                (charge, Counted::default())
            },
            at_the_call,
            async |(_, counted): &(MockFn<(u32,), ()>, Counted), _| assert_eq!(counted.inside.get(), 0),
        );
    });
    assert!(said.contains("dropped after suspension 1: the invariant panicked"), "{said}");
}

#[test]
fn slot_lost_at_the_first_await_is_found() {
    // The classic: a slot is taken, then a connection made; dropped while it connects, it keeps the slot.
    let connect = async |(slots, network): &(Semaphore, Mutex<()>)| {
        slots.try_acquire().unwrap().forget();
        drop(network.lock().await);
        slots.add_permits(1);
    };
    let said = panic_of(|| {
        cancel_everywhere(
            async || (Semaphore::new(1), Mutex::new(())),
            connect,
            async |(slots, _): &(Semaphore, Mutex<()>), _| {
                assert_eq!(slots.available_permits(), 1, "a slot is lost");
            },
        );
    });
    assert!(said.contains("dropped after suspension 1") && said.contains("a slot is lost"), "{said}");
}

#[test]
fn coop_budget_used_by_the_set_up_adds_no_drop_point() {
    let report = cancel_everywhere(
        async || {
            let total = Mutex::new(0);
            for _ in 0..100 {
                *total.lock().await += 1;
            }
            total
        },
        async |total: &Mutex<u32>| *total.lock().await += 1,
        async |_: &Mutex<u32>, _| {},
    );
    assert_eq!(report.points(), 2);
}

#[test]
fn invariant_gets_the_result_or_the_drop_of_the_operation() {
    // `recv` is cancel-safe: an item is either handed out or still there.
    cancel_everywhere(
        async || {
            let (sender, receiver) = mpsc::channel(4);
            sender.send(1).await.unwrap();
            Mutex::new(receiver)
        },
        async |receiver: &Mutex<mpsc::Receiver<u32>>| receiver.lock().await.recv().await,
        async |receiver: &Mutex<mpsc::Receiver<u32>>, outcome| match outcome {
            Outcome::Completed(item) => assert_eq!(item, Some(1)),
            Outcome::Dropped { .. } => assert_eq!(receiver.lock().await.recv().await, Some(1)),
        },
    );
}

#[test]
fn invariant_may_wait() {
    let waited = Cell::new(0);
    cancel_everywhere(
        async || (),
        async |()| yield_now().await,
        async |(), _| {
            sleep(Duration::from_secs(60)).await;
            waited.set(waited.get() + 1);
        },
    );
    assert_eq!(waited.get(), 3);
}

#[test]
fn limits_end_a_run_that_never_ends() {
    let nothing = async || ();
    let limits = CancelEverywhere::new().max_points(50).virtual_limit(Duration::from_secs(5));
    let said = panic_of(|| {
        limits.run(nothing, async |()| pending::<()>().await, async |(), _| {});
    });
    assert!(said.contains("the operation does not end within the limit of virtual time"), "{said}");
    let endless = async |(): &()| loop {
        yield_now().await;
    };
    let said = panic_of(|| {
        limits.run(nothing, endless, async |(), _: Outcome<()>| {});
    });
    assert!(said.contains("the operation suspends more than 50 times"), "{said}");
    let said = panic_of(|| {
        limits.run(async || pending::<()>().await, async |()| (), async |(), _| {});
    });
    assert!(said.contains("the set-up does not end within the limit of virtual time"), "{said}");
    let said = panic_of(|| {
        limits.run(nothing, async |()| (), async |(), _| pending().await);
    });
    assert!(said.contains("the invariant does not end within the limit of virtual time"), "{said}");
}

#[test]
fn always_statement_that_is_false_fails_the_run() {
    let said = panic_of(|| {
        cancel_everywhere(async || (), async |()| motet::always!(false, "said within"), async |(), _| {});
    });
    assert!(said.contains("does not hold: said within"), "{said}");
}

#[test]
fn nondeterministic_operation_fails_the_run() {
    // Suspends twice in the first run and once in each further one: the last point would never be tried.
    let runs = Cell::new(0);
    let said = panic_of(|| {
        cancel_everywhere(
            async || runs.replace(runs.get() + 1),
            async |run: &u32| {
                yield_now().await;
                if *run == 0 {
                    yield_now().await;
                }
            },
            async |_: &u32, _| {},
        );
    });
    assert!(said.contains("dropped after suspension 2: the operation goes differently"), "{said}");
    assert!(said.contains("has ended after 1 in this one"), "{said}");
}

#[test]
fn task_that_panics_after_the_invariant_fails_the_run() {
    let said = panic_of(|| {
        cancel_everywhere(
            async || (),
            async |(): &()| {
                let mut hook = TaskHook::new("late", Location::caller(), PollKind::Work);
                let mut late = Box::pin(async {
                    yield_now().await;
                    panic!("too hot");
                });
                #[expect(clippy::disallowed_methods, reason = "a task that no scope waits for")]
                drop(tokio::spawn(poll_fn(move |cx| hook.poll(cx, |cx| late.as_mut().poll(cx)))));
            },
            async |(): &(), _| {},
        );
    });
    assert!(said.contains("`late` panicked: too hot"), "{said}");
}

#[test]
fn task_left_over_by_a_dropped_operation_fails_the_run() {
    let said = panic_of(|| {
        cancel_everywhere(
            async || (),
            async |(): &()| {
                #[expect(clippy::disallowed_methods, reason = "the test is about tasks without a scope")]
                let helper = tokio::spawn(pending::<()>());
                sleep(Duration::from_secs(1)).await;
                helper.abort();
            },
            async |(): &(), _| {},
        );
    });
    assert!(said.contains("dropped after suspension 1: tasks outlive the body: 1 without a name"), "{said}");
}

#[test]
fn task_that_ends_with_the_dropped_state_is_not_left_over() {
    cancel_everywhere(
        async || {
            let (stop, stopped) = oneshot::channel::<()>();
            let helper = async move { drop(stopped.await) };
            #[expect(clippy::disallowed_methods, reason = "the test is about tasks without a scope")]
            drop(tokio::spawn(helper));
            stop
        },
        async |_: &oneshot::Sender<()>| yield_now().await,
        async |_: &oneshot::Sender<()>, _| {},
    );
}
