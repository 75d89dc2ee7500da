//! A backup that is being written: it has its name only once it is whole and on the disk.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use crate::store::schema;

/// The end of the name of an unfinished backup.
const PARTIAL: &str = ".partial";

/// Steps of SQLite's virtual machine after which a check looks whether it is stopped.
const CHECK_STEPS: std::ffi::c_int = 10_000;

/// Files that SQLite creates beside a database.
const SIDE_FILES: [&str; 3] = ["-journal", "-wal", "-shm"];

/// An unfinished backup. Dropping it removes the file.
#[derive(Debug)]
pub(in crate::store) struct PartialBackup {
    partial: PathBuf,
    target: PathBuf,
    is_finished: bool,
}

impl PartialBackup {
    /// Creates the file beside `target`, readable for its owner only.
    ///
    /// # Errors
    /// `AlreadyExists` if there is a file at `target`; any error of the operating system.
    pub(in crate::store) fn create(target: &Path) -> io::Result<Self> {
        match fs::symlink_metadata(target) {
            Ok(_) => return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the file exists already")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Self::create_beside(target, OpenOptions::new().write(true).create_new(true))
    }

    /// Creates the file, in place of an unfinished one, to replace the file at `target`.
    pub(in crate::store) fn create_to_replace(target: &Path) -> io::Result<Self> {
        Self::create_beside(target, OpenOptions::new().write(true).create(true).truncate(true))
    }

    fn create_beside(target: &Path, how: &mut OpenOptions) -> io::Result<Self> {
        let mut partial = target.as_os_str().to_owned();
        partial.push(PARTIAL);
        let partial = PathBuf::from(partial);
        how.mode(0o600).open(&partial)?;
        Ok(Self { partial, target: target.to_owned(), is_finished: false })
    }

    /// Opens the file for SQLite to write it. Nothing is synced before [`finish`](Self::finish), and no journal is kept:
    /// a backup that is not finished is removed.
    pub(in crate::store) fn open(&self) -> rusqlite::Result<Connection> {
        let connection = Connection::open(&self.partial)?;
        connection.pragma_update_and_check(None, "journal_mode", "OFF", |_| Ok(()))?;
        connection.pragma_update(None, "synchronous", "OFF")?;
        Ok(connection)
    }

    /// The path of the unfinished file.
    pub(in crate::store) fn path(&self) -> &Path {
        &self.partial
    }

    /// The size of the file so far.
    pub(in crate::store) fn bytes(&self) -> u64 {
        fs::metadata(&self.partial).map_or(0, |found| found.len())
    }

    /// Checks the written database page by page, until `is_stopped` returns `true`. Returns the first finding.
    ///
    /// # Errors
    /// An error of SQLite, also if the check was stopped.
    pub(in crate::store) fn check(
        &self,
        is_stopped: impl FnMut() -> bool + Send + 'static,
    ) -> rusqlite::Result<Option<String>> {
        let mut connection = Connection::open(&self.partial)?;
        // A database in the mode of a write-ahead log cannot be opened on a read-only disk.
        connection.pragma_update_and_check(None, "journal_mode", "DELETE", |_| Ok(()))?;
        connection.progress_handler(CHECK_STEPS, Some(is_stopped))?;
        let finding = schema::first_finding(&connection, "integrity_check")?;
        connection.close().map_err(|(_, error)| error)?;
        Ok(finding)
    }

    /// Moves the file to its name, once it is on the disk. Returns its size.
    pub(in crate::store) fn finish(mut self) -> io::Result<u64> {
        let file = File::open(&self.partial)?;
        file.sync_all()?;
        let bytes = file.metadata()?.len();
        fs::rename(&self.partial, &self.target)?;
        self.is_finished = true;
        sync_directory(&self.target)?;
        Ok(bytes)
    }
}

impl Drop for PartialBackup {
    fn drop(&mut self) {
        if self.is_finished {
            return;
        }
        for end in ["", SIDE_FILES[0], SIDE_FILES[1], SIDE_FILES[2]] {
            let mut path = self.partial.as_os_str().to_owned();
            path.push(end);
            match fs::remove_file(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    tracing::warn!(%error, path = %Path::new(&path).display(), "cannot remove an unfinished backup");
                }
            }
        }
    }
}

/// Creates the directory of backups, with access for its owner only.
pub(in crate::store) fn create_directory(directory: &Path) -> io::Result<()> {
    // The parent of a directory that exists may be one that relay cannot read.
    if directory.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    sync_directory(directory)
}

/// Removes the unfinished backups that a killed process has left in a directory. A directory that does not exist has none.
pub(in crate::store) fn remove_partial(directory: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let is_partial = entry.file_name().to_str().is_some_and(|name| {
            let name = SIDE_FILES.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
            name.strip_suffix(PARTIAL).is_some_and(super::names::is_of_relay)
        });
        if is_partial {
            fs::remove_file(entry.path())?;
            tracing::info!(path = %entry.path().display(), "removed an unfinished backup");
        }
    }
    Ok(())
}

/// Syncs the entry of a file in its directory.
fn sync_directory(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or_else(|| Path::new(".")))?.sync_all()
}
