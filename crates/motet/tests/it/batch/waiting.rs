//! The line of callers, and callers that are dropped.

use std::task::{Context, Waker};

use motet::batch::{Batcher, PostError};
use motet::task::{gather, timeout};
use tokio::task::yield_now;
use tokio::time::sleep;

use super::{Batches, ms, submit, tenfold, within};

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
async fn removed_item_does_not_change_the_order_of_the_others() {
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

/// Removed items leave their slots behind, which must not accumulate, also where no deadline ends the batch.
#[tokio::test(start_paused = true)]
async fn batch_from_which_many_items_were_removed_runs_early() {
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
async fn posts_at_max_waiting_queue_and_try_post_cannot_overtake_them() {
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
async fn max_in_line_bounds_the_callers_that_wait_for_capacity() {
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
async fn caller_dropped_from_the_line_passes_its_slot_to_the_next() {
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
