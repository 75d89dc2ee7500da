//! Batches of items: the answers, the time at which a batch runs, and the items that are left when it ends.

use std::convert::Infallible;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use motet::batch::{Batcher, BatcherBuilder, BatcherConfigError, LoadError, Loader, PostError, SubmitError};
use motet::observe::Stat;
use motet::task::{Nursery, Reason, Scope, gather, scope, timeout};
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const HOUR: Duration = Duration::from_secs(3600);

/// The items that the handler got, batch by batch, with the time.
#[derive(Clone)]
struct Batches(Arc<Mutex<Vec<Noted>>>, Instant);

type Noted = (Duration, Vec<u32>);

impl Batches {
    fn new() -> Self {
        Self(Arc::default(), Instant::now())
    }

    fn note(&self, items: &[u32]) {
        self.0.lock().unwrap().push((self.1.elapsed(), items.to_vec()));
    }

    fn seen(&self) -> Vec<Vec<u32>> {
        self.0.lock().unwrap().iter().map(|batch| batch.1.clone()).collect()
    }

    fn times(&self) -> Vec<u128> {
        self.0.lock().unwrap().iter().map(|batch| batch.0.as_millis()).collect()
    }
}

/// Answers each item with ten times its value, after `time`.
fn tenfold(builder: BatcherBuilder<u32>, batches: &Batches, time: u64) -> Batcher<u32, u32, &'static str> {
    let batches = batches.clone();
    let handler = move |items: Vec<u32>| {
        batches.note(&items);
        async move {
            sleep(ms(time)).await;
            items.into_iter().map(|item| Ok(item * 10)).collect::<Vec<_>>()
        }
    };
    builder.build(handler).unwrap()
}

/// Runs a body in a scope in which no task fails.
async fn within(body: impl AsyncFnOnce(&Nursery)) {
    scope(async |n: &Nursery| {
        body(n).await;
        Ok(())
    })
    .await
    .unwrap();
}

fn submit(n: &Nursery, batcher: &Batcher<u32, u32, &'static str>, item: u32) -> motet::task::Task<String> {
    let batcher = batcher.clone();
    n.spawn("caller", async move {
        match batcher.submit(item).await {
            Ok(answer) => answer.to_string(),
            Err(error) => format!("{error:?}"),
        }
    })
}

#[tokio::test(start_paused = true)]
async fn failed_batch_fails_only_its_own_items() {
    within(async |n| {
        let batcher =
            Batcher::builder(n).max_items(2).max_delay(ms(5)).build(async |items: Vec<u32>| match items[0] {
                1 => panic!("a bug"),
                3 => Err("no connection"),
                5 => Ok(vec![Ok(0); 3]),
                _ => {
                    Ok(items.iter().map(|item| if item % 2 == 0 { Ok(*item) } else { Err("odd") }).collect())
                }
            });
        let batcher = batcher.unwrap();
        let callers: Vec<_> = (1..=8).map(|item| submit(n, &batcher, item)).collect();
        let mut answers = Vec::new();
        for caller in callers {
            answers.push(caller.await.unwrap());
        }
        let panicked = "Panicked(\"a bug\")";
        let failed = "BatchFailed(\"no connection\")";
        let mismatch = "Mismatch { items: 2, answers: 3 }";
        let expected = [panicked, panicked, failed, failed, mismatch, mismatch, "Failed(\"odd\")", "8"];
        assert_eq!(answers, expected);
        let stats = batcher.stats();
        assert_eq!((stats.failed_batches, stats.in_flight, stats.waiting), (3, 0, 0));
        assert_eq!(batcher.submit(10).await.unwrap(), 10, "the batcher still works");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn deadline_runs_from_the_first_item_of_a_batch() {
    within(async |n| {
        let batches = Batches::new();
        let batcher = tenfold(Batcher::builder(n).max_delay(ms(10)), &batches, 0);
        let callers: Vec<_> = (0..8)
            .map(|item| {
                let batcher = batcher.clone();
                n.spawn("caller", async move {
                    sleep(ms(u64::from(item) * 4)).await;
                    batcher.submit(item).await.unwrap()
                })
            })
            .collect();
        for caller in callers {
            caller.await.unwrap();
        }
        // 0, 4 and 8 run by the deadline of the first, and so on.
        assert_eq!(batches.seen(), [vec![0, 1, 2], vec![3, 4, 5], vec![6, 7]]);
        let times = batches.times();
        let late: Vec<_> = times.iter().zip([10, 22, 34]).filter(|(at, due)| **at > due + 1).collect();
        assert!(late.is_empty(), "{times:?}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn batch_that_fills_during_full_flight_runs_next() {
    within(async |n| {
        let batches = Batches::new();
        let builder = Batcher::builder(n).max_items(2).max_in_flight(1).max_delay(None);
        let batcher = tenfold(builder, &batches, 10);
        let callers: Vec<_> = (0..6).map(|item| submit(n, &batcher, item)).collect();
        for (item, caller) in callers.into_iter().enumerate() {
            assert_eq!(caller.await.unwrap(), (item * 10).to_string());
        }
        assert_eq!(batches.seen(), [[0, 1], [2, 3], [4, 5]]);
        assert_eq!(batches.times(), [0, 10, 20]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn overdue_batch_takes_more_items_until_it_can_run() {
    within(async |n| {
        let batches = Batches::new();
        let builder = Batcher::builder(n).max_items(3).max_in_flight(1).max_delay(ms(2));
        let batcher = tenfold(builder, &batches, 20);
        let callers = [(0, 0), (1, 4), (2, 15)].map(|(item, at)| {
            let batcher = batcher.clone();
            n.spawn("caller", async move {
                sleep(ms(at)).await;
                batcher.submit(item).await.unwrap()
            })
        });
        for caller in callers {
            caller.await.unwrap();
        }
        // The second batch was due at 6, and took another item until it could be in flight.
        assert_eq!(batches.seen(), [vec![0], vec![1, 2]]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn dropped_caller_removes_its_item_from_the_batch() {
    within(async |n| {
        let batches = Batches::new();
        let batcher = tenfold(Batcher::builder(n).max_delay(ms(10)), &batches, 0);
        assert!(timeout(ms(5), batcher.submit(1)).await.is_err());
        sleep(ms(20)).await;
        assert!(batches.seen().is_empty(), "an empty batch ran");
        let stays = submit(n, &batcher, 2);
        let stays_too = submit(n, &batcher, 4);
        yield_now().await;
        assert!(timeout(ms(5), gather([batcher.submit(3), batcher.submit(5)])).await.is_err());
        assert_eq!((stays.await.unwrap(), stays_too.await.unwrap()), ("20".to_owned(), "40".to_owned()));
        assert_eq!(batches.seen(), [[2, 4]]);
        batcher.flush().await;
        assert_eq!(batcher.stats().batches, 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn removed_item_leaves_the_order_of_the_others() {
    within(async |n| {
        let batches = Batches::new();
        let batcher = tenfold(Batcher::builder(n).max_delay(ms(10)), &batches, 0);
        let mut leaves = Box::pin(batcher.submit(1));
        assert!(leaves.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        let stay = [2, 3, 4].map(|item| submit(n, &batcher, item));
        yield_now().await;
        drop(leaves);
        for (answer, expected) in stay.into_iter().zip(["20", "30", "40"]) {
            assert_eq!(answer.await.unwrap(), expected);
        }
        assert_eq!(batches.seen(), [[2, 3, 4]]);
    })
    .await;
}

/// A removed item leaves no memory behind that accumulates, also where no deadline ends the batch.
#[tokio::test(start_paused = true)]
async fn removed_items_do_not_fill_the_batch() {
    within(async |n| {
        let batches = Batches::new();
        let batcher = tenfold(Batcher::builder(n).max_items(100).max_delay(None), &batches, 0);
        let stays = submit(n, &batcher, 7);
        yield_now().await;
        for item in 0..1_000 {
            let mut leaves = Box::pin(batcher.submit(item));
            let waker = Waker::noop();
            assert!(leaves.as_mut().poll(&mut Context::from_waker(waker)).is_pending());
        }
        assert_eq!(stays.await.unwrap(), "70");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn batches_stay_within_max_weight() {
    within(async |n| {
        let batches = Batches::new();
        let weigh = |item: &u32| u64::from(*item);
        let builder = Batcher::builder(n).max_weight(10, weigh).max_items(4).max_delay(ms(5));
        let batcher = tenfold(builder, &batches, 0);
        let refused = batcher.submit(11).await.unwrap_err();
        assert!(matches!(refused, SubmitError::TooHeavy(11)));
        assert!(matches!(batcher.try_post(12), Err(PostError::TooHeavy(12))));
        for item in [4, 4, 4, 10, 1, 1, 1, 1, 2] {
            batcher.post(item).await.unwrap();
        }
        batcher.close().await;
        let seen = batches.seen();
        assert_eq!(seen, [vec![4, 4], vec![4], vec![10], vec![1, 1, 1, 1], vec![2]]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn newcomers_queue_behind_the_line_at_max_waiting() {
    within(async |n| {
        let batches = Batches::new();
        let builder = Batcher::builder(n).max_items(2).max_waiting(2).max_in_flight(1).max_delay(None);
        let batcher = tenfold(builder, &batches, 10);
        for item in 0..4 {
            batcher.post(item).await.unwrap();
        }
        assert!(matches!(batcher.try_post(99), Err(PostError::Full(99))));
        let in_line: Vec<_> = (4..8)
            .map(|item| {
                let batcher = batcher.clone();
                n.spawn("poster", async move { batcher.post(item).await.unwrap() })
            })
            .collect();
        yield_now().await;
        assert_eq!((batcher.stats().waiting, batcher.stats().in_line), (2, 4));
        sleep(ms(10)).await;
        assert!(
            batcher.try_post(98).is_err_and(|error| error.is_full()),
            "the capacity is reserved for the line"
        );
        for poster in in_line {
            poster.await.unwrap();
        }
        batcher.close().await;
        assert_eq!(batches.seen(), [[0, 1], [2, 3], [4, 5], [6, 7]]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn max_in_line_bounds_the_line() {
    within(async |n| {
        let batches = Batches::new();
        let builder = Batcher::builder(n).max_items(1).max_waiting(1).max_in_flight(1).max_in_line(1);
        let batcher = tenfold(builder, &batches, 10);
        batcher.post(0).await.unwrap();
        batcher.post(1).await.unwrap();
        let waits = submit(n, &batcher, 2);
        yield_now().await;
        let refused = batcher.submit(3).await.unwrap_err();
        assert_eq!(
            refused.to_string(),
            "too many items are waiting for the batcher (`max_waiting`, `max_in_line`)"
        );
        assert_eq!(refused.into_item(), Some(3));
        assert!(batcher.post(4).await.unwrap_err().is_full());
        assert_eq!(waits.await.unwrap(), "20");
        assert_eq!(batches.seen(), [[0], [1], [2]]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn caller_dropped_from_the_line_frees_its_slot() {
    within(async |n| {
        let batches = Batches::new();
        let builder = Batcher::builder(n).max_items(1).max_waiting(1).max_in_flight(1).max_delay(None);
        let batcher = tenfold(builder, &batches, 10);
        batcher.post(0).await.unwrap();
        batcher.post(1).await.unwrap();
        let mut leaves = Box::pin(batcher.submit(2));
        assert!(timeout(ms(1), &mut leaves).await.is_err());
        let next = submit(n, &batcher, 3);
        // The caller has an offer since the first batch ended, and is not polled.
        sleep(ms(11)).await;
        drop(leaves);
        assert_eq!(next.await.unwrap(), "30");
        assert_eq!(batches.seen(), [[0], [1], [3]]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn close_runs_every_pending_batch_and_refuses_new_items() {
    within(async |n| {
        let batches = Batches::new();
        let builder = Batcher::builder(n).max_items(2).max_waiting(4).max_in_flight(1).max_delay(HOUR);
        let batcher = tenfold(builder, &batches, 10);
        let callers: Vec<_> = (0..5).map(|item| submit(n, &batcher, item)).collect();
        yield_now().await;
        let in_line = [submit(n, &batcher, 5), submit(n, &batcher, 6)];
        yield_now().await;
        let begin = Instant::now();
        batcher.close().await;
        assert_eq!(begin.elapsed(), ms(30), "flush waits for the items, and for no deadline");
        for (item, caller) in callers.into_iter().enumerate() {
            assert_eq!(caller.await.unwrap(), (item * 10).to_string());
        }
        let [last, refused] = in_line;
        assert_eq!((last.await.unwrap(), refused.await.unwrap()), ("50".to_owned(), "Closed(..)".to_owned()));
        assert_eq!(batches.seen(), [[0, 1], [2, 3], [4, 5]]);
        assert!(batcher.is_closed());
        assert_eq!(batcher.submit(7).await.unwrap_err().into_item(), Some(7));
        assert_eq!(batcher.post(8).await.unwrap_err().into_item(), 8);
        batcher.close().await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn flush_waits_for_exactly_the_items_before_it() {
    within(async |n| {
        let batches = Batches::new();
        let builder = Batcher::builder(n).max_items(2).max_in_flight(1).max_delay(None);
        let batcher = tenfold(builder, &batches, 10);
        for item in 0..3 {
            batcher.post(item).await.unwrap();
        }
        let later = batcher.clone();
        n.spawn("later", async move {
            sleep(ms(15)).await;
            later.post(7).await.unwrap();
        });
        batcher.flush().await;
        assert_eq!(batches.times(), [0, 10]);
        assert_eq!(batches.seen(), [vec![0, 1], vec![2]]);
        batcher.flush().await;
        assert_eq!(batches.seen().len(), 3);
        batcher.flush().await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn cancelled_scope_fails_every_caller() {
    let batches = Batches::new();
    within(async |outer| {
        let (give, given) = oneshot::channel();
        let noting = batches.clone();
        let host = outer.spawn("host", async move {
            Scope::builder()
                .run_send(async move |n: &Nursery| {
                    let builder =
                        Batcher::builder(n).max_items(2).max_in_flight(1).max_waiting(4).max_delay(None);
                    drop(give.send((tenfold(builder, &noting, 50), Scope::clone(n))));
                    std::future::pending::<Result<(), Infallible>>().await
                })
                .await
        });
        let (batcher, scope) = given.await.unwrap();
        let callers: Vec<_> = (0..7).map(|item| submit(outer, &batcher, item)).collect();
        yield_now().await;
        sleep(ms(5)).await;
        batcher.try_post(9).unwrap_err();
        scope.cancel(Reason::requested("enough"));
        assert!(host.await.unwrap().unwrap_err().is_cancelled());
        for (item, caller) in callers.into_iter().enumerate() {
            let expected = if item < 2 { "Cancelled" } else { "Closed(..)" };
            assert_eq!(caller.await.unwrap(), expected, "{item}");
        }
        assert_eq!(batches.seen(), [[0, 1]]);
        let stats = batcher.stats();
        assert_eq!((stats.in_flight, stats.waiting, stats.in_line), (0, 0, 0));
        assert_eq!(batcher.submit(8).await.unwrap_err().into_item(), Some(8));
        // No item to wait for.
        batcher.flush().await;
        batcher.close().await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn end_of_the_scope_runs_pending_posts_at_once() {
    for delay in [Some(HOUR), None] {
        let batches = Batches::new();
        let begin = Instant::now();
        within(async |n| {
            let builder = Batcher::builder(n).max_items(3).max_in_flight(1).max_delay(delay);
            let batcher = tenfold(builder, &batches, 100);
            for item in 0..8 {
                batcher.post(item).await.unwrap();
            }
            // The handle outlives the body.
            n.service("keeps", async move {
                let _batcher = batcher;
                std::future::pending::<()>().await;
            });
        })
        .await;
        assert_eq!(batches.seen(), [vec![0, 1, 2], vec![3, 4, 5], vec![6, 7]]);
        assert_eq!(begin.elapsed(), ms(300));
    }
}

#[tokio::test(start_paused = true)]
async fn posts_lost_with_a_cancelled_scope_are_counted() {
    let mut kept = None;
    let ended = scope(async |n: &Nursery<&'static str>| {
        let batcher = tenfold(Batcher::builder(n).max_delay(HOUR), &Batches::new(), 0);
        batcher.post(1).await.unwrap();
        batcher.post(2).await.unwrap();
        kept = Some(batcher);
        Err::<(), _>("enough")
    });
    assert!(ended.await.is_err());
    assert_eq!(kept.unwrap().stats().failed_posts, 2);
}

#[tokio::test(start_paused = true)]
async fn pending_posts_run_after_the_last_handle_is_dropped() {
    within(async |n| {
        let batches = Batches::new();
        let batcher = tenfold(Batcher::builder(n).max_delay(None), &batches, 0);
        batcher.post(1).await.unwrap();
        drop(batcher);
        sleep(ms(1)).await;
        assert_eq!(batches.seen(), [[1]]);
        assert!(n.snapshot().tasks.is_empty(), "a task is left: {}", n.snapshot());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn idle_batcher_keeps_no_task() {
    within(async |n| {
        let batcher = tenfold(Batcher::builder(n).max_delay(ms(5)), &Batches::new(), 0);
        let tasks = || (n.snapshot().tasks.len(), n.snapshot().starting);
        assert_eq!(tasks(), (0, 0));
        assert_eq!(batcher.submit(1).await.unwrap(), 10);
        sleep(ms(10)).await;
        assert_eq!(tasks(), (0, 0));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn eager_batcher_runs_at_once_and_batches_while_busy() {
    within(async |n| {
        let batches = Batches::new();
        let batcher = tenfold(Batcher::builder(n).max_delay(HOUR).eager(), &batches, 10);
        let callers: Vec<_> = (0..5).map(|item| submit(n, &batcher, item)).collect();
        for caller in callers {
            caller.await.unwrap();
        }
        assert_eq!(batches.seen(), [vec![0], vec![1, 2, 3, 4]]);
        assert_eq!(batches.times(), [0, 10]);
        assert_eq!(batcher.submit(9).await.unwrap(), 90);
        assert_eq!(batches.times(), [0, 10, 20]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn failed_posts_are_counted_and_shown() {
    within(async |n| {
        let builder = Batcher::builder(n).name("lines").max_items(4);
        let handler = async |items: Vec<u32>| -> Vec<Result<(), u32>> {
            assert!(items[0] < 100, "too large");
            items.into_iter().map(|item| if item % 2 == 0 { Ok(()) } else { Err(item) }).collect()
        };
        let batcher = builder.build(handler).unwrap();
        for item in [1, 2, 3, 4, 100] {
            batcher.post(item).await.unwrap();
        }
        batcher.flush().await;
        assert_eq!(batcher.stats().failed_posts, 3);
        let seen = n.snapshot();
        let stats: Vec<_> = seen.components[0].stats.iter().collect();
        assert_eq!((seen.components[0].kind, seen.components[0].name.as_str()), ("batcher", "lines"));
        assert!(stats.contains(&("failed_posts", &Stat::Count(3))), "{stats:?}");
        assert!(stats.contains(&("items", &Stat::Count(5))), "{stats:?}");
        drop(batcher);
        assert!(n.snapshot().components.is_empty());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn invalid_limits_are_refused() {
    within(async |n| {
        let build = |builder: BatcherBuilder<u32>| {
            builder.build(async |_: Vec<u32>| Vec::<Result<(), ()>>::new()).map(drop).unwrap_err()
        };
        assert_eq!(build(Batcher::builder(n).max_items(0)), BatcherConfigError::NoItems);
        assert_eq!(build(Batcher::builder(n).max_in_flight(0)), BatcherConfigError::NoneInFlight);
        assert_eq!(build(Batcher::builder(n).max_weight(0, |_| 1)), BatcherConfigError::NoWeight);
        assert_eq!(
            build(Batcher::builder(n).max_items(8).max_waiting(7)),
            BatcherConfigError::WaitingBelowBatch
        );
    })
    .await;
}

/// A waker that calls the batcher in its clone, wake and drop.
struct Reenters(OnceLock<Batcher<Nosy, u32, &'static str>>, AtomicUsize);

impl Wake for Reenters {
    fn wake(self: Arc<Self>) {
        self.1.fetch_add(1, Ordering::Relaxed);
        if let Some(batcher) = self.0.get() {
            assert!(batcher.stats().items > 0);
        }
    }
}

/// An item that calls the batcher in its drop.
struct Nosy(Option<Batcher<Self, u32, &'static str>>);

impl Drop for Nosy {
    fn drop(&mut self) {
        if let Some(batcher) = self.0.take() {
            let _ = (batcher.stats(), batcher.try_post(Self(None)));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn drops_of_items_and_wakers_may_call_the_batcher() {
    within(async |n| {
        let handler = async |items: Vec<Nosy>| items.iter().map(|_| Ok::<_, &str>(1)).collect::<Vec<_>>();
        let batcher = Batcher::builder(n).max_items(3).max_delay(None).build(handler).unwrap();
        let reenters = Arc::new(Reenters(OnceLock::new(), AtomicUsize::new(0)));
        assert!(reenters.0.set(batcher.clone()).is_ok());
        let waker = Waker::from(Arc::clone(&reenters));
        let mut asks = Box::pin(batcher.submit(Nosy(Some(batcher.clone()))));
        assert!(asks.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        // Another waker replaces the first one, which is dropped; then the item is dropped with its caller.
        assert!(asks.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        drop(asks);
        assert_eq!(batcher.stats().waiting, 1, "the item that the dropped item posted");
        let mut asks = Box::pin(batcher.submit(Nosy(Some(batcher.clone()))));
        assert!(asks.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        batcher.close().await;
        assert_eq!(reenters.1.load(Ordering::Relaxed), 1);
        assert!(matches!(asks.as_mut().poll(&mut Context::from_waker(&waker)), Poll::Ready(Ok(1))));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn panicking_waker_does_not_keep_others_from_waking() {
    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("a bug in a waker");
        }
    }
    within(async |n| {
        let batcher = tenfold(Batcher::builder(n).max_items(2), &Batches::new(), 1);
        let mut first = Box::pin(batcher.submit(1));
        let waker = Waker::from(Arc::new(Panics));
        assert!(first.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        assert_eq!(batcher.submit(2).await.unwrap(), 20);
        assert_eq!(first.await.unwrap(), 10);
    })
    .await;
}

/// From many threads, while the batcher is closed, or its scope ends: each item is answered, or handed back.
#[test]
fn items_submitted_during_a_close_are_answered_or_handed_back() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_time().build().unwrap();
    for round in 0..150 {
        runtime.block_on(async {
            let handled = Arc::new(AtomicUsize::new(0));
            let answered = Arc::new(AtomicUsize::new(0));
            let counting = Arc::clone(&handled);
            within(async |outer| {
                let (give, given) = oneshot::channel();
                let end = Arc::new(Notify::new());
                let ends = Arc::clone(&end);
                outer.spawn("host", async move {
                    let host = Scope::builder().run_send(async move |n: &Nursery| {
                        let handler = move |items: Vec<usize>| {
                            counting.fetch_add(items.len(), Ordering::SeqCst);
                            async move { items.into_iter().map(Ok::<_, ()>).collect::<Vec<_>>() }
                        };
                        let builder = Batcher::builder(n).max_items(4).max_waiting(4).max_in_flight(2);
                        drop(give.send(builder.max_delay(ms(1)).build(handler).unwrap()));
                        ends.notified().await;
                        Ok(())
                    });
                    host.await.unwrap();
                });
                let batcher = given.await.unwrap();
                for caller in 0..16 {
                    let (batcher, answered) = (batcher.clone(), Arc::clone(&answered));
                    outer.spawn("caller", async move {
                        for turn in 0.. {
                            let item = caller * 1_000_000 + turn;
                            match batcher.submit(item).await {
                                Ok(back) => {
                                    assert_eq!(back, item);
                                    answered.fetch_add(1, Ordering::SeqCst);
                                }
                                Err(SubmitError::Closed(back)) => return assert_eq!(back, item),
                                Err(other) => panic!("{other:?}"),
                            }
                        }
                    });
                }
                while answered.load(Ordering::SeqCst) < 16 + round {
                    yield_now().await;
                }
                if round % 2 == 0 {
                    batcher.close().await;
                }
                end.notify_one();
            })
            .await;
            assert_eq!(answered.load(Ordering::SeqCst), handled.load(Ordering::SeqCst));
        });
    }
}

#[tokio::test(start_paused = true)]
async fn concurrent_loads_of_a_key_share_one_lookup() {
    within(async |n| {
        let batches = Batches::new();
        let noting = batches.clone();
        let gate = Arc::new(Semaphore::new(0));
        let opened = Arc::clone(&gate);
        let loader = Loader::builder(n).name("users").max_items(11).build(move |keys: Vec<u32>| {
            noting.note(&keys);
            let opened = Arc::clone(&opened);
            async move {
                opened.acquire().await.unwrap().forget();
                keys.into_iter()
                    .map(|key| if key == 7 { Err("no such") } else { Ok(key * 10) })
                    .collect::<Vec<_>>()
            }
        });
        let loader = loader.unwrap();
        let callers: Vec<_> = (0..100)
            .map(|caller| {
                let loader = loader.clone();
                n.spawn("caller", async move { loader.load(caller % 10).await })
            })
            .collect();
        sleep(ms(2)).await;
        assert_eq!(batches.seen(), [(0..10).collect::<Vec<_>>()]);
        // A load during the batch is looked up again: the answer may have changed.
        let late = n.spawn("late", {
            let loader = loader.clone();
            async move { loader.load(1).await }
        });
        sleep(ms(5)).await;
        gate.add_permits(2);
        for (caller, loaded) in callers.into_iter().enumerate() {
            match (caller % 10, loaded.await.unwrap()) {
                (7, Err(LoadError::Failed(error))) => assert_eq!(*error, "no such"),
                (key, loaded) => assert_eq!(*loaded.unwrap() as usize, key * 10),
            }
        }
        assert_eq!(*late.await.unwrap().unwrap(), 10);
        assert_eq!(batches.seen()[1..], [[1]]);
        assert_eq!(n.snapshot().components[0].kind, "loader");
    })
    .await;
}

/// Between the check for a key and the moment at which the key is added, another thread may have added it.
#[test]
fn concurrent_threads_put_a_key_into_a_batch_once() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_time().build().unwrap();
    runtime.block_on(within(async |n| {
        let twice = Arc::new(AtomicUsize::new(0));
        let found = Arc::clone(&twice);
        let handler = move |mut keys: Vec<u32>| {
            let answers: Vec<_> = keys.iter().copied().map(Ok::<_, ()>).collect();
            keys.sort_unstable();
            found.fetch_add(keys.windows(2).filter(|two| two[0] == two[1]).count(), Ordering::Relaxed);
            async move { answers }
        };
        let loader = Loader::builder(n).max_delay(Duration::ZERO).max_in_flight(1).build(handler);
        let loader = loader.unwrap();
        let asks = (0..8).map(|_| {
            let loader = loader.clone();
            n.spawn("asks", async move {
                for _ in 0..1_000 {
                    let loaded = gather((0..8).map(|key| loader.load(key))).await;
                    assert!(loaded.into_iter().zip(0..).all(|(one, key)| *one.unwrap() == key));
                }
            })
        });
        for asks in asks.collect::<Vec<_>>() {
            asks.await.unwrap();
        }
        assert_eq!(twice.load(Ordering::Relaxed), 0);
    }));
}

/// Keys whose comparison calls the loader.
#[derive(Clone)]
struct Reads(u32, Arc<OnceLock<Loader<Self, u32, ()>>>);

impl PartialEq for Reads {
    fn eq(&self, other: &Self) -> bool {
        if let Some(loader) = self.1.get() {
            assert!(loader.stats().items > 0);
        }
        self.0 == other.0
    }
}

impl Eq for Reads {}

impl Hash for Reads {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // All hashes are equal: each key is compared with all others.
        0.hash(state);
    }
}

#[tokio::test(start_paused = true)]
async fn hash_of_a_key_may_call_the_loader() {
    within(async |n| {
        let loader = Loader::new(n, async |keys: Vec<Reads>| {
            assert_eq!(keys.len(), 3);
            keys.into_iter().map(|key| Ok(key.0)).collect::<Vec<_>>()
        });
        let held = Arc::new(OnceLock::new());
        assert!(held.set(loader.clone()).is_ok());
        let keys = [1, 2, 1, 3, 2, 1];
        let loaded = gather(keys.map(|key| loader.load(Reads(key, Arc::clone(&held))))).await;
        assert_eq!(loaded.into_iter().map(|one| *one.unwrap()).collect::<Vec<_>>(), keys);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn load_is_refused_when_the_line_is_full() {
    within(async |n| {
        let builder = Loader::builder(n).max_items(1).max_in_flight(1).max_waiting(1).max_in_line(0);
        let loader = builder.build(async |keys: Vec<u32>| {
            sleep(ms(5)).await;
            keys.into_iter().map(Ok::<_, ()>).collect::<Vec<_>>()
        });
        let loader = loader.unwrap();
        let loaded = gather([1, 2, 3].map(|key| loader.load(key))).await;
        assert!(matches!(&loaded[2], Err(LoadError::Full(3))), "{loaded:?}");
        assert_eq!(
            loaded[2].as_ref().unwrap_err().to_string(),
            "too many keys are waiting for the loader (`max_waiting`, `max_in_line`)"
        );
        assert!(loaded[0].is_ok() && loaded[1].is_ok());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn dropped_load_leaves_its_key_to_other_callers() {
    within(async |n| {
        let loader = Loader::builder(n).max_delay(ms(5)).build(async |keys: Vec<u32>| {
            assert_eq!(keys, [2, 3], "the other keys have no caller");
            keys.into_iter().map(Ok::<_, ()>).collect::<Vec<_>>()
        });
        let loader = loader.unwrap();
        let mut first = Box::pin(gather([loader.load(1), loader.load(2)]));
        assert!(timeout(ms(1), &mut first).await.is_err());
        let second = n.spawn("second", {
            let loader = loader.clone();
            async move { loader.load(2).await }
        });
        let third = n.spawn("third", {
            let loader = loader.clone();
            async move { loader.load(3).await }
        });
        sleep(ms(1)).await;
        drop(first);
        assert_eq!((*second.await.unwrap().unwrap(), *third.await.unwrap().unwrap()), (2, 3));
        loader.close().await;
        assert!(matches!(loader.load(4).await, Err(LoadError::Closed(4))));
    })
    .await;
}
