//! Producer and consumer: queues that lose nothing.
//
// For the one who builds stores and workers on this (this comment goes when both are in):
// - `store/mod.rs` has the trait. `Lifo` and `Priority` implement `Store<T>`; `Priority` orders by `Entry::rank`, lowest
//   first, stable. Constructors go into `options.rs`: `queue::lifo(cap)`, `queue::priority(cap, |item: &T| -> i64)`, with
//   `options(cap).stored(Box::new(..), Some(Box::new(rank)))`; the core calls the closure before it takes a lock.
//   `queue::delay(cap, |item: &T| -> Instant)` is there already: it needs no `Store`, but `store/later.rs`, a *pure*
//   structure which the core also uses for `Lease::retry(after)`. Make it better if you can, keep the signatures.
// - Handles: `Sender::{send, try_send, send_timeout, send_all(&mut VecDeque<T>), reserve, close, closed, join, len,
//   capacity, is_closed}`, `Receiver::{recv, try_recv, recv_many(&mut Vec<T>, n), recv_timeout, lease, try_lease, close,
//   shutdown_now() -> Vec<T>, closed, len, capacity, is_closed, stats}`, `Lease::{done, extend, retry}` (async, fallible),
//   `Lease::attempt()`, `Deref`; builder `queue::options(cap)` with `dead_letters`, `named`, `build`.

mod core;
mod counts;
mod dead_letter;
mod error;
mod lease;
mod letters;
mod line;
mod options;
mod permit;
mod place;
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
pub use receiver::Receiver;
pub use sender::Sender;
pub use workers::{Crew, CrewStats, Job, Workers};
