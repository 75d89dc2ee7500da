//! The database: a pool of connections, and closures that run on threads, since SQLite blocks.

use std::path::{Path, PathBuf};
use std::time::Duration;

use motet::pool::{AcquireError, Manager, Pool, PoolConfigError};
use motet::task::{Scope, TaskError};
use rusqlite::{Connection, OptionalExtension, params};
use thiserror::Error;

use crate::{NewOrder, Order};

#[derive(Debug, Error)]
pub enum StoreError {
    #[error("there is no connection")]
    Acquire(#[from] AcquireError<SqliteError>),
    #[error("the database failed")]
    Sqlite(#[from] SqliteError),
    #[error("the pool has a wrong setting")]
    Pool(#[from] PoolConfigError),
}

#[derive(Debug, Error)]
pub enum SqliteError {
    #[error("a statement failed")]
    Statement(#[from] rusqlite::Error),
    #[error("a statement was cut off")]
    CutOff(#[from] TaskError),
    #[error("the store is closed")]
    Closed,
}

pub(crate) struct Store {
    pool: Pool<Sqlite>,
    scope: Scope,
}

/// Opens the connections of the pool.
pub(crate) struct Sqlite {
    path: PathBuf,
    scope: Scope,
}

impl Manager for Sqlite {
    type Connection = Connection;
    type Error = SqliteError;

    async fn connect(&self) -> Result<Connection, SqliteError> {
        let path = self.path.clone();
        on_thread(&self.scope, move || {
            let connection = Connection::open(path)?;
            connection.busy_timeout(Duration::from_secs(5))?;
            connection.pragma_update(None, "journal_mode", "wal")?;
            connection.execute_batch(
                "CREATE TABLE IF NOT EXISTS orders (
                    number INTEGER PRIMARY KEY, item TEXT NOT NULL, count INTEGER NOT NULL,
                    confirmed INTEGER NOT NULL DEFAULT 0
                ) STRICT;
                CREATE INDEX IF NOT EXISTS unconfirmed ON orders (number) WHERE NOT confirmed;",
            )?;
            Ok(connection)
        })
        .await
    }
}

async fn on_thread<T: Send + 'static>(
    scope: &Scope,
    work: impl FnOnce() -> rusqlite::Result<T> + Send + 'static,
) -> Result<T, SqliteError> {
    let task = scope.blocking("sqlite", move |_| work()).map_err(|_| SqliteError::Closed)?;
    Ok(task.await??)
}

impl Store {
    pub(crate) async fn open(scope: &Scope, path: &Path) -> Result<Self, StoreError> {
        let manager = Sqlite { path: path.to_owned(), scope: scope.clone() };
        let pool = Pool::builder(scope, manager).name("sqlite").max(4).build()?;
        drop(pool.acquire().await?);
        Ok(Self { pool, scope: scope.clone() })
    }

    /// Stores the orders in one transaction, and returns their numbers.
    pub(crate) async fn insert(&self, orders: Vec<NewOrder>) -> Result<Vec<i64>, StoreError> {
        self.with(move |connection| {
            let transaction = connection.transaction()?;
            let mut numbers = Vec::with_capacity(orders.len());
            for NewOrder { item, count } in orders {
                transaction
                    .execute("INSERT INTO orders (item, count) VALUES (?1, ?2)", params![item, count])?;
                numbers.push(transaction.last_insert_rowid());
            }
            transaction.commit()?;
            Ok(numbers)
        })
        .await
    }

    pub(crate) async fn read(&self, number: i64) -> Result<Option<Order>, StoreError> {
        self.with(move |connection| {
            let row = connection.query_row(
                "SELECT item, count, confirmed FROM orders WHERE number = ?1",
                [number],
                |row| Ok(Order { number, item: row.get(0)?, count: row.get(1)?, confirmed: row.get(2)? }),
            );
            row.optional()
        })
        .await
    }

    pub(crate) async fn confirm(&self, number: i64) -> Result<(), StoreError> {
        self.with(move |connection| {
            connection.execute("UPDATE orders SET confirmed = 1 WHERE number = ?1", [number]).map(drop)
        })
        .await
    }

    /// The oldest orders that are not confirmed.
    pub(crate) async fn unconfirmed(&self, limit: usize) -> Result<Vec<i64>, StoreError> {
        self.with(move |connection| {
            let select = "SELECT number FROM orders WHERE NOT confirmed ORDER BY number LIMIT ?1";
            let mut statement = connection.prepare(select)?;
            statement.query_map([i64::try_from(limit).unwrap_or(i64::MAX)], |row| row.get(0))?.collect()
        })
        .await
    }

    /// Runs `work` on a thread, with a connection. If the caller is dropped, it runs to its end, and the connection returns
    /// to the pool.
    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let mut connection = self.pool.acquire().await?;
        Ok(on_thread(&self.scope, move || work(&mut connection)).await?)
    }
}
