//! Read-only connections, which are used on threads that may block.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use motet::pool::{AcquireError, Manager, Pool};
use motet::task::Scope;
use rusqlite::Connection;

use super::damage::Damage;
use super::{StoreError, schema};

/// A bounded pool of connections, which are opened on demand.
#[derive(Debug, Clone)]
pub(super) struct Readers {
    scope: Scope,
    pool: Pool<ReaderManager>,
    damage: Arc<Damage>,
}

/// Opens the connections. They are not checked before use, because the connection to a file does not break.
#[derive(Debug)]
struct ReaderManager {
    scope: Scope,
    database: PathBuf,
}

impl Manager for ReaderManager {
    type Connection = Connection;
    type Error = StoreError;

    async fn connect(&self) -> Result<Connection, StoreError> {
        let database = self.database.clone();
        let opened = self.scope.blocking("open", move |_| schema::open_reader(&database));
        let opened = opened.map_err(|_| StoreError::Closed)?;
        let opened = opened.await.map_err(|failed| StoreError::Internal(failed.to_string()))?;
        opened.map_err(StoreError::from)
    }
}

/// A read that takes this long delays other reads; the log names the holder of the connection.
const LONG: Duration = Duration::from_secs(10);

impl Readers {
    pub(super) fn open(
        scope: &Scope,
        name: &'static str,
        database: PathBuf,
        max: usize,
        damage: &Arc<Damage>,
    ) -> Result<Self, StoreError> {
        let reading = ReaderManager { scope: scope.clone(), database };
        let pool = Pool::builder(scope, reading)
            .name(name)
            .max(max)
            // The callers have their own timeouts, except the dispatcher, which has none.
            .acquire_timeout(None)
            .max_lifetime(None)
            .leak_after(LONG)
            .build()
            .map_err(|error| StoreError::Internal(error.to_string()))?;
        Ok(Self { scope: scope.clone(), pool, damage: Arc::clone(damage) })
    }

    /// Waits for the reads in flight and closes all connections; later reads fail.
    pub(super) async fn close(&self) {
        let report = self.pool.close(Duration::MAX).await;
        tracing::debug!(?report, "the readers are closed");
    }

    /// Runs `read` in one read transaction, so that all its statements see the same commit.
    ///
    /// # Cancel safety
    /// Dropping the future does not stop a read that has begun; its connection returns to the pool.
    pub(super) async fn read<T, F>(&self, read: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let mut connection = self.pool.acquire().await.map_err(|refused| match refused {
            AcquireError::Closed { .. } => StoreError::Closed,
            AcquireError::TooManyWaiting { .. } => StoreError::Busy,
            other => StoreError::Io(format!("cannot open the database for reading: {other}")),
        })?;
        let reading = self.scope.blocking("read", move |_| {
            let tx = connection.transaction()?;
            let answer = read(&tx);
            tx.finish()?;
            answer
        });
        let reading = reading.map_err(|_| StoreError::Closed)?;
        let answer = reading
            .await
            .unwrap_or_else(|failed| Err(StoreError::Internal(format!("a read did not finish: {failed}"))));
        if let Err(StoreError::Corrupt(why)) = &answer {
            self.damage.note(why);
        }
        answer
    }
}
