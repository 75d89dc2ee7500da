use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::sleep;

use super::super::{Lease, Receiver};
use super::job::Verdict;
use super::lanes::Lanes;
use super::stats::Counters;
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
    state: Mutex<State<T>>,
    /// A permit for each item that is ready.
    ready: Semaphore,
    /// A permit for each further lease that may be taken.
    room: Semaphore,
    /// Cancelled when the last worker has left.
    over: CancelToken,
    counters: Arc<Counters>,
}

struct State<T: Send + 'static> {
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
        let state = State { lanes: Lanes::new(), ready: VecDeque::new() };
        Self {
            lane_of,
            state: Mutex::new(state),
            ready: Semaphore::new(0),
            room: Semaphore::new(window),
            over: CancelToken::new(),
            counters,
        }
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn lane_of(&self, item: &T) -> u64 {
        (self.lane_of)(item)
    }

    /// Waits for an item whose delay is over.
    pub(super) async fn rested(&self) -> (u64, Lease<T>) {
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
    pub(super) async fn fresh(&self, receiver: &Receiver<T>) -> Option<Lease<T>> {
        let room = self.room.acquire().await;
        let lease = receiver.lease().await?;
        if let Ok(room) = room {
            room.forget();
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
    pub(super) fn left(&self) {
        if !mutant!("workers.keep_room") {
            self.room.add_permits(1);
        }
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
    pub(super) async fn wake_after(self: Arc<Self>, lane: u64, rest: Duration) {
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
