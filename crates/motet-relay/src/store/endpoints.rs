//! Endpoints: the receivers of events.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::{OptionalExtension as _, Row, params};

use super::damage::{Damage, readable};
use super::events::step_counters;
use super::routes::parse_patterns;
use super::{HoldReason, Store, StoreError, Tx, Wake};
use crate::clock::{Millis, millis};
use crate::pattern::Pattern;
use crate::signature::Secret;

/// A stored endpoint that is not deleted.
#[derive(Debug, Clone)]
pub(crate) struct EndpointRow {
    pub(crate) seq: i64,
    pub(crate) url: String,
    pub(crate) patterns: Vec<Pattern>,
    /// `true` if the owner has enabled the endpoint.
    pub(crate) enabled: bool,
    pub(crate) secret: Secret,
    pub(crate) old_secrets: OldSecrets,
    pub(crate) created_at: Millis,
    pub(crate) updated_at: Millis,
    /// The reason why relay has disabled the endpoint.
    pub(crate) held: Option<HoldReason>,
}

impl EndpointRow {
    /// Returns `true` if attempts are made.
    const fn is_on(&self) -> bool {
        self.enabled && self.held.is_none()
    }
}

#[derive(Debug)]
pub(crate) struct NewEndpoint {
    pub(crate) url: String,
    pub(crate) patterns: Vec<Pattern>,
    pub(crate) enabled: bool,
    pub(crate) secret: Secret,
}

/// A change of an endpoint; `None` leaves a field unchanged.
#[derive(Debug, Default)]
pub(crate) struct EndpointChange {
    pub(crate) url: Option<String>,
    pub(crate) patterns: Option<Vec<Pattern>>,
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

const COLUMNS: &str = "seq, url, patterns, enabled, secret, created_at, updated_at, held, old_secrets";

/// How long deliveries are also signed with a replaced secret, unless the change sets another time.
const OVERLAP: Duration = Duration::from_secs(24 * 60 * 60);

/// Each old secret costs a signature for every delivery; the oldest secret is dropped first.
const MAX_OLD_SECRETS: usize = 4;

/// Replaced secrets, each with the time until which deliveries are also signed with it.
#[derive(Debug, Clone, Default)]
pub(crate) struct OldSecrets(Vec<(Millis, Secret)>);

impl OldSecrets {
    pub(super) fn parse(stored: &str) -> Result<Self, StoreError> {
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
    pub(crate) async fn create_endpoint(&self, new: NewEndpoint) -> Result<EndpointRow, StoreError> {
        self.write(1, move |tx| {
            step_counters(tx)?;
            tx.connection
                .prepare_cached(
                    "INSERT INTO endpoints (url, patterns, enabled, secret, created_at, updated_at)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?5)",
                )?
                .execute(params![new.url, join(&new.patterns), new.enabled, new.secret.expose(), tx.wall])?;
            tx.routes.invalidate();
            Ok(EndpointRow {
                seq: tx.connection.last_insert_rowid(),
                url: new.url,
                patterns: new.patterns,
                enabled: new.enabled,
                secret: new.secret,
                old_secrets: OldSecrets::default(),
                created_at: tx.wall,
                updated_at: tx.wall,
                held: None,
            })
        })
        .await
    }

    pub(crate) async fn endpoint(&self, seq: i64) -> Result<Option<EndpointRow>, StoreError> {
        self.shared.readers.read(move |connection| find(connection, seq)).await
    }

    /// Returns endpoints, newest first; `before` excludes that row and all newer rows.
    pub(crate) async fn endpoints(
        &self,
        before: Option<i64>,
        limit: usize,
    ) -> Result<Vec<EndpointRow>, StoreError> {
        self.shared
            .readers
            .read(move |connection| {
                let mut statement = connection.prepare_cached(&format!(
                    "SELECT {COLUMNS} FROM endpoints WHERE deleted_at IS NULL AND seq < ?1
                     ORDER BY seq DESC LIMIT ?2"
                ))?;
                let rows = statement.query_and_then(params![before.unwrap_or(i64::MAX), limit], from_row)?;
                rows.collect()
            })
            .await
    }

    /// Changes an endpoint; its pending deliveries use the changed endpoint. Returns `None` if there is no such
    /// endpoint.
    pub(crate) async fn update_endpoint(
        &self,
        seq: i64,
        change: EndpointChange,
    ) -> Result<Option<UpdatedEndpoint>, StoreError> {
        self.write(1, move |tx| {
            let Some(mut row) = find(tx.connection, seq)? else { return Ok(None) };
            let was_on = row.is_on();
            let is_another = change.url.is_some() || change.secret.is_some() || change.enabled.is_some();
            let url_changed = change.url.as_ref().is_some_and(|url| *url != row.url);
            if let Some(url) = change.url {
                row.url = url;
            }
            if url_changed && row.held == Some(HoldReason::Failing) {
                // The failures were those of the old URL.
                clear_held(tx, &mut row)?;
            }
            if let Some(patterns) = change.patterns {
                row.patterns = patterns;
            }
            if let Some(enabled) = change.enabled {
                row.enabled = enabled;
                clear_held(tx, &mut row)?;
            }
            if let Some(overlap) = change.overlap {
                row.old_secrets.end_by(tx.due_now.saturating_add(millis(overlap)), tx.due_now);
            }
            if let Some(secret) = change.secret {
                let until = tx.due_now.saturating_add(millis(change.overlap.unwrap_or(OVERLAP)));
                if secret != row.secret {
                    row.old_secrets.push(std::mem::replace(&mut row.secret, secret), until, tx.due_now);
                }
            }
            row.updated_at = tx.wall;
            if is_another {
                tx.connection
                    .prepare_cached("UPDATE endpoints SET generation = generation + 1 WHERE seq = ?1")?
                    .execute([seq])?;
            }
            tx.connection
                .prepare_cached(
                    "UPDATE endpoints SET url = ?2, patterns = ?3, enabled = ?4, secret = ?5, updated_at = ?6,
                         old_secrets = ?7
                     WHERE seq = ?1",
                )?
                .execute(params![
                    seq,
                    row.url,
                    join(&row.patterns),
                    row.enabled,
                    row.secret.expose(),
                    row.updated_at,
                    row.old_secrets.stored()
                ])?;
            tx.routes.invalidate();
            // If the change enables the endpoint, its deliveries are due at once.
            tx.woken.push((seq, Wake::Due(tx.due_now)));
            let switched = (row.is_on() != was_on).then_some(row.is_on());
            Ok(Some(UpdatedEndpoint { row, switched, url_changed }))
        })
        .await
    }

    /// Makes up to [`RETRIED_PER_COMMIT`] deliveries due now that wait after a failure: they were waiting for a
    /// receiver that the endpoint no longer names. Returns `true` if there may be more.
    pub(crate) async fn retry_now(&self, endpoint: i64) -> Result<bool, StoreError> {
        self.write(RETRIED_PER_COMMIT, move |tx| {
            let hastened = tx
                .connection
                .prepare_cached(
                    "UPDATE deliveries SET due_at = ?2 WHERE seq IN
                         (SELECT seq FROM deliveries WHERE endpoint_seq = ?1 AND state = 0 AND due_at > ?2 LIMIT ?3)",
                )?
                .execute(params![endpoint, tx.due_now, RETRIED_PER_COMMIT])?;
            if hastened > 0 {
                tx.woken.push((endpoint, Wake::Due(tx.due_now)));
            }
            Ok(hastened == RETRIED_PER_COMMIT)
        })
        .await
    }

    /// Deletes an endpoint. Its pending deliveries become dead letters soon afterwards, in small steps. Returns
    /// `false` if there is no such endpoint.
    pub(crate) async fn delete_endpoint(&self, seq: i64) -> Result<bool, StoreError> {
        self.write(1, move |tx| {
            let changed = tx.connection.execute(
                "UPDATE endpoints SET deleted_at = ?2, enabled = 0 WHERE seq = ?1 AND deleted_at IS NULL",
                params![seq, tx.wall],
            )?;
            tx.routes.invalidate();
            tx.woken.push((seq, Wake::Deleted));
            Ok(changed == 1)
        })
        .await
    }

    /// Returns the newest endpoints with their backlogs, at most `limit`, newest first.
    pub(crate) async fn backlogs(&self, limit: i64) -> Result<Vec<(EndpointRow, Backlog)>, StoreError> {
        let now = self.clock().due_now();
        let damage = Arc::clone(&self.shared.damage);
        self.shared.readers.read(move |connection| backlogs(connection, &damage, limit, now)).await
    }

    /// Returns all endpoints with their backlogs, read by the reader of the metrics.
    pub(crate) async fn all_backlogs(&self) -> Result<Vec<(EndpointRow, Backlog)>, StoreError> {
        let now = self.clock().due_now();
        let damage = Arc::clone(&self.shared.damage);
        self.shared.metrics_reader.read(move |connection| backlogs(connection, &damage, i64::MAX, now)).await
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

fn backlogs(
    connection: &rusqlite::Connection,
    damage: &Damage,
    limit: i64,
    now: Millis,
) -> Result<Vec<(EndpointRow, Backlog)>, StoreError> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM endpoints WHERE deleted_at IS NULL ORDER BY seq DESC LIMIT ?1"
    ))?;
    let rows = statement.query_and_then([limit], from_row)?;
    rows.map(|row| {
        let row = row?;
        let backlog = readable(backlog(connection, row.seq, now))?.unwrap_or_else(|why| {
            damage.note(&why);
            Backlog::default()
        });
        Ok((row, backlog))
    })
    .collect()
}

fn backlog(connection: &rusqlite::Connection, seq: i64, now: Millis) -> Result<Backlog, StoreError> {
    let (pending, earliest): (u64, Option<Millis>) = connection
        .prepare_cached("SELECT count(*), min(due_at) FROM deliveries WHERE endpoint_seq = ?1 AND state = 0")?
        .query_row([seq], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let dead = connection
        .prepare_cached("SELECT count(*) FROM deliveries WHERE endpoint_seq = ?1 AND state = 2")?
        .query_row([seq], |row| row.get(0))?;
    Ok(Backlog { pending, dead, overdue: earliest.map_or(0, |due| (now - due).max(0)) })
}

fn find(connection: &rusqlite::Connection, seq: i64) -> Result<Option<EndpointRow>, StoreError> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM endpoints WHERE seq = ?1 AND deleted_at IS NULL"))?
        .query_row([seq], |row| Ok(from_row(row)))
        .optional()?
        .transpose()
}

fn from_row(row: &Row<'_>) -> Result<EndpointRow, StoreError> {
    Ok(EndpointRow {
        seq: row.get(0)?,
        url: row.get(1)?,
        patterns: parse_patterns(row.get_ref(2)?.as_str().map_err(rusqlite::Error::from)?)?,
        enabled: row.get(3)?,
        secret: parse_secret(row.get_ref(4)?.as_str().map_err(rusqlite::Error::from)?)?,
        created_at: row.get(5)?,
        updated_at: row.get(6)?,
        held: HoldReason::read(row.get(7)?),
        old_secrets: OldSecrets::parse(row.get_ref(8)?.as_str().map_err(rusqlite::Error::from)?)?,
    })
}

pub(super) fn parse_secret(stored: &str) -> Result<Secret, StoreError> {
    Secret::parse(stored).map_err(|_| StoreError::Corrupt("a stored secret is not readable".to_owned()))
}

fn join(patterns: &[Pattern]) -> String {
    patterns.iter().map(Pattern::as_str).collect::<Vec<_>>().join(" ")
}
