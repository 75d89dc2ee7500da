//! Makes a store of a backup, while no relay runs on it.
//!
//! # Identifiers
//! A relay may have gone on after the backup, and given identifiers to events that the backup lacks. Receivers remember
//! them. So rows that are made after the restore have identifiers with a new random id of the store: none of them names
//! something else as well, however long the relay went on. The rows of the backup keep their identifiers. The limit
//! between both is the highest number of a row in the backup, to which all counters are set.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, TransactionBehavior, params};
use thiserror::Error;

use super::backup::PartialBackup;
use super::lock::DirectoryLock;
use super::{schema, upgrade};
use crate::clock::{Clock, Millis};
use crate::error::OpenError;

/// Number of pages that are copied between two reports of the progress: 4 MiB.
const PAGES: std::ffi::c_int = 1_024;

/// The reason of deliveries that were not restored as pending.
const SKIPPED: &str = "restored from a backup";

/// The settings of a restore.
#[derive(Debug, Clone)]
pub(crate) struct RestoreOptions {
    pub(crate) backup: PathBuf,
    /// The directory of the new store.
    pub(crate) directory: PathBuf,
    /// All deliveries are paused at the start.
    pub(crate) hold: bool,
    /// Pending deliveries of events that were published before this time are skipped.
    pub(crate) skip_before: Option<Millis>,
}

/// The content of a restored store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RestoredStore {
    pub(crate) events: u64,
    pub(crate) pending: u64,
    /// Deliveries that were pending in the backup, and are skipped now.
    pub(crate) skipped: u64,
}

/// The reason why a backup was not restored. The data directory is as it was.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The directory has a store already.
    #[error("there is a store in {} already, which a restore never replaces; move it away, or name another directory with --data", directory.display())]
    HasStore {
        /// The directory.
        directory: PathBuf,
    },
    /// The backup cannot be used, or the directory.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The backup cannot be copied.
    #[error("cannot copy {} into {}", backup.display(), directory.display())]
    Copy {
        /// The backup.
        backup: PathBuf,
        /// The directory.
        directory: PathBuf,
        /// The error of the operating system or of SQLite.
        source: io::Error,
    },
    /// The upgrade of an older backup failed.
    #[error("{} cannot be upgraded: {detail}", backup.display())]
    Upgrade {
        /// The backup.
        backup: PathBuf,
        /// The reason.
        detail: String,
    },
}

/// Restores a backup into a directory without a store. `progress` is called with the number of pages that are copied, and
/// of all pages.
pub(crate) fn restore(
    options: &RestoreOptions,
    mut progress: impl FnMut(u64, u64),
) -> Result<RestoredStore, RestoreError> {
    let RestoreOptions { backup, directory, .. } = options;
    let copy_failed = |source| {
        let (backup, directory) = (backup.clone(), directory.clone());
        RestoreError::Copy { backup, directory, source }
    };
    let sql_failed = |error: rusqlite::Error| copy_failed(io::Error::other(error));
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.map_err(|error| OpenError::directory(directory, error))?;
    let database = directory.join(schema::FILE_NAME);
    let is_taken = || {
        let log = directory.join(format!("{}-wal", schema::FILE_NAME));
        [&database, &log].into_iter().any(|file| fs::metadata(file).is_ok_and(|found| found.len() > 0))
    };
    if is_taken() {
        return Err(RestoreError::HasStore { directory: directory.clone() });
    }
    let source = Connection::open_with_flags(backup, OpenFlags::SQLITE_OPEN_READ_ONLY)
        .map_err(|error| OpenError::sql(backup, error))?;
    if schema::check(&source, backup)? == schema::FileContent::Empty {
        return Err(OpenError::NotRelay { database: backup.clone() }.into());
    }
    // Locking creates an empty database, which the restored one replaces. A store that was made in the meantime is found.
    let lock = Empty::lock(directory, &database)?;
    if is_taken() {
        return Err(RestoreError::HasStore { directory: directory.clone() });
    }
    let partial = PartialBackup::create_to_replace(&database).map_err(copy_failed)?;
    let mut copy = partial.open().map_err(sql_failed)?;
    {
        let copying = rusqlite::backup::Backup::new(&source, &mut copy).map_err(sql_failed)?;
        let mut is_done = false;
        while !is_done {
            is_done = copying.step(PAGES).map_err(sql_failed)? == rusqlite::backup::StepResult::Done;
            let copied = copying.progress();
            let count = |pages: std::ffi::c_int| u64::try_from(pages).unwrap_or_default();
            progress(count(copied.pagecount - copied.remaining), count(copied.pagecount));
        }
    }
    if let Some(detail) = partial.check(|| false).map_err(|error| OpenError::sql(backup, error))? {
        return Err(OpenError::Damaged { database: backup.clone(), detail }.into());
    }
    let found = schema::version(&copy).map_err(sql_failed)?;
    if found < schema::VERSION {
        let changed = upgrade::change_to_current(&mut copy, found);
        changed.map_err(|detail| RestoreError::Upgrade { backup: backup.clone(), detail })?;
    }
    let restored = set_apart(&mut copy, options).map_err(sql_failed)?;
    copy.close().map_err(|(_, error)| sql_failed(error))?;
    partial.finish().map_err(copy_failed)?;
    lock.keep();
    Ok(restored)
}

/// The lock of a directory without a store. The empty file that it needs is removed if no store was made.
struct Empty {
    database: PathBuf,
    _lock: DirectoryLock,
    is_kept: bool,
}

impl Empty {
    fn lock(directory: &Path, database: &Path) -> Result<Self, OpenError> {
        let lock = DirectoryLock::acquire(directory)?;
        Ok(Self { database: database.to_owned(), _lock: lock, is_kept: false })
    }

    fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for Empty {
    fn drop(&mut self) {
        let is_empty = || fs::metadata(&self.database).is_ok_and(|found| found.len() == 0);
        if !self.is_kept
            && is_empty()
            && let Err(error) = fs::remove_file(&self.database)
        {
            tracing::warn!(%error, path = %self.database.display(), "cannot remove an empty database");
        }
    }
}

/// Makes the copy a store of its own: it has another id for new rows, and the deliveries that the options ask for.
fn set_apart(connection: &mut Connection, options: &RestoreOptions) -> rusqlite::Result<RestoredStore> {
    let at = Clock::new().wall();
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let highest: i64 = tx.query_row(
        "SELECT max((SELECT coalesce(max(seq), 0) FROM sqlite_sequence), (SELECT coalesce(max(last_row), 0) FROM restores))",
        [],
        |row| row.get(0),
    )?;
    // A counter that was never used has no row, and would start at 1.
    tx.execute("DELETE FROM sqlite_sequence", [])?;
    tx.execute(
        "INSERT INTO sqlite_sequence (name, seq)
             SELECT name, ?1 FROM sqlite_schema WHERE type = 'table' AND sql LIKE '%AUTOINCREMENT%'",
        [highest],
    )?;
    let store_id = schema::random_store_id().map_err(|error| {
        rusqlite::Error::ToSqlConversionFailure(format!("no random bytes: {error}").into())
    })?;
    // An earlier restore without a new row since then has the same limit; no row has its id.
    tx.execute(
        "INSERT OR REPLACE INTO restores (last_row, store_id, at) VALUES (?1, ?2, ?3)",
        params![highest, store_id, at],
    )?;
    if options.hold {
        schema::set_paused(&tx, true)?;
    }
    let mut skipped = 0;
    if let Some(before) = options.skip_before {
        tx.execute_batch("CREATE TEMP TABLE skipped (seq INTEGER PRIMARY KEY)")?;
        skipped = tx.execute(
            "INSERT INTO skipped SELECT d.seq FROM deliveries d JOIN events e ON e.seq = d.event_seq
                 WHERE d.state = 0 AND e.created_at < ?1",
            [before],
        )?;
        tx.execute("DELETE FROM due WHERE delivery_seq IN (SELECT seq FROM skipped)", [])?;
        tx.execute(
            "UPDATE deliveries SET state = 3, due_at = NULL, updated_at = ?1, reason = ?2
                 WHERE seq IN (SELECT seq FROM skipped)",
            params![at, SKIPPED],
        )?;
    }
    let count = |sql| tx.query_row(sql, [], |row| row.get(0));
    let (events, pending) =
        (count("SELECT count(*) FROM events")?, count("SELECT count(*) FROM deliveries WHERE state = 0")?);
    tx.commit()?;
    Ok(RestoredStore { events, pending, skipped: skipped as u64 })
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERSION_10: &[u8] = include_bytes!("../../tests/it/stores/version-10.db");

    fn options(directory: &Path) -> RestoreOptions {
        let backup = directory.join("backup.db");
        fs::write(&backup, VERSION_10).unwrap();
        let directory = directory.join("data");
        RestoreOptions { backup, directory, hold: false, skip_before: None }
    }

    fn database(options: &RestoreOptions) -> Connection {
        Connection::open(options.directory.join(schema::FILE_NAME)).unwrap()
    }

    fn number(connection: &Connection, sql: &str) -> i64 {
        connection.query_row(sql, [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn restored_store_is_current_and_starts_above_all_rows() {
        let directory = tempfile::tempdir().unwrap();
        let options = options(directory.path());
        let mut copied = (0, 0);
        let restored = restore(&options, |done, all| copied = (done, all)).unwrap();
        assert_eq!(restored, RestoredStore { events: 6, pending: 5, skipped: 0 });
        assert_eq!(copied, (46, 46));
        assert_eq!(fs::read(&options.backup).unwrap(), VERSION_10, "the backup was changed");
        let store = database(&options);
        assert_eq!(schema::version(&store).unwrap(), schema::VERSION);
        let highest = number(&store, "SELECT last_row FROM restores");
        // The number of a tenant after the step of the counters.
        assert!(highest >= 31_390_050_698, "{highest}");
        let counters = "SELECT count(*) FROM sqlite_sequence WHERE seq =";
        let tables = number(&store, "SELECT count(*) FROM sqlite_schema WHERE sql LIKE '%AUTOINCREMENT%'");
        assert_eq!(number(&store, &format!("{counters} {highest}")), tables);
        assert!(tables >= 7, "{tables}");
        assert_ne!(
            number(&store, "SELECT store_id FROM restores"),
            number(&store, "SELECT value FROM meta WHERE name = 'store_id'")
        );
        schema::open(&options.directory.join(schema::FILE_NAME), directory.path()).unwrap();
    }

    #[test]
    fn pending_deliveries_of_older_events_are_skipped_on_request() {
        let directory = tempfile::tempdir().unwrap();
        let mut options = options(directory.path());
        let backup = Connection::open(&options.backup).unwrap();
        let third = number(&backup, "SELECT created_at FROM events ORDER BY seq LIMIT 1 OFFSET 2");
        backup.execute("UPDATE events SET created_at = ?1 WHERE seq < 3", [third - 1]).unwrap();
        drop(backup);
        options.skip_before = Some(third);
        let restored = restore(&options, |_, _| {}).unwrap();
        assert_eq!(restored, RestoredStore { events: 6, pending: 3, skipped: 2 });
        let store = database(&options);
        let skipped = format!("SELECT count(*) FROM deliveries WHERE state = 3 AND reason = '{SKIPPED}'");
        assert_eq!(number(&store, &skipped), 2);
        assert_eq!(number(&store, "SELECT count(*) FROM due"), 3);
        assert!(!schema::is_paused(&store).unwrap());
    }

    #[test]
    fn failed_restore_leaves_the_directory_without_a_store() {
        let directory = tempfile::tempdir().unwrap();
        let options = options(directory.path());
        type Spoil = fn(&Connection);
        let cases: [(&str, Spoil); 3] = [
            ("not a relay database", |backup| backup.pragma_update(None, "application_id", 1).unwrap()),
            ("newer relay", |backup| backup.pragma_update(None, "user_version", 99).unwrap()),
            ("cannot be upgraded", |backup| backup.execute_batch("DROP INDEX deliveries_dead").unwrap()),
        ];
        for (why, spoil) in cases {
            fs::write(&options.backup, VERSION_10).unwrap();
            spoil(&Connection::open(&options.backup).unwrap());
            let error = restore(&options, |_, _| {}).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
            assert!(!options.directory.join(schema::FILE_NAME).exists());
        }
        let mut damaged = VERSION_10.to_vec();
        damaged[8 * 4_096..].fill(0xa5);
        fs::write(&options.backup, damaged).unwrap();
        let error = restore(&options, |_, _| {}).unwrap_err().to_string();
        assert!(error.contains("damaged"), "{error}");
        let left: Vec<_> =
            fs::read_dir(&options.directory).unwrap().map(|file| file.unwrap().file_name()).collect();
        assert_eq!(left, ["relay.lock"]);
    }

    #[test]
    fn store_is_never_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let options = options(directory.path());
        restore(&options, |_, _| {}).unwrap();
        let path = options.directory.join(schema::FILE_NAME);
        let before = fs::read(&path).unwrap();
        assert!(matches!(restore(&options, |_, _| {}), Err(RestoreError::HasStore { .. })));
        assert_eq!(fs::read(&path).unwrap(), before);
    }
}
