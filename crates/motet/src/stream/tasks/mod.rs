//! Streams whose items come from tasks of a scope.
//!
//! There is no task for the source alone: an idle worker takes the source, polls it without a lock, puts it back, and
//! processes the items that it has taken. [`state`] decides what a worker does next; [`shared`] is this state under a lock,
//! with the wakers of idle workers and of the reader. A [`worker`] takes as many items at once as it processes within about
//! 50 µs, and returns the items that it has not begun as soon as one of them has to wait. So taking many items at once
//! lowers the cost of an item and has no other effect.

mod panicked;
mod par_map;
mod par_map_batched;
mod shared;
mod spawned;
mod state;
mod worker;

use std::future::{Ready, ready};
use std::panic::Location;

use futures_core::Stream;

use super::error::{SetupProblem, StreamSetupError};
use crate::task::{Name, Scope};

pub(super) use panicked::{Panicked, drop_caught};
pub use par_map::ParMap;
pub use par_map_batched::ParMapBatched;
pub use spawned::Spawned;
use state::Order;

/// Reads a stream in a task of the scope.
pub(super) fn spawned<S>(
    source: S,
    scope: &Scope,
    name: Name,
    ahead: usize,
    site: &'static Location<'static>,
) -> Result<Spawned<S::Item>, StreamSetupError<S>>
where
    S: Stream<Item: Send> + Send + 'static,
{
    if ahead == 0 {
        return Err(StreamSetupError { stream: source, problem: SetupProblem::Zero("ahead") });
    }
    let unchanged: fn(S::Item) -> Ready<S::Item> = ready;
    let read = ParMap::new(source, 1, unchanged).window(ahead);
    read.start(Order::Source, scope, name, site).map_err(|error| error.map(ParMap::into_source))
}
