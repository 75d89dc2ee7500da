//! Deletes the data or the rows of one event, if it is not in use.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::candidates::Candidate;
use super::{DueKind, note_deleted};
use crate::clock::Millis;
use crate::store::backlog::Counted;
use crate::store::events::checksum_of_erased;
use crate::store::replays::ReplayReach;
use crate::store::writer::Tx;
use crate::store::{StoreError, TenantSeq};

const PENDING: i64 = 0;
const DEAD: i64 = 2;

/// The number of rows that a step may still change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct Budget(usize);

impl Budget {
    pub(in crate::store) const fn new(rows: usize) -> Self {
        Self(rows)
    }

    pub(in crate::store) const fn is_spent(&self) -> bool {
        self.0 == 0
    }

    pub(in crate::store) const fn spend(&mut self) {
        self.0 = self.0.saturating_sub(1);
    }
}

/// The numbers of deleted rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Deleted {
    /// Events whose data was erased.
    pub(super) payloads: u64,
    /// Rows of events, deliveries and attempts.
    pub(super) rows: u64,
}

/// The result for one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Settled {
    Done,
    /// The event is in use.
    InUse,
    /// The budget is spent before the event is done. The next step continues with it.
    Partly,
}

/// A dead letter stays for this time, or for the time of the rule if that is shorter: an event whose last attempt fails
/// after its own time has ended would otherwise not be visible as a dead letter.
const DEAD_LETTER_STAYS: Millis = 7 * 24 * 60 * 60 * 1_000;

/// Like [`DEAD_LETTER_STAYS`], for deletions by size.
const DEAD_LETTER_STAYS_BY_SIZE: Millis = 24 * 60 * 60 * 1_000;

/// Deliveries that became dead letters later than this keep their event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RecentDeaths(Millis);

impl RecentDeaths {
    /// For a rule that deletes events after `keep`.
    pub(super) fn by_time(now: Millis, keep: Millis) -> Self {
        Self(now.saturating_sub(keep.min(DEAD_LETTER_STAYS)))
    }

    pub(super) fn by_size(now: Millis) -> Self {
        Self(now.saturating_sub(DEAD_LETTER_STAYS_BY_SIZE))
    }

    /// For the time that a publisher has set for the data of its event: no dead letter makes it longer.
    pub(super) const NONE: Self = Self(Millis::MAX);
}

/// A delivery of an event.
struct OwnDelivery {
    seq: i64,
    endpoint: i64,
    state: i64,
    updated_at: Millis,
    last_attempt: Option<i64>,
}

/// Deletes the data or the rows of an event.
pub(super) fn settle(
    tx: &mut Tx<'_>,
    kind: DueKind,
    event: &Candidate,
    reach: &ReplayReach,
    deaths: RecentDeaths,
    budget: &mut Budget,
    deleted: &mut Deleted,
) -> Result<Settled, StoreError> {
    if kind == DueKind::Data && event.is_erased {
        return Ok(Settled::Done);
    }
    let deliveries = deliveries_of(tx.connection, event.seq)?;
    if is_in_use(tx.connection, kind, event, &deliveries, reach, deaths, tx.due_now)? {
        return Ok(Settled::InUse);
    }
    match kind {
        DueKind::Data => erase(tx, event, &deliveries, budget, deleted),
        DueKind::Rows => delete(tx, event, &deliveries, budget, deleted),
    }
}

fn deliveries_of(connection: &Connection, event: i64) -> Result<Vec<OwnDelivery>, StoreError> {
    let sql = "SELECT seq, endpoint_seq, state, updated_at, last_attempt FROM deliveries INDEXED BY deliveries_by_event
         WHERE event_seq = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([event], |row| {
        Ok(OwnDelivery {
            seq: row.get(0)?,
            endpoint: row.get(1)?,
            state: row.get(2)?,
            updated_at: row.get(3)?,
            last_attempt: row.get(4)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Returns `true` if a rule may not delete the event yet.
pub(super) fn stays(
    connection: &Connection,
    kind: DueKind,
    event: &Candidate,
    reach: &ReplayReach,
    deaths: RecentDeaths,
    due_now: Millis,
) -> Result<bool, StoreError> {
    let deliveries = deliveries_of(connection, event.seq)?;
    is_in_use(connection, kind, event, &deliveries, reach, deaths, due_now)
}

fn is_in_use(
    connection: &Connection,
    kind: DueKind,
    event: &Candidate,
    deliveries: &[OwnDelivery],
    reach: &ReplayReach,
    RecentDeaths(died_after): RecentDeaths,
    due_now: Millis,
) -> Result<bool, StoreError> {
    let is_needed = |delivery: &OwnDelivery| {
        delivery.state == PENDING
            || (delivery.state == DEAD && delivery.updated_at > died_after)
            || reach.has_delivery(delivery.endpoint, delivery.seq, event.created_at)
    };
    if deliveries.iter().any(is_needed) || reach.has_event(event.seq, event.created_at) {
        return Ok(true);
    }
    Ok(kind == DueKind::Rows && has_valid_key(connection, event.seq, due_now)?)
}

/// Returns `true` if a repeated request would still be answered with the event.
fn has_valid_key(connection: &Connection, event: i64, due_now: Millis) -> Result<bool, StoreError> {
    let sql =
        "SELECT 1 FROM idempotency INDEXED BY idempotency_by_event WHERE event_seq = ?1 AND expires_at > ?2";
    Ok(connection.prepare_cached(sql)?.exists(params![event, due_now])?)
}

/// Erases the responses to the attempts, and then the data, so that an event without data has no responses.
fn erase(
    tx: &mut Tx<'_>,
    event: &Candidate,
    deliveries: &[OwnDelivery],
    budget: &mut Budget,
    deleted: &mut Deleted,
) -> Result<Settled, StoreError> {
    for delivery in deliveries {
        if !erase_responses(tx.connection, delivery.last_attempt, budget)? {
            return Ok(Settled::Partly);
        }
    }
    if budget.is_spent() {
        return Ok(Settled::Partly);
    }
    budget.spend();
    erase_data(tx, event.seq)?;
    deleted.payloads += 1;
    Ok(Settled::Done)
}

/// Erases the responses of a delivery's attempts, from the last attempt on. Returns `false` if the budget was spent first.
pub(in crate::store) fn erase_responses(
    connection: &Connection,
    last_attempt: Option<i64>,
    budget: &mut Budget,
) -> Result<bool, StoreError> {
    let find = "SELECT previous, response IS NOT NULL FROM attempts WHERE seq = ?1";
    let erase = "UPDATE attempts SET response = NULL WHERE seq = ?1";
    let mut next = last_attempt;
    while let Some(attempt) = next {
        let found: Option<(Option<i64>, bool)> = connection
            .prepare_cached(find)?
            .query_row([attempt], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let Some((previous, has_response)) = found else { break };
        if has_response {
            if budget.is_spent() {
                return Ok(false);
            }
            budget.spend();
            connection.prepare_cached(erase)?.execute([attempt])?;
        }
        // A damaged row could name a later one.
        next = previous.filter(|previous| *previous < attempt);
    }
    Ok(true)
}

/// Erases the data of an event. Returns `false` if it has none.
pub(in crate::store) fn erase_data(tx: &mut Tx<'_>, event: i64) -> Result<bool, StoreError> {
    let find = "SELECT type, created_at FROM events WHERE seq = ?1 AND data IS NOT NULL";
    let found: Option<(String, Millis)> = tx
        .connection
        .prepare_cached(find)?
        .query_row([event], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((event_type, created_at)) = found else { return Ok(false) };
    tx.connection
        .prepare_cached("UPDATE events SET data = NULL, checksum = ?2 WHERE seq = ?1")?
        .execute(params![event, checksum_of_erased(&event_type, created_at)])?;
    // The followers in memory have the data.
    tx.added.forget(event);
    Ok(true)
}

/// Deletes an event with its rows. The event goes last, so a delivery always has its event. An event that has lost only some
/// of its rows also loses its data, so that nothing sends it again.
fn delete(
    tx: &mut Tx<'_>,
    event: &Candidate,
    deliveries: &[OwnDelivery],
    budget: &mut Budget,
    deleted: &mut Deleted,
) -> Result<Settled, StoreError> {
    if budget.is_spent() {
        return Ok(Settled::Partly);
    }
    let settled = delete_rows(tx, event, deliveries, budget, deleted)?;
    if settled == Settled::Partly {
        deleted.payloads += u64::from(erase_data(tx, event.seq)?);
    }
    Ok(settled)
}

fn delete_rows(
    tx: &mut Tx<'_>,
    event: &Candidate,
    deliveries: &[OwnDelivery],
    budget: &mut Budget,
    deleted: &mut Deleted,
) -> Result<Settled, StoreError> {
    for delivery in deliveries {
        if !delete_delivery(tx, delivery, budget, deleted)? {
            return Ok(Settled::Partly);
        }
    }
    if budget.is_spent() {
        return Ok(Settled::Partly);
    }
    budget.spend();
    tx.connection.prepare_cached("DELETE FROM events WHERE seq = ?1")?.execute([event.seq])?;
    deleted.rows += 1;
    deleted.payloads += u64::from(!event.is_erased);
    // The followers in memory have the data.
    tx.added.forget(event.seq);
    for kind in DueKind::ALL {
        forget_retained(tx.connection, kind.stored(), event.tenant, event.seq)?;
    }
    note_deleted(tx.connection, event.tenant, event.seq)?;
    Ok(Settled::Done)
}

/// Deletes a delivery with its attempts. Returns `false` if the budget was spent first: the delivery then names its last
/// attempt that is left.
fn delete_delivery(
    tx: &mut Tx<'_>,
    delivery: &OwnDelivery,
    budget: &mut Budget,
    deleted: &mut Deleted,
) -> Result<bool, StoreError> {
    let delete_attempt = "DELETE FROM attempts WHERE seq = ?1 RETURNING previous";
    let mut next = delivery.last_attempt;
    while let Some(attempt) = next {
        if budget.is_spent() {
            break;
        }
        budget.spend();
        let previous: Option<Option<i64>> = tx
            .connection
            .prepare_cached(delete_attempt)?
            .query_row([attempt], |row| row.get(0))
            .optional()?;
        deleted.rows += u64::from(previous.is_some());
        next = previous.flatten().filter(|previous| *previous < attempt);
    }
    if budget.is_spent() {
        if next != delivery.last_attempt {
            let set = "UPDATE deliveries SET last_attempt = ?2 WHERE seq = ?1";
            tx.connection.prepare_cached(set)?.execute(params![delivery.seq, next])?;
        }
        return Ok(false);
    }
    budget.spend();
    tx.connection.prepare_cached("DELETE FROM deliveries WHERE seq = ?1")?.execute([delivery.seq])?;
    deleted.rows += 1;
    if delivery.state == DEAD {
        tx.backlog.add(Counted::Dead, delivery.endpoint, -1);
    }
    Ok(true)
}

/// Notes that an event was due and is in use.
pub(super) fn retain(
    connection: &Connection,
    kind: DueKind,
    tenant: TenantSeq,
    event: i64,
) -> Result<(), StoreError> {
    let sql = "INSERT OR IGNORE INTO retained (kind, tenant_seq, event_seq) VALUES (?1, ?2, ?3)";
    connection.prepare_cached(sql)?.execute(params![kind.stored(), tenant, event]).map(drop)?;
    Ok(())
}

/// Forgets an event that was in use. `kind` is that of the row, which may be damaged.
pub(super) fn forget_retained(
    connection: &Connection,
    kind: i64,
    tenant: TenantSeq,
    event: i64,
) -> Result<(), StoreError> {
    let sql = "DELETE FROM retained WHERE kind = ?1 AND tenant_seq = ?2 AND event_seq = ?3";
    connection.prepare_cached(sql)?.execute(params![kind, tenant, event]).map(drop)?;
    Ok(())
}
