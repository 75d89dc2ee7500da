//! Streams of tasks, and pipes: each item is yielded once, also with a slow reader, a panic or a drop.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;

use futures_core::Stream;
use motet::event::Lag;
use motet::queue::{self, Receiver};
use motet::resilience::Retry;
use motet::stream::{Spawned, StreamCombinators as _, generator, retry_source, try_generator};
use motet::task::{Nursery, drain, scope, timeout};
use motet::{Backoff, rng};
use motet_testkit::cancel_everywhere;
use motet_testkit::sim::{Failure, Sweep};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};
use tokio_stream::StreamExt as _;

use super::{Driver, draw, millis, passes, swept};
use crate::caught::caught;
use crate::notes::{Alive, Live};

pub(super) const DRIVER: Driver = Driver { drives: &["stream::PipeTo"], cancel, sweep };

#[test]
fn dropped_stream_leaves_nothing_alive_and_paused_pipe_resumes() {
    cancel();
}

#[test]
fn every_order_yields_each_item_of_a_stream_once() {
    passes(sweep);
}

type Numbered = (usize, Alive);

fn source(count: usize, live: &Live) -> impl Stream<Item = Numbered> + Send + use<> {
    let live = live.clone();
    generator(async move |mut y| {
        let _held = live.enter();
        for number in 0..count {
            match draw(6) {
                0 => sleep(millis(draw(4))).await,
                1 => yield_now().await,
                _ => {}
            }
            y.emit((number, live.enter())).await;
        }
    })
}

/// Waits or not; panics with every seventh.
async fn work((number, alive): Numbered) -> usize {
    match number % 4 {
        0 => sleep(millis(rng::with(|rng| rng.below(5)))).await,
        1 => yield_now().await,
        _ => {}
    }
    if number % 7 == 3 {
        resume_unwind(Box::new(number));
    }
    drop(alive);
    number
}

/// The next item, or the number with which the work on it panicked.
async fn next(stream: &mut Spawned<usize>) -> Option<usize> {
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| Pin::new(&mut *stream).poll_next(cx))) {
        Ok(polled) => polled,
        Err(payload) => Poll::Ready(Some(*payload.downcast::<usize>().unwrap())),
    })
    .await
}

fn cancel() {
    cancel_everywhere(
        async || Live::default(),
        async |live| {
            scope(async |n: &Nursery<()>| {
                for ordered in [true, false] {
                    let held = live.clone();
                    let numbers = generator(async move |mut y| {
                        for number in 0..3 {
                            y.emit((number, held.enter())).await;
                        }
                    });
                    let map = numbers.par_map(2, work);
                    let started = if ordered { map.ordered(n, "map") } else { map.unordered(n, "map") };
                    let mut stream = started.map_err(drop).unwrap();
                    let mut seen = Vec::new();
                    while let Some(number) = next(&mut stream).await {
                        seen.push(number);
                    }
                    seen.sort_unstable();
                    assert_eq!(seen, [0, 1, 2]);
                }
                Ok(())
            })
            .await
            .unwrap();
        },
        async |live, _| {
            drain().await;
            assert_eq!(live.count(), 0, "an item or a source is alive");
        },
    );
    // A pipe that is given up and taken up again.
    cancel_everywhere(
        async || {
            let (sender, receiver) = queue::bounded(2).unwrap();
            let pipe = tokio_stream::iter(0..5).pipe_to(sender);
            (tokio::sync::Mutex::new(Box::pin(pipe)), receiver)
        },
        async |(pipe, receiver): &(tokio::sync::Mutex<Pin<Box<_>>>, Receiver<u32>)| {
            let mut pipe = pipe.lock().await;
            let (sent, ()) = tokio::join!(pipe.as_mut(), async {
                for _ in 0..3 {
                    receiver.recv().await.unwrap();
                }
            });
            assert_eq!(sent.unwrap(), 5);
        },
        async |(pipe, receiver), outcome| {
            if let motet_testkit::cancel::Outcome::Completed(()) = outcome {
                assert_eq!((receiver.recv().await, receiver.recv().await), (Some(3), Some(4)));
                return;
            }
            let mut pipe = pipe.lock().await;
            let mut last = None;
            let rest = async {
                while let Some(number) = receiver.recv().await {
                    assert!(last.is_none_or(|last| number == last + 1), "lost, doubled or out of order");
                    last = Some(number);
                    if number == 4 {
                        break;
                    }
                }
            };
            let (sent, ()) = tokio::join!(pipe.as_mut(), rest);
            assert_eq!(sent.unwrap(), 5);
        },
    );
}

fn sweep(planted: Option<&'static str>) -> Result<Sweep, Failure> {
    swept(planted, || async {
        mapped().await;
        side_by_side().await;
        left_early().await;
        several_readers().await;
        gathered().await;
        opened_again().await;
    })
}

/// All items come out, in order where that is promised, no more at once than may, none further ahead than may.
async fn mapped() {
    let live = Live::default();
    let count = 12 + draw(12) as usize;
    scope(async |n: &Nursery<()>| {
        let (workers, window) = (1 + draw(3) as usize, 1 + draw(6) as usize);
        let taken = Arc::new(AtomicUsize::new(0));
        let counts = Arc::clone(&taken);
        let counted = source(count, &live).map(move |item| {
            counts.fetch_add(1, Ordering::Relaxed);
            item
        });
        let map = counted.par_map(workers, work).window(window);
        let ordered = draw(2) == 0;
        let started = if ordered { map.ordered(n, "map") } else { map.unordered(n, "map") };
        let mut stream = started.map_err(drop).unwrap();
        let mut seen = Vec::new();
        loop {
            if draw(4) == 0 {
                sleep(millis(20)).await;
                let (taken, read) = (taken.load(Ordering::Relaxed), seen.len());
                assert!(taken <= read + window, "{taken} taken and {read} read, with a window of {window}");
            }
            let next = timeout(millis(1_000), next(&mut stream)).await.expect("the reader is woken");
            let Some(number) = next else { break };
            seen.push(number);
        }
        if !ordered {
            seen.sort_unstable();
        }
        assert_eq!(seen, (0..count).collect::<Vec<_>>());
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(live.count(), 0);
}

/// Work that waits runs `workers` items at once, after any earlier work.
async fn side_by_side() {
    scope(async |n: &Nursery<()>| {
        let map = tokio_stream::iter(0..136_u32).par_map(4, async |number| {
            if number >= 128 {
                sleep(millis(100)).await;
            }
            number
        });
        let mut stream = map.ordered(n, "map").map_err(drop).unwrap();
        let begun = Instant::now();
        let mut read = 0;
        while stream.next().await.is_some() {
            read += 1;
        }
        assert_eq!(read, 136);
        assert!(begun.elapsed() < millis(300), "eight, four at once, took {:?}", begun.elapsed());
        Ok(())
    })
    .await
    .unwrap();
}

/// A reader that goes stops workers and source; a panic that it has not read goes to the scope.
async fn left_early() {
    let live = Live::default();
    let ended = caught(scope(async |n: &Nursery<()>| {
        let mut stream = source(1_000, &live).par_map(2, work).unordered(n, "map").map_err(drop).unwrap();
        for _ in 0..draw(6) {
            next(&mut stream).await.unwrap();
        }
        drop(stream);
        sleep(millis(10)).await;
        assert_eq!(live.count(), 0, "the source, a worker or an item lives on");
        Ok(())
    }))
    .await;
    match ended {
        Ok(ended) => ended.unwrap(),
        Err(payload) => assert_eq!(*payload.downcast::<usize>().unwrap() % 7, 3),
    }
}

async fn several_readers() {
    let live = Live::default();
    scope(async |n: &Nursery<()>| {
        let room = NonZeroUsize::new(1 + draw(3) as usize).unwrap();
        let numbers = source(20, &live).map(|(number, _)| number);
        let three = NonZeroUsize::new(3).unwrap();
        let readers = numbers.broadcast(n, "numbers", three, Lag::Wait(room)).map_err(drop).unwrap();
        let taken = Arc::new(Mutex::new(BTreeMap::new()));
        for (at, mut reader) in readers.into_iter().enumerate() {
            let (leaves_after, taken) =
                (if at == 0 { draw(20) as usize } else { usize::MAX }, Arc::clone(&taken));
            n.spawn("reads", async move {
                let mut next = 0;
                while next < leaves_after {
                    if draw(3) == 0 {
                        sleep(millis(draw(4))).await;
                    }
                    let item = timeout(millis(1_000), reader.next()).await.expect("it is woken");
                    let Some(item) = item else { break };
                    assert_eq!(*item.expect("nothing is missed"), next);
                    next += 1;
                }
                taken.lock().unwrap().insert(at, next);
            });
            if at == 2 {
                // The distance between two readers is limited by the capacity.
                sleep(millis(draw(30))).await;
            }
        }
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(live.count(), 0);
    // Without a reader, items are taken from the source only up to the capacity.
    scope(async |n: &Nursery<()>| {
        let one = NonZeroUsize::new(1).unwrap();
        let held = live.clone();
        let items = generator(async move |mut y| {
            for _ in 0..9 {
                y.emit(held.enter()).await;
            }
        });
        let readers = items.broadcast(n, "items", one, Lag::Wait(one)).map_err(drop).unwrap();
        sleep(millis(5)).await;
        assert_eq!(live.count(), 1, "the source takes more than the capacity");
        drop(readers);
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(live.count(), 0);
}

async fn gathered() {
    let begun = Instant::now();
    let trickle = generator(async |mut y| {
        for number in 0..6 {
            sleep(millis(4)).await;
            y.emit(number).await;
        }
    });
    let mut chunks = pin!(trickle.chunks_within(100, millis(10)).unwrap());
    let first = chunks.next().await.unwrap();
    let after = begun.elapsed();
    assert!(after <= millis(15), "a chunk of {} came after {after:?}", first.len());
    let mut all = first;
    while let Some(chunk) = chunks.next().await {
        all.extend(chunk);
    }
    assert_eq!(all, [0, 1, 2, 3, 4, 5]);
}

async fn opened_again() {
    let retry = Retry::new().attempts(2).unwrap().backoff(Backoff::constant(millis(5))).without_budget();
    let mut next = 0;
    let fails = 1 + draw(3) as usize;
    let stream = retry_source(retry, || {
        let first = next;
        next += fails;
        try_generator(async move |mut y| {
            for number in first..(first + fails).min(12) {
                y.emit(number).await;
                yield_now().await;
            }
            if first + fails < 12 { Err("failed") } else { Ok(()) }
        })
    });
    let seen: Vec<_> = stream.collect().await;
    assert_eq!(seen, (0..12).map(Ok).collect::<Vec<_>>());
}
