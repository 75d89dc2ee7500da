use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::stats::Holder;
use crate::observe::rounded;
use crate::task::Name;

/// The error of an acquire.
///
/// Each variant has the name of the pool, which is `pool` for a pool without a name.
#[derive(Debug)]
#[non_exhaustive]
pub enum AcquireError<E> {
    /// No connection could be opened, and there is none to wait for. All callers that waited share the cause.
    ///
    /// After the back-off, the next caller causes another connect; below its minimum, the pool also connects by itself. A
    /// retry is sensible after a while.
    #[non_exhaustive]
    Unavailable {
        /// The name of the pool.
        pool: Name,
        /// The error of the last connect.
        cause: Arc<ConnectError<E>>,
    },
    /// No connection became free in time.
    #[non_exhaustive]
    TimedOut {
        /// The name of the pool.
        pool: Name,
        /// How long the caller waited.
        waited: Duration,
        /// The callers that have held their connections longest, up to 3, the longest first; empty if holders are not
        /// [recorded](super::PoolBuilder::leak_after).
        holders: Arc<Vec<Holder>>,
        /// `true` if holders are recorded. Connections that no caller holds are being checked, opened or closed.
        is_recorded: bool,
        /// The reason why the pool could not open another one, if the last connect failed.
        cause: Option<Arc<ConnectError<E>>>,
    },
    /// [`max_waiting`](super::PoolBuilder::max_waiting) callers are already waiting. A retry is sensible when some of them
    /// have been served.
    #[non_exhaustive]
    TooManyWaiting {
        /// The name of the pool.
        pool: Name,
        /// The limit, `max_waiting`.
        limit: usize,
    },
    /// The pool is closed, or its scope is ending, in which it opens no more connections. A retry seldom succeeds.
    #[non_exhaustive]
    Closed {
        /// The name of the pool.
        pool: Name,
    },
}

impl<E> AcquireError<E> {
    /// Completes a refusal of the state machine.
    pub(super) fn new(
        refusal: Refusal<E>,
        pool: &Name,
        waited: Duration,
        holders: Vec<Holder>,
        is_recorded: bool,
    ) -> Self {
        let pool = pool.clone();
        match refusal {
            Refusal::Unavailable(cause) => Self::Unavailable { pool, cause },
            Refusal::TimedOut { cause } => {
                // A thin pointer: the errors of scopes contain this one, and are passed by value.
                Self::TimedOut { pool, waited, holders: Arc::new(holders), is_recorded, cause }
            }
            Refusal::TooManyWaiting { limit } => Self::TooManyWaiting { pool, limit },
            Refusal::Closed => Self::Closed { pool },
        }
    }
}

impl<E> fmt::Display for AcquireError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable { pool, .. } => {
                write!(f, "the pool `{pool}` has no connection, and could not open one")
            }
            Self::TimedOut { pool, waited, holders, is_recorded, .. } => {
                write!(f, "no connection of the pool `{pool}` became free within {:?}", rounded(*waited))?;
                match holders.as_slice() {
                    [] if *is_recorded => {
                        f.write_str("; no caller holds one: they are being opened, checked or closed")
                    }
                    [] => f.write_str("; set `leak_after` to record the callers that hold them"),
                    [longest, others @ ..] => {
                        write!(f, "; held longest by {longest}")?;
                        others.iter().try_for_each(|holder| write!(f, ", {holder}"))
                    }
                }
            }
            Self::TooManyWaiting { pool, limit } => {
                write!(
                    f,
                    "{limit} callers are already waiting for a connection of the pool `{pool}` (`max_waiting`)"
                )
            }
            Self::Closed { pool } => write!(f, "the pool `{pool}` is closed"),
        }
    }
}

impl<E: Error + 'static> Error for AcquireError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Unavailable { cause, .. } | Self::TimedOut { cause: Some(cause), .. } => Some(&**cause),
            Self::TimedOut { cause: None, .. } | Self::TooManyWaiting { .. } | Self::Closed { .. } => None,
        }
    }
}

impl<E> Clone for AcquireError<E> {
    fn clone(&self) -> Self {
        match self {
            Self::Unavailable { pool, cause } => {
                Self::Unavailable { pool: pool.clone(), cause: Arc::clone(cause) }
            }
            Self::TimedOut { pool, waited, holders, is_recorded, cause } => Self::TimedOut {
                pool: pool.clone(),
                waited: *waited,
                is_recorded: *is_recorded,
                holders: Arc::clone(holders),
                cause: cause.clone(),
            },
            Self::TooManyWaiting { pool, limit } => {
                Self::TooManyWaiting { pool: pool.clone(), limit: *limit }
            }
            Self::Closed { pool } => Self::Closed { pool: pool.clone() },
        }
    }
}

/// The reason why the state machine refuses a caller.
#[derive(Debug)]
pub(super) enum Refusal<E> {
    Unavailable(Arc<ConnectError<E>>),
    TimedOut { cause: Option<Arc<ConnectError<E>>> },
    TooManyWaiting { limit: usize },
    Closed,
}

/// The error of a connect.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConnectError<E> {
    /// The manager returned this error.
    Failed(E),
    /// The connect took longer than this timeout.
    TimedOut(Duration),
    /// The manager panicked, with this message.
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

/// The error of invalid settings of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PoolConfigError {
    /// `max` is 0.
    NoConnections,
    /// `min` is above `max`.
    MinAboveMax {
        /// The value of `min`.
        min: usize,
        /// The value of `max`.
        max: usize,
    },
    /// `connects` is 0.
    NoConnects,
    /// `max_waiting` is 0, so no caller could wait for a first connection.
    NoneWaiting,
    /// `connect_timeout` is zero, so every connect would fail.
    NoTimeToConnect,
    /// `check_timeout` is zero, so every check would fail.
    NoTimeToCheck,
}

impl PoolConfigError {
    /// Checks the minimum and the maximum number of connections.
    pub(super) const fn check_size(min: usize, max: usize) -> Result<(), Self> {
        match max {
            0 => Err(Self::NoConnections),
            max if min > max => Err(Self::MinAboveMax { min, max }),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for PoolConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoConnections => f.write_str("`max` is 0; it must be at least 1"),
            Self::MinAboveMax { min, max } => {
                write!(f, "`min` is {min}; it must be at most `max`, which is {max}")
            }
            Self::NoConnects => f.write_str("`connects` is 0; it must be at least 1"),
            Self::NoneWaiting => f.write_str("`max_waiting` is 0; it must be at least 1"),
            Self::NoTimeToConnect => f.write_str("`connect_timeout` is zero; it must be longer"),
            Self::NoTimeToCheck => f.write_str("`check_timeout` is zero; it must be longer"),
        }
    }
}

impl Error for PoolConfigError {}
