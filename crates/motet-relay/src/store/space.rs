//! Disk space: the size limit of the store, and a reserve on the disk.
//!
//! relay starts to refuse new events, endpoints, tenants and keys while it still has space for the outcomes of its stored
//! events. Outcomes, deletions and changes of stored rows are written beyond the size limit, and on a full disk a reserve
//! file is deleted to make space for them.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::Connection;
use rustix::fs::{FallocateFlags, fallocate, statvfs};

use super::StoreError;
use super::lock::FileIdentity;
use super::retention::RetentionSignal;

const RESERVE: &str = "relay.reserve";

/// Space for about ten thousand outcomes. On a small disk the reserve is a sixteenth of the free space.
const RESERVE_BYTES: u64 = 8 << 20;
const LEAST_RESERVE_BYTES: u64 = 64 << 10;

/// Upper bound of the size of a row that is no event.
const ROW_BYTES: usize = 64 << 10;

/// The disk of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DiskUse {
    /// Bytes that relay can still write.
    pub(crate) free: u64,
    /// Sizes of the database and of its log, in bytes.
    pub(crate) database: u64,
    pub(crate) log: u64,
}

impl DiskUse {
    pub(super) fn of(database: &Path) -> io::Result<Self> {
        let disk = statvfs(database)?;
        let mut log = database.as_os_str().to_owned();
        log.push("-wal");
        Ok(Self {
            free: disk.f_bavail.saturating_mul(disk.f_frsize),
            database: fs::metadata(database)?.len(),
            // A store without a write since its start may have no log.
            log: fs::metadata(log).map_or(0, |found| found.len()),
        })
    }
}

/// The space for new events.
#[derive(Debug)]
pub(super) struct StoreSpace {
    max_bytes: Option<u64>,
    /// The size from which retention deletes the oldest events.
    shrinks_at: Option<(u64, Arc<RetentionSignal>)>,
    identity: FileIdentity,
    reserve: PathBuf,
    is_reserved: bool,
}

impl StoreSpace {
    pub(super) fn new(
        directory: &Path,
        identity: FileIdentity,
        max_bytes: Option<u64>,
        shrinks_at: Option<(u64, Arc<RetentionSignal>)>,
    ) -> Self {
        let reserve = directory.join(RESERVE);
        let mut space = Self { max_bytes, shrinks_at, identity, reserve, is_reserved: false };
        if let Err(error) = space.reserve() {
            tracing::warn!(%error, "new events are refused until the disk has free space");
        }
        space
    }

    pub(super) fn set_max_bytes(&mut self, max_bytes: Option<u64>) {
        self.max_bytes = max_bytes;
    }

    /// Returns an error if a new row other than an event must be refused.
    pub(super) fn check_row(&self, connection: &Connection) -> Result<(), StoreError> {
        self.check(connection, ROW_BYTES)
    }

    /// Returns an error if events with `bytes` of data must be refused.
    pub(super) fn check(&self, connection: &Connection, bytes: usize) -> Result<(), StoreError> {
        self.identity.check()?;
        if !self.is_reserved {
            return Err(StoreError::Full);
        }
        if self.max_bytes.is_none() && self.shrinks_at.is_none() {
            return Ok(());
        }
        let after = used_bytes(connection)?.saturating_add(bytes as u64);
        if let Some((shrinks_at, signal)) = &self.shrinks_at
            && after > *shrinks_at
        {
            signal.wake_for_space();
        }
        match self.max_bytes {
            Some(max_bytes) if after > max_bytes => Err(StoreError::Limit(max_bytes)),
            _ => Ok(()),
        }
    }

    /// Creates the reserve if it does not exist.
    pub(super) fn reserve(&mut self) -> Result<(), StoreError> {
        if !self.is_reserved {
            if fs::metadata(&self.reserve).map_or(0, |found| found.len()) < LEAST_RESERVE_BYTES {
                self.allocate().map_err(|error| match error.kind() {
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full,
                    _ => StoreError::Io(format!("cannot reserve space on the disk: {error}")),
                })?;
            }
            self.is_reserved = true;
        }
        Ok(())
    }

    /// Deletes the reserve. Returns `true` if this has freed space.
    pub(super) fn give_up_reserve(&mut self) -> bool {
        if !std::mem::take(&mut self.is_reserved) {
            return false;
        }
        match fs::remove_file(&self.reserve) {
            Ok(()) => {
                tracing::warn!("the disk is full; the reserve was deleted to make space for outcomes");
                true
            }
            Err(error) => {
                tracing::error!(%error, "the disk is full, and the reserve cannot be deleted");
                false
            }
        }
    }

    fn allocate(&self) -> io::Result<()> {
        let directory = self.reserve.parent().unwrap_or_else(|| Path::new("."));
        let disk = statvfs(directory)?;
        let bytes = RESERVE_BYTES.min(disk.f_bavail.saturating_mul(disk.f_frsize) / 16);
        if bytes < LEAST_RESERVE_BYTES {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&self.reserve);
        let allocated = file.and_then(|file| allocate(&file, bytes));
        if allocated.is_err() {
            // A partial reserve would use up the missing space.
            fs::remove_file(&self.reserve)?;
        }
        allocated
    }
}

/// Returns the size of the pages in use.
pub(super) fn used_bytes(connection: &Connection) -> Result<u64, StoreError> {
    let pragma = |sql| -> Result<u64, StoreError> {
        Ok(connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?)
    };
    let pages = pragma("PRAGMA page_count")?.saturating_sub(pragma("PRAGMA freelist_count")?);
    Ok(pages.saturating_mul(pragma("PRAGMA page_size")?))
}

fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    match fallocate(file, FallocateFlags::empty(), 0, bytes) {
        // The file system does not support it; written bytes use up space as well.
        Err(rustix::io::Errno::OPNOTSUPP) => {
            io::copy(&mut io::Read::take(io::repeat(0), bytes), &mut &*file).map(drop)
        }
        done => Ok(done?),
    }
}
