//! Batches: items of many callers handled together, each caller given its own answer.
//!
//! # When to use
//! | You want to | |
//! |---|---|
//! | write or ask for many things in one go, and give each caller its own answer | [`Batcher::submit`] |
//! | hand over things to be written in batches, and go on | [`Batcher::post`] |
//! | look things up by key, and ask once for a key that many want | [`Loader`] |
//! | run one thing after another, or beside another | [`task`](crate::task) |
//!
//! # Guarantees
//! - **One answer.** Each item is in exactly one batch, or is handed back. Each caller is answered once, whatever
//!   becomes of the batch: an error for one item is that item's alone; an error for the batch, a panic of the
//!   handler or a wrong number of answers reaches the callers of that batch, and nothing else.
//! - **Limits.** No batch has more items, or more weight, than it may; no more batches are in flight and no more items
//!   wait than may. Who brings more waits, and is served in order.
//! - **Time.** The delay counts from the first item of a batch, and no later item prolongs it. When there is no room
//!   in flight, a batch that is due stays open until there is. Without items there is no timer, and no task once the last
//!   delay has passed; without a delay one task stays, and sleeps.
//! - **Dropped callers.** An item that is not taken yet is removed; a batch that is left without items does not
//!   run. (A batch that is full and waits for room stays as it is, with what is left of it; one from which as many
//!   were removed as it may hold goes early.)
//! - **The end of the scope.** Batches are tasks of the scope, which waits for those in flight. When only services are
//!   left in it, what still waits runs, each batch within the grace of the scope. If the scope is cancelled, what runs
//!   is dropped and its callers hear of it ([`SubmitError::Cancelled`]), and what was not taken is handed back; so
//!   nobody waits for ever. Items that were posted are lost then: counted, and logged.
//! - **Price.** About six allocations for a batch and none for an item; one short lock when an item comes in, one
//!   when its answer is taken.
//!
//! # Examples
//! ```
//! use motet::batch::Batcher;
//! use motet::task::{Nursery, scope};
//!
//! # #[derive(Debug)] struct Refused;
//! # async fn insert_all(names: &[String]) -> Result<Vec<u64>, Refused> { Ok((1..).take(names.len()).collect()) }
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
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
//! }).await.unwrap();
//! # });
//! ```

mod batcher;
mod block;
mod builder;
mod entering;
mod error;
mod handle;
mod load;
mod loader;
mod outcome;
mod run;
mod settings;
mod shared;
mod state;
mod stats;
mod submit;
mod watch;

pub use batcher::Batcher;
pub use builder::Builder;
pub use error::{BuildError, LoadError, PostError, SubmitError};
pub use load::Load;
pub use loader::{Loader, LoaderBuilder};
pub use outcome::BatchOutcome;
pub use stats::BatchStats;
pub use submit::Submit;
