//! API keys. Only their hashes are stored.

use rusqlite::params;
use sha2::{Digest as _, Sha256};

use super::{Store, StoreError};

pub(crate) type KeyHash = [u8; 32];

pub(crate) fn hash_key(key: &str) -> KeyHash {
    // A key has 256 random bits, so a plain hash cannot be reversed by search; salt or stretching is not needed.
    Sha256::digest(key.as_bytes()).into()
}

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
        let insert = "INSERT INTO api_keys (hash, created_at) VALUES (?1, ?2)";
        self.write(1, move |tx| Ok(tx.connection.execute(insert, params![hash, tx.wall]).map(drop)?)).await
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
