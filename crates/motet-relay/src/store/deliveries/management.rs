//! Lists deliveries and resends them, for the API.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, Row, ToSql, named_params, params};

use super::{Attempt, AttemptRow, DEAD, DELIVERED, DeliveryState, FailureClass, MISSING, PENDING};
use crate::clock::{Clock, Millis};
use crate::store::damage::{newest_first, readable};
use crate::store::writer::Tx;
use crate::store::{Store, StoreError, Unreadable, Wake};

/// Maximum number of dead letters that one redrive makes pending.
const REDRIVEN_AT_ONCE: i64 = 256;

#[derive(Debug)]
pub(crate) struct DeliveryRow {
    pub(crate) seq: i64,
    pub(crate) event: i64,
    /// The type of the event, or the reason why the event cannot be read.
    pub(crate) event_type: Result<String, String>,
    pub(crate) endpoint: i64,
    pub(crate) state: DeliveryState,
    pub(crate) attempts: u32,
    /// In calendar time.
    pub(crate) due_at: Millis,
    pub(crate) updated_at: Millis,
    pub(crate) dead_reason: Option<String>,
}

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct DeliveryFilter {
    pub(crate) event: Option<i64>,
    pub(crate) endpoint: Option<i64>,
    pub(crate) state: Option<DeliveryState>,
}

/// The result of a redrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Redriven {
    pub(crate) redriven: usize,
    /// `true` if matching dead letters are left for another call.
    pub(crate) more: bool,
}

const COLUMNS: &str =
    "d.seq, d.event_seq, d.endpoint_seq, d.state, d.attempts, d.due_at, d.updated_at, d.dead_reason";

impl Store {
    pub(crate) async fn delivery(
        &self,
        seq: i64,
    ) -> Result<Option<(DeliveryRow, Vec<AttemptRow>)>, StoreError> {
        let clock = self.clock().clone();
        self.shared
            .readers
            .read(move |connection| {
                let row = connection
                    .prepare_cached(&format!("SELECT {COLUMNS} FROM deliveries d WHERE d.seq = ?1"))?
                    .query_row([seq], |row| Ok(from_row(connection, &clock, row)))
                    .optional()?
                    .transpose()?;
                let Some(row) = row else { return Ok(None) };
                let mut statement = connection.prepare_cached(
                    "SELECT started_at, took_ms, status, error, response, class, repeats FROM attempts
                     WHERE delivery_seq = ?1 ORDER BY number",
                )?;
                let attempts = statement.query_map([seq], |row| {
                    let attempt = Attempt {
                        started_at: row.get(0)?,
                        took_ms: row.get(1)?,
                        status: row.get(2)?,
                        error: row.get(3)?,
                        response: row.get(4)?,
                        class: row.get::<_, Option<i64>>(5)?.and_then(FailureClass::read),
                    };
                    Ok(AttemptRow { attempt, repeats: row.get(6)? })
                })?;
                Ok(Some((row, attempts.collect::<Result<_, _>>()?)))
            })
            .await
    }

    /// Returns deliveries, newest first; `before` excludes that row and all newer rows.
    pub(crate) async fn deliveries(
        &self,
        filter: DeliveryFilter,
        before: Option<i64>,
        limit: usize,
    ) -> Result<Vec<Result<DeliveryRow, Unreadable>>, StoreError> {
        let damage = Arc::clone(&self.shared.damage);
        let before = before.unwrap_or(i64::MAX);
        let clock = self.clock().clone();
        self.shared
            .readers
            .read(move |connection| {
                newest_first(
                    &damage,
                    before,
                    limit,
                    |row: &DeliveryRow| row.seq,
                    |before, limit, found| list(connection, &clock, filter, before, limit, found),
                )
            })
            .await
    }

    /// Makes a delivery of any state due now, and resets its count of attempts.
    ///
    /// Returns `Ok(None)` if there is no such delivery, and `Ok(Some(false))` if its endpoint is deleted.
    pub(crate) async fn resend(&self, delivery: i64) -> Result<Option<bool>, StoreError> {
        self.write(1, move |tx| {
            let endpoint: Option<i64> = tx
                .connection
                .prepare_cached("SELECT endpoint_seq FROM deliveries WHERE seq = ?1")?
                .query_row([delivery], |row| row.get(0))
                .optional()?;
            let Some(endpoint) = endpoint else { return Ok(None) };
            if !endpoint_exists(tx, endpoint)? {
                return Ok(Some(false));
            }
            revive(tx, delivery, endpoint)?;
            Ok(Some(true))
        })
        .await
    }

    /// Makes dead letters due now, endpoint by endpoint and oldest first. `endpoint` selects one endpoint; `None`
    /// selects all that are not deleted.
    pub(crate) async fn redrive(&self, endpoint: Option<i64>) -> Result<Redriven, StoreError> {
        self.write(REDRIVEN_AT_ONCE as usize, move |tx| {
            let letters: Vec<(i64, i64)> = tx
                .connection
                .prepare_cached(
                    "SELECT d.seq, d.endpoint_seq FROM endpoints p
                     CROSS JOIN deliveries d INDEXED BY deliveries_dead ON d.endpoint_seq = p.seq AND d.state = 2
                     WHERE p.deleted_at IS NULL AND (?1 IS NULL OR p.seq = ?1)
                     ORDER BY p.seq, d.seq LIMIT ?2",
                )?
                .query_map(params![endpoint, REDRIVEN_AT_ONCE + 1], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect::<Result<_, _>>()?;
            let taken = letters.len().min(REDRIVEN_AT_ONCE as usize);
            for (delivery, endpoint) in &letters[..taken] {
                revive(tx, *delivery, *endpoint)?;
            }
            Ok(Redriven { redriven: taken, more: letters.len() > taken })
        })
        .await
    }
}

fn endpoint_exists(tx: &Tx<'_>, endpoint: i64) -> Result<bool, StoreError> {
    Ok(tx
        .connection
        .prepare_cached("SELECT 1 FROM endpoints WHERE seq = ?1 AND deleted_at IS NULL")?
        .exists([endpoint])?)
}

fn revive(tx: &mut Tx<'_>, delivery: i64, endpoint: i64) -> Result<(), StoreError> {
    tx.connection
        .prepare_cached(
            "UPDATE deliveries SET state = 0, round = round + 1, round_attempts = 0, relay_attempts = 0,
                 relay_since = NULL, due_at = ?2, updated_at = ?3, dead_reason = NULL
             WHERE seq = ?1",
        )?
        .execute(params![delivery, tx.due_now, tx.wall])?;
    tx.woken.push((endpoint, Wake::Revived(tx.due_now)));
    Ok(())
}

fn list(
    connection: &Connection,
    clock: &Clock,
    filter: DeliveryFilter,
    before: i64,
    limit: usize,
    found: &mut Vec<Result<DeliveryRow, Unreadable>>,
) -> Result<(), StoreError> {
    // The best index depends on the filters. Without `INDEXED BY` SQLite would scan all deliveries to find a few. A
    // partial index needs the state as a literal.
    let index = match filter {
        DeliveryFilter { event: Some(_), .. } => "INDEXED BY deliveries_by_event",
        DeliveryFilter { state: Some(DeliveryState::Pending), .. } => "INDEXED BY deliveries_due",
        DeliveryFilter { state: Some(DeliveryState::Dead), endpoint: Some(_), .. } => {
            "INDEXED BY deliveries_dead"
        }
        DeliveryFilter { state: Some(DeliveryState::Dead), .. } => "INDEXED BY deliveries_dead_all",
        DeliveryFilter { endpoint: Some(_), .. } => "INDEXED BY deliveries_by_endpoint",
        // Newest first, from the table itself.
        DeliveryFilter { .. } => "NOT INDEXED",
    };
    let mut sql = format!("SELECT {COLUMNS} FROM deliveries d {index} WHERE d.seq <= :upto");
    let upto = before - 1;
    let mut values: Vec<(&str, &dyn ToSql)> = named_params! {":upto": upto, ":limit": limit}.to_vec();
    if let Some(event) = &filter.event {
        sql += " AND d.event_seq = :event";
        values.push((":event", event));
    }
    if let Some(endpoint) = &filter.endpoint {
        sql += " AND d.endpoint_seq = :endpoint";
        values.push((":endpoint", endpoint));
    }
    if let Some(state) = filter.state {
        sql += &format!(" AND d.state = {}", state.stored());
    }
    sql += " ORDER BY d.seq DESC LIMIT :limit";
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(values.as_slice())?;
    while let Some(row) = rows.next()? {
        let seq = row.get(0)?;
        found.push(readable(from_row(connection, clock, row))?.map_err(|why| Unreadable { seq, why }));
    }
    Ok(())
}

/// Returns the type of a delivery's event, or the reason why the event cannot be read.
fn event_type(connection: &Connection, event: i64) -> Result<Result<String, String>, StoreError> {
    let read = || -> Result<Option<String>, StoreError> {
        let mut statement = connection.prepare_cached("SELECT type FROM events WHERE seq = ?1")?;
        Ok(statement.query_row([event], |row| row.get(0)).optional()?)
    };
    Ok(readable(read())?.and_then(|found| found.ok_or_else(|| MISSING.to_owned())))
}

fn from_row(connection: &Connection, clock: &Clock, row: &Row<'_>) -> Result<DeliveryRow, StoreError> {
    let state = match row.get::<_, i64>(3)? {
        PENDING => DeliveryState::Pending,
        DELIVERED => DeliveryState::Delivered,
        DEAD => DeliveryState::Dead,
        other => return Err(StoreError::Corrupt(format!("a delivery has the unknown state {other}"))),
    };
    Ok(DeliveryRow {
        seq: row.get(0)?,
        event: row.get(1)?,
        event_type: event_type(connection, row.get(1)?)?,
        endpoint: row.get(2)?,
        state,
        attempts: row.get(4)?,
        due_at: clock.to_calendar(row.get(5)?),
        updated_at: row.get(6)?,
        dead_reason: row.get(7)?,
    })
}
