//! Events: accepted together with every delivery they owe.

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

/// With the first event or endpoint of each start the counters take a random step of up to this. A store that was restored
/// from a backup would otherwise give what is new the identifiers of what the backup lacks. Eight million
/// starts fit into the counter.
const LONGEST_STEP: u64 = 1 << 40;

/// How long an idempotency key is remembered.
const IDEMPOTENCY_WINDOW: std::time::Duration = std::time::Duration::from_secs(24 * 60 * 60);

/// Expired keys are removed with each new one: more than one, so that their number shrinks. A limit that is bound would
/// have the statement planned anew each time.
const REMOVE_EXPIRED: &str = "DELETE FROM idempotency WHERE key IN
     (SELECT key FROM idempotency WHERE expires_at <= ?1 ORDER BY expires_at LIMIT 4)";

#[derive(Debug)]
pub(crate) struct NewEvent {
    pub(crate) event_type: EventType,
    pub(crate) data: Box<RawValue>,
    pub(crate) idempotency_key: Option<String>,
}

/// What became of a published event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Published {
    /// Stored now, with this many deliveries.
    Accepted { event: i64, deliveries: i64 },
    /// The same event was stored under this key before.
    Replayed { event: i64, deliveries: i64 },
    /// Another event was stored under this key before.
    Conflict { event: i64 },
}

#[derive(Debug)]
pub(crate) struct EventRow {
    pub(crate) seq: i64,
    pub(crate) event_type: String,
    pub(crate) data: Vec<u8>,
    pub(crate) created_at: Millis,
}

/// What the data of a page of events may add up to, unless its first event alone has more.
const PAGE_BYTES: usize = 1 << 20;

pub(super) const COLUMNS: &str = "seq, type, data, created_at, checksum";

impl Store {
    /// Stores events with the deliveries they owe, all in one commit. One answer per event, in order.
    pub(crate) async fn publish(&self, events: Vec<NewEvent>) -> Result<Vec<Published>, StoreError> {
        let weight = events.iter().map(|event| self.rows_of(event)).sum();
        let bytes = events.iter().map(|event| event.data.get().len()).sum();
        let published = self.write(weight, move |tx| {
            tx.space.check(tx.connection, bytes)?;
            events.iter().map(|event| publish(tx, event)).collect()
        });
        let published = published.await;
        if let Err(StoreError::Corrupt(_)) = published {
            // For the next one.
            self.rebuild_indexes_soon().await?;
        }
        published
    }

    /// How many rows an event takes, its deliveries included. Those that share a call of [`Store::publish`] should take
    /// [`MAX_WEIGHT`](super::MAX_WEIGHT) in all: more than a commit holds makes other callers wait.
    pub(crate) fn rows_of(&self, event: &NewEvent) -> usize {
        self.shared.writer.fan_out().rows(&event.event_type)
    }

    pub(crate) async fn event(&self, seq: i64) -> Result<Option<EventRow>, StoreError> {
        self.shared.readers.read(move |connection| read_event(connection, seq)).await
    }

    /// The newest event that there is.
    pub(super) fn newest_event(connection: &Connection) -> rusqlite::Result<Option<i64>> {
        connection.query_row("SELECT max(seq) FROM events", [], |row| row.get(0))
    }

    /// Newest first; `before` excludes that row and all newer ones. Returns at most `limit` events with data of about
    /// [`PAGE_BYTES`], and whether there are more.
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

/// Leaves a gap in the counters of events, deliveries and endpoints, so that no identifier is given twice. Not at the
/// start itself, which would then fail on a disk that is full.
pub(super) fn step_counters(tx: &mut Tx<'_>) -> Result<(), StoreError> {
    if !tx.stepped {
        let random = getrandom::u64()
            .map_err(|error| StoreError::Io(format!("no random bytes from the operating system: {error}")))?;
        // Counters that nothing was counted with yet are not there, and begin at 1.
        tx.connection.execute(
            "UPDATE sqlite_sequence SET seq = seq + ?1 WHERE name IN ('events', 'deliveries', 'endpoints')",
            [random % LONGEST_STEP],
        )?;
        tx.stepped = true;
    }
    Ok(())
}

/// Over what a caller sent.
fn content_hash(event_type: &str, data: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(event_type);
    // A type holds no line break, so no two events read the same.
    hash.update(b"\n");
    hash.update(data);
    hash.finalize().into()
}

/// Over all of an event's row but its number, which SQLite looks rows up by. 64 bits of a SHA-256: the delivery of a
/// row costs one more of these for its signature.
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

/// Returns `true` if a stored event is the new one with its data written in another way: encoders differ in the order of
/// keys and in white space.
fn is_same_event(tx: &Tx<'_>, stored: i64, new: &NewEvent) -> Result<bool, StoreError> {
    let row: Option<(String, Vec<u8>)> = tx
        .connection
        .prepare_cached("SELECT type, data FROM events WHERE seq = ?1")?
        .query_row([stored], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    // What is gone or damaged cannot be the same.
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
    // An old key that cannot be removed is no reason to refuse a new event.
    let removed = tx.connection.prepare_cached(REMOVE_EXPIRED)?.execute([tx.due_now]);
    if let Err(why) = readable(removed.map_err(StoreError::from))? {
        tx.damage.note(&why);
    }
    // OR REPLACE: the key may be there still, expired.
    tx.connection
        .prepare_cached(
            "INSERT OR REPLACE INTO idempotency (key, hash, event_seq, deliveries, expires_at)
             VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![key, hash, event, deliveries, tx.due_now + millis(IDEMPOTENCY_WINDOW)])?;
    Ok(())
}

/// Reads an event whole.
///
/// # Errors
/// [`StoreError::Corrupt`] when it is not what was stored.
pub(super) fn read_event(connection: &Connection, seq: i64) -> Result<Option<EventRow>, StoreError> {
    let mut statement = connection.prepare_cached(&format!("SELECT {COLUMNS} FROM events WHERE seq = ?1"))?;
    statement.query_row([seq], |row| Ok(from_row(row))).optional()?.transpose()
}

/// Reads [`COLUMNS`].
///
/// # Errors
/// [`StoreError::Corrupt`] when they are not what was stored.
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
