//! Failed items and batches, and user code that panics or calls the batcher back.

use std::panic::panic_any;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake, Waker};

use motet::batch::Batcher;
use motet::observe::Stat;

use super::{Batches, ms, submit, tenfold, within};

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
async fn failed_posts_are_counted_in_stats_and_snapshot() {
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
        assert!(stats.contains(&("failed_posts", &Stat::Total(3))), "{stats:?}");
        assert!(stats.contains(&("items", &Stat::Total(5))), "{stats:?}");
        drop(batcher);
        assert!(n.snapshot().components.is_empty());
    })
    .await;
}

/// A waker that calls the batcher in its wake.
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
async fn dropped_item_and_woken_waker_may_call_the_batcher() {
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
async fn batch_answers_all_callers_despite_a_panicking_waker() {
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

/// Panics in its drop, with a payload whose drop panics.
struct Mine;

impl Drop for Mine {
    fn drop(&mut self) {
        struct Payload;
        impl Drop for Payload {
            fn drop(&mut self) {
                panic!("the drop of the payload");
            }
        }
        panic_any(Payload);
    }
}

#[tokio::test(start_paused = true)]
async fn panic_in_the_drop_of_an_answer_does_not_stop_the_batcher() {
    within(async |n| {
        let handler = async |items: Vec<u32>| items.iter().map(|_| Ok::<_, u32>(Mine)).collect::<Vec<_>>();
        let batcher = Batcher::builder(n).max_items(2).build(handler).unwrap();
        for item in 0..4 {
            batcher.post(item).await.unwrap();
        }
        batcher.flush().await;
        assert_eq!(batcher.stats().batches, 2);
    })
    .await;
}
