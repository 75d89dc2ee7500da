//! One process at a time in a data directory.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::OpenError;

/// Holds the directory until dropped; the operating system lets go of it when the process dies.
#[derive(Debug)]
pub(super) struct DirectoryLock {
    _file: File,
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
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // The pid is a help for the reader of the message; without it the message still holds.
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
        let named = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "process {}", std::process::id()));
        if let Err(error) = named {
            // On a full disk. Whoever comes later is refused all the same, by a message without the number.
            tracing::warn!(%error, "the lock file does not name this process");
        }
        Ok(Self { _file: file })
    }
}
