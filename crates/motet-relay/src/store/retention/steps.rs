//! The steps of retention: each of them is a job of the writer.

use std::sync::Arc;

use rusqlite::OptionalExtension as _;

use super::candidates::{
    Candidate, RetainedPosition, ShorterPosition, ended_after, numbers_after, oldest_after, retained_after,
};
use super::settle::{Deleted, RecentDeaths, Settled, forget_retained, retain, settle};
use super::{Budget, CHANGED_PER_STEP, CLOCK_MARGIN, DueKind, KeepTimes, position, set_position};
use crate::clock::Millis;
use crate::config::Retention;
use crate::store::policy::{self, TenantPolicy};
use crate::store::replays::ReplayReach;
use crate::store::space::used_bytes;
use crate::store::writer::Tx;
use crate::store::{StoreError, TenantSeq};

/// The row of `retention` with the position of the deletions by size.
pub(super) const BY_SIZE: TenantSeq = TenantSeq::numbered(0);

/// Deletions by size end at this part of the limit, so that they do not begin again with the next event.
const SIZE_REACHED: (u64, u64) = (95, 100);

/// The result of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step<P = ()> {
    pub(super) deleted: Deleted,
    /// Number of events that were looked at and stay.
    pub(super) in_use: usize,
    /// Where the next step continues; `None` if nothing is left.
    pub(super) next: Option<P>,
}

impl<P> Step<P> {
    const fn new() -> Self {
        Self { deleted: Deleted { payloads: 0, rows: 0 }, in_use: 0, next: None }
    }
}

/// Returns the times of a tenant. A deleted tenant has none: its rows are being deleted already.
pub(super) fn keep_times(
    connection: &rusqlite::Connection,
    relay: &Retention,
    tenant: TenantSeq,
) -> Result<Option<KeepTimes>, StoreError> {
    let sql = "SELECT policy FROM tenants WHERE seq = ?1 AND deleted_at IS NULL";
    let stored: Option<String> =
        connection.prepare_cached(sql)?.query_row([tenant], |row| row.get(0)).optional()?;
    let policy: Option<TenantPolicy> = stored.map(|stored| policy::parse(&stored)).transpose()?;
    Ok(policy.map(|policy| KeepTimes::of_tenant(relay, &policy)))
}

/// Deletes the next due events of a tenant, up to `limit` of them.
pub(super) fn of_tenant(
    tx: &mut Tx<'_>,
    relay: &Retention,
    tenant: TenantSeq,
    kind: DueKind,
    now: Millis,
    limit: usize,
) -> Result<Step, StoreError> {
    let mut step = Step::new();
    let Some(keep) = keep_times(tx.connection, relay, tenant)?.and_then(|keep| keep.of(kind)) else {
        return Ok(step);
    };
    let reach = ReplayReach::of(tx.connection, tenant)?;
    let deaths = RecentDeaths::by_time(now, keep);
    let mut budget = Budget::new(CHANGED_PER_STEP);
    let from = position(tx.connection, tenant, kind)?;
    let mut upto = from;
    let numbers = numbers_after(tx.connection, tenant, from)?;
    let found = numbers.len();
    for seq in numbers.into_iter().take(limit) {
        // Damage of the index could name an event that does not exist.
        if let Some(event) = Candidate::find(tx.connection, seq)? {
            let is_misdated = event.created_at > now.saturating_add(CLOCK_MARGIN);
            if !is_misdated && event.created_at.saturating_add(keep) > now {
                set_if_moved(tx, tenant, kind, from, upto)?;
                return Ok(step);
            }
            let settled = if is_misdated {
                Settled::InUse
            } else {
                settle(tx, kind, &event, &reach, deaths, &mut budget, &mut step.deleted)?
            };
            match settled {
                Settled::Done => {}
                Settled::InUse => {
                    retain(tx.connection, kind, tenant, seq)?;
                    step.in_use += 1;
                }
                Settled::Partly => {
                    step.next = Some(());
                    break;
                }
            }
        }
        upto = seq;
    }
    if found > 0 {
        step.next = Some(());
    }
    set_if_moved(tx, tenant, kind, from, upto)?;
    Ok(step)
}

fn set_if_moved(
    tx: &Tx<'_>,
    tenant: TenantSeq,
    kind: DueKind,
    from: i64,
    upto: i64,
) -> Result<(), StoreError> {
    if upto > from { set_position(tx.connection, tenant, kind, upto) } else { Ok(()) }
}

/// Moves the position of a rule past the next event, which cannot be read. It stays in the store.
pub(super) fn pass_over(tx: &Tx<'_>, tenant: TenantSeq, kind: DueKind) -> Result<bool, StoreError> {
    let from = position(tx.connection, tenant, kind)?;
    let next = numbers_after(tx.connection, tenant, from)?.first().copied();
    if let Some(next) = next {
        set_position(tx.connection, tenant, kind, next)?;
    }
    Ok(next.is_some())
}

/// Erases the data of events whose own time has ended.
pub(super) fn shorter(
    tx: &mut Tx<'_>,
    from: ShorterPosition,
    now: Millis,
    limit: usize,
) -> Result<Step<ShorterPosition>, StoreError> {
    let mut step = Step::new();
    let mut budget = Budget::new(CHANGED_PER_STEP);
    let mut reach = Reaches::default();
    let mut upto = from;
    for (at, event) in ended_after(tx.connection, from, now, limit)? {
        let reach = reach.of(tx, event.tenant)?;
        match settle(tx, DueKind::Data, &event, &reach, RecentDeaths::NONE, &mut budget, &mut step.deleted)? {
            Settled::Done => {}
            Settled::InUse => step.in_use += 1,
            Settled::Partly => {
                step.next = Some(upto);
                return Ok(step);
            }
        }
        upto = at;
    }
    step.next = (upto != from).then_some(upto);
    Ok(step)
}

/// Looks again at events that were in use.
pub(super) fn retained(
    tx: &mut Tx<'_>,
    relay: &Retention,
    from: RetainedPosition,
    now: Millis,
    limit: usize,
) -> Result<Step<RetainedPosition>, StoreError> {
    let mut step = Step::new();
    let mut budget = Budget::new(CHANGED_PER_STEP);
    let mut reach = Reaches::default();
    let mut upto = from;
    for position in retained_after(tx.connection, from)?.into_iter().take(limit) {
        let (kind, tenant, seq) = position;
        let event = Candidate::find(tx.connection, seq)?;
        let due_kind = DueKind::read(kind);
        let keep = match due_kind {
            Some(kind) => keep_times(tx.connection, relay, tenant)?.and_then(|keep| keep.of(kind)),
            None => None,
        };
        match (event, due_kind) {
            (Some(event), Some(kind)) => {
                // The time of the tenant may have become longer.
                if let Some(keep) = keep.filter(|keep| event.created_at.saturating_add(*keep) <= now) {
                    let (reach, deaths) = (reach.of(tx, tenant)?, RecentDeaths::by_time(now, keep));
                    match settle(tx, kind, &event, &reach, deaths, &mut budget, &mut step.deleted)? {
                        Settled::Done => forget_retained(tx.connection, kind.stored(), tenant, seq)?,
                        Settled::InUse => step.in_use += 1,
                        Settled::Partly => {
                            step.next = Some(upto);
                            return Ok(step);
                        }
                    }
                } else {
                    step.in_use += 1;
                }
            }
            _ => forget_retained(tx.connection, kind, tenant, seq)?,
        }
        upto = position;
    }
    step.next = (upto != from).then_some(upto);
    Ok(step)
}

/// Deletes the oldest events of all tenants while the database has more bytes than the limit.
pub(super) fn by_size(
    tx: &mut Tx<'_>,
    max_bytes: u64,
    now: Millis,
    limit: usize,
) -> Result<Step, StoreError> {
    let mut step = Step::new();
    let deaths = RecentDeaths::by_size(now);
    let mut budget = Budget::new(CHANGED_PER_STEP);
    let mut reach = Reaches::default();
    let from = position(tx.connection, BY_SIZE, DueKind::Rows)?;
    let mut upto = from;
    let (part, whole) = SIZE_REACHED;
    let target = max_bytes / whole * part;
    let events = oldest_after(tx.connection, from, limit)?;
    let is_end = events.is_empty();
    for event in events {
        if used_bytes(tx.connection)? <= target {
            break;
        }
        let reach = reach.of(tx, event.tenant)?;
        match settle(tx, DueKind::Rows, &event, &reach, deaths, &mut budget, &mut step.deleted)? {
            Settled::Done => {}
            Settled::InUse => step.in_use += 1,
            Settled::Partly => break,
        }
        upto = event.seq;
    }
    if used_bytes(tx.connection)? <= target {
        // The events that were in use are the oldest of the next time.
        upto = 0;
    } else if is_end {
        upto = 0;
    } else {
        step.next = Some(());
    }
    if upto != from {
        set_position(tx.connection, BY_SIZE, DueKind::Rows, upto)?;
    }
    Ok(step)
}

/// The replays of the tenants of a step, read once for each.
#[derive(Default)]
struct Reaches(std::collections::HashMap<TenantSeq, Arc<ReplayReach>>);

impl Reaches {
    fn of(&mut self, tx: &Tx<'_>, tenant: TenantSeq) -> Result<Arc<ReplayReach>, StoreError> {
        if let Some(known) = self.0.get(&tenant) {
            return Ok(Arc::clone(known));
        }
        let reach = Arc::new(ReplayReach::of(tx.connection, tenant)?);
        self.0.insert(tenant, Arc::clone(&reach));
        Ok(reach)
    }
}
