use std::error::Error;
use std::fmt;
use std::sync::Arc;

use super::block::Failure;

/// Says why an item has no answer.
///
/// `Closed`, `TooHeavy` and `Full` hand the item back: it was in no batch. In all other cases the handler has had it.
#[non_exhaustive]
pub enum SubmitError<T, E> {
    /// The batcher is closed, or its scope is cancelled or has ended. The item; it was in no batch.
    Closed(T),
    /// The item alone weighs more than a batch may. The item.
    TooHeavy(T),
    /// As many callers wait for a place as [may](super::Builder::max_in_line). The item; a retry is sane, later.
    Full(T),
    /// The handler answered this item with an error.
    Failed(E),
    /// The handler failed for the whole batch.
    BatchFailed(Arc<E>),
    /// The handler panicked; its message, where it is text.
    Panicked(Arc<str>),
    /// The handler gave more or fewer answers than there were items, so none can be told to be this item's.
    Mismatch {
        /// How many items there were.
        items: usize,
        /// How many answers there were.
        answers: usize,
    },
    /// The handler was cancelled with its scope while it ran.
    Cancelled,
}

/// Says why an item was not posted. The item is handed back.
#[non_exhaustive]
pub enum PostError<T> {
    /// The batcher is closed, or its scope is cancelled or has ended.
    Closed(T),
    /// The item alone weighs more than a batch may.
    TooHeavy(T),
    /// As many items wait as may, and so do as many callers for a place, unless it was only [tried](super::Batcher::try_post).
    Full(T),
}

/// Says why a key has no value.
#[non_exhaustive]
pub enum LoadError<K, E> {
    /// The loader is closed, or its scope is cancelled or has ended. The key; nobody was asked for it.
    Closed(K),
    /// As many callers wait for a place as [may](super::LoaderBuilder::max_in_line). The key; a retry is sane, later.
    Full(K),
    /// The handler answered this key, or the whole batch, with an error.
    Failed(Arc<E>),
    /// The handler panicked; its message, where it is text.
    Panicked(Arc<str>),
    /// The handler gave more or fewer answers than there were keys, so none can be told to be this key's.
    Mismatch {
        /// How many keys there were.
        keys: usize,
        /// How many answers there were.
        answers: usize,
    },
    /// The handler was cancelled with its scope while it ran.
    Cancelled,
}

/// Says which limit of a batcher makes no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// No batch could hold an item.
    #[error("a batch of at most no items holds none: `max_items` must be one or more")]
    NoItems,
    /// No batch could hold an item that weighs something.
    #[error("a batch of no weight holds nothing: `max_weight` must be one or more")]
    NoWeight,
    /// No batch could run.
    #[error("with no batch in flight none would run: `max_in_flight` must be one or more")]
    NoneInFlight,
    /// No batch could be full.
    #[error("fewer items may wait than a batch holds: `max_waiting` must be at least `max_items`")]
    WaitingBelowBatch,
}

impl<T, E> SubmitError<T, E> {
    /// Gives the item, if it was handed back.
    pub fn into_item(self) -> Option<T> {
        match self {
            Self::Closed(item) | Self::TooHeavy(item) | Self::Full(item) => Some(item),
            _ => None,
        }
    }

    /// Gives the handler's own error for this item, if that is what it is.
    pub fn into_error(self) -> Option<E> {
        match self {
            Self::Failed(error) => Some(error),
            _ => None,
        }
    }

    pub(super) fn of_batch(failure: Failure<E>) -> Self {
        match failure {
            Failure::Failed(error) => Self::BatchFailed(error),
            Failure::Panicked(message) => Self::Panicked(message),
            Failure::Mismatch { items, answers } => Self::Mismatch { items, answers },
            Failure::Cancelled => Self::Cancelled,
        }
    }
}

impl<T, E> From<PostError<T>> for SubmitError<T, E> {
    fn from(refused: PostError<T>) -> Self {
        match refused {
            PostError::TooHeavy(item) => Self::TooHeavy(item),
            PostError::Closed(item) => Self::Closed(item),
            PostError::Full(item) => Self::Full(item),
        }
    }
}

impl<T> PostError<T> {
    /// Gives the item.
    pub fn into_item(self) -> T {
        match self {
            Self::Closed(item) | Self::TooHeavy(item) | Self::Full(item) => item,
        }
    }

    /// Asks whether there was no place for it: trying again later makes sense.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Full(_))
    }
}

impl<K, E> LoadError<K, E> {
    pub(super) fn of_batch(failure: Failure<Arc<E>>) -> Self {
        match failure {
            Failure::Failed(error) => Self::Failed(Arc::clone(&error)),
            Failure::Panicked(message) => Self::Panicked(message),
            Failure::Mismatch { items, answers } => Self::Mismatch { keys: items, answers },
            Failure::Cancelled => Self::Cancelled,
        }
    }
}

const CLOSED: &str = "the batcher is closed";
const TOO_HEAVY: &str = "the item weighs more than a batch may";
const FULL: &str = "as many items wait for the batcher as may";
const FAILED: &str = "the item failed";
const BATCH_FAILED: &str = "the batch failed";
const CANCELLED: &str = "the batch was cancelled with its scope";

fn panicked(f: &mut fmt::Formatter<'_>, message: &str) -> fmt::Result {
    write!(f, "the handler of the batch panicked: {message}")
}

fn mismatch(f: &mut fmt::Formatter<'_>, items: usize, answers: usize) -> fmt::Result {
    write!(f, "the handler gave {answers} answers to {items} items")
}

impl<T, E> fmt::Display for SubmitError<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed(_) => f.write_str(CLOSED),
            Self::TooHeavy(_) => f.write_str(TOO_HEAVY),
            Self::Full(_) => f.write_str(FULL),
            Self::Failed(_) => f.write_str(FAILED),
            Self::BatchFailed(_) => f.write_str(BATCH_FAILED),
            Self::Panicked(message) => panicked(f, message),
            Self::Mismatch { items, answers } => mismatch(f, *items, *answers),
            Self::Cancelled => f.write_str(CANCELLED),
        }
    }
}

impl<T> fmt::Display for PostError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed(_) => CLOSED,
            Self::TooHeavy(_) => TOO_HEAVY,
            Self::Full(_) => FULL,
        })
    }
}

impl<K, E> fmt::Display for LoadError<K, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed(_) => f.write_str("the loader is closed"),
            Self::Full(_) => f.write_str("as many keys wait for the loader as may"),
            Self::Failed(_) => f.write_str("the key failed"),
            Self::Panicked(message) => panicked(f, message),
            Self::Mismatch { keys, answers } => mismatch(f, *keys, *answers),
            Self::Cancelled => f.write_str(CANCELLED),
        }
    }
}

/// The item need not be `Debug`.
impl<T, E: fmt::Debug> fmt::Debug for SubmitError<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed(_) => f.write_str("Closed(..)"),
            Self::TooHeavy(_) => f.write_str("TooHeavy(..)"),
            Self::Full(_) => f.write_str("Full(..)"),
            Self::Failed(error) => f.debug_tuple("Failed").field(error).finish(),
            Self::BatchFailed(error) => f.debug_tuple("BatchFailed").field(error).finish(),
            Self::Panicked(message) => f.debug_tuple("Panicked").field(message).finish(),
            Self::Mismatch { items, answers } => {
                f.debug_struct("Mismatch").field("items", items).field("answers", answers).finish()
            }
            Self::Cancelled => f.write_str("Cancelled"),
        }
    }
}

/// The item need not be `Debug`.
impl<T> fmt::Debug for PostError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed(_) => "Closed(..)",
            Self::TooHeavy(_) => "TooHeavy(..)",
            Self::Full(_) => "Full(..)",
        })
    }
}

/// The key need not be `Debug`.
impl<K, E: fmt::Debug> fmt::Debug for LoadError<K, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed(_) => f.write_str("Closed(..)"),
            Self::Full(_) => f.write_str("Full(..)"),
            Self::Failed(error) => f.debug_tuple("Failed").field(error).finish(),
            Self::Panicked(message) => f.debug_tuple("Panicked").field(message).finish(),
            Self::Mismatch { keys, answers } => {
                f.debug_struct("Mismatch").field("keys", keys).field("answers", answers).finish()
            }
            Self::Cancelled => f.write_str("Cancelled"),
        }
    }
}

impl<T, E: Error + 'static> Error for SubmitError<T, E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Failed(error) => Some(error),
            Self::BatchFailed(error) => Some(&**error),
            _ => None,
        }
    }
}

impl<T> Error for PostError<T> {}

impl<K, E: Error + 'static> Error for LoadError<K, E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Failed(error) => Some(&**error),
            _ => None,
        }
    }
}
