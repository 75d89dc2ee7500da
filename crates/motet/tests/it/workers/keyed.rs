//! Items of one key, one after the other.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::num::NonZeroU32;
use std::time::Duration;

use motet::queue::{self, Job};
use motet::task::{Nursery, scope};
use motet::{Backoff, rng};
use tokio::time::{Instant, sleep};

use super::{Log, ms};

type Item = (u32, u32);

#[tokio::test(start_paused = true)]
async fn items_of_a_key_run_in_order_and_keys_run_concurrently() {
    let log = Log::new();
    let begin = Instant::now();
    scope(async |n: &Nursery| {
        let (sender, receiver) = queue::bounded(100).unwrap();
        let seen = log.clone();
        let crew = receiver.workers(4).unwrap().keyed(|(key, _): &Item| *key).start(
            n,
            "keyed",
            move |job: Job<Item>| {
                let seen = seen.clone();
                async move {
                    seen.note(("begin", *job));
                    sleep(ms(10)).await;
                    seen.note(("end", *job));
                    Ok::<_, Infallible>(())
                }
            },
        );
        // Key 0 has many items in a row; the items of other keys must not wait for all of them.
        let items = (0..10).map(|number| (0, number)).chain((1..4).map(|key| (key, 0)));
        for item in items {
            sender.send(item).await.unwrap();
        }
        drop(sender);
        assert_eq!(crew.unwrap().ended().await.done, 13);
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(
        begin.elapsed(),
        ms(100),
        "items of one key run one after the other, and the keys concurrently"
    );
    let of_first: Vec<_> = log.read().into_iter().filter(|(_, (key, _))| *key == 0).collect();
    let expected: Vec<_> =
        (0..10).flat_map(|number| [("begin", (0, number)), ("end", (0, number))]).collect();
    assert_eq!(of_first, expected);
    let ends = log.read().into_iter().filter(|(what, _)| *what == "end");
    let first_ends: Vec<_> = ends.take(4).map(|(_, item)| item).collect();
    assert_eq!(first_ends, [(0, 0), (1, 0), (2, 0), (3, 0)]);
}

#[tokio::test(start_paused = true)]
async fn retried_item_delays_only_its_own_key() {
    let log = Log::new();
    let begin = Instant::now();
    scope(async |n: &Nursery| {
        let (sender, receiver) = queue::bounded(100).unwrap();
        let seen = log.clone();
        let handler = move |job: Job<Item>| {
            seen.note((begin.elapsed().as_millis(), *job, job.attempt()));
            let failed = *job == (0, 0) && job.attempt() < 3;
            async move { if failed { Err("not now") } else { Ok(()) } }
        };
        // With one worker, which an item that waits for its delay must not occupy.
        let crew = receiver
            .workers(1)
            .unwrap()
            .keyed(|(key, _): &Item| *key)
            .backoff(Backoff::constant(ms(10)))
            .start(n, "keyed", handler)
            .unwrap();
        for item in [(0, 0), (0, 1), (1, 0), (1, 1), (0, 2)] {
            sender.send(item).await.unwrap();
        }
        sleep(ms(5)).await;
        assert_eq!(crew.stats().waiting, 3);
        drop(sender);
        let stats = crew.ended().await;
        assert_eq!((stats.done, stats.failed, stats.waiting), (5, 2, 0));
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(
        log.read(),
        [
            (0, (0, 0), 1),
            (0, (1, 0), 1),
            (0, (1, 1), 1),
            (10, (0, 0), 2),
            (20, (0, 0), 3),
            (20, (0, 1), 1),
            (20, (0, 2), 1),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn poison_item_becomes_a_dead_letter_and_frees_its_key() {
    for backoff in [None, Some(Backoff::constant(ms(10)))] {
        let (dead, letters) = queue::bounded(8).unwrap();
        scope(async |n: &Nursery| {
            let (sender, receiver) =
                queue::builder(8).dead_letters(NonZeroU32::new(3).unwrap(), dead.clone()).build().unwrap();
            let mut workers = receiver.workers(2).unwrap().keyed(|(key, _): &Item| *key);
            if let Some(backoff) = backoff {
                workers = workers.backoff(backoff);
            }
            let handler = async |job: Job<Item>| if job.1 == 0 { Err("poison") } else { Ok(()) };
            let crew = workers.start(n, "keyed", handler).unwrap();
            for item in [(0, 0), (0, 1), (0, 2)] {
                sender.send(item).await.unwrap();
            }
            drop(sender);
            let stats = crew.ended().await;
            assert_eq!((stats.done, stats.failed), (2, 3));
            Ok(())
        })
        .await
        .unwrap();
        let letter = letters.recv().await.unwrap();
        assert_eq!((letter.item, letter.attempts), ((0, 0), 3));
    }
}

#[tokio::test(start_paused = true)]
async fn max_waiting_bounds_the_items_that_wait_for_a_key() {
    scope(async |n: &Nursery| {
        let (sender, receiver) = queue::bounded(1_000).unwrap();
        let handler = async |_: Job<Item>| {
            sleep(ms(1)).await;
            Ok::<_, Infallible>(())
        };
        let crew = receiver
            .workers(2)
            .unwrap()
            .keyed(|(key, _): &Item| *key)
            .max_waiting(10)
            .start(n, "keyed", handler)
            .unwrap();
        for number in 0..500 {
            sender.send((0, number)).await.unwrap();
        }
        sender.send((1, 0)).await.unwrap();
        while !receiver.is_empty() {
            sleep(ms(1)).await;
            let stats = crew.stats();
            assert!(stats.waiting <= 11 && stats.busy <= 2, "{stats:?}");
        }
        drop(sender);
        let stats = crew.ended().await;
        assert_eq!((stats.done, stats.waiting), (501, 0));
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test(start_paused = true)]
async fn panic_of_the_key_function_fails_only_its_item() {
    let (dead, letters) = queue::bounded(8).unwrap();
    scope(async |n: &Nursery| {
        let (sender, receiver) =
            queue::builder(8).dead_letters(NonZeroU32::new(2).unwrap(), dead).build().unwrap();
        let key = |(key, _): &Item| if *key == 0 { panic!("no key") } else { *key };
        let handler = async |_: Job<Item>| Ok::<_, Infallible>(());
        // The window allows one lease: the lease has to come back.
        let workers =
            receiver.workers(1).unwrap().keyed(key).max_waiting(0).backoff(Backoff::constant(Duration::ZERO));
        let crew = workers.start(n, "keyed", handler).unwrap();
        for item in [(0, 0), (1, 0), (0, 1), (1, 1)] {
            sender.send(item).await.unwrap();
        }
        drop(sender);
        let stats = crew.ended().await;
        assert_eq!((stats.done, stats.panicked), (2, 4));
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!((letters.recv().await.unwrap().item, letters.recv().await.unwrap().item), ((0, 0), (0, 1)));
}

/// Compares with the naive model: for each key the numbers in order, each until it is done.
#[tokio::test(start_paused = true)]
async fn failed_items_are_not_lost_and_keep_the_order_of_their_key() {
    let log = Log::new();
    scope(async |n: &Nursery| {
        let (sender, receiver) = queue::bounded(64).unwrap();
        let seen = log.clone();
        let handler = move |job: Job<Item>| {
            let seen = seen.clone();
            async move {
                sleep(ms(rng::with(|rng| rng.below(4)))).await;
                if rng::with(|rng| rng.below(4)) == 0 {
                    return Err("not now");
                }
                seen.note(*job);
                Ok(())
            }
        };
        let workers =
            receiver.workers(8).unwrap().keyed(|(key, _): &Item| *key).backoff(Backoff::constant(ms(3)));
        let crew = workers.start(n, "keyed", handler).unwrap();
        for number in 0..2_000 {
            sender.send((rng::with(|rng| rng.below(20)) as u32, number)).await.unwrap();
        }
        drop(sender);
        assert_eq!(crew.ended().await.done, 2_000);
        Ok(())
    })
    .await
    .unwrap();
    let mut last = BTreeMap::new();
    for (key, number) in log.read() {
        assert!(last.insert(key, number).is_none_or(|before| before < number), "out of order");
    }
}
