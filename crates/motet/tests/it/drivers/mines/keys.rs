//! Keys of users.

use std::convert::Infallible;
use std::hash::{Hash, Hasher};
use std::mem::ManuallyDrop;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};

use motet::batch::Loader;
use motet::resilience::{BreakerState, CircuitBreaker, CircuitBreakers};
use motet::task::{Nursery, scope};
use tokio::time::sleep;

use super::super::{draw, millis};
use super::{Mine, Touch, goes_off, survives};

/// A key that may hold a mine. All keys have the same hash, so that each lookup compares them. Only the caller with
/// the mine sees its panic: the mine is checked in the key that the caller looks up, and in comparisons only after the
/// fuse is used up.
struct Key(u32, Option<Mine>, Fuse);

/// The number of comparisons that succeed.
#[derive(Default)]
struct Fuse(AtomicUsize);

impl Key {
    fn well(number: u32) -> Self {
        Self(number, None, Fuse::default())
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        if let Some(mine) = &self.1 {
            mine.touched(Touch::Hash);
        }
        0.hash(state);
    }
}

impl PartialEq for Key {
    fn eq(&self, asked: &Self) -> bool {
        if let Some(mine) = &asked.1
            && asked
                .2
                .0
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                .is_err()
        {
            mine.touched(Touch::Eq);
        }
        self.0 == asked.0
    }
}

impl Eq for Key {}

impl Clone for Key {
    fn clone(&self) -> Self {
        Self(self.0, self.1.clone(), Fuse::default())
    }
}

/// The caller with a mine may panic; every other caller receives the value of its own key.
pub(super) async fn of_a_loader(touch: Touch) {
    scope(async |n: &Nursery<Infallible>| {
        let loader = Loader::new(n, |keys: Vec<Key>| async move {
            // Not dropped here: a panic of the handler would be its own fault.
            keys.into_iter().map(|key| Ok::<_, Infallible>(ManuallyDrop::new(key).0)).collect::<Vec<_>>()
        });
        let asks = (0..6_u32).map(|number| {
            let loader = loader.clone();
            n.spawn("asks", async move {
                sleep(millis(draw(3))).await;
                let asked = survives(async {
                    let key = Key(number, (number == 2).then(|| Mine(touch)), Fuse::default());
                    loader.load(key).await.map(|value| *value)
                });
                match asked.await {
                    Some(value) => assert_eq!(value.ok(), Some(number)),
                    None => assert_eq!(number, 2, "its key has no mine"),
                }
            })
        });
        for asks in asks.collect::<Vec<_>>() {
            asks.await.unwrap();
        }
        loader.close().await;
        Ok(())
    })
    .await
    .unwrap();
}

/// The caller with a mine may panic; the breakers of the other keys do not change.
pub(super) fn of_a_registry(touch: Touch) {
    // A lookup of a missing key makes six comparisons with the three present keys.
    for fuse in 0..9 {
        let max = const { NonZeroUsize::new(3).unwrap() };
        let breakers = CircuitBreakers::new(max, |_: &Key| CircuitBreaker::default());
        for number in 0..3 {
            breakers.get(&Key::well(number)).force_open();
        }
        let mined = || ManuallyDrop::new(Key(7, Some(Mine(touch)), Fuse(fuse.into())));
        let removed = catch_unwind(AssertUnwindSafe(|| breakers.remove(&mined()).is_some()));
        assert!(!removed.unwrap_or(false), "no breaker has this key");
        let got = catch_unwind(AssertUnwindSafe(|| drop(breakers.get(&mined()))));
        let mut kept: Vec<u32> = breakers.states().iter().map(|(key, _)| key.0).collect();
        kept.sort_unstable();
        match got {
            Err(_) => assert_eq!(kept, [0, 1, 2]),
            Ok(()) => assert!(kept.len() == 3 && kept.contains(&7), "{kept:?}"),
        }
        for number in kept.into_iter().filter(|number| *number < 3) {
            assert_eq!(breakers.get(&Key::well(number)).state(), BreakerState::ForcedOpen);
        }
        goes_off(breakers);
    }
}
