//! Calls of a handler: their answers, cancellation and panics.

use std::future::pending;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use motet::middleware::{Chain, Handler, Next, with_state};
use motet::task::{Nursery, race, scope};
use tokio::time::{Instant, sleep};

use super::{Noting, pass};
use crate::notes::Log;

fn is_shared<T: Clone + Send + Sync + 'static>(_: &T) {}

#[tokio::test]
async fn requests_and_answers_need_not_be_sync_or_clone() {
    /// Neither `Sync` nor `Clone`.
    struct Odd(std::cell::Cell<u32>);
    let odd = |n| Odd(std::cell::Cell::new(n));
    let handler = Chain::new().with(pass).to(move |request: Odd| async move { odd(request.0.get() * 10) });
    is_shared(&handler);
    let (one, two) = tokio::join!(handler.call(odd(1)), handler.call(odd(2)));
    assert_eq!((one.0.get(), two.0.get()), (10, 20));
}

#[tokio::test]
async fn middleware_that_answers_itself_skips_the_inner_middleware() {
    let log = Log::default();
    let refuse = |n: u32, next: Next<u32, Result<u32, &'static str>>| async move {
        if n == 0 {
            return Err("nothing");
        }
        next.run(n).await
    };
    let handler = Chain::new().with(refuse).with(Noting("inside", log.clone())).to(async |n| Ok(100 / n));
    assert_eq!(handler.call(0).await, Err("nothing"));
    assert!(log.read().is_empty());
    assert_eq!(handler.call(5).await, Ok(20));
    assert_eq!(log.read().len(), 3);
}

#[tokio::test]
async fn clone_of_next_runs_the_same_inner_middleware() {
    let log = Log::default();
    let twice = async |n: u32, next: Next<u32, u32>| {
        let first = next.clone().run(n).await;
        first + next.run(n * 10).await
    };
    let handler = Chain::new()
        .with(Noting("out", log.clone()))
        .with(twice)
        .with(Noting("in", log.clone()))
        .to(async |n| n);
    assert_eq!(handler.call(1).await, 11);
    let begun = log.read().iter().filter(|line| line.ends_with("begins")).cloned().collect::<Vec<_>>();
    assert_eq!(begun, ["out begins", "in begins", "in begins"]);
}

#[tokio::test(start_paused = true)]
async fn clones_of_next_run_concurrently() {
    let both = async |n: u64, next: Next<u64, u64>| {
        let (a, b) = tokio::join!(next.clone().run(n), next.run(n + 1));
        a + b
    };
    let handler = Chain::new().with(both).to(async |n| {
        sleep(Duration::from_secs(n)).await;
        n
    });
    let begun = Instant::now();
    assert_eq!(handler.call(1).await, 3);
    assert_eq!(begun.elapsed(), Duration::from_secs(2));
}

#[tokio::test]
async fn handler_is_called_at_the_first_poll() {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let handler = Chain::new().with(pass).to(move |n: u32| {
        counted.fetch_add(1, Ordering::Relaxed);
        async move { n }
    });
    let call = handler.call(1);
    assert_eq!(calls.load(Ordering::Relaxed), 0);
    assert_eq!(call.await, 1);
    assert_eq!(calls.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn dropped_call_drops_the_futures_inside_it_innermost_first() {
    let log = Log::default();
    let held = log.clone();
    let handler: Handler<(), ()> =
        Chain::new().with(Noting("out", log.clone())).with(Noting("in", log.clone())).to(move |()| {
            let held = held.at_drop("handler dropped");
            async move {
                let _held = held;
                pending().await
            }
        });
    let mut call = handler.call(());
    let mut cx = Context::from_waker(Waker::noop());
    assert!(call.as_mut().poll(&mut cx).is_pending());
    drop(call);
    assert_eq!(log.read()[2..], ["handler dropped", "in dropped", "out dropped"]);
}

#[tokio::test(start_paused = true)]
async fn call_completes_after_its_handler_is_dropped() {
    let log = Log::default();
    let handler = Chain::new().with(Noting("out", log.clone())).with(pass).to(async |n: u32| {
        sleep(Duration::from_secs(1)).await;
        n
    });
    let call = handler.call(7);
    drop(handler);
    assert_eq!(call.await, 7);
}

#[tokio::test]
async fn panic_of_the_handler_resumes_and_the_chain_still_works() {
    let log = Log::default();
    let handler = Chain::new().with(Noting("out", log.clone())).with(pass).to(async |n: u32| -> u32 {
        assert!(n > 0, "nothing");
        n
    });
    let mut call = handler.call(0);
    let mut cx = Context::from_waker(Waker::noop());
    let panicked = catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(&mut cx))).unwrap_err();
    assert_eq!(panicked.downcast_ref::<&str>(), Some(&"nothing"));
    drop(call);
    assert_eq!(log.read(), ["out begins", "out dropped"]);
    // The chain can be called again.
    assert_eq!(handler.call(1).await, 1);
}

#[tokio::test]
async fn call_runs_in_the_task_of_its_caller() {
    tokio::task_local! {
        static WHO: &'static str;
    }
    let handler = Chain::new().with(pass).to(async |()| WHO.get());
    assert_eq!(WHO.scope("the caller", handler.call(())).await, "the caller");
}

#[tokio::test(start_paused = true)]
async fn inner_call_that_loses_a_race_is_dropped_at_once() {
    let log = Log::default();
    let part = log.clone();
    let hurry = move |n: u32, next: Next<u32, u32>| {
        let log = part.clone();
        async move {
            let late = async {
                sleep(Duration::from_millis(10)).await;
                0
            };
            let answer = race(next.run(n), late).await.into_inner();
            log.note("decided");
            answer
        }
    };
    let handler = Chain::new().with(hurry).with(Noting("in", log.clone())).to(async |n: u32| {
        sleep(Duration::from_secs(1)).await;
        n
    });
    assert_eq!(handler.call(9).await, 0);
    assert_eq!(log.read(), ["in begins", "in dropped", "decided"]);
}

#[tokio::test]
async fn calls_of_100_tasks_share_the_state_of_a_middleware() {
    let count = Arc::new(AtomicU32::new(0));
    async fn counted(count: Arc<AtomicU32>, n: u32, next: Next<u32, u32>) -> u32 {
        count.fetch_add(1, Ordering::Relaxed);
        next.run(n).await
    }
    let handler = Chain::new().with(pass).with(with_state(Arc::clone(&count), counted)).to(async |n| n);
    scope(async |n: &Nursery| {
        for at in 0..100 {
            let handler = handler.clone();
            n.spawn("call", async move {
                for round in 0..10 {
                    assert_eq!(handler.call(at + round).await, at + round);
                }
            });
        }
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(count.load(Ordering::Relaxed), 1_000);
    // The calls have released everything that they shared.
    drop(handler);
    assert_eq!(Arc::strong_count(&count), 1);
}
