use std::error::Error;
use std::fmt;
use std::time::Duration;

use crate::task::Name;

/// Says that a listener did not come to a good end, and which.
#[derive(Debug)]
pub struct ListenerFailed {
    pub(super) listener: Name,
    pub(super) cause: Cause,
}

/// What went wrong with a listener.
#[derive(Debug)]
#[non_exhaustive]
pub enum Cause {
    /// It returned this error.
    Failed(Box<dyn Error + Send + Sync>),
    /// It panicked, with these words.
    Panicked(String),
    /// It took longer than this, and was dropped.
    TimedOut(Duration),
}

impl ListenerFailed {
    /// Gives the name of the listener.
    #[must_use]
    pub fn listener(&self) -> &str {
        self.listener.as_str()
    }

    /// Says what went wrong.
    #[must_use]
    pub fn cause(&self) -> &Cause {
        &self.cause
    }

    /// Says what went wrong, by value.
    #[must_use]
    pub fn into_cause(self) -> Cause {
        self.cause
    }
}

impl fmt::Display for ListenerFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let listener = &self.listener;
        match &self.cause {
            Cause::Failed(_) => write!(f, "listener `{listener}` failed"),
            Cause::Panicked(message) => write!(f, "listener `{listener}` panicked: {message}"),
            Cause::TimedOut(limit) => write!(f, "listener `{listener}` took longer than {limit:?}"),
        }
    }
}

impl Error for ListenerFailed {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.cause {
            Cause::Failed(error) => Some(&**error),
            Cause::Panicked(_) | Cause::TimedOut(_) => None,
        }
    }
}
