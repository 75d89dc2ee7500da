//! Queues for many senders and many receivers: bounded, fair, and cancel-safe.
//!
//! ```
//! use motet::queue::{self, SendError};
//! use motet::task::{Nursery, scope};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (sender, receiver) = queue::bounded(16)?;
//! let sum = scope(async |n: &Nursery<SendError<u32>>| {
//!     n.try_spawn("producer", async move {
//!         for number in 1..=100 {
//!             sender.send(number).await?; // waits while the queue is full
//!         }
//!         Ok(()) // the last sender is dropped here, which closes the queue
//!     });
//!     let mut sum = 0;
//!     while let Some(number) = receiver.recv().await {
//!         sum += number;
//!     }
//!     Ok(sum)
//! })
//! .await?;
//! assert_eq!(sum, 5050);
//! # Ok(())
//! # }
//! ```
//!
//! | You want to | Use |
//! |---|---|
//! | pass items to other tasks, and wait while these tasks are behind | [`bounded`] |
//! | set a name, an order, or a queue for dead letters | [`builder()`] |
//! | receive urgent items first, or the newest item first | [`priority`], [`lifo`] |
//! | receive each item when it is due | [`delay`] |
//! | send from code that cannot wait, where something else limits the number of items | [`unbounded`] |
//! | keep an item when the task that works on it fails | [`Receiver::lease`] |
//! | call a function for each item, concurrently, and in order for each key | [`Receiver::workers`] |
//! | send to a queue from the code that receives from it | [`Sender::downgrade`] |
//! | keep the item when a send is cancelled | [`Sender::reserve`], [`Sender::send_all`] |
//!
//! # Guarantees
//! - **Capacity.** The items in the queue, the leased items and the permits together never exceed the capacity.
//! - **Cancellation.** A receive that is dropped leaves the item in the queue, in order. A send that is dropped has sent
//!   nothing. If the dropped future had already been granted an item or a slot, the next waiter gets it.
//! - **Fairness.** Callers that wait form a line, and are served in the order in which they joined it. No other caller can
//!   take an item or a slot that was granted to a waiter, so no waiter starves. A receiver that finds no item yields to
//!   other tasks once before it joins the line; a sender that finds no free slot yields up to 16 times. While senders are in
//!   line, a new sender joins the line behind them.
//! - **Refusal.** An operation that owns its item hands it back when it fails.
//! - **User code.** No waker, and no code of an item, runs while a lock is held.
//! - **Cost.** A send or receive that does not wait takes no lock and reads no clock. Exceptions: `lifo`, `priority` and
//!   `delay` keep their items under a lock, and while an item is due later, each receive takes a lock and reads the clock.
//!   Four items that are sent or received one by one cost one unit of tokio's coop budget; a batch costs one unit.
//!
//! # Leases
//! [`Receiver::recv`] settles an item at once, and the item is lost with the task that works on it. A [`Lease`] settles the
//! item when the work is done; a lease that is dropped returns the item to the front of the queue.
//!
//! ```
//! use motet::queue;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (sender, receiver) = queue::bounded(16)?;
//! sender.send("job").await?;
//! drop(receiver.lease().await); // the worker fails
//!
//! let job = receiver.lease().await.expect("the job came back");
//! assert_eq!((*job, job.attempt()), ("job", 2));
//! job.done().await?;
//! sender.join().await?; // every item is settled
//! # Ok(())
//! # }
//! ```

mod atomics;
mod builder;
mod close;
mod core;
mod cursors;
mod dead_letters;
mod error;
mod grants;
mod lease;
#[cfg(all(test, motet_loom))]
mod models;
mod orders;
mod receiver;
mod recv_waiter;
mod ring;
mod send_waiter;
mod sender;
mod stats;
mod storage;
mod waiters;
pub mod workers;

pub use builder::{QueueBuilder, bounded, builder, delay, lifo, priority, unbounded};
pub use dead_letters::DeadLetter;
pub use error::{AbandonedError, LeaseError, QueueConfigError, SendError, TryRecvError, TrySendError};
pub use lease::Lease;
pub use receiver::Receiver;
pub(crate) use sender::PollSender;
pub use sender::{Permit, Sender, WeakSender};
pub use workers::{Crew, CrewStats, Job, Workers};
