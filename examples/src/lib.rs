//! What the example programs share: a [`Journal`] of what they do.

mod journal;

pub use journal::Journal;
