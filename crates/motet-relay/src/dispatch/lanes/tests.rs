//! Lanes by example, and against a model of the store.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::{Just, Strategy, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};

use super::*;

const TENANT: TenantSeq = TenantSeq::DEFAULT;

fn lanes(total: usize, per_lane: usize) -> Lanes {
    Lanes::new(total.try_into().unwrap(), per_lane.try_into().unwrap())
}

#[test]
fn lanes_take_turns_in_order_of_waking() {
    let mut lanes = lanes(100, 2);
    for endpoint in [3, 1, 2] {
        lanes.wake(endpoint, TENANT, 0, 0);
    }
    let order: Vec<_> = std::iter::from_fn(|| lanes.next_grant()).map(|g| (g.endpoint, g.slots)).collect();
    assert_eq!(order, [(3, 2), (1, 2), (2, 2)]);
}

#[test]
fn full_lane_gets_no_grant_until_one_of_its_slots_is_free() {
    let mut lanes = lanes(100, 2);
    lanes.wake(1, TENANT, 0, 0);
    let grant = lanes.next_grant().unwrap();
    lanes.fetched(&grant, &[10, 11], Some(0), 0);
    assert_eq!(lanes.next_grant(), None);
    lanes.wake(2, TENANT, 0, 0);
    assert_eq!(lanes.next_grant().unwrap().endpoint, 2);
    lanes.answered(1, None);
    assert_eq!(lanes.next_grant(), Some(Grant { endpoint: 1, slots: 1, leased: vec![10, 11] }));
}

#[test]
fn unrecorded_outcomes_of_a_lane_are_bounded() {
    let mut lanes = lanes(100, 2);
    lanes.wake(1, TENANT, 0, 0);
    let mut attempts = 0;
    while let Some(grant) = lanes.next_grant() {
        let due: Vec<_> = (0..grant.slots as i64).map(|n| attempts + n).collect();
        attempts += grant.slots as i64;
        lanes.fetched(&grant, &due, Some(0), 0);
        due.iter().for_each(|_| lanes.answered(1, None));
    }
    assert_eq!(attempts, 2 * (1 + UNRECORDED as i64));
    lanes.finished(1, 0, None, 0);
    assert_eq!(lanes.next_grant().map(|grant| grant.slots), Some(1));
}

#[test]
fn unrecorded_outcomes_of_all_lanes_are_bounded() {
    let mut lanes = lanes(8, 2);
    let mut attempts = 0;
    for endpoint in 0..100 {
        lanes.wake(endpoint, TENANT, 0, 0);
    }
    while let Some(grant) = lanes.next_grant() {
        lanes.fetched(&grant, &[attempts], None, 0);
        lanes.answered(grant.endpoint, None);
        attempts += 1;
    }
    assert_eq!(attempts, 8);
}

#[test]
fn wake_during_a_fetch_gives_another_turn() {
    let mut lanes = lanes(100, 2);
    lanes.wake(1, TENANT, 0, 0);
    let grant = lanes.next_grant().unwrap();
    lanes.wake(1, TENANT, 0, 0);
    lanes.fetched(&grant, &[], None, 0);
    assert!(lanes.next_grant().is_some());
}

#[test]
fn hanging_lanes_leave_slots_for_new_lanes() {
    const STUCK: i64 = 64;
    let mut lanes = lanes(1_024, 16);
    let mut next = 0;
    for endpoint in 0..STUCK {
        lanes.wake(endpoint, TENANT, 0, 0);
    }
    while let Some(grant) = lanes.next_grant() {
        let due: Vec<_> = (0..grant.slots as i64).map(|n| next + n).collect();
        next += grant.slots as i64;
        lanes.fetched(&grant, &due, Some(0), 0);
    }
    lanes.wake(STUCK, TENANT, 0, 0);
    let grant = lanes.next_grant().unwrap();
    assert_eq!(grant.endpoint, STUCK);
    assert!(grant.slots >= 8, "{} slots", grant.slots);
}

/// Starts in each lane a delivery whose attempt never ends, in each slot that it is granted. Returns the number of
/// slots.
fn hang(lanes: &mut Lanes, endpoints: std::ops::Range<i64>) -> usize {
    endpoints.for_each(|endpoint| lanes.wake(endpoint, TENANT, 0, 0));
    let mut taken = 0;
    while let Some(grant) = lanes.next_grant() {
        let due: Vec<_> = (0..grant.slots as i64).map(|n| grant.endpoint * 1_000 + n).collect();
        taken += grant.slots;
        lanes.fetched(&grant, &due, Some(0), 0);
    }
    taken
}

/// Makes one attempt with this result.
fn attempt(lanes: &mut Lanes, endpoint: i64, trust: LaneTrust) {
    attempt_of(lanes, TENANT, endpoint, trust);
}

fn attempt_of(lanes: &mut Lanes, tenant: TenantSeq, endpoint: i64, trust: LaneTrust) {
    lanes.wake(endpoint, tenant, 0, 0);
    let grant = lanes.next_grant().unwrap();
    assert_eq!(grant.endpoint, endpoint);
    lanes.fetched(&grant, &[-endpoint], None, 0);
    lanes.answered(endpoint, Some(trust));
    lanes.finished(endpoint, -endpoint, None, 0);
}

/// A tenant has 100 000 due deliveries at 1 000 endpoints, which all answer after ten ticks of virtual time. The single
/// delivery of another tenant that comes in between is attempted with the next free slot.
#[test]
fn tenant_with_many_due_deliveries_delays_no_other_tenant() {
    const ENDPOINTS: i64 = 1_000;
    const TOOK: Millis = 10;
    let (busy, quiet) = (TenantSeq::numbered(2), TenantSeq::numbered(3));
    let mut lanes = lanes(64, 16);
    let mut left = vec![100; ENDPOINTS as usize];
    for endpoint in 0..ENDPOINTS {
        lanes.wake(endpoint, busy, 0, 0);
    }
    let mut in_flight: BTreeMap<Millis, Vec<(i64, i64)>> = BTreeMap::new();
    let (mut attempts, mut waits) = (0_i64, Vec::new());
    let mut asked_at = None;
    for now in 0..20_000 {
        for (endpoint, delivery) in in_flight.remove(&now).unwrap_or_default() {
            lanes.answered(endpoint, Some(LaneTrust::Trusted));
            lanes.finished(endpoint, delivery, None, now);
        }
        // The quiet tenant has an event each 50 ticks, at one of its endpoints.
        if now % 50 == 25 {
            assert_eq!(asked_at.replace(now), None, "the last event still waits");
            lanes.wake(ENDPOINTS + now % 4, quiet, now, now);
        }
        while let Some(grant) = lanes.next_grant() {
            let is_quiet = grant.endpoint >= ENDPOINTS;
            let due = if is_quiet { 1 } else { left[grant.endpoint as usize].min(grant.slots) };
            let deliveries: Vec<_> = (0..due as i64).map(|n| attempts + n).collect();
            attempts += due as i64;
            let more = if is_quiet {
                waits.push(now - asked_at.take().unwrap());
                None
            } else {
                left[grant.endpoint as usize] -= due;
                (left[grant.endpoint as usize] > 0).then_some(now)
            };
            lanes.fetched(&grant, &deliveries, more, now);
            let ends = in_flight.entry(now + TOOK).or_default();
            ends.extend(deliveries.into_iter().map(|delivery| (grant.endpoint, delivery)));
        }
    }
    assert_eq!(left.iter().sum::<usize>(), 0, "the busy tenant's deliveries are made as well");
    assert_eq!(waits.len(), 400);
    assert!(waits.iter().all(|wait| *wait <= TOOK), "{waits:?}");
}

/// Fills the slots with attempts of a tenant that do not end, and returns them as endpoints and deliveries.
fn fill(lanes: &mut Lanes, tenant: TenantSeq, endpoints: std::ops::Range<i64>) -> Vec<(i64, i64)> {
    for endpoint in endpoints.clone() {
        lanes.wake(endpoint, tenant, 0, 0);
    }
    let mut taken = Vec::new();
    while let Some(grant) = lanes.next_grant() {
        assert!(endpoints.contains(&grant.endpoint));
        let due: Vec<_> = (0..grant.slots as i64).map(|n| grant.endpoint * 1_000 + n).collect();
        lanes.fetched(&grant, &due, Some(0), 0);
        taken.extend(due.into_iter().map(|delivery| (grant.endpoint, delivery)));
    }
    taken
}

/// All endpoints succeed, slowly, so they are trusted.
#[test]
fn tenant_with_many_slow_endpoints_leaves_the_other_its_part() {
    let (many, one) = (TenantSeq::numbered(2), TenantSeq::numbered(3));
    let mut lanes = lanes(1_024, 16);
    (0..1_501).for_each(|endpoint| attempt_of(&mut lanes, many, endpoint, LaneTrust::Trusted));
    attempt_of(&mut lanes, one, 2_000, LaneTrust::Trusted);
    let mut slow = fill(&mut lanes, many, 0..1_501);
    assert_eq!(slow.len(), 1_024, "a tenant alone may hold all slots");
    lanes.wake(2_000, one, 0, 0);
    // Every slot that is given back goes to the other tenant, up to its limit.
    let mut of_one = 0;
    while of_one < 16 {
        let (endpoint, delivery) = slow.pop().unwrap();
        lanes.answered(endpoint, Some(LaneTrust::Trusted));
        lanes.finished(endpoint, delivery, None, 0);
        let grant = lanes.next_grant().unwrap();
        assert_eq!((grant.endpoint, grant.slots), (2_000, 1));
        lanes.fetched(&grant, &[of_one], Some(0), 0);
        of_one += 1;
    }
    // Beside another tenant that works, the first gets no slot until it holds its part.
    while slow.len() > 384 {
        let (endpoint, delivery) = slow.pop().unwrap();
        lanes.answered(endpoint, Some(LaneTrust::Trusted));
        lanes.finished(endpoint, delivery, None, 0);
        assert_eq!(lanes.next_grant(), None, "{} slots", slow.len());
    }
    let (endpoint, delivery) = slow.pop().unwrap();
    lanes.answered(endpoint, Some(LaneTrust::Trusted));
    lanes.finished(endpoint, delivery, None, 0);
    assert_eq!(lanes.next_grant().map(|grant| grant.slots), Some(1));
    // When the other tenant has no work any more, the blocked lanes get the free slots.
    for delivery in 0..of_one {
        lanes.answered(2_000, Some(LaneTrust::Trusted));
        lanes.finished(2_000, delivery, None, 0);
    }
    while let Some(grant) = lanes.next_grant() {
        if grant.endpoint == 2_000 {
            lanes.fetched(&grant, &[], None, 0);
        } else {
            lanes.fetched(&grant, &[grant.endpoint * 1_000 + 500], Some(0), 0);
        }
    }
    assert_eq!(lanes.free, 0, "the blocked lanes wait beside free slots");
}

#[test]
fn tenant_with_lanes_in_both_rotations_gets_one_turn_per_round() {
    let (both, other) = (TenantSeq::numbered(2), TenantSeq::numbered(3));
    let mut lanes = lanes(1_000, 1);
    for endpoint in [1, 2, 10, 11, 12, 13] {
        let (tenant, trust) = match endpoint {
            1 | 2 => (both, LaneTrust::Trusted),
            _ => (other, LaneTrust::Trusted),
        };
        attempt_of(&mut lanes, tenant, endpoint, trust);
    }
    for (endpoint, tenant) in
        [(1, both), (2, both), (3, both), (4, both), (10, other), (11, other), (12, other), (13, other)]
    {
        lanes.wake(endpoint, tenant, 0, 0);
    }
    let order: Vec<_> = std::iter::from_fn(|| lanes.next_grant()).map(|grant| grant.endpoint).collect();
    assert_eq!(order, [1, 10, 2, 11, 3, 12, 4, 13]);
}

#[test]
fn suspect_lanes_hold_at_most_three_quarters_of_the_slots() {
    let mut lanes = lanes(1_024, 16);
    attempt(&mut lanes, 1, LaneTrust::Trusted);
    attempt(&mut lanes, 2, LaneTrust::Trusted);
    attempt(&mut lanes, 2, LaneTrust::Suspect);
    assert_eq!(hang(&mut lanes, 100..2_100), 768);
    lanes.wake(2, TENANT, 0, 0);
    assert_eq!(lanes.next_grant(), None, "a lane that failed last is a suspect");
    lanes.wake(1, TENANT, 0, 0);
    let grant = lanes.next_grant().unwrap();
    assert_eq!((grant.endpoint, grant.slots), (1, 16), "a trusted lane has all its slots");
}

#[test]
fn trusted_lanes_share_the_slots_that_suspect_lanes_leave() {
    let mut lanes = lanes(1_024, 16);
    (0..48).for_each(|endpoint| attempt(&mut lanes, endpoint, LaneTrust::Trusted));
    hang(&mut lanes, 100..2_100);
    (0..48).for_each(|endpoint| lanes.wake(endpoint, TENANT, 0, 0));
    let slots: Vec<_> = std::iter::from_fn(|| lanes.next_grant()).map(|grant| grant.slots).collect();
    // Three quarters of the last quarter, in even parts; the first lanes were the only trusted ones.
    assert_eq!(slots.len(), 48);
    assert!(slots.iter().all(|slots| *slots == 4), "{slots:?}");
}

#[test]
fn lane_keeps_its_turn_when_its_trust_changes() {
    let mut lanes = lanes(4, 2);
    lanes.wake(1, TENANT, 0, 0);
    let grant = lanes.next_grant().unwrap();
    lanes.fetched(&grant, &[10, 11], Some(0), 0);
    lanes.answered(1, Some(LaneTrust::Suspect));
    lanes.wake(2, TENANT, 0, 0);
    lanes.answered(1, Some(LaneTrust::Trusted));
    assert_eq!([1, 2].map(|_| lanes.next_grant().unwrap().endpoint), [1, 2]);
}

#[test]
fn delivery_revived_while_leased_gets_another_turn() {
    let mut lanes = lanes(100, 2);
    lanes.wake(1, TENANT, 0, 0);
    let grant = lanes.next_grant().unwrap();
    lanes.fetched(&grant, &[10], None, 0);
    lanes.revive(1, TENANT, 0, 0);
    // The turn of the wake does not fetch the delivery, because it is still leased.
    let grant = lanes.next_grant().unwrap();
    assert_eq!(grant.leased, [10]);
    lanes.fetched(&grant, &[], None, 0);
    lanes.answered(1, None);
    assert_eq!(lanes.next_grant(), None);
    lanes.finished(1, 10, None, 0);
    assert!(lanes.next_grant().is_some(), "the revived delivery is forgotten");
}

#[test]
fn earliest_due_time_sets_the_timer() {
    let mut lanes = lanes(100, 2);
    lanes.wake(1, TENANT, 50, 0);
    lanes.wake(1, TENANT, 80, 0);
    lanes.wake(2, TENANT, 60, 0);
    assert_eq!(lanes.next_timer(), Some(50));
    lanes.advance(49);
    assert_eq!(lanes.next_grant(), None);
    lanes.advance(60);
    assert_eq!([1, 2].map(|_| lanes.next_grant().unwrap().endpoint), [1, 2]);
    assert_eq!(lanes.next_timer(), None);
}

/// A step of the model test: steps come in any order.
#[derive(Debug, Clone)]
enum LaneStep {
    Publish {
        endpoint: i64,
        in_ms: Millis,
    },
    Grant,
    AnswerFetch(prop::sample::Index),
    /// A receiver responds to an attempt, or the attempt fails.
    Answer(prop::sample::Index, Option<LaneTrust>),
    /// The outcome of an attempt is committed: the delivery is done, or due again after the delay.
    Record(prop::sample::Index, Option<Millis>),
    /// The dispatcher receives the report.
    Report(prop::sample::Index),
    Advance(Millis),
    /// A delivery becomes due again, whether it is leased or not.
    Revive(prop::sample::Index),
}

fn trust() -> impl Strategy<Value = Option<LaneTrust>> {
    prop_oneof![Just(None), Just(Some(LaneTrust::Trusted)), Just(Some(LaneTrust::Suspect))]
}

fn step() -> impl Strategy<Value = LaneStep> {
    prop_oneof![
        3 => (0..4_i64, 0..20_i64).prop_map(|(endpoint, in_ms)| LaneStep::Publish { endpoint, in_ms }),
        3 => Just(LaneStep::Grant),
        3 => proptest::arbitrary::any::<prop::sample::Index>().prop_map(LaneStep::AnswerFetch),
        3 => (proptest::arbitrary::any::<prop::sample::Index>(), prop::option::weighted(0.3, 1..30_i64))
            .prop_map(|(which, retry)| LaneStep::Record(which, retry)),
        3 => (proptest::arbitrary::any::<prop::sample::Index>(), trust())
            .prop_map(|(which, trust)| LaneStep::Answer(which, trust)),
        3 => proptest::arbitrary::any::<prop::sample::Index>().prop_map(LaneStep::Report),
        1 => (0..30_i64).prop_map(LaneStep::Advance),
        1 => proptest::arbitrary::any::<prop::sample::Index>().prop_map(LaneStep::Revive),
    ]
}

#[derive(Debug)]
struct StoredDelivery {
    endpoint: i64,
    round: u32,
    /// `None` if the delivery is delivered or dead.
    due: Option<Millis>,
}

struct ModelAttempt {
    endpoint: i64,
    delivery: i64,
    round: u32,
    answered: bool,
    /// The retry time, once the outcome is recorded.
    recorded: Option<Option<Millis>>,
}

struct LaneModel {
    lanes: Lanes,
    now: Millis,
    store: BTreeMap<i64, StoredDelivery>,
    fetches: Vec<Grant>,
    attempts: Vec<ModelAttempt>,
    /// Endpoints that were trusted after the last attempt with a result.
    trusted: BTreeSet<i64>,
    /// Number of tenants of the four endpoints.
    tenants: i64,
}

const IN_ALL: usize = 5;
const PER_LANE: usize = 2;

impl LaneModel {
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
        self.attempts.extend(due.iter().map(|delivery| ModelAttempt {
            endpoint: grant.endpoint,
            delivery: *delivery,
            round: self.store[delivery].round,
            answered: false,
            recorded: None,
        }));
        self.lanes.fetched(grant, &due, next_due, self.now);
    }

    fn answered(&mut self, at: usize, trust: Option<LaneTrust>) {
        let attempt = &mut self.attempts[at];
        if !std::mem::replace(&mut attempt.answered, true) {
            match trust {
                Some(LaneTrust::Trusted) => drop(self.trusted.insert(attempt.endpoint)),
                Some(LaneTrust::Suspect) => drop(self.trusted.remove(&attempt.endpoint)),
                None => {}
            }
            self.lanes.answered(attempt.endpoint, trust);
        }
    }

    fn tenant_of(&self, endpoint: i64) -> TenantSeq {
        TenantSeq::numbered(1 + endpoint % self.tenants)
    }

    /// Returns the number of slots that the tenant of an endpoint holds.
    fn held_by_tenant(&self, endpoint: i64) -> usize {
        let is_of_it = |other: &i64| self.tenant_of(*other) == self.tenant_of(endpoint);
        (0..4).filter(is_of_it).map(|endpoint| self.held(endpoint)).sum()
    }

    /// Returns the number of slots that an endpoint holds.
    fn held(&self, endpoint: i64) -> usize {
        let granted = self.fetches.iter().filter(|grant| grant.endpoint == endpoint).map(|grant| grant.slots);
        let attempted =
            self.attempts.iter().filter(|attempt| attempt.endpoint == endpoint && !attempt.answered);
        granted.sum::<usize>() + attempted.count()
    }

    fn held_by_suspects(&self) -> usize {
        (0..4).filter(|endpoint| !self.trusted.contains(endpoint)).map(|endpoint| self.held(endpoint)).sum()
    }

    /// Returns `true` if the store has a delivery for the endpoint that could be attempted now if a slot were free.
    fn has_due(&self, endpoint: i64) -> bool {
        let is_leased = |delivery| self.attempts.iter().any(|attempt| attempt.delivery == delivery);
        self.fetches.iter().all(|grant| grant.endpoint != endpoint)
            && self.store.iter().any(|(delivery, row)| {
                row.endpoint == endpoint
                    && row.due.is_some_and(|due| due <= self.now)
                    && !is_leased(*delivery)
            })
    }

    /// Takes the next grant. Checks by brute force that the right endpoint got it, or that no endpoint could get one.
    fn grant(&mut self) {
        let suspects = self.held_by_suspects();
        if let Some(grant) = self.lanes.next_grant() {
            let of_suspect = if self.trusted.contains(&grant.endpoint) { 0 } else { grant.slots };
            assert!(of_suspect == 0 || suspects + of_suspect <= IN_ALL * 3 / 4, "suspects hold too much");
            self.fetches.push(grant);
            return;
        }
        let free = IN_ALL - (0..4).map(|endpoint| self.held(endpoint)).sum::<usize>();
        let unrecorded = self.attempts.iter().filter(|attempt| attempt.answered).count();
        if free == 0 || unrecorded >= IN_ALL {
            return;
        }
        for endpoint in (0..4).filter(|endpoint| self.held(*endpoint) == 0 && self.has_due(*endpoint)) {
            let of_it = self.attempts.iter().filter(|attempt| attempt.endpoint == endpoint).count();
            let may = self.trusted.contains(&endpoint) || suspects < IN_ALL * 3 / 4;
            // A tenant beside others may have its part already.
            let may = may && (self.tenants == 1 || self.held_by_tenant(endpoint) == 0);
            assert!(!may || of_it >= PER_LANE * (1 + UNRECORDED), "{endpoint} got no turn");
        }
    }

    fn record(&mut self, at: usize, retry: Option<Millis>) {
        let attempt = &mut self.attempts[at];
        if !attempt.answered {
            return;
        }
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

    fn take(&mut self, step: &LaneStep) {
        match step {
            LaneStep::Publish { endpoint, in_ms } => {
                let due = self.now + in_ms;
                let delivery = self.store.len() as i64;
                self.store.insert(delivery, StoredDelivery { endpoint: *endpoint, round: 0, due: Some(due) });
                self.lanes.wake(*endpoint, self.tenant_of(*endpoint), due, self.now);
            }
            LaneStep::Grant => self.grant(),
            LaneStep::AnswerFetch(which) if !self.fetches.is_empty() => {
                let grant = self.fetches.swap_remove(which.index(self.fetches.len()));
                self.answer(&grant);
            }
            LaneStep::Answer(which, trust) if !self.attempts.is_empty() => {
                self.answered(which.index(self.attempts.len()), *trust);
            }
            LaneStep::Record(which, retry) if !self.attempts.is_empty() => {
                self.record(which.index(self.attempts.len()), *retry);
            }
            LaneStep::Report(which) if !self.attempts.is_empty() => {
                self.report(which.index(self.attempts.len()));
            }
            LaneStep::Revive(which) if !self.store.is_empty() => {
                let delivery = which.index(self.store.len()) as i64;
                if let Some(row) = self.store.get_mut(&delivery) {
                    row.due = Some(self.now);
                    row.round += 1;
                    let tenant = TenantSeq::numbered(1 + row.endpoint % self.tenants);
                    self.lanes.revive(row.endpoint, tenant, self.now, self.now);
                }
            }
            LaneStep::AnswerFetch(_)
            | LaneStep::Answer(..)
            | LaneStep::Record(..)
            | LaneStep::Report(_)
            | LaneStep::Revive(_) => {}
            LaneStep::Advance(by) => {
                self.now += by;
                self.lanes.advance(self.now);
            }
        }
    }
}

proptest! {
    #[test]
    fn every_delivery_gets_its_turn_within_the_limits_of_slots(
        steps in prop::collection::vec(step(), 0..200),
        tenants in prop::sample::select(vec![1, 2, 4]),
    ) {
        let mut model = LaneModel {
            lanes: lanes(IN_ALL, PER_LANE),
            now: 0,
            store: BTreeMap::new(),
            fetches: Vec::new(),
            attempts: Vec::new(),
            trusted: BTreeSet::new(),
            tenants,
        };
        for step in &steps {
            model.take(step);
            let granted: usize = model.fetches.iter().map(|g| g.slots).sum();
            let waiting = model.attempts.iter().filter(|attempt| !attempt.answered).count();
            prop_assert!(waiting + granted <= IN_ALL);
            prop_assert!(model.attempts.len() - waiting <= 2 * IN_ALL);
            let mut seen: Vec<_> = model.attempts.iter().map(|attempt| attempt.delivery).collect();
            seen.sort_unstable();
            seen.dedup();
            prop_assert_eq!(seen.len(), model.attempts.len(), "a delivery was attempted twice at once");
            for endpoint in 0..4 {
                let of_it = || model.attempts.iter().filter(|attempt| attempt.endpoint == endpoint);
                prop_assert!(of_it().filter(|attempt| !attempt.answered).count() <= PER_LANE);
                prop_assert!(of_it().count() <= PER_LANE * (1 + UNRECORDED));
            }
        }
        // Without further steps, and with every attempt succeeding, the lanes work off everything and are removed.
        for _ in 0..10_000 {
            if let Some(grant) = model.lanes.next_grant() {
                model.fetches.push(grant);
            } else if let Some(grant) = model.fetches.pop() {
                model.answer(&grant);
            } else if !model.attempts.is_empty() {
                model.answered(0, Some(LaneTrust::Trusted));
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
        prop_assert!(model.lanes.tenants.is_unused(), "{:?}", model.lanes.tenants);
        prop_assert_eq!(model.lanes.taken_by_suspects, 0);
        prop_assert_eq!(model.lanes.lanes.len(), 0);
        prop_assert_eq!(model.lanes.free, IN_ALL);
        prop_assert_eq!(model.lanes.unrecorded, 0);
    }
}
