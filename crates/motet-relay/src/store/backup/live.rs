//! A copy that the writer makes of its own database, a few pages at a time.
//!
//! SQLite's backup starts again when another connection changes the database, so that from any other connection it would
//! never end under load. The pages that the writer itself changes are also changed in the copy: once the last page is
//! copied, the copy is the state of the last commit.

#![allow(
    unsafe_code,
    reason = "rusqlite's backup borrows both connections, and this one lives between two commits"
)]

use std::ffi::c_int;
use std::ops::Deref;
use std::ptr::NonNull;
use std::time::Duration;

use rusqlite::{Connection, ffi};
use tokio::time::Instant;

/// How long the writer copies pages between two commits: callers wait for this time at most.
const STEP: Duration = Duration::from_millis(2);

/// Pages that are copied before the time is looked at: 64 KiB.
const PAGES: c_int = 16;

/// The progress of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct CopyProgress {
    /// Pages of the database.
    pub(in crate::store) pages: u64,
    /// Pages that are not copied yet.
    pub(in crate::store) remaining: u64,
    /// `true` if the copy is whole.
    pub(in crate::store) is_done: bool,
    /// `true` if nothing was copied, because another program held the database or the copy.
    pub(in crate::store) is_locked: bool,
}

/// A connection that can be copied while it is used.
#[derive(Debug)]
pub(in crate::store) struct CopiedConnection {
    /// Before the connection, so that it is dropped first.
    copy: Option<LiveCopy>,
    connection: Connection,
}

impl CopiedConnection {
    pub(in crate::store) fn new(connection: Connection) -> Self {
        Self { copy: None, connection }
    }

    /// Begins to copy the database into that of `target`, in place of a copy that was not finished.
    pub(in crate::store) fn start_copy(&mut self, target: Connection) -> rusqlite::Result<()> {
        self.copy = None;
        // SAFETY: both handles are open, they differ, and the names are C strings. The copy is dropped before the
        // connection: it is an earlier field, and the connection leaves this value only in `close`.
        let backup = unsafe {
            ffi::sqlite3_backup_init(
                target.handle(),
                c"main".as_ptr(),
                self.connection.handle(),
                c"main".as_ptr(),
            )
        };
        let Some(backup) = NonNull::new(backup) else {
            // SAFETY: the handle is open; SQLite reports the error there.
            return Err(error_of(unsafe { ffi::sqlite3_errcode(target.handle()) }));
        };
        self.copy = Some(LiveCopy { backup: Some(backup), _target: target });
        Ok(())
    }

    /// Copies pages for up to [`STEP`]. Returns `None` if no copy was started. No transaction may be open.
    pub(in crate::store) fn step_copy(&mut self) -> rusqlite::Result<Option<CopyProgress>> {
        self.copy.as_mut().map(LiveCopy::step).transpose()
    }

    /// Ends the copy. From now on the connection does not write to it.
    pub(in crate::store) fn finish_copy(&mut self) -> rusqlite::Result<()> {
        self.copy.take().map_or(Ok(()), LiveCopy::finish)
    }

    pub(in crate::store) fn close(self) -> rusqlite::Result<()> {
        let Self { copy, connection } = self;
        drop(copy);
        connection.close().map_err(|(_, error)| error)
    }
}

impl Deref for CopiedConnection {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

/// A copy in progress.
#[derive(Debug)]
struct LiveCopy {
    /// `None` once it was released.
    backup: Option<NonNull<ffi::sqlite3_backup>>,
    /// Written by SQLite during the steps, and in each commit of the copied connection. Not used otherwise.
    _target: Connection,
}

// SAFETY: objects of SQLite may be used by any thread, by one at a time. The copy is reached through the connection that it
// copies only, whose owner uses it in one thread at a time.
unsafe impl Send for LiveCopy {}

impl LiveCopy {
    fn step(&mut self) -> rusqlite::Result<CopyProgress> {
        let Some(backup) = self.backup else { return Err(error_of(ffi::SQLITE_MISUSE)) };
        let progress = |is_done, is_locked| {
            // SAFETY: the pointer is valid until it is released.
            let (pages, remaining) = unsafe {
                (
                    ffi::sqlite3_backup_pagecount(backup.as_ptr()),
                    ffi::sqlite3_backup_remaining(backup.as_ptr()),
                )
            };
            let count = |pages: c_int| u64::try_from(pages).unwrap_or_default();
            CopyProgress { pages: count(pages), remaining: count(remaining), is_done, is_locked }
        };
        let started = Instant::now();
        let mut is_locked = true;
        loop {
            // SAFETY: the pointer is valid until it is released, and the copied connection is open until then.
            match unsafe { ffi::sqlite3_backup_step(backup.as_ptr(), PAGES) } {
                ffi::SQLITE_OK => is_locked = false,
                ffi::SQLITE_DONE => return Ok(progress(true, false)),
                ffi::SQLITE_BUSY | ffi::SQLITE_LOCKED => return Ok(progress(false, is_locked)),
                code => return Err(error_of(code)),
            }
            if started.elapsed() >= STEP {
                return Ok(progress(false, false));
            }
        }
    }

    fn finish(mut self) -> rusqlite::Result<()> {
        // The connection to the copy is closed when `self` is dropped.
        match self.release() {
            ffi::SQLITE_OK => Ok(()),
            code => Err(error_of(code)),
        }
    }

    fn release(&mut self) -> c_int {
        // SAFETY: the pointer is valid, and taken, so that it is released once. The copied connection is open.
        self.backup
            .take()
            .map_or(ffi::SQLITE_OK, |backup| unsafe { ffi::sqlite3_backup_finish(backup.as_ptr()) })
    }
}

impl Drop for LiveCopy {
    fn drop(&mut self) {
        // The error of the last step, which `step` has returned.
        let _reported = self.release();
    }
}

fn error_of(code: c_int) -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(ffi::Error::new(code), None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(directory: &std::path::Path) -> CopiedConnection {
        let connection = Connection::open(directory.join("source.db")).unwrap();
        connection.pragma_update(None, "journal_mode", "WAL").unwrap();
        connection.execute_batch("CREATE TABLE t (x)").unwrap();
        let source = CopiedConnection::new(connection);
        grow(&source);
        source
    }

    /// Commits 256 KiB.
    fn grow(source: &CopiedConnection) {
        source.execute("INSERT INTO t VALUES (zeroblob(262144))", []).unwrap();
    }

    fn rows(connection: &Connection) -> i64 {
        connection.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn commits_during_a_copy_are_in_the_copy() {
        let directory = tempfile::tempdir().unwrap();
        let mut source = source(directory.path());
        let path = directory.path().join("copy.db");
        source.start_copy(Connection::open(&path).unwrap()).unwrap();
        let mut steps = 0;
        while !source.step_copy().unwrap().unwrap().is_done {
            steps += 1;
            if steps < 20 {
                grow(&source);
            }
        }
        source.finish_copy().unwrap();
        let copied = rows(&source);
        grow(&source);
        assert_eq!(rows(&Connection::open(&path).unwrap()), copied);
        assert_eq!(source.step_copy().unwrap(), None);
    }

    #[test]
    fn copy_on_a_full_disk_fails_and_the_source_commits() {
        let directory = tempfile::tempdir().unwrap();
        let mut source = source(directory.path());
        let target = Connection::open(directory.path().join("copy.db")).unwrap();
        // SQLite reports a limit of pages as a full disk.
        target.pragma_update(None, "max_page_count", 20).unwrap();
        source.start_copy(target).unwrap();
        let error = loop {
            match source.step_copy() {
                Ok(step) => assert!(!step.unwrap().is_done),
                Err(error) => break error,
            }
        };
        assert_eq!(error.sqlite_error_code(), Some(rusqlite::ErrorCode::DiskFull));
        grow(&source);
        assert!(source.step_copy().is_err(), "the error stays");
        assert!(source.finish_copy().is_err());
        grow(&source);
        assert_eq!(rows(&source), 3);
        source.close().unwrap();
    }

    #[test]
    fn connection_is_closed_although_a_copy_is_unfinished() {
        let directory = tempfile::tempdir().unwrap();
        let mut closed = source(directory.path());
        closed.start_copy(Connection::open(directory.path().join("one.db")).unwrap()).unwrap();
        closed.close().unwrap();
        let other = tempfile::tempdir().unwrap();
        let mut dropped = source(other.path());
        dropped.start_copy(Connection::open(directory.path().join("two.db")).unwrap()).unwrap();
        drop(dropped);
        for closed in [&directory, &other] {
            assert!(!closed.path().join("source.db-wal").exists(), "the connection was not closed");
        }
    }
}
