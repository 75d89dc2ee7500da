//! Upgrades a store of an older version: first a backup, then all steps in one transaction.
//!
//! A process that is killed during an upgrade leaves the store as it was, or upgraded.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, TransactionBehavior};
use rustix::fs::statvfs;

use super::backup::{PartialBackup, before_upgrade, create_directory};
use super::schema;
use super::schema_text::missing_objects;
use crate::clock::Clock;
use crate::error::OpenError;

/// The oldest version that is upgraded.
pub(super) const OLDEST: i64 = 10;

/// A step, and the version that it leads to.
type Step = (i64, &'static str);

const STEPS: [Step; 1] = [(11, include_str!("upgrades/11.sql"))];

/// Space that the upgrade itself may need, beside its backup.
const EXTRA_BYTES: u64 = 16 << 20;

/// Upgrades the store from version `found` to the version of this program. `backups` is the directory of the backup that
/// is made first.
pub(super) fn upgrade(
    connection: &mut Connection,
    database: &Path,
    backups: &Path,
    found: i64,
) -> Result<(), OpenError> {
    upgrade_by(&STEPS, connection, database, backups, found)
}

fn upgrade_by(
    steps: &[Step],
    connection: &mut Connection,
    database: &Path,
    backups: &Path,
    found: i64,
) -> Result<(), OpenError> {
    let known = schema::VERSION;
    let backup = back_up(connection, database, backups, found)?;
    let failed = |detail: String| OpenError::Upgrade { database: database.to_owned(), found, known, detail };
    let changing = change(steps, connection, found);
    if let Err(detail) = changing {
        // The store is as it was. Otherwise a relay that is started again and again would fill the disk with copies.
        return match std::fs::remove_file(&backup) {
            Ok(()) => Err(failed(detail)),
            Err(error) => Err(failed(format!("{detail}; {} cannot be removed: {error}", backup.display()))),
        };
    }
    tracing::info!(
        from = found,
        to = known,
        backup = %backup.display(),
        "the store was upgraded; the backup of the older version can be deleted once it is no longer needed"
    );
    Ok(())
}

/// Upgrades a copy of a store, which is its own backup, from version `found`.
///
/// # Errors
/// The reason; nothing was changed.
pub(super) fn change_to_current(connection: &mut Connection, found: i64) -> Result<(), String> {
    change(&STEPS, connection, found)
}

/// Copies the store to a new file, before it is changed. Returns the path of the file.
fn back_up(
    connection: &Connection,
    database: &Path,
    backups: &Path,
    found: i64,
) -> Result<PathBuf, OpenError> {
    let known = schema::VERSION;
    let failed = |source: io::Error| OpenError::UpgradeBackup { directory: backups.to_owned(), source };
    let sql = |error: rusqlite::Error| failed(io::Error::other(error));
    create_directory(backups).map_err(failed)?;
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, u64>(0));
    let bytes = pragma("page_count").and_then(|pages| Ok(pages * pragma("page_size")?)).map_err(sql)?;
    let disk = statvfs(backups).map_err(|error| failed(error.into()))?;
    let (needed, free) = (bytes + EXTRA_BYTES, disk.f_bavail.saturating_mul(disk.f_frsize));
    if free < needed {
        let (database, directory) = (database.to_owned(), backups.to_owned());
        return Err(OpenError::NoSpaceForUpgrade { database, found, known, directory, needed, free });
    }
    tracing::info!(from = found, to = known, bytes, "upgrading the store; a backup is made first");
    let target = backups.join(before_upgrade(found, known, Clock::new().wall()));
    let partial = PartialBackup::create(&target).map_err(failed)?;
    let copied = partial.open().and_then(|mut copy| {
        let copying = rusqlite::backup::Backup::new(connection, &mut copy)?;
        // Nothing else uses the database, so that one step copies all of it.
        copying.step(-1)
    });
    copied.map_err(sql)?;
    if let Some(finding) = partial.check(|| false).map_err(sql)? {
        return Err(failed(io::Error::other(finding)));
    }
    partial.finish().map_err(failed)?;
    Ok(target)
}

/// Runs the steps in one transaction.
///
/// # Errors
/// The reason; nothing was changed.
fn change(steps: &[Step], connection: &mut Connection, found: i64) -> Result<(), String> {
    let text = |error: rusqlite::Error| error.to_string();
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(text)?;
    for (version, statements) in steps.iter().filter(|(version, _)| *version > found) {
        tx.execute_batch(statements).map_err(|error| format!("the step to version {version}: {error}"))?;
    }
    tx.pragma_update(None, "user_version", schema::VERSION).map_err(text)?;
    let missing = missing_objects(&tx).map_err(text)?;
    if !missing.is_empty() {
        return Err(format!("the result lacks, or has in another form: {}", missing.join(", ")));
    }
    tx.commit().map_err(text)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const VERSION_10: &[u8] = include_bytes!("../../tests/it/stores/version-10.db");

    fn old_store(directory: &Path) -> PathBuf {
        let database = directory.join(schema::FILE_NAME);
        fs::write(&database, VERSION_10).unwrap();
        database
    }

    fn version(connection: &Connection) -> i64 {
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
    }

    fn backups_in(directory: &Path) -> Vec<PathBuf> {
        match fs::read_dir(directory) {
            Ok(entries) => entries.map(|entry| entry.unwrap().path()).collect(),
            Err(_) => Vec::new(),
        }
    }

    #[test]
    fn upgraded_store_has_the_schema_of_a_new_one() {
        let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let backups = old.path().join("backups");
        let upgraded = schema::open(&old_store(old.path()), &backups).unwrap();
        let fresh = schema::open(&new.path().join(schema::FILE_NAME), &backups).unwrap();
        assert_eq!(version(&upgraded), schema::VERSION);
        let objects = super::super::schema_text::objects;
        assert_eq!(objects(&upgraded).unwrap(), objects(&fresh).unwrap());
    }

    #[test]
    fn backup_before_an_upgrade_is_the_older_store() {
        let directory = tempfile::tempdir().unwrap();
        let backups = directory.path().join("backups");
        drop(schema::open(&old_store(directory.path()), &backups).unwrap());
        let made = backups_in(&backups);
        let [backup] = &made[..] else { panic!("{made:?}") };
        assert!(backup.file_name().unwrap().to_str().unwrap().starts_with("before-upgrade-10-to-11-"));
        assert_eq!(fs::metadata(backup).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&backups).unwrap().permissions().mode() & 0o777, 0o700);
        let copy = Connection::open(backup).unwrap();
        assert_eq!(version(&copy), 10);
        let rows = "SELECT (SELECT count(*) FROM events) + (SELECT count(*) FROM deliveries)";
        assert_eq!(copy.query_row(rows, [], |row| row.get::<_, i64>(0)).unwrap(), 6 + 21);
    }

    #[test]
    fn step_that_fails_leaves_the_store_and_no_backup() {
        let directory = tempfile::tempdir().unwrap();
        let backups = directory.path().join("backups");
        let database = old_store(directory.path());
        let mut connection = Connection::open(&database).unwrap();
        let broken: [&[Step]; 3] = [
            // After a change that succeeds.
            &[STEPS[0], (11, "CREATE TABLE audit (seq)")],
            &[(11, "CREATE TABLE audit (seq) STRICT")],
            &[],
        ];
        for steps in broken {
            let error = upgrade_by(steps, &mut connection, &database, &backups, 10).unwrap_err();
            assert!(matches!(error, OpenError::Upgrade { found: 10, .. }), "{error}");
            assert_eq!(version(&connection), 10);
            assert!(backups_in(&backups).is_empty());
        }
        let tables = "SELECT count(*) FROM sqlite_schema WHERE name = 'audit'";
        assert_eq!(connection.query_row(tables, [], |row| row.get::<_, i64>(0)).unwrap(), 0);
    }

    /// The files of a process that was killed, or of a machine that lost power, at each point of the upgrade: the log ends
    /// after each of its pages.
    #[test]
    fn upgrade_that_is_cut_off_leaves_the_old_or_the_new_version() {
        const HEADER: usize = 32;
        const FRAME: usize = 24 + 4_096;
        let directory = tempfile::tempdir().unwrap();
        let database = old_store(directory.path());
        let mut connection = Connection::open(&database).unwrap();
        connection.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
        let before = fs::read(&database).unwrap();
        change(&STEPS, &mut connection, 10).unwrap();
        assert_eq!(fs::read(&database).unwrap(), before, "the change is in the log only");
        let log = fs::read(directory.path().join("relay.db-wal")).unwrap();
        assert_eq!((log.len() - HEADER) % FRAME, 0);
        let frames = (log.len() - HEADER) / FRAME;
        assert!(frames > 3, "{frames}");
        for kept in 0..=frames {
            let cut = tempfile::tempdir().unwrap();
            let database = cut.path().join(schema::FILE_NAME);
            fs::write(&database, &before).unwrap();
            fs::write(cut.path().join("relay.db-wal"), &log[..HEADER + kept * FRAME]).unwrap();
            let found = version(&Connection::open(&database).unwrap());
            assert_eq!(found, if kept == frames { 11 } else { 10 }, "{kept} of {frames} pages");
            let opened = schema::open(&database, &cut.path().join("backups")).unwrap();
            assert_eq!(missing_objects(&opened).unwrap(), [""; 0]);
        }
    }
}
