use std::collections::{BTreeMap, HashMap};

use crate::store::TenantSeq;

/// The lanes that wait for a turn. The tenants take turns, and the lanes of a tenant take the turns of their tenant in
/// the order in which they began to wait.
///
/// A tenant that begins to wait, or has had a turn, goes to the end of the rotation. So it waits for at most one turn of
/// each other tenant.
#[derive(Debug, Default)]
pub(super) struct Rotation {
    /// The waiting tenants by their positions.
    positions: BTreeMap<u64, TenantSeq>,
    tenants: HashMap<TenantSeq, WaitingTenant>,
}

#[derive(Debug)]
struct WaitingTenant {
    position: u64,
    /// The endpoints of the lanes by the numbers of their turns; never empty.
    lanes: BTreeMap<u64, i64>,
}

/// The lane that is next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NextLane {
    tenant: TenantSeq,
    position: u64,
    turn: u64,
    pub(super) endpoint: i64,
}

impl NextLane {
    pub(super) const fn tenant(&self) -> TenantSeq {
        self.tenant
    }

    /// The number of its turn.
    pub(super) const fn turn(&self) -> u64 {
        self.turn
    }

    /// Returns `true` if this lane is next before a lane of another rotation with the same numbers of turns and
    /// positions.
    pub(super) fn is_before(&self, other: &Self) -> bool {
        if self.tenant == other.tenant { self.turn < other.turn } else { self.position < other.position }
    }
}

impl Rotation {
    /// Adds a lane. `last` is the end of the rotation.
    pub(super) fn insert(&mut self, tenant: TenantSeq, turn: u64, endpoint: i64, last: &mut u64) {
        let positions = &mut self.positions;
        let waiting = self.tenants.entry(tenant).or_insert_with(|| {
            *last += 1;
            positions.insert(*last, tenant);
            WaitingTenant { position: *last, lanes: BTreeMap::new() }
        });
        waiting.lanes.insert(turn, endpoint);
    }

    /// Removes the lane with this turn.
    pub(super) fn remove(&mut self, tenant: TenantSeq, turn: u64) {
        let Some(waiting) = self.tenants.get_mut(&tenant) else { return };
        waiting.lanes.remove(&turn);
        if waiting.lanes.is_empty() {
            self.positions.remove(&waiting.position);
            self.tenants.remove(&tenant);
        }
    }

    /// Returns the lane that is next.
    pub(super) fn next(&self) -> Option<NextLane> {
        let (position, tenant) = self.positions.first_key_value()?;
        let (turn, endpoint) = self.tenants.get(tenant)?.lanes.first_key_value()?;
        Some(NextLane { tenant: *tenant, position: *position, turn: *turn, endpoint: *endpoint })
    }

    /// Removes the lane that is next, and moves its tenant to the end of the rotation.
    pub(super) fn take(&mut self, next: NextLane, last: &mut u64) {
        self.remove(next.tenant, next.turn);
        self.defer(next.tenant, last);
    }

    /// Moves a tenant to the end of the rotation, because it has had a turn, here or in another rotation.
    pub(super) fn defer(&mut self, tenant: TenantSeq, last: &mut u64) {
        if let Some(waiting) = self.tenants.get_mut(&tenant) {
            self.positions.remove(&waiting.position);
            *last += 1;
            waiting.position = *last;
            self.positions.insert(*last, tenant);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenants_take_turns_however_many_lanes_they_have() {
        let (mut rotation, mut last) = (Rotation::default(), 0);
        let [a, b, c] = [1, 2, 3].map(TenantSeq::numbered);
        for (turn, (tenant, endpoint)) in
            [(a, 10), (a, 11), (a, 12), (b, 20), (b, 21)].into_iter().enumerate()
        {
            rotation.insert(tenant, turn as u64, endpoint, &mut last);
        }
        let mut order = Vec::new();
        while let Some(next) = rotation.next() {
            order.push(next.endpoint);
            rotation.take(next, &mut last);
            if next.endpoint == 10 {
                rotation.insert(c, 9, 30, &mut last);
            }
        }
        assert_eq!(order, [10, 20, 11, 30, 21, 12]);
        assert!(rotation.positions.is_empty() && rotation.tenants.is_empty());
    }
}
