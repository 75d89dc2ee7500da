//! Scopes within one task: children that run in the calling task and may borrow from its stack, and the engine that polls
//! them.
//!
//! - [`local_scope`] and its [`LocalNursery`], with [`LocalTask`] as the handle of a child.
//! - `set`, the engine: futures of any types, one allocation each, polled only after they were woken.
//! - `group`, the engine for futures of one type, which [`gather`](super::gather()) uses.
//! - `node` and `queue`, the state that the engine shares with wakers on other threads.

mod group;
mod node;
mod nursery;
mod queue;
mod scope;
mod set;
mod task;

pub(crate) use group::Group;
pub use nursery::LocalNursery;
pub use scope::local_scope;
pub use task::LocalTask;
