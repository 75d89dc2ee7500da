use std::error::Error as _;
use std::future::pending;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use motet::event::{AnyEvent, Emitted, Emitter, ListenerError, Subscription};
use motet::task::{Nursery, gather, scope, timeout};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

use super::{Other, Received, SECOND, Tick, Tock, count, matching};

fn failures(emitted: &Emitted) -> Vec<String> {
    emitted.failed().iter().map(ToString::to_string).collect()
}

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("the drop");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn failing_panicking_or_hanging_listeners_do_not_stop_others() {
    scope(async |n: &Nursery| {
        let emitter = Emitter::builder(n).timeout(SECOND).keep_names().build();
        let received = Received::default();
        let _on = [
            emitter.on("fails", |_: &Tick| Err::<(), _>(io::Error::other("full"))).unwrap(),
            emitter.on("panics", |_: &Tick| -> () { panic!("sync") }).unwrap(),
            emitter.on("panics twice", |_: &Tick| -> () { std::panic::panic_any(Bomb) }).unwrap(),
            emitter.on("first", received.by("first")).unwrap(),
            emitter.on_async("hangs", |_: Arc<Tick>| pending::<()>()).unwrap(),
            emitter
                .on_async("panics early", |_: Arc<Tick>| -> std::future::Ready<()> { panic!("early") })
                .unwrap(),
            emitter
                .on_async("panics late", async |_: Arc<Tick>| {
                    yield_now().await;
                    if true {
                        panic!("late");
                    }
                })
                .unwrap(),
            emitter
                .on_async("fails late", async |_: Arc<Tick>| {
                    sleep(SECOND / 2).await;
                    Err::<(), _>("late")
                })
                .unwrap(),
            emitter
                .on_async("panics when dropped", |_: Arc<Tick>| {
                    let bomb = Bomb;
                    async move {
                        let _bomb = bomb;
                        pending::<()>().await;
                    }
                })
                .unwrap(),
            emitter.on_async("last", received.slowly("last", SECOND / 4)).unwrap(),
        ];
        let begin = Instant::now();
        let emitted = emitter.emit(Tick(1)).await.unwrap();
        assert_eq!(begin.elapsed(), SECOND);
        assert_eq!(received.take(), [("first", 1), ("last", 1)]);
        assert_eq!((emitted.succeeded(), emitted.skipped()), (2, 0));
        assert_eq!(emitted.names(), ["first", "last"]);
        assert_eq!(
            failures(&emitted),
            [
                "listener `fails` failed",
                "listener `panics` panicked: sync",
                "listener `panics twice` panicked: (a payload that is not text)",
                "listener `panics early` panicked: early",
                "listener `panics late` panicked: late",
                "listener `fails late` failed",
                "listener `hangs` took longer than 1s",
                "listener `panics when dropped` took longer than 1s",
            ]
        );
        let failed = emitted.into_result().unwrap_err();
        assert_eq!(failed.to_string(), "8 listeners failed");
        let first: &ListenerError = &failed.listeners()[0];
        assert_eq!(first.source().unwrap().to_string(), "full");
        assert_eq!(std::error::Error::source(first).unwrap().to_string(), "full");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test(start_paused = true)]
async fn as_many_listeners_run_at_once_as_the_concurrency_allows() {
    scope(async |n: &Nursery| {
        for (concurrency, seconds) in [(1, 7), (3, 3), (7, 1), (100, 1)] {
            let emitter = Emitter::builder(n).concurrency(count(concurrency)).build();
            let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let listen = |_| {
                let (now, most) = (Arc::clone(&now), Arc::clone(&most));
                emitter.on_async("waits", move |_: Arc<Tick>| {
                    let (now, most) = (Arc::clone(&now), Arc::clone(&most));
                    async move {
                        most.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                        sleep(SECOND).await;
                        now.fetch_sub(1, Ordering::Relaxed);
                    }
                })
            };
            let on: Vec<_> = (0..7).map(|at| listen(at).unwrap()).collect();
            let begin = Instant::now();
            assert_eq!(emitter.emit(Tick(1)).await.unwrap().into_result().unwrap(), 7);
            assert_eq!(begin.elapsed(), SECOND * seconds);
            assert_eq!(most.load(Ordering::Relaxed), concurrency.min(7));
            drop(on);
        }
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn listeners_are_called_by_priority_then_registration() {
    scope(async |n: &Nursery| {
        let (emitter, received) = (Emitter::new(n), Received::default());
        let on = |name: &'static str, priority| {
            emitter.listener(name).priority(priority).on(received.by(name)).unwrap()
        };
        let _on = [on("c", 0), on("e", -1), on("a", 5), on("d", 0), on("b", 5)];
        let pattern = received.clone();
        let listener = emitter.listener("a, too").priority(6);
        let _pattern = listener.on_pattern(matching("clock.*"), move |_| pattern.note("pattern", 0)).unwrap();
        assert!(emitter.emit(Tick(1)).await.unwrap().is_ok());
        let order: Vec<_> = received.take().into_iter().map(|(name, _)| name).collect();
        assert_eq!(order, ["pattern", "a", "b", "c", "d", "e"]);
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn emit_skips_listeners_added_or_removed_during_it() {
    scope(async |n: &Nursery| {
        let (emitter, received) = (Emitter::new(n), Received::default());
        let late = Arc::new(Mutex::new(Vec::new()));
        let victim: Arc<Mutex<Option<Subscription>>> = Arc::default();
        let (to, by, adds, kills) =
            (emitter.clone(), received.clone(), Arc::clone(&late), Arc::clone(&victim));
        let _first = emitter.on("first", move |_: &Tick| {
            // A listener is added and removed within a call: no lock is held.
            adds.lock().unwrap().push(to.listener("late").priority(-1).on(by.by("late")).unwrap());
            drop(kills.lock().unwrap().take());
        });
        *victim.lock().unwrap() = Some(emitter.on("victim", received.by("victim")).unwrap());
        let _last = emitter.on("last", received.by("last")).unwrap();
        assert_eq!(emitter.listener_count::<Tick>(), 3);
        let emitted = emitter.emit(Tick(1)).await.unwrap();
        assert_eq!((emitted.succeeded(), emitted.skipped()), (2, 1));
        assert_eq!(received.take(), [("last", 1)]);
        assert_eq!(emitter.emit(Tick(2)).await.unwrap().succeeded(), 3);
        assert_eq!(received.take(), [("last", 2), ("late", 2)]);
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn listener_may_emit_the_event_that_it_listens_to() {
    scope(async |n: &Nursery| {
        let (emitter, received) = (Emitter::new(n), Received::default());
        let again = emitter.clone();
        let _again = emitter.on_async("again", move |tick: Arc<Tick>| {
            let again = again.clone();
            async move {
                if tick.0 > 0 {
                    assert_eq!(again.emit(Tick(tick.0 - 1)).await.unwrap().into_result().unwrap(), 2);
                }
            }
        });
        let _on = emitter.on("notes", received.by("notes")).unwrap();
        assert!(emitter.emit(Tick(3)).await.unwrap().is_ok());
        assert_eq!(received.take(), [0, 1, 2, 3].map(|number| ("notes", number)));
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test(start_paused = true)]
async fn once_listener_is_called_once_by_concurrent_emits() {
    scope(async |n: &Nursery| {
        let emitter = Emitter::builder(n).concurrency(count(1)).build();
        let calls = Arc::new(AtomicUsize::new(0));
        let (again, counted) = (emitter.clone(), Arc::clone(&calls));
        let once = emitter.listener("once").once().on_async(move |tick: Arc<Tick>| {
            counted.fetch_add(1, Ordering::Relaxed);
            let again = again.clone();
            async move {
                assert_eq!(again.emit(Tick(tick.0 + 1)).await.unwrap().succeeded(), 1);
            }
        });
        let once = once.unwrap();
        let _slow = emitter.listener("slow").priority(1).on_async(async |_: Arc<Tick>| sleep(SECOND).await);
        assert!(once.is_on());
        let emitted = gather([emitter.emit(Tick(1)), emitter.emit(Tick(10))]).await;
        assert_eq!(calls.load(Ordering::Relaxed), 1);
        let skipped: Vec<_> = emitted.into_iter().map(|emitted| emitted.unwrap().skipped()).collect();
        assert_eq!(skipped, [0, 1]);
        assert!(!once.is_on());
        assert_eq!(emitter.listener_count::<Tick>(), 1);
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test(start_paused = true)]
async fn dropped_emit_stops_and_an_uncalled_once_listener_stays_on() {
    scope(async |n: &Nursery| {
        let emitter = Emitter::builder(n).concurrency(count(1)).build();
        let received = Received::default();
        let _first = emitter.on_async("first", received.slowly("first", SECOND)).unwrap();
        let once = emitter.once("once", received.by("once")).unwrap();
        assert!(timeout(SECOND / 2, emitter.emit(Tick(1))).await.is_err());
        sleep(SECOND * 2).await;
        assert_eq!(received.take(), []);
        assert!(once.is_on());
        assert!(emitter.emit(Tick(2)).await.unwrap().is_ok());
        assert_eq!(received.take(), [("first", 2), ("once", 2)]);
        // An emit that was never polled has called no listener.
        drop(emitter.emit(Tick(3)));
        assert_eq!(received.take(), []);
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn pattern_listener_receives_exactly_the_matching_events() {
    scope(async |n: &Nursery| {
        let (emitter, received) = (Emitter::new(n), Received::default());
        assert!(emitter.emit(Tick(0)).await.unwrap().is_ok(), "the event type is known before the pattern");
        let notes = received.clone();
        let clock =
            emitter.on_pattern_async("clock", matching("clock.*"), move |event: Arc<dyn AnyEvent>| {
                match (event.downcast::<Tick>(), event.name()) {
                    (Some(tick), "clock.tick") => notes.note("tick", tick.0),
                    (None, "clock.tock") => notes.note("tock", 0),
                    (None, "clock.7") => notes.note("named", *event.downcast_ref().unwrap()),
                    other => panic!("{other:?}"),
                }
                async {}
            });
        let notes = received.clone();
        let all = emitter.listener("all").on_pattern(matching(">"), move |_| notes.note("all", 0)).unwrap();
        assert_eq!(emitter.emit(Tick(1)).await.unwrap().into_result().unwrap(), 2);
        assert_eq!(emitter.emit(Tock).await.unwrap().into_result().unwrap(), 2);
        assert_eq!(emitter.emit(Other).await.unwrap().into_result().unwrap(), 1);
        assert_eq!(emitter.emit_named("clock.7", 7_u32).await.unwrap().into_result().unwrap(), 2);
        assert_eq!(emitter.emit_named("clock", 7_u32).await.unwrap().into_result().unwrap(), 1);
        let expected = [
            ("tick", 1),
            ("all", 0),
            ("tock", 0),
            ("all", 0),
            ("all", 0),
            ("named", 7),
            ("all", 0),
            ("all", 0),
        ];
        assert_eq!(received.take(), expected);
        drop((clock, all));
        assert_eq!(emitter.emit(Tock).await.unwrap().succeeded(), 0);
        assert_eq!(emitter.emit_named("clock.7", 7_u32).await.unwrap().succeeded(), 0);
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn once_pattern_listener_receives_only_the_first_event() {
    scope(async |n: &Nursery| {
        let (emitter, received) = (Emitter::new(n), Received::default());
        let notes = received.clone();
        let once = emitter
            .listener("once")
            .once()
            .on_pattern(matching(">"), move |_| notes.note("once", 0))
            .unwrap();
        assert!(emitter.emit(Tick(1)).await.unwrap().is_ok());
        assert!(emitter.emit(Tock).await.unwrap().is_ok());
        assert!(emitter.emit_named("named", ()).await.unwrap().is_ok());
        assert_eq!(received.take(), [("once", 0)]);
        assert!(!once.is_on());
        assert_eq!(emitter.listener_count::<Tick>() + emitter.listener_count::<Tock>(), 0);
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn on_dead_receives_events_without_a_listener() {
    scope(async |n: &Nursery| {
        let dead = Received::default();
        let notes = dead.clone();
        let emitter = Emitter::builder(n)
            .on_dead(move |event| notes.note("dead", event.downcast_ref::<Tick>().map_or(0, |tick| tick.0)))
            .build();
        assert!(emitter.emit(Tick(1)).await.unwrap().is_ok());
        assert_eq!(emitter.post(Tick(2)).unwrap().queued, 0);
        assert!(emitter.emit_named("named", 3_u32).await.unwrap().is_ok());
        assert_eq!(dead.take(), [("dead", 1), ("dead", 2), ("dead", 0)]);
        let _on = emitter.on("on", |_: &Tick| ()).unwrap();
        assert!(emitter.emit(Tick(4)).await.unwrap().is_ok());
        assert_eq!(dead.take(), []);
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn loop_of_emits_lets_other_tasks_run() {
    scope(async |n: &Nursery| {
        let emitter = Emitter::new(n);
        let _on = emitter.on("on", |_: &Tick| ()).unwrap();
        let done = Arc::new(AtomicBool::new(false));
        let sets = Arc::clone(&done);
        n.spawn("other", async move { sets.store(true, Ordering::Relaxed) });
        for number in 0..10_000 {
            assert!(emitter.emit(Tick(number)).await.unwrap().is_ok());
            if done.load(Ordering::Relaxed) {
                return Ok(());
            }
        }
        panic!("the other task did not run");
    })
    .await
    .unwrap();
}

#[tokio::test(start_paused = true)]
async fn listener_that_uses_up_the_coop_budget_lets_others_complete() {
    scope(async |n: &Nursery| {
        let emitter = Emitter::builder(n).timeout(SECOND).build();
        let greedy = async |_: Arc<Tick>| {
            while std::hint::black_box(true) {
                tokio::task::consume_budget().await;
            }
        };
        let _greedy = emitter.on_async("greedy", greedy).unwrap();
        let received = Received::default();
        let _last = emitter.on_async("last", received.slowly("last", SECOND / 2)).unwrap();
        n.spawn("time", sleep(Duration::from_millis(1)));
        let emitted = emitter.emit(Tick(1));
        let mut emitted = Box::pin(emitted);
        // The paused clock does not advance while a task is busy, so the test advances it.
        for _ in 0..2_000 {
            if let Ok(emitted) = timeout(Duration::ZERO, &mut emitted).await {
                let emitted = emitted.unwrap();
                assert_eq!(received.take(), [("last", 1)]);
                assert_eq!(failures(&emitted), ["listener `greedy` took longer than 1s"]);
                return Ok(());
            }
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        panic!("the emit did not end");
    })
    .await
    .unwrap();
}
