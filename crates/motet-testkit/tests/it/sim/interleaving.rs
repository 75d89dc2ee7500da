//! Bugs of order: found under seeds, and never without.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use motet::sim::Kind;
use motet_testkit::sim::{Cause, sim};
use tokio::sync::{Mutex, mpsc};
use tokio::time::{Instant, sleep};

use super::{failure, spawn, work};

/// Reads under the lock, and writes back under the lock taken again.
async fn add_twice_without_holding_the_lock() -> u32 {
    let total = Arc::new(Mutex::new(0));
    let tasks: Vec<_> = (0..2)
        .map(|_| {
            let total = Arc::clone(&total);
            work("adder", async move {
                let read = *total.lock().await;
                *total.lock().await = read + 1;
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    *total.lock().await
}

fn plain_runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

#[test]
fn a_lost_update_stays_hidden_from_a_sweep() {
    let plain =
        (0..500).filter(|_| plain_runtime().block_on(add_twice_without_holding_the_lock()) != 2).count();
    assert_eq!(plain, 0, "the bug shows without a simulation: it proves nothing about one");
    let failure = failure(
        sim(|| async { assert_eq!(add_twice_without_holding_the_lock().await, 2) }).seeds(100).check(),
        |cause| matches!(cause, Cause::Panicked { task, .. } if task == "body"),
    );
    let report = failure.to_string();
    assert!(report.contains("adder: polled, with "), "{report}");
}

#[test]
fn most_seeds_explore_the_same_schedule() {
    let sweep = sim(|| async {
        add_twice_without_holding_the_lock().await;
    })
    .seeds(200)
    .run();
    assert!(sweep.runs() == 1 || sweep.distinct() > 20, "{} of {}", sweep.distinct(), sweep.runs());
    assert!(sweep.steps() >= sweep.runs());
}

async fn order_of_equal_timers() -> Vec<u32> {
    let (sender, mut receiver) = mpsc::unbounded_channel();
    for number in 0..4 {
        let sender = sender.clone();
        work("sleeper", async move {
            sleep(Duration::from_secs(5)).await;
            sender.send(number).unwrap();
        });
    }
    drop(sender);
    let mut order = Vec::new();
    while let Some(number) = receiver.recv().await {
        order.push(number);
    }
    order
}

#[test]
fn timers_of_one_instant_always_fire_in_the_order_of_spawning() {
    assert_eq!(plain_runtime().block_on(order_of_equal_timers()), [0, 1, 2, 3]);
    failure(
        sim(|| async { assert_eq!(order_of_equal_timers().await, [0, 1, 2, 3]) }).seeds(100).check(),
        |cause| matches!(cause, Cause::Panicked { message, .. } if message.contains("left == right")),
    );
}

#[test]
fn starved_polls_let_the_virtual_clock_run() {
    sim(|| async {
        let start = Instant::now();
        let sleeper = spawn("sleeper", Kind::Service, sleep(Duration::from_secs(60)));
        let total = Arc::new(Mutex::new(0));
        let adders: Vec<_> = (0..2)
            .map(|_| {
                let total = Arc::clone(&total);
                work("adder", async move {
                    for _ in 0..100 {
                        *total.lock().await += 1;
                    }
                })
            })
            .collect();
        for adder in adders {
            adder.await.unwrap();
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        sleeper.abort();
    })
    .seeds(20)
    .run();
}

#[test]
fn a_hook_made_outside_a_simulation_does_not_poll() {
    let task = async { work("adder", async { 42 }).await.unwrap() };
    assert_eq!(plain_runtime().block_on(task), 42);
    let hook = std::sync::Mutex::new(motet::sim::TaskHook::new(
        "outside",
        std::panic::Location::caller(),
        Kind::Work,
    ));
    sim(|| async {
        let polled = std::future::poll_fn(|cx| hook.lock().unwrap().poll(cx, |_| std::task::Poll::Ready(7)));
        assert_eq!(polled.await, 7);
    })
    .seeds(5)
    .run();
}

#[test]
fn a_hook_of_one_run_is_taken_for_a_task_of_the_next() {
    let kept = std::cell::RefCell::new(Vec::new());
    let runs = AtomicU64::new(0);
    let sweep = sim(|| async {
        runs.fetch_add(1, Relaxed);
        // Dropped by the next run, where it is nobody's task.
        kept.borrow_mut().clear();
        let mut hook = motet::sim::TaskHook::new("kept", std::panic::Location::caller(), Kind::Work);
        std::future::poll_fn(|cx| hook.poll(cx, |_| std::task::Poll::Ready(()))).await;
        kept.borrow_mut().push(hook);
    })
    .seeds(10)
    .run();
    assert_eq!(runs.load(Relaxed), 2 * sweep.runs());
}
