//! Lists deliveries and resends them, for the API.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::due::{self, DueCause, DueCounts, DueRow};
use super::{AttemptRow, DEAD, DELIVERED, DeliveryState, MISSING, PENDING, SKIPPED};
use crate::clock::{Clock, Millis};
use crate::store::backlog::Counted;
use crate::store::damage::{newest_first, readable};
use crate::store::events::read_event;
use crate::store::listing::{EventFilter, ListPage, ScanBudget};
use crate::store::writer::Tx;
use crate::store::{OnceKey, Store, StoreError, TenantSeq, Unreadable, Wake};

/// Maximum number of dead letters that one redrive makes pending.
const REDRIVEN_AT_ONCE: i64 = 256;

#[derive(Debug)]
pub(crate) struct DeliveryRow {
    pub(crate) seq: i64,
    pub(crate) tenant: TenantSeq,
    pub(crate) event: i64,
    /// The type of the event, or the reason why the event cannot be read.
    pub(crate) event_type: Result<String, String>,
    pub(crate) endpoint: i64,
    pub(crate) state: DeliveryState,
    pub(crate) attempts: u32,
    /// In calendar time; `None` if it is not pending.
    pub(crate) due_at: Option<Millis>,
    pub(crate) updated_at: Millis,
    /// Why it is dead or skipped.
    pub(crate) reason: Option<String>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct DeliveryFilter {
    /// `None` selects the deliveries of all tenants.
    pub(crate) tenant: Option<TenantSeq>,
    pub(crate) event: Option<i64>,
    pub(crate) endpoint: Option<i64>,
    pub(crate) state: Option<DeliveryState>,
    /// The first digit of the status of the last attempt.
    pub(crate) status_class: Option<u16>,
    /// Conditions on the event; its times are those of the last change of the delivery.
    pub(crate) of_event: EventFilter,
}

/// The result of a redrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Redriven {
    pub(crate) redriven: usize,
    /// `true` if matching dead letters are left for another call.
    pub(crate) more: bool,
}

const COLUMNS: &str =
    "d.seq, d.event_seq, d.endpoint_seq, d.state, d.attempts, d.due_at, d.updated_at, d.reason,
     d.last_attempt,
     d.tenant_seq";

/// Maximum number of attempts of a delivery that are returned: the latest.
const MAX_LOGGED: usize = 1_000;

impl Store {
    /// Returns a delivery of the tenant with its attempts, oldest first.
    pub(crate) async fn delivery(
        &self,
        tenant: TenantSeq,
        seq: i64,
    ) -> Result<Option<(DeliveryRow, Vec<AttemptRow>)>, StoreError> {
        let clock = self.clock().clone();
        self.shared
            .readers
            .read(move |connection| {
                let row = connection
                    .prepare_cached(&format!(
                        "SELECT {COLUMNS} FROM deliveries d WHERE d.seq = ?2 AND d.tenant_seq = ?1"
                    ))?
                    .query_row(params![tenant, seq], |row| {
                        Ok(from_row(connection, &clock, row).map(|found| (found, row.get(8))))
                    })
                    .optional()?
                    .transpose()?;
                let Some((row, last)) = row else { return Ok(None) };
                let attempts = attempts(connection, last?)?;
                Ok(Some((row, attempts)))
            })
            .await
    }

    /// Returns deliveries, newest first; `before` excludes that row and all newer rows.
    pub(crate) async fn deliveries(
        &self,
        filter: DeliveryFilter,
        before: Option<i64>,
        limit: usize,
    ) -> Result<ListPage<DeliveryRow>, StoreError> {
        let damage = Arc::clone(&self.shared.damage);
        let before = before.unwrap_or(i64::MAX);
        let clock = self.clock().clone();
        self.shared
            .readers
            .read(move |connection| {
                let budget = ScanBudget::new();
                let rows = newest_first(
                    &damage,
                    before,
                    limit,
                    |row: &DeliveryRow| row.seq,
                    |before, limit, found| list(connection, &clock, &filter, &budget, before, limit, found),
                );
                Ok(budget.page(rows?))
            })
            .await
    }

    /// Makes a delivery of the tenant due now, whatever its state is, and resets its count of attempts. The tenant's rate
    /// and backlog apply as to an event.
    ///
    /// Returns `Ok(None)` if there is no such delivery, and `Ok(Some(false))` if its endpoint is deleted.
    ///
    /// # Errors
    /// [`StoreError::Erased`].
    pub(crate) async fn resend(&self, tenant: TenantSeq, delivery: i64) -> Result<Option<bool>, StoreError> {
        self.write(1, move |tx| {
            let found: Option<(i64, i64)> = tx
                .connection
                .prepare_cached(
                    "SELECT endpoint_seq, state FROM deliveries WHERE seq = ?2 AND tenant_seq = ?1",
                )?
                .query_row(params![tenant, delivery], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            let Some((endpoint, state)) = found else { return Ok(None) };
            if !endpoint_exists(tx, endpoint)? {
                return Ok(Some(false));
            }
            check_erased(tx, "SELECT event_seq FROM deliveries WHERE seq = ?1", delivery)?;
            if state != PENDING {
                tx.backlog_left(tenant)?;
            }
            tx.admit_resend(tenant)?;
            revive(tx, tenant, delivery, endpoint, DueCause::Request)?;
            Ok(Some(true))
        })
        .await
    }

    /// Makes an event of the tenant due now at one of its endpoints. If there is no such delivery, it is created: the
    /// event was published before the endpoint, or the endpoint did not select it. The tenant's rate and backlog apply as to
    /// an event. Returns `false` if the event or the endpoint does not exist. Done once for all requests with the key.
    ///
    /// # Errors
    /// [`StoreError::Erased`].
    pub(crate) async fn send_again(
        &self,
        tenant: TenantSeq,
        event: i64,
        endpoint: i64,
        once: Option<OnceKey>,
    ) -> Result<bool, StoreError> {
        self.write(1, move |tx| {
            if let Some(once) = &once
                && once.find(tx, Some(tenant))?.is_some()
            {
                return Ok(true);
            }
            let own = "SELECT 1 FROM events v, endpoints e WHERE v.seq = ?2 AND v.tenant_seq = ?1
                 AND e.seq = ?3 AND e.tenant_seq = ?1 AND e.deleted_at IS NULL";
            if !tx.connection.prepare_cached(own)?.exists(params![tenant, event, endpoint])? {
                return Ok(false);
            }
            check_erased(tx, "SELECT ?1", event)?;
            let known: Option<(i64, i64)> = tx
                .connection
                .prepare_cached(
                    "SELECT seq, state FROM deliveries INDEXED BY deliveries_by_event
                     WHERE event_seq = ?1 AND endpoint_seq = ?2",
                )?
                .query_row(params![event, endpoint], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            if known.is_none_or(|(_, state)| state != PENDING) {
                tx.backlog_left(tenant)?;
            }
            tx.admit_resend(tenant)?;
            match known {
                Some((delivery, _)) => revive(tx, tenant, delivery, endpoint, DueCause::Request)?,
                None => {
                    tx.space.check_row(tx.connection)?;
                    due::insert_pending(tx, tenant, event, endpoint, DueCause::Request)?;
                }
            }
            if let Some(once) = &once {
                once.remember(tx, Some(tenant), event)?;
            }
            Ok(true)
        })
        .await
    }

    /// Makes dead letters of the tenant due now, endpoint by endpoint and oldest first. `endpoint` selects one endpoint;
    /// `None` selects all that are not deleted. The tenant's rate and backlog apply to each dead letter: the redrive stops
    /// at the first that they do not admit.
    ///
    /// # Errors
    /// [`StoreError::Quota`] if they do not admit the first one.
    pub(crate) async fn redrive(
        &self,
        tenant: TenantSeq,
        endpoint: Option<i64>,
    ) -> Result<Redriven, StoreError> {
        self.write(REDRIVEN_AT_ONCE as usize, move |tx| {
            let letters: Vec<(i64, i64)> = tx
                .connection
                .prepare_cached(
                    "SELECT d.seq, d.endpoint_seq FROM endpoints p
                     CROSS JOIN deliveries d INDEXED BY deliveries_dead ON d.endpoint_seq = p.seq AND d.state = 2
                     WHERE p.tenant_seq = ?1 AND p.deleted_at IS NULL AND (?2 IS NULL OR p.seq = ?2)
                     ORDER BY p.seq, d.seq LIMIT ?3",
                )?
                .query_map(params![tenant, endpoint, REDRIVEN_AT_ONCE + 1], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })?
                .collect::<Result<_, _>>()?;
            if letters.is_empty() {
                return Ok(Redriven { redriven: 0, more: false });
            }
            let left = usize::try_from(tx.backlog_left(tenant)?).unwrap_or(usize::MAX);
            let mut redriven = 0;
            for (delivery, endpoint) in letters.iter().take(left.min(REDRIVEN_AT_ONCE as usize)) {
                match tx.admit_resend(tenant) {
                    Ok(()) => revive(tx, tenant, *delivery, *endpoint, DueCause::Request)?,
                    Err(StoreError::Quota(_)) if redriven > 0 => break,
                    Err(error) => return Err(error),
                }
                redriven += 1;
            }
            Ok(Redriven { redriven, more: letters.len() > redriven })
        })
        .await
    }
}

/// Returns the attempts that end with the row `last`, oldest first. Each row names the one before it.
pub(super) fn attempts(connection: &Connection, last: Option<i64>) -> Result<Vec<AttemptRow>, StoreError> {
    let columns = AttemptRow::COLUMNS;
    let mut statement = connection
        .prepare_cached(&format!("SELECT {columns}, a.previous FROM attempts a WHERE a.seq = ?1"))?;
    let mut found = Vec::new();
    let mut next = last;
    while let Some(seq) = next.filter(|_| found.len() < MAX_LOGGED) {
        let row =
            statement.query_row([seq], |row| Ok((AttemptRow::read(row)?, row.get::<_, Option<i64>>(10)?)));
        let Some((row, previous)) = row.optional()? else { break };
        found.push(row);
        // A damaged row could name a later one.
        next = previous.filter(|previous| *previous < seq);
    }
    found.reverse();
    Ok(found)
}

fn endpoint_exists(tx: &Tx<'_>, endpoint: i64) -> Result<bool, StoreError> {
    Ok(tx
        .connection
        .prepare_cached("SELECT 1 FROM endpoints WHERE seq = ?1 AND deleted_at IS NULL")?
        .exists([endpoint])?)
}

/// Returns an error if the event that a query selects was erased.
fn check_erased(tx: &Tx<'_>, event: &str, key: i64) -> Result<(), StoreError> {
    let sql = format!("SELECT 1 FROM events WHERE seq = ({event}) AND data IS NULL");
    if tx.connection.prepare_cached(&sql)?.exists([key])? { Err(StoreError::Erased) } else { Ok(()) }
}

/// Makes a delivery due now, whatever its state is, and resets its count of attempts.
pub(in crate::store) fn revive(
    tx: &mut Tx<'_>,
    tenant: TenantSeq,
    delivery: i64,
    endpoint: i64,
    cause: DueCause,
) -> Result<(), StoreError> {
    let known: (i64, Option<Millis>) = tx
        .connection
        .prepare_cached("SELECT state, due_at FROM deliveries WHERE seq = ?1")?
        .query_row([delivery], |row| Ok((row.get(0)?, row.get(1)?)))?;
    if known.0 == DEAD {
        tx.backlog.add(Counted::Dead, endpoint, -1);
    }
    if let (PENDING, Some(due_at)) = known {
        due::take(tx, endpoint, due_at, delivery)?;
    }
    let (event, round) = tx
        .connection
        .prepare_cached(
            "UPDATE deliveries SET state = 0, round = round + 1, due_at = ?2, updated_at = ?3, reason = NULL
             WHERE seq = ?1 RETURNING event_seq, round",
        )?
        .query_row(params![delivery, tx.due_now, tx.wall], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let counts = DueCounts::default();
    let is_replay = cause == DueCause::Replay;
    DueRow { endpoint, due_at: tx.due_now, delivery, event, round, counts, is_replay }.insert(tx)?;
    tx.wake(tenant, endpoint, Wake::Revived(tx.due_now));
    Ok(())
}

/// The rows of an index that a list reads.
struct Scanned {
    sql: &'static str,
    key: Option<i64>,
}

impl Scanned {
    /// Returns the index with the fewest rows. Without `INDEXED BY` SQLite would scan all deliveries to find a few. A
    /// partial index needs the state as a literal.
    fn of(filter: &DeliveryFilter) -> Self {
        let tenant = filter.tenant.map(TenantSeq::number);
        let (sql, key) = match *filter {
            DeliveryFilter { event: Some(event), .. } => {
                ("INDEXED BY deliveries_by_event WHERE d.event_seq = ?1", Some(event))
            }
            DeliveryFilter { state: Some(DeliveryState::Dead), endpoint: Some(endpoint), .. } => {
                ("INDEXED BY deliveries_dead WHERE d.endpoint_seq = ?1 AND d.state = 2", Some(endpoint))
            }
            DeliveryFilter { state: Some(DeliveryState::Skipped), endpoint: Some(endpoint), .. } => {
                ("INDEXED BY deliveries_skipped WHERE d.endpoint_seq = ?1 AND d.state = 3", Some(endpoint))
            }
            DeliveryFilter { state: Some(DeliveryState::Pending), tenant: Some(_), .. } => {
                ("INDEXED BY deliveries_pending WHERE d.tenant_seq = ?1 AND d.state = 0", tenant)
            }
            DeliveryFilter { endpoint: Some(endpoint), .. } => {
                ("INDEXED BY deliveries_by_endpoint WHERE d.endpoint_seq = ?1", Some(endpoint))
            }
            DeliveryFilter { state: Some(DeliveryState::Dead), tenant: Some(_), .. } => {
                ("INDEXED BY deliveries_dead_all WHERE d.tenant_seq = ?1 AND d.state = 2", tenant)
            }
            DeliveryFilter { state: Some(DeliveryState::Skipped), tenant: Some(_), .. } => {
                ("INDEXED BY deliveries_skipped_all WHERE d.tenant_seq = ?1 AND d.state = 3", tenant)
            }
            DeliveryFilter { tenant: Some(_), .. } => {
                ("INDEXED BY deliveries_by_tenant WHERE d.tenant_seq = ?1", tenant)
            }
            // From the table itself.
            DeliveryFilter { .. } => ("NOT INDEXED WHERE ?1 IS NULL", None),
        };
        Self { sql, key }
    }
}

fn list(
    connection: &Connection,
    clock: &Clock,
    filter: &DeliveryFilter,
    budget: &ScanBudget,
    before: i64,
    limit: usize,
    found: &mut Vec<Result<DeliveryRow, Unreadable>>,
) -> Result<(), StoreError> {
    let Scanned { sql, key } = Scanned::of(filter);
    let sql = format!("SELECT {COLUMNS} FROM deliveries d {sql} AND d.seq <= ?2 ORDER BY d.seq DESC");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params![key, before - 1])?;
    let full = found.len() + limit;
    while found.len() < full
        && let Some(row) = rows.next()?
    {
        let seq = row.get(0)?;
        match readable(wanted(connection, clock, filter, row))? {
            Ok(Some(row)) => found.push(Ok(row)),
            Ok(None) => {}
            Err(why) => found.push(Err(Unreadable { seq, why })),
        }
        if !budget.spend(seq) {
            break;
        }
    }
    Ok(())
}

/// Returns the delivery of a row if all conditions select it.
fn wanted(
    connection: &Connection,
    clock: &Clock,
    filter: &DeliveryFilter,
    row: &Row<'_>,
) -> Result<Option<DeliveryRow>, StoreError> {
    if filter.tenant.is_some_and(|tenant| row.get(9) != Ok(tenant)) {
        return Ok(None);
    }
    let found = from_row(connection, clock, row)?;
    let selected = filter.event.is_none_or(|event| event == found.event)
        && filter.endpoint.is_none_or(|endpoint| endpoint == found.endpoint)
        && filter.state.is_none_or(|state| state == found.state)
        && filter.of_event.has_time(found.updated_at);
    if !selected {
        return Ok(None);
    }
    if let Some(class) = filter.status_class
        && status_of(connection, row.get(8)?)?.is_none_or(|status| status / 100 != class)
    {
        return Ok(None);
    }
    let EventFilter { types, channel, tag, .. } = filter.of_event.clone();
    let of_event = EventFilter { types, channel, tag, since: None, until: None };
    if !of_event.is_empty() {
        // An event that cannot be read has no type and no channel.
        let event = readable(read_event(connection, found.event))?;
        if !matches!(event, Ok(Some(event)) if of_event.takes(&event)) {
            return Ok(None);
        }
    }
    Ok(Some(found))
}

/// Returns the status of an attempt, if it had a response.
pub(in crate::store) fn status_of(
    connection: &Connection,
    attempt: Option<i64>,
) -> Result<Option<u16>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT status FROM attempts WHERE seq = ?1")?;
    Ok(statement.query_row([attempt], |row| row.get(0)).optional()?.flatten())
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
        SKIPPED => DeliveryState::Skipped,
        other => return Err(StoreError::Corrupt(format!("a delivery has the unknown state {other}"))),
    };
    Ok(DeliveryRow {
        seq: row.get(0)?,
        tenant: row.get(9)?,
        event: row.get(1)?,
        event_type: event_type(connection, row.get(1)?)?,
        endpoint: row.get(2)?,
        state,
        attempts: row.get(4)?,
        due_at: row.get::<_, Option<Millis>>(5)?.map(|due_at| clock.to_calendar(due_at)),
        updated_at: row.get(6)?,
        reason: row.get(7)?,
    })
}
