//! What can go wrong with the store.

use rusqlite::ErrorCode;
use thiserror::Error;

/// Why a read or a write was not done. Nothing of a failed write is stored, unless it says so.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum StoreError {
    /// The disk is used up.
    #[error("the disk is full")]
    Full,
    /// The size that the store may have is used up; only new events are refused for that.
    #[error("the store has reached its size limit of {0} bytes (--max-store-bytes)")]
    Limit(u64),
    /// More reads or writes wait than may.
    #[error("the store has more to do than may wait for it")]
    Busy,
    /// The operating system refused a read or a write.
    #[error("input/output error: {0}")]
    Io(String),
    /// A commit failed when its data was on the way to the disk: after a crash it may be found there.
    #[error("input/output error in a commit: {0}")]
    Unsure(String),
    /// The database file is damaged.
    #[error("the database is damaged: {0}")]
    Corrupt(String),
    /// The store is closed, or closing.
    #[error("the store is closed")]
    Closed,
    /// A statement failed for a reason that is a bug in relay.
    #[error("internal store error: {0}")]
    Internal(String),
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::Error as Sql;

        let text = error.to_string();
        // The columns are typed: a value of another type was not written by relay.
        if matches!(
            error,
            Sql::FromSqlConversionFailure(..)
                | Sql::InvalidColumnType(..)
                | Sql::IntegralValueOutOfRange(..)
                | Sql::Utf8Error(..)
        ) {
            return Self::Corrupt(text);
        }
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full,
            Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen | ErrorCode::ReadOnly) => Self::Io(text),
            // A damaged length reads as a value that is too big.
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::TooBig) => {
                Self::Corrupt(text)
            }
            // Only a program that is not relay can hold the database for longer than the busy timeout.
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                Self::Io(format!("another program holds the database: {text}"))
            }
            _ => Self::Internal(text),
        }
    }
}
