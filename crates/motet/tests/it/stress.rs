//! Races of real threads: spawn, cancel, finish, drop and look, all at once.
//!
//! Nothing here depends on time. `cargo xtask verify` runs it under valgrind, for the lists and slots that are
//! unsafe code.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use motet::task::{Nursery, Policy, Reason, Scope, drain, gather, local_scope, race, scope, unscoped};
use tokio::runtime::{Builder, Runtime};
use tokio::task::yield_now;

/// Rounds; fewer where each takes a hundred times as long.
fn rounds(count: usize) -> usize {
    match std::env::var_os("MOTET_STRESS_ROUNDS") {
        Some(rounds) => rounds.to_str().and_then(|rounds| rounds.parse().ok()).expect("a number"),
        None => count,
    }
}

fn threads(count: usize) -> Runtime {
    Builder::new_multi_thread().worker_threads(count).enable_time().build().unwrap()
}

async fn turns(count: usize) {
    for _ in 0..count {
        yield_now().await;
    }
}

/// Children that end, are cancelled alone, are aborted, fail and are dropped with their scope, while others look.
#[test]
fn threads_that_spawn_cancel_and_snapshot_lose_no_child() {
    threads(4).block_on(async {
        let ended = Arc::new(AtomicUsize::new(0));
        let mut started = 0;
        for round in 0..rounds(300) {
            let options = Scope::builder().policy(Policy::CollectAll);
            let outcome = options.run(async |n: &Nursery<usize>| {
                let handle = Scope::clone(n);
                n.service("looks", async move {
                    loop {
                        let seen = handle.snapshot().tasks.len();
                        assert!(seen < 100);
                        yield_now().await;
                    }
                });
                let mut tasks = Vec::new();
                for child in 0..16 {
                    let ended = Counted(Arc::clone(&ended));
                    started += 1;
                    let task = n.try_spawn("child", async move {
                        let _ended = ended;
                        turns(child % 5).await;
                        if child % 3 == 0 { pending().await } else { Ok(child) }
                    });
                    tasks.push(task);
                }
                turns(round % 7).await;
                for task in tasks.iter().step_by(2) {
                    task.cancel(Reason::requested("alone"));
                }
                if round % 2 == 0 {
                    n.cancel(Reason::requested("all"));
                }
                for task in tasks.into_iter().step_by(6) {
                    drop(task.await);
                }
                n.cancel(Reason::requested("the rest"));
                Ok(())
            });
            drop(outcome.await);
            assert_eq!(ended.load(Ordering::SeqCst), started, "a scope ended before its children");
        }
        drain().await;
        assert_eq!(unscoped(), 0);
    });
}

struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Scopes that are dropped half-way: their children go to the scope around, which may end at that moment.
#[test]
fn threads_that_drop_scopes_lose_no_adopted_child() {
    threads(4).block_on(async {
        let ended = Arc::new(AtomicUsize::new(0));
        let started = Arc::new(AtomicUsize::new(0));
        for round in 0..rounds(300) {
            scope(async |outer: &Nursery<()>| {
                for at in 0..4 {
                    let (ended, started) = (Arc::clone(&ended), Arc::clone(&started));
                    outer.spawn("opens", async move {
                        let inner = async {
                            drop(
                                Scope::builder()
                                    .run_send(async |n: &Nursery<()>| {
                                        for child in 0..3 {
                                            started.fetch_add(1, Ordering::SeqCst);
                                            let ended = Counted(Arc::clone(&ended));
                                            n.spawn_coop("tidies", async move |cx| {
                                                let _ended = ended;
                                                cx.cancelled().await;
                                                turns(child).await;
                                            });
                                        }
                                        pending::<Result<(), ()>>().await
                                    })
                                    .await,
                            );
                        };
                        race(inner, turns((round + at) % 6)).await;
                    });
                }
                Ok(())
            })
            .await
            .unwrap();
            assert_eq!(ended.load(Ordering::SeqCst), started.load(Ordering::SeqCst));
        }
        assert_eq!(unscoped(), 0);
    });
}

/// A handle outside of its scope that defers cleanups while the scope ends: each is refused, or runs.
#[test]
fn cleanup_accepted_by_an_ending_scope_runs() {
    threads(2).block_on(async {
        let ran = Arc::new(AtomicUsize::new(0));
        let mut accepted = 0;
        for _ in 0..rounds(1_000) {
            let (begun, mut outside) = (Arc::new(AtomicUsize::new(0)), None);
            let ended = scope(async |n: &Nursery<()>| {
                let (handle, ran, begins) = (Scope::clone(n), Arc::clone(&ran), Arc::clone(&begun));
                outside = Some(thread::spawn(move || {
                    // Bounded: a scope does not end while it is given more to do than it can.
                    for accepted in 0..500 {
                        let ran = Arc::clone(&ran);
                        if handle.defer("from outside", async move |_| drop(Counted(ran))).is_err() {
                            return accepted;
                        }
                        begins.store(1, Ordering::SeqCst);
                        // The scope is to find nothing to do now and then.
                        (0..accepted * 37 % 1_000).for_each(|_| std::hint::spin_loop());
                    }
                    500
                }));
                while begun.load(Ordering::SeqCst) == 0 {
                    yield_now().await;
                }
                Ok(())
            });
            ended.await.unwrap();
            accepted += outside.unwrap().join().unwrap();
            assert_eq!(ran.load(Ordering::SeqCst), accepted, "accepted, and never run");
        }
    });
}

/// Futures in one task that are woken from other threads, also after they have gone.
#[test]
fn wakes_from_other_threads_reach_their_futures() {
    threads(2).block_on(async {
        for round in 0..rounds(200) {
            let (senders, receivers): (Vec<_>, Vec<_>) =
                (0..8).map(|_| tokio::sync::oneshot::channel::<usize>()).unzip();
            let waking = thread::spawn(move || {
                for (at, sender) in senders.into_iter().enumerate() {
                    // One is gone where the group was dropped.
                    let _ = sender.send(at);
                }
            });
            match round % 3 {
                0 => {
                    let all = gather(receivers).await;
                    assert_eq!(all.into_iter().map(Result::unwrap).sum::<usize>(), 28);
                }
                1 => drop(Some(race(gather(receivers), turns(round % 5)).await)),
                _ => {
                    let sum = local_scope(async |s| {
                        let tasks: Vec<_> = receivers.into_iter().map(|receiver| s.spawn(receiver)).collect();
                        let mut sum = 0;
                        for task in tasks {
                            sum += task.await.unwrap();
                        }
                        sum
                    });
                    assert_eq!(sum.await, 28);
                }
            }
            waking.join().unwrap();
        }
    });
}
