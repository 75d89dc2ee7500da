//! Tenants: each of them owns endpoints and events, and sees no row of another tenant.

use std::fmt;

use rusqlite::types::{FromSql, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, params};

use super::{Store, StoreError, Tx, Wake, schema};

/// The number of a tenant. The number of a deleted tenant is not used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TenantSeq(i64);

impl TenantSeq {
    /// The tenant of requests that name no tenant.
    pub(crate) const DEFAULT: Self = Self(1);
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

/// The deliveries that a pause stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PauseTarget {
    /// All deliveries of this relay.
    Relay,
    #[cfg_attr(not(test), expect(dead_code, reason = "no route names a tenant yet"))]
    Tenant(TenantSeq),
    Endpoint(TenantSeq, i64),
}

/// Selects the endpoints of a pause that have pending deliveries, with one search of `due` for each endpoint.
const PAUSED_WITH_PENDING: &str = "SELECT e.seq FROM endpoints e
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
        PauseTarget::Endpoint(_, endpoint) => {
            tx.woken.push((endpoint, due));
            return Ok(());
        }
        PauseTarget::Tenant(tenant) => ("AND e.tenant_seq = ?1", Some(tenant)),
        PauseTarget::Relay => ("AND ?1 IS NULL", None),
    };
    let mut statement = tx.connection.prepare_cached(&format!("{PAUSED_WITH_PENDING} {condition}"))?;
    let mut rows = statement.query([tenant])?;
    while let Some(row) = rows.next()? {
        tx.woken.push((row.get(0)?, due));
    }
    Ok(())
}

/// Checks that a tenant exists.
///
/// # Errors
/// [`StoreError::NoTenant`] if the tenant does not exist or is deleted.
pub(super) fn check(connection: &Connection, tenant: TenantSeq) -> Result<(), StoreError> {
    let sql = "SELECT 1 FROM tenants WHERE seq = ?1 AND deleted_at IS NULL";
    if connection.prepare_cached(sql)?.exists([tenant])? { Ok(()) } else { Err(StoreError::NoTenant) }
}
