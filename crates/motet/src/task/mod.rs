//! Structured concurrency: nothing outlives the scope that started it.
//!
//! [`scope()`] opens a nursery, a cancel scope and a stack of resources in one: it returns when its body, its
//! children, its services and its cleanups have ended, whichever way it ends.
//!
//! # When to use what
//! | You want to | |
//! |---|---|
//! | run tasks on all cores, beside something | [`scope()`], [`Nursery::spawn`] |
//! | have an error of one cancel the rest | [`Nursery::try_spawn`]; other policies: [`Policy`] |
//! | let a task finish what it is doing when it is cancelled | [`Nursery::spawn_coop`] |
//! | run something for as long as the rest runs | [`Nursery::service`] |
//! | wait until a task is ready | [`Nursery::start`] |
//! | call something that blocks | [`Nursery::blocking`] |
//! | limit the time of all of it | [`ScopeBuilder::deadline`]; of one future: [`timeout()`] |
//! | wait for a few futures where they are | [`gather()`], [`try_gather()`], [`race()`], [`race_all()`] |
//! | have children borrow from the stack | [`local_scope`] |
//! | release what needs an await | [`resource`](crate::resource), [`Scope::acquire`], [`Nursery::defer`] |
//! | await one task from many places | [`Task::shared`] |
//! | see what runs | [`Scope::snapshot`], [`StallWatch`] |
//!
//! # Guarantees
//! - **Finding the scope.** What starts a task takes `&Scope`, a cheap handle; the body gets a [`Nursery`], which
//!   derefs to it. A scope that is opened in a task of another is its child.
//! - **Cancelling.** A scope is cancelled by an error, a panic, its deadline, [`Scope::cancel`], or the drop of its
//!   future. Body and plain children are dropped at their next await; cooperative children are told, and have
//!   the scope's grace; services follow when those have ended; then resources are released. The first [`Reason`]
//!   is kept.
//! - **Ending.** A scope that waits for something it cancelled waits for as long as it takes, and names it
//!   in a warning after 5 s. No task is abandoned, and no panic is lost: the first is rethrown when all
//!   have ended, the others are logged.
//! - **Dropping.** A future that is dropped cannot wait, so the children of a dropped scope are cancelled at once
//!   and handed to the scope around, which waits for them; without one, [`drain`] does.
//! - **Price.** One allocation for a child: the task itself.
//!
//! # Examples
//! ```
//! use motet::task::{Nursery, Scope, ScopeError};
//! use std::time::Duration;
//! use tokio::time::sleep;
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
//! let failed: Result<(), ScopeError<&str>> = Scope::builder()
//!     .name("page")
//!     .timeout(Duration::from_secs(2))
//!     .run(async |n: &Nursery<&str>| {
//!         let header = n.try_spawn("header", async { Ok("hello") });
//!         n.try_spawn("footer", async {
//!             sleep(Duration::from_secs(1)).await;
//!             Err::<(), _>("out of ink")
//!         });
//!         assert_eq!(header.await.unwrap(), "hello");
//!         std::future::pending().await // until the footer fails
//!     })
//!     .await;
//! assert_eq!(failed.unwrap_err().to_string(), "task `footer` failed");
//! # });
//! ```

pub(crate) mod ambient;
mod blocking;
pub(crate) mod body;
pub(crate) mod budget;
pub(crate) mod caught;
pub(crate) mod child;
pub(crate) mod coop;
pub(crate) mod core;
pub(crate) mod end;
mod error;
pub(crate) mod finalizer;
pub(crate) mod gate;
mod gather;
mod handle;
mod list;
mod local;
pub(crate) mod member;
#[cfg(all(test, motet_loom))]
mod models;
pub(crate) mod name;
pub(crate) mod notify;
mod nursery;
pub(crate) mod options;
pub(crate) mod outcome;
mod owing;
mod policy;
mod race;
mod race_all;
mod reason;
pub(crate) mod renew;
pub(crate) mod root;
mod scope;
mod shared;
mod stall;
mod start;
pub mod supervisor;
pub(crate) mod timeout;
mod token;
pub(crate) mod wakers;

pub use blocking::BLOCKING_LIMIT;
pub use error::{ChildError, ReleaseError, ScopeClosedError, ScopeError, TaskError};
pub use finalizer::ReleaseCounts;
pub use gather::{gather, try_gather};
pub use handle::Task;
pub(crate) use local::Group;
pub use local::{LocalNursery, LocalTask, local_scope};
pub use name::Name;
pub use nursery::Nursery;
pub use options::{ScopeBuilder, SendBody, scope};
pub use policy::Policy;
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
