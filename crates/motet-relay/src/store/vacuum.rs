//! Returns the free pages of the database to the file system, in small steps.

use rusqlite::Connection;

use super::StoreError;

/// Moves and frees up to this number of pages. One large call would fill the log: each moved page is written to it.
const STEP: &str = "PRAGMA incremental_vacuum(64)";

/// Free pages that are kept for new rows: 1 MiB, or a twentieth of the pages in use.
const KEPT: i64 = 256;
const KEPT_PART: i64 = 20;

fn pragma(connection: &Connection, sql: &str) -> Result<i64, StoreError> {
    Ok(connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?)
}

/// Returns the number of free pages.
pub(super) fn free_pages(connection: &Connection) -> Result<i64, StoreError> {
    pragma(connection, "PRAGMA freelist_count")
}

/// Returns the number of free pages beyond those that are kept.
pub(super) fn free_pages_beyond(connection: &Connection) -> Result<i64, StoreError> {
    let free = free_pages(connection)?;
    let used = pragma(connection, "PRAGMA page_count")? - free;
    Ok((free - KEPT.max(used / KEPT_PART)).max(0))
}

/// Frees some pages. The file shrinks with the next checkpoint.
pub(super) fn give_back(connection: &Connection) -> Result<(), StoreError> {
    let mut statement = connection.prepare_cached(STEP)?;
    let mut rows = statement.query([])?;
    // Each row is one page: a statement that is not read to its end frees one page only.
    while rows.next()?.is_some() {}
    Ok(())
}
