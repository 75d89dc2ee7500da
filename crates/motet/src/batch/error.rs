use std::error::Error;
use std::fmt;
use std::sync::Arc;

use super::slots::Failure;

/// The error of [`Batcher::submit`](super::Batcher::submit).
///
/// `Closed`, `TooHeavy` and `Full` contain the item, which the handler did not get. In all other cases the handler got the
/// item.
#[non_exhaustive]
pub enum SubmitError<T, E> {
    /// The batcher is closed, or its scope is cancelled or has ended. Contains the item, whose batch did not run.
    Closed(T),
    /// The item alone is heavier than a batch may be.
    TooHeavy {
        /// The item.
        item: T,
        /// The weight of the item.
        weight: u64,
        /// [`max_weight`](super::BatcherBuilder::max_weight).
        max: u64,
    },
    /// [`max_in_line`](super::BatcherBuilder::max_in_line) callers are already waiting for capacity. Contains the item. A
    /// retry is sensible later.
    Full(T),
    /// The handler returned an error for this item.
    Failed(E),
    /// The handler failed for the whole batch.
    BatchFailed(Arc<E>),
    /// The handler panicked. Contains the message, if it is text.
    Panicked(Arc<str>),
    /// The handler returned more or fewer answers than it got items, so no answer can be assigned to this item.
    Mismatch {
        /// The number of items.
        items: usize,
        /// The number of answers.
        answers: usize,
    },
    /// The handler was cancelled with its scope while it ran.
    Cancelled,
}

/// The error of [`Batcher::post`](super::Batcher::post). It contains the item.
#[non_exhaustive]
pub enum PostError<T> {
    /// The batcher is closed, or its scope is cancelled or has ended.
    Closed(T),
    /// The item alone is heavier than a batch may be.
    TooHeavy {
        /// The item.
        item: T,
        /// The weight of the item.
        weight: u64,
        /// [`max_weight`](super::BatcherBuilder::max_weight).
        max: u64,
    },
    /// `max_waiting` items and `max_in_line` callers are already waiting; for [`try_post`](super::Batcher::try_post),
    /// `max_waiting` items.
    Full(T),
}

/// The error of [`Loader::load`](super::Loader::load).
#[non_exhaustive]
pub enum LoadError<K, E> {
    /// The loader is closed, or its scope is cancelled or has ended. Contains the key, which was not looked up.
    Closed(K),
    /// [`max_in_line`](super::BatcherBuilder::max_in_line) callers are already waiting for capacity. Contains the key. A
    /// retry is sensible later.
    Full(K),
    /// The handler returned an error for this key, or for the whole batch.
    Failed(Arc<E>),
    /// The handler panicked. Contains the message, if it is text.
    Panicked(Arc<str>),
    /// The handler returned more or fewer answers than it got keys, so no answer can be assigned to this key.
    Mismatch {
        /// The number of keys.
        keys: usize,
        /// The number of answers.
        answers: usize,
    },
    /// The handler was cancelled with its scope while it ran.
    Cancelled,
}

/// The error of invalid settings of a batcher or a loader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BatcherConfigError {
    /// `max_items` is 0, so no batch could hold an item.
    #[error("`max_items` is 0; it must be at least 1")]
    NoItems,
    /// `max_weight` is 0, so no batch could hold an item with a weight.
    #[error("`max_weight` is 0; it must be at least 1")]
    NoWeight,
    /// `max_in_flight` is 0, so no batch could run.
    #[error("`max_in_flight` is 0; it must be at least 1")]
    NoneInFlight,
    /// `max_waiting` is below `max_items`, so no batch could be full.
    #[error("`max_waiting` is {max_waiting}; it must be at least `max_items`, which is {max_items}")]
    WaitingBelowBatch {
        /// The setting `max_waiting`.
        max_waiting: usize,
        /// The setting `max_items`.
        max_items: usize,
    },
}

impl<T, E> SubmitError<T, E> {
    /// Returns the item, if it was handed back.
    pub fn into_item(self) -> Option<T> {
        match self {
            Self::Closed(item) | Self::TooHeavy { item, .. } | Self::Full(item) => Some(item),
            _ => None,
        }
    }

    /// Returns `true` if there was no capacity for the item: a retry is sensible later.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Full(_))
    }

    /// Returns the handler's error for this item, if the error is one.
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
            PostError::TooHeavy { item, weight, max } => Self::TooHeavy { item, weight, max },
            PostError::Closed(item) => Self::Closed(item),
            PostError::Full(item) => Self::Full(item),
        }
    }
}

impl<T> PostError<T> {
    /// Returns the item.
    pub fn into_item(self) -> T {
        match self {
            Self::Closed(item) | Self::TooHeavy { item, .. } | Self::Full(item) => item,
        }
    }

    /// Returns `true` if there was no capacity for the item: a retry is sensible later.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Full(_))
    }
}

impl<K, E> LoadError<K, E> {
    /// Returns the key, if it was handed back.
    pub fn into_key(self) -> Option<K> {
        match self {
            Self::Closed(key) | Self::Full(key) => Some(key),
            _ => None,
        }
    }

    /// Returns `true` if there was no capacity for the key: a retry is sensible later.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Full(_))
    }

    pub(super) fn of_batch(failure: Failure<Arc<E>>) -> Self {
        match failure {
            Failure::Failed(error) => Self::Failed(Arc::clone(&error)),
            Failure::Panicked(message) => Self::Panicked(message),
            Failure::Mismatch { items, answers } => Self::Mismatch { keys: items, answers },
            Failure::Cancelled => Self::Cancelled,
        }
    }
}

const CLOSED: &str = "the batcher is closed, or its scope is cancelled or has ended";
const FULL: &str = "too many items are waiting for the batcher (`max_waiting`, `max_in_line`)";
const FAILED: &str = "the item failed";
const BATCH_FAILED: &str = "the batch failed";
const CANCELLED: &str = "the batch was cancelled with its scope";

fn too_heavy(f: &mut fmt::Formatter<'_>, weight: u64, max: u64) -> fmt::Result {
    write!(f, "the item has the weight {weight}, and a batch holds at most {max} (`max_weight`)")
}

fn panicked(f: &mut fmt::Formatter<'_>, message: &str) -> fmt::Result {
    write!(f, "the handler of the batch panicked: {message}")
}

fn mismatch(f: &mut fmt::Formatter<'_>, items: usize, answers: usize) -> fmt::Result {
    write!(f, "the handler returned {answers} answers to {items} items")
}

impl<T, E> fmt::Display for SubmitError<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed(_) => f.write_str(CLOSED),
            Self::TooHeavy { weight, max, .. } => too_heavy(f, *weight, *max),
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
        match self {
            Self::Closed(_) => f.write_str(CLOSED),
            Self::TooHeavy { weight, max, .. } => too_heavy(f, *weight, *max),
            Self::Full(_) => f.write_str(FULL),
        }
    }
}

impl<K, E> fmt::Display for LoadError<K, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed(_) => f.write_str("the loader is closed, or its scope is cancelled or has ended"),
            Self::Full(_) => {
                f.write_str("too many keys are waiting for the loader (`max_waiting`, `max_in_line`)")
            }
            Self::Failed(_) => f.write_str("the key failed"),
            Self::Panicked(message) => panicked(f, message),
            Self::Mismatch { keys, answers } => mismatch(f, *keys, *answers),
            Self::Cancelled => f.write_str(CANCELLED),
        }
    }
}

fn debug_too_heavy(f: &mut fmt::Formatter<'_>, weight: u64, max: u64) -> fmt::Result {
    f.debug_struct("TooHeavy").field("weight", &weight).field("max", &max).finish_non_exhaustive()
}

/// The item need not be `Debug`.
impl<T, E: fmt::Debug> fmt::Debug for SubmitError<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed(_) => f.write_str("Closed(..)"),
            Self::TooHeavy { weight, max, .. } => debug_too_heavy(f, *weight, *max),
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
        match self {
            Self::Closed(_) => f.write_str("Closed(..)"),
            Self::TooHeavy { weight, max, .. } => debug_too_heavy(f, *weight, *max),
            Self::Full(_) => f.write_str("Full(..)"),
        }
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
