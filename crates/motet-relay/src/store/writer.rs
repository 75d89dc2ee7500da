//! The only connection that writes, and its group commit.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use motet::batch::{Batcher, SubmitError};
use motet::task::{CancelToken, Reason, Scope};
use rusqlite::hooks::Wal;
use rusqlite::{Connection, ErrorCode};
use tokio::sync::oneshot;

use super::backlog::{BacklogChanges, Backlogs};
use super::backup::CopiedConnection;
use super::checkpoint::Checkpointer;
use super::damage::{Damage, readable, rebuild_indexes};
use super::keys::{KeyChange, KeyRing};
use super::quotas::{QuotaCounters, QuotaExceeded, QuotaUse, check_backlog};
use super::replays::ReplaySignal;
use super::rollups::CommitCounts;
use super::routes::{FanOut, Routes, TenantRoutes};
use super::space::StoreSpace;
use super::tail::{CommitEvents, CommitMark, EventTail};
use super::tenant_names::{NameChange, TenantNames};
use super::vault::{KeysRead, Vault};
use super::wakes::{EndpointWake, Wake, Wakes};
use super::{StoreError, TenantSeq, schema};
use crate::clock::{Clock, Millis};
use crate::config::TenantQuotas;
use crate::error::OpenError;

/// Maximum weight of a commit. Beyond about 256 rows enough callers share the fsync, and a larger commit only makes
/// its callers wait longer (186 926 events/s at 64 rows a commit; 309 185 at 1 024 rows, where the slowest commit
/// takes 38 ms instead of 0.6 ms).
pub(crate) const MAX_WEIGHT: usize = 256;

/// Number of jobs that may wait for the writer; further callers wait before they queue their job.
const QUEUE: usize = 1024;

/// Number of log pages after which a passive checkpoint is requested: 4 MiB.
const CHECKPOINT_PAGES: i32 = 1_000;

/// Number of log pages after which the writer itself stops for a checkpoint: 64 MiB. The log gets that long only if a
/// reader or steady load keeps the passive checkpoints from finishing.
const RESTART_PAGES: i32 = 16_000;

/// After a failed checkpoint the writer tries again when the log has grown by this number of pages: 8 MiB.
const RESTART_AGAIN_PAGES: i32 = 2_000;

/// How often the reached due time is stored, as part of another commit. A clock that is behind costs at most this
/// time.
const SEEN_TIME_EVERY: Millis = 10_000;

/// How long the writer's checkpoint waits for readers; all writes wait with it.
const RESTART_PATIENCE: Duration = Duration::from_millis(20);

/// The open transaction of a commit, and the state that its jobs share.
pub(super) struct Tx<'a> {
    pub(super) connection: &'a Connection,
    pub(super) routes: &'a mut Routes,
    /// Calendar time.
    pub(super) wall: Millis,
    /// The time that due times are written in.
    pub(super) due_now: Millis,
    /// `true` once the counters of events, deliveries and endpoints have taken their step.
    pub(super) stepped: bool,
    /// Wakes for the dispatcher, which it receives once the commit is on disk.
    pub(super) woken: Vec<EndpointWake>,
    /// Created and deleted tenants.
    pub(super) names: Vec<NameChange>,
    pub(super) backlog: BacklogChanges<'a>,
    pub(super) quotas: &'a mut QuotaCounters,
    /// The counts of the jobs in `quotas`.
    counted: Vec<QuotaUse>,
    /// Deleted tenants, whose counters are removed once the commit is on disk.
    pub(super) deleted: Vec<TenantSeq>,
    /// The counts of the jobs, for the roll-ups.
    pub(super) counts: CommitCounts,
    /// Events for the feeds, which receive them once the commit is on disk.
    pub(super) added: CommitEvents,
    /// Changes of the API keys, which take effect once the commit is on disk.
    pub(super) key_changes: Vec<KeyChange>,
    /// Encrypts and decrypts the secrets of endpoints.
    pub(super) vault: &'a Vault,
    /// Other versions of the key file, which are used once the commit is on disk.
    pub(super) new_keys: Vec<KeysRead>,
    /// `true` if a replay may have been created; its driver reads them again once the commit is on disk.
    pub(super) has_new_replays: bool,
    pub(super) damage: &'a Damage,
    pub(super) space: &'a mut StoreSpace,
}

impl Tx<'_> {
    /// Wakes an endpoint of the tenant once the commit is on disk.
    pub(super) fn wake(&mut self, tenant: TenantSeq, endpoint: i64, wake: Wake) {
        self.woken.push(EndpointWake::new(tenant, endpoint, wake));
    }

    /// Counts a request in the rate of its tenant, or refuses it.
    pub(super) fn admit_request(
        &mut self,
        tenant: TenantSeq,
        routes: &TenantRoutes,
    ) -> Result<(), QuotaExceeded> {
        self.quotas.admit_request(tenant, &routes.policy, self.due_now)?;
        self.counted.push(QuotaUse::Request(tenant));
        Ok(())
    }

    /// Returns how many deliveries of the tenant may become pending: the remaining backlog, if it is limited.
    ///
    /// # Errors
    /// [`StoreError::Quota`] if there is none left; [`StoreError::NoTenant`].
    pub(super) fn backlog_left(&mut self, tenant: TenantSeq) -> Result<u64, StoreError> {
        let routes = self.routes.of(self.connection, tenant)?;
        let Some(max) = routes.policy.backlog_max else { return Ok(u64::MAX) };
        let pending = routes.endpoints().map(|endpoint| self.backlog.of(endpoint)).sum();
        check_backlog(&routes.policy, || pending).map_err(StoreError::Quota)?;
        Ok(max.get() - pending)
    }

    /// Counts the resend of a delivery in the rate of its tenant, or refuses it.
    ///
    /// # Errors
    /// [`StoreError::Quota`]; [`StoreError::NoTenant`].
    pub(super) fn admit_resend(&mut self, tenant: TenantSeq) -> Result<(), StoreError> {
        let routes = self.routes.of(self.connection, tenant)?;
        self.admit_request(tenant, &routes).map_err(StoreError::Quota)
    }

    /// Counts an event in the quotas of its tenant, or refuses it.
    pub(super) fn admit(
        &mut self,
        tenant: TenantSeq,
        routes: &TenantRoutes,
        bytes: usize,
    ) -> Result<(), QuotaExceeded> {
        let backlog = &self.backlog;
        let pending = || routes.endpoints().map(|endpoint| backlog.of(endpoint)).sum();
        self.quotas.admit(tenant, &routes.policy, bytes, pending, self.wall)?;
        self.counted.push(QuotaUse::Event(tenant));
        Ok(())
    }

    /// Returns the state to which a job that fails is undone.
    fn mark(&self) -> TxMark {
        TxMark {
            woken: self.woken.len(),
            added: self.added.mark(),
            counts: self.counts.mark(),
            names: self.names.len(),
            key_changes: self.key_changes.len(),
            new_keys: self.new_keys.len(),
            backlog: self.backlog.mark(),
            counted: self.counted.len(),
            deleted: self.deleted.len(),
            routes: self.routes.mark(),
            stepped: self.stepped,
        }
    }

    /// Undoes the changes in memory that were made since `mark`.
    fn back_to(&mut self, mark: TxMark) {
        self.woken.truncate(mark.woken);
        self.added.back_to(mark.added);
        self.counts.back_to(mark.counts);
        self.names.truncate(mark.names);
        self.key_changes.truncate(mark.key_changes);
        self.new_keys.truncate(mark.new_keys);
        self.backlog.back_to(mark.backlog);
        for used in self.counted.drain(mark.counted..) {
            self.quotas.undo(used);
        }
        self.deleted.truncate(mark.deleted);
        self.stepped = mark.stepped;
        self.routes.back_to(mark.routes);
    }
}

/// The state of [`Tx`] before a job.
#[derive(Debug, Clone, Copy)]
struct TxMark {
    woken: usize,
    added: CommitMark,
    counts: usize,
    names: usize,
    key_changes: usize,
    new_keys: usize,
    backlog: usize,
    counted: usize,
    deleted: usize,
    routes: usize,
    stepped: bool,
}

/// A queued unit of writing. Its reply goes through a typed channel of its own, see [`Writer::write`].
struct Job {
    weight: usize,
    work: Work,
}

/// The work of a job. It sends its reply itself, so the batcher receives only the error.
type Work = Box<dyn FnOnce(&mut Tx<'_>) -> Result<(), StoreError> + Send>;

/// The parts that are notified of a commit once it is on disk.
#[derive(Debug)]
pub(super) struct CommitListeners {
    pub(super) wakes: Arc<Wakes>,
    pub(super) tail: Arc<EventTail>,
    pub(super) names: Arc<TenantNames>,
    pub(super) keys: Arc<KeyRing>,
    pub(super) backlogs: Arc<Backlogs>,
    pub(super) replays: Arc<ReplaySignal>,
    pub(super) damage: Arc<Damage>,
    pub(super) vault: Arc<Vault>,
}

/// The writer. It collects jobs into a group while the previous commit is written.
pub(super) struct Writer {
    scope: Scope,
    jobs: Batcher<Job, (), StoreError>,
    committer: Arc<Mutex<Option<Committer>>>,
    fan_out: FanOut,
    write_error: Arc<Mutex<Option<StoreError>>>,
    gone: CancelToken,
}

impl Writer {
    pub(super) fn start(
        scope: &Scope,
        mut connection: Connection,
        database: &Path,
        clock: Clock,
        listeners: CommitListeners,
        space: StoreSpace,
        tenant_quotas: TenantQuotas,
    ) -> Result<Self, OpenError> {
        let log_pages = Arc::new(AtomicI32::new(0));
        let seen = Arc::clone(&log_pages);
        connection
            .wal_hook(Some(move |_: &mut Wal, pages| {
                seen.store(pages, Ordering::Relaxed);
                Ok(())
            }))
            .map_err(|e| OpenError::sql(database, e))?;
        let checkpointer = Checkpointer::start(database.to_owned())
            .map_err(|error| OpenError::directory(database, error))?;
        let quotas = readable(QuotaCounters::load(&connection, clock.wall()));
        let quotas = quotas.map_err(|error| OpenError::directory(database, io::Error::other(error)))?;
        let counting = quotas.is_ok();
        let quotas = quotas.unwrap_or_else(|why| {
            listeners.damage.note(&why);
            QuotaCounters::default()
        });
        let write_error = Arc::new(Mutex::new(space.check(&connection, 0).err()));
        let fan_out = FanOut::default();
        let committer = Arc::new(Mutex::new(Some(Committer {
            connection: CopiedConnection::new(connection),
            checkpointer,
            routes: Routes::new(fan_out.clone(), tenant_quotas),
            clock,
            quotas,
            counting,
            listeners,
            space,
            seen_time: 0,
            write_error: Arc::clone(&write_error),
            stepped: false,
            log_pages,
            restart_at: RESTART_PAGES,
        })));
        let gone = CancelToken::new();
        let jobs = Batcher::builder::<Job>(scope)
            .name("writer")
            // No timer: a commit takes the jobs that were queued during the previous commit.
            .eager()
            .max_delay(None)
            .max_in_flight(1)
            .max_items(MAX_WEIGHT)
            // A job that is heavier than the limit gets a commit of its own.
            .max_weight(MAX_WEIGHT as u64, |job| job.weight.min(MAX_WEIGHT) as u64)
            .max_waiting(QUEUE)
            .build({
                let (scope, committer, gone) = (scope.clone(), Arc::clone(&committer), gone.clone());
                move |jobs| commit(scope.clone(), Arc::clone(&committer), gone.clone(), jobs)
            })
            .map_err(|error| OpenError::directory(database, io::Error::other(error)))?;
        Ok(Self { scope: scope.clone(), jobs, committer, fan_out, write_error, gone })
    }

    /// Runs `work` in the next commit and returns its value once the commit is on disk.
    ///
    /// # Cancel safety
    /// Dropping the future before the commit has begun writes nothing; after that the write is carried out.
    pub(super) async fn write<T, F>(&self, weight: usize, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Tx<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        let (reply, value) = oneshot::channel();
        let work = move |tx: &mut Tx<'_>| {
            let value = work(tx)?;
            // The caller may have dropped its future; the write is carried out nevertheless.
            drop(reply.send(value));
            Ok(())
        };
        match self.jobs.submit(Job { weight, work: Box::new(work) }).await {
            // The commit is on disk, so the job has run and has sent its value.
            Ok(()) => value.await.map_err(|_| StoreError::Closed),
            Err(SubmitError::Closed(_) | SubmitError::Cancelled) => Err(StoreError::Closed),
            Err(SubmitError::Full(_)) => Err(StoreError::Busy),
            Err(SubmitError::Failed(error)) => Err(error),
            Err(SubmitError::BatchFailed(error)) => Err(StoreError::clone(&error)),
            Err(other) => Err(StoreError::Internal(other.to_string())),
        }
    }

    /// Moves the whole log into the database, and empties its file. Returns `false` if another connection blocks it.
    pub(super) async fn truncate_log(&self, patience: Duration) -> Result<bool, StoreError> {
        let committer = Arc::clone(&self.committer);
        let truncating = self.scope.blocking("truncate the log", move |_| {
            let committer = committer.lock().map_err(|_| StoreError::Closed)?;
            committer
                .as_ref()
                .ok_or(StoreError::Closed)?
                .checkpoint("PRAGMA wal_checkpoint(TRUNCATE)", patience)
        });
        let truncated = truncating.map_err(|_| StoreError::Closed)?.await;
        truncated.unwrap_or_else(|failed| Err(StoreError::Internal(failed.to_string())))
    }

    /// Runs `work` with the connection between two commits, which wait for it: it must take milliseconds.
    ///
    /// # Cancel safety
    /// Dropping the future does not stop work that has begun.
    pub(super) async fn between_commits<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut CopiedConnection) -> Result<T, StoreError> + Send + 'static,
    {
        let committer = Arc::clone(&self.committer);
        let working = self.scope.blocking("between commits", move |_| {
            let mut committer = committer.lock().map_err(|_| StoreError::Closed)?;
            work(&mut committer.as_mut().ok_or(StoreError::Closed)?.connection)
        });
        let worked = working.map_err(|_| StoreError::Closed)?.await;
        worked.unwrap_or_else(|failed| Err(StoreError::Internal(failed.to_string())))
    }

    pub(super) async fn close(&self) -> Result<(), StoreError> {
        self.jobs.close().await;
        let committer = Arc::clone(&self.committer);
        let finishing = self.scope.blocking("close", move |_| match take_committer(&committer) {
            Some(committer) => committer.finish(),
            None => Err(StoreError::Closed),
        });
        let finished = finishing.map_err(|_| StoreError::Closed)?.await;
        finished.unwrap_or_else(|failed| Err(StoreError::Internal(failed.to_string())))
    }

    pub(super) fn fan_out(&self) -> &FanOut {
        &self.fan_out
    }

    /// Waits until the writer has ended because of a bug.
    pub(super) async fn gone(&self) {
        self.gone.cancelled().await;
    }

    /// Clears the error of the last write. Only a write as large as the largest event may clear it: a small write may
    /// find space where an event does not.
    pub(super) fn clear_write_error(&self) {
        if self.write_error.lock().unwrap_or_else(PoisonError::into_inner).take().is_some() {
            tracing::info!("writes succeed again");
        }
    }

    pub(super) fn write_error(&self) -> Option<StoreError> {
        self.write_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("jobs", &self.jobs).finish_non_exhaustive()
    }
}

/// Takes the committer. A commit that panicked leaves its connection in an unknown state, so the connection is not
/// used again.
fn take_committer(committer: &Mutex<Option<Committer>>) -> Option<Committer> {
    committer.lock().ok()?.take()
}

/// Writes a batch on a thread that may block.
async fn commit(
    scope: Scope,
    committer: Arc<Mutex<Option<Committer>>>,
    gone: CancelToken,
    jobs: Vec<Job>,
) -> Result<Vec<Result<(), StoreError>>, StoreError> {
    let writing = scope.blocking("commit", move |_| {
        let mut committer = committer.lock().map_err(|_| StoreError::Closed)?;
        let committer = committer.as_mut().ok_or(StoreError::Closed)?;
        let answers = committer.commit(jobs);
        committer.checkpoint_if_needed();
        Ok(answers)
    });
    match writing.map_err(|_| StoreError::Closed)?.await {
        Ok(written) => written,
        Err(failed) => {
            gone.cancel(Reason::requested("a commit panicked"));
            Err(StoreError::Internal(failed.to_string()))
        }
    }
}

/// The results of a commit that is on disk, for the listeners.
struct Committed {
    woken: Vec<EndpointWake>,
    added: CommitEvents,
    names: Vec<NameChange>,
    key_changes: Vec<KeyChange>,
    new_keys: Vec<KeysRead>,
    /// Endpoints with fewer deliveries that replays made.
    freed: Vec<i64>,
    has_new_replays: bool,
}

/// The state of the commits. One commit at a time uses it.
struct Committer {
    connection: CopiedConnection,
    checkpointer: Checkpointer,
    routes: Routes,
    quotas: QuotaCounters,
    /// `false` if the roll-ups are damaged.
    counting: bool,
    clock: Clock,
    listeners: CommitListeners,
    write_error: Arc<Mutex<Option<StoreError>>>,
    space: StoreSpace,
    /// The reached due time that is stored.
    seen_time: Millis,
    /// `true` once the step of the counters is on disk.
    stepped: bool,
    /// Number of pages in the log after the last commit.
    log_pages: Arc<AtomicI32>,
    /// Number of log pages at which the writer next stops for a checkpoint.
    restart_at: i32,
}

impl Committer {
    /// Runs the jobs in one commit; once damage is known, each job in a commit of its own.
    ///
    /// After a statement has found damage, SQLite refuses the other writes of the transaction and its commit, so the
    /// damage of one row would fail all jobs of the group.
    fn commit(&mut self, jobs: Vec<Job>) -> Vec<Result<(), StoreError>> {
        if !self.listeners.damage.is_in_file() {
            return self.commit_together(jobs);
        }
        jobs.into_iter().flat_map(|job| self.commit_together(vec![job])).collect()
    }

    fn commit_together(&mut self, jobs: Vec<Job>) -> Vec<Result<(), StoreError>> {
        let count = jobs.len();
        metrics::histogram!("relay_store_commit_jobs").record(count as f64);
        let started = tokio::time::Instant::now();
        let mut answers = Vec::with_capacity(count);
        if self.listeners.damage.take_rebuild_request() {
            match rebuild_indexes(&self.connection) {
                Ok(()) => {
                    // `due` may have been filled again.
                    if let Err(error) = self.listeners.backlogs.count(&self.connection) {
                        tracing::error!(%error, "cannot count the pending deliveries");
                    }
                    tracing::warn!(
                        "the indexes and the due times of deliveries were damaged and have been rebuilt"
                    );
                }
                Err(error) => {
                    tracing::error!(%error, "cannot rebuild the indexes and the due times of deliveries");
                    if !matches!(error, StoreError::Corrupt(_)) {
                        self.listeners.damage.allow_rebuild();
                    }
                }
            }
        }
        let outcome = self.transaction(jobs, &mut answers);
        metrics::histogram!("relay_store_commit_seconds").record(started.elapsed());
        // A single job that failed for lack of space means the same as a commit that failed.
        let refused_job = answers.iter().find_map(|answer| match answer {
            Err(error @ (StoreError::Full | StoreError::Limit(_) | StoreError::Io(_))) => Some(error),
            _ => None,
        });
        if let Some(failed) = outcome.as_ref().err().or(refused_job) {
            self.note(failed.clone());
            if *failed == StoreError::Full && self.space.give_up_reserve() {
                // A checkpoint moves the log into the database, and the log starts again at its beginning.
                self.checkpointer.request();
            }
        }
        for answer in answers.iter().map(Result::as_ref).chain([outcome.as_ref().map(|_| &())]) {
            if let Err(StoreError::Corrupt(why)) = answer {
                self.listeners.damage.note(why);
            }
        }
        match outcome {
            Ok(Committed { woken, added, names, key_changes, new_keys, freed, has_new_replays }) => {
                new_keys.into_iter().for_each(|keys| self.listeners.vault.apply(keys));
                self.listeners.names.apply(names);
                self.listeners.replays.note(freed, has_new_replays);
                self.listeners.keys.apply(key_changes);
                // Before the answers: when a caller knows of the commit, the dispatcher has been notified of its
                // deliveries.
                self.listeners.wakes.add(woken);
                self.listeners.tail.append(added);
                answers
            }
            Err(error) => vec![Err(error); count],
        }
    }

    /// Runs the jobs in one transaction. A job that fails is rolled back alone, and its answer is the error.
    fn transaction(
        &mut self,
        jobs: Vec<Job>,
        answers: &mut Vec<Result<(), StoreError>>,
    ) -> Result<Committed, StoreError> {
        self.routes.begin();
        let (connection, counting): (&Connection, _) = (&self.connection, &mut self.counting);
        let run =
            |sql| -> Result<(), StoreError> { Ok(connection.prepare_cached(sql)?.execute([]).map(drop)?) };
        let mut tx = Tx {
            connection,
            routes: &mut self.routes,
            wall: self.clock.wall(),
            due_now: self.clock.due_now(),
            stepped: self.stepped,
            woken: Vec::new(),
            counts: CommitCounts::default(),
            names: Vec::new(),
            backlog: BacklogChanges::new(&self.listeners.backlogs),
            quotas: &mut self.quotas,
            counted: Vec::new(),
            deleted: Vec::new(),
            added: self.listeners.tail.begin(),
            key_changes: Vec::new(),
            vault: &self.listeners.vault,
            new_keys: Vec::new(),
            has_new_replays: false,
            damage: &self.listeners.damage,
            space: &mut self.space,
        };
        let start = tx.mark();
        let (now, is_time_due) = (tx.due_now, tx.due_now - self.seen_time >= SEEN_TIME_EVERY);
        let all = || {
            run("BEGIN IMMEDIATE")?;
            if is_time_due {
                schema::set_seen_time(connection, now)?;
            }
            for job in jobs {
                run("SAVEPOINT job")?;
                let mark = tx.mark();
                let answer = (job.work)(&mut tx);
                match &answer {
                    Ok(_) => {}
                    // SQLite has rolled back the whole transaction, so all jobs fail.
                    Err(error) if connection.is_autocommit() => return Err(error.clone()),
                    Err(_) => {
                        run("ROLLBACK TO job")?;
                        tx.back_to(mark);
                    }
                }
                answers.push(answer);
                run("RELEASE job")?;
            }
            if *counting && let Err(why) = readable(tx.counts.write(connection, tx.wall))? {
                // This commit fails, because SQLite refuses it after damage. No later commit fails for statistics.
                tracing::error!(
                    why,
                    "the counts per minute are damaged; relay counts nothing until the next start"
                );
                *counting = false;
            }
            run("COMMIT").map_err(|error| match error {
                StoreError::Io(why) => StoreError::Unsure(why),
                other => other,
            })
        };
        let done = all();
        if done.is_err() {
            tx.back_to(start);
            if !connection.is_autocommit() {
                run("ROLLBACK")?;
            }
        }
        done.map(|()| {
            self.stepped = tx.stepped;
            if is_time_due {
                self.seen_time = now;
            }
            let Tx {
                woken,
                added,
                names,
                key_changes,
                new_keys,
                has_new_replays,
                backlog,
                deleted,
                quotas,
                ..
            } = tx;
            for tenant in deleted {
                quotas.forget(tenant);
            }
            let freed = backlog.freed().collect();
            Committed { woken, added, names, key_changes, new_keys, freed, has_new_replays }
        })
    }

    /// Stores the error of a write until [`Writer::clear_write_error`], and logs it if it is new.
    fn note(&self, failed: StoreError) {
        let mut write_error = self.write_error.lock().unwrap_or_else(PoisonError::into_inner);
        if write_error.as_ref() != Some(&failed) {
            tracing::error!(error = %failed, "writes fail; new events are refused with 503");
            *write_error = Some(failed);
        }
    }

    fn checkpoint_if_needed(&mut self) {
        let pages = self.log_pages.load(Ordering::Relaxed);
        if pages < RESTART_PAGES {
            self.restart_at = RESTART_PAGES;
        }
        if pages >= self.restart_at {
            match self.checkpoint("PRAGMA wal_checkpoint(RESTART)", RESTART_PATIENCE) {
                Ok(true) => {}
                Ok(false) => {
                    tracing::warn!(
                        pages,
                        "the log grows: a reader or a checkpoint in progress blocks its reset"
                    );
                    self.restart_at = pages.saturating_add(RESTART_AGAIN_PAGES);
                }
                Err(error) => {
                    tracing::error!(%error, pages, "checkpoint failed; the log grows until a checkpoint succeeds");
                    self.restart_at = pages.saturating_add(RESTART_AGAIN_PAGES);
                }
            }
        } else if pages >= CHECKPOINT_PAGES {
            self.checkpointer.request();
        }
    }

    /// Moves the whole log into the database, so that the log starts again. Waits for readers for `patience`. Returns
    /// `false` if another connection blocks it.
    fn checkpoint(&self, sql: &str, patience: Duration) -> Result<bool, StoreError> {
        self.connection.busy_timeout(patience)?;
        let busy = self.connection.query_row(sql, [], |row| row.get::<_, i64>(0));
        self.connection.busy_timeout(schema::BUSY_TIMEOUT)?;
        match busy {
            Ok(busy) => Ok(busy == 0),
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn finish(self) -> Result<(), StoreError> {
        drop(self.checkpointer);
        schema::set_seen_time(&self.connection, self.clock.due_now())?;
        self.connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")?;
        Ok(self.connection.close()?)
    }
}
