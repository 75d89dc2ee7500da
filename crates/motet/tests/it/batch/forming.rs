//! The items of a batch, and the time at which it runs.

use motet::batch::{Batcher, BatcherBuilder, BatcherConfigError, SubmitError};
use tokio::time::sleep;

use super::{Batches, HOUR, ms, submit, tenfold, within};

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
async fn batch_that_fills_at_max_in_flight_runs_when_one_ends() {
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
async fn batches_stay_within_max_weight_and_heavier_items_are_refused() {
    within(async |n| {
        let batches = Batches::new();
        let weigh = |item: &u32| u64::from(*item);
        let builder = Batcher::builder(n).max_weight(10, weigh).max_items(4).max_delay(ms(5));
        let batcher = tenfold(builder, &batches, 0);
        let refused = batcher.submit(11).await.unwrap_err();
        assert!(matches!(refused, SubmitError::TooHeavy { item: 11, .. }));
        let message = "the item has the weight 12, and a batch holds at most 10 (`max_weight`)";
        assert_eq!(batcher.try_post(12).unwrap_err().to_string(), message);
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
async fn invalid_batch_limits_are_refused() {
    within(async |n| {
        let build = |builder: BatcherBuilder<u32>| {
            builder.build(async |_: Vec<u32>| Vec::<Result<(), ()>>::new()).map(drop).unwrap_err()
        };
        assert_eq!(build(Batcher::builder(n).max_items(0)), BatcherConfigError::NoItems);
        assert_eq!(build(Batcher::builder(n).max_in_flight(0)), BatcherConfigError::NoneInFlight);
        assert_eq!(build(Batcher::builder(n).max_weight(0, |_| 1)), BatcherConfigError::NoWeight);
        assert_eq!(
            build(Batcher::builder(n).max_items(8).max_waiting(7)).to_string(),
            "`max_waiting` is 7; it must be at least `max_items`, which is 8"
        );
    })
    .await;
}
