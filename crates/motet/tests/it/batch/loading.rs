//! Loaders: lookups of keys, shared by the callers of a batch.

use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use motet::batch::{LoadError, Loader};
use motet::task::{gather, timeout};
use tokio::sync::Semaphore;
use tokio::time::sleep;

use super::{Batches, ms, within};

#[tokio::test(start_paused = true)]
async fn concurrent_loads_of_a_key_share_one_lookup_until_it_runs() {
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
async fn comparison_of_a_key_may_call_the_loader() {
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
        let [first, second, third] = <[_; 3]>::try_from(loaded).unwrap();
        assert!(first.is_ok() && second.is_ok());
        let refused = third.unwrap_err();
        assert!(refused.is_full(), "{refused:?}");
        assert_eq!(
            refused.to_string(),
            "too many keys are waiting for the loader (`max_waiting`, `max_in_line`)"
        );
        assert_eq!(refused.into_key(), Some(3));
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
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn closed_loader_hands_the_key_of_a_load_back() {
    within(async |n| {
        let loader =
            Loader::new(n, async |keys: Vec<u32>| keys.into_iter().map(Ok::<_, ()>).collect::<Vec<_>>());
        assert_eq!(*loader.load(3).await.unwrap(), 3);
        loader.close().await;
        assert!(matches!(loader.load(4).await, Err(LoadError::Closed(4))));
    })
    .await;
}
