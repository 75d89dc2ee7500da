use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;

use super::super::{Lease, Receiver};
use super::job::Verdict;
use super::lanes::Lanes;
use super::stats::Counters;
use crate::mutant;

/// The hash of an item's key.
pub(super) type LaneOf<T> = Box<dyn Fn(&T) -> u64 + Send + Sync>;

/// What workers share that handle the items of one key one after the other.
///
/// A lease that a worker has taken is under way, or waits in its lane, or rests until it is tried again, or is ready:
/// it has rested, and is to be handled before any other.
pub(super) struct Keyed<T: Send + 'static> {
    lane_of: LaneOf<T>,
    state: Mutex<State<T>>,
    /// A permit for each item that is ready.
    ready: Semaphore,
    /// A permit for each lease that may still be taken.
    room: Semaphore,
    counters: Arc<Counters>,
}

struct State<T: Send + 'static> {
    lanes: Lanes<Lease<T>>,
    ready: VecDeque<(u64, Lease<T>)>,
}

/// Hashes a key, always the same way.
pub(super) fn hash(key: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

impl<T: Send + 'static> Keyed<T> {
    pub(super) fn new(lane_of: LaneOf<T>, window: usize, counters: Arc<Counters>) -> Self {
        let state = State { lanes: Lanes::new(), ready: VecDeque::new() };
        Self {
            lane_of,
            state: Mutex::new(state),
            ready: Semaphore::new(0),
            room: Semaphore::new(window),
            counters,
        }
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn lane_of(&self, item: &T) -> u64 {
        (self.lane_of)(item)
    }

    /// Waits for an item that has rested.
    pub(super) async fn rested(&self) -> (u64, Lease<T>) {
        loop {
            if let Ok(permit) = self.ready.acquire().await {
                permit.forget();
            }
            let ready = self.state().ready.pop_front();
            if let Some(ready) = ready {
                self.counters.waiting.fetch_sub(1, Ordering::Relaxed);
                return ready;
            }
        }
    }

    /// Takes a lease of the queue; `None` when the queue has ended.
    pub(super) async fn fresh(&self, receiver: &Receiver<T>) -> Option<Lease<T>> {
        let room = self.room.acquire().await;
        let lease = receiver.lease().await?;
        if let Ok(room) = room {
            room.forget();
        }
        Some(lease)
    }

    /// Puts a lease into its lane. Gives it back if it is to be handled now.
    pub(super) fn enter(&self, lane: u64, lease: Lease<T>) -> Option<Lease<T>> {
        let now = self.state().lanes.enter(lane, lease);
        if now.is_none() {
            self.counters.waiting.fetch_add(1, Ordering::Relaxed);
        }
        now
    }

    /// A lease that is out of its lane leaves room for another.
    pub(super) fn left(&self) {
        if !mutant!("workers.keep_room") {
            self.room.add_permits(1);
        }
    }

    /// Gives what is next in the lane.
    pub(super) fn next(&self, lane: u64) -> Option<Lease<T>> {
        let next = self.state().lanes.next(lane);
        if next.is_some() {
            self.counters.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        next
    }

    /// Counts an item that rests until it is tried again.
    pub(super) fn rests(&self) {
        self.counters.waiting.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts one that does not rest any more, nor is ready.
    pub(super) fn rests_no_more(&self) {
        self.counters.waiting.fetch_sub(1, Ordering::Relaxed);
    }

    /// Has an item handled again, which stands at the head of its lane.
    pub(super) fn ready(&self, lane: u64, lease: Lease<T>) {
        self.state().ready.push_back((lane, lease));
        self.ready.add_permits(1);
    }

    /// Gives what waits in a lane back to the queue, the last first, so that the first comes first again. What is
    /// under way in it still keeps others out.
    pub(super) fn give_back(&self, lane: u64) {
        let waiting = self.state().lanes.take(lane);
        self.release(waiting);
    }

    /// Ends a lane, and gives what came in meanwhile back, too.
    pub(super) fn end(&self, lane: u64) {
        let waiting = self.state().lanes.end(lane);
        self.release(waiting);
    }

    fn release(&self, waiting: VecDeque<Lease<T>>) {
        for lease in waiting.into_iter().rev() {
            Verdict::Release.apply(lease);
            self.counters.waiting.fetch_sub(1, Ordering::Relaxed);
            self.left();
        }
    }
}

impl<T: Send + 'static> Drop for Keyed<T> {
    fn drop(&mut self) {
        // No worker is left that would handle them.
        let ready = std::mem::take(&mut self.state().ready);
        for (lane, lease) in ready {
            self.counters.waiting.fetch_sub(1, Ordering::Relaxed);
            self.end(lane);
            Verdict::Release.apply(lease);
        }
    }
}
