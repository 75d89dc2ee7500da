//! Replays: jobs that send past events again.
//!
//! A job has a part for each of its endpoints, with a cursor of its own, so that an endpoint that takes no deliveries stops
//! no other. A part is a walk over events or over deliveries, oldest first: [`scan`](scan()) finds the candidates in pages of a
//! bounded number of rows, and [`steps`] makes a few deliveries due and moves the cursor in the same commit. So a job that
//! is interrupted at any moment continues where it was, and makes no delivery due twice.

mod reach;
mod scan;
mod signal;
mod steps;

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub(super) use self::reach::ReplayReach;
use self::scan::{Job, ScanLimits, ScanPage, first_event_since, scan};
pub(super) use self::signal::ReplaySignal;
pub(crate) use self::signal::ReplayWake;
#[cfg(test)]
pub(crate) use self::steps::ReplayRates;
pub(crate) use self::steps::{ReplayLimits, ReplayPart, ReplayStep};
use super::endpoints::EndpointRow;
use super::events::step_counters;
use super::listing::ScanBudget;
use super::writer::Tx;
use super::{ListPage, OnceKey, Store, StoreError, TenantSeq, policy, tenants};
use crate::clock::Millis;

/// Number of jobs of a tenant that may run at once.
pub(crate) const MAX_RUNNING: usize = 10;

/// Number of endpoints that one job may have.
pub(crate) const MAX_ENDPOINTS: usize = 1_000;

/// A plan counts up to this number of deliveries, and looks at up to this number of rows.
const MAX_PLANNED: u64 = 100_000;
const MAX_LOOKED_AT: usize = 250_000;

/// Number of rows that one read of a plan looks at.
const PAGE: usize = 1_000;

/// The ended jobs of a tenant that are kept: a new job removes a few of the older ones.
const OLDER: &str = "SELECT seq FROM replays INDEXED BY replays_by_tenant
     WHERE tenant_seq = ?1 AND state <> 'running' ORDER BY seq DESC LIMIT 4 OFFSET 1000";

/// The events that a job sends to an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ReplayMode {
    /// Those whose delivery is a dead letter.
    Failed,
    /// Those whose delivery was skipped.
    Skipped,
    /// Those without a delivery that the endpoint would get now: it was created later, or its filter was changed.
    Missing,
    /// Those that were delivered.
    Delivered,
    /// Those that were delivered, and those whose delivery is a dead letter.
    Sent,
    /// Those whose delivery has ended, and those that are missing.
    All,
}

impl ReplayMode {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Missing => "missing",
            Self::Delivered => "delivered",
            Self::Sent => "sent",
            Self::All => "all",
        }
    }

    fn read(stored: &str) -> Result<Self, StoreError> {
        [Self::Failed, Self::Skipped, Self::Missing, Self::Delivered, Self::Sent, Self::All]
            .into_iter()
            .find(|mode| mode.as_str() == stored)
            .ok_or_else(|| StoreError::Corrupt(format!("a replay has the unknown mode {stored:?}")))
    }
}

/// The state of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ReplayState {
    Running,
    Finished,
    Cancelled,
    Failed,
}

impl ReplayState {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Finished => "finished",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
        }
    }

    fn read(stored: &str) -> Result<Self, StoreError> {
        [Self::Running, Self::Finished, Self::Cancelled, Self::Failed]
            .into_iter()
            .find(|state| state.as_str() == stored)
            .ok_or_else(|| StoreError::Corrupt(format!("a replay has the unknown state {stored:?}")))
    }
}

/// Conditions on the events of a job, and its rate.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ReplayFilter {
    /// When the event was published: from this time on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) since: Option<Millis>,
    /// Before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) until: Option<Millis>,
    /// Patterns, one of which must match; `None` selects all event types.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) event_types: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) channel: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tag: Option<String>,
    /// The first digit of the status of the last attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) status_class: Option<u16>,
    /// Maximum number of deliveries per second and endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rate: Option<u32>,
    /// `true` for a `bulk-replay` of Svix's API, which shows the kinds of its tasks.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) is_bulk: bool,
}

/// A job to be created.
#[derive(Debug, Clone)]
pub(crate) struct NewReplay {
    pub(crate) mode: ReplayMode,
    /// `None` selects all endpoints of the tenant.
    pub(crate) endpoint: Option<i64>,
    pub(crate) filter: ReplayFilter,
    /// The id of the API key.
    pub(crate) requested_by: Option<String>,
    /// The job is created once for all requests with this key.
    pub(crate) once: Option<OnceKey>,
}

/// The number of deliveries that a job would make, by endpoint.
#[derive(Debug, Clone, Default)]
pub(crate) struct ReplayPlan {
    pub(crate) endpoints: Vec<PlannedPart>,
    /// `true` if the count ended at its limit.
    pub(crate) more: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PlannedPart {
    pub(crate) endpoint: i64,
    pub(crate) planned: u64,
    /// Where the walk over the events begins.
    from: i64,
}

impl ReplayPlan {
    pub(crate) fn total(&self) -> u64 {
        self.endpoints.iter().map(|part| part.planned).sum()
    }
}

/// A stored job.
#[derive(Debug, Clone)]
pub(crate) struct ReplayRow {
    pub(crate) seq: i64,
    pub(crate) tenant: TenantSeq,
    pub(crate) endpoint: Option<i64>,
    pub(crate) mode: ReplayMode,
    pub(crate) filter: ReplayFilter,
    pub(crate) state: ReplayState,
    pub(crate) planned: u64,
    /// `true` if the count of the plan ended at its limit.
    pub(crate) planned_more: bool,
    pub(crate) done: u64,
    pub(crate) skipped: u64,
    pub(crate) requested_by: Option<String>,
    pub(crate) error: Option<String>,
    pub(crate) created_at: Millis,
    pub(crate) updated_at: Millis,
    pub(crate) finished_at: Option<Millis>,
}

/// The progress of a job at an endpoint.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReplayPartRow {
    pub(crate) endpoint: i64,
    pub(crate) planned: u64,
    pub(crate) done: u64,
    pub(crate) skipped: u64,
    pub(crate) is_finished: bool,
    /// `true` if the part waits because the endpoint is disabled.
    pub(crate) is_held: bool,
}

/// The events that an endpoint did not get while it did not exist or was disabled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct MissedEvents {
    pub(crate) count: u64,
    /// `true` if the count ended at its limit.
    pub(crate) more: bool,
    /// When the first of them was published.
    pub(crate) since: Option<Millis>,
}

/// The result of a cancellation.
#[derive(Debug)]
pub(crate) enum Cancelled {
    /// The job is cancelled, by this call or an earlier one.
    Done(Box<ReplayRow>),
    /// The job has ended before.
    Ended(ReplayState),
}

const COLUMNS: &str =
    "seq, tenant_seq, endpoint_seq, mode, filter, state, planned, planned_more, done, skipped,
     requested_by, error, created_at, updated_at, finished_at";

impl Store {
    /// Counts the deliveries that a job would make. Reads pages of a bounded number of rows.
    ///
    /// # Errors
    /// [`StoreError::NoEndpoint`]; [`StoreError::Invalid`] if the tenant has too many endpoints for one job.
    pub(crate) async fn plan_replay(
        &self,
        tenant: TenantSeq,
        new: &NewReplay,
    ) -> Result<ReplayPlan, StoreError> {
        let endpoints = match new.endpoint {
            Some(seq) => vec![self.endpoint(tenant, seq).await?.ok_or(StoreError::NoEndpoint)?],
            None => self.endpoints(Some(tenant), None, MAX_ENDPOINTS + 1).await?,
        };
        if endpoints.len() > MAX_ENDPOINTS {
            return Err(StoreError::Invalid(format!(
                "the tenant has more than {MAX_ENDPOINTS} endpoints; a replay of that tenant must name one"
            )));
        }
        let job = self.unbounded_job(tenant, new.mode, &new.filter)?;
        let from = match new.filter.since.filter(|_| new.mode.walks_events()) {
            Some(since) => {
                let find = move |connection: &Connection| first_event_since(connection, tenant, since);
                self.shared.readers.read(find).await?
            }
            None => 0,
        };
        let mut plan = ReplayPlan::default();
        let (mut total, mut looked) = (0, 0);
        for endpoint in endpoints {
            let seq = endpoint.seq;
            let (mut planned, mut cursor) = (0, from);
            while !plan.more {
                let page = self.scan_page(&job, &endpoint, cursor).await?;
                cursor = page.cursor;
                looked += page.looked;
                planned += page.candidates.len() as u64;
                if page.is_end {
                    break;
                }
                plan.more = total + planned >= MAX_PLANNED || looked >= MAX_LOOKED_AT;
            }
            total += planned;
            plan.endpoints.push(PlannedPart { endpoint: seq, planned: planned.min(MAX_PLANNED), from });
        }
        Ok(plan)
    }

    /// Returns what an endpoint has missed, up to a number of rows that one read looks at.
    pub(crate) async fn missed_events(
        &self,
        row: &EndpointRow,
        mode: ReplayMode,
    ) -> Result<MissedEvents, StoreError> {
        let job = self.unbounded_job(row.tenant, mode, &ReplayFilter::default())?;
        let page = self.scan_page(&job, row, 0).await?;
        let since = page.candidates.first().map(|candidate| candidate.published_at);
        Ok(MissedEvents { count: page.candidates.len() as u64, more: !page.is_end, since })
    }

    /// Returns a job over all rows.
    fn unbounded_job(
        &self,
        tenant: TenantSeq,
        mode: ReplayMode,
        filter: &ReplayFilter,
    ) -> Result<Job, StoreError> {
        Job::new(tenant, mode, filter, i64::MAX)
    }

    async fn scan_page(&self, job: &Job, endpoint: &EndpointRow, after: i64) -> Result<ScanPage, StoreError> {
        let (job, endpoint) = (job.clone(), endpoint.clone());
        let damage = std::sync::Arc::clone(&self.shared.damage);
        let limits = ScanLimits { candidates: PAGE, rows: PAGE };
        let read = move |connection: &Connection| scan(connection, &damage, &job, &endpoint, after, limits);
        self.shared.readers.read(read).await
    }

    /// Creates a job.
    ///
    /// # Errors
    /// [`StoreError::NoTenant`]; [`StoreError::TooManyReplays`].
    pub(crate) async fn start_replay(
        &self,
        tenant: TenantSeq,
        new: NewReplay,
        plan: ReplayPlan,
    ) -> Result<ReplayRow, StoreError> {
        self.write(1 + plan.endpoints.len(), move |tx| start(tx, tenant, &new, &plan)).await
    }

    /// Returns a job of the tenant, with its parts.
    pub(crate) async fn replay(
        &self,
        tenant: TenantSeq,
        seq: i64,
    ) -> Result<Option<(ReplayRow, Vec<ReplayPartRow>)>, StoreError> {
        self.shared
            .readers
            .read(move |connection| {
                let Some(row) = find(connection, tenant, seq)? else { return Ok(None) };
                let sql = "SELECT p.endpoint_seq, p.planned, p.done, p.skipped, p.is_finished,
                         coalesce(e.deleted_at IS NULL AND (e.enabled = 0 OR e.held = 1), 0)
                     FROM replay_parts p LEFT JOIN endpoints e ON e.seq = p.endpoint_seq WHERE p.replay_seq = ?1";
                let mut statement = connection.prepare_cached(sql)?;
                let parts = statement.query_map([seq], |row| {
                    let is_finished = row.get(4)?;
                    Ok(ReplayPartRow {
                        endpoint: row.get(0)?,
                        planned: row.get(1)?,
                        done: row.get(2)?,
                        skipped: row.get(3)?,
                        is_finished,
                        is_held: row.get::<_, bool>(5)? && !is_finished,
                    })
                })?;
                let parts = parts.collect::<Result<_, _>>()?;
                Ok(Some((row, parts)))
            })
            .await
    }

    /// Returns a job of a tenant, or of any tenant.
    pub(crate) async fn replay_of_any(
        &self,
        tenant: Option<TenantSeq>,
        seq: i64,
    ) -> Result<Option<ReplayRow>, StoreError> {
        let before = seq.checked_add(1);
        let found = self.replays(tenant, None, before, 1).await?.rows.into_iter().flatten().next();
        Ok(found.filter(|row| row.seq == seq))
    }

    /// Returns the jobs of a tenant, or of all tenants, newest first; `before` excludes that row and all newer rows.
    pub(crate) async fn replays(
        &self,
        tenant: Option<TenantSeq>,
        state: Option<ReplayState>,
        before: Option<i64>,
        limit: usize,
    ) -> Result<ListPage<ReplayRow>, StoreError> {
        self.shared
            .readers
            .read(move |connection| {
                let condition = match tenant {
                    Some(_) => "INDEXED BY replays_by_tenant WHERE tenant_seq = ?1",
                    None => "NOT INDEXED WHERE ?1 IS NULL",
                };
                let sql = format!("SELECT {COLUMNS} FROM replays {condition} AND seq < ?2 ORDER BY seq DESC");
                let mut statement = connection.prepare_cached(&sql)?;
                let mut rows = statement.query(params![tenant, before.unwrap_or(i64::MAX)])?;
                let (mut found, budget) = (Vec::new(), ScanBudget::new());
                while found.len() < limit
                    && let Some(row) = rows.next()?
                {
                    let row = from_row(row)?;
                    let seq = row.seq;
                    if state.is_none_or(|state| state == row.state) {
                        found.push(Ok(row));
                    }
                    if !budget.spend(seq) {
                        break;
                    }
                }
                Ok(budget.page(found))
            })
            .await
    }

    /// Cancels a job of the tenant: it makes no further delivery due. Those that it has made due are still attempted;
    /// there are at most a few for each endpoint. Returns `None` if there is no such job.
    pub(crate) async fn cancel_replay(
        &self,
        tenant: TenantSeq,
        seq: i64,
    ) -> Result<Option<Cancelled>, StoreError> {
        self.write(1, move |tx| {
            let Some(row) = find(tx.connection, tenant, seq)? else { return Ok(None) };
            match row.state {
                ReplayState::Running => end(tx, seq, ReplayState::Cancelled, None)?,
                ReplayState::Cancelled => {}
                ended => return Ok(Some(Cancelled::Ended(ended))),
            }
            Ok(find(tx.connection, tenant, seq)?.map(|row| Cancelled::Done(Box::new(row))))
        })
        .await
    }
}

fn start(
    tx: &mut Tx<'_>,
    tenant: TenantSeq,
    new: &NewReplay,
    plan: &ReplayPlan,
) -> Result<ReplayRow, StoreError> {
    tenants::policy_of(tx.connection, tenant)?;
    if let Some(once) = &new.once
        && let Some(known) = once.find(tx, Some(tenant))?
        && let Some(row) = find(tx.connection, tenant, known)?
    {
        return Ok(row);
    }
    tx.space.check_row(tx.connection)?;
    let running: usize = tx
        .connection
        .prepare_cached(
            "SELECT count(*) FROM replays INDEXED BY replays_running WHERE tenant_seq = ?1 AND state = 'running'",
        )?
        .query_row([tenant], |row| row.get(0))?;
    if running >= MAX_RUNNING {
        return Err(StoreError::TooManyReplays(MAX_RUNNING));
    }
    for sql in [
        format!("DELETE FROM replay_parts WHERE replay_seq IN ({OLDER})"),
        format!("DELETE FROM replays WHERE seq IN ({OLDER})"),
    ] {
        tx.connection.prepare_cached(&sql)?.execute([tenant])?;
    }
    step_counters(tx)?;
    let newest = |table| -> Result<i64, StoreError> {
        let sql = format!("SELECT coalesce(max(seq), 0) FROM {table}");
        Ok(tx.connection.prepare_cached(&sql)?.query_row([], |row| row.get(0))?)
    };
    let (last_event, last_delivery) = (newest("events")?, newest("deliveries")?);
    tx.connection
        .prepare_cached(
            "INSERT INTO replays (tenant_seq, endpoint_seq, mode, filter, state, planned, planned_more, last_event,
                 last_delivery, requested_by, created_at, updated_at)
             VALUES (?1, ?2, ?3, ?4, 'running', ?5, ?6, ?7, ?8, ?9, ?10, ?10)",
        )?
        .execute(params![
            tenant,
            new.endpoint,
            new.mode.as_str(),
            policy::write(&new.filter)?,
            i64::try_from(plan.total()).unwrap_or(i64::MAX),
            plan.more,
            last_event,
            last_delivery,
            new.requested_by,
            tx.wall
        ])?;
    let seq = tx.connection.last_insert_rowid();
    let mut insert = tx.connection.prepare_cached(
        "INSERT INTO replay_parts (replay_seq, endpoint_seq, planned, cursor) VALUES (?1, ?2, ?3, ?4)",
    )?;
    for part in &plan.endpoints {
        let planned = i64::try_from(part.planned).unwrap_or(i64::MAX);
        insert.execute(params![seq, part.endpoint, planned, part.from])?;
    }
    drop(insert);
    if let Some(once) = &new.once {
        once.remember(tx, Some(tenant), seq)?;
    }
    tx.has_new_replays = true;
    if plan.endpoints.is_empty() {
        end(tx, seq, ReplayState::Finished, None)?;
    }
    find(tx.connection, tenant, seq)?
        .ok_or_else(|| StoreError::Internal("a replay is missing in the commit that created it".to_owned()))
}

/// Ends a running job.
fn end(tx: &Tx<'_>, seq: i64, state: ReplayState, error: Option<&str>) -> Result<(), StoreError> {
    tx.connection
        .prepare_cached(
            "UPDATE replays SET state = ?2, error = ?3, updated_at = ?4, finished_at = ?4
             WHERE seq = ?1 AND state = 'running'",
        )?
        .execute(params![seq, state.as_str(), error, tx.wall])?;
    Ok(())
}

fn find(connection: &Connection, tenant: TenantSeq, seq: i64) -> Result<Option<ReplayRow>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM replays WHERE seq = ?2 AND tenant_seq = ?1");
    let mut statement = connection.prepare_cached(&sql)?;
    statement.query_row(params![tenant, seq], |row| Ok(from_row(row))).optional()?.transpose()
}

fn from_row(row: &Row<'_>) -> Result<ReplayRow, StoreError> {
    let text = |index| row.get_ref(index)?.as_str().map_err(rusqlite::Error::from);
    Ok(ReplayRow {
        seq: row.get(0)?,
        tenant: row.get(1)?,
        endpoint: row.get(2)?,
        mode: ReplayMode::read(text(3)?)?,
        filter: policy::parse(text(4)?)?,
        state: ReplayState::read(text(5)?)?,
        planned: row.get(6)?,
        planned_more: row.get(7)?,
        done: row.get(8)?,
        skipped: row.get(9)?,
        requested_by: row.get(10)?,
        error: row.get(11)?,
        created_at: row.get(12)?,
        updated_at: row.get(13)?,
        finished_at: row.get(14)?,
    })
}

#[cfg(test)]
mod tests;
