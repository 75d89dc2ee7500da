//! The one thread that writes, and its group commit.

use std::path::Path;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Builder;
use std::time::Duration;

use rusqlite::hooks::Wal;
use rusqlite::{Connection, ErrorCode};
use tokio::sync::{mpsc, oneshot};

use super::checkpoint::Checkpointer;
use super::routes::{FanOut, Routes};
use super::wakes::{Wake, Wakes};
use super::{OpenError, StoreError, schema};
use crate::clock::{Clock, Millis};

/// The most weight one commit takes on. Beyond about 256 rows the fsync is shared widely enough, and a
/// larger commit only makes its callers wait longer (186 926 events/s at 64 a commit, 309 185 at 1 024,
/// where the slowest commit takes 38 ms instead of 0.6 ms).
pub(super) const MOST_WEIGHT: usize = 256;

/// Jobs that may wait for the writer. The next one waits to be queued.
const QUEUE: usize = 1024;

/// Log pages after which a passive checkpoint is asked for: 4 MiB.
const CHECKPOINT_PAGES: i32 = 1_000;

/// Log pages after which the writer itself stops for a checkpoint: 64 MiB. Reached only when a reader, or
/// steady load, keeps the passive ones from catching up.
const RESTART_PAGES: i32 = 16_000;

/// After a failed one, it is tried again when the log has grown by this much: 8 MiB.
const RESTART_AGAIN_PAGES: i32 = 2_000;

/// How long that checkpoint waits for readers; every writer waits with it.
const RESTART_PATIENCE: Duration = Duration::from_millis(20);

/// What a job works with: the open transaction, and what belongs to it.
pub(super) struct Tx<'a> {
    pub(super) connection: &'a Connection,
    pub(super) routes: &'a mut Routes,
    /// Calendar time.
    pub(super) wall: Millis,
    /// The time due times are written in.
    pub(super) due_now: Millis,
    /// What the dispatcher is told once the commit is on disk.
    pub(super) woken: Vec<(i64, Wake)>,
}

/// A queued unit of writing. `settle` is called exactly once, after the commit it was part of.
trait Job: Send {
    fn weight(&self) -> usize;
    fn run(&mut self, tx: &mut Tx<'_>) -> Result<(), StoreError>;
    fn settle(self: Box<Self>, committed: Result<(), StoreError>);
}

struct Write<T, F> {
    weight: usize,
    work: Option<F>,
    answer: Option<T>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Job for Write<T, F>
where
    T: Send,
    F: FnOnce(&mut Tx<'_>) -> Result<T, StoreError> + Send,
{
    fn weight(&self) -> usize {
        self.weight
    }

    fn run(&mut self, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        let work = self.work.take().ok_or_else(|| StoreError::Internal("a job ran twice".to_owned()))?;
        self.answer = Some(work(tx)?);
        Ok(())
    }

    fn settle(self: Box<Self>, committed: Result<(), StoreError>) {
        let Self { answer, reply, .. } = *self;
        let answer = committed.and_then(|()| {
            answer.ok_or_else(|| StoreError::Internal("a job was committed without its answer".to_owned()))
        });
        // A caller that is gone has no use for the answer; what it wrote stays written.
        let _caller_gone = reply.send(answer);
    }
}

enum Message {
    Write(Box<dyn Job>),
    Close(oneshot::Sender<Result<(), StoreError>>),
}

/// The handle on the writer thread.
#[derive(Debug)]
pub(super) struct Writer {
    queue: mpsc::Sender<Message>,
    fan_out: FanOut,
    trouble: Arc<Mutex<Option<StoreError>>>,
}

impl Writer {
    pub(super) fn start(
        mut connection: Connection,
        database: &Path,
        clock: Clock,
        wakes: Arc<Wakes>,
    ) -> Result<Self, OpenError> {
        let log_pages = Arc::new(AtomicI32::new(0));
        let seen = Arc::clone(&log_pages);
        connection
            .wal_hook(Some(move |_: &mut Wal, pages| {
                seen.store(pages, Ordering::Relaxed);
                Ok(())
            }))
            .map_err(|e| OpenError::sql(database, e))?;
        let no_thread = |e| OpenError::directory(database, e);
        let checkpointer = Checkpointer::start(database.to_owned()).map_err(no_thread)?;
        let (queue, inbox) = mpsc::channel(QUEUE);
        let trouble = Arc::new(Mutex::new(None));
        let fan_out = FanOut::default();
        let thread = Thread {
            connection,
            checkpointer,
            routes: Routes::new(fan_out.clone()),
            clock,
            wakes,
            trouble: Arc::clone(&trouble),
            log_pages,
            restart_at: RESTART_PAGES,
        };
        // Not joined by a handle: `close` waits for its answer, and `gone` for its end.
        let _handle = Builder::new()
            .name("relay-writer".to_owned())
            .spawn(move || thread.run(inbox))
            .map_err(no_thread)?;
        Ok(Self { queue, fan_out, trouble })
    }

    /// Runs `work` in the next commit and answers once it is on disk.
    ///
    /// Dropping the future before it is queued writes nothing; after that the write takes place.
    pub(super) async fn write<T, F>(&self, weight: usize, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Tx<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job = Write { weight, work: Some(work), answer: None, reply };
        self.queue.send(Message::Write(Box::new(job))).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    pub(super) async fn close(&self) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        self.queue.send(Message::Close(reply)).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    pub(super) fn fan_out(&self) -> &FanOut {
        &self.fan_out
    }

    pub(super) async fn gone(&self) {
        self.queue.closed().await;
    }

    /// Only a write as large as any tells: small ones may find room where an event does not.
    pub(super) fn works_again(&self) {
        if self.trouble.lock().unwrap_or_else(PoisonError::into_inner).take().is_some() {
            tracing::info!("writing works again");
        }
    }

    pub(super) fn trouble(&self) -> Option<StoreError> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

struct Thread {
    connection: Connection,
    checkpointer: Checkpointer,
    routes: Routes,
    clock: Clock,
    wakes: Arc<Wakes>,
    trouble: Arc<Mutex<Option<StoreError>>>,
    /// Pages in the log, as the last commit left it.
    log_pages: Arc<AtomicI32>,
    /// The log length at which the writer next stops for a checkpoint of its own.
    restart_at: i32,
}

impl Thread {
    fn run(mut self, mut inbox: mpsc::Receiver<Message>) {
        let mut batch: Vec<Box<dyn Job>> = Vec::new();
        while let Some(first) = inbox.blocking_recv() {
            let mut closing = None;
            let mut weight = 0;
            let mut next = Some(first);
            while let Some(message) = next {
                match message {
                    Message::Write(job) => {
                        weight += job.weight();
                        batch.push(job);
                    }
                    Message::Close(reply) => {
                        closing = Some(reply);
                        inbox.close();
                    }
                }
                next = if weight < MOST_WEIGHT { inbox.try_recv().ok() } else { None };
            }
            self.commit(&mut batch);
            if let Some(reply) = closing {
                // What was queued before the channel closed is still written.
                while let Ok(message) = inbox.try_recv() {
                    if let Message::Write(job) = message {
                        batch.push(job);
                    }
                }
                self.commit(&mut batch);
                let done = self.finish();
                let _caller_gone = reply.send(done);
                return;
            }
            self.care_for_the_log();
        }
    }

    fn commit(&mut self, batch: &mut Vec<Box<dyn Job>>) {
        if batch.is_empty() {
            return;
        }
        metrics::histogram!("relay_store_commit_jobs").record(batch.len() as f64);
        let started = tokio::time::Instant::now();
        let mut refused = Vec::new();
        let outcome = self.transaction(batch, &mut refused);
        metrics::histogram!("relay_store_commit_seconds").record(started.elapsed());
        // A job that failed alone for want of room tells as much as a commit that failed.
        let out_of_room =
            refused.iter().flatten().find(|e| matches!(e, StoreError::Full | StoreError::Io(_)));
        if let Some(failed) = outcome.as_ref().err().or(out_of_room) {
            self.note(failed.clone());
        }
        let committed = match outcome {
            Ok(woken) => {
                // Before the answers: whoever hears of the commit finds its deliveries under way.
                self.wakes.add(woken);
                Ok(())
            }
            Err(error) => {
                self.routes.invalidate();
                Err(error)
            }
        };
        for (job, refused) in batch.drain(..).zip(refused.into_iter().chain(std::iter::repeat(None))) {
            job.settle(refused.map_or_else(|| committed.clone(), Err));
        }
    }

    /// One transaction over the batch. A job that fails is undone alone, and its error put into
    /// `refused` at its place.
    fn transaction(
        &mut self,
        batch: &mut [Box<dyn Job>],
        refused: &mut Vec<Option<StoreError>>,
    ) -> Result<Vec<(i64, Wake)>, StoreError> {
        let connection = &self.connection;
        let run =
            |sql| -> Result<(), StoreError> { Ok(connection.prepare_cached(sql)?.execute([]).map(drop)?) };
        let mut tx = Tx {
            connection,
            routes: &mut self.routes,
            wall: self.clock.wall(),
            due_now: self.clock.due_now(),
            woken: Vec::new(),
        };
        let all = || {
            run("BEGIN IMMEDIATE")?;
            for job in batch {
                run("SAVEPOINT job")?;
                let woken = tx.woken.len();
                match job.run(&mut tx) {
                    Ok(()) => refused.push(None),
                    // SQLite has undone the whole transaction: all of it fails.
                    Err(error) if connection.is_autocommit() => return Err(error),
                    Err(error) => {
                        run("ROLLBACK TO job")?;
                        tx.woken.truncate(woken);
                        tx.routes.invalidate();
                        refused.push(Some(error));
                    }
                }
                run("RELEASE job")?;
            }
            run("COMMIT")
        };
        let done = all();
        if done.is_err() && !connection.is_autocommit() {
            run("ROLLBACK")?;
        }
        done.map(|()| tx.woken)
    }

    /// Keeps why writing failed, until [`Writer::works_again`], and logs it when it is new.
    fn note(&self, failed: StoreError) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if trouble.as_ref() != Some(&failed) {
            tracing::error!(error = %failed, "writing fails; new events are refused with 503");
            *trouble = Some(failed);
        }
    }

    fn care_for_the_log(&mut self) {
        let pages = self.log_pages.load(Ordering::Relaxed);
        if pages < RESTART_PAGES {
            self.restart_at = RESTART_PAGES;
        }
        if pages >= self.restart_at {
            match self.restart_log() {
                Ok(true) => {}
                Ok(false) => {
                    tracing::warn!(pages, "the log grows: a reader, or a checkpoint under way, holds it");
                    self.restart_at = pages.saturating_add(RESTART_AGAIN_PAGES);
                }
                Err(error) => {
                    tracing::error!(%error, pages, "checkpoint failed; the log grows until one succeeds");
                    self.restart_at = pages.saturating_add(RESTART_AGAIN_PAGES);
                }
            }
        } else if pages >= CHECKPOINT_PAGES {
            self.checkpointer.request();
        }
    }

    /// Moves all of the log into the database, so that it begins anew. `false`: somebody is in the way.
    fn restart_log(&self) -> Result<bool, StoreError> {
        self.connection.busy_timeout(RESTART_PATIENCE)?;
        let busy =
            self.connection.query_row("PRAGMA wal_checkpoint(RESTART)", [], |row| row.get::<_, i64>(0));
        self.connection.busy_timeout(schema::BUSY_TIMEOUT)?;
        match busy {
            Ok(busy) => Ok(busy == 0),
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn finish(self) -> Result<(), StoreError> {
        drop(self.checkpointer);
        self.connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")?;
        self.connection.close().map_err(|(_, error)| error.into())
    }
}
