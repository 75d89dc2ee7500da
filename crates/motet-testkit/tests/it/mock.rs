use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::panic::{self, AssertUnwindSafe};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use motet_testkit::MockFn;
use motet_testkit::mock::{Outcome, PendingCall, after, call, err, ok, on_demand, panics, pending, value};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

const MS: Duration = Duration::from_millis(1);

type Fetch = MockFn<(u64,), Result<String, &'static str>>;

/// Neither `Clone` nor `Debug` nor `PartialEq`.
struct Opaque(u32);

fn poll_once<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

fn text_of(payload: Box<dyn std::any::Any + Send>) -> String {
    match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => (*payload.downcast::<&str>().expect("a panic with text")).into(),
    }
}

/// Returns the panic message of `future`.
async fn panic_of<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> String {
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        future.await;
    });
    let end = tasks.join_next().await.expect("a task was spawned");
    text_of(end.expect_err("it returned").into_panic())
}

fn panic_of_sync(assertion: impl FnOnce()) -> String {
    text_of(panic::catch_unwind(AssertUnwindSafe(assertion)).expect_err("the assertion held"))
}

async fn call_in_task<A, R>(mock: &MockFn<A, R>, args: A) -> String
where
    A: fmt::Debug + Send + Sync + 'static,
    R: Send + 'static,
{
    let mock = mock.clone();
    panic_of(async move { mock.call(args).await }).await
}

#[tokio::test(start_paused = true)]
async fn clones_of_a_mock_take_the_steps_of_one_script_in_order() {
    let get = Fetch::new("get");
    get.script([ok("one".into()), err("busy")]).script([value(Ok("three".into()))]);
    assert_eq!(get.call((1,)).await.unwrap(), "one");
    assert_eq!(get.clone().call((2,)).await, Err("busy"));
    assert_eq!(get.call((3,)).await.unwrap(), "three");
    get.assert_calls(3);
    get.clone().assert_called_with(&[(1,), (2,), (3,)]);
    assert!(get.calls().iter().all(|call| call.outcome() == Outcome::Returned));
}

#[tokio::test(start_paused = true)]
async fn exhausted_script_panics_with_the_history_of_calls() {
    let get = Fetch::new("get_user");
    get.script([after(20 * MS, ok("Ada".into())), pending()]);
    get.call((7,)).await.unwrap();
    timeout(5 * MS, get.call((8,))).await.unwrap_err();
    let text = call_in_task(&get, (9,)).await;
    let expected = "mock `get_user` was called with (9,) after the end of its script: add a step, or \
                    define further answers with `then` or `then_repeat_last`\n\
                    calls of `get_user`:\n  \
                    1. (7,) at 0ns: ok, returned after 20ms\n  \
                    2. (8,) at 20ms: pending, cancelled after 5ms\n  \
                    3. (9,) at 25ms: no step left, panicked after 0ns";
    assert_eq!(text, expected);
}

#[tokio::test(start_paused = true)]
async fn recorded_times_are_those_of_the_virtual_clock() {
    let get = Fetch::new("get");
    get.script([after(20 * MS, after(30 * MS, err("late")))]);
    sleep(5 * MS).await;
    let begin = Instant::now();
    let call = get.call((1,));
    sleep(5 * MS).await;
    assert_eq!(call.await, Err("late"));
    let record = &get.calls()[0];
    assert_eq!(record.started() - begin, 5 * MS, "a call starts with its first poll");
    assert_eq!(record.ended().unwrap() - record.started(), 50 * MS);
}

#[tokio::test(start_paused = true)]
async fn call_never_polled_is_not_counted_and_takes_no_step() {
    let get = Fetch::new("get");
    get.script([err("the only one")]);
    drop(get.call((1,)));
    get.assert_calls(0);
    assert_eq!(get.call((2,)).await, Err("the only one"));
}

#[tokio::test(start_paused = true)]
async fn dropped_call_is_recorded_as_cancelled() {
    let get = Fetch::new("get");
    let hang = || call(async |_| std::future::pending().await);
    get.script([pending(), after(MS * 1000, err("late")), on_demand(), hang(), err("in time")]);
    for n in 0..4 {
        timeout(10 * MS, get.call((n,))).await.unwrap_err();
    }
    get.call((4,)).await.unwrap_err();
    get.assert_cancelled(4);
    get.assert_max_concurrent(1);
    let ends = get.calls().iter().map(|call| call.ended().unwrap() - call.started()).collect::<Vec<_>>();
    assert_eq!(ends, [10 * MS, 10 * MS, 10 * MS, 10 * MS, Duration::ZERO]);
}

#[tokio::test(start_paused = true)]
async fn scripted_panic_is_recorded_as_a_panic() {
    let get = Fetch::new("get");
    get.script([
        panics("the disk is gone"),
        call(|_| -> std::future::Ready<_> { panic!("before the future") }),
        call(async |_| {
            sleep(MS).await;
            panic!("in the future")
        }),
    ]);
    get.then(|| panic!("while making a step"));
    for expected in ["the disk is gone", "before the future", "in the future", "while making a step"] {
        assert_eq!(call_in_task(&get, (1,)).await, expected);
    }
    assert!(get.calls().iter().all(|call| call.outcome() == Outcome::Panicked), "{get:?}");
    get.assert_cancelled(0);
}

#[tokio::test(start_paused = true)]
async fn call_dropped_by_a_panic_of_its_caller_counts_as_cancelled() {
    let get = Fetch::new("get");
    get.script([call(async |_| std::future::pending().await), pending()]);
    let mock = get.clone();
    let text = panic_of(async move {
        let (mut one, mut two) = (pin!(mock.call((1,))), pin!(mock.call((2,))));
        assert!(poll_once(one.as_mut()).is_pending() && poll_once(two.as_mut()).is_pending());
        panic!("of the caller")
    })
    .await;
    assert_eq!(text, "of the caller");
    get.assert_cancelled(2);
}

#[tokio::test(start_paused = true)]
async fn function_as_a_step_receives_the_arguments() {
    let get = Fetch::new("get");
    get.script([call(|(id,)| async move {
        sleep(id as u32 * MS).await;
        Ok(format!("user {id}"))
    })])
    .then_repeat_last();
    let (one, two) = tokio::join!(get.call((20,)), get.call((10,)));
    assert_eq!([one.unwrap(), two.unwrap()], ["user 20", "user 10"]);
    get.assert_max_concurrent(2);
}

#[tokio::test(start_paused = true)]
async fn last_step_repeats_after_the_script_before_it() {
    let get = Fetch::new("get");
    get.script([err("first"), after(10 * MS, ok("last".into()))]).then_repeat_last();
    assert_eq!(get.call((0,)).await, Err("first"));
    for n in 1..4 {
        let begin = Instant::now();
        assert_eq!(get.call((n,)).await.unwrap(), "last");
        assert_eq!(begin.elapsed(), 10 * MS);
    }
    get.assert_calls(4);
}

#[tokio::test(start_paused = true)]
async fn step_scripted_later_comes_between_repeats() {
    let next = MockFn::<(), u32>::new("next");
    next.script([value(1)]).then_repeat_last();
    next.script([value(2)]);
    let answers = [next.call(()).await, next.call(()).await, next.call(()).await];
    assert_eq!(answers, [1, 2, 1]);
}

#[tokio::test(start_paused = true)]
async fn pending_panic_and_on_demand_steps_can_repeat() {
    let hangs = MockFn::<(), ()>::new("hangs");
    hangs.script([pending()]).then_repeat_last();
    let breaks = MockFn::<(), ()>::new("breaks");
    breaks.script([panics("broken")]).then_repeat_last();
    let asks = MockFn::<(), u32>::new("asks");
    asks.script([on_demand()]).then_repeat_last();
    for n in 0..3 {
        timeout(MS, hangs.call(())).await.unwrap_err();
        assert_eq!(call_in_task(&breaks, ()).await, "broken");
        let (answer, ()) = tokio::join!(asks.call(()), async { asks.next_call().await.reply(n) });
        assert_eq!(answer, n);
    }
}

#[tokio::test(start_paused = true)]
async fn answers_from_then_need_no_clone_and_come_after_the_script() {
    let get = MockFn::<(), Opaque>::new("get");
    get.script([value(Opaque(1))]).then(|| value(Opaque(2)));
    get.script([value(Opaque(3))]);
    let mut answers = Vec::new();
    for _ in 0..4 {
        answers.push(get.call(()).await.0);
    }
    assert_eq!(answers, [1, 3, 2, 2], "steps scripted later still come before `then`");
}

#[test]
fn repeating_the_last_step_of_an_empty_script_panics() {
    let text = panic_of_sync(|| Fetch::new("get").then_repeat_last());
    assert_eq!(text, "mock `get` has no step to repeat: add one to the script first");
}

#[tokio::test(start_paused = true)]
async fn reply_reaches_the_call_it_was_made_for() {
    let get = MockFn::<(&str,), u32>::new("get");
    get.then(on_demand);
    let test = async {
        let (one, two) = (get.next_call().await, get.next_call().await);
        assert_eq!((one.args(), two.args()), (&("one",), &("two",)));
        two.reply(2);
        sleep(10 * MS).await;
        one.reply(1);
    };
    let (one, two, ()) = tokio::join!(get.call(("one",)), get.call(("two",)), test);
    assert_eq!((one, two), (1, 2));
    let took: Vec<_> = get.calls().iter().map(|call| call.ended().unwrap() - call.started()).collect();
    assert_eq!(took, [10 * MS, Duration::ZERO]);
}

#[tokio::test(start_paused = true)]
async fn waiting_next_call_receives_a_later_call() {
    let get = MockFn::<(u32,), u32>::new("get");
    get.then(on_demand);
    let answer_one = || async {
        let call = get.next_call().await;
        let answer = call.args().0 * 10;
        call.reply(answer);
    };
    let late = async {
        sleep(10 * MS).await;
        tokio::join!(get.call((1,)), get.call((2,)))
    };
    let both = async { tokio::join!(answer_one(), answer_one(), late) };
    let ((), (), answers) = timeout(20 * MS, both).await.expect("a waiting next_call was not woken");
    assert_eq!(answers, (10, 20));
}

#[tokio::test(start_paused = true)]
async fn cancelled_next_call_leaves_the_call_to_the_next_waiter() {
    let get = MockFn::<(u32,), u32>::new("get");
    get.then(on_demand);
    let (mut cancelled, mut waiting) = (Box::pin(get.next_call()), pin!(get.next_call()));
    assert!(poll_once(cancelled.as_mut()).is_pending());
    assert!(poll_once(waiting.as_mut()).is_pending());
    let mut call = pin!(get.call((1,)));
    assert!(poll_once(call.as_mut()).is_pending());
    // Woken for the call, and dropped before it looks.
    drop(cancelled);
    timeout(MS, waiting).await.expect("the other waiter was not woken").reply(10);
    assert_eq!(call.await, 10);
}

#[tokio::test(start_paused = true)]
async fn next_call_skips_cancelled_calls() {
    let get = MockFn::<(u32,), u32>::new("get");
    get.then(on_demand);
    timeout(MS, get.call((1,))).await.unwrap_err();
    let (answer, args) = tokio::join!(get.call((2,)), async {
        let call = get.next_call().await;
        let args = *call.args();
        call.reply(0);
        args
    });
    assert_eq!((answer, args), (0, (2,)));
}

#[tokio::test(start_paused = true)]
async fn taken_call_reports_that_its_caller_was_cancelled() {
    let get = MockFn::<(u32,), u32>::new("get");
    get.then(on_demand);
    let test = async {
        let mut call: PendingCall<_, _> = get.next_call().await;
        assert!(!call.is_cancelled());
        timeout(100 * MS, call.cancelled()).await.expect("the cancellation is not noticed");
        assert!(call.is_cancelled());
        call.reply(1);
    };
    let (answer, ()) = tokio::join!(timeout(10 * MS, get.call((1,))), test);
    answer.unwrap_err();
    get.assert_cancelled(1);
}

#[tokio::test(start_paused = true)]
async fn caller_panics_if_its_taken_call_is_dropped_without_a_reply() {
    let get = MockFn::<(u32,), u32>::new("get");
    get.then(on_demand);
    let (text, ()) = tokio::join!(call_in_task(&get, (5,)), async { drop(get.next_call().await) });
    let expected = "call 1 of mock `get`, with (5,), was taken by `next_call` and dropped without a reply: \
                    answer it with `reply`";
    assert_eq!(text, expected);
    assert_eq!(get.calls()[0].outcome(), Outcome::Panicked);
}

#[tokio::test(start_paused = true)]
async fn max_concurrent_is_the_highest_number_of_running_calls() {
    let get = MockFn::<(u32,), ()>::new("get");
    get.script([after(10 * MS, value(()))]).then_repeat_last();
    get.assert_max_concurrent(0);
    get.call((0,)).await;
    get.assert_max_concurrent(1);
    let mut tasks = JoinSet::new();
    for n in 0..100 {
        let get = get.clone();
        tasks.spawn(async move {
            sleep(n / 10 * 20 * MS).await;
            get.call((n,)).await;
        });
    }
    tasks.join_all().await;
    get.assert_calls(101);
    get.assert_max_concurrent(10);
}

#[tokio::test(start_paused = true)]
async fn failed_assertion_reports_expected_actual_and_history() {
    let get = MockFn::<(u32,), ()>::new("get");
    get.script([value(()), pending()]);
    get.call((1,)).await;
    timeout(MS, get.call((2,))).await.unwrap_err();

    type Assertion = fn(&MockFn<(u32,), ()>);
    let cases: [(Assertion, &str); 9] = [
        (|get| get.assert_calls(1), "was called 2 times, not 1"),
        (|get| get.assert_calls(3), "was called 2 times, not 3"),
        (|get| get.assert_called_with(&[(1,), (3,)]), "had (2,) in call 2, not (3,)"),
        (|get| get.assert_called_with(&[(1,)]), "was called 2 times, not 1"),
        (|get| get.assert_called_with(&[(1,), (2,), (3,)]), "was called 2 times, not 3"),
        (|get| get.assert_max_concurrent(0), "had 1 concurrent calls, not 0"),
        (|get| get.assert_max_concurrent(2), "had 1 concurrent calls, not 2"),
        (|get| get.assert_cancelled(0), "was cancelled in 1 calls, not 0"),
        (|get| get.assert_cancelled(2), "was cancelled in 1 calls, not 2"),
    ];
    let history = "calls of `get`:\n  1. (1,) at 0ns: value, returned after 0ns\n  \
                   2. (2,) at 0ns: pending, cancelled after 1ms";
    for (assertion, words) in cases {
        assert_eq!(panic_of_sync(|| assertion(&get)), format!("mock `get` {words}\n{history}"));
    }
    let never = panic_of_sync(|| Fetch::new("never").assert_calls(1));
    assert_eq!(never, "mock `never` was called 0 times, not 1\n`never` was never called");
}

#[tokio::test(start_paused = true)]
async fn running_call_is_recorded_without_an_end() {
    let get = Fetch::new("get");
    get.then(pending);
    let mut call = pin!(get.call((1,)));
    assert!(poll_once(call.as_mut()).is_pending());
    let record = &get.calls()[0];
    assert_eq!((record.outcome(), record.ended()), (Outcome::Running, None));
    let text = panic_of_sync(|| get.assert_cancelled(1));
    assert!(text.ends_with("1. (1,) at 0ns: pending, still running"), "{text}");
}

/// A task that sets the flag as soon as it is let run.
fn bystander() -> (JoinSet<()>, Arc<AtomicBool>) {
    let (mut tasks, ran) = (JoinSet::new(), Arc::new(AtomicBool::new(false)));
    let flag = Arc::clone(&ran);
    tasks.spawn(async move { flag.store(true, Ordering::Relaxed) });
    (tasks, ran)
}

#[tokio::test(start_paused = true)]
async fn ready_answers_let_other_tasks_run() {
    let get = MockFn::<(), ()>::new("get");
    get.then(|| value(()));
    let (_task, ran) = bystander();
    for _ in 0..1_000 {
        get.call(()).await;
    }
    assert!(ran.load(Ordering::Relaxed), "a thousand calls in one poll");
}

#[tokio::test(start_paused = true)]
async fn next_call_lets_other_tasks_run() {
    let get = MockFn::<(), ()>::new("get");
    get.then(on_demand);
    let mut callers = JoinSet::new();
    for _ in 0..1_000 {
        let get = get.clone();
        callers.spawn(async move { get.call(()).await });
    }
    sleep(MS).await;
    let (_task, ran) = bystander();
    for _ in 0..1_000 {
        get.next_call().await.reply(());
    }
    assert!(ran.load(Ordering::Relaxed), "a thousand calls taken in one poll");
    callers.join_all().await;
}

#[test]
fn ready_answer_needs_no_runtime() {
    let get = MockFn::<(), u32>::new("get");
    get.script([value(1)]);
    assert_eq!(poll_once(pin!(get.call(()))), Poll::Ready(1));
    get.assert_calls(1);
}

/// Queries the mock wherever foreign code may run: under the lock it would deadlock.
struct Nosy(MockFn<Self, Self>);

thread_local!(static ASKED: Cell<usize> = const { Cell::new(0) });

impl Nosy {
    fn ask(&self) {
        ASKED.set(ASKED.get() + 1);
        let _ = self.0.max_concurrent();
    }
}

impl Clone for Nosy {
    fn clone(&self) -> Self {
        self.ask();
        Self(self.0.clone())
    }
}

impl fmt::Debug for Nosy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ask();
        f.write_str("Nosy")
    }
}

impl PartialEq for Nosy {
    fn eq(&self, _: &Self) -> bool {
        self.ask();
        true
    }
}

impl Drop for Nosy {
    fn drop(&mut self) {
        self.ask();
    }
}

#[tokio::test(start_paused = true)]
async fn user_code_runs_outside_the_lock_of_a_mock() {
    let get = MockFn::<Nosy, Nosy>::new("get");
    let nosy = || Nosy(get.clone());
    get.script([()].map(|()| {
        let _ = get.max_concurrent();
        value(nosy())
    }));
    get.script([call(async |args| args)]).script([value(nosy())]).then_repeat_last();
    for _ in 0..4 {
        drop(get.call(nosy()).await);
    }
    get.assert_called_with(&[nosy(), nosy(), nosy(), nosy()]);
    let (one, kept) = (nosy(), nosy());
    get.then(move || value(one.clone()));
    get.then(move || value(kept.clone()));
    get.call(nosy()).await;
    get.then(on_demand);
    timeout(MS, get.call(nosy())).await.unwrap_err();
    timeout(MS, get.next_call()).await.unwrap_err();
    panic_of_sync(|| get.assert_calls(0));
    assert!(ASKED.get() > 20, "only {} times", ASKED.get());
}

#[tokio::test]
async fn assert_exhausted_fails_while_steps_are_left() {
    let save = MockFn::<(), Result<(), ()>>::new("save");
    save.assert_exhausted();
    save.script([ok(()), ok(()), ok(())]).then_repeat_last();
    save.call(()).await.unwrap();
    let said = panic_of_sync(|| save.assert_exhausted());
    assert!(said.starts_with("mock `save` has 2 unused steps"), "{said}");
    for _ in 0..3 {
        save.call(()).await.unwrap();
    }
    save.assert_exhausted();
}

#[test]
fn mock_is_send_and_sync_and_its_futures_are_send() {
    fn shared<T: Clone + Send + Sync>(_: &T) {}
    fn sent<T: Send>(_: &T) {}
    let get = MockFn::<(u64,), Opaque>::new("get");
    shared(&get);
    sent(&get.call((1,)));
    sent(&get.next_call());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_from_other_threads_are_all_answered() {
    const CALLS: u32 = 500;
    let get = MockFn::<(u32,), u32>::new("get");
    get.then(on_demand);
    let mut tasks = JoinSet::new();
    for n in 0..CALLS {
        let caller = get.clone();
        tasks.spawn(async move { assert_eq!(caller.call((n,)).await, n) });
        let test = get.clone();
        tasks.spawn(async move {
            let call = test.next_call().await;
            let answer = call.args().0;
            call.reply(answer);
        });
    }
    tasks.join_all().await;
    get.assert_calls(CALLS as usize);
    get.assert_cancelled(0);
}
