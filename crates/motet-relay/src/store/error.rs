//! The error of reads and writes.

use rusqlite::ErrorCode;
use thiserror::Error;

use super::quotas::QuotaExceeded;

/// The reason why a read or a write failed. A failed write stores nothing, except where a variant states otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum StoreError {
    /// The disk is full.
    #[error("the disk is full")]
    Full,
    /// The store has reached its size limit; only new events are refused for this reason.
    #[error("the store has reached its size limit of {0} bytes (--max-store-bytes)")]
    Limit(u64),
    /// Too many reads or writes are waiting.
    #[error("too many requests are waiting for the store")]
    Busy,
    /// The operating system refused a read or a write.
    #[error("input/output error: {0}")]
    Io(String),
    /// A commit failed while its data was being written: after a crash the data may be found on the disk.
    #[error("input/output error in a commit: {0}")]
    Unsure(String),
    /// The database file is damaged.
    #[error("the database is damaged: {0}")]
    Corrupt(String),
    /// The tenant does not exist, or was deleted.
    #[error("the tenant does not exist")]
    NoTenant,
    /// The data of the event was erased.
    #[error("the data of the event was erased, by a request or by retention, so it cannot be sent")]
    Erased,
    /// A reader of the feed has fallen behind events that retention has deleted.
    #[error("the next events were deleted by retention before this reader has read them")]
    Overtaken,
    /// The tenant does not have the endpoint, or it was deleted.
    #[error("the endpoint does not exist")]
    NoEndpoint,
    /// The tenant has this number of running replays, which is the limit.
    #[error(
        "the tenant has {0} running replays, which is the limit; cancel one, or wait until one has finished"
    )]
    TooManyReplays(usize),
    /// An endpoint of the tenant has this uid already.
    #[error("the tenant has an endpoint with the uid {0:?} already")]
    UidTaken(String),
    /// A quota of the tenant does not admit it.
    #[error("the tenant has reached its limit of {} ({:?})", .0.limit, .0.quota)]
    Quota(QuotaExceeded),
    /// The change cannot be applied, for this reason.
    #[error("{0}")]
    Invalid(String),
    /// Another tenant has this id already.
    #[error("there is a tenant with the id {0:?} already")]
    TenantTaken(String),
    /// An operator has paused the endpoint.
    #[error("the endpoint was paused with a key of all tenants, and is resumed with one")]
    PausedByOperator,
    /// A backup is in progress; at most one is.
    #[error("a backup is running already; wait until it has ended")]
    BackupRunning,
    /// The key file cannot be used, for this reason.
    #[error("{0}")]
    KeyFile(String),
    /// A stored secret cannot be decrypted, for this reason.
    #[error("{0}")]
    Undecryptable(String),
    /// The key of the request is no longer valid.
    #[error("the API key of this request was revoked or has expired")]
    KeyEnded,
    /// The store is closed or closing.
    #[error("the store is closed")]
    Closed,
    /// A statement failed because of a bug in relay.
    #[error("internal store error: {0}")]
    Internal(String),
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::Error as Sql;

        let text = error.to_string();
        // The columns are typed: relay has not written a value of another type.
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
            // Only another program can hold the database for longer than the busy timeout.
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                Self::Io(format!("another program holds the database: {text}"))
            }
            _ => Self::Internal(text),
        }
    }
}
