//! Empties the log after an erasure. The log keeps older copies of pages until it is used again, also those with erased data.
//!
//! The commit that erases sets a mark in the store, so that a process that ends before the log is empty leaves the work to
//! the next start.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use motet::task::timeout;
use rusqlite::Connection;
use tokio::sync::{Notify, watch};
use tokio::time::sleep;

use super::{Store, StoreError};

/// How long an erasure waits for the log. A log that is not empty by then is emptied soon afterwards.
const WAIT: Duration = Duration::from_secs(5);

/// How long the writer waits for readers of the log at the first try, and at the later ones; all writes wait with it.
const PATIENCE: [Duration; 4] = [
    Duration::from_millis(5),
    Duration::from_millis(20),
    Duration::from_millis(80),
    Duration::from_millis(250),
];

const PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The requests to empty the log.
#[derive(Debug)]
pub(super) struct LogScrub {
    requested: AtomicU64,
    woken: Notify,
    /// The last request that is done.
    done: watch::Sender<u64>,
    /// `true` while an erasure returns free pages to the file system.
    is_freeing: AtomicBool,
}

impl Default for LogScrub {
    fn default() -> Self {
        let is_freeing = AtomicBool::new(false);
        Self { requested: AtomicU64::new(0), woken: Notify::new(), done: watch::Sender::new(0), is_freeing }
    }
}

impl LogScrub {
    /// Returns `true` if retention must wait: it would free further pages all the time.
    pub(super) fn is_freeing(&self) -> bool {
        self.is_freeing.load(Ordering::Relaxed)
    }

    pub(super) fn set_freeing(&self, is_freeing: bool) {
        self.is_freeing.store(is_freeing, Ordering::Relaxed);
    }
}

/// Marks the store: its log has erased data.
pub(super) fn mark(connection: &Connection) -> Result<(), StoreError> {
    let sql = "INSERT OR REPLACE INTO meta (name, value) VALUES ('log_has_erased', 1)";
    connection.prepare_cached(sql)?.execute([]).map(drop)?;
    Ok(())
}

impl Store {
    /// Empties the log, and waits for a limited time until it is empty.
    pub(super) async fn empty_log_soon(&self) {
        let wanted = self.request_empty_log();
        let mut done = self.shared.scrub.done.subscribe();
        if timeout(WAIT, done.wait_for(|done| *done >= wanted)).await.is_err() {
            tracing::warn!(
                "readers keep the log from being emptied after an erasure; it is emptied as soon as they allow it"
            );
        }
    }

    /// Empties the log, and waits until it is empty.
    pub(super) async fn empty_log(&self) {
        let wanted = self.request_empty_log();
        let mut done = self.shared.scrub.done.subscribe();
        // Never closed: the store has the sender.
        let _never_gone = done.wait_for(|done| *done >= wanted).await;
    }

    fn request_empty_log(&self) -> u64 {
        let scrub = &self.shared.scrub;
        let wanted = scrub.requested.fetch_add(1, Ordering::Relaxed) + 1;
        scrub.woken.notify_one();
        wanted
    }

    async fn try_empty_log(&self, patience: Duration) -> Result<bool, StoreError> {
        if !self.shared.writer.truncate_log(patience).await? {
            return Ok(false);
        }
        self.write(1, |tx| {
            tx.connection.prepare_cached("DELETE FROM meta WHERE name = 'log_has_erased'")?.execute([])?;
            Ok(())
        })
        .await?;
        Ok(true)
    }
}

/// Empties the log whenever it is requested, and at the start if the last process has not done it.
pub(super) async fn run(store: Store) {
    let marked = |connection: &Connection| {
        let sql = "SELECT 1 FROM meta WHERE name = 'log_has_erased'";
        Ok(connection.prepare_cached(sql)?.exists([])?)
    };
    match store.shared.readers.read(marked).await {
        Ok(true) | Err(_) => drop(store.request_empty_log()),
        Ok(false) => {}
    }
    let scrub = &store.shared.scrub;
    loop {
        let wanted = scrub.requested.load(Ordering::Relaxed);
        if wanted == *scrub.done.borrow() {
            scrub.woken.notified().await;
            continue;
        }
        let (mut tries, mut pause) = (0, PAUSE);
        loop {
            match store.try_empty_log(PATIENCE[tries.min(PATIENCE.len() - 1)]).await {
                Ok(true) => break,
                Ok(false) => {}
                Err(StoreError::Closed) => return,
                Err(error) => {
                    tracing::warn!(%error, "the log cannot be emptied after an erasure yet; trying again")
                }
            }
            tries += 1;
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        scrub.done.send_replace(wanted);
    }
}
