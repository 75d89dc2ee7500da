//! Backups while relay runs: one at a time, each in steps between two commits.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use motet::task::{CancelToken, Reason};
use rusqlite::{Connection, ErrorCode};
use rustix::fs::statvfs;
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::file::{PartialBackup, create_directory};
use super::names;
use crate::clock::{Millis, millis};
use crate::store::{Store, StoreError, schema};

/// The pause between two steps, so that a backup takes at most half of the writer's time.
const PAUSE: Duration = Duration::from_millis(2);

/// The copy is synced whenever it has grown by this size: the last sync is then short, and the disk limits the copy, not
/// the memory of the operating system.
const SYNC_BYTES: u64 = 64 << 20;

/// Space that a backup leaves on the disk of the store.
const KEPT_FREE: u64 = 16 << 20;

/// How long another program may hold the copy.
const PATIENCE: Duration = schema::BUSY_TIMEOUT;

/// The reason why a backup failed. The store and other backups are not affected.
#[derive(Debug, Error)]
enum BackupError {
    #[error("cannot write to {}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("the backup needs {needed} bytes, and the disk of {} has {free} bytes free", path.display())]
    NoSpace { path: PathBuf, needed: u64, free: u64 },
    #[error("the disk of {} is full", path.display())]
    Full { path: PathBuf },
    #[error("another program holds {}", path.display())]
    Locked { path: PathBuf },
    #[error(
        "the copy is damaged, and was removed: {0}; `motet-relay check` finds out if the store is damaged"
    )]
    Damaged(String),
    #[error("relay is shutting down")]
    Stopped,
    #[error("{0}")]
    Store(StoreError),
}

/// A backup in progress.
#[derive(Debug, Clone)]
pub(crate) struct RunningBackup {
    pub(crate) name: String,
    /// The file, if the caller chose it.
    pub(crate) to: Option<PathBuf>,
    pub(crate) at: Millis,
    /// Pages of the store, and how many of them are copied.
    pub(crate) pages: u64,
    pub(crate) copied: u64,
}

/// A backup that has ended.
#[derive(Debug, Clone)]
pub(crate) struct EndedBackup {
    pub(crate) name: String,
    pub(crate) at: Millis,
    /// `None` for a file that an earlier process has made.
    pub(crate) took: Option<Duration>,
    /// The size of the file, or the reason why there is none.
    pub(crate) result: Result<u64, String>,
}

/// The backups of a store.
#[derive(Debug)]
pub(in crate::store) struct Backups {
    directory: PathBuf,
    running: watch::Sender<Option<RunningBackup>>,
    /// The latest backup, and the latest that succeeded.
    ended: Mutex<LatestBackups>,
    stop: CancelToken,
}

#[derive(Debug, Default)]
struct LatestBackups {
    any: Option<EndedBackup>,
    success: Option<(Millis, u64)>,
}

impl Backups {
    /// The backups in `directory`, of which the newest counts as the latest success.
    pub(in crate::store) fn new(directory: PathBuf) -> Self {
        let newest = list(&directory).unwrap_or_default().into_iter().next();
        let success = newest.and_then(|backup| Some((backup.at, backup.result.ok()?)));
        Self {
            directory,
            running: watch::Sender::new(None),
            ended: Mutex::new(LatestBackups { any: None, success }),
            stop: CancelToken::new(),
        }
    }

    fn ended(&self) -> MutexGuard<'_, LatestBackups> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the backup in progress, and refuses further ones.
    pub(in crate::store) async fn close(&self) {
        self.stop.cancel(Reason::requested("the store is closed"));
        let mut running = self.running.subscribe();
        // Never closed: `self` has the sender.
        let _never_gone = running.wait_for(Option::is_none).await;
    }
}

impl Store {
    /// Starts a backup to the directory of backups, or to the file `to`, which must not exist. Returns its name.
    ///
    /// # Errors
    /// [`StoreError::BackupRunning`]; [`StoreError::Closed`].
    pub(crate) fn start_backup(&self, to: Option<PathBuf>) -> Result<RunningBackup, StoreError> {
        let at = self.shared.clock.wall();
        let backups = &self.shared.backups;
        if backups.stop.is_cancelled() {
            return Err(StoreError::Closed);
        }
        let started = RunningBackup { name: names::of_backup(at), to, at, pages: 0, copied: 0 };
        let is_first = backups.running.send_if_modified(|running| {
            let is_first = running.is_none();
            if is_first {
                *running = Some(started.clone());
            }
            is_first
        });
        if !is_first {
            return Err(StoreError::BackupRunning);
        }
        let run =
            BackupRun { store: self.clone(), started: started.clone(), began: Instant::now(), result: None };
        // Dropping the future of a closed scope ends the run.
        drop(self.shared.scope.service("backup", run.run()));
        Ok(started)
    }

    /// Waits until no backup is in progress. Returns the latest one of this process.
    ///
    /// # Cancel safety
    /// Safe.
    pub(crate) async fn backup_ended(&self) -> Option<EndedBackup> {
        let mut running = self.shared.backups.running.subscribe();
        // Never closed: `self` has the sender.
        let _never_gone = running.wait_for(Option::is_none).await;
        self.shared.backups.ended().any.clone()
    }

    /// The backup in progress.
    pub(crate) fn running_backup(&self) -> Option<RunningBackup> {
        self.shared.backups.running.borrow().clone()
    }

    /// The latest backup of this process that has ended.
    pub(crate) fn latest_backup(&self) -> Option<EndedBackup> {
        self.shared.backups.ended().any.clone()
    }

    /// When the latest successful backup began, and its size.
    pub(crate) fn latest_good_backup(&self) -> Option<(Millis, u64)> {
        self.shared.backups.ended().success
    }

    /// Returns the files in the directory of backups, newest first.
    pub(crate) async fn backup_files(&self) -> Result<Vec<EndedBackup>, StoreError> {
        let directory = self.shared.backups.directory.clone();
        let mut files = self.blocking_io(move || list(&directory)).await?;
        if let Some(latest) = self.latest_backup()
            && let Some(file) = files.iter_mut().find(|file| file.name == latest.name)
        {
            file.took = latest.took;
        }
        Ok(files)
    }

    /// Deletes the oldest files in the directory of backups, except for `keep` files. Files with other names than those of
    /// backups stay, and so do backups with a time that has not come yet: they were made while the clock was wrong, and would
    /// count as the newest.
    pub(crate) async fn prune_backups(&self, keep: usize) -> Result<(), StoreError> {
        let directory = self.shared.backups.directory.clone();
        let now = self.shared.clock.wall();
        self.blocking_io(move || {
            let made = list(&directory)?.into_iter().filter(|backup| backup.at <= now);
            for old in made.skip(keep) {
                fs::remove_file(directory.join(&old.name))?;
                tracing::info!(name = old.name, keep, "deleted an old backup");
            }
            Ok(())
        })
        .await
    }

    /// The size of the database, with the pages that are in the log only.
    async fn database_bytes(&self) -> Result<u64, StoreError> {
        let read = |connection: &Connection| {
            let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, u64>(0));
            Ok(pragma("page_count")?.saturating_mul(pragma("page_size")?))
        };
        self.shared.metrics_reader.read(read).await
    }

    async fn blocking_io<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let working = self.shared.scope.blocking("backups", move |_| work());
        let worked = working.map_err(|_| StoreError::Closed)?.await;
        let worked = worked.map_err(|failed| StoreError::Internal(failed.to_string()))?;
        worked.map_err(|error| StoreError::Io(format!("cannot use the directory of backups: {error}")))
    }
}

/// Returns the backups in a directory, newest first. A directory that does not exist has none.
fn list(directory: &Path) -> io::Result<Vec<EndedBackup>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut backups = Vec::new();
    for entry in entries {
        let entry = entry?;
        let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
        let Some(at) = names::time_of_backup(&name) else { continue };
        let bytes = match entry.metadata() {
            Ok(found) => found.len(),
            // Deleted in the meantime.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        backups.push(EndedBackup { name, at, took: None, result: Ok(bytes) });
    }
    backups.sort_unstable_by_key(|backup| std::cmp::Reverse(backup.at));
    Ok(backups)
}

/// A backup in progress. Dropping it ends the backup.
struct BackupRun {
    store: Store,
    started: RunningBackup,
    began: Instant,
    result: Option<Result<u64, BackupError>>,
}

impl BackupRun {
    async fn run(mut self) {
        let made = self.make().await;
        self.result = Some(made);
    }

    /// Copies, checks and names the file. Returns its size.
    async fn make(&self) -> Result<u64, BackupError> {
        let backups = &self.store.shared.backups;
        let target = self.started.to.clone().unwrap_or_else(|| backups.directory.join(&self.started.name));
        let size = self.store.database_bytes().await.map_err(BackupError::Store)?;
        let room = DiskRoom::of(&self.store, &target, size);
        let (in_own_directory, path) = (self.started.to.is_none(), target.clone());
        let (partial, copy) = self
            .blocking(&target, move |_| {
                if let Some(parent) = path.parent().filter(|_| in_own_directory) {
                    create_directory(parent)?;
                }
                room.check()?;
                let partial = PartialBackup::create(&path)?;
                let copy = partial.open().map_err(io::Error::other)?;
                Ok((partial, copy))
            })
            .await?;
        self.store
            .shared
            .writer
            .between_commits(move |connection| Ok(connection.start_copy(copy)?))
            .await
            .map_err(BackupError::Store)?;
        self.copy(&partial, &target, size).await?;
        self.check_stop()?;
        let (stop, path) = (backups.stop.clone(), target.clone());
        let whole = self.blocking(&target, move |_| {
            let finding =
                partial.check(move || stop.is_cancelled()).map_err(|error| sql_error(&path, &error))?;
            if let Some(finding) = finding {
                return Err(io::Error::other(BackupError::Damaged(finding)));
            }
            partial.finish()
        });
        let whole = whole.await;
        self.check_stop()?;
        whole
    }

    /// Copies the pages.
    async fn copy(&self, partial: &PartialBackup, target: &Path, size: u64) -> Result<(), BackupError> {
        let backups = &self.store.shared.backups;
        let writer = &self.store.shared.writer;
        let (mut synced, mut moved) = (0, Instant::now());
        loop {
            self.check_stop()?;
            let path = target.to_owned();
            let step = writer.between_commits(move |connection| {
                let step = connection.step_copy();
                let is_over = step.as_ref().map_or(true, |step| step.is_none_or(|step| step.is_done));
                let finished = if is_over { connection.finish_copy() } else { Ok(()) };
                Ok(step.and_then(|step| finished.map(|()| step)).map_err(|error| sql_error(&path, &error)))
            });
            let step =
                step.await.map_err(BackupError::Store)?.map_err(|error| as_backup_error(target, error))?;
            // Another copy has taken its place, which cannot be: one backup runs at a time.
            let Some(step) = step else { return Err(BackupError::Stopped) };
            backups.running.send_modify(|running| {
                if let Some(running) = running {
                    (running.pages, running.copied) = (step.pages, step.pages.saturating_sub(step.remaining));
                }
            });
            if step.is_done {
                return Ok(());
            }
            if !step.is_locked {
                moved = Instant::now();
            } else if moved.elapsed() > PATIENCE {
                self.forget_copy().await;
                return Err(BackupError::Locked { path: target.to_owned() });
            }
            let written = partial.bytes();
            if written >= synced + SYNC_BYTES {
                synced = written;
                let (room, file) = (
                    DiskRoom::of(&self.store, target, size.saturating_sub(written)),
                    partial.path().to_owned(),
                );
                let synced = self
                    .blocking(target, move |_| {
                        room.check()?;
                        fs::File::open(file)?.sync_data()
                    })
                    .await;
                if let Err(error) = synced {
                    self.forget_copy().await;
                    return Err(error);
                }
            }
            sleep(PAUSE).await;
        }
    }

    /// Ends the copy, so that commits do not write to it any more.
    async fn forget_copy(&self) {
        let finished = self.store.shared.writer.between_commits(|connection| {
            // The error of the last step, which was returned already.
            let _reported = connection.finish_copy();
            Ok(())
        });
        // A closed writer has no copy.
        let _closed = finished.await;
    }

    fn check_stop(&self) -> Result<(), BackupError> {
        if self.store.shared.backups.stop.is_cancelled() { Err(BackupError::Stopped) } else { Ok(()) }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        target: &Path,
        work: impl FnOnce(&CancelToken) -> io::Result<T> + Send + 'static,
    ) -> Result<T, BackupError> {
        let working = self.store.shared.scope.blocking("backup", work).map_err(|_| BackupError::Stopped)?;
        let worked =
            working.await.map_err(|failed| BackupError::Store(StoreError::Internal(failed.to_string())))?;
        worked.map_err(|error| as_backup_error(target, error))
    }
}

impl Drop for BackupRun {
    fn drop(&mut self) {
        let backups = &self.store.shared.backups;
        let took = self.began.elapsed();
        let RunningBackup { name, to, at, .. } = self.started.clone();
        let result = self.result.take().unwrap_or(Err(BackupError::Stopped));
        match &result {
            Ok(bytes) => {
                metrics::histogram!("relay_backup_seconds").record(took);
                tracing::info!(name, to = ?to, bytes, ?took, "a backup was made");
            }
            Err(BackupError::Stopped) => tracing::info!(name, "a backup was given up, because relay stops"),
            Err(error) => {
                metrics::counter!("relay_backup_failures_total").increment(1);
                tracing::error!(name, %error, "a backup failed");
            }
        }
        let mut ended = backups.ended();
        if let Ok(bytes) = result {
            ended.success = Some((at, bytes));
        }
        let result = result.map_err(|error| error.to_string());
        ended.any = Some(EndedBackup { name, at, took: Some(took), result });
        drop(ended);
        backups.running.send_replace(None);
    }
}

/// The space on the disk of a backup.
struct DiskRoom {
    target: PathBuf,
    store: PathBuf,
    needed: u64,
}

impl DiskRoom {
    fn of(store: &Store, target: &Path, needed: u64) -> Self {
        let store = store.shared.lock.identity().path().to_owned();
        Self { target: target.to_owned(), store, needed }
    }

    /// Fails if the backup would fill the disk, or leave the store too little space on the same disk.
    fn check(&self) -> io::Result<()> {
        let parent = self.target.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or_else(|| Path::new("."));
        let disk = statvfs(parent)?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        let is_shared = fs::metadata(parent)?.dev() == fs::metadata(&self.store)?.dev();
        let needed = self.needed + if is_shared { KEPT_FREE } else { 0 };
        if free < needed {
            let path = parent.to_owned();
            return Err(io::Error::other(BackupError::NoSpace { path, needed, free }));
        }
        Ok(())
    }
}

fn sql_error(path: &Path, error: &rusqlite::Error) -> io::Error {
    let path = path.to_owned();
    io::Error::other(match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => BackupError::Full { path },
        _ => BackupError::File { path, source: io::Error::other(error.to_string()) },
    })
}

/// Returns the error that was carried through an operation of the operating system.
fn as_backup_error(path: &Path, error: io::Error) -> BackupError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            BackupError::Full { path: path.to_owned() }
        }
        _ => match error.downcast::<BackupError>() {
            Ok(error) => error,
            Err(source) => BackupError::File { path: path.to_owned(), source },
        },
    }
}

/// Makes a backup whenever the latest one in the directory of backups is older than `every`, and keeps the newest `keep`.
pub(crate) async fn keep_backups(store: Store, every: Duration, keep: usize) {
    /// Clocks may be set, so that the age is looked at again.
    const LONGEST_WAIT: Duration = Duration::from_secs(60);
    loop {
        let age = match store.latest_good_backup() {
            None => Millis::MAX,
            Some((at, _)) => store.clock().wall() - at,
        };
        // A backup of the future was made before the clock was set back.
        let wait = if age < 0 { 0 } else { millis(every).saturating_sub(age).max(0) };
        if wait > 0 {
            sleep(Duration::from_millis(wait.unsigned_abs()).min(LONGEST_WAIT)).await;
            continue;
        }
        let made = match store.start_backup(None) {
            // A backup that was requested counts as well.
            Ok(_) | Err(StoreError::BackupRunning) => store.backup_ended().await,
            Err(_) => return,
        };
        let is_made = made.is_some_and(|made| made.result.is_ok());
        if is_made && let Err(error) = store.prune_backups(keep).await {
            tracing::warn!(%error, "cannot delete old backups");
        }
        if !is_made {
            // Not at once: a failed backup may have copied the whole store.
            sleep((every / 8).clamp(Duration::from_millis(100), Duration::from_secs(3_600))).await;
        }
    }
}
