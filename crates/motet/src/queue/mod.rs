//! Producer and consumer: queues that lose nothing.
//
// For the one who builds stores and workers on this (this comment goes when both are in):
// - `store/mod.rs` has the trait. `Lifo` and `Priority` implement `Store<T>`; `Priority` orders by `Entry::rank`, lowest
//   first, stable. Constructors: `queue::lifo(cap)`, `queue::priority(cap, |item: &T| -> i64)`,
//   `queue::delay(cap, |item: &T| -> Instant)`; the core calls the closure before it takes a lock.
// - Delay needs a *pure* structure of its own, which the core also uses for `Lease::retry(after)`:
//   `Later<T>`: `new()`, `push(entry: Entry<T>, due: Instant)`, `next_due(&self) -> Option<Instant>`,
//   `pop_due(&mut self, now: Instant) -> Option<Entry<T>>` (by due time, stable), `len()`, `drain() -> iterator`.
//   A first version of it is in `store/later.rs`: make it better, keep the signatures.
// - Handles: `Sender::{send, try_send, send_timeout, send_all(&mut VecDeque<T>), reserve, close, closed, join, len,
//   capacity, is_closed}`, `Receiver::{recv, try_recv, recv_many(&mut Vec<T>, n), recv_timeout, lease, try_lease, close,
//   shutdown_now() -> Vec<T>, closed, len, capacity, is_closed, stats}`, `Lease::{done, extend, retry}` (async, fallible),
//   `Lease::attempt()`, `Deref`; builder `queue::Options` (`queue::options(cap)` ..).

mod store;
