use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{LaneTrust, max_for_suspects};
use crate::store::TenantSeq;

/// The slots of the tenants with lanes that work.
///
/// When several tenants work, each may hold an even part of three quarters of all slots, however many lanes it has. The
/// last quarter is for tenants that hold no slot. A tenant with trusted lanes may hold more if most tenants have none: an
/// even part of three quarters of the slots that suspects may not hold.
#[derive(Debug)]
pub(super) struct TenantSlots {
    total: usize,
    tenants: HashMap<TenantSeq, TenantLoad>,
    /// Tenants with a working lane.
    working: usize,
    /// Tenants with a working trusted lane.
    working_trusted: usize,
    /// Tenants with lanes that wait until their tenant may hold more slots.
    blocked: BTreeSet<TenantSeq>,
    /// `true` if a tenant has stopped working since the blocked tenants were looked at.
    has_shrunk: bool,
}

#[derive(Debug, Default)]
struct TenantLoad {
    /// Its lanes that hold a slot or wait for one.
    working: usize,
    /// The trusted lanes among them.
    working_trusted: usize,
    taken: usize,
    taken_by_suspects: usize,
    /// The endpoints of its lanes that are ready while the tenant may hold no more slots, by the numbers of their turns.
    blocked: BTreeMap<u64, i64>,
    blocked_suspects: BTreeMap<u64, i64>,
}

impl TenantLoad {
    fn blocked(&mut self, trust: LaneTrust) -> &mut BTreeMap<u64, i64> {
        match trust {
            LaneTrust::Trusted => &mut self.blocked,
            LaneTrust::Suspect => &mut self.blocked_suspects,
        }
    }

    fn is_unused(&self) -> bool {
        self.working == 0 && self.taken == 0 && self.blocked.is_empty() && self.blocked_suspects.is_empty()
    }
}

impl TenantSlots {
    pub(super) fn new(total: usize) -> Self {
        Self {
            total,
            tenants: HashMap::new(),
            working: 0,
            working_trusted: 0,
            blocked: BTreeSet::new(),
            has_shrunk: false,
        }
    }

    /// Returns how many slots a tenant may hold now, as far as lanes with this trust take them.
    fn max_of_tenant(&self, trust: LaneTrust) -> usize {
        if self.working <= 1 {
            return self.total;
        }
        let part = |slots: usize, tenants: usize| slots * 3 / 4 / tenants.max(1);
        let of_all = part(self.total, self.working);
        let max = match trust {
            LaneTrust::Trusted => {
                of_all.max(part(self.total - max_for_suspects(self.total), self.working_trusted))
            }
            LaneTrust::Suspect => of_all,
        };
        max.max(1)
    }

    /// Returns how many more slots the tenant may take for a lane with this trust.
    pub(super) fn room(&self, tenant: TenantSeq, trust: LaneTrust) -> usize {
        let max = self.max_of_tenant(trust);
        let Some(load) = self.tenants.get(&tenant) else { return max };
        let room = max.saturating_sub(load.taken);
        match trust {
            LaneTrust::Trusted => room,
            // Receivers of a tenant that hang leave slots to its other receivers.
            LaneTrust::Suspect => room.min(max_for_suspects(max).saturating_sub(load.taken_by_suspects)),
        }
    }

    /// Returns how many slots a lane of the tenant may hold now: an even part of the slots of its tenant.
    ///
    /// A suspect gets an even part of three quarters of them, so that a new endpoint finds a slot beside suspects that
    /// hang. A trusted lane gets an even part of all; if there are many suspects, an even part of the slots that suspects
    /// may not hold. A single tenant leaves the last quarter to its lanes that hold no slot.
    pub(super) fn share(&self, tenant: TenantSeq, trust: LaneTrust) -> usize {
        let load = self.tenants.get(&tenant);
        let (lanes, trusted_lanes) = load.map_or((0, 0), |load| (load.working, load.working_trusted));
        let max = self.max_of_tenant(trust);
        let part = |slots: usize, lanes: usize| {
            let slots = if self.working <= 1 { slots * 3 / 4 } else { slots };
            slots / lanes.max(1)
        };
        match trust {
            LaneTrust::Trusted => part(max, lanes).max(part(max - max_for_suspects(max), trusted_lanes)),
            LaneTrust::Suspect => part(max_for_suspects(max), lanes),
        }
    }

    /// Notes that a lane has begun or ceased to work.
    pub(super) fn set_working(&mut self, tenant: TenantSeq, trust: LaneTrust, is_working: bool) {
        let load = self.tenants.entry(tenant).or_default();
        let before = (load.working > 0, load.working_trusted > 0);
        let count = |lanes: usize| if is_working { lanes + 1 } else { lanes - 1 };
        load.working = count(load.working);
        if trust == LaneTrust::Trusted {
            load.working_trusted = count(load.working_trusted);
        }
        self.changed(tenant, before);
    }

    /// Notes that a lane with this number of slots has another trust than before.
    pub(super) fn set_trust(&mut self, tenant: TenantSeq, to: LaneTrust, taken: usize, is_working: bool) {
        let load = self.tenants.entry(tenant).or_default();
        let before = (load.working > 0, load.working_trusted > 0);
        match to {
            LaneTrust::Trusted => {
                load.taken_by_suspects -= taken;
                load.working_trusted += usize::from(is_working);
            }
            LaneTrust::Suspect => {
                load.taken_by_suspects += taken;
                load.working_trusted -= usize::from(is_working);
            }
        }
        self.changed(tenant, before);
    }

    fn changed(&mut self, tenant: TenantSeq, (was_working, was_trusted): (bool, bool)) {
        let Some(load) = self.tenants.get(&tenant) else { return };
        let (is_working, is_trusted) = (load.working > 0, load.working_trusted > 0);
        self.working = self.working + usize::from(is_working) - usize::from(was_working);
        self.working_trusted = self.working_trusted + usize::from(is_trusted) - usize::from(was_trusted);
        self.has_shrunk |= (was_working && !is_working) || (was_trusted && !is_trusted);
        if load.is_unused() {
            self.tenants.remove(&tenant);
        }
    }

    pub(super) fn take(&mut self, tenant: TenantSeq, trust: LaneTrust, slots: usize) {
        let load = self.tenants.entry(tenant).or_default();
        load.taken += slots;
        if trust == LaneTrust::Suspect {
            load.taken_by_suspects += slots;
        }
    }

    pub(super) fn give_back(&mut self, tenant: TenantSeq, trust: LaneTrust, slots: usize) {
        let Some(load) = self.tenants.get_mut(&tenant) else { return };
        load.taken -= slots;
        if trust == LaneTrust::Suspect {
            load.taken_by_suspects -= slots;
        }
        if load.is_unused() {
            self.tenants.remove(&tenant);
        }
    }

    /// Keeps a lane until its tenant may hold more slots.
    pub(super) fn block(&mut self, tenant: TenantSeq, trust: LaneTrust, turn: u64, endpoint: i64) {
        self.tenants.entry(tenant).or_default().blocked(trust).insert(turn, endpoint);
        self.blocked.insert(tenant);
    }

    /// Releases a blocked lane.
    pub(super) fn unblock(&mut self, tenant: TenantSeq, trust: LaneTrust, turn: u64) {
        let Some(load) = self.tenants.get_mut(&tenant) else { return };
        load.blocked(trust).remove(&turn);
        if load.blocked.is_empty() && load.blocked_suspects.is_empty() {
            self.blocked.remove(&tenant);
        }
        if load.is_unused() {
            self.tenants.remove(&tenant);
        }
    }

    /// Returns the blocked lanes of the tenant that may have a turn now, the first by their turns.
    pub(super) fn unblocked(&self, tenant: TenantSeq) -> Vec<i64> {
        let Some(load) = self.tenants.get(&tenant).filter(|_| self.blocked.contains(&tenant)) else {
            return Vec::new();
        };
        let of = |blocked: &BTreeMap<u64, i64>, trust| {
            blocked.values().copied().take(self.room(tenant, trust)).collect::<Vec<_>>()
        };
        let mut lanes = of(&load.blocked, LaneTrust::Trusted);
        lanes.extend(of(&load.blocked_suspects, LaneTrust::Suspect));
        lanes
    }

    /// Returns the tenants with blocked lanes, if some of them may hold more slots since the last call because another
    /// tenant has stopped working.
    pub(super) fn take_shrunk(&mut self) -> Vec<TenantSeq> {
        if std::mem::take(&mut self.has_shrunk) { self.blocked.iter().copied().collect() } else { Vec::new() }
    }

    #[cfg(test)]
    pub(super) fn is_unused(&self) -> bool {
        self.tenants.is_empty() && self.blocked.is_empty() && self.working == 0 && self.working_trusted == 0
    }
}
