use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Says why a pool gave no connection.
#[derive(Debug)]
#[non_exhaustive]
pub enum AcquireError<E> {
    /// No connection could be made, and there is none to wait for. The cause is shared by all who waited for it.
    ///
    /// The pool tries again by itself, after its back-off: a retry is sane, at leisure.
    Unavailable(Arc<ConnectError<E>>),
    /// No connection came free in time.
    TimedOut {
        /// Why the pool could not make another, if the last attempt failed.
        cause: Option<Arc<ConnectError<E>>>,
    },
    /// As many wait for a connection as [may](super::Builder::max_waiting). A retry is sane when some of them are served.
    TooManyWaiting {
        /// How many may.
        limit: usize,
    },
    /// The pool is closed, or its scope is ending and makes no more connections. A retry gets the same answer.
    Closed,
}

impl<E> fmt::Display for AcquireError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable(_) => f.write_str("the pool has no connection and could not make one"),
            Self::TimedOut { .. } => f.write_str("no connection of the pool came free in time"),
            Self::TooManyWaiting { limit } => {
                write!(f, "{limit} wait for a connection of the pool, as many as may (`max_waiting`)")
            }
            Self::Closed => f.write_str("the pool is closed"),
        }
    }
}

impl<E: Error + 'static> Error for AcquireError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Unavailable(cause) | Self::TimedOut { cause: Some(cause) } => Some(&**cause),
            Self::TimedOut { cause: None } | Self::TooManyWaiting { .. } | Self::Closed => None,
        }
    }
}

impl<E> Clone for AcquireError<E> {
    fn clone(&self) -> Self {
        match self {
            Self::Unavailable(cause) => Self::Unavailable(Arc::clone(cause)),
            Self::TimedOut { cause } => Self::TimedOut { cause: cause.clone() },
            Self::TooManyWaiting { limit } => Self::TooManyWaiting { limit: *limit },
            Self::Closed => Self::Closed,
        }
    }
}

/// Says why a connection could not be made.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConnectError<E> {
    /// The manager said so.
    Failed(E),
    /// The manager took longer than this.
    TimedOut(Duration),
    /// The manager panicked, with these words.
    Panicked(String),
}

impl<E> fmt::Display for ConnectError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(_) => f.write_str("connecting failed"),
            Self::TimedOut(limit) => write!(f, "connecting took longer than {limit:?}"),
            Self::Panicked(message) => write!(f, "connecting panicked: {message}"),
        }
    }
}

impl<E: Error + 'static> Error for ConnectError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Failed(error) => Some(error),
            Self::TimedOut(_) | Self::Panicked(_) => None,
        }
    }
}

/// Says which settings of a pool contradict each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidPool {
    /// A pool of at most no connections gives none.
    NoConnections,
    /// More connections are to be kept than there may be.
    MinAboveMax {
        /// The minimum.
        min: usize,
        /// The maximum.
        max: usize,
    },
    /// No connect may be under way.
    NoConnects,
    /// Nobody may wait, so nobody could wait for a first connection.
    NoneWaiting,
    /// A connect has no time, so every one would fail.
    NoTimeToConnect,
    /// A check has no time, so every one would fail.
    NoTimeToCheck,
}

impl fmt::Display for InvalidPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoConnections => f.write_str("a pool needs a maximum of at least one connection"),
            Self::MinAboveMax { min, max } => {
                write!(f, "a pool of at most {max} connections cannot keep {min} open")
            }
            Self::NoConnects => f.write_str("a pool needs at least one connect at a time"),
            Self::NoneWaiting => f.write_str("a pool needs room for at least one caller that waits"),
            Self::NoTimeToConnect => {
                f.write_str("a connect of a pool needs more than no time (`connect_timeout`)")
            }
            Self::NoTimeToCheck => f.write_str("a check of a pool needs more than no time (`check_timeout`)"),
        }
    }
}

impl Error for InvalidPool {}
