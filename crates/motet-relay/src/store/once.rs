//! Requests that a client may repeat: the object that the first of them has created is remembered by the idempotency key
//! of the request, in the same commit.

use std::fmt::Display;

use rusqlite::{OptionalExtension as _, params};

use super::events::GENERATED_KEY;
use super::writer::Tx;
use super::{StoreError, TenantSeq};
use crate::clock::Millis;

/// How long a key is remembered; a key that a client has generated, to repeat a request within seconds, for a shorter time.
const WINDOW: Millis = 12 * 60 * 60 * 1_000;
const GENERATED_KEY_WINDOW: Millis = 10 * 60 * 1_000;

/// Removes expired keys with each new key, and several at once so that their number shrinks.
const REMOVE_EXPIRED: &str = "DELETE FROM once WHERE (tenant_seq, kind, key) IN
     (SELECT tenant_seq, kind, key FROM once WHERE expires_at <= ?1 ORDER BY expires_at LIMIT 4)";

/// The object of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnceKind {
    /// Of no tenant.
    Tenant,
    Endpoint,
    Replay,
    /// The event that was sent again.
    Resend,
}

/// The idempotency key of a request, which belongs to a tenant and a kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OnceKey {
    kind: OnceKind,
    key: String,
}

impl OnceKind {
    const fn stored(self) -> i64 {
        match self {
            Self::Tenant => 1,
            Self::Endpoint => 2,
            Self::Replay => 3,
            Self::Resend => 4,
        }
    }
}

impl OnceKey {
    /// `scope` names the objects that the request is about: the same key in another scope is another key.
    pub(crate) fn new(kind: OnceKind, key: &str, scope: impl Display) -> Self {
        Self { kind, key: format!("{key} {scope}") }
    }

    /// Returns the object of an earlier request with this key.
    pub(super) fn find(&self, tx: &Tx<'_>, owner: Option<TenantSeq>) -> Result<Option<i64>, StoreError> {
        let sql = "SELECT object_seq FROM once
             WHERE tenant_seq = ?1 AND kind = ?2 AND key = ?3 AND expires_at > ?4";
        let mut statement = tx.connection.prepare_cached(sql)?;
        let values = params![number(owner), self.kind.stored(), self.key, tx.due_now];
        Ok(statement.query_row(values, |row| row.get(0)).optional()?)
    }

    /// Remembers the object that this request has created.
    pub(super) fn remember(
        &self,
        tx: &Tx<'_>,
        owner: Option<TenantSeq>,
        object: i64,
    ) -> Result<(), StoreError> {
        tx.connection.prepare_cached(REMOVE_EXPIRED)?.execute([tx.due_now])?;
        let window = if self.key.starts_with(GENERATED_KEY) { GENERATED_KEY_WINDOW } else { WINDOW };
        // OR REPLACE: the key may still exist although it has expired.
        let sql = "INSERT OR REPLACE INTO once (tenant_seq, kind, key, object_seq, expires_at)
             VALUES (?1, ?2, ?3, ?4, ?5)";
        tx.connection.prepare_cached(sql)?.execute(params![
            number(owner),
            self.kind.stored(),
            self.key,
            object,
            tx.due_now + window
        ])?;
        Ok(())
    }
}

/// Returns the stored number of the owner of a key: 0 if it is of no tenant.
fn number(owner: Option<TenantSeq>) -> i64 {
    owner.map_or(0, TenantSeq::number)
}
