//! Emitters: emits and posts with their ends, and the readers of streams.

use std::future::pending;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use motet::event::{Emitter, Event, Lag, LagError};
use motet::task::{Nursery, drain, scope, timeout, unscoped};
use motet_testkit::cancel::Outcome;
use motet_testkit::cancel_everywhere;
use motet_testkit::sim::{Failure, Sweep};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

use super::{Driver, draw, millis, passes, swept};
use crate::notes::Live;

pub(super) const EMITTED: Driver = Driver {
    drives: &["event::Emitter::emit", "event::Emitter::emit_named"],
    cancel: cancel_emitted,
    sweep: sweep_emitted,
};

pub(super) const POSTED: Driver =
    Driver { drives: &["event::Emitter::drain"], cancel: cancel_posted, sweep: sweep_posted };

pub(super) const READ: Driver = Driver {
    drives: &["event::Events::next", "event::Emitter::next"],
    cancel: cancel_read,
    sweep: sweep_read,
};

#[test]
fn scope_dropped_during_an_emit_leaves_no_listener_running() {
    cancel_emitted();
}

#[test]
fn every_order_calls_a_listener_once_per_event_and_none_if_off() {
    passes(sweep_emitted);
}

#[test]
fn scope_dropped_amid_posts_leaves_no_task_and_keeps_order() {
    cancel_posted();
}

#[test]
fn every_order_delivers_all_queued_posts_in_order() {
    passes(sweep_posted);
}

#[test]
fn scope_with_event_readers_dropped_anywhere_leaves_no_task() {
    cancel_read();
}

#[test]
fn every_order_wakes_readers_and_counts_the_missed_events() {
    passes(sweep_read);
}

struct Tick(u64);

impl Event for Tick {
    const NAME: &'static str = "tick";
}

/// The numbers of the received events, in order.
#[derive(Clone, Default)]
struct Received(Arc<Mutex<Vec<u64>>>);

impl Received {
    fn note(&self, number: u64) {
        self.0.lock().unwrap().push(number);
    }

    fn read(&self) -> Vec<u64> {
        self.0.lock().unwrap().clone()
    }

    fn sorted(&self) -> Vec<u64> {
        let mut received = self.read();
        received.sort_unstable();
        received
    }
}

/// Adds a listener that takes less than `below` milliseconds, and then notes the event.
fn slow(emitter: &Emitter, received: &Received, live: &Live, below: u64) {
    let (received, live) = (received.clone(), live.clone());
    let listener = move |tick: Arc<Tick>| {
        let (received, alive) = (received.clone(), live.enter());
        async move {
            let _alive = alive;
            yield_now().await;
            sleep(millis(draw(below))).await;
            received.note(tick.0);
        }
    };
    emitter.listener("slow").priority(1).on_async(listener).unwrap().forever();
}

fn cancel_emitted() {
    cancel_everywhere(
        async || (Live::default(), Received::default(), Received::default()),
        async |(live, received, once)| {
            scope(async |n: &Nursery| {
                let emitter = Emitter::builder(n).concurrency(2.try_into().unwrap()).build();
                slow(&emitter, received, live, 3);
                slow(&emitter, received, live, 3);
                let notes = once.clone();
                emitter.once("once", move |tick: &Tick| notes.note(tick.0)).unwrap().forever();
                slow(&emitter, received, live, 3);
                for number in 0..2 {
                    assert!(emitter.emit(Tick(number)).await.unwrap().is_ok());
                    assert_eq!(live.count(), 0, "the emit ended before its listeners");
                }
                Ok(())
            })
            .await
            .unwrap();
        },
        async |(live, received, once), outcome| {
            if matches!(outcome, Outcome::Dropped { .. }) {
                drain().await;
            }
            assert_eq!((live.count(), unscoped()), (0, 0));
            let (received, once) = (received.sorted(), once.read());
            assert!(
                [0, 1]
                    .iter()
                    .all(|number| received.iter().filter(|received| *received == number).count() <= 3)
            );
            assert!(once.is_empty() || once == [0]);
            if outcome == Outcome::Completed(()) {
                assert_eq!((received, once), (vec![0, 0, 0, 1, 1, 1], vec![0]));
            }
        },
    );
}

fn sweep_emitted(planted: Option<&'static str>) -> Result<Sweep, Failure> {
    swept(planted, || async {
        let (live, received, once) = (Live::default(), Received::default(), Received::default());
        let begin = Instant::now();
        scope(async |n: &Nursery| {
            let concurrency = usize::try_from(1 + draw(3)).unwrap();
            let emitter =
                Emitter::builder(n).concurrency(concurrency.try_into().unwrap()).timeout(millis(50)).build();
            slow(&emitter, &received, &live, 10);
            let notes = once.clone();
            emitter.once("once", move |tick: &Tick| notes.note(tick.0)).unwrap().forever();
            let hangs = draw(4) == 0;
            if hangs {
                emitter.on_async("hangs", |_: Arc<Tick>| pending::<()>()).unwrap().forever();
            }
            let off = Arc::new(AtomicBool::new(false));
            let sees = Arc::clone(&off);
            let short = emitter.on("short", move |_: &Tick| {
                assert!(!sees.load(Ordering::Relaxed), "called while it is off");
            });
            let short = short.unwrap();
            n.spawn("goes off", async move {
                sleep(millis(draw(20))).await;
                short.off();
                off.store(true, Ordering::Relaxed);
            });
            let emits: Vec<_> = (0..3)
                .map(|number| {
                    let (emitter, time) = (emitter.clone(), draw(20));
                    n.spawn("emits", async move {
                        sleep(millis(time)).await;
                        emitter.emit(Tick(number)).await.unwrap()
                    })
                })
                .collect();
            let mut single = 0;
            for emits in emits {
                let emitted = emits.await.unwrap();
                let failed: Vec<_> = emitted.failed().iter().map(ToString::to_string).collect();
                let expected: &[&str] = if hangs { &["listener `hangs` took longer than 50ms"] } else { &[] };
                assert_eq!(failed, expected);
                motet::sometimes!(emitted.skipped() > 0, "a listener goes off before its turn");
                single += emitted.succeeded();
            }
            // Each event is handled by the slow listener, and one by the `once` listener; the short listener may have
            // received any number of them.
            assert!((4..=7).contains(&single), "{single}");
            Ok(())
        })
        .await
        .unwrap();
        assert_eq!((received.sorted(), once.read().len(), live.count()), (vec![0, 1, 2], 1, 0));
        assert!(begin.elapsed() < millis(400));
    })
}

fn cancel_posted() {
    cancel_everywhere(
        async || (Live::default(), Received::default()),
        async |(live, received)| {
            scope(async |n: &Nursery| {
                let emitter = Emitter::new(n);
                slow(&emitter, received, live, 5);
                for number in 0..3 {
                    assert_eq!(emitter.post(Tick(number)).unwrap().queued, 1);
                    yield_now().await;
                }
                // Dropping the wait loses nothing.
                assert!(timeout(millis(0), emitter.drain()).await.is_err());
                emitter.drain().await;
                assert_eq!((received.read(), live.count()), (vec![0, 1, 2], 0));
                Ok(())
            })
            .await
            .unwrap();
        },
        async |(live, received), outcome| {
            if matches!(outcome, Outcome::Dropped { .. }) {
                drain().await;
            }
            assert_eq!((live.count(), unscoped()), (0, 0));
            assert!([0, 1, 2].starts_with(&received.read()));
        },
    );
}

fn sweep_posted(planted: Option<&'static str>) -> Result<Sweep, Failure> {
    swept(planted, || async {
        let (live, received) = (Live::default(), Received::default());
        let begin = Instant::now();
        scope(async |n: &Nursery| {
            let room = usize::try_from(1 + draw(6)).unwrap();
            let emitter = Emitter::builder(n).backlog(room.try_into().unwrap()).build();
            slow(&emitter, &received, &live, 3);
            let mut expected = Vec::new();
            for number in 0..6 {
                sleep(millis(draw(4))).await;
                if emitter.post(Tick(number)).unwrap().queued == 1 {
                    expected.push(number);
                }
            }
            motet::sometimes!(expected.len() < 6, "a backlog is full");
            motet::sometimes!(
                received.read().len() < expected.len(),
                "events wait when the emitter is closed"
            );
            timeout(millis(1_000), emitter.drain()).await.expect("the drain ends");
            assert_eq!((received.read(), live.count()), (expected, 0));
            assert!(emitter.post(Tick(9)).is_err());
            Ok(())
        })
        .await
        .unwrap();
        assert!(begin.elapsed() < millis(100));
    })
}

fn cancel_read() {
    cancel_everywhere(
        async || (),
        async |()| {
            scope(async |n: &Nursery| {
                let emitter = Emitter::new(n);
                let mut lossless = emitter.stream::<Tick>(Lag::Wait(1.try_into().unwrap()));
                let mut lossy = emitter.stream::<Tick>(Lag::DropOldest(2.try_into().unwrap()));
                let next = emitter.next::<Tick>();
                n.spawn("emits", async move {
                    for number in 0..4 {
                        sleep(millis(5)).await;
                        assert!(emitter.emit(Tick(number)).await.unwrap().is_ok());
                    }
                    emitter.close();
                });
                assert_eq!(next.await.unwrap().0, 0);
                for number in 0..4 {
                    // Dropping the wait leaves the event in the stream.
                    let event = match timeout(millis(0), lossless.next()).await {
                        Ok(event) => event,
                        Err(_) => lossless.next().await,
                    };
                    assert_eq!(event.unwrap().unwrap().0, number);
                }
                assert!(lossless.next().await.is_none());
                assert_eq!(lossy.next().await.unwrap().err(), Some(LagError(2)));
                assert_eq!(lossy.next().await.unwrap().unwrap().0, 2);
                assert_eq!(lossy.next().await.unwrap().unwrap().0, 3);
                assert!(lossy.next().await.is_none());
                Ok(())
            })
            .await
            .unwrap();
        },
        async |(), outcome| {
            if matches!(outcome, Outcome::Dropped { .. }) {
                drain().await;
            }
            assert_eq!(unscoped(), 0);
        },
    );
}

fn sweep_read(planted: Option<&'static str>) -> Result<Sweep, Failure> {
    swept(planted, || async {
        let begin = Instant::now();
        scope(async |n: &Nursery| {
            let emitter = Emitter::new(n);
            // A waiting reader is woken by the event, and not by the end of the stream.
            let mut latest = emitter.stream::<Tick>(Lag::Latest);
            let waits = n.spawn("waits", async move { latest.next().await.unwrap().unwrap().0 });
            sleep(millis(draw(4))).await;
            assert!(emitter.emit(Tick(7)).await.unwrap().is_ok());
            assert_eq!(timeout(millis(1_000), waits).await.expect("the reader is woken").unwrap(), 7);
            let mut lossless = emitter.stream::<Tick>(Lag::Wait(2.try_into().unwrap()));
            let mut lossy = emitter.stream::<Tick>(Lag::DropOldest(2.try_into().unwrap()));
            let next = n.spawn("waits", emitter.next::<Tick>());
            let reads = n.spawn("reads all", async move {
                for number in 0..6 {
                    let event = timeout(millis(1_000), lossless.next()).await.expect("the reader is woken");
                    assert_eq!(event.unwrap().unwrap().0, number);
                    sleep(millis(draw(4))).await;
                }
                assert!(timeout(millis(1_000), lossless.next()).await.expect("the stream ends").is_none());
            });
            let reads_some = n.spawn("reads some", async move {
                let mut expected = 0;
                while let Some(read) =
                    timeout(millis(1_000), lossy.next()).await.expect("the reader is woken")
                {
                    match read {
                        Ok(tick) => {
                            assert_eq!(tick.0, expected);
                            expected += 1;
                        }
                        Err(LagError(count)) => {
                            motet::sometimes!(true, "a stream lags");
                            expected += count;
                        }
                    }
                    sleep(millis(draw(6))).await;
                }
                assert_eq!(expected, 6);
            });
            for number in 0..6 {
                sleep(millis(draw(3))).await;
                assert!(emitter.emit(Tick(number)).await.unwrap().is_ok());
            }
            emitter.close();
            assert_eq!(
                timeout(millis(1_000), next).await.expect("the reader is woken").unwrap().unwrap().0,
                0
            );
            reads.await.unwrap();
            reads_some.await.unwrap();
            Ok(())
        })
        .await
        .unwrap();
        // A reader that is not woken would find its event only at its timeout.
        assert!(begin.elapsed() < millis(100));
    })
}
