use std::error::Error;
use std::fmt;

/// Refuses an event or a listener, and hands it back: the emitter is closed, or the scope of the listener has ended.
///
/// Neither opens again, so a retry is of no use.
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
