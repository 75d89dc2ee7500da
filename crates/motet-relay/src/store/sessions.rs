//! Sessions of the portal of a tenant. Only the hashes of their tokens are stored.

use rusqlite::params;

use super::keys::hash_key;
use super::{Store, StoreError, TenantSeq, tenants};
use crate::clock::Millis;

/// A session to be stored.
#[derive(Debug)]
pub(crate) struct NewSession {
    pub(crate) token: String,
    /// The caller's name of the session.
    pub(crate) session: Option<String>,
    pub(crate) capabilities: Vec<String>,
    /// In calendar time.
    pub(crate) expires_at: Millis,
}

/// Removes expired sessions with each new one, and several at once so that their number shrinks.
const REMOVE_EXPIRED: &str = "DELETE FROM portal_sessions WHERE hash IN
     (SELECT hash FROM portal_sessions WHERE expires_at <= ?1 ORDER BY expires_at LIMIT 4)";

impl Store {
    /// Stores a session of the tenant.
    ///
    /// # Errors
    /// [`StoreError::NoTenant`].
    pub(crate) async fn add_session(&self, tenant: TenantSeq, new: NewSession) -> Result<(), StoreError> {
        self.write(1, move |tx| {
            tenants::policy_of(tx.connection, tenant)?;
            tx.connection.prepare_cached(REMOVE_EXPIRED)?.execute([tx.wall])?;
            let insert = "INSERT INTO portal_sessions (hash, tenant_seq, session, capabilities, created_at, expires_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
            tx.connection.prepare_cached(insert)?.execute(params![
                hash_key(&new.token),
                tenant,
                new.session,
                new.capabilities.join(" "),
                tx.wall,
                new.expires_at
            ])?;
            Ok(())
        })
        .await
    }

    /// Ends the session of a token. Returns `false` if the token has none.
    pub(crate) async fn end_session(&self, token: &str) -> Result<bool, StoreError> {
        let hash = hash_key(token);
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
            let update = "UPDATE portal_sessions SET expires_at = min(expires_at, ?2)
                 WHERE tenant_seq = ?1 AND (?3 IS NULL OR session = ?3)";
            let mut statement = tx.connection.prepare_cached(update)?;
            if sessions.is_empty() {
                statement.execute(params![tenant, by, None::<String>])?;
            }
            for session in sessions {
                statement.execute(params![tenant, by, session])?;
            }
            Ok(())
        })
        .await
    }
}
