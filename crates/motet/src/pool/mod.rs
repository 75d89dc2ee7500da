//! Connection pools: few connections, used by many in turn.
//!
//! A [`Manager`] makes, checks and closes connections of one kind; a [`Pool`] belongs to a scope and lends them:
//! [`acquire`](Pool::acquire) gives a [`Pooled`] guard, whose drop gives the connection back.
//!
//! # When to use
//! | You want to | |
//! |---|---|
//! | share a few of something that is dear to open and used by one at a time | a pool |
//! | open one for as long as a scope lasts | [`Scope::acquire`](crate::task::Scope::acquire) |
//! | open one for a single use | [`resource()`](crate::resource::resource()) |
//! | limit how many do something at once, with nothing to lend | a `tokio::sync::Semaphore` |
//!
//! A client that sends the requests of many over one connection by itself needs no pool.
//!
//! # Guarantees
//! - **Bounds.** At no instant are there more than [`max`](Builder::max) connections: one counts from before its
//!   connect until its close has ended. Only after a [`resize`](Pool::resize) to fewer are there more, until they come
//!   back.
//! - **Fairness.** Strictly first come, first served. At most [`max_waiting`](Builder::max_waiting) wait; who would be one
//!   more is refused at once.
//! - **Cancelling.** Connects run in the scope, so a caller that is dropped wastes none: a crowd that comes and goes makes
//!   no more connections than there may be, and a connection on its way to somebody who is gone goes to the next.
//! - **Downtime.** While connecting fails and no connection is left, callers fail at once with the last cause; one at a
//!   time tries again, after a back-off with jitter. Nobody waits for what cannot come, and there is no crowd when the
//!   backend is back.
//! - **Age.** A connection is closed when it has been idle for too long, or is too old: also one that is always in use,
//!   when it comes back. One that was idle for a while is checked before its next use.
//! - **Panics.** A connect that panics has failed. A connection is closed if its user, its check or its recycling panics.
//! - **End of the scope.** When the scope cancels its services, nothing is connected any more: idle connections are
//!   still given out, to the releases that run then, and whoever would have to wait gets
//!   [`Closed`](AcquireError::Closed). When it is the pool's turn among the releases, it closes; for connections that
//!   are held outside of the scope it waits for half of the scope's
//!   [`release_timeout`](crate::task::ScopeBuilder::release_timeout). If some are held for longer, the scope reports a
//!   failed release, which says who holds them. Those are dropped without [`Manager::close`] when they come back.
//! - **Price.** Acquire and return take one short lock each, and nothing else that is shared but a count of
//!   references. Nothing is allocated; the clock is looked at by a task of the pool, a few times a second while it
//!   is in use.
//!
//! # Examples
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
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! scope(async |n: &Nursery| {
//!     let pool = Pool::builder(n, Database).named("db").max(2).build().expect("the numbers fit");
//!     for user in 0..10 {
//!         let pool = pool.clone();
//!         n.spawn("user", async move {
//!             let mut connection = pool.acquire().await.expect("the database is up");
//!             connection.push(user);
//!         });
//!     }
//!     Ok(())
//! }).await.unwrap(); // every connection is closed
//! # });
//! ```

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

pub use builder::Builder;
pub use error::{AcquireError, ConnectError, InvalidPool};
pub use manager::{Manager, Recycle};
pub use pool::Pool;
pub use pooled::Pooled;
pub use stats::{CloseReport, Holder, PoolStats};
