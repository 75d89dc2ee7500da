//! Workers that call a function for each item of a queue: concurrently, with retries, and in order for each key.
//!
//! ```
//! use motet::queue;
//! use motet::task::{Nursery, scope};
//! use std::convert::Infallible;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (sender, receiver) = queue::bounded(16)?;
//! let workers = receiver.workers(4)?;
//! scope(async |n: &Nursery<queue::SendError<u32>>| {
//!     workers.start(n, "double", |job: queue::Job<u32>| async move {
//!         println!("{} doubled is {}", *job, *job * 2);
//!         Ok::<_, Infallible>(())
//!     });
//!     for number in 0..10 {
//!         sender.send(number).await?;
//!     }
//!     drop(sender); // closes the queue: the scope ends when the workers have handled the items in it
//!     Ok(())
//! })
//! .await?;
//! # Ok(())
//! # }
//! ```
//!
//! | You want to | Use |
//! |---|---|
//! | call a function for each item, on all cores, and retry failures | [`Receiver::workers`](super::Receiver::workers) |
//! | handle the items of one user, file or account one after the other | [`Workers::keyed`] |
//! | receive items in a loop of your own | [`Receiver::recv`](super::Receiver::recv), [`Receiver::lease`](super::Receiver::lease) |
//!
//! # Guarantees
//! - **Concurrency.** At most `count` handlers run at once. A handler that fails, panics or hangs does not affect the others.
//! - **Settling.** The result of its handler settles an item. `Ok` settles it as done. After an error or a panic the item is
//!   handled again, after the [`backoff`](Workers::backoff) and as often as the queue allows; then it is a dead letter.
//!   Items that fail do not keep workers from other items.
//! - **Order.** With [`keyed`](Workers::keyed), two items of one key are never handled at the same time, and they are handled
//!   in the order of the queue. An item that is tried again keeps the items of its key behind it waiting, while items of
//!   other keys are handled.
//! - **End.** Workers end when the queue is closed and all its items are settled. When their scope is cancelled, idle workers
//!   take no more items, and running handlers have the scope's grace period to finish. An item whose handler is dropped
//!   then returns to the front of the queue, and the attempt does not count. With keys it returns when the last worker has
//!   ended, together with the items that wait for its key, so that later workers continue in order.
//! - **Observability.** The snapshot of the scope shows the workers by name.

mod builder;
mod crew;
mod job;
mod keyed;
mod worker;

pub use builder::Workers;
pub use crew::{Crew, CrewStats};
pub use job::Job;
