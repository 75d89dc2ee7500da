//! The embedded store: events, their deliveries and all attempts, in one SQLite file.
//!
//! One connection writes, and commits in groups: a commit takes the writes that were queued during the last fsync. So
//! an idle store adds no delay, and a busy store shares each fsync between many callers. Readers have connections of
//! their own and see whole commits only. Checkpoints run on a thread of their own, so that they do not stall a commit.
//!
//! # Guarantees
//! - A write that returns `Ok` is on disk (`synchronous=FULL`).
//! - An event and all of its deliveries become visible in the same commit.
//! - At most one process uses a data directory: the directory is locked.

mod backlog;
mod backup;
mod check;
mod checkpoint;
mod damage;
mod deliveries;
mod endpoints;
mod erasure;
mod erasures;
mod error;
mod event_types;
mod events;
mod follow;
mod keys;
mod listing;
mod lock;
mod once;
mod policy;
mod quotas;
mod readers;
mod rekey;
mod replays;
mod restore;
mod retention;
mod rollups;
mod routes;
mod schema;
mod schema_text;
mod scrub;
mod sessions;
mod space;
mod sqlite_log;
mod tail;
mod tenant_names;
mod tenants;
mod upgrade;
mod vacuum;
mod vault;
mod wakes;
mod writer;

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use motet::task::Scope;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval};

use self::backlog::Backlogs;
use self::backup::Backups;
pub(crate) use self::backup::{EndedBackup, RunningBackup, keep_backups};
pub(crate) use self::check::{CheckDepth, check};
use self::damage::Damage;
pub(crate) use self::damage::Unreadable;
pub(crate) use self::deliveries::{
    Attempt, AttemptDetail, AttemptFilter, AttemptOutcome, AttemptRow, DELETED, DeadLettered, DeliveryFilter,
    DeliveryRow, DeliveryState, DeliveryTarget, DeliveryVerdict, DueDelivery, FailureClass, HoldChange,
    HoldReason, RecordedAttempt, Turn, TurnState, UnreadableDelivery,
};
pub(crate) use self::endpoints::{
    Backlog, EndpointChange, EndpointKind, EndpointRow, NewEndpoint, UpdatedEndpoint,
};
pub(crate) use self::erasure::{ErasedUid, EventName};
pub(crate) use self::erasures::{ErasureKind, ErasureRow};
pub(crate) use self::error::StoreError;
pub(crate) use self::event_types::{EventTypeChange, EventTypePut, EventTypeRow, EventTypeWrite};
pub(crate) use self::events::{EventRow, NewEvent, Published};
pub(crate) use self::follow::{EventSource, FollowRefusal, Follower};
pub(crate) use self::keys::{
    Creator, KeyHash, KeyRefusal, KeyRevocation, KeyRing, KeyRow, NewKey, ValidKey, hash_key, keep_keys_up,
};
pub(crate) use self::listing::{EventFilter, ListPage, Walk};
use self::lock::DirectoryLock;
pub(crate) use self::once::{OnceKey, OnceKind};
pub(crate) use self::policy::{
    EndpointPolicy, HeaderPrefix, Merge, RequestBody, TenantPolicy, effective_rate,
};
pub(crate) use self::quotas::{Quota, QuotaExceeded};
use self::readers::Readers;
use self::rekey::Rekeying;
pub(crate) use self::rekey::{RekeyReport, RekeyState};
#[cfg(test)]
pub(crate) use self::replays::ReplayRates;
use self::replays::ReplaySignal;
pub(crate) use self::replays::{
    Cancelled, MissedEvents, NewReplay, PlannedPart, ReplayFilter, ReplayLimits, ReplayMode, ReplayPart,
    ReplayPartRow, ReplayPlan, ReplayRow, ReplayState, ReplayStep, ReplayWake,
};
pub use self::restore::RestoreError;
pub(crate) use self::restore::{RestoreOptions, RestoredStore, restore};
use self::retention::RetentionSignal;
pub(crate) use self::retention::{KeepTimes, RetentionPlan, TenantRetention};
pub(crate) use self::rollups::EndpointStats;
use self::scrub::LogScrub;
pub(crate) use self::sessions::NewSession;
pub(crate) use self::space::DiskUse;
use self::space::StoreSpace;
use self::tail::EventTail;
pub(crate) use self::tail::FeedEvent;
pub(crate) use self::tenant_names::TenantNames;
pub(crate) use self::tenants::{NewTenant, PauseTarget, PausedBy, TenantChange, TenantRow, TenantSeq};
use self::vault::Vault;
use self::wakes::Wakes;
pub(crate) use self::wakes::{EndpointWake, Wake};
pub(crate) use self::writer::MAX_WEIGHT;
use self::writer::{CommitListeners, Tx, Writer};
use crate::clock::{Clock, Millis, millis};
use crate::config::{AutoDisable, KeySource, Retention, StoreUse, TenantQuotas};
use crate::error::OpenError;
use crate::ids::Ids;

/// The settings of a store.
#[derive(Debug, Clone)]
pub(crate) struct StoreOptions {
    /// The directory of the store; created if it does not exist.
    pub(crate) directory: PathBuf,
    /// Maximum size of the database file. When it is reached, only new events are refused.
    pub(crate) max_bytes: Option<u64>,
    /// How long finished events are kept. `None`: nothing is deleted.
    pub(crate) retention: Option<Retention>,
    /// Upper bound of a due time at the start, counted from now. It limits the effect of a clock that jumped between
    /// two runs.
    pub(crate) longest_delay: Duration,
    /// When failing endpoints are disabled.
    pub(crate) auto_disable: AutoDisable,
    /// Limits of each tenant whose own policy does not set them.
    pub(crate) tenant_quotas: TenantQuotas,
    /// The directory of backups; `None`: a directory in that of the store.
    pub(crate) backups: Option<PathBuf>,
    /// The keys of the secrets.
    pub(crate) secret_keys: KeySource,
    pub(crate) store_use: StoreUse,
}

/// A handle on the open store. Clones share the store.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    shared: Arc<StoreShared>,
}

#[derive(Debug)]
struct StoreShared {
    scope: Scope,
    ids: Ids,
    clock: Clock,
    writer: Writer,
    /// Readers of the dispatcher only: no listing, however slow, delays a delivery.
    dispatch_readers: Readers,
    readers: Readers,
    /// Readers of feeds: a feed that catches up delays neither deliveries nor the API.
    feed_readers: Readers,
    replay_reader: Readers,
    /// A reader of the metrics only: every client may request the metrics, and no other read waits for them.
    metrics_reader: Readers,
    tail: Arc<EventTail>,
    wakes: Arc<Wakes>,
    names: Arc<TenantNames>,
    keys: Arc<KeyRing>,
    backlogs: Arc<Backlogs>,
    replays: Arc<ReplaySignal>,
    retention: Arc<RetentionSignal>,
    /// The settings of retention, for its plan.
    retention_settings: Option<Retention>,
    scrub: LogScrub,
    /// Notified when an erasure has something to do.
    erasures: Notify,
    /// Notified when a tenant was deleted.
    sweep: Notify,
    damage: Arc<Damage>,
    backups: Backups,
    vault: Arc<Vault>,
    rekeying: Rekeying,
    auto_disable: AutoDisable,
    last_probe: Mutex<Option<Instant>>,
    lock: DirectoryLock,
}

/// The directory of backups in a data directory.
const BACKUPS: &str = "backups";

const PROBE_EVERY: Duration = Duration::from_secs(1);
const CATCH_UP_EVERY: Duration = Duration::from_secs(1);
const PROBE_BYTES: usize = 256 << 10;

/// The delay after a step of a sweep that failed.
const SWEEP_RETRY: Duration = Duration::from_secs(1);

/// Number of readers: the first keeps two cores busy, the second serves the next lane while a large payload is read.
const DISPATCH_READERS: usize = 2;
const READERS: usize = 4;
const FEED_READERS: usize = 2;

/// Number of reads that the keys of one tenant may run at once: half of the readers.
pub(crate) const READS_PER_TENANT: usize = READERS / 2;

impl Store {
    /// Opens the store, and creates it if it does not exist. The tasks of the store belong to `scope`, which should
    /// isolate panics: a read that panics must not stop other reads.
    ///
    /// # Errors
    /// [`OpenError`] if the directory is in use or not accessible, or the database is damaged, not relay's, or of
    /// another version.
    pub(crate) fn open(options: &StoreOptions, clock: Clock, scope: &Scope) -> Result<Self, OpenError> {
        sqlite_log::forward();
        // SQLite would take a relative path that begins with `file:` for a URI.
        let directory = &std::path::absolute(&options.directory)
            .map_err(|error| OpenError::directory(&options.directory, error))?;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .and_then(|()| sync_parent(directory))
            .map_err(|e| OpenError::directory(directory, e))?;
        let lock = DirectoryLock::acquire(directory)?;
        let database = directory.join(schema::FILE_NAME);
        let backups = match &options.backups {
            Some(backups) => {
                std::path::absolute(backups).map_err(|error| OpenError::directory(backups, error))?
            }
            None => directory.join(BACKUPS),
        };
        if let Err(error) = backup::remove_partial(&backups) {
            tracing::warn!(%error, directory = %backups.display(), "cannot remove unfinished backups");
        }
        let mut connection = schema::open(&database, &backups)?;
        // The key file is named by the directory itself, whatever name the directory was opened by.
        let canonical = directory.canonicalize().map_err(|error| OpenError::directory(directory, error))?;
        let (vault, is_rekey_pending) =
            Vault::open(&mut connection, &canonical, &options.secret_keys, &options.store_use)?;
        let vault = Arc::new(vault);
        let retention = Arc::new(RetentionSignal::default());
        let shrinks_at = options.retention.as_ref().and_then(|retention| retention.max_bytes);
        let shrinks_at = shrinks_at.map(|bytes| (bytes, Arc::clone(&retention)));
        let space = StoreSpace::new(directory, lock.identity().clone(), options.max_bytes, shrinks_at);
        let store_id = schema::store_id(&mut connection)?;
        let seen = schema::seen_time(&connection).map_err(|e| OpenError::sql(&database, e))?;
        let is_behind = clock.advance_to(seen);
        let latest_due = clock.due_now().saturating_add(millis(options.longest_delay));
        let latest_probe = clock.due_now().saturating_add(millis(options.auto_disable.probe_every));
        let damage = Arc::new(Damage::default());
        let clamped = deliveries::clamp_due_times(&connection, latest_due)
            .and_then(|()| Ok(deliveries::clamp_probes(&connection, latest_probe)?));
        match damage::readable(clamped) {
            Ok(Ok(())) => {}
            Ok(Err(why)) => damage.note(&why),
            Err(error) => return Err(OpenError::directory(&database, io::Error::other(error))),
        }

        let restores = schema::restores(&connection).map_err(|e| OpenError::sql(&database, e))?;
        let ids = Ids::new(store_id).restored(restores);
        if schema::is_paused(&connection).map_err(|e| OpenError::sql(&database, e))? {
            tracing::warn!("all deliveries are paused; POST /v1/resume lets them start");
        }
        let wakes = Arc::new(Wakes::default());
        let newest = Self::newest_event(&connection).map_err(|e| OpenError::sql(&database, e))?;
        let tail = Arc::new(EventTail::new(newest.unwrap_or(0)));
        let failed = |error: StoreError| OpenError::directory(&database, io::Error::other(error));
        let names = Arc::new(TenantNames::load(&connection, &damage).map_err(failed)?);
        let backlogs = Arc::new(Backlogs::default());
        // If `due` is damaged, the first turn that finds it requests a rebuild, which counts again.
        if let Err(why) = damage::readable(backlogs.count(&connection)).map_err(failed)? {
            damage.note(&why);
        }
        let keys = Arc::new(KeyRing::load(&connection).map_err(|e| OpenError::sql(&database, e))?);
        let replays = Arc::new(ReplaySignal::default());
        let listeners = CommitListeners {
            wakes: Arc::clone(&wakes),
            tail: Arc::clone(&tail),
            names: Arc::clone(&names),
            keys: Arc::clone(&keys),
            backlogs: Arc::clone(&backlogs),
            replays: Arc::clone(&replays),
            damage: Arc::clone(&damage),
            vault: Arc::clone(&vault),
        };
        let writer = Writer::start(
            scope,
            connection,
            &database,
            clock.clone(),
            listeners,
            space,
            options.tenant_quotas.clone(),
        )?;
        let readers = |name, max| {
            Readers::open(scope, name, database.clone(), max, &damage)
                .map_err(|error| OpenError::directory(&database, io::Error::other(error)))
        };
        let store = Self {
            shared: Arc::new(StoreShared {
                scope: scope.clone(),
                ids,
                clock,
                writer,
                dispatch_readers: readers("dispatch readers", DISPATCH_READERS)?,
                readers: readers("readers", READERS)?,
                feed_readers: readers("feed readers", FEED_READERS)?,
                replay_reader: readers("replay reader", 1)?,
                metrics_reader: readers("metrics reader", 1)?,
                tail,
                wakes,
                names,
                keys,
                backlogs,
                replays,
                retention,
                retention_settings: options.retention.clone(),
                scrub: LogScrub::default(),
                erasures: Notify::new(),
                sweep: Notify::new(),
                damage: Arc::clone(&damage),
                backups: Backups::new(backups),
                vault: Arc::clone(&vault),
                rekeying: Rekeying::default(),
                auto_disable: options.auto_disable.clone(),
                last_probe: Mutex::default(),
                lock,
            }),
        };
        // Each spawn fails only if the scope has ended, and the store with it.
        drop(scope.service("tenant sweep", tenants::sweep(store.clone())));
        drop(scope.service("erasures", erasures::run(store.clone())));
        drop(scope.service("log scrub", scrub::run(store.clone())));
        if let Some(settings) = &options.retention {
            drop(scope.service("retention", retention::run(store.clone(), settings.clone(), seen)));
        }
        drop(scope.service("rekey", rekey::serve(store.clone())));
        if is_rekey_pending
            && options.store_use == StoreUse::Serve
            && let Some(keys) = vault.keys()
        {
            store.shared.rekeying.request(&keys, store.clock().wall());
        }
        if is_behind {
            tracing::warn!(
                "the system's clock is behind the time that the store has reached; due times continue from the store's time"
            );
            drop(scope.service("clock", catch_up(store.clone())));
        }
        Ok(store)
    }

    /// Converts between rows and public identifiers.
    pub(crate) fn ids(&self) -> Ids {
        self.shared.ids
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    /// The ids of the tenants.
    pub(crate) fn tenant_names(&self) -> &TenantNames {
        &self.shared.names
    }

    /// Number of pending deliveries of an endpoint.
    pub(crate) fn pending_of(&self, endpoint: i64) -> u64 {
        self.shared.backlogs.of(backlog::Counted::Pending, endpoint)
    }

    /// Waits for endpoints with committed work, and returns those since the last call.
    ///
    /// # Cancel safety
    /// Safe: wakes are taken only by the poll that returns them.
    pub(crate) async fn woken(&self) -> Vec<EndpointWake> {
        self.shared.wakes.next().await
    }

    /// Checks that writes succeed.
    ///
    /// After a failed write, this function writes and deletes as much data as the largest event has, at most once a
    /// second; within that second it returns the last result.
    ///
    /// # Errors
    /// The error of the last write.
    pub(crate) async fn writable(&self) -> Result<(), StoreError> {
        let Some(write_error) = self.shared.writer.write_error() else { return Ok(()) };
        {
            let mut last = self.shared.last_probe.lock().unwrap_or_else(PoisonError::into_inner);
            if last.is_some_and(|last| last.elapsed() < PROBE_EVERY) {
                return Err(write_error);
            }
            *last = Some(Instant::now());
        }
        self.probe().await?;
        self.shared.writer.clear_write_error();
        Ok(())
    }

    /// Checks that writes succeed and that no damage was found.
    ///
    /// # Errors
    /// The error of the last write, or the damage.
    pub(crate) async fn health(&self) -> Result<(), StoreError> {
        self.shared.lock.identity().check()?;
        self.writable().await?;
        self.shared.damage.latest().map_or(Ok(()), Err)
    }

    async fn probe(&self) -> Result<(), StoreError> {
        self.write(1, |tx| tx.space.reserve()).await?;
        let insert = "INSERT OR REPLACE INTO meta (name, value) VALUES ('probe', zeroblob(?1))";
        // Two commits: the pages have to be written before they are free for new events.
        self.write(1, move |tx| {
            tx.space.check(tx.connection, PROBE_BYTES)?;
            Ok(tx.connection.execute(insert, [PROBE_BYTES as i64]).map(drop)?)
        })
        .await?;
        self.write(1, |tx| {
            Ok(tx.connection.execute("DELETE FROM meta WHERE name = 'probe'", []).map(drop)?)
        })
        .await
    }

    /// Sets the limits that may change while the store is open. They hold from the next commit on.
    pub(crate) async fn set_limits(
        &self,
        tenant_quotas: TenantQuotas,
        max_bytes: Option<u64>,
    ) -> Result<(), StoreError> {
        self.write(1, move |tx| {
            tx.routes.set_quotas(tenant_quotas);
            tx.space.set_max_bytes(max_bytes);
            Ok(())
        })
        .await
    }

    /// Returns the sizes of the files of the store, and the free space on their disk.
    pub(crate) async fn disk_use(&self) -> Result<DiskUse, StoreError> {
        let database = self.shared.lock.identity().path().to_owned();
        let disk = self.shared.metrics_reader.read(move |_| {
            DiskUse::of(&database)
                .map_err(|error| StoreError::Io(format!("cannot examine the disk: {error}")))
        });
        disk.await
    }

    /// Waits until the writer has ended because of a bug.
    pub(crate) async fn writer_gone(&self) {
        self.shared.writer.gone().await;
    }

    /// Stores the last uses of keys, gives up a backup in progress, finishes the reads in flight and the queued writes, moves the log into the database and closes the database.
    ///
    /// # Errors
    /// The last checkpoint failed. Nothing is lost: the next start replays the log.
    pub(crate) async fn close(&self) -> Result<(), StoreError> {
        if let Err(error) = self.write_key_uses().await {
            tracing::warn!(%error, "the last uses of API keys are lost");
        }
        self.shared.backups.close().await;
        // The readers first: the connection that is closed last deletes the log.
        self.shared.dispatch_readers.close().await;
        self.shared.readers.close().await;
        self.shared.feed_readers.close().await;
        self.shared.replay_reader.close().await;
        self.shared.metrics_reader.close().await;
        self.shared.writer.close().await
    }

    async fn write<T, F>(&self, weight: usize, job: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Tx<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        self.shared.writer.write(weight, job).await
    }
}

/// Returns the latest due time that the store in a directory has reached. Must be called only if the store is open in a
/// process: opening it would create files.
pub(crate) fn seen_time_in(directory: &Path) -> Option<Millis> {
    let connection = schema::open_reader(&directory.join(schema::FILE_NAME)).ok()?;
    schema::seen_time(&connection).ok()
}

/// Waits until the system's clock is no longer behind, and wakes the endpoints with due deliveries.
async fn catch_up(store: Store) {
    let mut ticks = interval(CATCH_UP_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if store.clock().catch_up() {
            break;
        }
    }
    tracing::info!("the system's clock has caught up");
    match store.pending_endpoints().await {
        Ok(pending) => store.shared.wakes.add(pending),
        Err(error) => {
            tracing::warn!(%error, "cannot read the due deliveries; they are attempted at the next wake of their endpoint")
        }
    }
}

/// Syncs the directory's own entry: without it a crash could remove the whole store.
fn sync_parent(directory: &Path) -> io::Result<()> {
    let parent = directory.canonicalize()?;
    fs::File::open(parent.parent().unwrap_or(&parent))?.sync_all()
}

/// Returns `true` if a directory contains a store.
pub(crate) fn exists(directory: &Path) -> bool {
    directory.join(schema::FILE_NAME).exists()
}

#[cfg(test)]
mod tests;
