use std::error::Error;
use std::fmt;
use std::time::Duration;

use crate::task::Name;

/// The error of a listener that failed, panicked or timed out; its source is the error that the listener returned.
#[derive(Debug)]
pub struct ListenerError {
    pub(super) listener: Name,
    pub(super) cause: ListenerErrorCause,
}

/// The cause of a listener's failure.
#[derive(Debug)]
pub(super) enum ListenerErrorCause {
    /// The listener returned this error.
    Failed(Box<dyn Error + Send + Sync>),
    /// The listener panicked with this message.
    Panicked(String),
    /// The listener took longer than this duration, and was dropped.
    TimedOut(Duration),
}

impl ListenerError {
    /// The name of the listener.
    #[must_use]
    pub fn listener(&self) -> &str {
        self.listener.as_str()
    }

    /// Returns `true` if the listener panicked.
    #[must_use]
    pub fn is_panic(&self) -> bool {
        matches!(self.cause, ListenerErrorCause::Panicked(_))
    }

    /// Returns `true` if the listener took longer than its timeout, and was dropped.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self.cause, ListenerErrorCause::TimedOut(_))
    }

    /// Returns the error that the listener returned; `None` if it panicked or timed out.
    #[must_use]
    pub fn into_source(self) -> Option<Box<dyn Error + Send + Sync>> {
        match self.cause {
            ListenerErrorCause::Failed(error) => Some(error),
            ListenerErrorCause::Panicked(_) | ListenerErrorCause::TimedOut(_) => None,
        }
    }
}

impl fmt::Display for ListenerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let listener = &self.listener;
        match &self.cause {
            ListenerErrorCause::Failed(_) => write!(f, "listener `{listener}` failed"),
            ListenerErrorCause::Panicked(message) => write!(f, "listener `{listener}` panicked: {message}"),
            ListenerErrorCause::TimedOut(limit) => {
                write!(f, "listener `{listener}` took longer than {limit:?}")
            }
        }
    }
}

impl Error for ListenerError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.cause {
            ListenerErrorCause::Failed(error) => Some(&**error),
            ListenerErrorCause::Panicked(_) | ListenerErrorCause::TimedOut(_) => None,
        }
    }
}

/// The error of an event or a listener that was refused, with that event or listener: the emitter is closed, or the
/// scope of the listener has ended.
///
/// A closed emitter and an ended scope do not open again, so a retry fails too.
pub struct EmitterClosedError<T>(pub T);

impl<T> fmt::Debug for EmitterClosedError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("EmitterClosedError").finish_non_exhaustive()
    }
}

impl<T> fmt::Display for EmitterClosedError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the emitter is closed, or the scope of the listener has ended")
    }
}

impl<T> Error for EmitterClosedError<T> {}

/// The error of a stream that dropped events at this position, with their number: see
/// [`Lag::DropOldest`](super::Lag::DropOldest).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LagError(pub u64);

impl fmt::Display for LagError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => f.write_str("an event was missed"),
            count => write!(f, "{count} events were missed"),
        }
    }
}

impl Error for LagError {}
