//! A policy for each key, up to a limit of keys.

use std::hash::{BuildHasher as _, Hash, RandomState};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::clock_map::ClockMap;
use crate::observe::{Registration, Stats};
use crate::resilience::register::{RegisterWith, register};
use crate::task::Name;

pub(super) struct Keyed<K, P> {
    make: Box<dyn Fn(&K) -> P + Send + Sync>,
    /// How valuable a policy is: the least valuable one is evicted.
    worth: fn(&P) -> u8,
    hasher: RandomState,
    slots: Mutex<ClockMap<K, P>>,
    registration: OnceLock<Registration>,
}

impl<K: Clone + Eq + Hash, P: Clone> Keyed<K, P> {
    pub(super) fn new(
        max: NonZeroUsize,
        make: impl Fn(&K) -> P + Send + Sync + 'static,
        worth: fn(&P) -> u8,
    ) -> Arc<Self> {
        Arc::new(Self {
            make: Box::new(make),
            worth,
            hasher: RandomState::new(),
            slots: Mutex::new(ClockMap::new(max.get())),
            registration: OnceLock::new(),
        })
    }

    pub(super) fn get(&self, key: &K) -> P {
        let hash = self.hasher.hash_one(key);
        if let Some(policy) = self.lock().get(hash, key) {
            return policy;
        }
        let policy = (self.make)(key);
        let owned = Arc::new(key.clone());
        let mut slots = self.lock();
        if let Some(first) = slots.get(hash, key) {
            // Another thread was quicker. The policy is dropped without the lock, because it may hold closures of the user.
            drop(slots);
            return first;
        }
        let gone = slots.insert(hash, owned, policy.clone(), self.worth);
        drop(slots);
        drop(gone);
        policy
    }

    pub(super) fn remove(&self, key: &K) -> Option<P> {
        let hash = self.hasher.hash_one(key);
        let gone = self.lock().remove(hash, key);
        gone.map(|(_, policy)| policy)
    }

    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    /// All keys with their policies, to be used without the lock.
    pub(super) fn all(&self) -> Vec<(Arc<K>, P)> {
        self.lock().all()
    }
}

impl<K, P> Keyed<K, P> {
    pub(super) fn register(
        self: &Arc<Self>,
        with: RegisterWith<'_>,
        kind: &'static str,
        name: Name,
        stats: fn(Arc<Self>) -> Stats,
    ) where
        K: Send + Sync + 'static,
        P: Send + 'static,
    {
        if let Some(registration) = register(with, kind, Some(name), self, stats) {
            // A second registration is dropped here, and not shown.
            let _ = self.registration.set(registration);
        }
    }

    fn lock(&self) -> MutexGuard<'_, ClockMap<K, P>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
