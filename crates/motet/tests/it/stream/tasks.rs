//! Streams whose items come from tasks: order, limits, panics, and how they stop.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::{FusedStream, Stream};
use motet::stream::{Spawned, StreamCombinators as _, generator, try_generator};
use motet::task::{Nursery, Policy, Reason, Scope, drain, scope, timeout, unscoped};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};
use tokio_stream::StreamExt as _;

use super::block_on;
use crate::caught::caught;
use crate::notes::Live;

const MS: Duration = Duration::from_millis(1);

/// Reads to the end; a panic is its words.
async fn read<T>(stream: &mut Spawned<T>) -> Vec<Result<T, String>> {
    let mut seen = Vec::new();
    std::future::poll_fn(|cx| {
        loop {
            match catch_unwind(AssertUnwindSafe(|| Pin::new(&mut *stream).poll_next(cx))) {
                Ok(Poll::Ready(Some(item))) => seen.push(Ok(item)),
                Ok(Poll::Ready(None)) => return Poll::Ready(()),
                Ok(Poll::Pending) => return Poll::Pending,
                Err(payload) => seen.push(Err(payload.downcast_ref::<String>().unwrap().clone())),
            }
        }
    })
    .await;
    seen
}

#[test]
fn par_map_runs_exactly_its_concurrency_at_once() {
    block_on(async {
        scope(async |n: &Nursery| {
            let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let seen = Arc::clone(&most);
            // Quick ones first, so that workers take many at once when the slow ones come.
            let begun = Instant::now();
            let stream = tokio_stream::iter(0..1_032_u64).par_map(8, move |number| {
                let (now, most) = (Arc::clone(&now), Arc::clone(&most));
                async move {
                    if number >= 1_000 {
                        most.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                        sleep(MS * 10).await;
                        now.fetch_sub(1, Ordering::Relaxed);
                    }
                    number
                }
            });
            let numbers: Vec<_> = stream.ordered(n, "numbers").unwrap().collect().await;
            assert_eq!(numbers, (0..1_032).collect::<Vec<_>>());
            assert_eq!(seen.load(Ordering::Relaxed), 8);
            assert_eq!(begun.elapsed(), MS * 40, "32 items, 8 at once, 10 ms each");
            Ok(())
        })
        .await
        .unwrap();
    });
}

#[test]
fn ordered_keeps_the_order_and_unordered_yields_as_they_end() {
    block_on(async {
        scope(async |n: &Nursery| {
            let slow_first = || {
                tokio_stream::iter(0..4_u32).par_map(4, async |number| {
                    sleep(MS * (4 - number)).await;
                    number
                })
            };
            let ordered: Vec<_> = slow_first().ordered(n, "ordered").unwrap().collect().await;
            assert_eq!(ordered, [0, 1, 2, 3]);
            let unordered: Vec<_> = slow_first().unordered(n, "unordered").unwrap().collect().await;
            assert_eq!(unordered, [3, 2, 1, 0]);
            Ok(())
        })
        .await
        .unwrap();
    });
}

#[test]
fn window_of_par_map_bounds_the_items_taken_from_the_source() {
    block_on(async {
        for (window, most) in [(Some(1), 1), (Some(3), 3), (Some(100), 100), (None, 4)] {
            scope(async |n: &Nursery| {
                let taken = Arc::new(AtomicUsize::new(0));
                let counts = Arc::clone(&taken);
                let source = tokio_stream::iter(0..200).map(move |number| {
                    counts.fetch_add(1, Ordering::Relaxed);
                    number
                });
                let mut map = source.par_map(2, async |number| {
                    sleep(MS).await;
                    number
                });
                if let Some(window) = window {
                    map = map.window(window);
                }
                let mut stream = map.ordered(n, "windowed").unwrap();
                for read in 0..20 {
                    sleep(MS * 300).await;
                    let taken = taken.load(Ordering::Relaxed);
                    assert!(taken <= read + most, "{taken} taken after {read} were read, {window:?}");
                    assert_eq!(stream.next().await, Some(read));
                }
                Ok(())
            })
            .await
            .unwrap();
        }
    });
}

#[test]
fn panic_of_an_item_resumes_in_the_reader_in_place_of_it() {
    block_on(async {
        scope(async |n: &Nursery| {
            for ordered in [true, false] {
                let map = tokio_stream::iter(0..200).par_map(3, async |number: u32| {
                    if number.is_multiple_of(3) {
                        yield_now().await;
                    }
                    assert!(number % 50 != 7, "number {number} panics");
                    number
                });
                let started = if ordered { map.ordered(n, "map") } else { map.unordered(n, "map") };
                let mut stream = started.unwrap();
                let mut seen = read(&mut stream).await;
                let mut expected: Vec<_> =
                    (0..200)
                        .map(|number| {
                            if number % 50 == 7 { Err(format!("number {number} panics")) } else { Ok(number) }
                        })
                        .collect();
                if !ordered {
                    seen.sort_unstable();
                    expected.sort_unstable();
                }
                assert_eq!(seen, expected);
                assert!(stream.is_terminated() && stream.cut_off().is_none());
            }
            Ok(())
        })
        .await
        .unwrap();
    });
}

#[test]
fn panics_of_source_and_function_resume_in_the_reader() {
    block_on(async {
        scope(async |n: &Nursery| {
            let source = || {
                generator(async |mut y| {
                    for number in 0..3 {
                        y.emit(number).await;
                    }
                    panic!("{}", "the source panics".to_owned());
                })
            };
            let mut stream = source().spawned(n, "source", 8).unwrap();
            assert_eq!(read(&mut stream).await, [Ok(0), Ok(1), Ok(2), Err("the source panics".to_owned())]);
            let called = |number| {
                assert!(number != 1, "called with {number}");
                std::future::ready(number)
            };
            let mut stream = source().par_map(2, called).ordered(n, "map").unwrap();
            let expected =
                [Ok(0), Err("called with 1".to_owned()), Ok(2), Err("the source panics".to_owned())];
            assert_eq!(read(&mut stream).await, expected);
            Ok(())
        })
        .await
        .unwrap();
    });
}

#[test]
fn unread_panic_resumes_in_the_scope() {
    block_on(async {
        let ended = async {
            scope(async |n: &Nursery| {
                let map =
                    tokio_stream::iter(0..4).par_map(2, async |number: u32| assert!(number != 2, "unread"));
                let mut stream = map.ordered(n, "map").unwrap();
                assert_eq!(stream.next().await, Some(()));
                sleep(MS).await;
                drop(stream);
                Ok(())
            })
            .await
        };
        let payload = caught(ended).await.expect_err("the scope rethrows it");
        assert_eq!(*payload.downcast_ref::<&str>().unwrap(), "unread");
    });
}

#[test]
fn error_of_an_item_is_yielded_in_its_position() {
    block_on(async {
        scope(async |n: &Nursery| {
            let lines = try_generator(async |mut y| {
                y.emit("1").await;
                y.emit("x").await;
                y.emit("3").await;
                Err("connection reset".to_owned())
            });
            let numbers = lines.par_map(2, async |line: Result<&str, String>| {
                line?.parse::<u32>().map_err(|error| error.to_string())
            });
            let numbers: Vec<_> = numbers.ordered(n, "parse").unwrap().collect().await;
            assert_eq!(
                numbers,
                [
                    Ok(1),
                    Err("invalid digit found in string".to_owned()),
                    Ok(3),
                    Err("connection reset".to_owned())
                ]
            );
            Ok(())
        })
        .await
        .unwrap();
    });
}

#[test]
fn dropped_stream_drops_its_source_and_workers() {
    block_on(async {
        for read in [0, 1, 5] {
            let live = Live::default();
            scope(async |n: &Nursery| {
                let source = {
                    let live = live.clone();
                    generator(async move |mut y| {
                        let _held = live.enter();
                        loop {
                            y.emit(live.enter()).await;
                        }
                    })
                };
                let held = live.clone();
                let map = source.par_map(3, move |item| {
                    let at_work = held.enter();
                    async move {
                        sleep(MS * 10).await;
                        drop(at_work);
                        item
                    }
                });
                let mut stream = map.unordered(n, "map").unwrap();
                for _ in 0..read {
                    assert!(stream.next().await.is_some());
                }
                sleep(MS * 15).await;
                assert!(live.count() > 3);
                drop(stream);
                sleep(MS).await;
                assert_eq!(live.count(), 0, "after {read} were read");
                Ok(())
            })
            .await
            .unwrap();
        }
    });
}

#[test]
fn stream_read_after_its_scope_was_cancelled_is_cut_off() {
    block_on(async {
        for ordered in [true, false] {
            let out = Arc::new(Mutex::new(None));
            let keeps = Arc::clone(&out);
            let ended = scope(async move |n: &Nursery| {
                let map = tokio_stream::iter(0..).par_map(2, async |number: u64| {
                    sleep(MS * (10 + number % 2 * 50) as u32).await;
                    number
                });
                let started = if ordered { map.ordered(n, "map") } else { map.unordered(n, "map") };
                *keeps.lock().unwrap() = Some(started.unwrap());
                sleep(MS * 25).await;
                n.cancel(Reason::requested("enough"));
                std::future::pending::<Result<(), _>>().await
            });
            assert!(ended.await.unwrap_err().is_cancelled());
            let mut stream = out.lock().unwrap().take().unwrap();
            assert!(stream.cut_off().is_none(), "there is something to read");
            let rest = timeout(MS * 1_000, read(&mut stream)).await.expect("it ends");
            let numbers: Vec<_> = rest.into_iter().map(Result::unwrap).collect();
            match ordered {
                true => assert_eq!(numbers, [0], "1 was cut off, and nothing overtakes it"),
                false => assert_eq!(numbers, [0, 2]),
            }
            assert_eq!(stream.cut_off().unwrap().text(), Some("enough"));
        }
    });
}

#[test]
fn closed_scope_hands_the_source_back() {
    block_on(async {
        let handle = scope(async |n: &Nursery| Ok(Scope::clone(n))).await.unwrap();
        let refused = tokio_stream::iter([1, 2]).spawned(&handle, "late", 1).unwrap_err();
        assert!(refused.is_scope_closed());
        assert_eq!(refused.into_stream().collect::<Vec<_>>().await, [1, 2]);
        let refused = tokio_stream::iter([1]).par_map(2, async |number: u32| number).ordered(&handle, "late");
        assert!(format!("{:?}", refused.unwrap_err().into_stream()).contains("workers: 2"));
        let batched = tokio_stream::iter([1]).par_map_batched(1, 1, async |batch: Vec<u32>| batch);
        assert!(batched.unordered(&handle, "late").is_err());
    });
}

#[test]
fn zero_setting_of_a_stream_is_refused_with_its_name() {
    block_on(async {
        scope(async |n: &Nursery| {
            let one = || tokio_stream::iter([1]);
            let map = async |number: u32| number;
            let batched = async |batch: Vec<u32>| batch;
            let errors = [
                ("ahead", one().spawned(n, "zero", 0).err().map(|error| error.to_string())),
                ("workers", one().par_map(0, map).ordered(n, "zero").err().map(|error| error.to_string())),
                ("window", one().par_map(1, map).window(0).unordered(n, "zero").err().map(|e| e.to_string())),
                (
                    "workers",
                    one().par_map_batched(0, 1, batched).ordered(n, "zero").err().map(|e| e.to_string()),
                ),
                (
                    "max_items",
                    one().par_map_batched(1, 0, batched).ordered(n, "zero").err().map(|e| e.to_string()),
                ),
                ("max_items", one().chunks_within(0, Duration::ZERO).err().map(|error| error.to_string())),
            ];
            for (setting, error) in errors {
                assert_eq!(error, Some(format!("`{setting}` is 0; it must be at least 1")));
            }
            let back = one().chunks_within(0, Duration::ZERO).unwrap_err();
            assert!(!back.is_scope_closed());
            assert_eq!(back.into_stream().collect::<Vec<_>>().await, [1]);
            Ok(())
        })
        .await
        .unwrap();
    });
}

#[test]
fn spawned_stream_runs_ahead_by_exactly_its_capacity() {
    block_on(async {
        scope(async |n: &Nursery| {
            let emitted = Arc::new(AtomicUsize::new(0));
            let counts = Arc::clone(&emitted);
            let source = generator(async move |mut y| {
                for number in 0..100 {
                    counts.fetch_add(1, Ordering::Relaxed);
                    sleep(MS).await;
                    y.emit(number).await;
                }
            });
            let mut stream = source.spawned(n, "source", 4).unwrap();
            sleep(MS * 50).await;
            assert_eq!(
                emitted.load(Ordering::Relaxed),
                4,
                "four are taken; the body waits in the fourth emit"
            );
            for number in 0..100 {
                assert_eq!(stream.next().await, Some(number));
            }
            assert_eq!((stream.next().await, stream.next().await), (None, None));
            Ok(())
        })
        .await
        .unwrap();
    });
}

#[test]
fn par_map_batched_takes_ready_items_and_keeps_all_results() {
    block_on(async {
        scope(async |n: &Nursery| {
            let sizes = Arc::new(Mutex::new(Vec::new()));
            let sees = Arc::clone(&sizes);
            let source = generator(async |mut y| {
                for number in 0..10 {
                    if number % 4 == 0 {
                        sleep(MS).await;
                    }
                    y.emit(number).await;
                }
            });
            let map = source.par_map_batched(2, 3, move |batch: Vec<u32>| {
                sees.lock().unwrap().push(batch.len());
                // Some have no result, some have two.
                let results =
                    batch.into_iter().flat_map(|number| vec![number; number as usize % 3]).collect();
                std::future::ready(results)
            });
            let results: Vec<_> = map.window(4).ordered(n, "batches").unwrap().collect().await;
            assert_eq!(
                results,
                (0..10).flat_map(|number| vec![number; number as usize % 3]).collect::<Vec<_>>()
            );
            assert_eq!(*sizes.lock().unwrap(), [3, 1, 3, 1, 2]);
            Ok(())
        })
        .await
        .unwrap();
    });
}

#[test]
fn stream_of_par_map_is_in_snapshots_until_it_is_dropped() {
    block_on(async {
        scope(async |n: &Nursery| {
            let mut stream =
                tokio_stream::iter(0..10).par_map(2, async |number: u32| number).ordered(n, "map").unwrap();
            assert_eq!(stream.next().await, Some(0));
            let shown = n.snapshot().to_string();
            assert!(shown.contains("map") && shown.contains("workers"), "{shown}");
            drop(stream);
            assert!(!n.snapshot().to_string().contains("workers"));
            Ok(())
        })
        .await
        .unwrap();
    });
}

#[test]
fn source_that_panics_on_drop_does_not_fail_an_isolating_scope() {
    struct Bomb(Arc<AtomicBool>);
    impl Drop for Bomb {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
            if !std::thread::panicking() {
                panic!("dropped");
            }
        }
    }
    struct Source(#[allow(dead_code, reason = "dropped")] Bomb);
    impl Stream for Source {
        type Item = u32;
        fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<u32>> {
            Poll::Ready(Some(1))
        }
    }
    let is_dropped = Arc::<AtomicBool>::default();
    block_on(async {
        let ended = Scope::builder().policy(Policy::Isolate).run(async |n: &Nursery<String>| {
            let mut stream = Source(Bomb(Arc::clone(&is_dropped))).spawned(n, "source", 2).unwrap();
            assert_eq!(stream.next().await, Some(1));
            drop(stream);
            Ok(())
        });
        ended.await.unwrap();
        drain().await;
        assert_eq!(unscoped(), 0);
    });
    assert!(is_dropped.load(Ordering::Relaxed));
}

#[test]
fn par_map_loses_no_item_across_threads() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_time().build().unwrap();
    let rounds = std::env::var("MOTET_STRESS_ROUNDS").map_or(200, |rounds| rounds.parse().unwrap());
    runtime.block_on(async {
        for round in 0..rounds {
            scope(async |n: &Nursery| {
                let map = tokio_stream::iter(0..2_000_u64).par_map(1 + round % 5, async |number| {
                    if number % 97 == 0 {
                        yield_now().await;
                    }
                    number
                });
                let map = if round % 3 == 0 { map.window(1 + round % 20) } else { map };
                let ordered: Vec<_> = map.ordered(n, "ordered").unwrap().collect().await;
                assert_eq!(ordered, (0..2_000).collect::<Vec<_>>());
                let map = tokio_stream::iter(0..2_000_u64).par_map(4, async |number| number);
                let mut unordered: Vec<_> =
                    map.unordered(n, "unordered").unwrap().take(1_000 + round).collect().await;
                unordered.sort_unstable();
                unordered.dedup();
                assert_eq!(unordered.len(), 1_000 + round);
                Ok(())
            })
            .await
            .unwrap();
        }
    });
}
