//! The events that retention looks at next.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::clock::Millis;
use crate::store::{StoreError, TenantSeq};

/// An event without its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) seq: i64,
    pub(super) tenant: TenantSeq,
    pub(super) created_at: Millis,
    /// How long the event itself keeps its data.
    pub(super) keep_ms: Option<Millis>,
    pub(super) is_erased: bool,
}

const COLUMNS: &str = "seq, tenant_seq, created_at, keep_ms, data IS NULL";

impl Candidate {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            seq: row.get(0)?,
            tenant: row.get(1)?,
            created_at: row.get(2)?,
            keep_ms: row.get(3)?,
            is_erased: row.get(4)?,
        })
    }

    pub(super) fn find(connection: &Connection, seq: i64) -> Result<Option<Self>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM events WHERE seq = ?1");
        Ok(connection.prepare_cached(&sql)?.query_row([seq], Self::read).optional()?)
    }
}

/// Returns the numbers of some events of the tenant after a position. Reads only the index, so damage of a row does not keep
/// the position from moving past it.
pub(super) fn numbers_after(
    connection: &Connection,
    tenant: TenantSeq,
    after: i64,
) -> Result<Vec<i64>, StoreError> {
    let sql = "SELECT seq FROM events INDEXED BY events_by_tenant
         WHERE tenant_seq = ?1 AND seq > ?2 ORDER BY seq LIMIT 200";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(params![tenant, after], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Returns up to `limit` events of all tenants after a position.
pub(super) fn oldest_after(
    connection: &Connection,
    after: i64,
    limit: usize,
) -> Result<Vec<Candidate>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM events NOT INDEXED WHERE seq > ?1 ORDER BY seq LIMIT 200");
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map([after], Candidate::read)?;
    Ok(rows.take(limit).collect::<Result<_, _>>()?)
}

/// The position of a walk over the events that keep their data for a shorter time: the end of that time, and the event.
pub(super) type ShorterPosition = (Millis, i64);

/// Returns up to `limit` events whose own time has ended, after a position.
pub(super) fn ended_after(
    connection: &Connection,
    (from, last): ShorterPosition,
    now: Millis,
    limit: usize,
) -> Result<Vec<(ShorterPosition, Candidate)>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS}, created_at + keep_ms FROM events INDEXED BY events_by_keep
         WHERE keep_ms IS NOT NULL AND data IS NOT NULL AND created_at + keep_ms >= ?1 AND created_at + keep_ms <= ?2
         ORDER BY created_at + keep_ms, seq"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params![from, now])?;
    let mut found = Vec::new();
    // No limit in the statement: any number of events may end at the same time as the position.
    while found.len() < limit.min(200)
        && let Some(row) = rows.next()?
    {
        let candidate = Candidate::read(row)?;
        let at: Millis = row.get(5)?;
        if (at, candidate.seq) > (from, last) {
            found.push(((at, candidate.seq), candidate));
        }
    }
    Ok(found)
}

/// Returns when the next time of an event of its own ends.
pub(super) fn next_end(connection: &Connection, after: Millis) -> Result<Option<Millis>, StoreError> {
    let sql = "SELECT created_at + keep_ms FROM events INDEXED BY events_by_keep
         WHERE keep_ms IS NOT NULL AND data IS NOT NULL AND created_at + keep_ms > ?1
         ORDER BY created_at + keep_ms LIMIT 1";
    Ok(connection.prepare_cached(sql)?.query_row([after], |row| row.get(0)).optional()?)
}

/// A row of `retained`.
pub(super) type RetainedPosition = (i64, TenantSeq, i64);

/// Returns some retained events after a position.
pub(super) fn retained_after(
    connection: &Connection,
    (kind, tenant, event): RetainedPosition,
) -> Result<Vec<RetainedPosition>, StoreError> {
    let sql =
        "SELECT kind, tenant_seq, event_seq FROM retained WHERE (kind, tenant_seq, event_seq) > (?1, ?2, ?3)
         ORDER BY kind, tenant_seq, event_seq LIMIT 200";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement
        .query_map(params![kind, tenant, event], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}
