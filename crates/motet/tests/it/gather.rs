//! `gather`: order, errors, and the time of drops.

use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn, ready};
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use motet::task::{gather, try_gather};
use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, sleep};

const SECOND: Duration = Duration::from_secs(1);

struct Counted<'a>(&'a Cell<usize>);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn gather_runs_concurrently_and_keeps_the_order_of_outputs() {
    let begin = Instant::now();
    let outputs = gather([3, 1, 2].map(async |seconds| {
        sleep(SECOND * seconds).await;
        seconds
    }));
    assert_eq!(outputs.await, [3, 1, 2]);
    assert_eq!(begin.elapsed(), SECOND * 3);
}

#[tokio::test(start_paused = true)]
async fn gather_of_no_futures_completes_without_an_output() {
    assert!(gather(Vec::<std::future::Ready<u8>>::new()).await.is_empty());
    assert_eq!(try_gather(Vec::<std::future::Ready<Result<u8, u8>>>::new()).await, Ok(vec![]));
}

#[tokio::test(start_paused = true)]
async fn gather_runs_every_future_despite_an_error() {
    let results = gather([1, 2, 3].map(async |seconds| {
        sleep(SECOND * seconds).await;
        if seconds == 1 { Err("one") } else { Ok(seconds) }
    }));
    assert_eq!(results.await, [Err("one"), Ok(2), Ok(3)]);
}

#[tokio::test(start_paused = true)]
async fn first_error_ends_try_gather_and_drops_the_other_futures() {
    let dropped = Cell::new(0);
    let begin = Instant::now();
    let mut failed = try_gather([3, 1, 2, 0].map(|seconds| {
        let dropped = &dropped;
        async move {
            let _counted = Counted(dropped);
            sleep(SECOND * seconds).await;
            if seconds == 0 { Ok(0) } else { Err::<u32, _>(seconds) }
        }
    }));
    // Awaited in place: nothing but its end drops what it holds.
    let error = (&mut failed).await;
    assert_eq!((error, dropped.get(), begin.elapsed()), (Err(1), 4, SECOND));
}

#[tokio::test(start_paused = true)]
async fn try_gather_without_an_error_returns_outputs_in_order() {
    let outputs = try_gather([2, 0, 1].map(async |seconds| {
        sleep(SECOND * seconds).await;
        Ok::<_, ()>(seconds)
    }));
    assert_eq!(outputs.await, Ok(vec![2, 0, 1]));
}

#[tokio::test(start_paused = true)]
async fn gather_of_many_futures_lets_other_tasks_run() {
    let turns = Arc::new(AtomicUsize::new(0));
    let mut others = JoinSet::new();
    let theirs = Arc::clone(&turns);
    others.spawn(async move {
        loop {
            theirs.fetch_add(1, Ordering::Relaxed);
            yield_now().await;
        }
    });
    let outputs = gather((0..100_000_usize).map(async |at| {
        if at % 2 == 0 {
            yield_now().await;
        }
        at
    }))
    .await;
    assert!(outputs.into_iter().eq(0..100_000));
    // 150 000 polls, at most 128 in a turn.
    assert!(turns.load(Ordering::Relaxed) >= 1000);
}

#[test]
fn one_poll_of_gather_polls_128_futures_outside_of_a_runtime() {
    let polls = Cell::new(0);
    let mut gather = gather((0..1000).map(|_| async { polls.set(polls.get() + 1) }));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(std::pin::Pin::new(&mut gather).poll(&mut cx).is_pending());
    assert_eq!(polls.get(), 128);
}

#[tokio::test(start_paused = true)]
async fn gather_polls_only_the_future_that_was_woken() {
    let polls = RefCell::new([0; 64]);
    gather((0..64).map(|at| {
        let polls = &polls;
        let mut timer = Box::pin(sleep(SECOND * at as u32));
        poll_fn(move |cx| {
            polls.borrow_mut()[at] += 1;
            timer.as_mut().poll(cx)
        })
    }))
    .await;
    // The first timer is ready at once; each of the others is polled once to arm it and once when it fires.
    assert_eq!(polls.borrow()[1..], [2; 63]);
}

#[tokio::test(start_paused = true)]
async fn panic_in_gather_resumes_drops_futures_and_keeps_outputs() {
    let dropped = Cell::new(0);
    let mut gather = gather((0..3).map(|at| {
        let counted = Counted(&dropped);
        async move {
            match at {
                0 => return Some(counted),
                1 => panic_any("one"),
                _ => pending::<()>().await,
            }
            Some(counted)
        }
    }));
    let polled = poll_fn(|cx| {
        let poll = || std::pin::Pin::new(&mut gather).poll(cx);
        Poll::Ready(catch_unwind(AssertUnwindSafe(poll)).map(|_| ()))
    });
    assert_eq!(polled.await.unwrap_err().downcast_ref(), Some(&"one"));
    // The output of the first waits with the future of `gather`.
    assert_eq!(dropped.get(), 2);
    drop(gather);
    assert_eq!(dropped.get(), 3);
}

#[tokio::test(start_paused = true)]
async fn dropped_gather_drops_futures_and_outputs() {
    let dropped = Cell::new(0);
    let mut gather = gather((0..10).map(|at| {
        let counted = Counted(&dropped);
        async move {
            if at % 2 == 0 {
                pending::<()>().await;
            }
            counted
        }
    }));
    assert!(futures_poll(&mut gather).is_pending());
    assert_eq!(dropped.get(), 0);
    drop(gather);
    assert_eq!(dropped.get(), 10);
}

fn futures_poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    std::pin::Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
#[should_panic = "`gather` was polled after its end"]
fn polling_gather_after_its_end_panics() {
    let mut gather = gather([ready(1)]);
    assert!(futures_poll(&mut gather).is_ready());
    drop(futures_poll(&mut gather));
}

#[tokio::test]
async fn gather_of_send_futures_is_send() {
    let mut set = JoinSet::new();
    set.spawn(async {
        let texts = ["a".to_owned(), "bc".to_owned()];
        let lengths = gather(texts.iter().map(async |text| {
            yield_now().await;
            text.len()
        }));
        let checked = try_gather([ready(Ok::<_, String>(1))]).await;
        (lengths.await, checked)
    });
    assert_eq!(set.join_next().await.unwrap().unwrap(), (vec![1, 2], Ok(vec![1])));
}
