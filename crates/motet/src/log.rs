//! Log events that cannot harm what they report on.
//!
//! A subscriber is foreign code, and so is the `Display` of a user's error. Either may panic, and events are logged where
//! state is half changed. So every event of this crate goes through these macros: a panic ends in them.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::task::core::panic_words;

/// Runs what builds an event and hands it to the subscriber. A panic in it ends here; the panic hook has reported it.
pub(crate) fn harmless(event: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(event)) {
        // The payload's own drop may panic as well.
        let _words = panic_words(payload);
    }
}

macro_rules! error {
    ($($event:tt)*) => { $crate::log::harmless(|| ::tracing::event!(::tracing::Level::ERROR, $($event)*)) };
}
macro_rules! warning {
    ($($event:tt)*) => { $crate::log::harmless(|| ::tracing::event!(::tracing::Level::WARN, $($event)*)) };
}
macro_rules! info {
    ($($event:tt)*) => { $crate::log::harmless(|| ::tracing::event!(::tracing::Level::INFO, $($event)*)) };
}
macro_rules! debug {
    ($($event:tt)*) => { $crate::log::harmless(|| ::tracing::event!(::tracing::Level::DEBUG, $($event)*)) };
}

// `warn` alone is an attribute, and would be ambiguous.
pub(crate) use {debug, error, info, warning as warn};
