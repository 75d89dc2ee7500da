//! The lock of a data directory: at most one process uses it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::{StoreError, schema};
use crate::error::OpenError;

/// Locks the directory until it is dropped; the operating system releases the lock when the process dies.
///
/// Two files are locked: `relay.lock`, which names the process, and the database itself, so that deleting `relay.lock`
/// does not let a second process in.
#[derive(Debug)]
pub(super) struct DirectoryLock {
    _file: File,
    /// Closed after every connection: closing it earlier would release SQLite's own locks.
    _database: File,
    identity: FileIdentity,
}

/// The file that was opened as the database.
#[derive(Debug, Clone)]
pub(super) struct FileIdentity {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl FileIdentity {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns an error if the path names another file than the open one: the next start would not find new data in
    /// the open file.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        match fs::metadata(&self.path) {
            Ok(found) if (found.dev(), found.ino()) == (self.device, self.inode) => Ok(()),
            Ok(_) => Err(StoreError::Io(format!("{} was replaced while relay runs", self.path.display()))),
            Err(error) => Err(StoreError::Io(format!(
                "{} was moved or removed while relay runs: {error}",
                self.path.display()
            ))),
        }
    }
}

impl DirectoryLock {
    pub(super) fn acquire(directory: &Path) -> Result<Self, OpenError> {
        let failed = |e| OpenError::directory(directory, e);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(directory.join("relay.lock"))
            .map_err(failed)?;
        // Created here with a mode for its owner only; SQLite gives its other files the same mode.
        let path = directory.join(schema::FILE_NAME);
        let database =
            OpenOptions::new().create(true).append(true).mode(0o600).open(&path).map_err(failed)?;
        match file.try_lock().and_then(|()| database.try_lock()) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // The process id is a hint for the reader of the message; the message is also correct without it.
                if file.read_to_string(&mut holder).is_err() || holder.trim().is_empty() {
                    "another process".clone_into(&mut holder);
                }
                return Err(OpenError::InUse {
                    directory: directory.to_owned(),
                    holder: holder.trim().to_owned(),
                });
            }
            Err(TryLockError::Error(e)) => return Err(failed(e)),
        }
        let found = database.metadata().map_err(failed)?;
        let identity = FileIdentity { path, device: found.dev(), inode: found.ino() };
        let named = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "process {}", std::process::id()));
        if let Err(error) = named {
            // On a full disk. A second process is refused nevertheless; its message lacks the process id.
            tracing::warn!(%error, "the lock file does not name this process");
        }
        Ok(Self { _file: file, _database: database, identity })
    }

    pub(super) fn identity(&self) -> &FileIdentity {
        &self.identity
    }
}
