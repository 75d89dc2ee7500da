//! The secrets in the database: with which keys they are encrypted, and how a store refuses to start without those.
//!
//! For each key with which a value may be encrypted, `meta` has a canary: a known text, encrypted with the key. A start that
//! cannot decrypt each canary is refused, before anything is written.
//!
//! | Row of `meta` | Content |
//! |---|---|
//! | `secrets_store` | 16 random bytes, to which each value is bound |
//! | `secrets_canary:<key id>` | the known text, encrypted with the key |
//! | `secrets_pending` | present until all values are encrypted with the first key; 2 if there were values in clear text |

use std::borrow::Cow;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};
use thiserror::Error;

use crate::config::{KeySource, StoreUse};
use crate::encryption::{
    LocatedKeyFile, SealError, SecretKeys, UnsealError, create, is_sealed, locate, read_key_file, seal,
    unseal,
};
use crate::error::OpenError;
use crate::store::StoreError;

/// The encrypted text of a canary.
const CANARY: &str = "the keys of this store";

/// The beginning of the names of canaries in `meta`, and a text that is behind all of them.
const CANARIES: &str = "secrets_canary:";
const BEHIND_CANARIES: &str = "secrets_canary;";

/// A column with secrets. The names must not change: a value is bound to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SecretColumn {
    Secret,
    OldSecrets,
    Headers,
}

impl SecretColumn {
    const fn name(self) -> &'static str {
        match self {
            Self::Secret => "endpoints|secret",
            Self::OldSecrets => "endpoints|old_secrets",
            Self::Headers => "endpoints|headers",
        }
    }

    /// The column in words.
    const fn title(self) -> &'static str {
        match self {
            Self::Secret => "the signing secret",
            Self::OldSecrets => "the replaced signing secrets",
            Self::Headers => "the headers",
        }
    }
}

/// A value that cannot be decrypted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{} cannot be decrypted: {why}", column.title())]
pub(super) struct LostValue {
    column: SecretColumn,
    pub(super) why: UnsealError,
}

/// A stored value, looked at for a change of keys.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Resealed {
    /// The value is empty, or encrypted with the first key.
    Current,
    /// It must be replaced by this text, which is encrypted with the first key.
    Changed(String),
    Lost(LostValue),
}

/// Another version of the key file, in the order in which the versions were read.
#[derive(Debug, Clone)]
pub(super) struct KeysRead {
    number: u64,
    pub(super) keys: Arc<SecretKeys>,
}

/// Encrypts and decrypts the secrets in the database.
#[derive(Debug)]
pub(super) struct Vault {
    directory: PathBuf,
    /// `None`: secrets are stored in clear text.
    file: Option<PathBuf>,
    /// The text of `secrets_store`.
    store: String,
    current: RwLock<Option<KeysRead>>,
    reads: AtomicU64,
}

impl Vault {
    /// Reads the key file, creates it for a store that has none, and checks that it has the keys of the store. The directory
    /// must be locked. Returns `true` if there may be values that are not encrypted with the first key.
    pub(super) fn open(
        connection: &mut Connection,
        directory: &Path,
        source: &KeySource,
        store_use: &StoreUse,
    ) -> Result<(Self, bool), OpenError> {
        let sql = |error| OpenError::sql(&directory.join(crate::store::schema::FILE_NAME), error);
        let canaries = canaries(connection).map_err(sql)?;
        let wanted = canaries.first().map(|(id, _)| id.clone());
        let is_command = matches!(store_use, StoreUse::Command { .. });
        let located = match (locate(source, directory), &wanted) {
            (None, Some(wanted)) => {
                return Err(OpenError::Encrypted { directory: directory.to_owned(), wanted: wanted.clone() });
            }
            (None, None) => {
                if !is_command {
                    tracing::warn!("secrets are stored in clear text (--plaintext-secrets)");
                }
                return Ok((Self::new(directory, None, String::new(), None), false));
            }
            // A command does not decide for the relay, which may run with other settings.
            (Some(_), None) if is_command => {
                return Ok((Self::new(directory, None, String::new(), None), false));
            }
            (Some(located), _) => located,
        };
        let path = match (located, wanted) {
            (LocatedKeyFile::At(path), _) => path,
            (LocatedKeyFile::Missing(path), Some(wanted)) => {
                return Err(OpenError::NoKeyFile { directory: directory.to_owned(), path, wanted });
            }
            (LocatedKeyFile::Missing(path), None) => {
                if let Err(source) = create(&path, directory) {
                    return Err(OpenError::NewKeyFile { path, source });
                }
                tracing::warn!(
                    key_file = %path.display(),
                    "relay has created the key file that encrypts the secrets in its store: back this up; without it the secrets are lost"
                );
                path
            }
        };
        let keys = read_key_file(&path, directory);
        let keys = keys.map_err(|source| OpenError::KeyFile { path: path.clone(), source })?;
        let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sql)?;
        let store = store_text(&tx, directory)?;
        for (id, canary) in canaries {
            let Err(why) = check_canary(&keys, &store, &id, &canary) else { continue };
            if matches!(store_use, StoreUse::Command { lost_key: Some(lost) } if *lost == id) {
                tx.execute("DELETE FROM meta WHERE name = ?1", [format!("{CANARIES}{id}")]).map_err(sql)?;
                continue;
            }
            let is_another = !matches!(why, UnsealError::UnknownKey(_));
            return Err(OpenError::WrongKey {
                directory: directory.to_owned(),
                path,
                wanted: id,
                is_another,
            });
        }
        let begun = begin_with(&tx, &keys, &store);
        begun.map_err(|error| OpenError::directory(directory, std::io::Error::other(error)))?;
        let is_pending = is_pending(&tx).map_err(sql)?;
        tx.commit().map_err(sql)?;
        tracing::info!(key = keys.first_id(), key_file = %path.display(), "secrets are encrypted");
        let keys = KeysRead { number: 0, keys: Arc::new(keys) };
        Ok((Self::new(directory, Some(path), store, Some(keys)), is_pending))
    }

    fn new(directory: &Path, file: Option<PathBuf>, store: String, keys: Option<KeysRead>) -> Self {
        let directory = directory.to_owned();
        Self { directory, file, store, current: RwLock::new(keys), reads: AtomicU64::new(1) }
    }

    /// The path of the key file; `None` if secrets are stored in clear text.
    pub(super) fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// The keys in use; `None` if secrets are stored in clear text.
    pub(super) fn keys(&self) -> Option<Arc<SecretKeys>> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.as_ref().map(|current| Arc::clone(&current.keys))
    }

    /// Reads the key file again. May wait for the disk.
    ///
    /// # Errors
    /// [`StoreError::KeyFile`] if secrets are stored in clear text, or the file cannot be used.
    pub(super) fn read_file(&self) -> Result<KeysRead, StoreError> {
        let Some(path) = &self.file else {
            let why = "relay stores secrets in clear text; start it without --plaintext-secrets first";
            return Err(StoreError::KeyFile(why.to_owned()));
        };
        let number = self.reads.fetch_add(1, Ordering::Relaxed);
        let keys = read_key_file(path, &self.directory).map_err(|error| {
            StoreError::KeyFile(format!("cannot use the key file {}: {error}", path.display()))
        })?;
        Ok(KeysRead { number, keys: Arc::new(keys) })
    }

    /// Checks that keys decrypt the secrets in the store, and announces their first key in `meta`.
    ///
    /// # Errors
    /// [`StoreError::KeyFile`] if a key is missing that is in use.
    pub(super) fn begin(&self, connection: &Connection, read: &KeysRead) -> Result<(), StoreError> {
        for (id, canary) in canaries(connection)? {
            check_canary(&read.keys, &self.store, &id, &canary).map_err(|_| {
                StoreError::KeyFile(format!(
                    "the key file does not have the key {id}, which is in use; add the new key as the first line, and keep the line of {id}"
                ))
            })?;
        }
        begin_with(connection, &read.keys, &self.store)?;
        // It stays 2, if it is.
        let pending = "INSERT OR IGNORE INTO meta (name, value) VALUES ('secrets_pending', 1)";
        connection.prepare_cached(pending)?.execute([])?;
        Ok(())
    }

    /// Ends a change of keys: all values that can be decrypted are encrypted with the first key. Keys in `kept` have values
    /// that cannot be decrypted.
    pub(super) fn finish(
        &self,
        connection: &Connection,
        keys: &SecretKeys,
        kept: &[String],
    ) -> Result<(), StoreError> {
        let first = keys.first_id();
        for (id, _) in canaries(connection)? {
            if id != first && !kept.contains(&id) {
                let delete = "DELETE FROM meta WHERE name = ?1";
                connection.prepare_cached(delete)?.execute([format!("{CANARIES}{id}")])?;
            }
        }
        connection.prepare_cached("DELETE FROM meta WHERE name = 'secrets_pending'")?.execute([])?;
        Ok(())
    }

    /// Uses these keys from now on, unless a later version of the file is in use.
    pub(super) fn apply(&self, read: KeysRead) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if current.as_ref().is_none_or(|current| current.number < read.number) {
            *current = Some(read);
        }
    }

    /// Returns the text to store for a value. An empty value stays empty.
    pub(super) fn seal(&self, column: SecretColumn, row: i64, plain: String) -> Result<String, StoreError> {
        match self.keys() {
            Some(keys) if !is_empty(&plain) => Ok(seal(&keys, &self.place(column, row), &plain)?),
            _ => Ok(plain),
        }
    }

    /// Returns the value of a stored text. Texts that are not encrypted are from the time before the encryption.
    pub(super) fn unseal<'a>(
        &self,
        column: SecretColumn,
        row: i64,
        stored: &'a str,
    ) -> Result<Cow<'a, str>, LostValue> {
        if !is_sealed(stored) {
            return Ok(Cow::Borrowed(stored));
        }
        let opened = match self.keys() {
            Some(keys) => unseal(&keys, &self.place(column, row), stored),
            None => Err(UnsealError::Malformed),
        };
        opened.map(|(plain, _)| Cow::Owned(plain)).map_err(|why| LostValue { column, why })
    }

    /// Encrypts a stored value with the first of the keys, unless it is.
    pub(super) fn reseal(
        &self,
        keys: &SecretKeys,
        column: SecretColumn,
        row: i64,
        stored: &str,
    ) -> Result<Resealed, StoreError> {
        if is_empty(stored) {
            return Ok(Resealed::Current);
        }
        let place = self.place(column, row);
        let plain = if is_sealed(stored) {
            match unseal(keys, &place, stored) {
                Ok((_, id)) if id == keys.first_id() => return Ok(Resealed::Current),
                Ok((plain, _)) => Cow::Owned(plain),
                Err(why) => return Ok(Resealed::Lost(LostValue { column, why })),
            }
        } else {
            Cow::Borrowed(stored)
        };
        Ok(Resealed::Changed(seal(keys, &place, &plain)?))
    }

    /// Returns `true` if the file had values in clear text before the pending change of keys.
    pub(super) fn had_plain_values(&self, connection: &Connection) -> Result<bool, StoreError> {
        let pending = "SELECT 1 FROM meta WHERE name = 'secrets_pending' AND value = 2";
        Ok(connection.prepare_cached(pending)?.exists([])?)
    }

    fn place(&self, column: SecretColumn, row: i64) -> String {
        format!("{}|{}|{row}", self.store, column.name())
    }
}

impl From<SealError> for StoreError {
    fn from(error: SealError) -> Self {
        match error {
            SealError::Random(_) => Self::Io(error.to_string()),
            SealError::TooLong => Self::Internal(error.to_string()),
        }
    }
}

/// Returns `true` if a value contains no secret.
fn is_empty(plain: &str) -> bool {
    plain.is_empty() || plain == "{}"
}

/// Returns `true` if values may not be encrypted with the first key.
fn is_pending(connection: &Connection) -> rusqlite::Result<bool> {
    connection.prepare_cached("SELECT 1 FROM meta WHERE name = 'secrets_pending'")?.exists([])
}

/// Returns the canaries with the ids of their keys.
fn canaries(connection: &Connection) -> rusqlite::Result<Vec<(String, String)>> {
    let select = "SELECT substr(name, ?1), value FROM meta WHERE name >= ?2 AND name < ?3";
    let mut statement = connection.prepare_cached(select)?;
    let rows = statement.query_map(params![CANARIES.len() + 1, CANARIES, BEHIND_CANARIES], |row| {
        Ok((row.get(0)?, row.get(1)?))
    })?;
    rows.collect()
}

fn check_canary(keys: &SecretKeys, store: &str, id: &str, canary: &str) -> Result<(), UnsealError> {
    match unseal(keys, &canary_place(store, id), canary) {
        Ok((text, key)) if text == CANARY && key == id => Ok(()),
        Ok(_) => Err(UnsealError::Malformed),
        Err(why) => Err(why),
    }
}

fn canary_place(store: &str, id: &str) -> String {
    format!("{store}|meta|canary|{id}")
}

/// Adds the canary of the first key if there is none. Values are to be encrypted with it then, if there are any.
fn begin_with(connection: &Connection, keys: &SecretKeys, store: &str) -> Result<(), StoreError> {
    let first = keys.first_id();
    let name = format!("{CANARIES}{first}");
    if connection.prepare_cached("SELECT 1 FROM meta WHERE name = ?1")?.exists([&name])? {
        return Ok(());
    }
    let was_plain = canaries(connection)?.is_empty();
    let canary = seal(keys, &canary_place(store, first), CANARY)?;
    let insert = "INSERT INTO meta (name, value) VALUES (?1, ?2)";
    connection.prepare_cached(insert)?.execute([&name, &canary])?;
    let pending = "INSERT OR REPLACE INTO meta (name, value)
         SELECT 'secrets_pending', max(?1, coalesce((SELECT value FROM meta WHERE name = 'secrets_pending'), 1))
         WHERE EXISTS (SELECT 1 FROM endpoints)";
    connection.prepare_cached(pending)?.execute([if was_plain { 2 } else { 1 }])?;
    Ok(())
}

/// Returns the text of `secrets_store`, and creates it in a new store.
fn store_text(connection: &Connection, directory: &Path) -> Result<String, OpenError> {
    let sql = |error| OpenError::sql(&directory.join(crate::store::schema::FILE_NAME), error);
    let known = "SELECT value FROM meta WHERE name = 'secrets_store'";
    if let Some(known) = connection.query_row(known, [], |row| row.get(0)).optional().map_err(sql)? {
        return Ok(known);
    }
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(OpenError::Random)?;
    let text = bytes.iter().fold(String::with_capacity(32), |mut text, byte| {
        // Writing to a string succeeds.
        let _ = write!(text, "{byte:02x}");
        text
    });
    let insert = "INSERT INTO meta (name, value) VALUES ('secrets_store', ?1)";
    connection.execute(insert, [&text]).map_err(sql)?;
    Ok(text)
}

#[cfg(test)]
mod tests;
