//! Events. An event is stored together with all of its deliveries.

use std::cell::Cell;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use super::damage::{newest_first, readable};
use super::writer::Tx;
use super::{Store, StoreError, Unreadable, Wake};
use crate::clock::{Millis, millis};
use crate::json;
use crate::pattern::EventType;

/// Maximum step of the counters. The counters take a random step with the first event or endpoint after each start.
/// Otherwise a store that was restored from a backup would give new rows the identifiers of rows that the backup
/// lacks. The counter has space for eight million starts.
const LONGEST_STEP: u64 = 1 << 40;

/// How long an idempotency key is remembered.
const IDEMPOTENCY_WINDOW: std::time::Duration = std::time::Duration::from_secs(24 * 60 * 60);

/// Removes expired keys with each new key, and several at once so that their number shrinks. The limit is a literal,
/// because SQLite plans a statement again each time its limit is bound.
const REMOVE_EXPIRED: &str = "DELETE FROM idempotency WHERE key IN
     (SELECT key FROM idempotency WHERE expires_at <= ?1 ORDER BY expires_at LIMIT 4)";

#[derive(Debug)]
pub(crate) struct NewEvent {
    pub(crate) event_type: EventType,
    pub(crate) data: Box<RawValue>,
    pub(crate) idempotency_key: Option<String>,
}

/// The result of publishing an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Published {
    /// The event was stored with this number of deliveries.
    Accepted { event: i64, deliveries: i64 },
    /// This event has been stored under this key before.
    Replayed { event: i64, deliveries: i64 },
    /// Another event has been stored under this key before.
    Conflict { event: i64 },
}

#[derive(Debug)]
pub(crate) struct EventRow {
    pub(crate) seq: i64,
    pub(crate) event_type: String,
    pub(crate) data: Vec<u8>,
    pub(crate) created_at: Millis,
}

/// Maximum size of the data of a page of events; the first event may have more.
const PAGE_BYTES: usize = 1 << 20;

pub(super) const COLUMNS: &str = "seq, type, data, created_at, checksum";

impl Store {
    /// Stores events with their deliveries in one commit. Returns one result per event, in order.
    pub(crate) async fn publish(&self, events: Vec<NewEvent>) -> Result<Vec<Published>, StoreError> {
        let weight = events.iter().map(|event| self.rows_of(event)).sum();
        let bytes = events.iter().map(|event| event.data.get().len()).sum();
        let published = self.write(weight, move |tx| {
            tx.space.check(tx.connection, bytes)?;
            events.iter().map(|event| publish(tx, event)).collect()
        });
        let published = published.await;
        if let Err(StoreError::Corrupt(_)) = published {
            // Helps the next call.
            self.rebuild_indexes_soon().await?;
        }
        published
    }

    /// Estimates how many rows an event takes, including its deliveries. The events of one call of [`Store::publish`]
    /// should take about [`MAX_WEIGHT`](super::MAX_WEIGHT) rows: a heavier call makes other callers wait.
    pub(crate) fn rows_of(&self, event: &NewEvent) -> usize {
        self.shared.writer.fan_out().rows(&event.event_type)
    }

    pub(crate) async fn event(&self, seq: i64) -> Result<Option<EventRow>, StoreError> {
        self.shared.readers.read(move |connection| read_event(connection, seq)).await
    }

    /// Returns the newest event.
    pub(super) fn newest_event(connection: &Connection) -> rusqlite::Result<Option<i64>> {
        connection.query_row("SELECT max(seq) FROM events", [], |row| row.get(0))
    }

    /// Returns events, newest first; `before` excludes that row and all newer rows. Returns at most `limit` events
    /// with data of about [`PAGE_BYTES`], and whether there are more.
    pub(crate) async fn events(
        &self,
        before: Option<i64>,
        limit: usize,
    ) -> Result<(Vec<Result<EventRow, Unreadable>>, bool), StoreError> {
        let damage = Arc::clone(&self.shared.damage);
        self.shared
            .readers
            .read(move |connection| {
                let before = before.unwrap_or(i64::MAX);
                let (bytes, is_cut) = (Cell::new(0), Cell::new(false));
                let read = |before: i64, limit, found: &mut Vec<Result<EventRow, Unreadable>>| {
                    let mut statement = connection.prepare_cached(&format!(
                        "SELECT {COLUMNS} FROM events WHERE seq <= ?1 ORDER BY seq DESC LIMIT ?2"
                    ))?;
                    let mut rows = statement.query(params![before - 1, limit])?;
                    while let Some(row) = rows.next()? {
                        let seq = row.get(0)?;
                        let row = readable(from_row(row))?.map_err(|why| Unreadable { seq, why });
                        bytes.set(bytes.get() + row.as_ref().map_or(0, |row| row.data.len()));
                        if bytes.get() > PAGE_BYTES && !found.is_empty() {
                            is_cut.set(true);
                            return Ok(());
                        }
                        found.push(row);
                    }
                    Ok(())
                };
                let mut page = newest_first(&damage, before, limit + 1, |row: &EventRow| row.seq, read)?;
                let more = is_cut.get() || page.len() > limit;
                page.truncate(limit);
                Ok((page, more))
            })
            .await
    }
}

fn publish(tx: &mut Tx<'_>, event: &NewEvent) -> Result<Published, StoreError> {
    let hash = content_hash(event.event_type.as_str(), event.data.get().as_bytes());
    if let Some(key) = &event.idempotency_key
        && let Some(known) = known_key(tx, key, &hash, event)?
    {
        return Ok(known);
    }
    step_counters(tx)?;
    tx.connection
        .prepare_cached("INSERT INTO events (type, data, created_at, checksum) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![
            event.event_type.as_str(),
            event.data.get().as_bytes(),
            tx.wall,
            checksum(&hash, tx.wall)
        ])?;
    let seq = tx.connection.last_insert_rowid();
    let wall = tx.wall;
    tx.added.push(seq, || EventRow {
        seq,
        event_type: event.event_type.as_str().to_owned(),
        data: event.data.get().as_bytes().to_owned(),
        created_at: wall,
    });
    let endpoints = tx.routes.matching(tx.connection, &event.event_type)?;
    let mut insert = tx.connection.prepare_cached(
        "INSERT INTO deliveries (event_seq, endpoint_seq, state, attempts, round, round_attempts, due_at, updated_at)
         VALUES (?1, ?2, 0, 0, 0, 0, ?3, ?4)",
    )?;
    for endpoint in &endpoints {
        insert.execute(params![seq, endpoint, tx.due_now, tx.wall])?;
        tx.woken.push((*endpoint, Wake::Due(tx.due_now)));
    }
    let deliveries = i64::try_from(endpoints.len()).unwrap_or(i64::MAX);
    if let Some(key) = &event.idempotency_key {
        remember_key(tx, key, &hash, seq, deliveries)?;
    }
    Ok(Published::Accepted { event: seq, deliveries })
}

/// Leaves a gap in the counters of events, deliveries and endpoints, so that no identifier is used twice. Not done at
/// the start, because the start would then fail on a full disk.
pub(super) fn step_counters(tx: &mut Tx<'_>) -> Result<(), StoreError> {
    if !tx.stepped {
        let random = getrandom::u64().map_err(|error| {
            StoreError::Io(format!("the operating system returned no random bytes: {error}"))
        })?;
        // A counter that was never used has no row, and starts at 1.
        tx.connection.execute(
            "UPDATE sqlite_sequence SET seq = seq + ?1 WHERE name IN ('events', 'deliveries', 'endpoints')",
            [random % LONGEST_STEP],
        )?;
        tx.stepped = true;
    }
    Ok(())
}

/// Returns the hash of the content that a client sent.
fn content_hash(event_type: &str, data: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(event_type);
    // A type contains no line break, so different events have different inputs.
    hash.update(b"\n");
    hash.update(data);
    hash.finalize().into()
}

/// Returns the checksum of an event's row without its number, by which SQLite finds the row. 64 bits of a SHA-256: the
/// signature of a delivery costs one more SHA-256 of the same data.
fn checksum(content: &[u8; 32], created_at: Millis) -> i64 {
    let mut hash = Sha256::new();
    hash.update(content);
    hash.update(created_at.to_le_bytes());
    let [a, b, c, d, e, f, g, h, ..] = <[u8; 32]>::from(hash.finalize());
    i64::from_le_bytes([a, b, c, d, e, f, g, h])
}

fn known_key(
    tx: &Tx<'_>,
    key: &str,
    hash: &[u8; 32],
    new: &NewEvent,
) -> Result<Option<Published>, StoreError> {
    let known: Option<([u8; 32], i64, i64)> = tx
        .connection
        .prepare_cached(
            "SELECT hash, event_seq, deliveries FROM idempotency WHERE key = ?1 AND expires_at > ?2",
        )?
        .query_row(params![key, tx.due_now], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    let Some((known_hash, event, deliveries)) = known else { return Ok(None) };
    Ok(Some(if known_hash == *hash || is_same_event(tx, event, new)? {
        Published::Replayed { event, deliveries }
    } else {
        Published::Conflict { event }
    }))
}

/// Returns `true` if a stored event equals the new one apart from how its data is written: encoders differ in the
/// order of keys and in white space.
fn is_same_event(tx: &Tx<'_>, stored: i64, new: &NewEvent) -> Result<bool, StoreError> {
    let row: Option<(String, Vec<u8>)> = tx
        .connection
        .prepare_cached("SELECT type, data FROM events WHERE seq = ?1")?
        .query_row([stored], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    // An event that is deleted or damaged is not equal.
    let Some((event_type, data)) = row else { return Ok(false) };
    let Ok(data) = std::str::from_utf8(&data) else { return Ok(false) };
    Ok(event_type == new.event_type.as_str() && json::is_same_value(data, new.data.get()))
}

fn remember_key(
    tx: &Tx<'_>,
    key: &str,
    hash: &[u8; 32],
    event: i64,
    deliveries: i64,
) -> Result<(), StoreError> {
    // A new event must not fail because an old key cannot be removed.
    let removed = tx.connection.prepare_cached(REMOVE_EXPIRED)?.execute([tx.due_now]);
    if let Err(why) = readable(removed.map_err(StoreError::from))? {
        tx.damage.note(&why);
    }
    // OR REPLACE: the key may still exist although it has expired.
    tx.connection
        .prepare_cached(
            "INSERT OR REPLACE INTO idempotency (key, hash, event_seq, deliveries, expires_at)
             VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![key, hash, event, deliveries, tx.due_now + millis(IDEMPOTENCY_WINDOW)])?;
    Ok(())
}

/// Reads an event and checks its checksum.
///
/// # Errors
/// [`StoreError::Corrupt`] if the row is not the stored one.
pub(super) fn read_event(connection: &Connection, seq: i64) -> Result<Option<EventRow>, StoreError> {
    let mut statement = connection.prepare_cached(&format!("SELECT {COLUMNS} FROM events WHERE seq = ?1"))?;
    statement.query_row([seq], |row| Ok(from_row(row))).optional()?.transpose()
}

/// Reads [`COLUMNS`] and checks the checksum.
///
/// # Errors
/// [`StoreError::Corrupt`] if the row is not the stored one.
pub(super) fn from_row(row: &Row<'_>) -> Result<EventRow, StoreError> {
    let found =
        EventRow { seq: row.get(0)?, event_type: row.get(1)?, data: row.get(2)?, created_at: row.get(3)? };
    let EventRow { seq, event_type, data, created_at } = &found;
    if row.get::<_, i64>(4)? != checksum(&content_hash(event_type, data), *created_at) {
        return Err(StoreError::Corrupt(format!(
            "event {seq} does not have the checksum that it was stored with"
        )));
    }
    Ok(found)
}
