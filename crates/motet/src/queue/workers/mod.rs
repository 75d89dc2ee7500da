//! Workers that take the items of a queue, each item under a lease: at most so many at once, and in order for each
//! key where order matters.
//!
//! # When to use
//! | You want to | |
//! |---|---|
//! | have a function called for each item, on all cores, and failures tried again | [`Receiver::workers`](super::Receiver::workers) |
//! | have the items of one user, file or account handled one after the other | [`Workers::keyed`] |
//! | take items in a loop of your own | [`Receiver::recv`](super::Receiver::recv), [`Receiver::lease`](super::Receiver::lease) |
//!
//! # Guarantees
//! - At most so many handlers run at once. One that fails, panics or hangs harms no other.
//! - An item is settled by what its handler returns: done on `Ok`; on an error or a panic it is handled again,
//!   after the [`backoff`](Workers::backoff), as often as the queue allows; then it is a dead letter. Items that fail
//!   do not keep workers from other items.
//! - With [`keyed`](Workers::keyed), two items of one key are never handled at once, and are handled in the order of
//!   the queue; one that is tried again keeps those behind it waiting, while other keys go on.
//! - Workers end when the queue is closed and all that was in it is settled. When their scope is cancelled, one that is idle
//!   takes nothing any more, and a handler that runs has the scope's grace to come to its end. What is cut off then
//!   goes back to the front of the queue, and the attempt does not count. With keys it goes back when the last worker
//!   has ended, with all that waits for its key, so that the next workers go on in order.
//! - All of it is in the scope's snapshot, by name.
//!
//! # Examples
//! ```
//! use motet::queue;
//! use motet::task::{Nursery, scope};
//! use std::convert::Infallible;
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let (sender, receiver) = queue::bounded(16);
//! scope(async |n: &Nursery| {
//!     receiver.workers(4).start(n, "double", |job: queue::Job<u32>| async move {
//!         println!("{} doubled is {}", *job, *job * 2);
//!         Ok::<_, Infallible>(())
//!     });
//!     for number in 0..10 {
//!         sender.send(number).await.expect("the workers receive");
//!     }
//!     // No more senders: the queue is closed, and the scope ends when the workers have done the rest.
//!     drop(sender);
//!     Ok(())
//! }).await.unwrap();
//! # });
//! ```

mod builder;
mod crew;
mod job;
mod keyed;
mod lanes;
mod stats;
mod worker;

pub use builder::Workers;
pub use crew::Crew;
pub use job::Job;
pub use stats::CrewStats;
