//! Read-only connections, used on the runtime's blocking threads.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use super::{StoreError, schema};

/// A bounded set of connections, opened when first needed.
#[derive(Debug, Clone)]
pub(super) struct Readers {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    database: PathBuf,
    idle: Mutex<Vec<Connection>>,
    permits: Arc<Semaphore>,
    most: usize,
}

impl Readers {
    pub(super) fn new(database: PathBuf, most: usize) -> Self {
        let permits = Arc::new(Semaphore::new(most));
        Self { inner: Arc::new(Inner { database, idle: Mutex::default(), permits, most }) }
    }

    /// Waits for the reads under way and closes every connection; later reads are refused.
    pub(super) async fn close(&self) {
        let all = u32::try_from(self.inner.most).unwrap_or(u32::MAX);
        // An error means closed already.
        let _all = self.inner.permits.acquire_many(all).await;
        self.inner.permits.close();
        self.inner.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Runs `read` inside one read transaction, so that it sees one commit throughout.
    ///
    /// Dropping the future does not stop a read that has begun; its connection goes back to the set.
    pub(super) async fn read<T, F>(&self, read: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let Ok(permit) = Arc::clone(&self.inner.permits).acquire_owned().await else {
            return Err(StoreError::Closed);
        };
        let inner = Arc::clone(&self.inner);
        let done = spawn_blocking(move || {
            let _permit = permit;
            let idle = inner.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let mut connection = match idle {
                Some(connection) => connection,
                None => schema::open_reader(&inner.database)?,
            };
            let tx = connection.transaction()?;
            let answer = read(&tx);
            tx.finish()?;
            inner.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            answer
        });
        match done.await {
            Ok(answer) => answer,
            Err(failed) => Err(StoreError::Internal(format!("a read did not finish: {failed}"))),
        }
    }
}
