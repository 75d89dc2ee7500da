//! Deliveries: what is owed to which endpoint, when, and what every attempt brought.

use rusqlite::{Connection, OptionalExtension as _, Row, ToSql, named_params, params};
use serde::{Deserialize, Serialize};

use super::endpoints::parse_secret;
use super::writer::Tx;
use super::{Store, StoreError, Wake};
use crate::clock::Millis;
use crate::signature::Secret;

const PENDING: i64 = 0;
const DELIVERED: i64 = 1;
const DEAD: i64 = 2;

/// Deliveries of a deleted endpoint that become dead letters in one commit: few enough that other
/// callers of that commit do not notice.
const BURIED_AT_ONCE: i64 = 256;

/// Dead letters one redrive takes back.
const REDRIVEN_AT_ONCE: i64 = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DeliveryState {
    Pending,
    Delivered,
    Dead,
}

impl DeliveryState {
    const fn stored(self) -> i64 {
        match self {
            Self::Pending => PENDING,
            Self::Delivered => DELIVERED,
            Self::Dead => DEAD,
        }
    }

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Dead => "dead",
        }
    }
}

/// Where a turn's deliveries go to: the endpoint as it is now, not as it was when the event came.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) endpoint: i64,
    pub(crate) url: String,
    pub(crate) secret: Secret,
}

/// One delivery whose time has come.
#[derive(Debug)]
pub(crate) struct Due {
    pub(crate) delivery: i64,
    pub(crate) event: i64,
    pub(crate) event_type: String,
    pub(crate) data: Vec<u8>,
    pub(crate) created_at: Millis,
    /// How often the delivery was resent.
    pub(crate) round: i64,
    /// Attempts since the delivery was made or last resent.
    pub(crate) round_attempts: u32,
}

/// What the store has for an endpoint's turn.
#[derive(Debug)]
pub(crate) struct Turn {
    pub(crate) state: TurnState,
    /// When the next delivery beyond these is due, if there is one and these are all that are due now.
    pub(crate) next_due: Option<Millis>,
}

#[derive(Debug)]
pub(crate) enum TurnState {
    /// Deliveries to attempt, at most as many as asked for.
    Open { target: Target, due: Vec<Due> },
    /// The endpoint is disabled, so its deliveries are kept until it is enabled; or it is deleted, and they
    /// are being buried.
    Held,
}

/// One attempt, as it is recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attempt {
    pub(crate) started_at: Millis,
    pub(crate) took_ms: Millis,
    pub(crate) status: Option<u16>,
    pub(crate) error: Option<String>,
    /// The beginning of a failed attempt's response.
    pub(crate) response: Option<String>,
}

/// What follows from an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Delivered,
    /// Due again then.
    Retry(Millis),
    Dead {
        reason: String,
    },
}

#[derive(Debug)]
pub(crate) struct DeliveryRow {
    pub(crate) seq: i64,
    pub(crate) event: i64,
    pub(crate) event_type: String,
    pub(crate) endpoint: i64,
    pub(crate) state: DeliveryState,
    pub(crate) attempts: u32,
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

/// What a redrive did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Redriven {
    pub(crate) redriven: usize,
    /// Whether dead letters that match are left for another call.
    pub(crate) more: bool,
}

const COLUMNS: &str =
    "d.seq, d.event_seq, e.type, d.endpoint_seq, d.state, d.attempts, d.due_at, d.updated_at,
     d.dead_reason";

/// Called once at start: no delivery may be further off than the longest delay, whatever the clock said
/// when it was stored.
pub(super) fn clamp_due_times(connection: &Connection, latest: Millis) -> rusqlite::Result<()> {
    // Per endpoint, so that the index on due times is used and nothing is written in the usual case.
    connection.execute(
        "UPDATE deliveries SET due_at = ?1 WHERE state = 0 AND seq IN (
             SELECT d.seq FROM endpoints p JOIN deliveries d INDEXED BY deliveries_due
                 ON d.endpoint_seq = p.seq AND d.state = 0 AND d.due_at > ?1)",
        [latest],
    )?;
    Ok(())
}

impl Store {
    /// A wake for every endpoint that is owed something.
    pub(crate) async fn owed(&self) -> Result<Vec<(i64, Wake)>, StoreError> {
        self.inner
            .dispatch_readers
            .read(|connection| {
                let mut statement = connection.prepare_cached(
                    "SELECT p.seq, p.deleted_at IS NOT NULL,
                         (SELECT min(due_at) FROM deliveries d WHERE d.endpoint_seq = p.seq AND d.state = 0) AS due
                     FROM endpoints p WHERE due IS NOT NULL ORDER BY p.seq",
                )?;
                let rows = statement.query_map([], |row| {
                    let wake = if row.get(1)? { Wake::Deleted } else { Wake::Due(row.get(2)?) };
                    Ok((row.get(0)?, wake))
                })?;
                Ok(rows.collect::<Result<_, _>>()?)
            })
            .await
    }

    /// Up to `most` deliveries of an endpoint that are due now, earliest first, without those in `leased`.
    pub(crate) async fn turn(
        &self,
        endpoint: i64,
        most: usize,
        leased: Vec<i64>,
    ) -> Result<Turn, StoreError> {
        let now = self.clock().due_now();
        self.inner
            .dispatch_readers
            .read(move |connection| turn(connection, endpoint, most, &leased, now))
            .await
    }

    /// Records an attempt, made in this round, and what follows from it, in one commit. Gives the time at which
    /// the delivery is due again, if it is pending still.
    pub(crate) async fn record(
        &self,
        delivery: i64,
        round: i64,
        attempt: Attempt,
        verdict: Verdict,
    ) -> Result<Option<Millis>, StoreError> {
        self.write(1, move |tx| record(tx, delivery, round, &attempt, &verdict)).await
    }

    /// Turns some pending deliveries of a deleted endpoint into dead letters; `true` when more are left.
    pub(crate) async fn bury(&self, endpoint: i64) -> Result<bool, StoreError> {
        self.write(BURIED_AT_ONCE as usize, move |tx| {
            let buried = tx
                .connection
                .prepare_cached(
                    "UPDATE deliveries SET state = 2, updated_at = ?2, dead_reason = 'the endpoint was deleted'
                     WHERE seq IN (SELECT seq FROM deliveries WHERE endpoint_seq = ?1 AND state = 0 LIMIT ?3)",
                )?
                .execute(params![endpoint, tx.wall, BURIED_AT_ONCE])?;
            Ok(buried as i64 == BURIED_AT_ONCE)
        })
        .await
    }

    pub(crate) async fn delivery(&self, seq: i64) -> Result<Option<(DeliveryRow, Vec<Attempt>)>, StoreError> {
        self.inner
            .readers
            .read(move |connection| {
                let row = connection
                    .prepare_cached(&format!(
                        "SELECT {COLUMNS} FROM deliveries d JOIN events e ON e.seq = d.event_seq WHERE d.seq = ?1"
                    ))?
                    .query_row([seq], |row| Ok(from_row(row)))
                    .optional()?
                    .transpose()?;
                let Some(row) = row else { return Ok(None) };
                let mut statement = connection.prepare_cached(
                    "SELECT started_at, took_ms, status, error, response FROM attempts
                     WHERE delivery_seq = ?1 ORDER BY number",
                )?;
                let attempts = statement.query_map([seq], |row| {
                    Ok(Attempt {
                        started_at: row.get(0)?,
                        took_ms: row.get(1)?,
                        status: row.get(2)?,
                        error: row.get(3)?,
                        response: row.get(4)?,
                    })
                })?;
                Ok(Some((row, attempts.collect::<Result<_, _>>()?)))
            })
            .await
    }

    /// Newest first; `before` excludes that row and all newer ones.
    pub(crate) async fn deliveries(
        &self,
        filter: DeliveryFilter,
        before: Option<i64>,
        limit: usize,
    ) -> Result<Vec<DeliveryRow>, StoreError> {
        self.inner.readers.read(move |connection| list(connection, filter, before, limit)).await
    }

    /// Makes a delivery due now, whatever its state, with a fresh count of attempts.
    ///
    /// `Ok(None)`: no such delivery. `Ok(Some(false))`: its endpoint is deleted.
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

    /// Makes dead letters due now, endpoint by endpoint and oldest first, of one endpoint or of all that are not
    /// deleted.
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

fn turn(
    connection: &Connection,
    endpoint: i64,
    most: usize,
    leased: &[i64],
    now: Millis,
) -> Result<Turn, StoreError> {
    let found = connection
        .prepare_cached(
            "SELECT url, secret FROM endpoints WHERE seq = ?1 AND enabled = 1 AND deleted_at IS NULL",
        )?
        .query_row([endpoint], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))
        .optional()?;
    let Some((url, secret)) = found else {
        return Ok(Turn { state: TurnState::Held, next_due: None });
    };
    let secret = parse_secret(&secret)?;
    let mut pending = connection.prepare_cached(
        "SELECT seq, due_at, event_seq, round, round_attempts FROM deliveries
         WHERE endpoint_seq = ?1 AND state = 0 ORDER BY due_at, seq LIMIT ?2",
    )?;
    let mut event = connection.prepare_cached("SELECT type, data, created_at FROM events WHERE seq = ?1")?;
    let mut due = Vec::with_capacity(most);
    let mut next_due = None;
    // One more than asked for tells when the next one is due.
    let mut rows = pending.query(params![endpoint, most + leased.len() + 1])?;
    while let Some(row) = rows.next()? {
        let delivery: i64 = row.get(0)?;
        if leased.contains(&delivery) {
            continue;
        }
        let due_at: Millis = row.get(1)?;
        if due_at > now || due.len() == most {
            next_due = Some(due_at);
            break;
        }
        let event_seq: i64 = row.get(2)?;
        let (round, round_attempts) = (row.get(3)?, row.get(4)?);
        due.push(event.query_row([event_seq], |row| {
            Ok(Due {
                delivery,
                event: event_seq,
                event_type: row.get(0)?,
                data: row.get(1)?,
                created_at: row.get(2)?,
                round,
                round_attempts,
            })
        })?);
    }
    Ok(Turn { state: TurnState::Open { target: Target { endpoint, url, secret }, due }, next_due })
}

fn record(
    tx: &Tx<'_>,
    delivery: i64,
    round: i64,
    attempt: &Attempt,
    verdict: &Verdict,
) -> Result<Option<Millis>, StoreError> {
    let (state, due_at, reason) = match verdict {
        Verdict::Delivered => (DELIVERED, None, None),
        Verdict::Retry(at) => (PENDING, Some(*at), None),
        Verdict::Dead { reason } => (DEAD, None, Some(reason)),
    };
    // A success holds whatever happened meanwhile. A failure is only counted when the delivery was buried during
    // the attempt, or resent: then it is due anew, with all of its attempts.
    let holds = "(state = 0 AND round = :round)";
    let updated = tx
        .connection
        .prepare_cached(&format!(
            "UPDATE deliveries SET
                 attempts = attempts + 1,
                 round_attempts = round_attempts + {holds},
                 due_at = CASE WHEN {holds} THEN coalesce(:due_at, due_at) ELSE due_at END,
                 dead_reason = CASE WHEN :state = 1 THEN NULL WHEN {holds} THEN :reason ELSE dead_reason END,
                 state = CASE WHEN :state = 1 OR {holds} THEN :state ELSE state END,
                 updated_at = :wall
             WHERE seq = :seq RETURNING attempts, state, due_at"
        ))?
        .query_row(
            named_params! {
                ":seq": delivery, ":round": round, ":state": state, ":due_at": due_at, ":reason": reason,
                ":wall": tx.wall,
            },
            |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get(2)?)),
        )
        .optional()?;
    let Some((number, state, due_at)) = updated else {
        return Err(StoreError::Internal(format!("delivery {delivery} is gone")));
    };
    tx.connection
        .prepare_cached(
            "INSERT INTO attempts (delivery_seq, number, started_at, took_ms, status, error, response)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            delivery,
            number,
            attempt.started_at,
            attempt.took_ms,
            attempt.status,
            attempt.error,
            attempt.response
        ])?;
    Ok((state == PENDING).then_some(due_at))
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
            "UPDATE deliveries SET state = 0, round = round + 1, round_attempts = 0, due_at = ?2, updated_at = ?3, dead_reason = NULL
             WHERE seq = ?1",
        )?
        .execute(params![delivery, tx.due_now, tx.wall])?;
    tx.woken.push((endpoint, Wake::Revived(tx.due_now)));
    Ok(())
}

fn list(
    connection: &Connection,
    filter: DeliveryFilter,
    before: Option<i64>,
    limit: usize,
) -> Result<Vec<DeliveryRow>, StoreError> {
    // Which index serves depends on the filters, and without being told SQLite walks all deliveries to find few.
    // Partial indexes need the state as a literal.
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
    let mut sql = format!(
        "SELECT {COLUMNS} FROM deliveries d {index} CROSS JOIN events e ON e.seq = d.event_seq WHERE d.seq < :before"
    );
    let before = before.unwrap_or(i64::MAX);
    let mut values: Vec<(&str, &dyn ToSql)> = named_params! {":before": before, ":limit": limit}.to_vec();
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
    statement.query_and_then(values.as_slice(), from_row)?.collect()
}

fn from_row(row: &Row<'_>) -> Result<DeliveryRow, StoreError> {
    let state = match row.get::<_, i64>(4)? {
        PENDING => DeliveryState::Pending,
        DELIVERED => DeliveryState::Delivered,
        DEAD => DeliveryState::Dead,
        other => return Err(StoreError::Corrupt(format!("a delivery has the unknown state {other}"))),
    };
    Ok(DeliveryRow {
        seq: row.get(0)?,
        event: row.get(1)?,
        event_type: row.get(2)?,
        endpoint: row.get(3)?,
        state,
        attempts: row.get(5)?,
        due_at: row.get(6)?,
        updated_at: row.get(7)?,
        dead_reason: row.get(8)?,
    })
}
