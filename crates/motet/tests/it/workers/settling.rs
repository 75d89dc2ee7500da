//! The fate of items, by the result of their handler.

use std::convert::Infallible;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use motet::observe::Stat;
use motet::queue::{self, Job};
use motet::task::{Nursery, scope};
use motet::{Backoff, Jitter};
use tokio::time::{Instant, sleep};
use tracing::Level;

use super::{Log, ms};
use crate::reader::{Lines, reader};

#[tokio::test(start_paused = true)]
async fn exactly_as_many_handlers_run_as_there_are_workers() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let begin = Instant::now();
    scope(async |n: &Nursery| {
        let (sender, receiver) = queue::bounded(100).unwrap();
        let (running, seen) = (Arc::clone(&now), Arc::clone(&most));
        let crew = receiver.workers(3).unwrap().start(n, "resize", move |_: Job<u32>| {
            let (running, seen) = (Arc::clone(&running), Arc::clone(&seen));
            async move {
                seen.fetch_max(running.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                sleep(ms(10)).await;
                running.fetch_sub(1, Ordering::Relaxed);
                Ok::<_, Infallible>(())
            }
        });
        for number in 0..30 {
            sender.send(number).await.unwrap();
        }
        drop(sender);
        let stats = crew.unwrap().ended().await;
        assert_eq!((stats.done, stats.busy, stats.workers), (30, 0, 0));
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(most.load(Ordering::Relaxed), 3);
    assert_eq!(begin.elapsed(), ms(100));
}

#[tokio::test(start_paused = true)]
async fn failed_items_are_retried_with_backoff_until_done_or_dead() {
    let tries = Log::new();
    let begin = Instant::now();
    let (dead, letters) = queue::bounded(8).unwrap();
    scope(async |n: &Nursery| {
        let (sender, receiver) =
            queue::builder(8).dead_letters(NonZeroU32::new(4).unwrap(), dead).build().unwrap();
        let handler = {
            let tries = tries.clone();
            move |job: Job<&'static str>| {
                tries.note((begin.elapsed(), *job, job.attempt()));
                async move {
                    match (*job, job.attempt()) {
                        ("flaky", 3) | ("good", _) => Ok(()),
                        ("bomb", _) => panic!("a bad item"),
                        _ => Err("not now"),
                    }
                }
            }
        };
        let backoff = Backoff::exponential(ms(10), ms(1_000)).unwrap().jitter(Jitter::None).unwrap();
        let crew = receiver.workers(2).unwrap().backoff(backoff).start(n, "flaky", handler).unwrap();
        for item in ["flaky", "poison", "bomb", "good"] {
            sender.send(item).await.unwrap();
        }
        sender.join().await.unwrap();
        assert_eq!(begin.elapsed(), ms(70));
        let stats = crew.stats();
        assert_eq!((stats.done, stats.failed, stats.panicked, stats.workers), (2, 6, 4, 2));
        drop(sender);
        Ok(())
    })
    .await
    .unwrap();
    let of = |item| {
        let tries = tries.read().into_iter().filter(move |(_, other, _)| *other == item);
        tries.map(|(at, _, attempt)| (at.as_millis(), attempt)).collect::<Vec<_>>()
    };
    assert_eq!(of("good"), [(0, 1)]);
    assert_eq!(of("flaky"), [(0, 1), (10, 2), (30, 3)]);
    assert_eq!(of("poison"), [(0, 1), (10, 2), (30, 3), (70, 4)]);
    assert_eq!(of("bomb"), [(0, 1), (10, 2), (30, 3), (70, 4)]);
    let mut dead = Vec::new();
    letters.recv_many(&mut dead, 8).await;
    let mut dead: Vec<_> = dead.into_iter().map(|letter| (letter.item, letter.attempts)).collect();
    dead.sort_unstable();
    assert_eq!(dead, [("bomb", 4), ("poison", 4)]);
}

#[tokio::test(start_paused = true)]
async fn backoff_of_zero_retries_before_other_items() {
    let tries = Log::new();
    scope(async |n: &Nursery| {
        let (sender, receiver) = queue::bounded(8).unwrap();
        for number in 0..3 {
            sender.send(number).await.unwrap();
        }
        drop(sender);
        let seen = tries.clone();
        let workers = receiver.workers(1).unwrap().backoff(Backoff::constant(Duration::ZERO));
        let crew = workers.start(n, "again", move |job: Job<u32>| {
            seen.note((*job, job.attempt()));
            let failed = *job == 0 && job.attempt() < 3;
            async move { if failed { Err("not now") } else { Ok(()) } }
        });
        drop(crew);
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(tries.read(), [(0, 1), (0, 2), (0, 3), (1, 1), (2, 1)]);
}

/// An item that never succeeds is at the front of the queue each time it is handed out.
#[tokio::test(start_paused = true)]
async fn poison_item_does_not_delay_other_items() {
    for keyed in [false, true] {
        let begin = Instant::now();
        let log = Log::new();
        let crew = scope(async |n: &Nursery| {
            let (sender, receiver) = queue::bounded(128).unwrap();
            sender.send(0).await.unwrap();
            for number in 1..=100 {
                sender.send(number).await.unwrap();
            }
            let seen = log.clone();
            let handler = move |job: Job<u32>| {
                let seen = seen.clone();
                async move {
                    sleep(ms(1)).await;
                    if *job == 0 {
                        return Err("poison");
                    }
                    seen.note(begin.elapsed());
                    Ok(())
                }
            };
            let mut workers = receiver.workers(1).unwrap();
            if keyed {
                workers = workers.keyed(|number: &u32| *number);
            }
            let crew = workers.start(n, "mixed", handler).unwrap();
            sleep(ms(600_000)).await;
            crew.cancel(motet::task::Reason::requested("enough"));
            Ok(crew.ended().await)
        });
        let stats = crew.await.unwrap();
        assert_eq!((stats.done, stats.stubborn), (100, 1));
        // With full jitter a delay is half of its ceiling on average, and the ceiling is 30 s.
        assert!((20..120).contains(&stats.failed), "{stats:?}");
        let last = log.read().pop().unwrap();
        assert!(last < ms(300), "{last:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn item_that_keeps_failing_logs_one_warning() {
    let lines = Lines::default();
    let _lines = tracing::subscriber::set_default(lines.subscriber());
    scope(async |n: &Nursery| {
        let (sender, receiver) = queue::bounded(8).unwrap();
        let workers = receiver.workers(1).unwrap().backoff(Backoff::constant(ms(1)));
        let crew = workers.start(n, "poisoned", async |_: Job<u32>| Err::<(), _>("not now")).unwrap();
        sender.send(1).await.unwrap();
        sleep(ms(100)).await;
        let stats = crew.stats();
        assert!(stats.failed > 20 && stats.stubborn == 1, "{stats:?}");
        crew.cancel(motet::task::Reason::requested("enough"));
        Ok(())
    })
    .await
    .unwrap();
    let warnings = lines.at_least(Level::WARN);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("attempt=10"), "{warnings:?}");
}

#[tokio::test(start_paused = true)]
async fn panic_in_the_drop_of_a_handlers_future_fails_only_its_item() {
    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            std::panic::panic_any(23);
        }
    }

    struct Late(Option<Bomb>);

    impl Future for Late {
        type Output = Result<(), Infallible>;

        fn poll(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Self::Output> {
            std::task::Poll::Ready(Ok(()))
        }
    }

    let (dead, letters) = queue::bounded(8).unwrap();
    scope(async |n: &Nursery| {
        let (sender, receiver) = queue::builder(8).dead_letters(NonZeroU32::MIN, dead).build().unwrap();
        let handler = |job: Job<u32>| Late((*job == 0).then(|| Bomb));
        let crew = receiver.workers(1).unwrap().start(n, "bombs", handler).unwrap();
        for number in 0..3 {
            sender.send(number).await.unwrap();
        }
        drop(sender);
        let stats = crew.ended().await;
        assert_eq!((stats.done, stats.panicked), (2, 1));
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(letters.recv().await.unwrap().item, 0);
    assert!(Late(None).0.is_none());
}

/// The result of the handler settles the item when the job is dropped.
#[tokio::test(start_paused = true)]
async fn kept_job_is_settled_when_it_is_dropped() {
    let kept = Arc::new(Mutex::new(Vec::new()));
    scope(async |n: &Nursery| {
        let (sender, receiver) = queue::bounded(8).unwrap();
        let shelf = Arc::clone(&kept);
        let workers = receiver.workers(1).unwrap().backoff(Backoff::constant(Duration::ZERO));
        let crew = workers.start(n, "keeps", move |job: Job<u32>| {
            let (number, attempt) = (*job, job.attempt());
            shelf.lock().unwrap().push(job);
            async move { if number == 1 && attempt == 1 { Err("not now") } else { Ok(()) } }
        });
        for number in 0..3 {
            sender.send(number).await.unwrap();
        }
        sleep(ms(1)).await;
        assert_eq!((crew.unwrap().stats().done, kept.lock().unwrap().len()), (2, 3));
        let mut join = std::pin::pin!(sender.join());
        assert!(
            motet::task::timeout(ms(10), &mut join).await.is_err(),
            "the item was settled before its job was dropped"
        );
        let jobs = std::mem::take(&mut *kept.lock().unwrap());
        drop(jobs);
        sleep(ms(1)).await;
        let again = std::mem::take(&mut *kept.lock().unwrap());
        assert_eq!(again.iter().map(|job| (**job, job.attempt())).collect::<Vec<_>>(), [(1, 2)]);
        drop(again);
        join.await.unwrap();
        sender.close();
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test(start_paused = true)]
async fn workers_are_in_snapshots_until_they_end() {
    scope(async |n: &Nursery| {
        let (sender, receiver) = queue::bounded(8).unwrap();
        let handler = async |_: Job<u32>| {
            sleep(ms(10)).await;
            Ok::<_, Infallible>(())
        };
        let crew = receiver.workers(2).unwrap().start(n, "resize", handler).unwrap();
        assert_eq!(crew.name(), "resize");
        sender.send(1).await.unwrap();
        sleep(ms(5)).await;
        let seen = n.snapshot();
        let names: Vec<_> = seen.tasks.iter().map(|task| task.name.as_str()).collect();
        assert_eq!(names, ["resize", "resize"]);
        let component = &seen.components[0];
        assert_eq!((component.kind, component.name.as_str()), ("workers", "resize"));
        let stat = |name| component.stats.iter().find(|(other, _)| *other == name).unwrap().1.clone();
        assert_eq!((stat("workers"), stat("busy")), (Stat::Count(2), Stat::Count(1)));
        drop(sender);
        crew.ended().await;
        assert!(n.snapshot().components.is_empty());
        Ok(())
    })
    .await
    .unwrap();
}

#[test]
fn zero_workers_are_refused() {
    let (_sender, receiver) = queue::bounded::<u32>(1).unwrap();
    assert_eq!(receiver.workers(0).unwrap_err(), queue::QueueConfigError::NoWorkers);
}

/// An item that panics when it is dropped, or shown.
#[derive(Clone, Copy, PartialEq)]
enum Touch {
    Drop,
    Show,
    Nothing,
}

struct Mine(Touch);

impl Drop for Mine {
    fn drop(&mut self) {
        assert!(self.0 != Touch::Drop, "an item panics in its drop");
    }
}

impl std::fmt::Display for Mine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        assert!(self.0 != Touch::Show, "an item panics in its display");
        f.write_str("a mine")
    }
}

#[tokio::test(start_paused = true)]
async fn items_and_errors_that_panic_leave_the_worker_running() {
    let _read = tracing::subscriber::set_default(reader());
    let (dead, letters) = queue::bounded(8).unwrap();
    scope(async |n: &Nursery| {
        let (sender, receiver) = queue::builder(8).dead_letters(NonZeroU32::MIN, dead).build().unwrap();
        let handler = |job: Job<(u32, Mine)>| async move {
            match job.0 {
                1 => Err(Mine(Touch::Show)),
                2 => Err(Mine(Touch::Drop)),
                _ => Ok(()),
            }
        };
        let crew = receiver.workers(1).unwrap().keyed(|_| 0).start(n, "mines", handler).unwrap();
        for number in 0..4 {
            assert!(
                sender
                    .send((number, Mine(if number == 0 { Touch::Drop } else { Touch::Nothing })))
                    .await
                    .is_ok()
            );
        }
        drop(sender);
        let stats = crew.ended().await;
        assert_eq!((stats.done, stats.failed), (2, 2));
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(letters.recv().await.unwrap().item.0, 1);
    assert_eq!(letters.recv().await.unwrap().item.0, 2);
}
