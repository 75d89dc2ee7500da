//! Structured concurrency: nothing outlives the scope that started it.

mod ambient;
mod child;
mod coop;
mod core;
mod end;
mod error;
mod exit;
mod finalizer;
mod gate;
mod handle;
mod name;
mod nursery;
mod options;
mod policy;
mod reason;
mod root;
mod scope;
mod shared;
mod start;
mod timeout;
mod token;

pub use error::{Closed, Failure, ReleaseFailed, ScopeError, TaskFailed};
pub use exit::Exit;
pub use finalizer::ReleaseCounts;
pub use handle::{Task, TaskState};
pub use name::Name;
pub use nursery::Nursery;
pub use options::{Options, scope};
pub use policy::Policy;
pub use reason::{Reason, ReasonKind};
pub use root::{detach, drain, unscoped};
pub use scope::Scope;
pub use shared::Shared;
pub use start::{Ready, StartFailed};
pub use timeout::{Elapsed, Timeout, timeout, timeout_at};
pub use token::CancelToken;
