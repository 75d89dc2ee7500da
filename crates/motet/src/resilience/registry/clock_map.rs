use std::collections::HashMap;
use std::sync::Arc;

use crate::mutant;

/// A map of up to `max` values: when it is full, a further key evicts the least valuable one.
///
/// The eviction is that of a clock: a lookup marks its slot, and the hand, which searches a slot to evict, clears the
/// marks. So a lookup costs next to nothing, and an eviction at most [`MAX_STEPS`] steps.
///
/// The caller hashes the keys. Keys are compared in [`find`](Self::find) only, before anything is changed, so that a
/// comparison that panics leaves everything as it was.
#[derive(Debug)]
pub(super) struct ClockMap<K, V> {
    max: usize,
    /// The first slot of each hash.
    at: HashMap<u64, usize>,
    slots: Vec<ClockEntry<K, V>>,
    hand: usize,
}

#[derive(Debug)]
struct ClockEntry<K, V> {
    hash: u64,
    key: Arc<K>,
    value: V,
    marked: bool,
    /// The next slot with the same hash.
    next: Option<usize>,
}

const MAX_STEPS: usize = 64;

impl<K: Eq, V: Clone> ClockMap<K, V> {
    pub(super) fn new(max: usize) -> Self {
        Self { max, at: HashMap::new(), slots: Vec::new(), hand: 0 }
    }

    pub(super) fn get(&mut self, hash: u64, key: &K) -> Option<V> {
        let position = self.find(hash, key)?;
        let slot = &mut self.slots[position];
        slot.marked = true;
        Some(slot.value.clone())
    }

    fn find(&self, hash: u64, key: &K) -> Option<usize> {
        let mut position = *self.at.get(&hash)?;
        while *self.slots[position].key != *key {
            position = self.slots[position].next?;
        }
        Some(position)
    }

    /// Inserts a new key. Returns the evicted entry, to be dropped without the lock.
    ///
    /// `worth` returns the value of an entry; among equal ones, the entry that was not looked up for longer is evicted.
    pub(super) fn insert(
        &mut self,
        hash: u64,
        key: Arc<K>,
        value: V,
        worth: impl Fn(&V) -> u8,
    ) -> Option<(Arc<K>, V)> {
        if self.slots.len() < self.max {
            let next = self.at.insert(hash, self.slots.len());
            self.slots.push(ClockEntry { hash, key, value, marked: true, next });
            return None;
        }
        let position = self.find_least_valuable(worth);
        self.unlink(position);
        if mutant!("registry.compare_in_between") {
            let _is_first = *self.slots[0].key == *key;
        }
        let next = self.at.insert(hash, position);
        let slot = ClockEntry { hash, key, value, marked: true, next };
        let gone = std::mem::replace(&mut self.slots[position], slot);
        Some((gone.key, gone.value))
    }

    fn find_least_valuable(&mut self, worth: impl Fn(&V) -> u8) -> usize {
        let mut least = (self.hand, (u8::MAX, true));
        for _ in 0..MAX_STEPS.min(self.slots.len()) {
            let slot = &mut self.slots[self.hand];
            let rank = (worth(&slot.value), std::mem::take(&mut slot.marked));
            if rank < least.1 {
                least = (self.hand, rank);
            }
            self.hand = (self.hand + 1) % self.slots.len();
            if rank == (0, false) {
                break;
            }
        }
        least.0
    }

    pub(super) fn remove(&mut self, hash: u64, key: &K) -> Option<(Arc<K>, V)> {
        let position = self.find(hash, key)?;
        self.unlink(position);
        let last = self.slots.len() - 1;
        if position < last {
            self.relink(self.slots[last].hash, last, Some(position));
        }
        // The last slot moves to the position of the removed one.
        let gone = self.slots.swap_remove(position);
        if self.hand >= self.slots.len() {
            self.hand = 0;
        }
        Some((gone.key, gone.value))
    }

    fn unlink(&mut self, position: usize) {
        let ClockEntry { hash, next, .. } = self.slots[position];
        self.relink(hash, position, next);
    }

    /// Replaces the link to slot `from` with a link to slot `to`.
    fn relink(&mut self, hash: u64, from: usize, to: Option<usize>) {
        let first = self.at.get(&hash).copied();
        if first == Some(from) {
            match to {
                Some(to) => drop(self.at.insert(hash, to)),
                None => drop(self.at.remove(&hash)),
            }
            return;
        }
        let mut before = first;
        while let Some(position) = before {
            let slot = &mut self.slots[position];
            if slot.next == Some(from) {
                slot.next = to;
                return;
            }
            before = slot.next;
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn all(&self) -> Vec<(Arc<K>, V)> {
        self.slots.iter().map(|slot| (Arc::clone(&slot.key), slot.value.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A hash with few values, so that some keys share theirs.
    fn hash(key: u8) -> u64 {
        u64::from(key % 7)
    }

    proptest! {
        #[test]
        fn clock_map_agrees_with_a_map_and_evicts_only_when_full(
            steps in prop::collection::vec((0_u8..3, 0_u8..30), 0..300),
            max in 1_usize..20,
        ) {
            let mut slots = ClockMap::new(max);
            let mut model: HashMap<u8, u8> = HashMap::new();
            for (step, key) in steps {
                match step {
                    0 => prop_assert_eq!(slots.remove(hash(key), &key).map(|gone| *gone.0), model.remove(&key).map(|_| key)),
                    1 => prop_assert_eq!(slots.get(hash(key), &key), model.get(&key).copied()),
                    _ if model.contains_key(&key) => {}
                    _ => {
                        let was_full = model.len() == max;
                        let gone = slots.insert(hash(key), Arc::new(key), key, |value| value % 3);
                        prop_assert_eq!(gone.is_some(), was_full);
                        if let Some((gone, value)) = gone {
                            prop_assert_eq!(model.remove(&gone), Some(value));
                            // With so few slots, every one was examined.
                            prop_assert!(model.values().all(|kept| value % 3 <= kept % 3));
                        }
                        model.insert(key, key);
                    }
                }
                let mut kept: Vec<_> = slots.all().into_iter().map(|(key, value)| (*key, value)).collect();
                let mut expected: Vec<_> = model.iter().map(|(key, value)| (*key, *value)).collect();
                kept.sort_unstable();
                expected.sort_unstable();
                prop_assert_eq!(kept, expected);
                prop_assert_eq!(slots.len(), model.len());
            }
        }
    }

    #[test]
    fn key_read_recently_is_evicted_after_one_that_was_not() {
        let mut slots = ClockMap::new(3);
        for key in 0..3 {
            slots.insert(hash(key), Arc::new(key), key, |_| 0);
        }
        // The first new key clears all marks, and then takes the slot of the first key.
        assert_eq!(slots.insert(hash(3), Arc::new(3), 3, |_| 0).map(|gone| gone.1), Some(0));
        assert_eq!(slots.get(hash(1), &1), Some(1));
        assert_eq!(slots.insert(hash(4), Arc::new(4), 4, |_| 0).map(|gone| gone.1), Some(2));
    }
}
