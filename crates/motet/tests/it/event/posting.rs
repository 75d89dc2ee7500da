use std::future::{pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc};
use std::task::Poll;
use std::time::Duration;

use motet::event::{Emitter, EmitterClosedError, Lag, Posted};
use motet::observe::Stat;
use motet::task::{Nursery, Reason, Scope, ScopeError, scope, timeout};
use tokio::runtime::Builder;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

use super::{Received, SECOND, Tick, count};

fn posted(queued: usize, dropped: usize) -> Posted {
    let mut posted = Posted::default();
    (posted.queued, posted.dropped) = (queued, dropped);
    posted
}

fn stat(n: &Scope, name: &str) -> u64 {
    let seen = n.snapshot();
    let emitter = seen.components.iter().find(|component| component.kind == "emitter").unwrap();
    match emitter.stats.iter().find(|(stat, _)| *stat == name) {
        Some((_, Stat::Count(count) | Stat::Total(count))) => *count,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn post_does_not_wait_and_each_listener_gets_events_in_order() {
    let begin = Instant::now();
    let received = Received::default();
    scope(async |n: &Nursery| {
        let emitter = Emitter::new(n);
        // The scope keeps the listeners on, and waits until they have handled all events.
        emitter.on_async("slow", received.slowly("slow", SECOND)).unwrap().forever();
        emitter.on("quick", received.by("quick")).unwrap().forever();
        for number in 1..=3 {
            assert_eq!(emitter.post(Tick(number)).unwrap(), posted(2, 0));
        }
        assert_eq!(received.take(), [], "listeners handle posted events in tasks of their own");
        yield_now().await;
        yield_now().await;
        assert_eq!(received.take(), [1, 2, 3].map(|number| ("quick", number)));
        assert_eq!(begin.elapsed(), Duration::ZERO);
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(received.take(), [1, 2, 3].map(|number| ("slow", number)));
    assert_eq!(begin.elapsed(), SECOND * 3);
}

#[tokio::test(start_paused = true)]
async fn full_backlog_drops_the_oldest_or_newest_event_and_counts_it() {
    for (drops_oldest, expected) in [(false, [0, 1, 2]), (true, [0, 4, 5])] {
        let received = Received::default();
        scope(async |n: &Nursery| {
            let builder = Emitter::builder(n).backlog(count(2)).name("events");
            let emitter = if drops_oldest { builder.drop_oldest() } else { builder.drop_newest() }.build();
            emitter.on_async("slow", received.slowly("slow", SECOND)).unwrap().forever();
            assert_eq!(emitter.post(Tick(0)).unwrap(), posted(1, 0));
            sleep(SECOND / 2).await;
            let all: Vec<_> = (1..=5).map(|number| emitter.post(Tick(number)).unwrap()).collect();
            let full = posted(usize::from(drops_oldest), 1);
            assert_eq!(all, [posted(1, 0), posted(1, 0), full, full, full]);
            assert_eq!((stat(n, "posted"), stat(n, "dropped")), (3, 3));
            emitter.drain().await;
            assert_eq!((stat(n, "posted"), stat(n, "dropped")), (0, 3));
            Ok(())
        })
        .await
        .unwrap();
        assert_eq!(received.take(), expected.map(|number| ("slow", number)));
    }
}

#[tokio::test(start_paused = true)]
async fn listener_receives_further_posts_after_a_failure() {
    let received = Received::default();
    scope(async |n: &Nursery| {
        let emitter = Emitter::builder(n).timeout(SECOND).name("events").build();
        let receives = received.clone();
        let listener = move |tick: Arc<Tick>| {
            receives.note("begins", tick.0);
            async move {
                match tick.0 {
                    1 => panic!("one"),
                    2 => Err("two"),
                    3 => pending().await,
                    _ => Ok(()),
                }
            }
        };
        emitter.on_async("goes wrong", listener).unwrap().forever();
        for number in 0..=4 {
            assert_eq!(emitter.post(Tick(number)).unwrap(), posted(1, 0));
        }
        emitter.drain().await;
        assert_eq!(received.take(), [0, 1, 2, 3, 4].map(|number| ("begins", number)));
        assert_eq!((stat(n, "failed"), stat(n, "dropped")), (3, 0));
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test(start_paused = true)]
async fn posts_for_a_listener_of_a_cancelled_scope_are_dropped() {
    let received = Received::default();
    scope(async |n: &Nursery| {
        let emitter = Emitter::builder(n).name("events").build();
        let inner = Scope::builder().run(async |inner: &Nursery| {
            let listener = emitter.listener("slow").within(inner);
            listener.on_async(received.slowly("slow", SECOND)).unwrap().forever();
            for number in 0..3 {
                assert_eq!(emitter.post(Tick(number)).unwrap(), posted(1, 0));
            }
            sleep(SECOND + SECOND / 2).await;
            inner.cancel(Reason::requested("enough"));
            sleep(SECOND).await;
            Ok(())
        });
        assert!(matches!(inner.await, Err(ScopeError::Cancelled { .. })));
        assert_eq!(received.take(), [("slow", 0)]);
        assert_eq!((stat(n, "posted"), stat(n, "dropped")), (0, 2));
        assert_eq!(emitter.post(Tick(3)).unwrap(), posted(0, 0), "the listener is off");
        timeout(SECOND, emitter.drain()).await.expect("no posted event is left");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test(start_paused = true)]
async fn close_delivers_pending_posts_and_refuses_new_events() {
    let received = Received::default();
    scope(async |n: &Nursery| {
        let emitter = Emitter::new(n);
        let slow = emitter.on_async("slow", received.slowly("slow", SECOND)).unwrap();
        for number in 0..3 {
            assert_eq!(emitter.post(Tick(number)).unwrap(), posted(1, 0));
        }
        emitter.close();
        assert!(emitter.is_closed() && slow.is_on());
        assert_eq!(emitter.post(Tick(7)).unwrap_err().0, Tick(7));
        assert_eq!(emitter.emit(Tick(8)).await.unwrap_err().0, Tick(8));
        let EmitterClosedError(value) = emitter.emit_named("named", String::from("kept")).await.unwrap_err();
        assert_eq!(value, "kept");
        assert!(emitter.on("late", received.by("late")).is_err());
        assert!(timeout(SECOND, emitter.drain()).await.is_err(), "two events are still waiting");
        let begin = Instant::now();
        emitter.drain().await;
        assert_eq!(begin.elapsed(), SECOND * 2);
        assert_eq!(received.take(), [0, 1, 2].map(|number| ("slow", number)));
        assert!(!slow.is_on());
        emitter.drain().await;
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn once_listener_gets_one_of_several_posts_and_an_off_one_none() {
    scope(async |n: &Nursery| {
        let (emitter, received) = (Emitter::new(n), Received::default());
        emitter.once("once", received.by("once")).unwrap().forever();
        let off = emitter.on("off", received.by("off")).unwrap();
        for number in 0..3 {
            assert_eq!(emitter.post(Tick(number)).unwrap(), posted(2, 0));
        }
        // Events that wait for a listener that is switched off are not delivered.
        off.off();
        emitter.drain().await;
        assert_eq!(received.take(), [("once", 0)]);
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn listener_may_post_the_event_that_it_listens_to() {
    let received = Received::default();
    scope(async |n: &Nursery| {
        let emitter = Emitter::new(n);
        let (again, notes) = (emitter.clone(), received.clone());
        let counts = emitter.on("counts", move |tick: &Tick| {
            notes.note("counts", tick.0);
            if tick.0 > 0 {
                assert_eq!(again.post(Tick(tick.0 - 1)).unwrap(), posted(1, 0));
            }
        });
        counts.unwrap().forever();
        assert_eq!(emitter.post(Tick(3)).unwrap(), posted(1, 0));
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(received.take(), [3, 2, 1, 0].map(|number| ("counts", number)));
}

#[tokio::test(start_paused = true)]
async fn drain_completes_after_a_panic_of_on_dead() {
    scope(async |n: &Nursery| {
        let emitter = Emitter::builder(n).on_dead(|_| panic!("no listener")).build();
        let ticks = emitter.stream::<Tick>(Lag::Latest);
        drop(ticks);
        let panicked = catch_unwind(AssertUnwindSafe(|| emitter.post(Tick(1))));
        assert!(panicked.is_err());
        timeout(SECOND, emitter.drain()).await.unwrap();
        Ok(())
    })
    .await
    .unwrap();
}

/// The runtime of a scope can shut down before the scope ends. The task that would deliver the event is then dropped
/// when it is spawned.
#[test]
fn post_to_a_listener_whose_runtime_is_gone_is_dropped() {
    let received = Received::default();
    let (kept, emitters) = mpsc::channel();
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    let mut body = Box::pin(scope(async |n: &Nursery| {
        let emitter = Emitter::new(n);
        emitter.on("gone", received.by("gone")).unwrap().forever();
        kept.send(emitter).unwrap();
        pending::<()>().await;
        Ok(())
    }));
    runtime.block_on(poll_fn(|cx| {
        assert!(body.as_mut().poll(cx).is_pending());
        Poll::Ready(())
    }));
    drop(runtime);
    let emitter = emitters.recv().unwrap();
    for number in 0..2 {
        assert_eq!(emitter.post(Tick(number)).unwrap(), posted(0, 1));
    }
    emitter.close();
    assert!(emitter.post(Tick(2)).is_err());
    assert_eq!(received.take(), []);
}
