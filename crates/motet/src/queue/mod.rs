//! Producer and consumer: queues with many senders and receivers that lose nothing, whoever gives up when.
//!
//! # When to use
//! | | |
//! |---|---|
//! | hand items to other tasks, and wait when they are behind | [`bounded`] |
//! | the same with dead letters, a name | [`options()`] |
//! | the urgent before the rest, the newest first | [`priority`], [`lifo`] |
//! | each item at its time | [`delay`] |
//! | senders that cannot wait, bounded by something else | [`unbounded`] |
//! | an item that must not be lost with the task that works on it | [`Receiver::lease`] |
//! | have a function called for each item, so many at a time, in order for each key | [`Receiver::workers`] |
//! | send without a chance to lose the item when cancelled | [`Sender::reserve`], [`Sender::send_all`] |
//!
//! # Guarantees
//! - What is inside, leased and held by permits together never exceeds the capacity.
//! - A receive that is dropped leaves the item, in order; a send that is dropped has sent nothing. One that was
//!   granted an item or a place and goes passes it on.
//! - Parked senders, and parked receivers, are served in the order in which they went into the line, and none waits for
//!   ever: what is granted to one nobody else can take. A receiver that finds no item first lets other tasks run once,
//!   and goes into the line after that; a sender that finds no room does so up to 16 times. While senders are in line a
//!   newcomer goes behind them.
//! - A refusal hands the item back. Every operation takes part in tokio's coop budget: four items that are sent or
//!   received one by one for a unit, a batch for one.
//! - No waker and no code of an item runs under a lock.
//! - While an item is due later, receivers take a lock and read the clock for each item; otherwise neither.
//!
//! # Examples
//! ```
//! use motet::queue;
//! use motet::task::{Nursery, scope};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! scope(async |n: &Nursery<()>| {
//!     let (sender, receiver) = queue::bounded::<u32>(16);
//!     for _ in 0..2 {
//!         let receiver = receiver.clone();
//!         n.spawn("worker", async move {
//!             while let Some(job) = receiver.lease().await {
//!                 println!("works on {}", *job);
//!                 job.done().await.unwrap();
//!             }
//!         });
//!     }
//!     for job in 0..100 {
//!         sender.send(job).await.unwrap();
//!     }
//!     sender.join().await.unwrap();
//!     Ok(())
//! }).await.unwrap();
//! # });
//! ```

mod core;
mod counts;
mod dead_letter;
mod error;
mod lease;
mod letters;
mod line;
#[cfg(all(test, motet_loom))]
mod models;
mod options;
mod permit;
mod place;
mod poll_sender;
mod receiver;
mod ring;
mod sender;
mod stats;
mod store;
mod sync;
mod waiters;
pub mod workers;

pub use dead_letter::DeadLetter;
pub use error::{
    Abandoned, LeaseError, RecvTimeoutError, SendError, SendTimeoutError, TryRecvError, TrySendError,
};
pub use lease::Lease;
pub use options::{Options, bounded, delay, lifo, options, priority, unbounded};
pub use permit::Permit;
pub(crate) use poll_sender::PollSender;
pub use receiver::Receiver;
pub use sender::Sender;
pub use workers::{Crew, CrewStats, Job, Workers};
