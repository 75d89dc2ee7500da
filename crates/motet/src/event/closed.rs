use std::error::Error;
use std::fmt;

/// The error of an event or a listener that was refused, with that event or listener: the emitter is closed, or the
/// scope of the listener has ended.
///
/// A closed emitter and an ended scope do not open again, so a retry fails too.
pub struct Closed<T>(pub T);

impl<T> fmt::Debug for Closed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Closed").finish_non_exhaustive()
    }
}

impl<T> fmt::Display for Closed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the emitter is closed, or the scope of the listener has ended")
    }
}

impl<T> Error for Closed<T> {}
