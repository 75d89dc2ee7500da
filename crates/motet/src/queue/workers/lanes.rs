use std::collections::{BTreeMap, VecDeque};

use crate::mutant;

/// Which keys have an item under way, and what waits behind it: a lane for each key, as long as there is something in
/// it.
///
/// A key is a hash. Two that share one share a lane, which is slower than it need be and nothing else; in return no
/// key is kept, and none of its code runs in here.
#[derive(Debug)]
pub(super) struct Lanes<L> {
    waiting: BTreeMap<u64, VecDeque<L>>,
}

impl<L> Lanes<L> {
    pub(super) fn new() -> Self {
        Self { waiting: BTreeMap::new() }
    }

    /// Gives the item back if it is the first of its lane, and may be handled now. Otherwise it is kept, behind those
    /// that came before.
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

    /// Ends what is under way in a lane, and gives what is to be handled next in it.
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

    /// Puts an item back at the head of its lane, which stays: the item is handled before those behind it.
    pub(super) fn put_first(&mut self, lane: u64, item: L) {
        self.waiting.entry(lane).or_default().push_front(item);
    }

    /// Empties all lanes, and returns what waits in each, in order.
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
        /// The naive model: all that is there in one list, and of each key the first is under way.
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
                        // What is under way fails, and is handled again before the rest of its lane.
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
            prop_assert!(lanes.waiting.is_empty(), "a key is kept that has nothing");
        }
    }
}
