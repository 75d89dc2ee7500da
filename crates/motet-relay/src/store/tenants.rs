//! Tenants: each of them owns endpoints and events, and sees no row of another tenant.
//!
//! A deleted tenant is gone for readers with the commit of its deletion. Its rows are deleted afterwards in small commits
//! ([`sweep`]); its number is never used again, so a new tenant with its id sees none of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::types::{FromSql, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use tokio::time::{Instant, sleep};

use super::backlog::Counted;
use super::erasure::overwriting;
use super::erasures::{self, ErasureKind};
use super::events::step_counters;
use super::keys::KeyChange;
use super::listing::Walk;
use super::policy::{self, PolicyChange, TenantPolicy, TextsChange};
use super::tenant_names::NameChange;
use super::{OnceKey, SWEEP_RETRY, Store, StoreError, Tx, Wake, schema};
use crate::clock::Millis;
use crate::ids::IdKind;

/// The number of a tenant. The number of a deleted tenant is not used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TenantSeq(i64);

impl TenantSeq {
    /// The tenant of requests that name no tenant. It cannot be deleted.
    pub(crate) const DEFAULT: Self = Self(1);

    /// The number as such, for cursors.
    pub(crate) const fn number(self) -> i64 {
        self.0
    }

    /// Returns the tenant of a cursor or an identifier. It may not exist.
    pub(crate) const fn numbered(number: i64) -> Self {
        Self(number)
    }
}

impl fmt::Display for TenantSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl ToSql for TenantSeq {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        self.0.to_sql()
    }
}

impl FromSql for TenantSeq {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        i64::column_result(value).map(Self)
    }
}

/// A tenant that is not deleted.
#[derive(Debug, Clone)]
pub(crate) struct TenantRow {
    pub(crate) seq: TenantSeq,
    /// Chosen by the caller.
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) policy: TenantPolicy,
    pub(crate) paused: bool,
    pub(crate) created_at: Millis,
    pub(crate) updated_at: Millis,
}

/// The fields of a tenant that its owner sets.
#[derive(Debug, Default)]
pub(crate) struct NewTenant {
    pub(crate) name: String,
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) policy: TenantPolicy,
}

/// A change of a tenant; `None` leaves a field unchanged.
#[derive(Debug, Default)]
pub(crate) struct TenantChange {
    pub(crate) id: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) metadata: Option<TextsChange>,
    pub(crate) policy: Option<PolicyChange<TenantPolicy>>,
}

/// Number of rows of a deleted tenant that one commit deletes: few enough that other callers of the commit do not
/// notice.
const SWEPT_PER_COMMIT: usize = 200;

/// Maximum pause between two steps of a sweep.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

const COLUMNS: &str = "seq, id, name, metadata, policy, paused, created_at, updated_at";

impl Store {
    /// Creates a tenant, or replaces the fields of the tenant with this id. Returns `true` if it was created.
    pub(crate) async fn put_tenant(
        &self,
        id: String,
        new: NewTenant,
    ) -> Result<(TenantRow, bool), StoreError> {
        let put = self.write(1, move |tx| {
            let metadata = policy::write_metadata(&new.metadata)?;
            let policy = policy::write(&new.policy)?;
            let known = find_by_id(tx.connection, &id)?;
            let (seq, created_at, paused) = match &known {
                Some(row) => {
                    let update = "UPDATE tenants SET name = ?2, metadata = ?3, policy = ?4, updated_at = ?5 WHERE seq = ?1";
                    tx.connection
                        .prepare_cached(update)?
                        .execute(params![row.seq, new.name, metadata, policy, tx.wall])?;
                    tx.routes.invalidate(row.seq);
                    (row.seq, row.created_at, row.paused)
                }
                None => {
                    tx.space.check_row(tx.connection)?;
                    step_counters(tx)?;
                    let insert = "INSERT INTO tenants (id, name, metadata, policy, created_at, updated_at)
                         VALUES (?1, ?2, ?3, ?4, ?5, ?5)";
                    tx.connection
                        .prepare_cached(insert)?
                        .execute(params![id, new.name, metadata, policy, tx.wall])?;
                    let seq = TenantSeq(tx.connection.last_insert_rowid());
                    tx.names.push(NameChange::Created(seq, id.as_str().into()));
                    (seq, tx.wall, false)
                }
            };
            let NewTenant { name, metadata, policy } = new;
            let updated_at = tx.wall;
            let row = TenantRow { seq, id, name, metadata, policy, paused, created_at, updated_at };
            Ok((row, known.is_none()))
        });
        let put = put.await?;
        self.shared.retention.wake_for_policies();
        Ok(put)
    }

    pub(crate) async fn tenant(&self, tenant: TenantSeq) -> Result<Option<TenantRow>, StoreError> {
        self.shared.readers.read(move |connection| find(connection, tenant)).await
    }

    /// Returns tenants, newest first; `before` excludes that row and all newer rows.
    pub(crate) async fn tenants(
        &self,
        before: Option<i64>,
        limit: usize,
    ) -> Result<Vec<TenantRow>, StoreError> {
        self.shared
            .readers
            .read(move |connection| {
                let mut statement = connection.prepare_cached(&format!(
                    "SELECT {COLUMNS} FROM tenants WHERE deleted_at IS NULL AND seq < ?1 ORDER BY seq DESC LIMIT ?2"
                ))?;
                let rows =
                    statement.query_and_then(params![before.unwrap_or(i64::MAX), limit], from_row)?;
                rows.collect()
            })
            .await
    }

    /// Creates a tenant once for all requests with the key. Without an id, its identifier of the kind [`IdKind::Tenant`] is its id. If there is a tenant
    /// with the id already, that tenant is returned unchanged, and `false`.
    pub(crate) async fn create_tenant(
        &self,
        id: Option<String>,
        new: NewTenant,
        once: Option<OnceKey>,
    ) -> Result<(TenantRow, bool), StoreError> {
        let ids = self.ids();
        let created = self.write(1, move |tx| {
            if let Some(once) = &once
                && let Some(known) = once.find(tx, None)?
                && let Some(row) = find(tx.connection, TenantSeq(known))?
            {
                return Ok((row, true));
            }
            if let Some(id) = &id
                && let Some(known) = find_by_id(tx.connection, id)?
            {
                return Ok((known, false));
            }
            tx.space.check_row(tx.connection)?;
            step_counters(tx)?;
            let insert = "INSERT INTO tenants (id, name, metadata, policy, created_at, updated_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?5)";
            let (metadata, policy) = (policy::write_metadata(&new.metadata)?, policy::write(&new.policy)?);
            let values = params![id.as_deref().unwrap_or_default(), new.name, metadata, policy, tx.wall];
            tx.connection.prepare_cached(insert)?.execute(values)?;
            let seq = TenantSeq(tx.connection.last_insert_rowid());
            let id = match id {
                Some(id) => id,
                None => {
                    let id = ids.format(IdKind::Tenant, seq.number());
                    let set = "UPDATE tenants SET id = ?2 WHERE seq = ?1";
                    tx.connection.prepare_cached(set)?.execute(params![seq, id])?;
                    id
                }
            };
            tx.names.push(NameChange::Created(seq, id.as_str().into()));
            let NewTenant { name, metadata, policy } = new;
            let (created_at, updated_at) = (tx.wall, tx.wall);
            if let Some(once) = &once {
                once.remember(tx, None, seq.number())?;
            }
            let row = TenantRow { seq, id, name, metadata, policy, paused: false, created_at, updated_at };
            Ok((row, true))
        });
        let created = created.await?;
        self.shared.retention.wake_for_policies();
        Ok(created)
    }

    /// Returns a page of all tenants.
    pub(crate) async fn tenants_of_page(&self, page: Walk) -> Result<Vec<TenantRow>, StoreError> {
        self.shared
            .readers
            .read(move |connection| {
                let sql =
                    format!("SELECT {COLUMNS} FROM tenants WHERE deleted_at IS NULL AND {}", page.sql("seq"));
                let mut statement = connection.prepare_cached(&sql)?;
                let rows = statement.query_and_then(params![page.bound(), page.fetch()], from_row)?;
                rows.collect()
            })
            .await
    }

    /// Changes a tenant. Returns `None` if there is no such tenant.
    ///
    /// # Errors
    /// [`StoreError::TenantTaken`] if another tenant has the new id.
    pub(crate) async fn update_tenant(
        &self,
        tenant: TenantSeq,
        change: TenantChange,
    ) -> Result<Option<TenantRow>, StoreError> {
        let updated = self.write(1, move |tx| {
            let Some(mut row) = find(tx.connection, tenant)? else { return Ok(None) };
            if let Some(id) = change.id {
                rename(tx, &mut row, id)?;
            }
            if let Some(name) = change.name {
                row.name = name;
            }
            if let Some(change) = change.metadata {
                change.apply(&mut row.metadata);
            }
            if let Some(change) = change.policy {
                change.apply(&mut row.policy)?;
            }
            row.updated_at = tx.wall;
            let update =
                "UPDATE tenants SET name = ?2, metadata = ?3, policy = ?4, updated_at = ?5 WHERE seq = ?1";
            tx.connection.prepare_cached(update)?.execute(params![
                tenant,
                row.name,
                policy::write_metadata(&row.metadata)?,
                policy::write(&row.policy)?,
                row.updated_at
            ])?;
            tx.routes.invalidate(tenant);
            Ok(Some(row))
        });
        let updated = updated.await?;
        self.shared.retention.wake_for_policies();
        Ok(updated)
    }

    /// Deletes a tenant with all that it owns. Its pending deliveries end with it; returns their number. Returns `None`
    /// if there is no such tenant.
    ///
    /// The tenant is gone for readers and writers when this function returns; its rows are deleted soon afterwards.
    ///
    /// The second value is the number of the erasure, which has finished when the bytes of all rows are gone.
    pub(crate) async fn delete_tenant(&self, tenant: TenantSeq) -> Result<Option<(u64, i64)>, StoreError> {
        let deleted = self.write(1, move |tx| {
            let delete = "UPDATE tenants SET deleted_at = ?2 WHERE seq = ?1 AND deleted_at IS NULL";
            if tx.connection.prepare_cached(delete)?.execute(params![tenant, tx.wall])? == 0 {
                return Ok(None);
            }
            // The endpoints are not changed: all that reads them looks at their tenant. Only the index is read.
            let endpoints = "SELECT seq FROM endpoints INDEXED BY endpoints_by_tenant
                 WHERE tenant_seq = ?1 AND deleted_at IS NULL";
            let mut statement = tx.connection.prepare_cached(endpoints)?;
            let mut rows = statement.query([tenant])?;
            let mut pending = 0;
            while let Some(row) = rows.next()? {
                pending += tx.backlog.of(row.get(0)?);
            }
            for table in ["api_keys", "portal_sessions"] {
                let sql = format!("DELETE FROM {table} WHERE tenant_seq = ?1");
                tx.connection.prepare_cached(&sql)?.execute([tenant])?;
            }
            tx.routes.forget(tenant);
            tx.deleted.push(tenant);
            tx.names.push(NameChange::Deleted(tenant));
            tx.key_changes.push(KeyChange::TenantDeleted(tenant));
            let erasure = erasures::begin(tx, tenant, ErasureKind::Tenant, i64::MAX)?;
            Ok(Some((pending, erasure)))
        });
        let deleted = deleted.await?;
        if deleted.is_some() {
            self.shared.sweep.notify_one();
        }
        Ok(deleted)
    }

    /// Returns a deleted tenant that is not in `skipped`, if its rows are not deleted yet.
    async fn deleted_tenant(&self, skipped: &BTreeSet<TenantSeq>) -> Result<Option<TenantSeq>, StoreError> {
        let find = "SELECT seq FROM tenants INDEXED BY tenants_deleted WHERE deleted_at IS NOT NULL";
        let read = move |connection: &Connection| {
            let mut statement = connection.prepare_cached(find)?;
            let rows = statement.query_map([], |row| row.get(0))?;
            Ok(rows.collect::<Result<Vec<TenantSeq>, _>>()?)
        };
        let deleted = self.shared.readers.read(read).await?;
        Ok(deleted.into_iter().find(|tenant| !skipped.contains(tenant)))
    }

    /// Runs a step of a sweep until it succeeds, and then pauses for as long as it took, so that a sweep takes at most half
    /// of the time of the writer.
    async fn sweep_step<T, F>(&self, step: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Fn(&mut Tx<'_>) -> Result<T, StoreError> + Clone + Send + 'static,
    {
        loop {
            let (began, step) = (Instant::now(), step.clone());
            match self.write(SWEPT_PER_COMMIT, move |tx| overwriting(tx, |tx| step(tx))).await {
                Ok(done) => {
                    sleep(began.elapsed().min(LONGEST_PAUSE)).await;
                    return Ok(done);
                }
                Err(error @ (StoreError::Closed | StoreError::Corrupt(_))) => return Err(error),
                Err(error) => {
                    tracing::warn!(%error, "the rows of a deleted tenant cannot be deleted yet; trying again");
                    sleep(SWEEP_RETRY).await;
                }
            }
        }
    }

    /// Deletes the rows of a deleted tenant, in small commits.
    async fn sweep_tenant(&self, tenant: TenantSeq) -> Result<(), StoreError> {
        let find = "SELECT seq FROM endpoints INDEXED BY endpoints_by_tenant WHERE tenant_seq = ?1";
        let read = move |connection: &Connection| {
            let mut statement = connection.prepare_cached(find)?;
            let rows = statement.query_map([tenant], |row| row.get(0))?;
            Ok(rows.collect::<Result<Arc<[i64]>, _>>()?)
        };
        // A deleted tenant gets no endpoint.
        let endpoints = self.shared.readers.read(read).await?;
        self.sweep_endpoints(&endpoints).await?;
        for sql in SWEEPS {
            // In commits of its own: a commit writes the counts of its jobs after them, so the roll-ups must go after the
            // commit in which the last delivery went.
            while self.sweep_step(move |tx| sweep_rows(tx, sql, tenant)).await? {}
        }
        // An attempt in flight has added rows, if it ended between the deletion of its rows and that of its delivery.
        self.sweep_endpoints(&endpoints).await?;
        let sql = "DELETE FROM endpoints WHERE seq IN
             (SELECT seq FROM endpoints WHERE tenant_seq = ?1 LIMIT ?2) RETURNING NULL";
        while self.sweep_step(move |tx| sweep_rows(tx, sql, tenant)).await? {}
        let delete = "DELETE FROM tenants WHERE seq = ?1";
        self.sweep_step(move |tx| {
            tx.connection.prepare_cached(delete)?.execute([tenant])?;
            erasures::note_swept(tx, tenant)
        })
        .await?;
        self.shared.erasures.notify_one();
        Ok(())
    }

    /// Deletes the due times and the attempts of endpoints. Each step continues where the last one ended.
    async fn sweep_endpoints(&self, endpoints: &Arc<[i64]>) -> Result<(), StoreError> {
        let mut next = Some(0);
        while let Some(start) = next {
            let endpoints = Arc::clone(endpoints);
            next = self.sweep_step(move |tx| sweep_some_endpoints(tx, &endpoints, start)).await?;
        }
        Ok(())
    }
}

/// Deletes the rows of deleted tenants, now and after each deletion.
pub(super) async fn sweep(store: Store) {
    // Damage does not heal with time: the rows of such a tenant stay until the next start. No reader sees them.
    let mut skipped = BTreeSet::new();
    loop {
        let tenant = match store.deleted_tenant(&skipped).await {
            Ok(Some(tenant)) => tenant,
            Ok(None) => {
                store.shared.sweep.notified().await;
                continue;
            }
            Err(StoreError::Closed) => return,
            Err(error) => {
                tracing::warn!(%error, "the deleted tenants cannot be read yet; trying again");
                sleep(SWEEP_RETRY).await;
                continue;
            }
        };
        match store.sweep_tenant(tenant).await {
            Ok(()) => {}
            Err(StoreError::Closed) => return,
            Err(StoreError::Corrupt(why)) => {
                tracing::error!(why, tenant = %tenant, "the rows of a deleted tenant cannot be deleted");
                skipped.insert(tenant);
            }
            Err(error) => {
                tracing::warn!(%error, "the rows of a deleted tenant cannot be read yet; trying again");
                sleep(SWEEP_RETRY).await;
            }
        }
    }
}

/// The statements that delete the other rows of a tenant, in this order. Each has the tenant and a limit as its
/// parameters, and returns the endpoint of a dead letter.
const SWEEPS: [&str; 10] = [
    "DELETE FROM deliveries WHERE seq IN
         (SELECT seq FROM deliveries INDEXED BY deliveries_by_tenant WHERE tenant_seq = ?1 LIMIT ?2)
         RETURNING iif(state = 2, endpoint_seq, NULL)",
    "DELETE FROM events WHERE seq IN
         (SELECT seq FROM events INDEXED BY events_by_tenant WHERE tenant_seq = ?1 LIMIT ?2) RETURNING NULL",
    "DELETE FROM idempotency WHERE (tenant_seq, key) IN
         (SELECT tenant_seq, key FROM idempotency WHERE tenant_seq = ?1 LIMIT ?2) RETURNING NULL",
    "DELETE FROM once WHERE (tenant_seq, kind, key) IN
         (SELECT tenant_seq, kind, key FROM once WHERE tenant_seq = ?1 LIMIT ?2) RETURNING NULL",
    "DELETE FROM rollups WHERE (minute, node, tenant_seq, endpoint_seq) IN
         (SELECT minute, node, tenant_seq, endpoint_seq FROM rollups INDEXED BY rollups_by_endpoint
          WHERE tenant_seq = ?1 LIMIT ?2) RETURNING NULL",
    "DELETE FROM replay_parts WHERE (replay_seq, endpoint_seq) IN
         (SELECT p.replay_seq, p.endpoint_seq FROM replays r INDEXED BY replays_by_tenant CROSS JOIN replay_parts p
          ON p.replay_seq = r.seq WHERE r.tenant_seq = ?1 LIMIT ?2) RETURNING NULL",
    "DELETE FROM replays WHERE seq IN (SELECT seq FROM replays WHERE tenant_seq = ?1 LIMIT ?2) RETURNING NULL",
    "DELETE FROM retained WHERE (kind, tenant_seq, event_seq) IN
         (SELECT kind, tenant_seq, event_seq FROM retained WHERE kind = 1 AND tenant_seq = ?1 LIMIT ?2) RETURNING NULL",
    "DELETE FROM retained WHERE (kind, tenant_seq, event_seq) IN
         (SELECT kind, tenant_seq, event_seq FROM retained WHERE kind = 2 AND tenant_seq = ?1 LIMIT ?2) RETURNING NULL",
    "DELETE FROM retention WHERE tenant_seq IN (SELECT ?1 LIMIT ?2) RETURNING NULL",
];

/// Deletes some rows of a tenant. Returns `true` if there may be more.
fn sweep_rows(tx: &mut Tx<'_>, sql: &str, tenant: TenantSeq) -> Result<bool, StoreError> {
    let mut statement = tx.connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![tenant, SWEPT_PER_COMMIT])?;
    let mut deleted = 0;
    while let Some(row) = rows.next()? {
        deleted += 1;
        if let Some(endpoint) = row.get(0)? {
            tx.backlog.add(Counted::Dead, endpoint, -1);
            tx.backlog.forget_replayed(endpoint);
        }
    }
    drop(rows);
    drop(statement);
    if sql == SWEEPS[EVENTS] {
        erasures::note_progress(tx, tenant, deleted)?;
    }
    Ok(deleted == SWEPT_PER_COMMIT)
}

/// The position of the events in [`SWEEPS`].
const EVENTS: usize = 1;

/// Deletes some due times and attempts of the endpoints from the position `start` on. Returns the position at which the
/// next step continues, if there may be more.
fn sweep_some_endpoints(
    tx: &mut Tx<'_>,
    endpoints: &[i64],
    start: usize,
) -> Result<Option<usize>, StoreError> {
    let due = "DELETE FROM due WHERE (endpoint_seq, due_at, delivery_seq) IN
         (SELECT endpoint_seq, due_at, delivery_seq FROM due WHERE endpoint_seq = ?1 LIMIT ?2)";
    let attempts = "DELETE FROM attempts WHERE seq IN
         (SELECT seq FROM attempts INDEXED BY attempts_by_endpoint WHERE endpoint_seq = ?1 LIMIT ?2)";
    let mut left = SWEPT_PER_COMMIT;
    for (nth, endpoint) in endpoints.iter().enumerate().skip(start) {
        for sql in [due, attempts] {
            let deleted = tx.connection.prepare_cached(sql)?.execute(params![endpoint, left])?;
            if sql == due {
                tx.backlog.add(Counted::Pending, *endpoint, -i64::try_from(deleted).unwrap_or(i64::MAX));
                tx.backlog.forget_replayed(*endpoint);
            }
            left -= deleted;
            if left == 0 {
                // The endpoint may have more rows.
                return Ok(Some(nth));
            }
        }
        if nth - start == SWEPT_PER_COMMIT {
            return Ok(Some(nth + 1));
        }
    }
    Ok(None)
}

/// Replaces the id of a tenant.
fn rename(tx: &mut Tx<'_>, row: &mut TenantRow, id: String) -> Result<(), StoreError> {
    if id == row.id {
        return Ok(());
    }
    if row.seq == TenantSeq::DEFAULT {
        return Err(StoreError::Invalid(format!("the id of the tenant {:?} cannot be changed", row.id)));
    }
    if find_by_id(tx.connection, &id)?.is_some() {
        return Err(StoreError::TenantTaken(id));
    }
    tx.connection
        .prepare_cached("UPDATE tenants SET id = ?2 WHERE seq = ?1")?
        .execute(params![row.seq, id])?;
    tx.names.push(NameChange::Deleted(row.seq));
    tx.names.push(NameChange::Created(row.seq, id.as_str().into()));
    row.id = id;
    Ok(())
}

fn find(connection: &Connection, tenant: TenantSeq) -> Result<Option<TenantRow>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM tenants WHERE seq = ?1 AND deleted_at IS NULL");
    let mut statement = connection.prepare_cached(&sql)?;
    statement.query_row([tenant], |row| Ok(from_row(row))).optional()?.transpose()
}

fn find_by_id(connection: &Connection, id: &str) -> Result<Option<TenantRow>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM tenants WHERE id = ?1 AND deleted_at IS NULL");
    let mut statement = connection.prepare_cached(&sql)?;
    statement.query_row([id], |row| Ok(from_row(row))).optional()?.transpose()
}

/// Reads the policy of a tenant.
///
/// # Errors
/// [`StoreError::NoTenant`] if the tenant does not exist or is deleted.
pub(super) fn policy_of(connection: &Connection, tenant: TenantSeq) -> Result<TenantPolicy, StoreError> {
    let sql = "SELECT policy FROM tenants WHERE seq = ?1 AND deleted_at IS NULL";
    let mut statement = connection.prepare_cached(sql)?;
    let read = |row: &Row<'_>| row.get::<_, String>(0);
    let stored = statement.query_row([tenant], read).optional()?;
    policy::parse(&stored.ok_or(StoreError::NoTenant)?)
}

fn from_row(row: &Row<'_>) -> Result<TenantRow, StoreError> {
    let text = |index| row.get_ref(index)?.as_str().map_err(rusqlite::Error::from);
    Ok(TenantRow {
        seq: row.get(0)?,
        id: row.get(1)?,
        name: row.get(2)?,
        metadata: policy::parse(text(3)?)?,
        policy: policy::parse(text(4)?)?,
        paused: row.get(5)?,
        created_at: row.get(6)?,
        updated_at: row.get(7)?,
    })
}

/// The deliveries that a pause stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PauseTarget {
    /// All deliveries of this relay.
    Relay,
    Tenant(TenantSeq),
    Endpoint(TenantSeq, i64, PausedBy),
}

/// The client that pauses or resumes an endpoint. An endpoint that both have paused waits for both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PausedBy {
    /// A client with a key of the tenant.
    Owner,
    /// A client that may act for all tenants; it also resumes what the owner has paused.
    Operator,
}

impl PausedBy {
    /// The bit that a pause sets, in the column `paused`.
    const fn set(self) -> i64 {
        match self {
            Self::Owner => 1,
            Self::Operator => 2,
        }
    }

    /// The bits that remain after a resume.
    const fn kept(self) -> i64 {
        match self {
            Self::Owner => Self::Operator.set(),
            Self::Operator => 0,
        }
    }
}

/// Selects the endpoints of a pause that have pending deliveries, with one search of `due` for each endpoint.
const PAUSED_WITH_PENDING: &str = "SELECT e.seq, e.tenant_seq FROM endpoints e
     WHERE e.deleted_at IS NULL AND EXISTS (SELECT 1 FROM due WHERE endpoint_seq = e.seq)";

impl Store {
    /// Pauses deliveries, or resumes them. While they are paused, no attempt begins, and new events still get
    /// deliveries, which wait. Attempts that were granted before the commit are finished. Returns `false` if the tenant
    /// or the endpoint does not exist.
    ///
    /// # Errors
    /// [`StoreError::PausedByOperator`] if its owner resumes an endpoint that an operator has paused.
    pub(crate) async fn set_paused(&self, target: PauseTarget, paused: bool) -> Result<bool, StoreError> {
        self.write(1, move |tx| {
            let found = match target {
                PauseTarget::Relay => {
                    schema::set_paused(tx.connection, paused)?;
                    true
                }
                PauseTarget::Tenant(tenant) => {
                    let sql =
                        "UPDATE tenants SET paused = ?2, updated_at = ?3 WHERE seq = ?1 AND deleted_at IS NULL";
                    tx.connection.prepare_cached(sql)?.execute(params![tenant, paused, tx.wall])? == 1
                }
                PauseTarget::Endpoint(tenant, endpoint, by) => {
                    let sql = "UPDATE endpoints SET paused = iif(?3, paused | ?4, paused & ?5), updated_at = ?6
                         WHERE seq = ?2 AND tenant_seq = ?1 AND deleted_at IS NULL RETURNING paused";
                    let values = params![tenant, endpoint, paused, by.set(), by.kept(), tx.wall];
                    let mut statement = tx.connection.prepare_cached(sql)?;
                    let left = statement.query_row(values, |row| row.get::<_, i64>(0)).optional()?;
                    if !paused && left.is_some_and(|left| left != 0) {
                        return Err(StoreError::PausedByOperator);
                    }
                    left.is_some()
                }
            };
            if found && !paused {
                wake_resumed(tx, target)?;
            }
            Ok(found)
        })
        .await
    }

    /// Returns `true` if all deliveries of this relay are paused.
    pub(crate) async fn is_paused(&self) -> Result<bool, StoreError> {
        self.shared.readers.read(|connection| Ok(schema::is_paused(connection)?)).await
    }
}

/// Wakes the resumed endpoints that have pending deliveries.
fn wake_resumed(tx: &mut Tx<'_>, target: PauseTarget) -> Result<(), StoreError> {
    let due = Wake::Due(tx.due_now);
    let (condition, tenant) = match target {
        PauseTarget::Endpoint(tenant, endpoint, _) => {
            tx.wake(tenant, endpoint, due);
            return Ok(());
        }
        PauseTarget::Tenant(tenant) => ("AND e.tenant_seq = ?1", Some(tenant)),
        PauseTarget::Relay => ("AND ?1 IS NULL", None),
    };
    let mut statement = tx.connection.prepare_cached(&format!("{PAUSED_WITH_PENDING} {condition}"))?;
    let mut rows = statement.query([tenant])?;
    while let Some(row) = rows.next()? {
        tx.wake(row.get(1)?, row.get(0)?, due);
    }
    Ok(())
}
