//! Bugs of order: found under seeds, and never without.

use std::cell::RefCell;
use std::future::poll_fn;
use std::panic::Location;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use motet::sim::{PollKind, TaskHook};
use motet_testkit::sim::{Cause, SelfCheck, sim};
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
fn sweep_finds_a_lost_update() {
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
fn seeds_explore_distinct_schedules() {
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
fn some_seed_reorders_timers_of_one_instant() {
    assert_eq!(plain_runtime().block_on(order_of_equal_timers()), [0, 1, 2, 3]);
    failure(
        sim(|| async { assert_eq!(order_of_equal_timers().await, [0, 1, 2, 3]) }).seeds(100).check(),
        |cause| matches!(cause, Cause::Panicked { message, .. } if message.contains("left == right")),
    );
}

#[test]
fn virtual_clock_stands_still_while_tasks_can_run() {
    sim(|| async {
        let start = Instant::now();
        let sleeper = spawn("sleeper", PollKind::Service, sleep(Duration::from_secs(60)));
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
fn task_hook_made_outside_a_simulation_still_polls() {
    let task = async { work("adder", async { 42 }).await.unwrap() };
    assert_eq!(plain_runtime().block_on(task), 42);
    let hook = std::sync::Mutex::new(TaskHook::new("outside", Location::caller(), PollKind::Work));
    sim(|| async {
        let polled = poll_fn(|cx| hook.lock().unwrap().poll(cx, |_| Poll::Ready(7)));
        assert_eq!(polled.await, 7);
    })
    .seeds(5)
    .run();
}

#[test]
fn hook_kept_from_a_run_is_not_a_task_of_the_next_run() {
    let kept = RefCell::new(None);
    let sweep = sim(|| async {
        let mut polls = 0;
        // Were it taken for a task of this run, some seed would put its poll off.
        if let Some(mut hook) = kept.take() {
            poll_fn(|cx| {
                polls += 1;
                TaskHook::poll(&mut hook, cx, |_| Poll::Ready(()))
            })
            .await;
            assert_eq!(polls, 1);
        }
        let mut hook = TaskHook::new("kept", Location::caller(), PollKind::Work);
        poll_fn(|cx| hook.poll(cx, |_| Poll::Ready(()))).await;
        kept.replace(Some(hook));
    })
    .seeds(50)
    .self_check(SelfCheck::Off)
    .run();
    assert!(sweep.runs() > 0);
}

#[test]
fn some_seed_reorders_tasks_that_await_nothing() {
    sim(|| async {
        let order = Arc::new(std::sync::Mutex::new(Vec::new()));
        let tasks: Vec<_> = (0..2)
            .map(|number| {
                let order = Arc::clone(&order);
                work("short", async move { order.lock().unwrap().push(number) })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        motet::sometimes!(*order.lock().unwrap() == [1, 0], "the other way round");
    })
    .seeds(50)
    .run();
}

#[test]
fn some_seeds_reduce_the_budget_of_a_poll_and_some_do_not() {
    sim(|| async {
        let (total, mut polls) = (Mutex::new(0), 0);
        let mut add = std::pin::pin!(async {
            for _ in 0..100 {
                *total.lock().await += 1;
            }
        });
        poll_fn(|cx| {
            polls += 1;
            add.as_mut().poll(cx)
        })
        .await;
        motet::sometimes!(polls == 1, "in one poll");
        motet::sometimes!(polls > 1, "in several polls");
    })
    .seeds(50)
    .run();
}
