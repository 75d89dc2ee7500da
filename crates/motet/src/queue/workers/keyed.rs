use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::sleep;

use super::super::{Lease, Receiver};
use super::crew::Counters;
use super::job::Verdict;
use crate::mutant;
use crate::task::{CancelToken, Either, Reason, ReasonKind, race};

/// The hash of an item's key.
pub(super) type LaneOf<T> = Box<dyn Fn(&T) -> u64 + Send + Sync>;

/// The shared state of workers that handle the items of one key one after the other.
///
/// A lease that a worker has taken is being handled, or waits in its lane. A lease that will be tried again waits at
/// the head of its lane, so that all leases of a key are in one place, in order. The last worker to leave returns the
/// lanes to the queue. No earlier worker could do so, because another worker might receive an item between two returns.
pub(super) struct Keyed<T: Send + 'static> {
    lane_of: LaneOf<T>,
    state: Mutex<KeyedState<T>>,
    /// A permit for each item that is ready.
    ready: Semaphore,
    /// A permit for each further lease that may be taken.
    capacity: Semaphore,
    /// Cancelled when the last worker has left.
    over: CancelToken,
    counters: Arc<Counters>,
}

struct KeyedState<T: Send + 'static> {
    lanes: Lanes<Lease<T>>,
    /// Lanes whose first item has waited for its delay, and is handled before any item from the queue.
    ready: VecDeque<u64>,
}

/// Hashes a key, with the same result at every call.
pub(super) fn hash(key: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

impl<T: Send + 'static> Keyed<T> {
    pub(super) fn new(lane_of: LaneOf<T>, window: usize, counters: Arc<Counters>) -> Self {
        let state = KeyedState { lanes: Lanes::new(), ready: VecDeque::new() };
        Self {
            lane_of,
            state: Mutex::new(state),
            ready: Semaphore::new(0),
            capacity: Semaphore::new(window),
            over: CancelToken::new(),
            counters,
        }
    }

    fn state(&self) -> MutexGuard<'_, KeyedState<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn lane_of(&self, item: &T) -> u64 {
        (self.lane_of)(item)
    }

    /// Waits for an item whose delay is over.
    pub(super) async fn ready_again(&self) -> (u64, Lease<T>) {
        loop {
            if let Ok(permit) = self.ready.acquire().await {
                permit.forget();
            }
            let ready = self.state().ready.pop_front();
            if let Some(lane) = ready
                && let Some(lease) = self.next(lane)
            {
                return (lane, lease);
            }
        }
    }

    /// Takes a lease from the queue; `None` if the queue has ended.
    pub(super) async fn lease_next(&self, receiver: &Receiver<T>) -> Option<Lease<T>> {
        let permit = self.capacity.acquire().await;
        let lease = receiver.lease().await?;
        if let Ok(permit) = permit {
            permit.forget();
        }
        Some(lease)
    }

    /// Puts a lease into its lane. Returns it if it may be handled now.
    pub(super) fn enter(&self, lane: u64, lease: Lease<T>) -> Option<Lease<T>> {
        let now = self.state().lanes.enter(lane, lease);
        if now.is_none() {
            self.counters.waiting.fetch_add(1, Ordering::Relaxed);
        }
        now
    }

    /// Allows one more lease to be taken, since one has left its lane.
    pub(super) fn free_capacity(&self) {
        if mutant!("workers.keep_room") {
            return;
        }
        self.capacity.add_permits(1);
    }

    /// Returns the next lease of the lane.
    pub(super) fn next(&self, lane: u64) -> Option<Lease<T>> {
        let next = self.state().lanes.next(lane);
        if next.is_some() {
            self.counters.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        next
    }

    /// Puts an item at the head of its lane: until its delay is over, or for the end of the workers.
    pub(super) fn keep_first(&self, lane: u64, lease: Lease<T>) {
        self.state().lanes.put_first(lane, lease);
        self.counters.waiting.fetch_add(1, Ordering::Relaxed);
    }

    /// Makes the first item of a lane ready after `rest`, unless the last worker has left by then.
    pub(super) async fn ready_after(self: Arc<Self>, lane: u64, rest: Duration) {
        if let Either::Right(()) = race(self.over.cancelled(), sleep(rest)).await {
            self.state().ready.push_back(lane);
            self.ready.add_permits(1);
        }
    }

    /// Returns all waiting leases to the queue, the last one of each lane first, so that the first one ends up at the
    /// front. Only the last worker calls this: while another worker runs, it might receive an item between two returns.
    pub(super) fn give_back(&self) {
        self.over.cancel(Reason::of(ReasonKind::Ended));
        let lanes = self.state().lanes.take_all();
        for mut lane in lanes {
            if mutant!("workers.give_back_in_order") {
                lane.make_contiguous().reverse();
            }
            for lease in lane.into_iter().rev() {
                Verdict::Release.apply(lease);
                self.counters.waiting.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}

/// The keys that have an item in progress, and the items that wait behind it: one lane per key, for as long as the key
/// has an item.
///
/// A key is a hash. Two keys with the same hash share a lane, which only makes them slower. In return no key is stored,
/// and no code of a key runs here.
#[derive(Debug)]
struct Lanes<L> {
    waiting: BTreeMap<u64, VecDeque<L>>,
}

impl<L> Lanes<L> {
    fn new() -> Self {
        Self { waiting: BTreeMap::new() }
    }

    /// Returns the item if it is the first of its lane and may be handled now. Otherwise keeps it, behind the earlier
    /// items of its lane.
    fn enter(&mut self, lane: u64, item: L) -> Option<L> {
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
    fn next(&mut self, lane: u64) -> Option<L> {
        let waiting = self.waiting.get_mut(&lane);
        let next = waiting.and_then(|waiting| {
            if mutant!("workers.newest_of_a_key") {
                waiting.rotate_right(waiting.len().min(1));
            }
            waiting.pop_front()
        });
        if next.is_none() {
            if mutant!("workers.keep_keys") {
                return None;
            }
            self.waiting.remove(&lane);
        }
        next
    }

    /// Puts an item back at the head of its lane, which stays in progress: the item is handled before those behind it.
    fn put_first(&mut self, lane: u64, item: L) {
        self.waiting.entry(lane).or_default().push_front(item);
    }

    /// Empties all lanes, and returns the items that wait in each, in order.
    fn take_all(&mut self) -> Vec<VecDeque<L>> {
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
        fn keyed_items_run_one_at_a_time_per_key_and_in_order(
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
