//! What can go wrong with the store.

use std::io;
use std::path::{Path, PathBuf};

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

/// Why a data directory was not opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process works in this directory.
    #[error("the data directory {} is in use by {holder}; stop it, or choose another directory with --data", directory.display())]
    InUse {
        /// The directory.
        directory: PathBuf,
        /// Who holds it, as far as the lock file tells.
        holder: String,
    },
    /// The directory or a file in it could not be made, locked or read.
    #[error("cannot use the data directory {}", directory.display())]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The file is a SQLite database of some other program.
    #[error("{} is not a relay database; move it away or choose another directory with --data", database.display())]
    NotRelay {
        /// The file.
        database: PathBuf,
    },
    /// The database was written by a newer relay.
    #[error(
        "{} has schema version {found} and was written by a newer relay; this relay reads version {known} only; start the newer relay, or choose another directory with --data",
        database.display()
    )]
    TooNew {
        /// The file.
        database: PathBuf,
        /// Its version.
        found: i64,
        /// The version that this program reads.
        known: i64,
    },
    /// The database was written by an older relay.
    #[error(
        "{} has schema version {found} and was written by an older relay; this relay reads version {known} only and converts no store; let the older relay deliver what is pending there, and choose another directory with --data",
        database.display()
    )]
    TooOld {
        /// The file.
        database: PathBuf,
        /// Its version.
        found: i64,
        /// The version that this program reads.
        known: i64,
    },
    /// The file system does not allow what a write-ahead log needs.
    #[error(
        "{} cannot have a write-ahead log (journal mode is {mode}); use a local file system",
        database.display()
    )]
    NoLog {
        /// The file.
        database: PathBuf,
        /// The journal mode that SQLite fell back to.
        mode: String,
    },
    /// The database is damaged.
    #[error(
        "{} is damaged ({detail}); nothing was changed; restore it from a backup, or recover what is readable with `sqlite3 {} .recover`",
        database.display(), database.display()
    )]
    Damaged {
        /// The file.
        database: PathBuf,
        /// What SQLite found.
        detail: String,
    },
    /// Any other failure of SQLite.
    #[error("cannot open {}", database.display())]
    Sql {
        /// The file.
        database: PathBuf,
        /// SQLite's reason.
        source: rusqlite::Error,
    },
    /// The operating system gave no random bytes for the store's id.
    #[error("no random bytes from the operating system")]
    Random(#[source] getrandom::Error),
}

impl OpenError {
    pub(super) fn directory(directory: &Path, source: io::Error) -> Self {
        Self::Directory { directory: directory.to_owned(), source }
    }

    pub(super) fn sql(database: &Path, source: rusqlite::Error) -> Self {
        let database = database.to_owned();
        match source.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Self::Damaged { database, detail: source.to_string() }
            }
            _ => Self::Sql { database, source },
        }
    }
}
