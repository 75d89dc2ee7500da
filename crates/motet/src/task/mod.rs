//! Structured concurrency: nothing outlives the scope that started it.

pub(crate) mod ambient;
mod blocking;
pub(crate) mod child;
mod coop;
pub(crate) mod core;
pub(crate) mod end;
mod error;
pub(crate) mod finalizer;
pub(crate) mod gate;
mod handle;
mod list;
#[cfg(all(test, motet_loom))]
mod models;
mod name;
mod nursery;
mod options;
mod owing;
mod policy;
mod reason;
pub(crate) mod root;
mod scope;
mod shared;
mod stall;
mod start;
mod token;

pub use blocking::BLOCKING_LIMIT;
pub use error::{Closed, Failure, ReleaseFailed, ScopeError, TaskFailed};
pub use finalizer::ReleaseCounts;
pub use handle::{Task, TaskState};
pub use name::Name;
pub use nursery::Nursery;
pub use options::{Options, scope};
pub use owing::AcquireFailed;
pub use policy::Policy;
pub use reason::{Reason, ReasonKind};
pub use root::{detach, drain, unscoped};
pub use scope::Scope;
pub use shared::Shared;
pub use stall::{Stall, StallWatch};
pub use start::{Ready, StartFailed};
pub use token::CancelToken;
