//! Async context managers: a resource is released on every path.
//!
//! [`resource`]`(open).release(close).with(use)` opens, uses and releases; [`Scope::acquire`] binds a resource to a
//! scope, which releases it at its end; [`Scope::defer`] owes any cleanup. Releases run last in, first out, one
//! at a time, each within its limit (5 s unless set), and a failed one does not skip the rest.
//!
//! # When to use
//! For what needs an `await` to be given back: a transaction, a lease, a temporary object elsewhere. What a
//! `Drop` can release needs none of this.
//!
//! # Guarantees
//! A release runs when the use returned, failed, panicked or was cancelled, and also when the future of the
//! caller is dropped or its task aborted: opening and releasing are tasks of the scope around, which nothing
//! cancels and which that scope (or [`drain`](crate::drain)) waits for. So nothing leaks between the end of
//! `open` and its registration either.
//!
//! What nobody can guarantee: the process is killed, the future is leaked (`mem::forget`), or the runtime is
//! dropped without [`drain`](crate::drain). Releases that could not run are counted
//! ([`ReleaseCounts::lost`]), and `on_lost` hears of them.
//!
//! # Examples
//! ```
//! use motet::resource::{Exit, resource};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let rows = resource(async { Ok::<_, std::io::Error>(vec![1, 2]) })
//!     .release(async |transaction: Vec<u32>, exit: Exit| {
//!         println!("{} of {transaction:?}", if exit.is_ok() { "commit" } else { "rollback" });
//!     })
//!     .with(async |transaction: &mut Vec<u32>| {
//!         transaction.push(3);
//!         Ok(transaction.len())
//!     })
//!     .await;
//! assert_eq!(rows.unwrap(), 3);
//! # });
//! ```
//!
//! [`Scope::acquire`]: crate::task::Scope::acquire
//! [`Scope::defer`]: crate::task::Scope::defer

mod acquired;
mod error;
mod exit;
mod open;
mod owed;
mod with;

pub use acquired::Acquired;
pub use error::ResourceError;
pub use exit::Exit;
pub use with::{Resource, resource};

pub(crate) use open::open;
pub(crate) use owed::{Deferred, Owe, Owed, Slot};

pub use crate::task::{ReleaseCounts, ReleaseError};
