//! Async context managers: a resource is released on every path.
//!
//! ```
//! use motet::resource::{Exit, resource};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let rows = resource(async { Ok::<_, std::io::Error>(vec![1, 2]) })
//!     .release(async |transaction: Vec<u32>, exit: Exit| {
//!         println!("{} of {transaction:?}", if exit.is_ok() { "commit" } else { "rollback" });
//!     })
//!     .with(async |transaction: &mut Vec<u32>| {
//!         transaction.push(3);
//!         Ok(transaction.len())
//!     })
//!     .await?;
//! assert_eq!(rows, 3);
//! # Ok(())
//! # }
//! ```
//!
//! | You want to | Use |
//! |---|---|
//! | open, use and release a resource in one expression | [`resource`]`(open).release(close).with(use)` |
//! | use a resource until the end of a scope | [`Scope::acquire`] |
//! | run any cleanup at the end of a scope | [`Scope::defer`] |
//!
//! Use it for a resource whose release needs an `await`: a transaction, a lease, a temporary object on a server. For all
//! other resources, `Drop` is enough.
//!
//! # Guarantees
//! - **Every path.** A release runs when the use returned, failed, panicked or was cancelled, and also when the caller's
//!   future is dropped or its task aborted: then a task of the enclosing scope continues the opening or the release. That
//!   task is not cancelled, and the scope (or [`drain`](crate::drain)) waits for it. So a resource is not lost between the
//!   end of `open` and its use either.
//! - **Order.** The releases of a scope run one at a time, in the reverse order of opening. A release that fails does not
//!   skip the others. Each has a timeout, 5 s unless set.
//! - **Limits.** A release cannot run when the process is killed, when the future is leaked (`mem::forget`), or when the
//!   runtime is dropped without [`drain`](crate::drain). Such a release is counted ([`ReleaseCounts::lost`]), and the
//!   `on_lost` callback of the resource receives the resource.
//!
//! [`Scope::acquire`]: crate::task::Scope::acquire
//! [`Scope::defer`]: crate::task::Scope::defer

mod acquired;
mod error;
mod exit;
mod lifecycle;
mod open;
mod pending_release;
mod with;

pub use acquired::Acquired;
pub use error::ResourceError;
pub use exit::Exit;
pub use with::{Resource, resource};

pub(crate) use open::open;
pub(crate) use pending_release::{DeferredCleanup, PendingRelease, ResourceRelease, Slot};

pub use crate::task::{ReleaseCounts, ReleaseError};
