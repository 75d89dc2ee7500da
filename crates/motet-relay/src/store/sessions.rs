//! Sessions of the portal of a tenant. Only the hashes of their tokens are stored.

use rusqlite::{Connection, params};

use super::keys::{Creator, hash_key};
use super::{Store, StoreError, TenantSeq, policy, tenants};
use crate::clock::Millis;
use crate::masked::Masked;

/// A session to be stored.
#[derive(Debug)]
pub(crate) struct NewSession {
    pub(crate) token: Masked<String>,
    /// The caller's name of the session.
    pub(crate) session: Option<String>,
    pub(crate) capabilities: Vec<String>,
    /// In calendar time.
    pub(crate) expires_at: Millis,
}

/// Removes expired sessions with each new one, and several at once so that their number shrinks.
const REMOVE_EXPIRED: &str = "DELETE FROM portal_sessions WHERE hash IN
     (SELECT hash FROM portal_sessions WHERE expires_at <= ?1 ORDER BY expires_at LIMIT 4)";

/// Maximum number of sessions of a tenant; a new one ends the oldest.
const MAX_SESSIONS: usize = 1_000;

const REMOVE_EXPIRED_OF_TENANT: &str = "DELETE FROM portal_sessions WHERE hash IN
     (SELECT hash FROM portal_sessions INDEXED BY portal_sessions_by_tenant WHERE tenant_seq = ?1 AND expires_at <= ?2)";

const REMOVE_OLDEST: &str = "DELETE FROM portal_sessions WHERE hash IN
     (SELECT hash FROM portal_sessions INDEXED BY portal_sessions_by_tenant
      WHERE tenant_seq = ?1 ORDER BY created_at DESC LIMIT -1 OFFSET ?2)";

impl Store {
    /// Stores a session of the tenant, which may end the tenant's oldest session. It ends with its creator's key.
    ///
    /// # Errors
    /// [`StoreError::NoTenant`]; [`StoreError::KeyEnded`].
    pub(crate) async fn add_session(
        &self,
        tenant: TenantSeq,
        new: NewSession,
        creator: Creator,
    ) -> Result<(), StoreError> {
        self.write(1, move |tx| {
            tenants::policy_of(tx.connection, tenant)?;
            let end = creator.check(tx)?.unwrap_or(Millis::MAX);
            tx.space.check_row(tx.connection)?;
            tx.connection.prepare_cached(REMOVE_EXPIRED)?.execute([tx.wall])?;
            tx.connection.prepare_cached(REMOVE_EXPIRED_OF_TENANT)?.execute(params![tenant, tx.wall])?;
            tx.connection.prepare_cached(REMOVE_OLDEST)?.execute(params![tenant, MAX_SESSIONS - 1])?;
            let insert = "INSERT INTO portal_sessions (hash, tenant_seq, session, capabilities, created_at, expires_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
            tx.connection.prepare_cached(insert)?.execute(params![
                hash_key(&new.token),
                tenant,
                new.session,
                new.capabilities.join(" "),
                tx.wall,
                new.expires_at.min(end)
            ])?;
            Ok(())
        })
        .await
    }

    /// Ends the session of a token. Returns `false` if the token has none.
    pub(crate) async fn end_session(&self, token: &str) -> Result<bool, StoreError> {
        let hash = hash_key(token);
        // Any client may ask, so the writer is asked only about a token that has a session.
        let find = "SELECT 1 FROM portal_sessions WHERE hash = ?1";
        let read = move |connection: &Connection| Ok(connection.prepare_cached(find)?.exists([hash])?);
        if !self.shared.readers.read(read).await? {
            return Ok(false);
        }
        self.write(1, move |tx| {
            let delete = "DELETE FROM portal_sessions WHERE hash = ?1 AND expires_at > ?2";
            Ok(tx.connection.prepare_cached(delete)?.execute(params![hash, tx.wall])? == 1)
        })
        .await
    }

    /// Ends the sessions of the tenant by a time; `sessions` selects those with these names, and an empty list all.
    pub(crate) async fn end_sessions(
        &self,
        tenant: TenantSeq,
        sessions: Vec<String>,
        by: Millis,
    ) -> Result<(), StoreError> {
        self.write(1, move |tx| {
            let update = "UPDATE portal_sessions SET expires_at = min(expires_at, ?2) WHERE tenant_seq = ?1";
            if sessions.is_empty() {
                tx.connection.prepare_cached(update)?.execute(params![tenant, by])?;
            } else {
                let named = format!("{update} AND session IN (SELECT value FROM json_each(?3))");
                let names = policy::write(&sessions)?;
                tx.connection.prepare_cached(&named)?.execute(params![tenant, by, names])?;
            }
            Ok(())
        })
        .await
    }
}
