use std::error::Error;
use std::fmt;

use super::cursors::MAX_CAPACITY;

/// The error of a send: the queue is closed. It contains the item.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SendError<T>(pub T);

/// The error of [`try_send`](super::Sender::try_send) and [`send_timeout`](super::Sender::send_timeout). It contains the
/// item.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum TrySendError<T> {
    /// No slot is free, or the free slots are for senders in line; for a send with a timeout, during all of its time.
    Full(T),
    /// The queue is closed.
    Closed(T),
}

/// The error of [`try_recv`](super::Receiver::try_recv), [`recv_timeout`](super::Receiver::recv_timeout) and
/// [`try_lease`](super::Receiver::try_lease).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TryRecvError {
    /// There is no item, or the items are for receivers in line; for a receive with a timeout, during all of its time.
    Empty,
    /// The queue is closed, and every item in it was settled.
    Closed,
}

/// The error of a void lease: its item was, or will be, handed out again or returned by `shutdown_now`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LeaseError {
    /// The queue was shut down.
    Closed,
    /// The time limit of the lease has passed. A queue in memory sets none.
    Expired,
}

/// The error of [`Sender::join`](super::Sender::join): the last receiver was dropped while items were left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbandonedError {
    /// The number of items that were not settled.
    pub left: usize,
}

/// The error of an invalid setting of a queue or of its workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum QueueConfigError {
    /// The capacity is 0, or more than 4 194 304.
    Capacity(usize),
    /// The number of workers is 0.
    NoWorkers,
}

impl<T> SendError<T> {
    /// Returns the item.
    pub fn into_item(self) -> T {
        self.0
    }
}

impl<T> TrySendError<T> {
    /// Returns the item.
    pub fn into_item(self) -> T {
        match self {
            Self::Full(item) | Self::Closed(item) => item,
        }
    }
}

const CLOSED: &str = "the queue is closed";

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(CLOSED)
    }
}

impl<T> fmt::Display for TrySendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "the queue is full",
            Self::Closed(_) => CLOSED,
        })
    }
}

impl fmt::Display for TryRecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the queue is empty",
            Self::Closed => CLOSED,
        })
    }
}

impl fmt::Display for LeaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "the queue was shut down while the item was leased",
            Self::Expired => "the lease has expired",
        })
    }
}

impl fmt::Display for QueueConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Capacity(capacity) => {
                write!(f, "`capacity` is {capacity}; it must be from 1 to {MAX_CAPACITY}")
            }
            Self::NoWorkers => f.write_str("`count` is 0; it must be at least 1"),
        }
    }
}

impl fmt::Display for AbandonedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the last receiver was dropped while {} items were left in the queue", self.left)
    }
}

// The items need not be `Debug`, and do not belong in a log.
impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SendError(..)")
    }
}

impl<T> fmt::Debug for TrySendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "Full(..)",
            Self::Closed(_) => "Closed(..)",
        })
    }
}

impl<T> Error for SendError<T> {}
impl<T> Error for TrySendError<T> {}
impl Error for TryRecvError {}
impl Error for LeaseError {}
impl Error for AbandonedError {}
impl Error for QueueConfigError {}
