//! The table `due`: one row for each pending delivery, with what a turn needs to know.
//!
//! The rows of `due` and the pending rows of `deliveries` are written in the same commits, and have the same due times:
//! the due time of a delivery is a part of the key of its row in `due`.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{PENDING, SKIPPED};
use crate::clock::Millis;
use crate::store::backlog::Counted;
use crate::store::damage::readable;
use crate::store::writer::Tx;
use crate::store::{StoreError, TenantSeq, Wake};

/// The columns of `due`.
const COLUMNS: &str =
    "endpoint_seq, due_at, delivery_seq, event_seq, round, attempts, relay_attempts, relay_since, is_replay";

/// The counts of a pending delivery, since it was created or last resent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct DueCounts {
    /// Attempts that are not charged to relay.
    pub(super) attempts: u32,
    /// Latest attempts in a row that are charged to relay.
    pub(super) relay_attempts: u32,
    /// When the first of these was made.
    pub(super) relay_since: Option<Millis>,
}

/// A row of `due`.
#[derive(Debug, Clone, Copy)]
pub(super) struct DueRow {
    pub(super) endpoint: i64,
    pub(super) due_at: Millis,
    pub(super) delivery: i64,
    pub(super) event: i64,
    pub(super) round: i64,
    pub(super) counts: DueCounts,
    /// `true` if a replay made the delivery due, until its next attempt is recorded.
    pub(super) is_replay: bool,
}

impl DueRow {
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            endpoint: row.get(0)?,
            due_at: row.get(1)?,
            delivery: row.get(2)?,
            event: row.get(3)?,
            round: row.get(4)?,
            counts: DueCounts {
                attempts: row.get(5)?,
                relay_attempts: row.get(6)?,
                relay_since: row.get(7)?,
            },
            is_replay: row.get(8)?,
        })
    }

    /// Adds the row, and counts it in the backlog of its endpoint.
    pub(super) fn insert(&self, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        self.insert_uncounted(tx.connection)?;
        tx.backlog.add(Counted::Pending, self.endpoint, 1);
        if self.is_replay {
            tx.backlog.add(Counted::Replayed, self.endpoint, 1);
        }
        Ok(())
    }

    fn insert_uncounted(&self, connection: &Connection) -> Result<(), StoreError> {
        let counts = &self.counts;
        connection
            .prepare_cached(
                "INSERT OR REPLACE INTO due
                     (endpoint_seq, due_at, delivery_seq, event_seq, round, attempts, relay_attempts, relay_since, is_replay)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            )?
            .execute(params![
                self.endpoint,
                self.due_at,
                self.delivery,
                self.event,
                self.round,
                counts.attempts,
                counts.relay_attempts,
                counts.relay_since,
                self.is_replay
            ])?;
        Ok(())
    }
}

/// Selects the pending deliveries of an endpoint, earliest first. The query has no limit: SQLite would plan a statement
/// with a bound limit again at each turn.
pub(super) const OF_ENDPOINT: &str =
    "SELECT endpoint_seq, due_at, delivery_seq, event_seq, round, attempts, relay_attempts, relay_since, is_replay FROM due
     WHERE endpoint_seq = ?1 ORDER BY due_at, delivery_seq";

/// The cause of a delivery that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum DueCause {
    /// Its event, or a client that asked for it.
    Request,
    /// A client that asked for this event at this endpoint: the first attempt is manual.
    Manual,
    /// A replay, which has a bounded number of them at a time.
    Replay,
}

/// Stores a new delivery that is due now.
pub(in crate::store) fn insert_pending(
    tx: &mut Tx<'_>,
    tenant: TenantSeq,
    event: i64,
    endpoint: i64,
    cause: DueCause,
) -> Result<(), StoreError> {
    // The first attempt of a later round is manual.
    let round = i64::from(cause == DueCause::Manual);
    tx.connection
        .prepare_cached(
            "INSERT INTO deliveries
                 (tenant_seq, event_seq, endpoint_seq, state, attempts, round, due_at, updated_at)
             VALUES (?1, ?2, ?3, 0, 0, ?6, ?4, ?5)",
        )?
        .execute(params![tenant, event, endpoint, tx.due_now, tx.wall, round])?;
    let delivery = tx.connection.last_insert_rowid();
    let counts = DueCounts::default();
    let is_replay = cause == DueCause::Replay;
    DueRow { endpoint, due_at: tx.due_now, delivery, event, round, counts, is_replay }.insert(tx)?;
    tx.wake(tenant, endpoint, Wake::Due(tx.due_now));
    Ok(())
}

/// Stores a new delivery that is skipped.
pub(in crate::store) fn insert_skipped(
    tx: &mut Tx<'_>,
    tenant: TenantSeq,
    event: i64,
    endpoint: i64,
    reason: &str,
) -> Result<(), StoreError> {
    tx.connection
        .prepare_cached(
            "INSERT INTO deliveries
                 (tenant_seq, event_seq, endpoint_seq, state, attempts, round, updated_at, reason)
             VALUES (?1, ?2, ?3, ?4, 0, 0, ?5, ?6)",
        )?
        .execute(params![tenant, event, endpoint, SKIPPED, tx.wall, reason])?;
    tx.counts.skipped(tenant, endpoint);
    Ok(())
}

/// Ends a pending delivery as skipped. Returns `false` if it is not pending.
pub(in crate::store) fn skip_pending(
    tx: &mut Tx<'_>,
    delivery: i64,
    reason: &str,
) -> Result<bool, StoreError> {
    let pending: Option<(TenantSeq, i64, Option<Millis>)> = tx
        .connection
        .prepare_cached(
            "SELECT tenant_seq, endpoint_seq, due_at FROM deliveries WHERE seq = ?1 AND state = 0",
        )?
        .query_row([delivery], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    let Some((tenant, endpoint, due_at)) = pending else { return Ok(false) };
    take(tx, endpoint, due_at.unwrap_or_default(), delivery)?;
    tx.connection
        .prepare_cached(
            "UPDATE deliveries SET state = ?2, due_at = NULL, updated_at = ?3, reason = ?4 WHERE seq = ?1",
        )?
        .execute(params![delivery, SKIPPED, tx.wall, reason])?;
    tx.counts.skipped(tenant, endpoint);
    Ok(true)
}

/// Removes the row of a pending delivery from `due` and from the backlog of its endpoint, and returns it. `due_at` is the
/// due time in the row of the delivery.
pub(super) fn take(
    tx: &mut Tx<'_>,
    endpoint: i64,
    due_at: Millis,
    delivery: i64,
) -> Result<Option<DueRow>, StoreError> {
    let taken = take_uncounted(tx.connection, endpoint, due_at, delivery)?;
    if let Some(taken) = &taken {
        tx.backlog.add(Counted::Pending, endpoint, -1);
        if taken.is_replay {
            tx.backlog.add(Counted::Replayed, endpoint, -1);
        }
    }
    Ok(taken)
}

fn take_uncounted(
    connection: &Connection,
    endpoint: i64,
    due_at: Millis,
    delivery: i64,
) -> Result<Option<DueRow>, StoreError> {
    let mut statement = connection.prepare_cached(
        "DELETE FROM due WHERE endpoint_seq = ?1 AND due_at = ?2 AND delivery_seq = ?3
         RETURNING endpoint_seq, due_at, delivery_seq, event_seq, round, attempts, relay_attempts, relay_since, is_replay",
    )?;
    let taken = statement.query_row(params![endpoint, due_at, delivery], DueRow::read).optional()?;
    if taken.is_some() {
        return Ok(taken);
    }
    // The times differ only if the row of the delivery could not be written when its due time was changed, because of
    // damage beside it.
    let mut statement = connection.prepare_cached(
        "DELETE FROM due WHERE endpoint_seq = ?1 AND delivery_seq = ?2
         RETURNING endpoint_seq, due_at, delivery_seq, event_seq, round, attempts, relay_attempts, relay_since, is_replay",
    )?;
    Ok(statement.query_row(params![endpoint, delivery], DueRow::read).optional()?)
}

/// The tables in which a due time is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum DueTables {
    Both,
    /// Only `due`, because a row of `deliveries` is damaged. The rows of `deliveries` keep their due times, and the
    /// deliveries are due at the new time nevertheless.
    Due,
}

/// Makes up to `limit` deliveries of an endpoint due now that are due later. Returns their number.
pub(in crate::store) fn make_due_now(
    tx: &Tx<'_>,
    endpoint: i64,
    limit: usize,
    tables: DueTables,
) -> Result<usize, StoreError> {
    let later: Vec<DueRow> = tx
        .connection
        .prepare_cached(
            "SELECT endpoint_seq, due_at, delivery_seq, event_seq, round, attempts, relay_attempts, relay_since, is_replay
             FROM due WHERE endpoint_seq = ?1 AND due_at > ?2 ORDER BY due_at LIMIT ?3",
        )?
        .query_map(params![endpoint, tx.due_now, limit], DueRow::read)?
        .collect::<Result<_, _>>()?;
    move_to(tx.connection, &later, tx.due_now, tables)?;
    Ok(later.len())
}

/// Changes the due times of pending deliveries.
fn move_to(
    connection: &Connection,
    rows: &[DueRow],
    due_at: Millis,
    tables: DueTables,
) -> Result<(), StoreError> {
    for row in rows {
        take_uncounted(connection, row.endpoint, row.due_at, row.delivery)?;
        DueRow { due_at, ..*row }.insert_uncounted(connection)?;
        if tables == DueTables::Both {
            connection
                .prepare_cached("UPDATE deliveries SET due_at = ?2 WHERE seq = ?1 AND state = 0")?
                .execute(params![row.delivery, due_at])?;
        }
    }
    Ok(())
}

/// Limits due times at the start: no delivery may be due later than the longest delay from now, whatever the clock
/// showed when its due time was stored.
pub(in crate::store) fn clamp_due_times(connection: &Connection, latest: Millis) -> Result<(), StoreError> {
    // Per endpoint, so that the statement uses the order of `due` and usually reads one row of each.
    let later: Vec<DueRow> = connection
        .prepare(&format!(
            "SELECT d.* FROM endpoints p CROSS JOIN (SELECT {COLUMNS} FROM due) d
             ON d.endpoint_seq = p.seq AND d.due_at > ?1"
        ))?
        .query_map([latest], DueRow::read)?
        .collect::<Result<_, _>>()?;
    if later.is_empty() {
        return Ok(());
    }
    // One transaction, so that a crash leaves the due times of the two tables equal.
    let clamp = |tables| -> Result<(), StoreError> {
        let tx = connection.unchecked_transaction()?;
        move_to(&tx, &later, latest, tables)?;
        Ok(tx.commit()?)
    };
    let Err(why) = readable(clamp(DueTables::Both))? else { return Ok(()) };
    clamp(DueTables::Due)?;
    Err(StoreError::Corrupt(why))
}

/// Checks that the whole table can be read.
pub(in crate::store) fn check(connection: &Connection) -> Result<(), StoreError> {
    let all = "SELECT total(endpoint_seq + due_at + delivery_seq + event_seq + round + attempts) FROM due";
    Ok(connection.query_row(all, [], |_| Ok(()))?)
}

/// The statement that fills an empty table from the pending deliveries.
///
/// The counts of a delivery that was never resent are known; a resent delivery gets all of its attempts again, so that
/// none gets fewer.
pub(in crate::store) const FILL: &str =
    "INSERT INTO due (endpoint_seq, due_at, delivery_seq, event_seq, round, attempts)
         SELECT endpoint_seq, coalesce(due_at, 0), seq, event_seq, round, iif(round = 0, attempts, 0)
         FROM deliveries NOT INDEXED WHERE state = 0";

const _: () = assert!(PENDING == 0, "the statements contain the state as a literal");
