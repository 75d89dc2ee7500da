//! Batches: items of many callers that are handled together, with an answer for each caller.
//!
//! ```
//! use motet::batch::Batcher;
//! use motet::task::{Nursery, scope};
//!
//! # #[derive(Debug)] struct Refused;
//! # async fn insert_all(names: &[String]) -> Result<Vec<u64>, Refused> { Ok((1..).take(names.len()).collect()) }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! scope(async |n: &Nursery| {
//!     // One statement for up to 64 names, at most 1 ms after the first.
//!     let users = Batcher::new(n, async |names: Vec<String>| {
//!         let ids = insert_all(&names).await?;
//!         Ok::<_, Refused>(ids.into_iter().map(Ok).collect())
//!     });
//!     let tasks = ["ann", "bob"].map(|name| {
//!         let users = users.clone();
//!         n.spawn("request", async move { users.submit(name.to_owned()).await.unwrap() })
//!     });
//!     let [ann, bob] = tasks;
//!     assert_eq!((ann.await.unwrap(), bob.await.unwrap()), (1, 2));
//!     Ok(())
//! })
//! .await?;
//! # Ok(())
//! # }
//! ```
//!
//! | You want to | Use |
//! |---|---|
//! | write or look up many items in one operation, with an answer for each caller | [`Batcher::submit`] |
//! | pass items on to be written in batches, without waiting for the answer | [`Batcher::post`] |
//! | look up values by key, and look up a key once for all its callers | [`Loader`] |
//! | run operations one after the other, or concurrently | [`task`](crate::task) |
//!
//! # Guarantees
//! - **One answer.** Each item is in exactly one batch, or is handed back. Each caller gets exactly one answer, whatever
//!   happens to the batch. An error for an item reaches only its caller; an error for the batch, a panic of the handler or a
//!   wrong number of answers reaches the callers of that batch only.
//! - **Limits.** No batch exceeds its number of items or its weight, and the numbers of batches in flight and of waiting items
//!   never exceed their limits. Callers beyond the limit wait, and are served in order.
//! - **Time.** The delay counts from the first item of a batch, and later items do not extend it. While no further batch may
//!   be in flight, a batch that is due stays open. Without items there is no timer, and no task once the last delay has
//!   passed. With `max_delay(None)` one task remains, which sleeps until the batcher is closed or the scope ends.
//! - **Dropped callers.** If a caller is dropped before its batch runs, its item is removed. A batch without items does not
//!   run. A full batch that waits to be in flight is not filled again. A batch from which `max_items` items were removed,
//!   and at least 64, counts as full.
//! - **End of the scope.** Batches are tasks of the scope, which waits for the batches in flight. When only services are left in
//!   the scope, waiting items run, each batch within the grace period of the scope. If the scope is cancelled, running
//!   handlers are dropped and their callers get [`SubmitError::Cancelled`]; items that did not run are handed back. So no
//!   caller waits without end. Posted items are lost in this case: they are counted, and logged.
//! - **Cost.** About six allocations per batch and none per item; one short lock when an item is added, and one when its answer
//!   is taken.

mod batcher;
mod builder;
mod entering;
mod error;
mod handle;
mod load;
mod loader;
mod run;
mod shared;
mod slots;
mod state;
mod stats;
mod submit;
mod watch;

pub use batcher::Batcher;
pub use builder::BatcherBuilder;
pub use error::{BatcherConfigError, LoadError, PostError, SubmitError};
pub use loader::Loader;
pub use stats::BatchStats;
