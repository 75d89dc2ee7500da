use std::panic::Location;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use super::{ConnectError, Entry};

/// The work that follows once the lock is released.
#[must_use]
pub(in crate::pool) struct Todo<X, E> {
    /// The number of connects to start; they are already counted.
    pub(in crate::pool) connect: usize,
    /// The connections to close; they are already counted.
    pub(in crate::pool) close: Vec<Box<Entry<X>>>,
    pub(in crate::pool) wake: Vec<Waker>,
    /// `true` if callers that wait for a change of the pool must look again.
    pub(in crate::pool) changed: bool,
    /// Errors that are not needed any more.
    pub(in crate::pool) garbage: Vec<Arc<ConnectError<E>>>,
    /// The holders that have held a connection for too long, since the last report.
    pub(in crate::pool) overdue: Vec<(&'static Location<'static>, Duration)>,
}

impl<X, E> Default for Todo<X, E> {
    fn default() -> Self {
        Self {
            connect: 0,
            close: Vec::new(),
            wake: Vec::new(),
            changed: false,
            garbage: Vec::new(),
            overdue: Vec::new(),
        }
    }
}

impl<X, E> Todo<X, E> {
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
