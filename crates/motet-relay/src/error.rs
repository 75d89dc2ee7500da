//! The errors of starting and running a relay.
//!
//! This module knows no other module of the crate, so that every part can return its errors without an import circle.

use std::error::Error as _;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use motet::container;
use motet::resilience::PolicyConfigError;
use rusqlite::ErrorCode;
use thiserror::Error;

/// The reason why a relay did not start.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum StartError {
    /// The data directory cannot be used.
    #[error(transparent)]
    Open(Arc<OpenError>),
    /// relay cannot listen on the address.
    #[error("cannot listen on {address}; choose another address with --listen")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The error of the operating system.
        source: Arc<io::Error>,
    },
    /// The certificate of the API cannot be used.
    #[error("cannot use {}: {why} (--tls-cert, --tls-key)", path.display())]
    Tls {
        /// The file.
        path: PathBuf,
        /// The reason.
        why: String,
    },
    /// Two settings belong together, and the second is missing.
    #[error("`{given}` is set without `{missing}`; set both or none")]
    Incomplete {
        /// The setting that is set.
        given: &'static str,
        /// The other setting.
        missing: &'static str,
    },
    /// The store was opened, but a read or a write failed.
    #[error("cannot use the store: {0}")]
    Store(String),
    /// The operating system returned no random bytes for an API key.
    #[error("the operating system returned no random bytes")]
    Random(#[source] getrandom::Error),
    /// Metrics could not be set up.
    #[error("cannot set up metrics: {0}")]
    Metrics(String),
    /// A setting of the breakers, the rate limits or the feeds is not valid.
    #[error("a setting of the breakers, the rate limits or the feeds is not valid")]
    Settings(#[source] PolicyConfigError),
    /// A duration is zero that must be above zero.
    #[error("`{setting}` is zero; set one millisecond or more")]
    ZeroDuration {
        /// The field of [`Config`](crate::Config).
        setting: &'static str,
    },
    /// Retention would delete old events only after relay has begun to refuse new ones.
    #[error(
        "--max-bytes is {max_bytes}, and --max-store-bytes is {max_store_bytes}; set --max-bytes to at most nine tenths of \
         --max-store-bytes, so that old events are deleted before new ones are refused"
    )]
    Sizes {
        /// [`Retention::max_bytes`](crate::Retention::max_bytes).
        max_bytes: u64,
        /// [`Config::max_store_bytes`](crate::Config::max_store_bytes).
        max_store_bytes: u64,
    },
    /// A part did not start for another reason: a bug, or the program was asked to stop during the start.
    #[error("a part of relay did not start")]
    Part(#[source] Arc<container::StartError>),
}

impl StartError {
    pub(crate) fn open(error: OpenError) -> Self {
        Self::Open(Arc::new(error))
    }

    pub(crate) fn store(error: impl fmt::Display) -> Self {
        Self::Store(error.to_string())
    }
}

impl From<container::StartError> for StartError {
    fn from(failed: container::StartError) -> Self {
        let cause = failed.build_failed().and_then(|failed| failed.source()?.downcast_ref::<Self>());
        cause.cloned().unwrap_or_else(|| Self::Part(Arc::new(failed)))
    }
}

/// The reason why a relay ended before it was asked to stop.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RunError {
    /// relay did not start.
    #[error("relay did not start")]
    Start(#[from] StartError),
    /// The store's writer ended because of a bug, which the log reports. Nothing can be stored any more.
    #[error("the store's writer ended; the log has the details")]
    WriterGone,
    /// A part of relay panicked. The log reports the part.
    #[error("a part of relay panicked; the log has the details")]
    Panicked,
    /// The shutdown took longer than its phases allow: see [`Relay::app`](crate::Relay::app).
    #[error("relay did not shut down in time")]
    GaveUp,
}

/// The reason why a data directory was not opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process uses this directory.
    #[error("the data directory {} is in use by {holder}; stop it, or choose another directory with --data", directory.display())]
    InUse {
        /// The directory.
        directory: PathBuf,
        /// The process that uses the directory, as named in the lock file.
        holder: String,
    },
    /// The directory or a file in it could not be created, locked or read.
    #[error("cannot use the data directory {}", directory.display())]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The file is a SQLite database of another program.
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
        /// The schema version of the file.
        found: i64,
        /// The schema version that this program reads.
        known: i64,
    },
    /// The database was made by a development version of relay.
    #[error(
        "{} has schema version {found} and was made by a development version of relay; this relay reads version {known}, and upgrades only versions from 10 on; start with an empty data directory (--data)",
        database.display()
    )]
    TooOld {
        /// The file.
        database: PathBuf,
        /// The schema version of the file.
        found: i64,
        /// The schema version that this program reads.
        known: i64,
    },
    /// The database has an older version, and there is no space for the backup that is made before an upgrade.
    #[error(
        "{} has schema version {found} and must be upgraded to version {known}; the backup that is made before needs {needed} bytes, and {} has {free} bytes free; nothing was changed; make space, or start the older relay",
        database.display(), directory.display()
    )]
    NoSpaceForUpgrade {
        /// The file.
        database: PathBuf,
        /// The schema version of the file.
        found: i64,
        /// The schema version that this program reads.
        known: i64,
        /// The directory of the backup.
        directory: PathBuf,
        /// The number of bytes that must be free.
        needed: u64,
        /// The number of bytes that are free.
        free: u64,
    },
    /// The backup that is made before an upgrade failed.
    #[error("cannot make the backup before an upgrade in {}; nothing was changed", directory.display())]
    UpgradeBackup {
        /// The directory of the backup.
        directory: PathBuf,
        /// The error of the operating system or of SQLite.
        source: io::Error,
    },
    /// The database has an older version, and the upgrade failed.
    #[error(
        "{} cannot be upgraded from schema version {found} to {known} ({detail}); nothing was changed; start the older relay, and report this",
        database.display()
    )]
    Upgrade {
        /// The file.
        database: PathBuf,
        /// The schema version of the file.
        found: i64,
        /// The schema version that this program reads.
        known: i64,
        /// The reason.
        detail: String,
    },
    /// The file system does not support a write-ahead log.
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
        "{} is damaged ({detail}); nothing was changed; restore it from a backup, or recover the readable rows with `sqlite3 {} .recover`",
        database.display(), database.display()
    )]
    Damaged {
        /// The file.
        database: PathBuf,
        /// The damage that SQLite found.
        detail: String,
    },
    /// Any other failure of SQLite.
    #[error("cannot open {}", database.display())]
    Sql {
        /// The file.
        database: PathBuf,
        /// The error of SQLite.
        source: rusqlite::Error,
    },
    /// The operating system returned no random bytes for the id of the store.
    #[error("the operating system returned no random bytes")]
    Random(#[source] getrandom::Error),
    /// The key file cannot be used.
    #[error("cannot use the key file {}", path.display())]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: KeyFileError,
    },
    /// The secrets in the store are encrypted, and there is no key file.
    #[error(
        "the secrets in {} are encrypted with the key {wanted}, and there is no key file: relay looked for {} and for relay-keys in $CREDENTIALS_DIRECTORY; name the key file with --key-file",
        directory.display(), path.display()
    )]
    NoKeyFile {
        /// The directory.
        directory: PathBuf,
        /// Where the key file of the directory would be.
        path: PathBuf,
        /// The id of the key.
        wanted: String,
    },
    /// There is no key file, and relay cannot create one.
    #[error(
        "relay encrypts the secrets in its store, and cannot create the key file {}; name a key file with --key-file, provide relay-keys in $CREDENTIALS_DIRECTORY, or store the secrets in clear text with --plaintext-secrets",
        path.display()
    )]
    NewKeyFile {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: KeyFileError,
    },
    /// The key file does not have the key that the secrets are encrypted with.
    #[error(
        "the secrets in {} are encrypted with the key {wanted}, and {} {}; restore the line of this key",
        directory.display(), path.display(),
        if *is_another { "has another key with this id" } else { "does not have it" }
    )]
    WrongKey {
        /// The directory.
        directory: PathBuf,
        /// The key file.
        path: PathBuf,
        /// The id of the key.
        wanted: String,
        /// `true` if the file has another key with this id.
        is_another: bool,
    },
    /// The secrets in the store are encrypted, and relay is to store them in clear text.
    #[error(
        "the secrets in {} are encrypted with the key {wanted}; start relay without --plaintext-secrets",
        directory.display()
    )]
    Encrypted {
        /// The directory.
        directory: PathBuf,
        /// The id of the key.
        wanted: String,
    },
}

/// The reason why a key file cannot be used. It does not repeat the content of the file.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// The operating system refused an operation.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The path names a directory, a device or a pipe.
    #[error("it is no regular file")]
    NotAFile,
    /// Other users may read or change it.
    #[error("its mode is {mode:04o}, so other users may read or change it; set it to 0600")]
    Mode {
        /// The permissions of the file.
        mode: u32,
    },
    /// The file belongs to another user.
    #[error("it belongs to the user {uid}; it must belong to the user of relay or to root")]
    Owner {
        /// The owner of the file.
        uid: u32,
    },
    /// The file is in the data directory, where each copy of the data would contain the keys.
    #[error(
        "it is in the data directory, so a copy of the data would contain the keys; move it to another directory"
    )]
    InData,
    /// The file is larger than a key file can be.
    #[error("it has more than 64 KiB")]
    TooLarge,
    /// A line is not valid.
    #[error("line {number} is not `id:base64 of 32 bytes`: {why}")]
    Line {
        /// The number of the line, from 1.
        number: usize,
        /// The reason.
        why: &'static str,
    },
    /// The file has no key.
    #[error("it has no key; write a line `id:base64 of 32 bytes`")]
    NoKeys,
    /// The data directory is a mount point, or the root of the file system.
    #[error(
        "the data directory is on another file system than its parent directory, which may not be kept with the data"
    )]
    Mount,
}

impl OpenError {
    pub(crate) fn directory(directory: &Path, source: io::Error) -> Self {
        Self::Directory { directory: directory.to_owned(), source }
    }

    pub(crate) fn sql(database: &Path, source: rusqlite::Error) -> Self {
        let database = database.to_owned();
        match source.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Self::Damaged { database, detail: source.to_string() }
            }
            _ => Self::Sql { database, source },
        }
    }
}
