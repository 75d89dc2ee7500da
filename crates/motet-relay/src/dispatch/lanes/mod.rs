//! Who may send next: one lane per endpoint, turns in order, bounded in flight.
//!
//! Pure state: time is an argument and nothing here waits.
//!
//! A lane is in one of these conditions:
//! - *asleep*: nothing due; a timer is set on its next due time, if it has one.
//! - *ready*: it may have due deliveries and has a free slot; it stands in the queue for a turn.
//! - *fetching*: a turn was granted, and the store is being asked; one at a time per lane.
//! - *full*: it may have due deliveries, and all its slots are taken; the next slot that comes free makes
//!   it ready.
//!
//! Slots are shared out evenly once many lanes work: a lane may hold no more than its part of three quarters of
//! all slots. So however many receivers hang, the last quarter is there for the lanes that hold nothing, as
//! long as there are fewer lanes than slots.
//!
//! A slot is taken from the grant until the receiver has answered; its delivery stays leased until the outcome is
//! on disk, so no delivery is ever attempted twice at once. The receiver does not wait for the disk, but what is not
//! on disk yet is bounded, too: a lane has at most [`UNRECORDED`] outcomes for each of its slots, and all lanes together
//! as many as there are slots. Beyond that nothing is granted: a disk that is full stops the attempts.
//!
//! A lane that holds nothing and waits for nothing is forgotten: memory follows the endpoints at work, not the
//! endpoints that exist.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::num::NonZeroUsize;

use crate::clock::Millis;

/// Outcomes that a lane may have beyond what is on disk, for each slot that it may have. A commit under load takes as
/// long as three answers of a receiver next door.
const UNRECORDED: usize = 3;

#[derive(Debug)]
pub(super) struct Lanes {
    lanes: HashMap<i64, Lane>,
    /// Lanes whose turn is to come, in order. Each stands here once at most.
    ready: VecDeque<i64>,
    timers: BTreeSet<(Millis, i64)>,
    in_all: usize,
    free: usize,
    per_lane: usize,
    /// Attempts that are over, and not on disk.
    unrecorded: usize,
    /// Lanes that hold a slot or want one.
    working: usize,
}

#[derive(Debug, Default)]
struct Lane {
    /// Slots taken: granted to a fetch, or by an attempt.
    taken: usize,
    /// Attempts that are over, and not on disk.
    unrecorded: usize,
    /// Deliveries that are being attempted or recorded.
    leased: Vec<i64>,
    /// Of the leased ones, those that may have been made due again since: to be looked at once they are done.
    revived: Vec<i64>,
    /// The store may hold a due delivery that is not leased.
    hungry: bool,
    fetching: bool,
    queued: bool,
    working: bool,
    timer: Option<Millis>,
}

impl Lane {
    /// How many more slots it may be granted.
    fn room(&self, share: usize, per_lane: usize) -> usize {
        let beyond_disk = per_lane * (1 + UNRECORDED) - self.unrecorded;
        share.min(beyond_disk).saturating_sub(self.taken)
    }
}

/// Leave for an endpoint to attempt up to `slots` deliveries.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Grant {
    pub(super) endpoint: i64,
    pub(super) slots: usize,
    /// Not to be fetched again: these are under way.
    pub(super) leased: Vec<i64>,
}

impl Lanes {
    pub(super) fn new(in_all: NonZeroUsize, per_lane: NonZeroUsize) -> Self {
        let (in_all, per_lane) = (in_all.get(), per_lane.get());
        Self {
            lanes: HashMap::new(),
            ready: VecDeque::new(),
            timers: BTreeSet::new(),
            in_all,
            free: in_all,
            per_lane,
            unrecorded: 0,
            working: 0,
        }
    }

    /// The endpoint has, or will have, a delivery due at `due`.
    pub(super) fn wake(&mut self, endpoint: i64, due: Millis, now: Millis) {
        let lane = self.lanes.entry(endpoint).or_default();
        if due <= now {
            lane.hungry = true;
        } else if lane.timer.is_none_or(|known| due < known) {
            if let Some(known) = lane.timer.replace(due) {
                self.timers.remove(&(known, endpoint));
            }
            self.timers.insert((due, endpoint));
        }
        self.settle(endpoint);
    }

    /// As [`Lanes::wake`], and the delivery in question may be one that is leased.
    pub(super) fn revive(&mut self, endpoint: i64, due: Millis, now: Millis) {
        if let Some(lane) = self.lanes.get_mut(&endpoint) {
            lane.revived.clone_from(&lane.leased);
        }
        self.wake(endpoint, due, now);
    }

    /// Time has passed: lanes whose due time has come are woken.
    pub(super) fn advance(&mut self, now: Millis) {
        while let Some(&(due, endpoint)) = self.timers.first() {
            if due > now {
                break;
            }
            self.timers.pop_first();
            if let Some(lane) = self.lanes.get_mut(&endpoint) {
                lane.timer = None;
                lane.hungry = true;
            }
            self.settle(endpoint);
        }
    }

    /// The next turn, if a lane is ready and a slot is free.
    pub(super) fn next_grant(&mut self) -> Option<Grant> {
        let share = self.share();
        let (endpoint, lane, slots) = loop {
            if self.free == 0 || self.unrecorded >= self.in_all {
                return None;
            }
            let endpoint = self.ready.pop_front()?;
            let lane = self.lanes.get_mut(&endpoint)?;
            lane.queued = false;
            let slots = lane.room(share, self.per_lane).min(self.free);
            if slots > 0 {
                break (endpoint, self.lanes.get_mut(&endpoint)?, slots);
            }
            // The share has become smaller than what the lane holds; its next free slot brings it back.
        };
        lane.hungry = false;
        lane.fetching = true;
        lane.taken += slots;
        self.free -= slots;
        Some(Grant { endpoint, slots, leased: lane.leased.clone() })
    }

    /// The grant's fetch is done: these deliveries are attempted now, the other slots come back.
    ///
    /// `next_due` is the due time of the first delivery that is neither leased nor among these.
    pub(super) fn fetched(
        &mut self,
        grant: &Grant,
        deliveries: &[i64],
        next_due: Option<Millis>,
        now: Millis,
    ) {
        let unused = grant.slots - deliveries.len();
        self.free += unused;
        if let Some(lane) = self.lanes.get_mut(&grant.endpoint) {
            lane.fetching = false;
            lane.taken -= unused;
            lane.leased.extend_from_slice(deliveries);
        }
        match next_due {
            Some(due) => self.wake(grant.endpoint, due, now),
            None => self.settle(grant.endpoint),
        }
    }

    /// An attempt is over, and its outcome on the way to the disk.
    pub(super) fn answered(&mut self, endpoint: i64) {
        self.free += 1;
        self.unrecorded += 1;
        if let Some(lane) = self.lanes.get_mut(&endpoint) {
            lane.taken -= 1;
            lane.unrecorded += 1;
        }
        self.settle(endpoint);
    }

    /// An outcome is on disk, of an attempt that was [answered](Self::answered); `retry_at` is when the delivery is due
    /// again, if it is.
    pub(super) fn finished(&mut self, endpoint: i64, delivery: i64, retry_at: Option<Millis>, now: Millis) {
        self.unrecorded -= 1;
        if let Some(lane) = self.lanes.get_mut(&endpoint) {
            lane.unrecorded -= 1;
            lane.leased.retain(|leased| *leased != delivery);
            if lane.revived.contains(&delivery) {
                lane.revived.retain(|revived| *revived != delivery);
                lane.hungry = true;
            }
        }
        match retry_at {
            Some(due) => self.wake(endpoint, due, now),
            None => self.settle(endpoint),
        }
    }

    /// When [`Lanes::advance`] next has something to do.
    pub(super) fn next_timer(&self) -> Option<Millis> {
        self.timers.first().map(|(due, _)| *due)
    }

    /// How many slots a lane may hold now.
    fn share(&self) -> usize {
        (self.in_all / 4 * 3 / self.working.max(1)).clamp(1, self.per_lane)
    }

    /// Puts a lane into the queue if it belongs there, and forgets it if nothing is left of it.
    fn settle(&mut self, endpoint: i64) {
        let Some(lane) = self.lanes.get_mut(&endpoint) else { return };
        let working = lane.hungry || lane.taken > 0;
        if working != lane.working {
            lane.working = working;
            self.working = if working { self.working + 1 } else { self.working - 1 };
        }
        let (share, per_lane) = (self.share(), self.per_lane);
        let Some(lane) = self.lanes.get_mut(&endpoint) else { return };
        if lane.hungry && !lane.fetching && !lane.queued && lane.room(share, per_lane) > 0 {
            lane.queued = true;
            self.ready.push_back(endpoint);
        } else if lane.taken == 0
            && lane.leased.is_empty()
            && !lane.hungry
            && !lane.fetching
            && lane.timer.is_none()
        {
            self.lanes.remove(&endpoint);
        }
    }
}

#[cfg(test)]
mod tests;
