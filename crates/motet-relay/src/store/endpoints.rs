//! Endpoints: the receivers of events.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::backlog::{Backlogs, Counted};
use super::damage::readable;
use super::deliveries::{DueTables, make_due_now};
use super::events::step_counters;
use super::listing::Walk;
use super::policy::{self, EndpointPolicy, PolicyChange, TextsChange};
use super::quotas::{Quota, QuotaExceeded};
use super::routes::{parse_patterns, split};
use super::vault::{LostValue, SecretColumn, Vault};
use super::{HoldReason, OnceKey, Store, StoreError, StoreShared, TenantSeq, Tx, Wake, tenants};
use crate::clock::{Millis, millis};
use crate::masked::Masked;
use crate::pattern::Pattern;
use crate::signature::Secret;

/// How an endpoint receives its events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum EndpointKind {
    /// An HTTP request per event.
    #[default]
    Http,
}

impl EndpointKind {
    const fn stored(self) -> &'static str {
        match self {
            Self::Http => "http",
        }
    }

    fn read(stored: &str) -> Result<Self, StoreError> {
        match stored {
            "http" => Ok(Self::Http),
            other => Err(StoreError::Corrupt(format!("an endpoint has the unknown kind {other:?}"))),
        }
    }
}

/// A stored endpoint that is not deleted.
#[derive(Debug, Clone)]
pub(crate) struct EndpointRow {
    pub(crate) seq: i64,
    pub(crate) tenant: TenantSeq,
    /// Chosen by the caller; unique among the endpoints of the tenant.
    pub(crate) uid: Option<String>,
    pub(crate) kind: EndpointKind,
    pub(crate) url: String,
    pub(crate) description: String,
    pub(crate) metadata: BTreeMap<String, String>,
    /// Also sent with each delivery.
    pub(crate) headers: Masked<BTreeMap<String, String>>,
    pub(crate) patterns: Vec<Pattern>,
    /// If there are any, the endpoint gets only events that have one of them.
    pub(crate) channels: Vec<String>,
    pub(crate) policy: EndpointPolicy,
    /// `true` if the owner has enabled the endpoint. If not, its new events are skipped.
    pub(crate) enabled: bool,
    /// `true` if deliveries wait until the endpoint is resumed.
    pub(crate) paused: bool,
    /// `None` if it cannot be decrypted.
    pub(crate) secret: Option<Secret>,
    pub(crate) old_secrets: OldSecrets,
    /// The values that cannot be decrypted. Their fields are empty.
    pub(crate) lost: LostSecrets,
    pub(crate) created_at: Millis,
    pub(crate) updated_at: Millis,
    /// The reason why relay has disabled the endpoint.
    pub(crate) held: Option<HoldReason>,
}

impl EndpointRow {
    /// Returns `true` if attempts are made.
    pub(crate) const fn is_on(&self) -> bool {
        self.enabled && self.held.is_none()
    }

    /// Returns the signing secret.
    ///
    /// # Errors
    /// [`StoreError::Undecryptable`].
    pub(crate) fn secret(&self) -> Result<&Secret, StoreError> {
        self.secret.as_ref().ok_or_else(|| StoreError::Undecryptable(self.lost.why()))
    }
}

/// The stored values of an endpoint that cannot be decrypted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LostSecrets {
    pub(super) secret: Option<LostValue>,
    pub(super) old_secrets: Option<LostValue>,
    pub(super) headers: Option<LostValue>,
}

impl LostSecrets {
    /// Returns the first of the values.
    pub(super) fn first(&self) -> Option<&LostValue> {
        self.secret.as_ref().or(self.old_secrets.as_ref()).or(self.headers.as_ref())
    }

    fn why(&self) -> String {
        self.first().map_or_else(String::new, ToString::to_string)
    }
}

#[derive(Debug)]
pub(crate) struct NewEndpoint {
    pub(crate) uid: Option<String>,
    pub(crate) kind: EndpointKind,
    pub(crate) url: String,
    pub(crate) description: String,
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) headers: Masked<BTreeMap<String, String>>,
    pub(crate) patterns: Vec<Pattern>,
    pub(crate) channels: Vec<String>,
    pub(crate) policy: EndpointPolicy,
    pub(crate) enabled: bool,
    pub(crate) secret: Secret,
}

impl NewEndpoint {
    /// Creates an enabled endpoint that gets the events that one of the patterns matches.
    pub(crate) fn new(url: String, patterns: Vec<Pattern>, secret: Secret) -> Self {
        Self {
            uid: None,
            kind: EndpointKind::default(),
            url,
            description: String::new(),
            metadata: BTreeMap::new(),
            headers: Masked::default(),
            patterns,
            channels: Vec::new(),
            policy: EndpointPolicy::default(),
            enabled: true,
            secret,
        }
    }
}

/// A change of an endpoint; `None` leaves a field unchanged.
#[derive(Debug, Default)]
pub(crate) struct EndpointChange {
    /// `Some(None)` removes the uid.
    pub(crate) uid: Option<Option<String>>,
    pub(crate) url: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) metadata: Option<TextsChange>,
    pub(crate) headers: Option<Masked<TextsChange>>,
    pub(crate) patterns: Option<Vec<Pattern>>,
    pub(crate) channels: Option<Vec<String>>,
    pub(crate) policy: Option<PolicyChange<EndpointPolicy>>,
    pub(crate) enabled: Option<bool>,
    pub(crate) secret: Option<Secret>,
    /// How long deliveries are also signed with the previous secret. Without a new secret: how long they are still
    /// signed with the previous secrets.
    pub(crate) overlap: Option<Duration>,
}

/// The result of a change.
#[derive(Debug)]
pub(crate) struct UpdatedEndpoint {
    pub(crate) row: EndpointRow,
    /// `true` if the change starts attempts, `false` if it stops them; `None` if it does neither.
    pub(crate) switched: Option<bool>,
    /// `true` if the URL is a different one.
    pub(crate) url_changed: bool,
}

/// The backlog of an endpoint.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Backlog {
    pub(crate) pending: u64,
    pub(crate) dead: u64,
    /// How long the oldest pending delivery has been due, in milliseconds.
    pub(crate) overdue: Millis,
}

const COLUMNS: &str =
    "seq, uid, kind, url, description, metadata, headers, patterns, channels, policy, enabled,
     paused, secret, old_secrets, created_at, updated_at, held, tenant_seq";

/// How long deliveries are also signed with a replaced secret, unless the change sets another time.
const OVERLAP: Duration = Duration::from_secs(24 * 60 * 60);

/// Each old secret costs a signature for every delivery; the oldest secret is dropped first.
const MAX_OLD_SECRETS: usize = 4;

/// Replaced secrets, each with the time until which deliveries are also signed with it.
#[derive(Debug, Clone, Default)]
pub(crate) struct OldSecrets(Vec<(Millis, Secret)>);

impl OldSecrets {
    fn parse(stored: &str) -> Result<Self, StoreError> {
        let entry = |entry: &str| {
            let (until, secret) = entry.split_once(':')?;
            Some((until.parse().ok()?, Secret::parse(secret).ok()?))
        };
        let parsed: Option<_> = stored.split_ascii_whitespace().map(entry).collect();
        parsed.map(Self).ok_or_else(|| StoreError::Corrupt("a stored secret is not readable".to_owned()))
    }

    fn stored(&self) -> String {
        let entries: Vec<_> =
            self.0.iter().map(|(until, secret)| format!("{until}:{}", secret.expose())).collect();
        entries.join(" ")
    }

    /// Returns the secrets that are valid at this time.
    pub(crate) fn at(&self, due_now: Millis) -> impl Iterator<Item = &Secret> {
        self.0.iter().filter(move |(until, _)| *until > due_now).map(|(_, secret)| secret)
    }

    /// Returns when the last of the secrets ends that are valid at this time.
    pub(crate) fn valid_until(&self, due_now: Millis) -> Option<Millis> {
        self.0.iter().map(|(until, _)| *until).filter(|until| *until > due_now).max()
    }

    /// Ends the validity of all secrets at `until` or earlier.
    fn end_by(&mut self, until: Millis, due_now: Millis) {
        for (end, _) in &mut self.0 {
            *end = until.min(*end);
        }
        self.0.retain(|(end, _)| *end > due_now);
    }

    fn push(&mut self, secret: Secret, until: Millis, due_now: Millis) {
        self.0.push((until, secret));
        self.0.retain(|(end, _)| *end > due_now);
        let too_many = self.0.len().saturating_sub(MAX_OLD_SECRETS);
        self.0.drain(..too_many);
    }
}

impl Store {
    /// Creates an endpoint of the tenant.
    ///
    /// # Errors
    /// [`StoreError::NoTenant`]; [`StoreError::UidTaken`].
    pub(crate) async fn create_endpoint(
        &self,
        tenant: TenantSeq,
        new: NewEndpoint,
    ) -> Result<EndpointRow, StoreError> {
        self.create_endpoint_once(tenant, new, None).await
    }

    /// Creates an endpoint of the tenant once for all requests with the key.
    ///
    /// # Errors
    /// [`StoreError::NoTenant`]; [`StoreError::UidTaken`].
    pub(crate) async fn create_endpoint_once(
        &self,
        tenant: TenantSeq,
        new: NewEndpoint,
        once: Option<OnceKey>,
    ) -> Result<EndpointRow, StoreError> {
        self.write(1, move |tx| {
            if let Some(once) = &once
                && let Some(known) = once.find(tx, Some(tenant))?
                && let Some(row) = find(tx.connection, tx.vault, tenant, known)?
            {
                return Ok(row);
            }
            // Not by the routes: they would be loaded again after each endpoint.
            let max = tx.routes.policy(tx.connection, tenant)?.endpoints_max();
            let count = "SELECT count(*) FROM endpoints INDEXED BY endpoints_by_tenant
                 WHERE tenant_seq = ?1 AND deleted_at IS NULL";
            let known: u32 = tx.connection.prepare_cached(count)?.query_row([tenant], |row| row.get(0))?;
            if known >= max {
                let (quota, limit) = (Quota::Endpoints, max.into());
                return Err(StoreError::Quota(QuotaExceeded { quota, limit, retry_after: None }));
            }
            check_uid(tx.connection, tenant, new.uid.as_deref(), None)?;
            tx.space.check_row(tx.connection)?;
            step_counters(tx)?;
            let row = EndpointRow {
                seq: 0,
                tenant,
                uid: new.uid,
                kind: new.kind,
                url: new.url,
                description: new.description,
                metadata: new.metadata,
                headers: new.headers,
                patterns: new.patterns,
                channels: new.channels,
                policy: new.policy,
                enabled: new.enabled,
                paused: false,
                secret: Some(new.secret),
                old_secrets: OldSecrets::default(),
                lost: LostSecrets::default(),
                created_at: tx.wall,
                updated_at: tx.wall,
                held: None,
            };
            tx.connection
                .prepare_cached(
                    "INSERT INTO endpoints (tenant_seq, uid, kind, url, description, metadata, patterns, channels, policy,
                         enabled, secret, created_at, updated_at)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, '', ?11, ?11)",
                )?
                .execute(params![
                    tenant,
                    row.uid,
                    row.kind.stored(),
                    row.url,
                    row.description,
                    policy::write_metadata(&row.metadata)?,
                    join(&row.patterns),
                    row.channels.join(" "),
                    policy::write(&row.policy)?,
                    row.enabled,
                    tx.wall
                ])?;
            let seq = tx.connection.last_insert_rowid();
            let row = EndpointRow { seq, ..row };
            // They are bound to the number of the row.
            write_secrets(tx.connection, tx.vault, &row)?;
            tx.routes.follow(tx.connection, tenant, seq)?;
            if let Some(once) = &once {
                once.remember(tx, Some(tenant), seq)?;
            }
            Ok(row)
        })
        .await
    }

    /// Returns an endpoint of the tenant.
    pub(crate) async fn endpoint(
        &self,
        tenant: TenantSeq,
        seq: i64,
    ) -> Result<Option<EndpointRow>, StoreError> {
        let vault = Arc::clone(&self.shared.vault);
        self.shared.readers.read(move |connection| find(connection, &vault, tenant, seq)).await
    }

    /// Returns `true` if the tenant has or had this endpoint.
    pub(crate) async fn had_endpoint(&self, tenant: TenantSeq, seq: i64) -> Result<bool, StoreError> {
        let sql = "SELECT 1 FROM endpoints WHERE seq = ?2 AND tenant_seq = ?1";
        let read = move |connection: &Connection| {
            Ok(connection.prepare_cached(sql)?.exists(params![tenant, seq])?)
        };
        self.shared.readers.read(read).await
    }

    /// Returns the endpoints of a tenant, or of all tenants, newest first; `before` excludes that row and all newer
    /// rows.
    pub(crate) async fn endpoints(
        &self,
        tenant: Option<TenantSeq>,
        before: Option<i64>,
        limit: usize,
    ) -> Result<Vec<EndpointRow>, StoreError> {
        let vault = Arc::clone(&self.shared.vault);
        self.shared
            .readers
            .read(move |connection| {
                let condition = of_tenant(tenant);
                let mut statement = connection.prepare_cached(&format!(
                    "SELECT {COLUMNS} FROM endpoints {condition} AND deleted_at IS NULL AND seq < ?2
                     ORDER BY seq DESC LIMIT ?3"
                ))?;
                let values = params![tenant, before.unwrap_or(i64::MAX), limit];
                let rows = statement.query_and_then(values, |row| from_row(&vault, row))?;
                rows.collect()
            })
            .await
    }

    /// Returns the endpoint of the tenant with this uid.
    pub(crate) async fn endpoint_with_uid(
        &self,
        tenant: TenantSeq,
        uid: String,
    ) -> Result<Option<EndpointRow>, StoreError> {
        let vault = Arc::clone(&self.shared.vault);
        self.shared
            .readers
            .read(move |connection| {
                connection
                    .prepare_cached(&format!(
                        "SELECT {COLUMNS} FROM endpoints WHERE tenant_seq = ?1 AND uid = ?2 AND deleted_at IS NULL"
                    ))?
                    .query_row(params![tenant, uid], |row| Ok(from_row(&vault, row)))
                    .optional()?
                    .transpose()
            })
            .await
    }

    /// Returns a page of the endpoints of the tenant.
    pub(crate) async fn endpoints_of_page(
        &self,
        tenant: TenantSeq,
        page: Walk,
    ) -> Result<Vec<EndpointRow>, StoreError> {
        let vault = Arc::clone(&self.shared.vault);
        self.shared
            .readers
            .read(move |connection| {
                let sql = format!(
                    "SELECT {COLUMNS} FROM endpoints INDEXED BY endpoints_by_tenant
                     WHERE tenant_seq = ?3 AND deleted_at IS NULL AND {}",
                    page.sql("seq")
                );
                let mut statement = connection.prepare_cached(&sql)?;
                let values = params![page.bound(), page.fetch(), tenant];
                let rows = statement.query_and_then(values, |row| from_row(&vault, row))?;
                rows.collect()
            })
            .await
    }

    /// Changes an endpoint of the tenant; its pending deliveries use the changed endpoint. Returns `None` if there is no
    /// such endpoint.
    ///
    /// # Errors
    /// [`StoreError::UidTaken`].
    pub(crate) async fn update_endpoint(
        &self,
        tenant: TenantSeq,
        seq: i64,
        change: EndpointChange,
    ) -> Result<Option<UpdatedEndpoint>, StoreError> {
        self.write(1, move |tx| {
            // The tenant may have been deleted since the request began.
            tenants::policy_of(tx.connection, tenant)?;
            let Some(mut row) = find(tx.connection, tx.vault, tenant, seq)? else { return Ok(None) };
            let was_on = row.is_on();
            let changes_secrets =
                change.secret.is_some() || change.overlap.is_some() || change.headers.is_some();
            // Only a change: otherwise a client could reset the breaker and the pauses of its endpoint at will.
            let is_another = change.url.as_ref().is_some_and(|url| *url != row.url)
                || change.secret.as_ref().is_some_and(|secret| Some(secret) != row.secret.as_ref())
                || change.enabled.is_some_and(|enabled| enabled != row.enabled || row.held.is_some());
            let url_changed = change.url.as_ref().is_some_and(|url| *url != row.url);
            if url_changed && row.held == Some(HoldReason::Failing) {
                // The failures were those of the old URL.
                clear_held(tx, &mut row)?;
            }
            if let Some(enabled) = change.enabled {
                row.enabled = enabled;
                clear_held(tx, &mut row)?;
            }
            if let Some(uid) = change.uid {
                check_uid(tx.connection, tenant, uid.as_deref(), Some(seq))?;
                row.uid = uid;
            }
            set(&mut row.url, change.url);
            set(&mut row.description, change.description);
            if let Some(change) = change.metadata {
                change.apply(&mut row.metadata);
            }
            if let Some(Masked(change)) = change.headers {
                change.apply(&mut row.headers);
                row.lost.headers = None;
            }
            if let Some(change) = change.policy {
                change.apply(&mut row.policy)?;
            }
            set(&mut row.patterns, change.patterns);
            set(&mut row.channels, change.channels);
            if let Some(overlap) = change.overlap {
                row.old_secrets.end_by(tx.due_now.saturating_add(millis(overlap)), tx.due_now);
                if overlap.is_zero() {
                    row.lost.old_secrets = None;
                }
            }
            if let Some(secret) = change.secret {
                let until = tx.due_now.saturating_add(millis(change.overlap.unwrap_or(OVERLAP)));
                if Some(&secret) != row.secret.as_ref() {
                    if let Some(replaced) = row.secret.replace(secret) {
                        row.old_secrets.push(replaced, until, tx.due_now);
                    }
                    // Without those that are lost.
                    (row.lost.secret, row.lost.old_secrets) = (None, None);
                }
            }
            row.updated_at = tx.wall;
            tx.connection
                .prepare_cached(
                    "UPDATE endpoints SET generation = generation + ?2, uid = ?3, url = ?4, description = ?5,
                         metadata = ?6, patterns = ?7, channels = ?8, policy = ?9, enabled = ?10, updated_at = ?11
                     WHERE seq = ?1",
                )?
                .execute(params![
                    seq,
                    is_another,
                    row.uid,
                    row.url,
                    row.description,
                    policy::write_metadata(&row.metadata)?,
                    join(&row.patterns),
                    row.channels.join(" "),
                    policy::write(&row.policy)?,
                    row.enabled,
                    row.updated_at
                ])?;
            if changes_secrets {
                write_secrets(tx.connection, tx.vault, &row)?;
            }
            tx.routes.follow(tx.connection, tenant, seq)?;
            // If the change enables the endpoint, its deliveries are due at once.
            tx.wake(tenant, seq, Wake::Due(tx.due_now));
            let switched = (row.is_on() != was_on).then_some(row.is_on());
            Ok(Some(UpdatedEndpoint { row, switched, url_changed }))
        })
        .await
    }

    /// Makes up to [`RETRIED_PER_COMMIT`] deliveries due now that wait after a failure: they were waiting for a
    /// receiver that the endpoint no longer names. Returns `true` if there may be more.
    pub(crate) async fn retry_now(&self, tenant: TenantSeq, endpoint: i64) -> Result<bool, StoreError> {
        let retry = |tables| {
            self.write(RETRIED_PER_COMMIT, move |tx| {
                let hastened = make_due_now(tx, endpoint, RETRIED_PER_COMMIT, tables)?;
                if hastened > 0 {
                    tx.wake(tenant, endpoint, Wake::Due(tx.due_now));
                }
                Ok(hastened == RETRIED_PER_COMMIT)
            })
        };
        match retry(DueTables::Both).await {
            Err(StoreError::Corrupt(_)) => retry(DueTables::Due).await,
            retried => retried,
        }
    }

    /// Deletes an endpoint of the tenant. Its pending deliveries become dead letters soon afterwards, in small steps.
    /// Returns `false` if there is no such endpoint.
    pub(crate) async fn delete_endpoint(&self, tenant: TenantSeq, seq: i64) -> Result<bool, StoreError> {
        self.write(1, move |tx| {
            // Nothing names an endpoint without deliveries: otherwise endpoints that are created and deleted in turn
            // would fill the store.
            let unused = "DELETE FROM endpoints WHERE seq = ?2 AND tenant_seq = ?1 AND deleted_at IS NULL
                 AND NOT EXISTS (SELECT 1 FROM deliveries INDEXED BY deliveries_by_endpoint WHERE endpoint_seq = ?2)";
            // Without the secrets, and without the columns that may be large.
            let used = "UPDATE endpoints SET deleted_at = ?3, enabled = 0, uid = NULL, description = '', metadata = '{}',
                     headers = '{}', patterns = '', channels = '', policy = '{}', secret = '', old_secrets = ''
                 WHERE seq = ?2 AND tenant_seq = ?1 AND deleted_at IS NULL";
            let mut changed = tx.connection.prepare_cached(unused)?.execute(params![tenant, seq])?;
            if changed == 0 {
                changed = tx.connection.prepare_cached(used)?.execute(params![tenant, seq, tx.wall])?;
            }
            if changed == 1 {
                tx.routes.follow(tx.connection, tenant, seq)?;
                tx.wake(tenant, seq, Wake::Deleted);
            }
            Ok(changed == 1)
        })
        .await
    }

    /// Returns the newest endpoints of all tenants with their backlogs, at most `limit`, newest first.
    pub(crate) async fn backlogs(&self, limit: i64) -> Result<Vec<(EndpointRow, Backlog)>, StoreError> {
        let now = self.clock().due_now();
        let shared = Arc::clone(&self.shared);
        self.shared.readers.read(move |connection| backlogs(connection, &shared, limit, now)).await
    }

    /// Returns the backlogs of all endpoints by their numbers, read by the reader of the metrics.
    pub(crate) async fn all_backlogs(&self) -> Result<Vec<(i64, Backlog)>, StoreError> {
        let now = self.clock().due_now();
        let shared = Arc::clone(&self.shared);
        let read = move |connection: &Connection| {
            let mut statement = connection
                .prepare_cached("SELECT seq FROM endpoints WHERE deleted_at IS NULL ORDER BY seq DESC")?;
            let rows = statement.query_map([], |row| row.get(0))?;
            rows.map(|seq| {
                let seq = seq?;
                Ok((seq, readable_backlog(connection, &shared, seq, now)?))
            })
            .collect()
        };
        self.shared.metrics_reader.read(read).await
    }
}

/// Number of deliveries that one commit makes due.
const RETRIED_PER_COMMIT: usize = 256;

/// Enables an endpoint that relay has disabled, and resets its count of failures.
fn clear_held(tx: &Tx<'_>, row: &mut EndpointRow) -> Result<(), StoreError> {
    row.held = None;
    tx.connection
        .prepare_cached(
            "UPDATE endpoints SET held = 0, failures = 0, failing_since = NULL, probe_at = NULL WHERE seq = ?1",
        )?
        .execute([row.seq])?;
    Ok(())
}

/// Writes the secrets of an endpoint, except those that cannot be decrypted: these stay as they are.
fn write_secrets(connection: &Connection, vault: &Vault, row: &EndpointRow) -> Result<(), StoreError> {
    let EndpointRow { seq, lost, .. } = row;
    let sealed = |column, lost: &Option<LostValue>, plain: Option<String>| {
        let plain = plain.filter(|_| lost.is_none());
        plain.map(|plain| vault.seal(column, *seq, plain)).transpose()
    };
    let secret = sealed(SecretColumn::Secret, &lost.secret, row.secret.as_ref().map(Secret::expose))?;
    let old_secrets = sealed(SecretColumn::OldSecrets, &lost.old_secrets, Some(row.old_secrets.stored()))?;
    let headers = policy::write_headers(&row.headers)?;
    let headers = sealed(SecretColumn::Headers, &lost.headers, Some(headers))?;
    let update =
        "UPDATE endpoints SET secret = coalesce(?2, secret), old_secrets = coalesce(?3, old_secrets),
         headers = coalesce(?4, headers) WHERE seq = ?1";
    connection.prepare_cached(update)?.execute(params![seq, secret, old_secrets, headers])?;
    Ok(())
}

fn backlogs(
    connection: &Connection,
    shared: &StoreShared,
    limit: i64,
    now: Millis,
) -> Result<Vec<(EndpointRow, Backlog)>, StoreError> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM endpoints WHERE deleted_at IS NULL ORDER BY seq DESC LIMIT ?1"
    ))?;
    let rows = statement.query_and_then([limit], |row| from_row(&shared.vault, row))?;
    rows.map(|row| {
        let row = row?;
        let backlog = readable_backlog(connection, shared, row.seq, now)?;
        Ok((row, backlog))
    })
    .collect()
}

/// Returns the backlog of an endpoint; if it cannot be read, an empty one.
fn readable_backlog(
    connection: &Connection,
    shared: &StoreShared,
    seq: i64,
    now: Millis,
) -> Result<Backlog, StoreError> {
    Ok(readable(backlog(connection, &shared.backlogs, seq, now))?.unwrap_or_else(|why| {
        shared.damage.note(&why);
        Backlog::default()
    }))
}

fn backlog(
    connection: &Connection,
    backlogs: &Backlogs,
    seq: i64,
    now: Millis,
) -> Result<Backlog, StoreError> {
    let earliest: Option<Millis> = connection
        .prepare_cached("SELECT min(due_at) FROM due WHERE endpoint_seq = ?1")?
        .query_row([seq], |row| row.get(0))?;
    let [pending, dead] = [Counted::Pending, Counted::Dead].map(|counted| backlogs.of(counted, seq));
    Ok(Backlog { pending, dead, overdue: earliest.map_or(0, |due| (now - due).max(0)) })
}

/// Returns the condition on the tenant, which is the first parameter.
fn of_tenant(tenant: Option<TenantSeq>) -> &'static str {
    match tenant {
        Some(_) => "INDEXED BY endpoints_by_tenant WHERE tenant_seq = ?1",
        None => "NOT INDEXED WHERE ?1 IS NULL",
    }
}

fn set<T>(field: &mut T, change: Option<T>) {
    if let Some(value) = change {
        *field = value;
    }
}

/// Checks that no other endpoint of the tenant has this uid.
fn check_uid(
    connection: &Connection,
    tenant: TenantSeq,
    uid: Option<&str>,
    own: Option<i64>,
) -> Result<(), StoreError> {
    let Some(uid) = uid else { return Ok(()) };
    let found: Option<i64> = connection
        .prepare_cached(
            "SELECT seq FROM endpoints WHERE tenant_seq = ?1 AND uid = ?2 AND deleted_at IS NULL",
        )?
        .query_row(params![tenant, uid], |row| row.get(0))
        .optional()?;
    if found.is_some() && found != own { Err(StoreError::UidTaken(uid.to_owned())) } else { Ok(()) }
}

pub(super) fn find(
    connection: &Connection,
    vault: &Vault,
    tenant: TenantSeq,
    seq: i64,
) -> Result<Option<EndpointRow>, StoreError> {
    connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM endpoints WHERE seq = ?2 AND tenant_seq = ?1 AND deleted_at IS NULL"
        ))?
        .query_row(params![tenant, seq], |row| Ok(from_row(vault, row)))
        .optional()?
        .transpose()
}

fn from_row(vault: &Vault, row: &Row<'_>) -> Result<EndpointRow, StoreError> {
    let text = |index| row.get_ref(index)?.as_str().map_err(rusqlite::Error::from);
    let seq = row.get(0)?;
    let EndpointSecrets { secret, old_secrets, headers, lost } =
        EndpointSecrets::read(vault, seq, [text(12)?, text(13)?, text(6)?])?;
    Ok(EndpointRow {
        seq,
        uid: row.get(1)?,
        kind: EndpointKind::read(text(2)?)?,
        url: row.get(3)?,
        description: row.get(4)?,
        metadata: policy::parse(text(5)?)?,
        headers,
        patterns: parse_patterns(text(7)?)?,
        channels: split(text(8)?),
        policy: policy::parse(text(9)?)?,
        enabled: row.get(10)?,
        paused: row.get(11)?,
        secret,
        old_secrets,
        lost,
        created_at: row.get(14)?,
        updated_at: row.get(15)?,
        held: HoldReason::read(row.get(16)?),
        tenant: row.get(17)?,
    })
}

/// The secrets of an endpoint, decrypted.
#[derive(Debug)]
pub(super) struct EndpointSecrets {
    pub(super) secret: Option<Secret>,
    pub(super) old_secrets: OldSecrets,
    pub(super) headers: Masked<BTreeMap<String, String>>,
    pub(super) lost: LostSecrets,
}

impl EndpointSecrets {
    /// Decrypts the columns `secret`, `old_secrets` and `headers` of an endpoint.
    pub(super) fn read(vault: &Vault, seq: i64, columns: [&str; 3]) -> Result<Self, StoreError> {
        let mut lost = LostSecrets::default();
        let [secret, old_secrets, headers] = columns;
        let secret = keep(vault.unseal(SecretColumn::Secret, seq, secret), &mut lost.secret);
        let old_secrets =
            keep(vault.unseal(SecretColumn::OldSecrets, seq, old_secrets), &mut lost.old_secrets);
        let headers = keep(vault.unseal(SecretColumn::Headers, seq, headers), &mut lost.headers);
        Ok(Self {
            secret: secret.map(|text| parse_secret(&text)).transpose()?,
            old_secrets: old_secrets.map(|text| OldSecrets::parse(&text)).transpose()?.unwrap_or_default(),
            headers: Masked(headers.map(|text| policy::parse(&text)).transpose()?.unwrap_or_default()),
            lost,
        })
    }
}

/// Returns the value, or puts the error aside.
fn keep<T>(value: Result<T, LostValue>, lost: &mut Option<LostValue>) -> Option<T> {
    value.map_err(|error| *lost = Some(error)).ok()
}

fn parse_secret(stored: &str) -> Result<Secret, StoreError> {
    Secret::parse(stored).map_err(|_| StoreError::Corrupt("a stored secret is not readable".to_owned()))
}

fn join(patterns: &[Pattern]) -> String {
    patterns.iter().map(Pattern::as_str).collect::<Vec<_>>().join(" ")
}
