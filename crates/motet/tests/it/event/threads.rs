//! Races of real threads: listeners are added and removed while other threads emit, post and close. No test depends on
//! time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use motet::event::{Emitter, Lag};
use motet::task::{Nursery, Scope, scope};
use tokio::task::yield_now;

use super::{Tick, count};

/// The number of rounds; fewer under tools that make each round a hundred times slower.
fn rounds(count: u32) -> u32 {
    match std::env::var_os("MOTET_STRESS_ROUNDS") {
        Some(rounds) => rounds.to_str().and_then(|rounds| rounds.parse().ok()).expect("a number"),
        None => count,
    }
}

fn count_up(counts: &AtomicUsize) {
    counts.fetch_add(1, Ordering::Relaxed);
}

/// A listener that stays on is called once per event; a listener that is off is not called for later events; a `once`
/// listener is called once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn listener_gets_every_concurrent_emit_while_others_come_and_go() {
    scope(async |n: &Nursery| {
        let emitter = Emitter::new(n);
        let rounds = rounds(3_000);
        let stays = Arc::new(AtomicUsize::new(0));
        let counts = Arc::clone(&stays);
        let _stays = emitter.on("stays", move |_: &Tick| count_up(&counts)).unwrap();
        let done = Arc::new(AtomicBool::new(false));
        let emits = [0, 1].map(|_| {
            let emitter = emitter.clone();
            n.spawn("emits", async move {
                for number in 0..rounds {
                    assert!(emitter.emit(Tick(number)).await.unwrap().is_ok());
                    yield_now().await;
                }
            })
        });
        let once = Arc::new(AtomicUsize::new(0));
        let singles = Arc::new(AtomicUsize::new(0));
        let comes = [0, 1].map(|_| {
            let (emitter, done) = (emitter.clone(), Arc::clone(&done));
            let (once, singles) = (Arc::clone(&once), Arc::clone(&singles));
            n.spawn("comes and goes", async move {
                while !done.load(Ordering::Relaxed) {
                    // The listener owns its flag, which is set once the listener is off: from then on it must not be
                    // called.
                    let off = Arc::new(AtomicBool::new(false));
                    let (sees, received) = (Arc::clone(&off), Arc::new(AtomicUsize::new(0)));
                    let receives = Arc::clone(&received);
                    let on = emitter.on("short", move |_: &Tick| {
                        if sees.load(Ordering::Acquire) {
                            receives.fetch_add(1, Ordering::Relaxed);
                        }
                    });
                    let counts = Arc::clone(&once);
                    let single = emitter.once("once", move |_: &Tick| count_up(&counts));
                    yield_now().await;
                    // A call that has begun may still be running; no new call may begin.
                    on.unwrap().off();
                    let before = emitter.listener_count::<Tick>();
                    off.store(true, Ordering::Release);
                    assert!(before > 0);
                    let single = single.unwrap();
                    let heard_it = !single.is_on();
                    drop(single);
                    singles.fetch_add(usize::from(heard_it), Ordering::Relaxed);
                    assert!(
                        received.load(Ordering::Relaxed) <= 2,
                        "two emits can be between the check and the call"
                    );
                }
            })
        });
        for task in emits {
            task.await.unwrap();
        }
        done.store(true, Ordering::Relaxed);
        for task in comes {
            task.await.unwrap();
        }
        assert_eq!(stays.load(Ordering::Relaxed), rounds as usize * 2);
        assert!(once.load(Ordering::Relaxed) >= singles.load(Ordering::Relaxed));
        assert_eq!(emitter.listener_count::<Tick>(), 1);
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_emits_of_three_tasks_call_a_once_listener_once() {
    scope(async |n: &Nursery| {
        for _ in 0..rounds(300) {
            let emitter = Emitter::new(n);
            let calls = Arc::new(AtomicUsize::new(0));
            let counts = Arc::clone(&calls);
            let _once = emitter.once("once", move |_: &Tick| count_up(&counts)).unwrap();
            let tasks = [0, 1, 2].map(|number| {
                let emitter = emitter.clone();
                n.spawn("emits", async move { emitter.emit(Tick(number)).await.unwrap().succeeded() })
            });
            let mut received = 0;
            for task in tasks {
                received += task.await.unwrap();
            }
            assert_eq!((received, calls.load(Ordering::Relaxed)), (1, 1));
        }
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn drain_ends_while_threads_post_after_scopes_of_listeners_end() {
    scope(async |n: &Nursery| {
        for _ in 0..rounds(200) {
            let emitter = Emitter::builder(n).backlog(count(4)).drop_oldest().build();
            let mut stream = emitter.stream::<Tick>(Lag::DropOldest(count(2)));
            let reads = n.spawn("reads", async move { while stream.next().await.is_some() {} });
            let scopes = [0, 1].map(|_| {
                let emitter = emitter.clone();
                n.spawn("scope", async move {
                    let ended = Scope::builder().run(async |inner: &Nursery| {
                        let listener = emitter.listener("receives").within(inner);
                        if let Ok(on) = listener.on_async(async |_: Arc<Tick>| yield_now().await) {
                            on.forever();
                        }
                        for _ in 0..5 {
                            yield_now().await;
                        }
                        Ok(())
                    });
                    ended.await.unwrap();
                })
            });
            let posts = [0, 1].map(|_| {
                let emitter = emitter.clone();
                n.spawn("posts", async move {
                    let mut number = 0;
                    while emitter.post(Tick(number)).is_ok() {
                        number += 1;
                        yield_now().await;
                    }
                })
            });
            for task in scopes {
                task.await.unwrap();
            }
            emitter.drain().await;
            for task in posts {
                task.await.unwrap();
            }
            reads.await.unwrap();
        }
        Ok(())
    })
    .await
    .unwrap();
}
