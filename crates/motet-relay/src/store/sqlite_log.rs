//! Forwards SQLite's own log, which has more details than an error code, to relay's log.

use std::ffi::c_int;
use std::sync::Once;

use rusqlite::ffi;

/// Forwards the messages of SQLite to `tracing`. Must be called before the process opens its first connection.
#[allow(unsafe_code, reason = "SQLite has this setting once per process")]
pub(super) fn forward() {
    static FORWARDED: Once = Once::new();
    FORWARDED.call_once(|| {
        // SAFETY: no other thread configures or starts SQLite at the same time: `Once` admits one thread, every
        // connection of relay is opened after this call, and if the program has already started SQLite, SQLite refuses
        // the call. `report` calls no function of SQLite, and any thread may call it.
        if let Err(error) = unsafe { rusqlite::trace::config_log(Some(report)) } {
            tracing::debug!(%error, "SQLite's log is not forwarded: this program has already used SQLite");
        }
    });
}

fn report(code: c_int, message: &str) {
    match code & 0xff {
        ffi::SQLITE_NOTICE => tracing::debug!(code, message, "SQLite"),
        // A statement that is refused because it must not wait, or is planned again, is no problem.
        ffi::SQLITE_BUSY | ffi::SQLITE_SCHEMA => tracing::debug!(code, message, "SQLite"),
        _ => tracing::warn!(code, message, "SQLite"),
    }
}
