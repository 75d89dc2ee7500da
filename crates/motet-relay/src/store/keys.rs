//! API keys. Only their hashes are stored.
//!
//! The valid keys are also in memory: a request is authenticated without a read of the database. The copy follows the
//! commits of the writer, so a key is revoked for all requests that begin after its revocation is on disk.

use std::collections::{HashMap, VecDeque};
use std::hint::black_box;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use motet::task::{CancelToken, Reason};
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use sha2::{Digest as _, Sha256};
use tokio::time::{MissedTickBehavior, interval};

use super::quotas::{Quota, QuotaExceeded};
use super::{Store, StoreError, TenantSeq, Tx, policy, tenants};
use crate::access::{KeyScope, KeyScopes};
use crate::clock::{Millis, rfc3339};

pub(crate) type KeyHash = [u8; 32];

pub(crate) fn hash_key(key: &str) -> KeyHash {
    // A key has 256 random bits, so a plain hash cannot be reversed by search; salt or stretching is not needed.
    Sha256::digest(key.as_bytes()).into()
}

/// The last use of a key is stored by the day, so that a key in constant use is written once a day.
const DAY: Millis = 24 * 60 * 60 * 1_000;

/// How often the last uses of keys are stored, and the responses of expired keys are ended.
const UPKEEP: Duration = Duration::from_secs(60);

/// Maximum number of last uses in a commit, so that other writes do not wait for them.
const USES_PER_COMMIT: usize = 200;

/// Number of revoked and expired keys of a tenant that are kept for lists.
const KEPT_ENDED: usize = 1_000;

/// A key to be stored.
#[derive(Debug, Clone)]
pub(crate) struct NewKey {
    pub(crate) id: String,
    pub(crate) hash: KeyHash,
    /// The id of the key's tenant. `None`: all tenants.
    pub(crate) tenant: Option<String>,
    pub(crate) scopes: KeyScopes,
    pub(crate) name: String,
    pub(crate) expires_at: Option<Millis>,
}

/// The sender of a request that creates a key or a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Creator {
    /// The owner of the data directory.
    Owner,
    /// A client with this key.
    Key {
        id: String,
        /// The key's tenant. `None`: all tenants.
        tenant: Option<TenantSeq>,
    },
}

impl Creator {
    /// The only tenant that the creator may create keys for, if there is one.
    fn tenant(&self) -> Option<TenantSeq> {
        match self {
            Self::Owner => None,
            Self::Key { tenant, .. } => *tenant,
        }
    }

    /// Checks that the creator's key is still valid, and returns its time of expiry. Must be called in the job that
    /// stores what it creates: the key may have been revoked after the request was authenticated.
    pub(super) fn check(&self, tx: &Tx<'_>) -> Result<Option<Millis>, StoreError> {
        let Self::Key { id, .. } = self else { return Ok(None) };
        let select = "SELECT expires_at FROM api_keys
             WHERE id = ?1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > ?2)";
        let mut statement = tx.connection.prepare_cached(select)?;
        let found = statement.query_row(params![id, tx.wall], |row| row.get(0)).optional()?;
        found.ok_or(StoreError::KeyEnded)
    }
}

/// A stored key.
#[derive(Debug, Clone)]
pub(crate) struct KeyRow {
    pub(crate) id: String,
    /// The id of the key's tenant. `None`: all tenants.
    pub(crate) tenant: Option<String>,
    pub(crate) scopes: KeyScopes,
    pub(crate) name: String,
    pub(crate) created_at: Millis,
    pub(crate) expires_at: Option<Millis>,
    /// The beginning of the day of the last use, in UTC.
    pub(crate) used_on: Option<Millis>,
    pub(crate) revoked_at: Option<Millis>,
}

/// The result of [`Store::revoke_key`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyRevocation {
    Revoked,
    /// The caller may see no key with this id.
    Unknown,
    /// Without this key no key could create keys.
    LastAdmin,
}

/// The reason why a key is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyRefusal {
    /// It was never created, or was revoked.
    Unknown,
    ExpiredAt(Millis),
}

/// A key that requests may use.
#[derive(Debug)]
pub(crate) struct ValidKey {
    id: String,
    hash: KeyHash,
    tenant: Option<TenantSeq>,
    scopes: KeyScopes,
    expires_at: Option<Millis>,
    used_on: AtomicI64,
    ended: CancelToken,
}

impl ValidKey {
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// The key's tenant. `None`: all tenants.
    pub(crate) const fn tenant(&self) -> Option<TenantSeq> {
        self.tenant
    }

    pub(crate) const fn scopes(&self) -> KeyScopes {
        self.scopes
    }

    /// Cancelled when the key is revoked, and within a minute of its expiry: ends responses without end.
    pub(crate) fn ended(&self) -> &CancelToken {
        &self.ended
    }
}

/// A change of the keys, which takes effect once its commit is on disk.
#[derive(Debug)]
pub(super) enum KeyChange {
    Added(Arc<ValidKey>),
    Revoked(String),
    /// The tenant was deleted, and its keys with it.
    TenantDeleted(TenantSeq),
}

/// The keys that are not revoked, by id.
#[derive(Debug, Default)]
pub(crate) struct KeyRing {
    keys: RwLock<HashMap<String, Arc<ValidKey>>>,
    used: Mutex<UsedKeys>,
}

/// The keys whose last use is not stored yet.
#[derive(Debug, Default)]
struct UsedKeys {
    waiting: VecDeque<Arc<ValidKey>>,
    /// Number of keys that were stored.
    stored: u64,
}

impl UsedKeys {
    /// The next keys to store, and the value of `stored` after that.
    fn next(&self) -> (Vec<Arc<ValidKey>>, u64) {
        let next: Vec<_> = self.waiting.iter().take(USES_PER_COMMIT).map(Arc::clone).collect();
        let after = self.stored + next.len() as u64;
        (next, after)
    }

    fn set_stored(&mut self, stored: u64) {
        while self.stored < stored {
            self.waiting.pop_front();
            self.stored += 1;
        }
    }
}

impl KeyRing {
    /// Reads the keys of the database.
    pub(super) fn load(connection: &Connection) -> rusqlite::Result<Self> {
        let select =
            "SELECT id, hash, tenant_seq, scopes, expires_at, used_on FROM api_keys WHERE revoked_at IS NULL";
        let mut statement = connection.prepare(select)?;
        let rows = statement.query_map([], |row| {
            let key = ValidKey {
                id: row.get(0)?,
                hash: row.get(1)?,
                tenant: row.get(2)?,
                scopes: KeyScopes::from_bits(row.get(3)?),
                expires_at: row.get(4)?,
                used_on: AtomicI64::new(row.get::<_, Option<Millis>>(5)?.unwrap_or(Millis::MIN)),
                ended: CancelToken::new(),
            };
            Ok((key.id.clone(), Arc::new(key)))
        })?;
        Ok(Self { keys: RwLock::new(rows.collect::<Result<_, _>>()?), used: Mutex::default() })
    }

    /// Follows a commit.
    pub(super) fn apply(&self, changes: Vec<KeyChange>) {
        if changes.is_empty() {
            return;
        }
        let mut ended = Vec::new();
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        for change in changes {
            match change {
                KeyChange::Added(key) => drop(keys.insert(key.id.clone(), key)),
                KeyChange::Revoked(id) => ended.extend(keys.remove(&id)),
                KeyChange::TenantDeleted(tenant) => {
                    ended.extend(keys.extract_if(|_, key| key.tenant == Some(tenant)).map(|(_, key)| key));
                }
            }
        }
        drop(keys);
        for key in ended {
            key.ended.cancel(Reason::requested("the API key was revoked"));
        }
    }

    /// Returns the key that a request presents, and notes its use.
    pub(crate) fn verify(&self, presented: &str, now: Millis) -> Result<Arc<ValidKey>, KeyRefusal> {
        let key = id_of(presented)
            .and_then(|id| self.keys.read().unwrap_or_else(PoisonError::into_inner).get(id).map(Arc::clone));
        let key = key.filter(|key| is_equal(&key.hash, &hash_key(presented))).ok_or(KeyRefusal::Unknown)?;
        if let Some(at) = key.expires_at.filter(|at| *at <= now) {
            return Err(KeyRefusal::ExpiredAt(at));
        }
        let today = now - now.rem_euclid(DAY);
        if key.used_on.load(Ordering::Relaxed) < today && key.used_on.swap(today, Ordering::Relaxed) < today {
            self.used().waiting.push_back(Arc::clone(&key));
        }
        Ok(key)
    }

    fn used(&self) -> MutexGuard<'_, UsedKeys> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the responses of keys that have expired.
    pub(crate) fn end_expired(&self, now: Millis) {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let is_expired = |key: &&Arc<ValidKey>| key.expires_at.is_some_and(|at| at <= now);
        let expired: Vec<_> = keys.values().filter(is_expired).map(Arc::clone).collect();
        drop(keys);
        for key in expired {
            key.ended.cancel(Reason::requested("the API key has expired"));
        }
    }
}

/// The id in the text of a key: `rk_<id>_<secret>`.
fn id_of(key: &str) -> Option<&str> {
    key.strip_prefix("rk_")?.split_once('_').map(|(id, _)| id)
}

/// Compares two hashes in a time that does not depend on the place of the first difference.
fn is_equal(a: &KeyHash, b: &KeyHash) -> bool {
    let differing = a.iter().zip(b).fold(0, |differing, (a, b)| black_box(differing | (a ^ b)));
    differing == 0
}

impl Store {
    /// The valid keys.
    pub(crate) fn key_ring(&self) -> &Arc<KeyRing> {
        &self.shared.keys
    }

    /// Returns `true` if the store has had a key for everything in all tenants, valid or not.
    pub(crate) async fn has_had_admin_key(&self) -> Result<bool, StoreError> {
        let any = "SELECT 1 FROM api_keys WHERE tenant_seq IS NULL AND scopes & ?1 <> 0";
        let admin = KeyScopes::ADMIN.bits();
        self.shared.readers.read(move |connection| Ok(connection.prepare(any)?.exists([admin])?)).await
    }

    /// Adds a key; earlier keys stay valid. A key that names no tenant belongs to the tenant of its creator, and a key
    /// without an expiry expires with its creator's key. Returns `None` if another key has the id.
    ///
    /// # Errors
    /// [`StoreError::NoTenant`] if the tenant does not exist, or the creator may not create keys for it;
    /// [`StoreError::KeyEnded`]; [`StoreError::Invalid`] if the key would be valid for longer than its creator's.
    pub(crate) async fn add_key(
        &self,
        mut new: NewKey,
        creator: Creator,
    ) -> Result<Option<KeyRow>, StoreError> {
        self.write(1, move |tx| {
            let within = creator.tenant();
            if let Some(end) = creator.check(tx)?
                && *new.expires_at.get_or_insert(end) > end
            {
                return Err(StoreError::Invalid(format!(
                    "expires_at is after the expiry of the key that creates it, {}",
                    rfc3339(end)
                )));
            }
            let tenant = match &new.tenant {
                Some(id) => Some(find_tenant(tx.connection, id)?),
                None => within,
            };
            if within.is_some() && tenant != within {
                return Err(StoreError::NoTenant);
            }
            limit_keys(tx, tenant)?;
            if creator != Creator::Owner {
                tx.space.check_row(tx.connection)?;
            }
            let insert = "INSERT INTO api_keys (id, hash, tenant_seq, scopes, name, created_at, expires_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (id) DO NOTHING";
            let values =
                params![new.id, new.hash, tenant, new.scopes.bits(), new.name, tx.wall, new.expires_at];
            if tx.connection.prepare_cached(insert)?.execute(values)? == 0 {
                return Ok(None);
            }
            tx.key_changes.push(KeyChange::Added(Arc::new(ValidKey {
                id: new.id.clone(),
                hash: new.hash,
                tenant,
                scopes: new.scopes,
                expires_at: new.expires_at,
                used_on: AtomicI64::new(Millis::MIN),
                ended: CancelToken::new(),
            })));
            let added = format!("{SELECT_KEYS} WHERE k.id = ?1");
            Ok(Some(tx.connection.prepare_cached(&added)?.query_row([&new.id], read_row)?))
        })
        .await
    }

    /// Returns keys, newest first, also revoked ones: of one tenant, or all.
    pub(crate) async fn keys(
        &self,
        tenant: Option<TenantSeq>,
        before: Option<i64>,
        limit: usize,
    ) -> Result<Vec<KeyRow>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let before = before.unwrap_or(i64::MAX);
        let of = if tenant.is_some() { "k.tenant_seq = ?1" } else { "?1 IS NULL" };
        let select = format!("{SELECT_KEYS} WHERE {of} AND k.seq < ?2 ORDER BY k.seq DESC LIMIT ?3");
        self.shared
            .readers
            .read(move |connection| {
                let mut statement = connection.prepare_cached(&select)?;
                let rows = statement.query_map(params![tenant, before, limit], read_row)?;
                Ok(rows.collect::<Result<_, _>>()?)
            })
            .await
    }

    /// Returns the row of a key in the order of lists, for the cursor of a page. `within` is the only tenant whose keys
    /// the caller may see, if there is one.
    pub(crate) async fn key_seq(
        &self,
        id: String,
        within: Option<TenantSeq>,
    ) -> Result<Option<i64>, StoreError> {
        let select = "SELECT seq FROM api_keys WHERE id = ?1 AND (?2 IS NULL OR tenant_seq = ?2)";
        let read = move |connection: &Connection| {
            let mut select = connection.prepare_cached(select)?;
            Ok(select.query_row(params![id, within], |row| row.get(0)).optional()?)
        };
        self.shared.readers.read(read).await
    }

    /// Revokes a key. To revoke a key again changes nothing. `within` is the only tenant whose keys the caller may
    /// revoke, if there is one.
    pub(crate) async fn revoke_key(
        &self,
        id: String,
        within: Option<TenantSeq>,
    ) -> Result<KeyRevocation, StoreError> {
        self.write(1, move |tx| {
            let select = "SELECT tenant_seq, scopes, expires_at, revoked_at FROM api_keys WHERE id = ?1";
            let found = tx.connection.prepare_cached(select)?.query_row([&id], |row| {
                let tenant: Option<TenantSeq> = row.get(0)?;
                let is_admin = tenant.is_none() && KeyScopes::from_bits(row.get(1)?).allow(KeyScope::Admin);
                Ok((tenant, is_admin, row.get::<_, Option<Millis>>(2)?, row.get::<_, Option<Millis>>(3)?))
            });
            let Some((tenant, is_admin, expires_at, revoked_at)) = found.optional()? else {
                return Ok(KeyRevocation::Unknown);
            };
            if within.is_some() && tenant != within {
                return Ok(KeyRevocation::Unknown);
            }
            if revoked_at.is_none() {
                let is_usable = expires_at.is_none_or(|at| at > tx.wall);
                if is_admin && is_usable && !has_other_admin(tx, &id)? {
                    return Ok(KeyRevocation::LastAdmin);
                }
                let revoke = "UPDATE api_keys SET revoked_at = ?2 WHERE id = ?1";
                tx.connection.prepare_cached(revoke)?.execute(params![id, tx.wall])?;
            }
            tx.key_changes.push(KeyChange::Revoked(id));
            Ok(KeyRevocation::Revoked)
        })
        .await
    }

    /// Stores the last uses of keys, in small commits.
    ///
    /// # Cancel safety
    /// Safe: the next call stores the uses that this call has not stored. The same holds after an error.
    pub(crate) async fn write_key_uses(&self) -> Result<(), StoreError> {
        loop {
            let (used, stored) = self.shared.keys.used().next();
            if used.is_empty() {
                return Ok(());
            }
            self.write(used.len(), move |tx| {
                let update = "UPDATE api_keys SET used_on = ?2 WHERE id = ?1";
                let mut update = tx.connection.prepare_cached(update)?;
                for key in used {
                    update.execute(params![key.id, key.used_on.load(Ordering::Relaxed)])?;
                }
                Ok(())
            })
            .await?;
            self.shared.keys.used().set_stored(stored);
        }
    }
}

/// Stores the last uses of keys, and ends the responses of expired keys, without end.
pub(crate) async fn keep_keys_up(store: Store) {
    let mut ticks = interval(UPKEEP);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        store.shared.keys.end_expired(store.clock().wall());
        if let Err(error) = store.write_key_uses().await {
            tracing::warn!(%error, "cannot store the last uses of API keys; relay tries again in a minute");
        }
    }
}

/// Checks that the tenant, or all of relay, may have another key, and removes its oldest rows of keys that are no longer
/// valid: lists show them, but their number must be limited.
///
/// # Errors
/// [`StoreError::Quota`].
fn limit_keys(tx: &mut Tx<'_>, tenant: Option<TenantSeq>) -> Result<(), StoreError> {
    let max = match tenant {
        Some(tenant) => tenants::policy_of(tx.connection, tenant)?.keys_max(),
        None => policy::KEYS_MAX,
    };
    let valid = "SELECT count(*) FROM api_keys INDEXED BY api_keys_by_tenant
         WHERE tenant_seq IS ?1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > ?2)";
    let mut valid = tx.connection.prepare_cached(valid)?;
    if valid.query_row(params![tenant, tx.wall], |row| row.get::<_, u32>(0))? >= max {
        let (quota, limit) = (Quota::Keys, max.into());
        return Err(StoreError::Quota(QuotaExceeded { quota, limit, retry_after: None }));
    }
    let remove = "DELETE FROM api_keys WHERE seq IN
         (SELECT seq FROM api_keys INDEXED BY api_keys_by_tenant
          WHERE tenant_seq IS ?1 AND (revoked_at IS NOT NULL OR expires_at <= ?2)
          ORDER BY seq DESC LIMIT -1 OFFSET ?3) RETURNING id";
    let mut remove = tx.connection.prepare_cached(remove)?;
    let mut removed = remove.query(params![tenant, tx.wall, KEPT_ENDED])?;
    while let Some(row) = removed.next()? {
        // An expired key is still in memory.
        tx.key_changes.push(KeyChange::Revoked(row.get(0)?));
    }
    Ok(())
}

/// Returns `true` if another key may do everything, in all tenants, now.
fn has_other_admin(tx: &Tx<'_>, id: &str) -> Result<bool, StoreError> {
    let other = "SELECT 1 FROM api_keys WHERE tenant_seq IS NULL AND id <> ?1 AND scopes & ?2 <> 0
         AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > ?3)";
    Ok(tx.connection.prepare_cached(other)?.exists(params![id, KeyScopes::ADMIN.bits(), tx.wall])?)
}

fn find_tenant(connection: &Connection, id: &str) -> Result<TenantSeq, StoreError> {
    let select = "SELECT seq FROM tenants WHERE id = ?1 AND deleted_at IS NULL";
    let found = connection.prepare_cached(select)?.query_row([id], |row| row.get(0)).optional()?;
    found.ok_or(StoreError::NoTenant)
}

const SELECT_KEYS: &str =
    "SELECT k.id, t.id, k.scopes, k.name, k.created_at, k.expires_at, k.used_on, k.revoked_at
     FROM api_keys k LEFT JOIN tenants t ON t.seq = k.tenant_seq";

fn read_row(row: &Row<'_>) -> rusqlite::Result<KeyRow> {
    Ok(KeyRow {
        id: row.get(0)?,
        tenant: row.get(1)?,
        scopes: KeyScopes::from_bits(row.get(2)?),
        name: row.get(3)?,
        created_at: row.get(4)?,
        expires_at: row.get(5)?,
        used_on: row.get(6)?,
        revoked_at: row.get(7)?,
    })
}
