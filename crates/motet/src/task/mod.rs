//! Structured concurrency: no task outlives the scope that started it.
//!
//! ```
//! use motet::task::{Nursery, scope};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let lines = scope(async |n: &Nursery<std::io::Error>| {
//!     let header = n.spawn("header", async { "hello" });
//!     let footer = n.try_spawn("footer", async { Ok("bye") });
//!     Ok([header.await.unwrap_or("-"), footer.await.unwrap_or("-")])
//! })
//! .await?; // both tasks have ended here
//! assert_eq!(lines, ["hello", "bye"]);
//! # Ok(())
//! # }
//! ```
//!
//! [`scope()`] returns when its body, its children, its services and its cleanups have ended, however it ends.
//!
//! | You want to | Use |
//! |---|---|
//! | run tasks on all cores | [`scope()`], [`Nursery::spawn`] |
//! | set a name, a timeout or a policy | [`Scope::builder`] |
//! | cancel the siblings when a task fails | [`Nursery::try_spawn`]; other policies: [`Policy`] |
//! | limit the time of a scope, or of one future | [`ScopeBuilder::timeout`], [`timeout()`] |
//! | wait for a few futures in the calling task | [`gather()`], [`try_gather()`], [`race()`], [`race_all()`] |
//! | start children that borrow from the stack | [`local_scope`] |
//! | release a resource with an `await` | [`resource`](crate::resource), [`Scope::acquire`], [`Nursery::defer`] |
//! | await one task from several places | [`Task::shared`] |
//! | restart tasks that fail | [`Supervisor`] |
//! | see which tasks exist, and which block a thread | [`Scope::snapshot`], [`StallWatch`] |
//!
//! # Starting a child
//! A child is cancelled with its scope. A service runs for as long as the scope has children, and is cancelled after them.
//!
//! | The task | Child | Service |
//! |---|---|---|
//! | is dropped at its next await when it is cancelled | [`spawn`](Nursery::spawn) | [`service`](Nursery::service) |
//! | also passes its error to the scope | [`try_spawn`](Nursery::try_spawn) | [`try_service`](Nursery::try_service) |
//! | sees its cancellation, and has a grace period to end | [`spawn_coop`](Nursery::spawn_coop) | [`service_coop`](Nursery::service_coop) |
//! | reports when it is ready | [`start`](Nursery::start) | [`Supervisor`] |
//! | blocks its thread | [`blocking`](Nursery::blocking) | - |
//!
//! # Guarantees
//! - **Finding the scope.** A function that starts tasks takes `&Scope`, a cheap handle. The body gets a [`Nursery`], which
//!   dereferences to it. A scope that is opened in a task of another scope is a child of that scope.
//! - **Cancellation.** An error, a panic, the deadline, [`Scope::cancel`], or the drop of the scope's future cancel a scope.
//!   Its body and plain children are dropped at their next await. The tokens of cooperative children are cancelled, and
//!   these children have the scope's grace period to end. Services follow when all of them have ended; then resources are
//!   released. The first [`Reason`] is kept.
//! - **End.** A scope waits for its tasks without a limit. If tasks have not ended 5 s after their cancellation, it logs a
//!   warning with their names. No task is abandoned, and no panic is lost: the first panic is rethrown when all tasks have
//!   ended, the others are logged.
//! - **Drop.** A future that is dropped cannot wait. The children of a dropped scope are cancelled at once and handed to the
//!   enclosing scope, which waits for them; without an enclosing scope, [`drain`] waits for them.
//! - **Cost.** A child costs one allocation: the task itself. A cooperative child costs one more, for its token.

mod acquire;
pub(crate) mod ambient;
mod blocking;
pub(crate) mod body;
pub(crate) mod budget;
pub(crate) mod caught;
pub(crate) mod cause;
pub(crate) mod child;
pub(crate) mod coop;
pub(crate) mod core;
pub(crate) mod end;
mod error;
pub(crate) mod failure;
pub(crate) mod finalizer;
mod gather;
mod handle;
mod list;
mod local;
pub(crate) mod member;
pub(crate) mod name;
mod nursery;
pub(crate) mod options;
pub(crate) mod outcome;
mod race;
mod race_all;
mod reason;
pub(crate) mod root;
mod scope;
mod shared;
pub(crate) mod span;
mod stall;
mod start;
pub mod supervisor;
pub(crate) mod timeout;
mod token;

pub use blocking::BLOCKING_LIMIT;
pub use error::{ChildError, ReleaseError, ScopeClosedError, ScopeError, TaskError};
pub use finalizer::ReleaseCounts;
pub use gather::{gather, try_gather};
pub use handle::Task;
pub(crate) use local::Group;
pub use local::{LocalNursery, LocalTask, local_scope};
pub use name::Name;
pub use nursery::Nursery;
pub use options::{Policy, ScopeBuilder, SendBody, scope};
pub use race::{Either, race};
pub use race_all::race_all;
pub use reason::{Reason, ReasonKind};
pub use root::{detach, drain, unscoped};
pub use scope::Scope;
pub use shared::SharedTask;
pub use stall::{Stall, StallWatch};
pub use start::Ready;
pub use supervisor::{Child, Restart, Supervisor, SupervisorError};
pub use timeout::{TimeoutError, timeout, timeout_at};
pub use token::CancelToken;
