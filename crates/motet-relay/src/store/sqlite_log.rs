//! SQLite's own log, which says what an error code does not, in the log of relay.

use std::ffi::c_int;
use std::sync::Once;

use rusqlite::ffi;

/// Has SQLite report what it finds out to `tracing`. To be called before the first connection of the process.
#[allow(unsafe_code, reason = "SQLite's setting is one of the process")]
pub(super) fn forward() {
    static FORWARDED: Once = Once::new();
    FORWARDED.call_once(|| {
        // SAFETY: no other thread configures or starts SQLite meanwhile: `Once` lets one thread in, every connection of
        // relay is opened after this, and a program that uses SQLite already has its call refused, not undefined.
        // `report` calls nothing of SQLite, and may be called by any thread.
        if let Err(error) = unsafe { rusqlite::trace::config_log(Some(report)) } {
            tracing::debug!(%error, "this program used SQLite before: its log is not forwarded");
        }
    });
}

fn report(code: c_int, message: &str) {
    match code & 0xff {
        ffi::SQLITE_NOTICE => tracing::debug!(code, message, "SQLite"),
        // A statement that waits for nothing and is refused, and one that has to be planned anew, are no trouble.
        ffi::SQLITE_BUSY | ffi::SQLITE_SCHEMA => tracing::debug!(code, message, "SQLite"),
        _ => tracing::warn!(code, message, "SQLite"),
    }
}
