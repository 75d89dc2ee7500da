//! Macros for log events that catch panics.
//!
//! A subscriber is user code, and so is the `Display` of a user's error. Both may panic, and some events are logged while
//! state is half changed. Therefore all events of this crate use these macros, which catch the panic.

use crate::sync::catch;

/// Runs the closure that builds an event and passes it to the subscriber, and catches its panic, which the panic hook has
/// reported.
pub(crate) fn harmless(event: impl FnOnce()) {
    let _panic = catch(event);
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

// The name `warn` alone would be ambiguous, since it is also an attribute.
pub(crate) use {debug, error, info, warning as warn};
