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
//! Slots are shared out evenly once many lanes work: all lanes together hold no more than three quarters of the slots, as
//! long as there are fewer lanes than that. The last quarter is for the lanes that hold nothing.
//!
//! However many receivers hang, they leave a quarter of the slots to those that work. A lane is *trusted* if its last
//! attempt gave its slot back in good time ([`LaneTrust`]), and a *suspect* otherwise, which is what a new lane is. All
//! suspects together are granted no more than three quarters of the slots. The turns of both kinds are in one order, so
//! that neither starves the other.
//!
//! A slot is taken from the grant until the receiver has answered; its delivery stays leased until the outcome is
//! on disk, so no delivery is ever attempted twice at once. The receiver does not wait for the disk, but what is not
//! on disk yet is bounded, too: a lane has at most [`UNRECORDED`] outcomes for each of its slots, and all lanes together
//! as many as there are slots. Beyond that nothing is granted: a disk that is full stops the attempts.
//!
//! A lane that holds nothing and waits for nothing is forgotten: memory follows the endpoints at work, not the
//! endpoints that exist.

mod trusted;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::num::NonZeroUsize;

use self::trusted::Trusted;
use crate::clock::Millis;

/// Outcomes that a lane may have beyond what is on disk, for each slot that it may have. A commit under load takes as
/// long as three answers of a receiver next door.
const UNRECORDED: usize = 3;

/// What an attempt says of its endpoint's use of slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LaneTrust {
    /// The attempt succeeded, or failed at once: the endpoint holds no slot for long.
    Trusted,
    /// The attempt failed, and took its time.
    Suspect,
}

#[derive(Debug)]
pub(super) struct Lanes {
    lanes: HashMap<i64, Lane>,
    /// Trusted lanes whose turn is to come, by the number of the turn. Each lane stands here or in `ready_suspects`, once.
    ready: BTreeMap<u64, i64>,
    ready_suspects: BTreeMap<u64, i64>,
    /// The number of the next turn.
    next_turn: u64,
    trusted: Trusted,
    timers: BTreeSet<(Millis, i64)>,
    total: usize,
    free: usize,
    per_lane: usize,
    /// Attempts that are over, and not on disk.
    unrecorded: usize,
    /// Lanes that hold a slot or want one.
    working: usize,
    /// Of these, the trusted ones.
    working_trusted: usize,
    /// Slots that suspects hold.
    taken_by_suspects: usize,
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
    may_have_due: bool,
    fetching: bool,
    /// The number of its turn, while it is in the queue.
    queued: Option<u64>,
    working: bool,
    is_trusted: bool,
    timer: Option<Millis>,
}

impl Lane {
    /// How many more slots it may be granted.
    fn free_slots(&self, share: usize, per_lane: usize) -> usize {
        let beyond_disk = per_lane * (1 + UNRECORDED) - self.unrecorded;
        share.min(beyond_disk).saturating_sub(self.taken)
    }
}

/// Leave for an endpoint to attempt up to `slots` deliveries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Grant {
    pub(super) endpoint: i64,
    pub(super) slots: usize,
    /// Not to be fetched again: these are under way.
    pub(super) leased: Vec<i64>,
}

impl Lanes {
    pub(super) fn new(total: NonZeroUsize, per_lane: NonZeroUsize) -> Self {
        let (total, per_lane) = (total.get(), per_lane.get());
        Self {
            lanes: HashMap::new(),
            ready: BTreeMap::new(),
            ready_suspects: BTreeMap::new(),
            next_turn: 0,
            trusted: Trusted::default(),
            timers: BTreeSet::new(),
            total,
            free: total,
            per_lane,
            unrecorded: 0,
            working: 0,
            working_trusted: 0,
            taken_by_suspects: 0,
        }
    }

    /// The endpoint has, or will have, a delivery due at `due`.
    pub(super) fn wake(&mut self, endpoint: i64, due: Millis, now: Millis) {
        let trusted = &mut self.trusted;
        let fresh = || Lane { is_trusted: trusted.contains(endpoint), ..Lane::default() };
        let lane = self.lanes.entry(endpoint).or_insert_with(fresh);
        if due <= now {
            lane.may_have_due = true;
        } else if lane.timer.is_none_or(|known| due < known) {
            if let Some(known) = lane.timer.replace(due) {
                self.timers.remove(&(known, endpoint));
            }
            self.timers.insert((due, endpoint));
        }
        self.update_queue(endpoint);
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
                lane.may_have_due = true;
            }
            self.update_queue(endpoint);
        }
    }

    /// The next turn, if a lane is ready and a slot is free for it.
    pub(super) fn next_grant(&mut self) -> Option<Grant> {
        let (endpoint, slots) = loop {
            if self.free == 0 || self.unrecorded >= self.total {
                return None;
            }
            let for_suspects = most_for_suspects(self.total).saturating_sub(self.taken_by_suspects);
            let trusted = self.ready.first_entry();
            let suspect = self.ready_suspects.first_entry().filter(|_| for_suspects > 0);
            let (next, free) = match (trusted, suspect) {
                (Some(trusted), Some(suspect)) if trusted.key() > suspect.key() => (suspect, for_suspects),
                (Some(trusted), _) => (trusted, self.free),
                (None, Some(suspect)) => (suspect, for_suspects),
                (None, None) => return None,
            };
            let endpoint = next.remove();
            let lane = self.lanes.get_mut(&endpoint)?;
            lane.queued = None;
            let is_trusted = lane.is_trusted;
            let share = self.share(is_trusted);
            let lane = self.lanes.get(&endpoint)?;
            let slots = lane.free_slots(share, self.per_lane).min(free).min(self.free);
            if slots > 0 {
                break (endpoint, slots);
            }
            // The share has become smaller than what the lane holds; its next free slot brings it back.
        };
        let lane = self.lanes.get_mut(&endpoint)?;
        lane.may_have_due = false;
        lane.fetching = true;
        let leased = lane.leased.clone();
        self.take(endpoint, slots);
        Some(Grant { endpoint, slots, leased })
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
        self.give_back(grant.endpoint, grant.slots - deliveries.len());
        if let Some(lane) = self.lanes.get_mut(&grant.endpoint) {
            lane.fetching = false;
            lane.leased.extend_from_slice(deliveries);
        }
        match next_due {
            Some(due) => self.wake(grant.endpoint, due, now),
            None => self.update_queue(grant.endpoint),
        }
    }

    /// An attempt is over, and its outcome on the way to the disk. `trust` is what it says of the endpoint, if it says
    /// anything.
    pub(super) fn answered(&mut self, endpoint: i64, trust: Option<LaneTrust>) {
        self.give_back(endpoint, 1);
        self.unrecorded += 1;
        if let Some(lane) = self.lanes.get_mut(&endpoint) {
            lane.unrecorded += 1;
        }
        if let Some(trust) = trust {
            self.set_trust(endpoint, trust);
        }
        self.update_queue(endpoint);
    }

    fn take(&mut self, endpoint: i64, slots: usize) {
        self.free -= slots;
        let Some(lane) = self.lanes.get_mut(&endpoint) else { return };
        lane.taken += slots;
        if !lane.is_trusted {
            self.taken_by_suspects += slots;
        }
    }

    fn give_back(&mut self, endpoint: i64, slots: usize) {
        self.free += slots;
        let Some(lane) = self.lanes.get_mut(&endpoint) else { return };
        lane.taken -= slots;
        if !lane.is_trusted {
            self.taken_by_suspects -= slots;
        }
    }

    /// Moves the lane, with all that it holds, to the trusted ones or to the suspects.
    fn set_trust(&mut self, endpoint: i64, trust: LaneTrust) {
        let is_trusted = trust == LaneTrust::Trusted;
        if is_trusted {
            self.trusted.insert(endpoint);
        } else {
            self.trusted.remove(endpoint);
        }
        let Some(lane) = self.lanes.get_mut(&endpoint).filter(|lane| lane.is_trusted != is_trusted) else {
            return;
        };
        lane.is_trusted = is_trusted;
        let (from, to) = if is_trusted {
            self.taken_by_suspects -= lane.taken;
            (&mut self.ready_suspects, &mut self.ready)
        } else {
            self.taken_by_suspects += lane.taken;
            (&mut self.ready, &mut self.ready_suspects)
        };
        if let Some(turn) = lane.queued {
            from.remove(&turn);
            to.insert(turn, endpoint);
        }
        if lane.working {
            self.working_trusted =
                if is_trusted { self.working_trusted + 1 } else { self.working_trusted - 1 };
        }
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
                lane.may_have_due = true;
            }
        }
        match retry_at {
            Some(due) => self.wake(endpoint, due, now),
            None => self.update_queue(endpoint),
        }
    }

    /// When [`Lanes::advance`] next has something to do.
    pub(super) fn next_timer(&self) -> Option<Millis> {
        self.timers.first().map(|(due, _)| *due)
    }

    /// How many slots a lane may hold now.
    ///
    /// A suspect has a part of three quarters of what all suspects may hold, so that a new endpoint finds a slot beside
    /// suspects that hang. A trusted lane has a part of three quarters of all slots; or, where suspects are many, of three
    /// quarters of those that no suspect may hold.
    fn share(&self, is_trusted: bool) -> usize {
        let most_for_suspects = most_for_suspects(self.total);
        let part = |slots: usize, lanes: usize| slots * 3 / 4 / lanes.max(1);
        let share = if is_trusted {
            let of_all = part(self.total, self.working);
            of_all.max(part(self.total - most_for_suspects, self.working_trusted))
        } else {
            part(most_for_suspects, self.working)
        };
        share.clamp(1, self.per_lane)
    }

    /// Puts a lane into the queue if it belongs there, and forgets it if nothing is left of it.
    fn update_queue(&mut self, endpoint: i64) {
        let Some(lane) = self.lanes.get_mut(&endpoint) else { return };
        let working = lane.may_have_due || lane.taken > 0;
        let is_trusted = lane.is_trusted;
        if working != lane.working {
            lane.working = working;
            let count = |lanes: usize| if working { lanes + 1 } else { lanes - 1 };
            self.working = count(self.working);
            if is_trusted {
                self.working_trusted = count(self.working_trusted);
            }
        }
        let (share, per_lane) = (self.share(is_trusted), self.per_lane);
        let Some(lane) = self.lanes.get_mut(&endpoint) else { return };
        if lane.may_have_due
            && !lane.fetching
            && lane.queued.is_none()
            && lane.free_slots(share, per_lane) > 0
        {
            lane.queued = Some(self.next_turn);
            let queue = if is_trusted { &mut self.ready } else { &mut self.ready_suspects };
            queue.insert(self.next_turn, endpoint);
            self.next_turn += 1;
        } else if lane.taken == 0
            && lane.leased.is_empty()
            && !lane.may_have_due
            && !lane.fetching
            && lane.timer.is_none()
        {
            self.lanes.remove(&endpoint);
        }
    }
}

/// How many slots all suspects together may be granted; at least one, or no new endpoint would ever be attempted.
fn most_for_suspects(total: usize) -> usize {
    (total * 3 / 4).max(1)
}

#[cfg(test)]
mod tests;
