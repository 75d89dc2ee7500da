use std::collections::{BTreeMap, VecDeque};

use crate::mutant;

/// The keys that have an item in progress, and the items that wait behind it: one lane per key, for as long as the key
/// has an item.
///
/// A key is a hash. Two keys with the same hash share a lane, which only makes them slower. In return no key is stored,
/// and no code of a key runs here.
#[derive(Debug)]
pub(super) struct Lanes<L> {
    waiting: BTreeMap<u64, VecDeque<L>>,
}

impl<L> Lanes<L> {
    pub(super) fn new() -> Self {
        Self { waiting: BTreeMap::new() }
    }

    /// Returns the item if it is the first of its lane and may be handled now. Otherwise keeps it, behind the earlier
    /// items of its lane.
    pub(super) fn enter(&mut self, lane: u64, item: L) -> Option<L> {
        if let Some(waiting) = self.waiting.get_mut(&lane) {
            if mutant!("workers.two_of_a_key") {
                return Some(item);
            }
            waiting.push_back(item);
            return None;
        }
        self.waiting.insert(lane, VecDeque::new());
        Some(item)
    }

    /// Ends the item in progress in a lane, and returns the next item of the lane.
    pub(super) fn next(&mut self, lane: u64) -> Option<L> {
        let next = self.waiting.get_mut(&lane).and_then(|waiting| match mutant!("workers.newest_of_a_key") {
            true => waiting.pop_back(),
            false => waiting.pop_front(),
        });
        if next.is_none() && !mutant!("workers.keep_keys") {
            self.waiting.remove(&lane);
        }
        next
    }

    /// Puts an item back at the head of its lane, which stays in progress: the item is handled before those behind it.
    pub(super) fn put_first(&mut self, lane: u64, item: L) {
        self.waiting.entry(lane).or_default().push_front(item);
    }

    /// Empties all lanes, and returns the items that wait in each, in order.
    pub(super) fn take_all(&mut self) -> Vec<VecDeque<L>> {
        std::mem::take(&mut self.waiting).into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    use super::*;

    fn under_way(list: &[(u64, usize)]) -> Vec<u64> {
        let mut keys: Vec<u64> = list.iter().map(|(key, _)| *key).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    proptest! {
        /// The naive model: all items in one list; the first item of each key is in progress.
        #[test]
        fn items_of_a_key_run_one_at_a_time_and_in_order(
            steps in proptest::collection::vec((0..5u8, 0..5u64, any::<usize>()), 0..200)
        ) {
            let (mut lanes, mut list) = (Lanes::new(), Vec::<(u64, usize)>::new());
            for (number, (kind, key, which)) in steps.into_iter().enumerate() {
                let keys = under_way(&list);
                match kind {
                    0 | 1 => {
                        let first = !keys.contains(&key);
                        list.push((key, number));
                        prop_assert_eq!(lanes.enter(key, number), first.then_some(number));
                    }
                    2 if !keys.is_empty() => {
                        let key = keys[which % keys.len()];
                        let done = list.iter().position(|(other, _)| *other == key).unwrap();
                        list.remove(done);
                        let next = list.iter().find(|(other, _)| *other == key).map(|(_, number)| *number);
                        prop_assert_eq!(lanes.next(key), next);
                    }
                    3 if !keys.is_empty() => {
                        // The item in progress fails, and is handled again before the others of its lane.
                        let key = keys[which % keys.len()];
                        let first = list.iter().find(|(other, _)| *other == key).map(|(_, number)| *number).unwrap();
                        lanes.put_first(key, first);
                        prop_assert_eq!(lanes.next(key), Some(first));
                    }
                    4 if which % 8 == 0 => {
                        let waiting: Vec<usize> = keys.iter().flat_map(|key| {
                            list.iter().filter(move |(other, _)| other == key).skip(1).map(|(_, number)| *number)
                        }).collect();
                        prop_assert_eq!(lanes.take_all().into_iter().flatten().collect::<Vec<_>>(), waiting);
                        list.clear();
                    }
                    _ => {}
                }
                prop_assert_eq!(lanes.waiting.len(), under_way(&list).len());
            }
            for key in under_way(&list) {
                while lanes.next(key).is_some() {}
            }
            prop_assert!(lanes.waiting.is_empty(), "a key without items is kept");
        }
    }
}
