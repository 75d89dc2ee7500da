//! Tenants: each of them owns endpoints and events, and sees no row of another tenant.
//!
//! A deleted tenant is gone for readers with the commit of its deletion. Its rows are deleted afterwards in small commits
//! ([`sweep`]); its number is never used again, so a new tenant with its id sees none of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use rusqlite::types::{FromSql, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use tokio::time::sleep;

use super::backlog::Counted;
use super::events::step_counters;
use super::keys::KeyChange;
use super::listing::Walk;
use super::policy::{self, PolicyChange, TenantPolicy, TextsChange};
use super::tenant_names::NameChange;
use super::{SWEEP_RETRY, Store, StoreError, Tx, Wake, schema};
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

const COLUMNS: &str = "seq, id, name, metadata, policy, paused, created_at, updated_at";

impl Store {
    /// Creates a tenant, or replaces the fields of the tenant with this id. Returns `true` if it was created.
    pub(crate) async fn put_tenant(
        &self,
        id: String,
        new: NewTenant,
    ) -> Result<(TenantRow, bool), StoreError> {
        self.write(1, move |tx| {
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
        })
        .await
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

    /// Creates a tenant. Without an id, its identifier of the kind [`IdKind::Tenant`] is its id. If there is a tenant
    /// with the id already, that tenant is returned unchanged, and `false`.
    pub(crate) async fn create_tenant(
        &self,
        id: Option<String>,
        new: NewTenant,
    ) -> Result<(TenantRow, bool), StoreError> {
        let ids = self.ids();
        self.write(1, move |tx| {
            if let Some(id) = &id
                && let Some(known) = find_by_id(tx.connection, id)?
            {
                return Ok((known, false));
            }
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
            let row = TenantRow { seq, id, name, metadata, policy, paused: false, created_at, updated_at };
            Ok((row, true))
        })
        .await
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
        self.write(1, move |tx| {
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
        })
        .await
    }

    /// Deletes a tenant with all that it owns. Its pending deliveries end with it; returns their number. Returns `None`
    /// if there is no such tenant.
    ///
    /// The tenant is gone for readers and writers when this function returns; its rows are deleted soon afterwards.
    pub(crate) async fn delete_tenant(&self, tenant: TenantSeq) -> Result<Option<u64>, StoreError> {
        let deleted = self.write(1, move |tx| {
            let delete = "UPDATE tenants SET deleted_at = ?2 WHERE seq = ?1 AND deleted_at IS NULL";
            if tx.connection.prepare_cached(delete)?.execute(params![tenant, tx.wall])? == 0 {
                return Ok(None);
            }
            let endpoints = "UPDATE endpoints SET deleted_at = ?2, enabled = 0
                 WHERE tenant_seq = ?1 AND deleted_at IS NULL RETURNING seq";
            let mut statement = tx.connection.prepare_cached(endpoints)?;
            let mut rows = statement.query(params![tenant, tx.wall])?;
            let mut pending = 0;
            while let Some(row) = rows.next()? {
                pending += tx.backlog.of(row.get(0)?);
            }
            for table in ["api_keys", "portal_sessions"] {
                let sql = format!("DELETE FROM {table} WHERE tenant_seq = ?1");
                tx.connection.prepare_cached(&sql)?.execute([tenant])?;
            }
            tx.routes.forget(tenant);
            tx.quotas.forget(tenant);
            tx.names.push(NameChange::Deleted(tenant));
            tx.key_changes.push(KeyChange::TenantDeleted(tenant));
            Ok(Some(pending))
        });
        let deleted = deleted.await?;
        if deleted.is_some() {
            self.shared.sweep.notify_one();
        }
        Ok(deleted)
    }

    /// Deletes up to [`SWEPT_PER_COMMIT`] rows of a deleted tenant that is not in `skipped`. Returns the tenant; `None`
    /// if there is none.
    async fn sweep_step(&self, skipped: &BTreeSet<TenantSeq>) -> Result<Option<TenantSeq>, SweepError> {
        let find = "SELECT seq FROM tenants INDEXED BY tenants_deleted WHERE deleted_at IS NOT NULL";
        let deleted = self.shared.readers.read(move |connection| {
            let mut statement = connection.prepare_cached(find)?;
            let rows = statement.query_map([], |row| row.get(0))?;
            Ok(rows.collect::<Result<Vec<TenantSeq>, _>>()?)
        });
        let deleted = deleted.await.map_err(|error| SweepError { tenant: None, error })?;
        let Some(tenant) = deleted.into_iter().find(|tenant| !skipped.contains(tenant)) else {
            return Ok(None);
        };
        let swept = self.write(SWEPT_PER_COMMIT, move |tx| sweep_rows(tx, tenant)).await;
        swept.map_err(|error| SweepError { tenant: Some(tenant), error })?;
        Ok(Some(tenant))
    }
}

struct SweepError {
    tenant: Option<TenantSeq>,
    error: StoreError,
}

/// Deletes the rows of deleted tenants, now and after each deletion.
pub(super) async fn sweep(store: Store) {
    // Damage does not heal with time: the rows of such a tenant stay until the next start. No reader sees them.
    let mut skipped = BTreeSet::new();
    loop {
        match store.sweep_step(&skipped).await {
            Ok(Some(_)) => {}
            Ok(None) => store.shared.sweep.notified().await,
            Err(SweepError { error: StoreError::Closed, .. }) => return,
            Err(SweepError { tenant: Some(tenant), error: StoreError::Corrupt(why) }) => {
                tracing::error!(why, tenant = %tenant, "the rows of a deleted tenant cannot be deleted");
                skipped.insert(tenant);
            }
            Err(SweepError { error, .. }) => {
                tracing::warn!(%error, "the rows of a deleted tenant cannot be deleted yet; trying again");
                sleep(SWEEP_RETRY).await;
            }
        }
    }
}

/// The statements that delete the rows of a tenant, in this order: endpoints are deleted last, because rows are found by
/// them. Each has the tenant and a limit as its parameters, and returns the endpoint of a row that is counted: the first
/// those of pending deliveries, the others those of dead letters.
const SWEEPS: [&str; 8] = [
    "DELETE FROM due WHERE (endpoint_seq, due_at, delivery_seq) IN
         (SELECT d.endpoint_seq, d.due_at, d.delivery_seq FROM endpoints e CROSS JOIN due d
          ON d.endpoint_seq = e.seq WHERE e.tenant_seq = ?1 LIMIT ?2) RETURNING endpoint_seq",
    "DELETE FROM attempts WHERE seq IN
         (SELECT a.seq FROM endpoints e CROSS JOIN attempts a INDEXED BY attempts_by_endpoint
          ON a.endpoint_seq = e.seq WHERE e.tenant_seq = ?1 LIMIT ?2) RETURNING NULL",
    "DELETE FROM deliveries WHERE seq IN
         (SELECT seq FROM deliveries INDEXED BY deliveries_by_tenant WHERE tenant_seq = ?1 LIMIT ?2)
         RETURNING iif(state = 2, endpoint_seq, NULL)",
    "DELETE FROM events WHERE seq IN
         (SELECT seq FROM events INDEXED BY events_by_tenant WHERE tenant_seq = ?1 LIMIT ?2) RETURNING NULL",
    "DELETE FROM idempotency WHERE (tenant_seq, key) IN
         (SELECT tenant_seq, key FROM idempotency WHERE tenant_seq = ?1 LIMIT ?2) RETURNING NULL",
    "DELETE FROM rollups WHERE (minute, node, tenant_seq, endpoint_seq) IN
         (SELECT minute, node, tenant_seq, endpoint_seq FROM rollups INDEXED BY rollups_by_endpoint
          WHERE tenant_seq = ?1 LIMIT ?2) RETURNING NULL",
    "DELETE FROM replays WHERE seq IN (SELECT seq FROM replays WHERE tenant_seq = ?1 LIMIT ?2) RETURNING NULL",
    "DELETE FROM endpoints WHERE seq IN (SELECT seq FROM endpoints WHERE tenant_seq = ?1 LIMIT ?2) RETURNING NULL",
];

/// Deletes some rows of a tenant, and the tenant itself once no row is left.
fn sweep_rows(tx: &mut Tx<'_>, tenant: TenantSeq) -> Result<(), StoreError> {
    let mut left = SWEPT_PER_COMMIT;
    for (nth, sql) in SWEEPS.into_iter().enumerate() {
        // An attempt in flight may have added rows since the last step, so each step begins with the first statement.
        let mut statement = tx.connection.prepare_cached(sql)?;
        let mut rows = statement.query(params![tenant, left])?;
        while let Some(row) = rows.next()? {
            left = left.saturating_sub(1);
            let counted = if nth == 0 { Counted::Pending } else { Counted::Dead };
            if let Some(endpoint) = row.get(0)? {
                tx.backlog.add(counted, endpoint, -1);
            }
        }
        if left == 0 {
            return Ok(());
        }
    }
    tx.connection.prepare_cached("DELETE FROM tenants WHERE seq = ?1")?.execute([tenant])?;
    Ok(())
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
    Endpoint(TenantSeq, i64),
}

/// Selects the endpoints of a pause that have pending deliveries, with one search of `due` for each endpoint.
const PAUSED_WITH_PENDING: &str = "SELECT e.seq, e.tenant_seq FROM endpoints e
     WHERE e.deleted_at IS NULL AND EXISTS (SELECT 1 FROM due WHERE endpoint_seq = e.seq)";

impl Store {
    /// Pauses deliveries, or resumes them. While they are paused, no attempt begins, and new events still get
    /// deliveries, which wait. Attempts that were granted before the commit are finished. Returns `false` if the tenant
    /// or the endpoint does not exist.
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
                PauseTarget::Endpoint(tenant, endpoint) => {
                    let sql = "UPDATE endpoints SET paused = ?3, updated_at = ?4
                         WHERE seq = ?2 AND tenant_seq = ?1 AND deleted_at IS NULL";
                    let values = params![tenant, endpoint, paused, tx.wall];
                    tx.connection.prepare_cached(sql)?.execute(values)? == 1
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
        PauseTarget::Endpoint(tenant, endpoint) => {
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
