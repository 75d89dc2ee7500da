//! Connection pools: a few connections that many tasks use in turn.
//!
//! ```
//! use motet::pool::{Manager, Pool};
//! use motet::task::{Nursery, scope};
//! use std::io;
//!
//! struct Database;
//!
//! impl Manager for Database {
//!     type Connection = Vec<u32>;
//!     type Error = io::Error;
//!
//!     async fn connect(&self) -> io::Result<Vec<u32>> {
//!         Ok(Vec::new())
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! scope(async |n: &Nursery<io::Error>| {
//!     let pool = Pool::builder(n, Database).name("db").max(2).build().map_err(io::Error::other)?;
//!     for user in 0..10 {
//!         let pool = pool.clone();
//!         n.try_spawn("user", async move {
//!             let mut connection = pool.acquire().await.map_err(io::Error::other)?;
//!             connection.push(user);
//!             Ok(()) // the drop of `connection` returns it to the pool
//!         });
//!     }
//!     Ok(())
//! })
//! .await?; // every connection is closed here
//! # Ok(())
//! # }
//! ```
//!
//! A [`Manager`] opens, checks and closes connections of one kind. A [`Pool`] belongs to a scope, and lends connections:
//! [`acquire`](Pool::acquire) returns a [`Pooled`] guard, whose drop returns the connection.
//!
//! | You want to | Use |
//! |---|---|
//! | share a few connections that are expensive to open and serve one task at a time | a pool |
//! | open one connection for as long as a scope lasts | [`Scope::acquire`](crate::task::Scope::acquire) |
//! | open one connection for a single use | [`resource()`](crate::resource::resource()) |
//! | limit how many tasks do something at once, with nothing to lend | a `tokio::sync::Semaphore` |
//!
//! A client that multiplexes many requests over one connection needs no pool.
//!
//! # Keep your pool when
//! Keep the pool of your driver, such as `sqlx::PgPool`, if your queries take the pool itself (`fetch_one(&pool)`), if other
//! libraries share it, or if it does more than lend: replicas, prepared statements across connections, migrations.
//!
//! Use this pool if connections must be closed before a scope returns, if the number of waiting callers must be bounded and
//! their order kept, if callers must fail at once while the backend is down, or if a test in virtual time drives the whole
//! program. A manager is 30 lines; this one is of `examples/14_pool_postgres.rs`, which also uses it, and `examples/sqlx` has one
//! for the PostgreSQL connections of sqlx:
//!
//! ```ignore
//! struct Postgres {
//!     config: Config,
//!     drivers: Scope,
//! }
//!
//! struct Connection {
//!     client: Client,
//!     driver: Task<Result<(), Error>>,
//! }
//!
//! impl Manager for Postgres {
//!     type Connection = Connection;
//!     type Error = Error;
//!
//!     async fn connect(&self) -> Result<Connection, Error> {
//!         let (client, connection) = self.config.connect(NoTls).await?;
//!         let driver = self.drivers.spawn("postgres", connection).expect("it encloses the scope of the pool");
//!         Ok(Connection { client, driver })
//!     }
//!
//!     async fn check(&self, connection: &mut Connection) -> Result<(), Error> {
//!         connection.client.simple_query("").await.map(drop)
//!     }
//!
//!     fn recycle(&self, connection: &mut Connection) -> Recycle {
//!         if connection.client.is_closed() { Recycle::Discard } else { Recycle::Keep }
//!     }
//!
//!     async fn close(&self, connection: Connection) {
//!         drop(connection.client);
//!         // The driver sends the goodbye. Its result is of no interest: the connection is not used any more.
//!         drop(connection.driver.await);
//!     }
//! }
//! ```
//!
//! # Guarantees
//! - **Bounds.** There are never more than [`max`](PoolBuilder::max) connections, except after a [`resize`](Pool::resize) to
//!   a smaller number, until connections come back. A connection counts from the start of its connect to the end of its
//!   close.
//! - **Fairness.** Strictly first come, first served. At most [`max_waiting`](PoolBuilder::max_waiting) callers wait; further
//!   callers fail at once.
//! - **Cancellation.** Connects run in the scope, so a dropped caller wastes no connect: a crowd of callers that give up
//!   causes no more connections than the maximum, and a connection that was handed to a dropped caller goes to the next one.
//! - **Downtime.** While connecting fails and no connection is left, callers fail at once with the last cause. One caller at
//!   a time tries again, after a back-off with jitter. So no caller waits for a connection that cannot come, and no crowd
//!   connects when the backend is back.
//! - **Age.** A connection is closed when it has been idle for too long, or is too old. A connection that is always in use is
//!   closed when it comes back. A connection that was idle for a while is checked before its next use.
//! - **Panics.** A connect that panics counts as failed. A connection is closed if its user, its check or its recycling
//!   panics.
//! - **End of the scope.** When the scope cancels its services, the pool opens no more connections. Idle connections are
//!   still lent, to the releases that run then; a caller that would have to wait gets [`Closed`](AcquireError::Closed). The
//!   pool closes when its turn among the releases comes. It waits for connections that are held outside of the scope, for
//!   half of the scope's [`release_timeout`](crate::task::ScopeBuilder::release_timeout). If some are held for longer, the
//!   scope reports a failed release, which names the holders; these connections are dropped without [`Manager::close`] when
//!   they come back.
//! - **Cost.** An acquire of an idle connection and its return each take one short lock, share nothing else but a reference
//!   count, and do not allocate. A task of the pool reads the clock, a few times per second while the pool is in use.

mod acquire;
mod builder;
mod end;
mod error;
mod keeper;
mod manager;
#[allow(clippy::module_inception, reason = "the file of the type that the module is named after")]
mod pool;
mod pooled;
mod shared;
mod state;
mod stats;

pub use builder::PoolBuilder;
pub use error::{AcquireError, ConnectError, PoolConfigError};
pub use manager::{Manager, Recycle};
pub use pool::Pool;
pub use pooled::Pooled;
pub use stats::{CloseReport, Holder, PoolStats};
