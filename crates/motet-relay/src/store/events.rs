//! Events. An event is stored together with all of its deliveries.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use super::damage::{newest_first, readable};
use super::deliveries::{DueCause, insert_pending, insert_skipped};
use super::listing::{EventFilter, ListPage, ScanBudget};
use super::quotas::QuotaExceeded;
use super::routes::{RouteVerdict, split};
use super::writer::Tx;
use super::{Store, StoreError, TenantSeq, Unreadable};
use crate::clock::{Millis, millis};
use crate::json;
use crate::pattern::EventType;

/// Maximum step of the counters. The counters take a random step with the first event or endpoint after each start.
/// Otherwise a store that was restored from a backup would give new rows the identifiers of rows that the backup
/// lacks. The counter has space for eight million starts.
const LONGEST_STEP: u64 = 1 << 40;

/// How long an idempotency key is remembered.
const IDEMPOTENCY_WINDOW: Duration = Duration::from_secs(24 * 60 * 60);

/// Clients create a key with this prefix for every request, to repeat it safely. They repeat it within seconds, so a
/// longer time would only make the store larger.
pub(super) const GENERATED_KEY: &str = "auto_";
const GENERATED_KEY_WINDOW: Duration = Duration::from_secs(10 * 60);

/// Removes expired keys with each new key, and several at once so that their number shrinks. The limit is a literal,
/// because SQLite plans a statement again each time its limit is bound.
const REMOVE_EXPIRED: &str = "DELETE FROM idempotency WHERE (tenant_seq, key) IN
     (SELECT tenant_seq, key FROM idempotency WHERE expires_at <= ?1 ORDER BY expires_at LIMIT 4)";

#[derive(Debug, Clone)]
pub(crate) struct NewEvent {
    pub(crate) event_type: EventType,
    pub(crate) data: Box<RawValue>,
    pub(crate) idempotency_key: Option<String>,
    /// Chosen by the caller; unique among the events of the tenant.
    pub(crate) uid: Option<String>,
    /// An endpoint with channels gets only events that have one of them.
    pub(crate) channels: Vec<String>,
    /// For the filters of lists.
    pub(crate) tags: Vec<String>,
    /// How long the data is kept, if shorter than the tenant's setting.
    pub(crate) keep_ms: Option<Millis>,
}

impl NewEvent {
    /// Creates an event without a uid, channels and tags.
    pub(crate) fn new(event_type: EventType, data: Box<RawValue>) -> Self {
        Self {
            event_type,
            data,
            idempotency_key: None,
            uid: None,
            channels: Vec::new(),
            tags: Vec::new(),
            keep_ms: None,
        }
    }
}

/// The result of publishing an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Published {
    /// The event was stored with this number of deliveries.
    Accepted { event: i64, deliveries: i64, created_at: Millis },
    /// This event has been stored under this key before.
    Replayed { event: i64, deliveries: i64, created_at: Millis },
    /// Another event has been stored under this key before.
    Conflict { event: i64 },
    /// The tenant has an event with this uid already.
    Duplicate { event: i64 },
    /// A quota of the tenant does not admit the event.
    Refused(QuotaExceeded),
}

#[derive(Debug)]
pub(crate) struct EventRow {
    pub(crate) seq: i64,
    pub(crate) tenant: TenantSeq,
    pub(crate) uid: Option<String>,
    pub(crate) event_type: String,
    /// JSON; empty if the event was erased.
    pub(crate) data: Vec<u8>,
    pub(crate) channels: Vec<String>,
    pub(crate) tags: Vec<String>,
    pub(crate) created_at: Millis,
}

impl EventRow {
    /// Returns `true` if the data of the event was erased.
    pub(crate) fn is_erased(&self) -> bool {
        self.data.is_empty()
    }
}

/// Maximum size of the data of a page of events; the first event may have more.
const PAGE_BYTES: usize = 1 << 20;

pub(super) const COLUMNS: &str = "seq, type, tenant_seq, uid, data, channels, tags, created_at, checksum";

impl Store {
    /// Stores events with their deliveries in one commit. Returns one result per event, in order.
    pub(crate) async fn publish(
        &self,
        tenant: TenantSeq,
        events: Vec<NewEvent>,
    ) -> Result<Vec<Published>, StoreError> {
        let weight = events.iter().map(|event| self.rows_of(tenant, event)).sum();
        let bytes = events.iter().map(|event| event.data.get().len()).sum();
        let shortest = events.iter().filter_map(|event| event.keep_ms).min();
        let events: Vec<_> = events.into_iter().map(HashedEvent::new).collect();
        let published = self.write(weight, move |tx| {
            tx.space.check(tx.connection, bytes)?;
            events.iter().map(|event| publish(tx, tenant, event)).collect()
        });
        let published = published.await;
        if let Err(StoreError::Corrupt(_)) = published {
            // Helps the next call.
            self.rebuild_indexes_soon().await?;
        }
        if let Some(shortest) = shortest {
            self.shared.retention.wake_before(self.clock().retention_now().saturating_add(shortest));
        }
        published
    }

    /// Stores an event with one delivery, to an endpoint of the tenant whatever its filter is. The first attempt is shown as
    /// asked for.
    ///
    /// # Errors
    /// [`StoreError::NoEndpoint`].
    pub(crate) async fn publish_to(
        &self,
        tenant: TenantSeq,
        endpoint: i64,
        event: NewEvent,
    ) -> Result<Published, StoreError> {
        let event = HashedEvent::new(event);
        self.write(2, move |tx| {
            tx.space.check(tx.connection, event.event.data.get().len())?;
            publish_to(tx, tenant, endpoint, &event)
        })
        .await
    }

    /// Estimates how many rows an event takes, including its deliveries. The events of one call of [`Store::publish`]
    /// should take about [`MAX_WEIGHT`](super::MAX_WEIGHT) rows: a heavier call makes other callers wait.
    pub(crate) fn rows_of(&self, tenant: TenantSeq, event: &NewEvent) -> usize {
        self.shared.writer.fan_out().rows(tenant, event)
    }

    /// Returns an event of the tenant.
    pub(crate) async fn event(&self, tenant: TenantSeq, seq: i64) -> Result<Option<EventRow>, StoreError> {
        let found = self.shared.readers.read(move |connection| read_event(connection, seq)).await?;
        Ok(found.filter(|row| row.tenant == tenant))
    }

    /// Returns `true` if the tenant, or any tenant, has this event.
    pub(crate) async fn has_event(&self, tenant: Option<TenantSeq>, seq: i64) -> Result<bool, StoreError> {
        self.shared.readers.read(move |connection| has_event(connection, tenant, seq)).await
    }

    /// Returns the number of the event of the tenant with this uid.
    pub(crate) async fn event_with_uid(
        &self,
        tenant: TenantSeq,
        uid: String,
    ) -> Result<Option<i64>, StoreError> {
        self.shared.readers.read(move |connection| find_uid(connection, tenant, &uid)).await
    }

    /// Returns the newest event.
    pub(super) fn newest_event(connection: &Connection) -> rusqlite::Result<Option<i64>> {
        connection.query_row("SELECT max(seq) FROM events", [], |row| row.get(0))
    }

    /// Returns the events of a tenant, or of all tenants, newest first; `before` excludes that row and all newer rows.
    /// Returns at most `limit` events with data of about [`PAGE_BYTES`], and whether there are more.
    pub(crate) async fn events(
        &self,
        tenant: Option<TenantSeq>,
        filter: EventFilter,
        before: Option<i64>,
        limit: usize,
    ) -> Result<(ListPage<EventRow>, bool), StoreError> {
        let damage = Arc::clone(&self.shared.damage);
        self.shared
            .readers
            .read(move |connection| {
                let before = before.unwrap_or(i64::MAX);
                let (bytes, is_cut, budget) = (Cell::new(0), Cell::new(false), ScanBudget::new());
                let read = |before: i64, limit: usize, found: &mut Vec<Result<EventRow, Unreadable>>| {
                    let condition = of_tenant(tenant);
                    let mut statement = connection.prepare_cached(&format!(
                        "SELECT {COLUMNS} FROM events {condition} AND seq <= ?2 ORDER BY seq DESC"
                    ))?;
                    let mut rows = statement.query(params![tenant, before - 1])?;
                    let full = found.len() + limit;
                    while found.len() < full
                        && let Some(row) = rows.next()?
                    {
                        let seq = row.get(0)?;
                        let row = readable(from_row(row))?.map_err(|why| Unreadable { seq, why });
                        if row.as_ref().map_or(true, |row| filter.takes(row)) {
                            bytes.set(bytes.get() + row.as_ref().map_or(0, |row| row.data.len()));
                            if bytes.get() > PAGE_BYTES && !found.is_empty() {
                                is_cut.set(true);
                                return Ok(());
                            }
                            found.push(row);
                        }
                        if !budget.spend(seq) {
                            break;
                        }
                    }
                    Ok(())
                };
                let mut rows = newest_first(&damage, before, limit + 1, |row: &EventRow| row.seq, read)?;
                let more = is_cut.get() || rows.len() > limit;
                rows.truncate(limit);
                Ok((budget.page(rows), more))
            })
            .await
    }
}

/// Returns `true` if the tenant, or any tenant, has this event. Reads only the index of a tenant.
pub(super) fn has_event(
    connection: &Connection,
    tenant: Option<TenantSeq>,
    seq: i64,
) -> Result<bool, StoreError> {
    let sql = format!("SELECT 1 FROM events {} AND seq = ?2", of_tenant(tenant));
    Ok(connection.prepare_cached(&sql)?.exists(params![tenant, seq])?)
}

/// Returns the condition on the tenant, which is the first parameter, and the index that has its rows in order.
pub(super) fn of_tenant(tenant: Option<TenantSeq>) -> &'static str {
    match tenant {
        Some(_) => "INDEXED BY events_by_tenant WHERE tenant_seq = ?1",
        None => "NOT INDEXED WHERE ?1 IS NULL",
    }
}

/// An event with the hashes that the writer needs. They are computed before the event waits for the writer, in which all
/// other writes would wait for them.
struct HashedEvent {
    event: NewEvent,
    /// Of the content, for the checksum.
    content: [u8; 32],
    /// The idempotency key, and the hash by which a repeated request is recognised.
    key: Option<(String, [u8; 32])>,
}

impl HashedEvent {
    fn new(event: NewEvent) -> Self {
        let content = content_hash(event.event_type.as_str(), event.data.get().as_bytes());
        let key = event.idempotency_key.clone().map(|key| (key, request_hash(&event)));
        Self { event, content, key }
    }
}

fn publish(tx: &mut Tx<'_>, tenant: TenantSeq, hashed: &HashedEvent) -> Result<Published, StoreError> {
    let HashedEvent { event, content, key } = hashed;
    let routes = tx.routes.of(tx.connection, tenant)?;
    // Before the event is compared with stored events: a repeated request costs the writer as much as a new one.
    if let Err(exceeded) = tx.admit_request(tenant, &routes) {
        return Ok(Published::Refused(exceeded));
    }
    if let Some((key, hash)) = key
        && let Some(known) = known_key(tx, tenant, key, hash)?
    {
        return Ok(known);
    }
    if let Some(uid) = &event.uid
        && let Some(known) = find_uid(tx.connection, tenant, uid)?
    {
        return Ok(Published::Duplicate { event: known });
    }
    if let Err(exceeded) = tx.admit(tenant, &routes, event.data.get().len()) {
        return Ok(Published::Refused(exceeded));
    }
    let seq = store_event(tx, tenant, event, content)?;
    let mut deliveries = 0;
    for (endpoint, verdict) in routes.matching(event) {
        match verdict {
            RouteVerdict::Deliver => {
                insert_pending(tx, tenant, seq, endpoint, DueCause::Request)?;
                deliveries += 1;
            }
            RouteVerdict::Skip(reason) => insert_skipped(tx, tenant, seq, endpoint, reason)?,
        }
    }
    if let Some((key, hash)) = key {
        remember_key(tx, tenant, key, hash, seq, deliveries)?;
    }
    Ok(Published::Accepted { event: seq, deliveries, created_at: tx.wall })
}

/// Stores an event that is sent to one endpoint only, whatever the filter of the endpoint is.
fn publish_to(
    tx: &mut Tx<'_>,
    tenant: TenantSeq,
    endpoint: i64,
    hashed: &HashedEvent,
) -> Result<Published, StoreError> {
    let HashedEvent { event, content, key } = hashed;
    let routes = tx.routes.of(tx.connection, tenant)?;
    if !routes.endpoints().any(|known| known == endpoint) {
        return Err(StoreError::NoEndpoint);
    }
    if let Err(exceeded) = tx.admit_request(tenant, &routes) {
        return Ok(Published::Refused(exceeded));
    }
    if let Some((key, hash)) = key
        && let Some(known) = known_key(tx, tenant, key, hash)?
    {
        return Ok(known);
    }
    if let Err(exceeded) = tx.admit(tenant, &routes, event.data.get().len()) {
        return Ok(Published::Refused(exceeded));
    }
    let seq = store_event(tx, tenant, event, content)?;
    insert_pending(tx, tenant, seq, endpoint, DueCause::Manual)?;
    if let Some((key, hash)) = key {
        remember_key(tx, tenant, key, hash, seq, 1)?;
    }
    Ok(Published::Accepted { event: seq, deliveries: 1, created_at: tx.wall })
}

/// Stores an event without its deliveries. Returns its number.
fn store_event(
    tx: &mut Tx<'_>,
    tenant: TenantSeq,
    event: &NewEvent,
    content: &[u8; 32],
) -> Result<i64, StoreError> {
    step_counters(tx)?;
    tx.connection
        .prepare_cached(
            "INSERT INTO events (tenant_seq, uid, type, data, channels, tags, keep_ms, created_at, checksum)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            tenant,
            event.uid,
            event.event_type.as_str(),
            event.data.get().as_bytes(),
            event.channels.join(" "),
            event.tags.join(" "),
            event.keep_ms,
            tx.wall,
            checksum(content, tx.wall)
        ])?;
    let seq = tx.connection.last_insert_rowid();
    let wall = tx.wall;
    tx.added.push(seq, || EventRow {
        seq,
        tenant,
        uid: event.uid.clone(),
        event_type: event.event_type.as_str().to_owned(),
        data: event.data.get().as_bytes().to_owned(),
        channels: event.channels.clone(),
        tags: event.tags.clone(),
        created_at: wall,
    });
    tx.counts.accepted(tenant);
    Ok(seq)
}

/// Leaves a gap in the counters of rows that have public identifiers, so that no identifier is used twice. Not done at
/// the start, because the start would then fail on a full disk.
pub(super) fn step_counters(tx: &mut Tx<'_>) -> Result<(), StoreError> {
    if !tx.stepped {
        let random = getrandom::u64().map_err(|error| {
            StoreError::Io(format!("the operating system returned no random bytes: {error}"))
        })?;
        // A counter that was never used has no row, and starts at 1.
        tx.connection.execute(
            "UPDATE sqlite_sequence SET seq = seq + ?1 WHERE name IN
                 ('tenants', 'events', 'deliveries', 'endpoints', 'attempts', 'replays', 'erasures')",
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

/// Returns the checksum of the row of an erased event: that of an event without data, which no client can send. It shows
/// that a row without data was erased, and is not damaged.
pub(super) fn checksum_of_erased(event_type: &str, created_at: Millis) -> i64 {
    checksum(&content_hash(event_type, b""), created_at)
}

/// Returns the hash of all that a client sent, by which a repeated request is recognised. It does not depend on how the
/// data is written: encoders differ in the order of keys and in white space.
fn request_hash(event: &NewEvent) -> [u8; 32] {
    let mut hash = Sha256::new();
    let (channels, tags) = (event.channels.join(" "), event.tags.join(" "));
    // None of these texts contains a line break, and the data is last.
    for text in [event.event_type.as_str(), event.uid.as_deref().unwrap_or_default(), &channels, &tags] {
        hash.update(text);
        hash.update(b"\n");
    }
    let data = event.data.get();
    hash.update(json::canonical(data).unwrap_or_else(|| data.as_bytes().to_owned()));
    hash.finalize().into()
}

pub(super) fn find_uid(
    connection: &Connection,
    tenant: TenantSeq,
    uid: &str,
) -> Result<Option<i64>, StoreError> {
    let mut statement =
        connection.prepare_cached("SELECT seq FROM events WHERE tenant_seq = ?1 AND uid = ?2")?;
    Ok(statement.query_row(params![tenant, uid], |row| row.get(0)).optional()?)
}

fn known_key(
    tx: &Tx<'_>,
    tenant: TenantSeq,
    key: &str,
    hash: &[u8; 32],
) -> Result<Option<Published>, StoreError> {
    let known: Option<([u8; 32], i64, i64, Option<Millis>)> = tx
        .connection
        .prepare_cached(
            "SELECT i.hash, i.event_seq, i.deliveries, e.created_at FROM idempotency i
             LEFT JOIN events e ON e.seq = i.event_seq
             WHERE i.tenant_seq = ?1 AND i.key = ?2 AND i.expires_at > ?3",
        )?
        .query_row(params![tenant, key, tx.due_now], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })
        .optional()?;
    let Some((known_hash, event, deliveries, created_at)) = known else { return Ok(None) };
    Ok(Some(if known_hash == *hash {
        Published::Replayed { event, deliveries, created_at: created_at.unwrap_or(tx.wall) }
    } else {
        Published::Conflict { event }
    }))
}

fn remember_key(
    tx: &Tx<'_>,
    tenant: TenantSeq,
    key: &str,
    hash: &[u8; 32],
    event: i64,
    deliveries: i64,
) -> Result<(), StoreError> {
    // New events must not fail because an old key cannot be removed. The event that finds the damage fails: SQLite refuses
    // all further writes of its commit.
    if !tx.damage.is_in_file() {
        tx.connection.prepare_cached(REMOVE_EXPIRED)?.execute([tx.due_now])?;
    }
    let window = if key.starts_with(GENERATED_KEY) { GENERATED_KEY_WINDOW } else { IDEMPOTENCY_WINDOW };
    // OR REPLACE: the key may still exist although it has expired.
    tx.connection
        .prepare_cached(
            "INSERT OR REPLACE INTO idempotency (tenant_seq, key, hash, event_seq, deliveries, expires_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![tenant, key, hash, event, deliveries, tx.due_now + millis(window)])?;
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
    let text = |index| row.get_ref(index)?.as_str().map_err(rusqlite::Error::from);
    let found = EventRow {
        seq: row.get(0)?,
        event_type: row.get(1)?,
        tenant: row.get(2)?,
        uid: row.get(3)?,
        data: row.get::<_, Option<Vec<u8>>>(4)?.unwrap_or_default(),
        channels: split(text(5)?),
        tags: split(text(6)?),
        created_at: row.get(7)?,
    };
    let EventRow { seq, event_type, data, created_at, .. } = &found;
    if row.get::<_, i64>(8)? != checksum(&content_hash(event_type, data), *created_at) {
        return Err(StoreError::Corrupt(format!(
            "event {seq} does not have the checksum that it was stored with"
        )));
    }
    Ok(found)
}
