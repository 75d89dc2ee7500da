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
//! A slot is taken from the grant until the outcome is on disk, so no delivery is ever attempted twice at
//! once. A lane that holds nothing and waits for nothing is forgotten: memory follows the endpoints at
//! work, not the endpoints that exist.

use std::collections::{BTreeSet, HashMap, VecDeque};

use crate::clock::Millis;

#[derive(Debug)]
pub(super) struct Lanes {
    lanes: HashMap<i64, Lane>,
    /// Lanes whose turn is to come, in order. Each stands here once at most.
    ready: VecDeque<i64>,
    timers: BTreeSet<(Millis, i64)>,
    in_all: usize,
    free: usize,
    per_lane: usize,
    /// Lanes that hold a slot or want one.
    working: usize,
}

#[derive(Debug, Default)]
struct Lane {
    /// Slots taken: granted to a fetch, or by an attempt.
    taken: usize,
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

/// Leave for an endpoint to attempt up to `slots` deliveries.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Grant {
    pub(super) endpoint: i64,
    pub(super) slots: usize,
    /// Not to be fetched again: these are under way.
    pub(super) leased: Vec<i64>,
}

impl Lanes {
    pub(super) fn new(in_all: usize, per_lane: usize) -> Self {
        Self {
            lanes: HashMap::new(),
            ready: VecDeque::new(),
            timers: BTreeSet::new(),
            in_all,
            free: in_all,
            per_lane,
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
            if self.free == 0 {
                return None;
            }
            let endpoint = self.ready.pop_front()?;
            let lane = self.lanes.get_mut(&endpoint)?;
            lane.queued = false;
            let slots = share.saturating_sub(lane.taken).min(self.free);
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

    /// An attempt is over and on disk; `retry_at` is when the delivery is due again, if it is.
    pub(super) fn finished(&mut self, endpoint: i64, delivery: i64, retry_at: Option<Millis>, now: Millis) {
        self.free += 1;
        if let Some(lane) = self.lanes.get_mut(&endpoint) {
            lane.taken -= 1;
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
        let share = self.share();
        let Some(lane) = self.lanes.get_mut(&endpoint) else { return };
        if lane.hungry && !lane.fetching && !lane.queued && lane.taken < share {
            lane.queued = true;
            self.ready.push_back(endpoint);
        } else if lane.taken == 0 && !lane.hungry && !lane.fetching && lane.timer.is_none() {
            self.lanes.remove(&endpoint);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::{Just, Strategy, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};

    use super::*;

    #[test]
    fn lanes_take_turns_in_order_of_waking() {
        let mut lanes = Lanes::new(100, 2);
        for endpoint in [3, 1, 2] {
            lanes.wake(endpoint, 0, 0);
        }
        let order: Vec<_> =
            std::iter::from_fn(|| lanes.next_grant()).map(|g| (g.endpoint, g.slots)).collect();
        assert_eq!(order, [(3, 2), (1, 2), (2, 2)]);
    }

    #[test]
    fn a_full_lane_waits_for_its_own_slot_and_not_in_the_queue() {
        let mut lanes = Lanes::new(100, 2);
        lanes.wake(1, 0, 0);
        let grant = lanes.next_grant().unwrap();
        lanes.fetched(&grant, &[10, 11], Some(0), 0);
        assert_eq!(lanes.next_grant(), None);
        lanes.wake(2, 0, 0);
        assert_eq!(lanes.next_grant().unwrap().endpoint, 2);
        lanes.finished(1, 10, None, 0);
        assert_eq!(lanes.next_grant(), Some(Grant { endpoint: 1, slots: 1, leased: vec![11] }));
    }

    #[test]
    fn a_wake_during_the_fetch_is_not_lost() {
        let mut lanes = Lanes::new(100, 2);
        lanes.wake(1, 0, 0);
        let grant = lanes.next_grant().unwrap();
        lanes.wake(1, 0, 0);
        lanes.fetched(&grant, &[], None, 0);
        assert!(lanes.next_grant().is_some());
    }

    #[test]
    fn lanes_whose_receivers_hang_leave_room_for_the_others() {
        const STUCK: i64 = 64;
        let mut lanes = Lanes::new(1_024, 16);
        let mut next = 0;
        for endpoint in 0..STUCK {
            lanes.wake(endpoint, 0, 0);
        }
        while let Some(grant) = lanes.next_grant() {
            let due: Vec<_> = (0..grant.slots as i64).map(|n| next + n).collect();
            next += grant.slots as i64;
            lanes.fetched(&grant, &due, Some(0), 0);
        }
        lanes.wake(STUCK, 0, 0);
        let grant = lanes.next_grant().unwrap();
        assert_eq!(grant.endpoint, STUCK);
        assert!(grant.slots >= 8, "{} slots", grant.slots);
    }

    #[test]
    fn a_delivery_revived_while_it_is_leased_is_looked_at_again() {
        let mut lanes = Lanes::new(100, 2);
        lanes.wake(1, 0, 0);
        let grant = lanes.next_grant().unwrap();
        lanes.fetched(&grant, &[10], None, 0);
        lanes.revive(1, 0, 0);
        // The turn that the wake brings cannot take it: it is leased still.
        let grant = lanes.next_grant().unwrap();
        assert_eq!(grant.leased, [10]);
        lanes.fetched(&grant, &[], None, 0);
        lanes.finished(1, 10, None, 0);
        assert!(lanes.next_grant().is_some(), "the revived delivery is forgotten");
    }

    #[test]
    fn the_earliest_due_time_sets_the_timer() {
        let mut lanes = Lanes::new(100, 2);
        lanes.wake(1, 50, 0);
        lanes.wake(1, 80, 0);
        lanes.wake(2, 60, 0);
        assert_eq!(lanes.next_timer(), Some(50));
        lanes.advance(49);
        assert_eq!(lanes.next_grant(), None);
        lanes.advance(60);
        assert_eq!([1, 2].map(|_| lanes.next_grant().unwrap().endpoint), [1, 2]);
        assert_eq!(lanes.next_timer(), None);
    }

    /// Drives lanes against a store that is a map, by arbitrary interleavings of all that can happen.
    #[derive(Debug, Clone)]
    enum Step {
        Publish {
            endpoint: i64,
            in_ms: Millis,
        },
        Grant,
        AnswerFetch(prop::sample::Index),
        /// An attempt's outcome is committed: due again after so long, or done.
        Record(prop::sample::Index, Option<Millis>),
        /// The dispatcher hears of it.
        Report(prop::sample::Index),
        Advance(Millis),
        /// Due again, whether it is leased or not.
        Revive(prop::sample::Index),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0..4_i64, 0..20_i64).prop_map(|(endpoint, in_ms)| Step::Publish { endpoint, in_ms }),
            3 => Just(Step::Grant),
            3 => proptest::arbitrary::any::<prop::sample::Index>().prop_map(Step::AnswerFetch),
            3 => (proptest::arbitrary::any::<prop::sample::Index>(), prop::option::weighted(0.3, 1..30_i64))
                .prop_map(|(which, retry)| Step::Record(which, retry)),
            3 => proptest::arbitrary::any::<prop::sample::Index>().prop_map(Step::Report),
            1 => (0..30_i64).prop_map(Step::Advance),
            1 => proptest::arbitrary::any::<prop::sample::Index>().prop_map(Step::Revive),
        ]
    }

    #[derive(Debug)]
    struct Stored {
        endpoint: i64,
        round: u32,
        /// `None`: delivered or dead.
        due: Option<Millis>,
    }

    struct Attempt {
        endpoint: i64,
        delivery: i64,
        round: u32,
        /// Once recorded: when it is due again.
        recorded: Option<Option<Millis>>,
    }

    struct Model {
        lanes: Lanes,
        now: Millis,
        store: BTreeMap<i64, Stored>,
        fetches: Vec<Grant>,
        attempts: Vec<Attempt>,
    }

    const IN_ALL: usize = 5;
    const PER_LANE: usize = 2;

    impl Model {
        fn answer(&mut self, grant: &Grant) {
            let mut rows: Vec<_> = self
                .store
                .iter()
                .filter(|(delivery, row)| row.endpoint == grant.endpoint && !grant.leased.contains(delivery))
                .filter_map(|(delivery, row)| Some((row.due?, *delivery)))
                .collect();
            rows.sort_unstable();
            let due: Vec<_> =
                rows.iter().filter(|(due, _)| *due <= self.now).take(grant.slots).map(|(_, d)| *d).collect();
            let next_due = rows.get(due.len()).map(|(due, _)| *due);
            self.attempts.extend(due.iter().map(|delivery| Attempt {
                endpoint: grant.endpoint,
                delivery: *delivery,
                round: self.store[delivery].round,
                recorded: None,
            }));
            self.lanes.fetched(grant, &due, next_due, self.now);
        }

        fn record(&mut self, at: usize, retry: Option<Millis>) {
            let attempt = &mut self.attempts[at];
            if let (None, Some(row)) = (attempt.recorded, self.store.get_mut(&attempt.delivery)) {
                if row.round == attempt.round {
                    row.due = retry.map(|after| self.now + after);
                }
                attempt.recorded = Some(row.due);
            }
        }

        fn report(&mut self, at: usize) {
            if let Some(due) = self.attempts[at].recorded {
                let attempt = self.attempts.swap_remove(at);
                self.lanes.finished(attempt.endpoint, attempt.delivery, due, self.now);
            }
        }

        fn take(&mut self, step: &Step) {
            match step {
                Step::Publish { endpoint, in_ms } => {
                    let due = self.now + in_ms;
                    let delivery = self.store.len() as i64;
                    self.store.insert(delivery, Stored { endpoint: *endpoint, round: 0, due: Some(due) });
                    self.lanes.wake(*endpoint, due, self.now);
                }
                Step::Grant => self.fetches.extend(self.lanes.next_grant()),
                Step::AnswerFetch(which) if !self.fetches.is_empty() => {
                    let grant = self.fetches.swap_remove(which.index(self.fetches.len()));
                    self.answer(&grant);
                }
                Step::Record(which, retry) if !self.attempts.is_empty() => {
                    self.record(which.index(self.attempts.len()), *retry);
                }
                Step::Report(which) if !self.attempts.is_empty() => {
                    self.report(which.index(self.attempts.len()));
                }
                Step::Revive(which) if !self.store.is_empty() => {
                    let delivery = which.index(self.store.len()) as i64;
                    if let Some(row) = self.store.get_mut(&delivery) {
                        row.due = Some(self.now);
                        row.round += 1;
                        self.lanes.revive(row.endpoint, self.now, self.now);
                    }
                }
                Step::AnswerFetch(_) | Step::Record(..) | Step::Report(_) | Step::Revive(_) => {}
                Step::Advance(by) => {
                    self.now += by;
                    self.lanes.advance(self.now);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn every_delivery_gets_its_turn_and_no_bound_is_passed(steps in prop::collection::vec(step(), 0..200)) {
            let mut model = Model {
                lanes: Lanes::new(IN_ALL, PER_LANE),
                now: 0,
                store: BTreeMap::new(),
                fetches: Vec::new(),
                attempts: Vec::new(),
            };
            for step in &steps {
                model.take(step);
                let granted: usize = model.fetches.iter().map(|g| g.slots).sum();
                prop_assert!(model.attempts.len() + granted <= IN_ALL);
                let mut seen: Vec<_> = model.attempts.iter().map(|attempt| attempt.delivery).collect();
                seen.sort_unstable();
                seen.dedup();
                prop_assert_eq!(seen.len(), model.attempts.len(), "a delivery was attempted twice at once");
                for endpoint in 0..4 {
                    let at_once = model.attempts.iter().filter(|a| a.endpoint == endpoint).count();
                    prop_assert!(at_once <= PER_LANE);
                }
            }
            // Left to itself, with every attempt succeeding, it works off everything and forgets all lanes.
            for _ in 0..10_000 {
                if let Some(grant) = model.lanes.next_grant() {
                    model.fetches.push(grant);
                } else if let Some(grant) = model.fetches.pop() {
                    model.answer(&grant);
                } else if !model.attempts.is_empty() {
                    model.record(0, None);
                    model.report(0);
                } else if let Some(due) = model.lanes.next_timer() {
                    model.now = model.now.max(due);
                    model.lanes.advance(model.now);
                } else {
                    break;
                }
            }
            let forgotten: Vec<_> = model.store.iter().filter(|(_, row)| row.due.is_some()).collect();
            prop_assert!(forgotten.is_empty(), "{:?}", forgotten);
            prop_assert_eq!(model.lanes.working, 0);
            prop_assert_eq!(model.lanes.lanes.len(), 0);
            prop_assert_eq!(model.lanes.free, IN_ALL);
        }
    }
}
