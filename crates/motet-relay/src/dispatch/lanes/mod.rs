//! Which endpoint may send next: one lane per endpoint, turns in order, and a bounded number of attempts in flight.
//!
//! This is pure state: time is an argument and nothing here waits.
//!
//! A lane is in one of these states:
//! - *asleep*: no delivery is due; a timer is set to the next due time, if there is one.
//! - *ready*: it may have due deliveries and has a free slot; it waits in the queue for a turn.
//! - *fetching*: a turn was granted and the store is being read; a lane has at most one fetch at a time.
//! - *full*: it may have due deliveries, and all its slots are taken; the next free slot makes it ready.
//!
//! When many lanes work, they share the slots evenly: first the tenants, and then the lanes of each tenant
//! ([`TenantSlots`]). The last quarter of the slots is for tenants and lanes that hold no slot. A lane that is ready while
//! its tenant may hold no more slots is *blocked*: it is in no rotation until its tenant may hold more.
//!
//! Receivers that hang cannot take all slots, however many they are. A lane is *trusted* if its last attempt returned
//! its slot quickly ([`LaneTrust`]); otherwise, and when it is new, it is a *suspect*. All suspects together are
//! granted at most three quarters of the slots. Trusted lanes and suspects get their turns in one common order, so
//! that neither group starves the other.
//!
//! Turns rotate between tenants first, and then between the lanes of a tenant ([`Rotation`]). So a tenant waits for at most
//! one turn of each other tenant, however many lanes the other tenants have, trusted or not.
//!
//! A slot is taken from the grant until the receiver has responded. The delivery stays leased until the outcome is on
//! disk, so no delivery is attempted twice at once. The receiver does not wait for the disk, but the number of
//! outcomes that are not on disk yet is bounded: a lane has at most [`UNRECORDED`] of them for each of its slots, and
//! all lanes together have at most as many as there are slots. Beyond this bound nothing is granted, so a full disk
//! stops the attempts.
//!
//! A lane that holds nothing and waits for nothing is removed: memory grows with the endpoints that have work, not
//! with all endpoints.

mod rotation;
mod tenants;
mod trusted;

use std::collections::{BTreeSet, HashMap};
use std::num::NonZeroUsize;

use self::rotation::Rotation;
use self::tenants::TenantSlots;
use self::trusted::Trusted;
use crate::clock::Millis;
use crate::store::TenantSeq;

/// Number of outcomes that a lane may have in memory for each of its slots. Under load a commit takes about as long as
/// three responses of a nearby receiver.
const UNRECORDED: usize = 3;

/// How the last attempt of an endpoint used its slot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum LaneTrust {
    /// The attempt succeeded or failed quickly: the endpoint holds no slot for long.
    Trusted,
    /// The attempt failed slowly, or there was none.
    #[default]
    Suspect,
}

#[derive(Debug)]
pub(super) struct Lanes {
    lanes: HashMap<i64, Lane>,
    /// Trusted lanes that wait for a turn. A waiting lane is in this rotation or in `ready_suspects`.
    ready: Rotation,
    ready_suspects: Rotation,
    /// The number of the next turn.
    next_turn: u64,
    /// The end of both rotations.
    last_position: u64,
    trusted: Trusted,
    tenants: TenantSlots,
    timers: BTreeSet<(Millis, i64)>,
    total: usize,
    free: usize,
    per_lane: usize,
    /// Attempts that have ended and are not on disk.
    unrecorded: usize,
    /// Slots that suspects hold.
    taken_by_suspects: usize,
}

#[derive(Debug)]
struct Lane {
    tenant: TenantSeq,
    /// Slots that are taken by a fetch or by an attempt.
    taken: usize,
    /// Attempts that have ended and are not on disk.
    unrecorded: usize,
    /// Deliveries that are being attempted or recorded.
    leased: Vec<i64>,
    /// The leased deliveries that may have become due again: the store is asked about them when they are finished.
    revived: Vec<i64>,
    /// `true` if the store possibly contains a due delivery that is not leased.
    may_have_due: bool,
    fetching: bool,
    /// The number of its turn, while it is in a rotation.
    queued: Option<u64>,
    /// The number of its turn, while its tenant may hold no more slots.
    blocked: Option<u64>,
    working: bool,
    trust: LaneTrust,
    timer: Option<Millis>,
}

impl Lane {
    fn new(tenant: TenantSeq, trust: LaneTrust) -> Self {
        Self {
            tenant,
            taken: 0,
            unrecorded: 0,
            leased: Vec::new(),
            revived: Vec::new(),
            may_have_due: false,
            fetching: false,
            queued: None,
            blocked: None,
            working: false,
            trust,
            timer: None,
        }
    }

    /// Returns how many more slots may be granted to the lane.
    fn free_slots(&self, share: usize, per_lane: usize) -> usize {
        let beyond_disk = per_lane * (1 + UNRECORDED) - self.unrecorded;
        share.min(beyond_disk).saturating_sub(self.taken)
    }
}

/// Permission for an endpoint to attempt up to `slots` deliveries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Grant {
    pub(super) endpoint: i64,
    pub(super) slots: usize,
    /// Deliveries in flight, which must not be fetched again.
    pub(super) leased: Vec<i64>,
}

impl Lanes {
    pub(super) fn new(total: NonZeroUsize, per_lane: NonZeroUsize) -> Self {
        let (total, per_lane) = (total.get(), per_lane.get());
        Self {
            lanes: HashMap::new(),
            ready: Rotation::default(),
            ready_suspects: Rotation::default(),
            next_turn: 0,
            last_position: 0,
            trusted: Trusted::default(),
            tenants: TenantSlots::new(total),
            timers: BTreeSet::new(),
            total,
            free: total,
            per_lane,
            unrecorded: 0,
            taken_by_suspects: 0,
        }
    }

    /// Notes that the endpoint of this tenant has, or will have, a delivery that is due at `due`.
    pub(super) fn wake(&mut self, endpoint: i64, tenant: TenantSeq, due: Millis, now: Millis) {
        let trusted = &mut self.trusted;
        let fresh = || Lane::new(tenant, trusted.trust_of(endpoint));
        self.lanes.entry(endpoint).or_insert_with(fresh);
        self.set_due(endpoint, due, now);
    }

    /// Notes that a lane has, or will have, a delivery that is due at `due`.
    fn set_due(&mut self, endpoint: i64, due: Millis, now: Millis) {
        let Some(lane) = self.lanes.get_mut(&endpoint) else { return };
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

    /// Like [`Lanes::wake`], for a delivery that may be leased.
    pub(super) fn revive(&mut self, endpoint: i64, tenant: TenantSeq, due: Millis, now: Millis) {
        if let Some(lane) = self.lanes.get_mut(&endpoint) {
            lane.revived.clone_from(&lane.leased);
        }
        self.wake(endpoint, tenant, due, now);
    }

    /// Wakes the lanes whose due time has come.
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

    /// Returns the next turn, if a lane is ready and a slot is free for it.
    pub(super) fn next_grant(&mut self) -> Option<Grant> {
        let (endpoint, slots) = loop {
            if self.free == 0 || self.unrecorded >= self.total {
                return None;
            }
            let for_suspects = max_for_suspects(self.total).saturating_sub(self.taken_by_suspects);
            let trusted = self.ready.next();
            let suspect = self.ready_suspects.next().filter(|_| for_suspects > 0);
            let (ready, suspects) = (&mut self.ready, &mut self.ready_suspects);
            let (next, queue, other, free) = match (trusted, suspect) {
                (Some(trusted), Some(suspect)) if suspect.is_before(&trusted) => {
                    (suspect, suspects, ready, for_suspects)
                }
                (Some(trusted), _) => (trusted, ready, suspects, self.free),
                (None, Some(suspect)) => (suspect, suspects, ready, for_suspects),
                (None, None) => match self.tenants.take_shrunk() {
                    shrunk if shrunk.is_empty() => return None,
                    shrunk => {
                        shrunk.into_iter().for_each(|tenant| self.unblock(tenant));
                        continue;
                    }
                },
            };
            queue.take(next, &mut self.last_position);
            other.defer(next.tenant(), &mut self.last_position);
            let endpoint = next.endpoint;
            let lane = self.lanes.get_mut(&endpoint)?;
            lane.queued = None;
            let (tenant, trust) = (lane.tenant, lane.trust);
            let room = self.tenants.room(tenant, trust);
            let share = self.share(tenant, trust);
            let lane = self.lanes.get_mut(&endpoint)?;
            let slots = lane.free_slots(share, self.per_lane).min(free).min(self.free).min(room);
            if slots > 0 {
                break (endpoint, slots);
            }
            if room == 0 {
                lane.blocked = Some(next.turn());
                self.tenants.block(tenant, trust, next.turn(), endpoint);
            }
            // Otherwise the lane holds more than its share, which has become smaller; its next free slot makes it ready
            // again.
        };
        let lane = self.lanes.get_mut(&endpoint)?;
        lane.may_have_due = false;
        lane.fetching = true;
        let leased = lane.leased.clone();
        self.take(endpoint, slots);
        Some(Grant { endpoint, slots, leased })
    }

    /// Ends the fetch of a grant: `deliveries` are attempted now, and the other slots are returned.
    ///
    /// `next_due` is the due time of the first delivery that is neither leased nor in `deliveries`.
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
            Some(due) => self.set_due(grant.endpoint, due, now),
            None => self.update_queue(grant.endpoint),
        }
    }

    /// Ends an attempt whose outcome is not on disk yet. `trust` is `None` if the receiver was not asked.
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
        self.tenants.take(lane.tenant, lane.trust, slots);
        if lane.trust == LaneTrust::Suspect {
            self.taken_by_suspects += slots;
        }
    }

    fn give_back(&mut self, endpoint: i64, slots: usize) {
        self.free += slots;
        let Some(lane) = self.lanes.get_mut(&endpoint) else { return };
        lane.taken -= slots;
        if lane.trust == LaneTrust::Suspect {
            self.taken_by_suspects -= slots;
        }
        let tenant = lane.tenant;
        self.tenants.give_back(tenant, lane.trust, slots);
        self.unblock(tenant);
    }

    /// Makes blocked lanes of the tenant ready, as many as the tenant may hold further slots.
    fn unblock(&mut self, tenant: TenantSeq) {
        for endpoint in self.tenants.unblocked(tenant) {
            let Some(lane) = self.lanes.get_mut(&endpoint) else { continue };
            if let Some(turn) = lane.blocked.take() {
                self.tenants.unblock(tenant, lane.trust, turn);
                self.update_queue(endpoint);
            }
        }
    }

    /// Moves the lane, with all its slots, to the trusted lanes or to the suspects.
    fn set_trust(&mut self, endpoint: i64, trust: LaneTrust) {
        let is_trusted = trust == LaneTrust::Trusted;
        if is_trusted {
            self.trusted.insert(endpoint);
        } else {
            self.trusted.remove(endpoint);
        }
        let Some(lane) = self.lanes.get_mut(&endpoint).filter(|lane| lane.trust != trust) else {
            return;
        };
        let (tenant, before) = (lane.tenant, std::mem::replace(&mut lane.trust, trust));
        self.tenants.set_trust(tenant, trust, lane.taken, lane.working);
        if let Some(turn) = lane.blocked {
            self.tenants.unblock(tenant, before, turn);
            self.tenants.block(tenant, trust, turn, endpoint);
        }
        let (from, to) = if is_trusted {
            self.taken_by_suspects -= lane.taken;
            (&mut self.ready_suspects, &mut self.ready)
        } else {
            self.taken_by_suspects += lane.taken;
            (&mut self.ready, &mut self.ready_suspects)
        };
        if let Some(turn) = lane.queued {
            from.remove(lane.tenant, turn);
            to.insert(lane.tenant, turn, endpoint, &mut self.last_position);
        }
        self.unblock(tenant);
    }

    /// Notes that the outcome of an [answered](Self::answered) attempt is on disk. `retry_at` is the time at which the
    /// delivery is due again, if it is pending.
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
            Some(due) => self.set_due(endpoint, due, now),
            None => self.update_queue(endpoint),
        }
    }

    /// The next time at which [`Lanes::advance`] has something to do.
    pub(super) fn next_timer(&self) -> Option<Millis> {
        self.timers.first().map(|(due, _)| *due)
    }

    /// Returns how many slots a lane may hold now.
    fn share(&self, tenant: TenantSeq, trust: LaneTrust) -> usize {
        self.tenants.share(tenant, trust).clamp(1, self.per_lane)
    }

    /// Puts a lane into the queue if it is ready, and removes it if it holds nothing and waits for nothing.
    fn update_queue(&mut self, endpoint: i64) {
        let Some(lane) = self.lanes.get_mut(&endpoint) else { return };
        let working = lane.may_have_due || lane.taken > 0;
        let trust = lane.trust;
        if working != lane.working {
            lane.working = working;
            self.tenants.set_working(lane.tenant, trust, working);
        }
        let tenant = lane.tenant;
        let (share, per_lane) = (self.share(tenant, trust), self.per_lane);
        let Some(lane) = self.lanes.get_mut(&endpoint) else { return };
        if lane.may_have_due
            && !lane.fetching
            && lane.queued.is_none()
            && lane.blocked.is_none()
            && lane.free_slots(share, per_lane) > 0
        {
            let turn = self.next_turn;
            self.next_turn += 1;
            if self.tenants.room(tenant, trust) == 0 {
                lane.blocked = Some(turn);
                self.tenants.block(tenant, trust, turn, endpoint);
            } else {
                lane.queued = Some(turn);
                let queue =
                    if trust == LaneTrust::Trusted { &mut self.ready } else { &mut self.ready_suspects };
                queue.insert(tenant, turn, endpoint, &mut self.last_position);
            }
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

/// Returns how many slots all suspects together may be granted; at least one, because a new endpoint is a suspect.
fn max_for_suspects(total: usize) -> usize {
    (total * 3 / 4).max(1)
}

#[cfg(test)]
mod tests;
