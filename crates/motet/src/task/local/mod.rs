//! An in-task scope: children on one core that borrow the caller's stack, and the engine under it.
//!
//! - [`local_scope`] and its [`LocalNursery`], with [`LocalTask`] as the handle of a child.
//! - `set`, the engine: futures of any types, one allocation each, polled only after they were woken.
//! - `group`, the engine for futures of one type; [`gather`](super::gather()) stands on it.
//! - `node` and `queue`, what wakers on other threads share with it.

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
