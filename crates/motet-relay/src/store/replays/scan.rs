//! Finds the events that a job sends to an endpoint, in pages of a bounded number of rows.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{ReplayFilter, ReplayMode};
use crate::clock::Millis;
use crate::pattern::Pattern;
use crate::store::damage::{Damage, end_of_damage, readable};
use crate::store::deliveries::status_of;
use crate::store::endpoints::EndpointRow;
use crate::store::listing::EventFilter;
use crate::store::routes::split;
use crate::store::{EventRow, StoreError, TenantSeq};

/// The times of events follow their numbers only roughly, because the system's clock can be set back. A search by time
/// begins this much earlier.
const CLOCK_MARGIN: Millis = 24 * 60 * 60 * 1_000;

const PENDING: i64 = 0;
const DELIVERED: i64 = 1;
const DEAD: i64 = 2;
const SKIPPED: i64 = 3;

/// The conditions of a job, parsed.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) tenant: TenantSeq,
    pub(super) mode: ReplayMode,
    pub(super) filter: ReplayFilter,
    of_event: EventFilter,
    /// The last event or delivery of the walk.
    last: i64,
}

impl Job {
    pub(super) fn new(
        tenant: TenantSeq,
        mode: ReplayMode,
        filter: &ReplayFilter,
        last: i64,
    ) -> Result<Self, StoreError> {
        let parse = |text: &String| {
            Pattern::parse(text).map_err(|e| StoreError::Corrupt(format!("stored pattern {text:?} {e}")))
        };
        let types = filter.event_types.as_ref();
        let of_event = EventFilter {
            types: types.map(|types| types.iter().map(parse).collect()).transpose()?,
            channel: filter.channel.clone(),
            tag: filter.tag.clone(),
            since: filter.since,
            until: filter.until,
        };
        Ok(Self { tenant, mode, filter: filter.clone(), of_event, last })
    }
}

impl ReplayMode {
    /// Returns `true` if the walk is over the events of the tenant, and `false` if it is over deliveries of the endpoint.
    pub(super) const fn walks_events(self) -> bool {
        self.states().is_empty()
    }

    /// The states of the deliveries that a walk over deliveries selects.
    pub(super) const fn states(self) -> &'static [i64] {
        match self {
            Self::Failed => &[DEAD],
            Self::Skipped => &[SKIPPED],
            Self::Delivered => &[DELIVERED],
            Self::Sent => &[DELIVERED, DEAD],
            Self::Missing | Self::All => &[],
        }
    }
}

/// An event that a job sends to an endpoint, unless it changes before its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate {
    /// The number of the event or the delivery that the walk has reached with it.
    pub(super) position: i64,
    pub(super) event: i64,
    pub(super) published_at: Millis,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct ScanLimits {
    pub(super) candidates: usize,
    pub(super) rows: usize,
}

#[derive(Debug, Default)]
pub(super) struct ScanPage {
    pub(super) candidates: Vec<Candidate>,
    /// The last row that was looked at.
    pub(super) cursor: i64,
    /// Number of rows that were looked at.
    pub(super) looked: usize,
    /// `true` if no row is left.
    pub(super) is_end: bool,
}

/// Returns the next candidates after a position. Rows that cannot be read are left out.
pub(super) fn scan(
    connection: &Connection,
    damage: &Damage,
    job: &Job,
    endpoint: &EndpointRow,
    after: i64,
    limits: ScanLimits,
) -> Result<ScanPage, StoreError> {
    let mut page = ScanPage { cursor: after, ..ScanPage::default() };
    loop {
        let Err(why) = readable(walk(connection, job, endpoint, limits, &mut page))? else { return Ok(page) };
        damage.note(&why);
        let from = page.cursor;
        let first = |distance| {
            let mut probe = ScanPage { cursor: from.saturating_add(distance), ..ScanPage::default() };
            walk(connection, job, endpoint, ScanLimits { candidates: 1, rows: 1 }, &mut probe)
        };
        match end_of_damage(job.last.saturating_sub(from).max(1), first)? {
            Some(distance) => page.cursor = from.saturating_add(distance),
            None => (page.cursor, page.is_end) = (job.last, true),
        }
        page.looked += 1;
        if page.is_end || page.looked >= limits.rows {
            return Ok(page);
        }
    }
}

fn walk(
    connection: &Connection,
    job: &Job,
    endpoint: &EndpointRow,
    limits: ScanLimits,
    page: &mut ScanPage,
) -> Result<(), StoreError> {
    // A partial index needs the state as a literal.
    let sql = match job.mode {
        ReplayMode::Failed => {
            "SELECT d.seq, d.event_seq, d.last_attempt, d.state FROM deliveries d INDEXED BY deliveries_dead
             WHERE d.endpoint_seq = ?1 AND d.state = 2 AND d.seq > ?2 AND d.seq <= ?3 ORDER BY d.seq"
        }
        ReplayMode::Skipped => {
            "SELECT d.seq, d.event_seq, d.last_attempt, d.state FROM deliveries d INDEXED BY deliveries_skipped
             WHERE d.endpoint_seq = ?1 AND d.state = 3 AND d.seq > ?2 AND d.seq <= ?3 ORDER BY d.seq"
        }
        ReplayMode::Delivered | ReplayMode::Sent => {
            "SELECT d.seq, d.event_seq, d.last_attempt, d.state FROM deliveries d INDEXED BY deliveries_by_endpoint
             WHERE d.endpoint_seq = ?1 AND d.seq > ?2 AND d.seq <= ?3 ORDER BY d.seq"
        }
        ReplayMode::Missing | ReplayMode::All => {
            "SELECT v.seq, v.type, v.tenant_seq, v.channels, v.tags, v.created_at, v.data IS NULL
             FROM events v INDEXED BY events_by_tenant
             WHERE v.tenant_seq = ?1 AND v.seq > ?2 AND v.seq <= ?3 ORDER BY v.seq"
        }
    };
    let key = if job.mode.walks_events() { job.tenant.number() } else { endpoint.seq };
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![key, page.cursor, job.last])?;
    while let Some(row) = rows.next()? {
        let position = row.get(0)?;
        let selected = if job.mode.walks_events() {
            of_event(connection, job, endpoint, row)?
        } else {
            of_delivery(connection, job, row)?
        };
        page.looked += 1;
        page.cursor = position;
        if let Some(event) = selected {
            let EventRow { seq, created_at, .. } = event;
            page.candidates.push(Candidate { position, event: seq, published_at: created_at });
        }
        if page.looked >= limits.rows || page.candidates.len() >= limits.candidates {
            return Ok(());
        }
    }
    (page.cursor, page.is_end) = (job.last, true);
    Ok(())
}

/// Returns the event of a row of events if the job sends it to the endpoint.
fn of_event(
    connection: &Connection,
    job: &Job,
    endpoint: &EndpointRow,
    row: &Row<'_>,
) -> Result<Option<EventRow>, StoreError> {
    let Some(event) = event_without_data(row)?.filter(|event| job.of_event.takes(event)) else {
        return Ok(None);
    };
    let known = delivery_of(connection, event.seq, endpoint.seq)?;
    let is_selected = match known {
        None => job.filter.status_class.is_none() && takes(endpoint, &event),
        Some(KnownDelivery { state, last_attempt, .. }) => {
            job.mode == ReplayMode::All && state != PENDING && has_status(connection, job, last_attempt)?
        }
    };
    Ok(Some(event).filter(|_| is_selected))
}

/// Returns the event of a row of deliveries if the job sends it.
fn of_delivery(connection: &Connection, job: &Job, row: &Row<'_>) -> Result<Option<EventRow>, StoreError> {
    if !job.mode.states().contains(&row.get(3)?) {
        return Ok(None);
    }
    let sql =
        "SELECT seq, type, tenant_seq, channels, tags, created_at, data IS NULL FROM events WHERE seq = ?1";
    let event = connection
        .prepare_cached(sql)?
        .query_row([row.get::<_, i64>(1)?], |row| Ok(event_without_data(row)))
        .optional()?
        .transpose()?
        .flatten();
    let Some(event) = event.filter(|event| job.of_event.takes(event)) else { return Ok(None) };
    let is_selected = has_status(connection, job, row.get(2)?)?;
    Ok(Some(event).filter(|_| is_selected))
}

/// Reads an event without its data. An erased event cannot be sent.
fn event_without_data(row: &Row<'_>) -> Result<Option<EventRow>, StoreError> {
    if row.get(6)? {
        return Ok(None);
    }
    let text = |index| row.get_ref(index)?.as_str().map_err(rusqlite::Error::from);
    Ok(Some(EventRow {
        seq: row.get(0)?,
        tenant: row.get(2)?,
        uid: None,
        event_type: row.get(1)?,
        data: Vec::new(),
        channels: split(text(3)?),
        tags: split(text(4)?),
        created_at: row.get(5)?,
    }))
}

fn has_status(connection: &Connection, job: &Job, last_attempt: Option<i64>) -> Result<bool, StoreError> {
    let Some(class) = job.filter.status_class else { return Ok(true) };
    Ok(status_of(connection, last_attempt)?.is_some_and(|status| status / 100 == class))
}

/// Returns `true` if a new event like this one would go to the endpoint.
fn takes(endpoint: &EndpointRow, event: &EventRow) -> bool {
    let EndpointRow { patterns, channels, .. } = endpoint;
    patterns.iter().any(|pattern| pattern.selects(&event.event_type))
        && (channels.is_empty() || channels.iter().any(|channel| event.channels.contains(channel)))
}

/// The delivery of an event to an endpoint.
#[derive(Debug, Clone, Copy)]
pub(super) struct KnownDelivery {
    pub(super) seq: i64,
    pub(super) state: i64,
    last_attempt: Option<i64>,
}

impl KnownDelivery {
    pub(super) const fn is_pending(&self) -> bool {
        self.state == PENDING
    }
}

pub(super) fn delivery_of(
    connection: &Connection,
    event: i64,
    endpoint: i64,
) -> Result<Option<KnownDelivery>, StoreError> {
    let sql = "SELECT seq, state, last_attempt FROM deliveries INDEXED BY deliveries_by_event
         WHERE event_seq = ?1 AND endpoint_seq = ?2";
    let read =
        |row: &Row<'_>| Ok(KnownDelivery { seq: row.get(0)?, state: row.get(1)?, last_attempt: row.get(2)? });
    Ok(connection.prepare_cached(sql)?.query_row(params![event, endpoint], read).optional()?)
}

/// Returns the position before the events of the tenant that were published from a time on, by a binary search.
pub(super) fn first_event_since(
    connection: &Connection,
    tenant: TenantSeq,
    since: Millis,
) -> Result<i64, StoreError> {
    let since = since.saturating_sub(CLOCK_MARGIN);
    let newest = "SELECT max(seq) FROM events INDEXED BY events_by_tenant WHERE tenant_seq = ?1";
    let newest: Option<i64> = connection.prepare_cached(newest)?.query_row([tenant], |row| row.get(0))?;
    let mut next = connection.prepare_cached(
        "SELECT seq, created_at FROM events INDEXED BY events_by_tenant
         WHERE tenant_seq = ?1 AND seq >= ?2 ORDER BY seq LIMIT 1",
    )?;
    let (mut low, mut high) = (0, newest.unwrap_or(0).saturating_add(1));
    while low < high {
        let middle = low + (high - low) / 2;
        let found: Option<(i64, Millis)> =
            next.query_row(params![tenant, middle], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        match found {
            Some((seq, at)) if at < since => low = seq + 1,
            _ => high = middle,
        }
    }
    Ok(low - 1)
}
