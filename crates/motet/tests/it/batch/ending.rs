//! Flush, close, the end of the scope, and the end of the last handle.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use motet::batch::{Batcher, SubmitError};
use motet::task::{Nursery, Reason, Scope, scope};
use tokio::sync::{Notify, oneshot};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

use super::{Batches, HOUR, ms, submit, tenfold, within};

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
async fn cancelled_scope_fails_every_caller_of_its_batcher() {
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
async fn posts_lost_with_a_failed_scope_are_counted() {
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
async fn idle_batcher_with_a_max_delay_keeps_no_task() {
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

/// From many threads, while the batcher is closed, or its scope ends: each item is answered, or handed back.
#[test]
fn items_submitted_as_a_batcher_ends_are_answered_or_returned() {
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
