//! The database file: how it is recognised, created and upgraded.

use std::cmp::Ordering;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension as _, TransactionBehavior};

use super::upgrade;
use crate::clock::Millis;
use crate::error::OpenError;
use crate::ids::{Ids, Restore};

pub(super) const FILE_NAME: &str = "relay.db";

/// How long a statement waits for another program to release the database.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// `mtrl`: marks the file as a relay database.
const APPLICATION_ID: i64 = 0x6d74_726c;

pub(super) const SCHEMA: &str = include_str!("schema.sql");

/// The version of [`SCHEMA`]. A store of an older version is upgraded, and one of a newer version is refused.
pub(super) const VERSION: i64 = 11;

/// Files up to this size are checked page by page at the start, which takes about a third of a second on one core. In
/// larger files damage is found when the damaged page is read.
const CHECKED_AT_START_BYTES: u64 = 64 << 20;

/// The log file is truncated to this size when it is reused.
const LOG_FILE_BYTES: i64 = 64 << 20;

/// Opens the writer's connection. Checks that the file is an undamaged relay database, or creates a new one. A database of
/// an older version is upgraded; the backup that is made before goes to the directory `backups`.
pub(super) fn open(database: &Path, backups: &Path) -> Result<Connection, OpenError> {
    let sql = |e| OpenError::sql(database, e);
    // Created here with a mode for its owner only; SQLite gives its other files the same mode.
    let made = OpenOptions::new().create(true).append(true).mode(0o600).open(database);
    made.map_err(|e| OpenError::directory(database, e))?;
    let mut connection = Connection::open(database).map_err(sql)?;
    let content = check(&connection, database)?;
    if content == FileContent::Empty {
        // Before the first page is written: later only a VACUUM of the whole file could change it.
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL").map_err(sql)?;
    }
    let mode = connection
        .pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0))
        .map_err(sql)?;
    if mode != "wal" {
        return Err(OpenError::NoLog { database: database.to_owned(), mode });
    }
    connection.pragma_update(None, "journal_size_limit", LOG_FILE_BYTES).map_err(sql)?;
    configure(&connection).map_err(sql)?;
    // The checkpoint thread makes the checkpoints; a checkpoint inside a commit would delay all callers of the commit.
    connection.pragma_update(None, "wal_autocheckpoint", 0).map_err(sql)?;
    // Deleted rows leave no bytes in a page that is written anyway. An erasure also overwrites the pages that it frees.
    let fast = connection.pragma_update_and_check(None, "secure_delete", "FAST", |row| row.get::<_, i64>(0));
    fast.map_err(sql)?;
    match content {
        FileContent::Store => {}
        FileContent::Empty => set_up(&mut connection).map_err(sql)?,
        FileContent::OlderStore(found) => upgrade::upgrade(&mut connection, database, backups, found)?,
    }
    Ok(connection)
}

/// Opens a read-only connection.
pub(super) fn open_reader(database: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(database, flags)?;
    configure(&connection)?;
    Ok(connection)
}

/// Opens a connection for checkpoints.
pub(super) fn open_checkpointer(database: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(database)?;
    configure(&connection)?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    Ok(connection)
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    // `synchronous` is a property of the connection, not of the file.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    // SQLite then detects a damaged page when it reads it, instead of returning its content as rows.
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}

/// The content of a database file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FileContent {
    Empty,
    Store,
    /// A store of this older version, which can be upgraded.
    OlderStore(i64),
}

pub(super) fn check(connection: &Connection, database: &Path) -> Result<FileContent, OpenError> {
    let sql = |e| OpenError::sql(database, e);
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_master", [], |r| r.get(0)).map_err(sql)?;
    if tables == 0 {
        return Ok(FileContent::Empty);
    }
    let found = identify(connection, database)?;
    let size = std::fs::metadata(database).map(|m| m.len()).unwrap_or_default();
    if size <= CHECKED_AT_START_BYTES
        && let Some(detail) = first_finding(connection, "quick_check").map_err(sql)?
    {
        return Err(OpenError::Damaged { database: database.to_owned(), detail });
    }
    Ok(if found == VERSION { FileContent::Store } else { FileContent::OlderStore(found) })
}

/// Returns the version of a relay database that this program reads or upgrades.
pub(super) fn identify(connection: &Connection, database: &Path) -> Result<i64, OpenError> {
    let sql = |e| OpenError::sql(database, e);
    let pragma = |name| connection.pragma_query_value(None, name, |r| r.get::<_, i64>(0)).map_err(sql);
    if pragma("application_id")? != APPLICATION_ID {
        return Err(OpenError::NotRelay { database: database.to_owned() });
    }
    let found = pragma("user_version")?;
    let (database_of, known) = (database.to_owned(), VERSION);
    match found.cmp(&VERSION) {
        Ordering::Equal => Ok(found),
        Ordering::Less if found >= upgrade::OLDEST => Ok(found),
        Ordering::Less => Err(OpenError::TooOld { database: database_of, found, known }),
        Ordering::Greater => Err(OpenError::TooNew { database: database_of, found, known }),
    }
}

/// Checks the pages of a database by a pragma, and returns the first damage.
pub(super) fn first_finding(connection: &Connection, check: &str) -> rusqlite::Result<Option<String>> {
    Ok(all_findings(connection, check)?.into_iter().next())
}

/// Checks the pages of a database by a pragma, and returns the damage: SQLite ends after a hundred findings.
pub(super) fn all_findings(connection: &Connection, check: &str) -> rusqlite::Result<Vec<String>> {
    // Unused pages are the remains of indexes that were rebuilt.
    let is_harmless = |line: &str| line == "ok" || line.starts_with("***") || line.ends_with("never used");
    let mut statement = connection.prepare(&format!("PRAGMA {check}"))?;
    let mut rows = statement.query([])?;
    let mut findings = Vec::new();
    while let Some(row) = rows.next()? {
        let text: String = row.get(0)?;
        findings.extend(text.lines().filter(|line| !is_harmless(line)).map(str::to_owned));
    }
    Ok(findings)
}

/// Returns the identifiers of a store that is not changed.
pub(super) fn ids(connection: &Connection) -> rusqlite::Result<Ids> {
    let sql = "SELECT value FROM meta WHERE name = 'store_id'";
    let store: i64 = connection.query_row(sql, [], |row| row.get(0))?;
    Ok(Ids::new(store.cast_unsigned()).restored(restores(connection)?))
}

fn set_up(connection: &mut Connection) -> rusqlite::Result<()> {
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    tx.execute_batch(SCHEMA)?;
    tx.pragma_update(None, "application_id", APPLICATION_ID)?;
    tx.pragma_update(None, "user_version", VERSION)?;
    tx.commit()
}

/// Returns `true` if all deliveries are paused.
pub(super) fn is_paused(connection: &Connection) -> rusqlite::Result<bool> {
    let paused = "SELECT value FROM meta WHERE name = 'paused'";
    Ok(connection.query_row(paused, [], |row| row.get(0)).optional()?.unwrap_or(false))
}

/// Stores whether all deliveries are paused.
pub(super) fn set_paused(connection: &Connection, paused: bool) -> rusqlite::Result<()> {
    let set = "INSERT OR REPLACE INTO meta (name, value) VALUES ('paused', ?1)";
    connection.prepare_cached(set)?.execute([paused]).map(drop)
}

/// Returns the latest due time that the store has reached; 0 for a new store.
pub(super) fn seen_time(connection: &Connection) -> rusqlite::Result<Millis> {
    let seen = "SELECT value FROM meta WHERE name = 'seen_time'";
    Ok(connection.query_row(seen, [], |row| row.get(0)).optional()?.unwrap_or(0))
}

/// Stores the due time that is reached.
pub(super) fn set_seen_time(connection: &Connection, now: Millis) -> rusqlite::Result<()> {
    let set = "INSERT OR REPLACE INTO meta (name, value) VALUES ('seen_time', ?1)";
    connection.prepare_cached(set)?.execute([now]).map(drop)
}

/// Returns the version of the schema.
pub(super) fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Returns a random id of a store: 48 bits.
pub(super) fn random_store_id() -> Result<i64, getrandom::Error> {
    Ok(i64::try_from(getrandom::u64()? >> 16).unwrap_or_default())
}

/// Returns the ids of the store since it was restored from backups, oldest first.
pub(super) fn restores(connection: &Connection) -> rusqlite::Result<Vec<Restore>> {
    let mut statement = connection.prepare("SELECT last_row, store_id FROM restores ORDER BY last_row")?;
    let restores = statement.query_map([], |row| {
        let store: i64 = row.get(1)?;
        Ok(Restore { last_row: row.get(0)?, store: store.cast_unsigned() })
    })?;
    restores.collect()
}

/// Returns the random id of the store, and creates it in a new store.
pub(super) fn store_id(connection: &mut Connection) -> Result<u64, OpenError> {
    let sql = |e| OpenError::sql(Path::new(FILE_NAME), e);
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sql)?;
    let known: Option<i64> = tx
        .query_row("SELECT value FROM meta WHERE name = 'store_id'", [], |r| r.get(0))
        .optional()
        .map_err(sql)?;
    let id = match known {
        Some(id) => id,
        None => {
            let fresh = random_store_id().map_err(OpenError::Random)?;
            tx.execute("INSERT INTO meta (name, value) VALUES ('store_id', ?1)", [fresh]).map_err(sql)?;
            fresh
        }
    };
    tx.commit().map_err(sql)?;
    Ok(u64::try_from(id).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A killed process does not show whether commits reach the disk, because the system keeps the written data; only
    /// a power failure would.
    #[test]
    fn writer_is_set_to_sync_to_disk_at_every_commit() {
        const FULL: i64 = 2;
        let directory = tempfile::tempdir().unwrap();
        let connection = open(&directory.path().join(FILE_NAME), directory.path()).unwrap();
        let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!(pragma("synchronous"), FULL);
        assert_eq!(pragma("wal_autocheckpoint"), 0);
        let mode: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
        assert_eq!(mode, "wal");
    }

    #[test]
    fn store_with_unused_pages_is_opened() {
        let directory = tempfile::tempdir().unwrap();
        let database = directory.path().join(FILE_NAME);
        let connection = open(&database, directory.path()).unwrap();
        // As a rebuild of the indexes leaves them.
        let abandon = "PRAGMA writable_schema = ON; DELETE FROM sqlite_schema WHERE name = 'deliveries_dead';
             PRAGMA writable_schema = RESET";
        connection.execute_batch(abandon).unwrap();
        let finding: String = connection.query_row("PRAGMA quick_check", [], |row| row.get(0)).unwrap();
        assert!(finding.contains("never used"), "{finding}");
        drop(connection);
        open(&database, directory.path()).unwrap();
    }

    /// Set after the first page was written, it would have no effect.
    #[test]
    fn new_store_can_return_its_free_pages_to_the_disk() {
        const INCREMENTAL: i64 = 2;
        let directory = tempfile::tempdir().unwrap();
        let connection = open(&directory.path().join(FILE_NAME), directory.path()).unwrap();
        let mode: i64 = connection.pragma_query_value(None, "auto_vacuum", |row| row.get(0)).unwrap();
        assert_eq!(mode, INCREMENTAL);
    }
}
