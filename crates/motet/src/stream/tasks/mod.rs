//! Streams whose items come from tasks of a scope.
//!
//! There is no task for the source alone: whoever has nothing to do takes the source, polls it without a lock, puts it
//! back, and works on what it has taken. [`state`] says who may take what; [`shared`] is that under a lock, with those
//! who wait; a [`worker`] takes as many items at once as are done within some fifty microseconds, and gives back what it
//! has not begun as soon as one of them waits for something, so that taking many is never seen but in the price.

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

use crate::task::{Name, Scope, ScopeClosedError};

pub(super) use panicked::{Panicked, drop_caught};
pub use par_map::ParMap;
pub use par_map_batched::ParMapBatched;
pub use spawned::Spawned;
use state::Order;

/// Has a stream read by a task of its own.
pub(super) fn spawned<S>(
    source: S,
    scope: &Scope,
    name: Name,
    ahead: usize,
    site: &'static Location<'static>,
) -> Result<Spawned<S::Item>, ScopeClosedError<S>>
where
    S: Stream<Item: Send> + Send + 'static,
{
    let as_it_is: fn(S::Item) -> Ready<S::Item> = ready;
    let read = ParMap::new(source, 1, as_it_is).window(ahead);
    read.start(Order::Source, scope, name, site)
        .map_err(|ScopeClosedError(back)| ScopeClosedError(back.into_source()))
}
