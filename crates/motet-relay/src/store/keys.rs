//! API keys. Only their hashes are stored.

use sha2::{Digest as _, Sha256};

use super::{Store, StoreError};

pub(crate) type KeyHash = [u8; 32];

pub(crate) fn hash_key(key: &str) -> KeyHash {
    // A key has 256 random bits, so a plain hash cannot be reversed by search; salt or stretching is not needed.
    Sha256::digest(key.as_bytes()).into()
}

/// The scopes of a key that may do everything.
const ALL_SCOPES: i64 = -1;

impl Store {
    /// Returns the hashes of the valid API keys.
    pub(crate) async fn key_hashes(&self) -> Result<Vec<KeyHash>, StoreError> {
        self.shared
            .readers
            .read(|connection| {
                let mut statement = connection.prepare_cached("SELECT hash FROM api_keys ORDER BY hash")?;
                let rows = statement.query_map([], |row| row.get(0))?;
                Ok(rows.collect::<Result<_, _>>()?)
            })
            .await
    }

    /// Adds a key; earlier keys stay valid.
    pub(crate) async fn add_key(&self, hash: KeyHash) -> Result<(), StoreError> {
        let insert = "INSERT INTO api_keys (id, hash, scopes, name, created_at) VALUES (?1, ?2, ?3, '', ?4)";
        // Part of the hash, so that two keys have two ids.
        let id: String = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let values = move |wall| (id, hash, ALL_SCOPES, wall);
        self.write(1, move |tx| Ok(tx.connection.execute(insert, values(tx.wall)).map(drop)?)).await
    }

    /// Revokes a key.
    pub(crate) async fn remove_key(&self, hash: KeyHash) -> Result<(), StoreError> {
        let delete = "DELETE FROM api_keys WHERE hash = ?1";
        self.write(1, move |tx| Ok(tx.connection.execute(delete, [hash]).map(drop)?)).await
    }

    /// Revokes all keys except this one.
    pub(crate) async fn remove_other_keys(&self, hash: KeyHash) -> Result<(), StoreError> {
        let delete = "DELETE FROM api_keys WHERE hash <> ?1";
        self.write(1, move |tx| Ok(tx.connection.execute(delete, [hash]).map(drop)?)).await
    }
}
