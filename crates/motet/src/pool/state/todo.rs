use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use super::{ConnectError, PoolEntry};
use crate::sync::WakeList;

/// The work that follows once the lock is released.
#[must_use]
pub(in crate::pool) struct PoolTodo<X, E> {
    /// The number of connects to start; they are already counted.
    pub(in crate::pool) connect: usize,
    /// The connections to close; they are already counted.
    pub(in crate::pool) close: Vec<Box<PoolEntry<X>>>,
    pub(in crate::pool) wake: WakeList,
    /// `true` if callers that wait for a change of the pool must look again.
    pub(in crate::pool) changed: bool,
    /// Errors that are not needed any more.
    pub(in crate::pool) garbage: Vec<Arc<ConnectError<E>>>,
    /// The holders that have held a connection for too long, since the last report.
    pub(in crate::pool) overdue: Vec<(&'static Location<'static>, Duration)>,
}

impl<X, E> Default for PoolTodo<X, E> {
    fn default() -> Self {
        Self {
            connect: 0,
            close: Vec::new(),
            wake: WakeList::default(),
            changed: false,
            garbage: Vec::new(),
            overdue: Vec::new(),
        }
    }
}

impl<X, E> PoolTodo<X, E> {
    pub(in crate::pool) fn is_empty(&self) -> bool {
        let Self { connect, close, wake, changed, garbage, overdue } = self;
        *connect == 0
            && close.is_empty()
            && wake.is_empty()
            && !changed
            && garbage.is_empty()
            && overdue.is_empty()
    }
}
