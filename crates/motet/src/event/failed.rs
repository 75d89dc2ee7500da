use std::error::Error;
use std::fmt;
use std::time::Duration;

use crate::task::Name;

/// The failure of a listener, with the name of the listener.
#[derive(Debug)]
pub struct ListenerFailed {
    pub(super) listener: Name,
    pub(super) cause: Cause,
}

/// The cause of a listener's failure.
#[derive(Debug)]
#[non_exhaustive]
pub enum Cause {
    /// The listener returned this error.
    Failed(Box<dyn Error + Send + Sync>),
    /// The listener panicked with this message.
    Panicked(String),
    /// The listener took longer than this duration, and was dropped.
    TimedOut(Duration),
}

impl ListenerFailed {
    /// The name of the listener.
    #[must_use]
    pub fn listener(&self) -> &str {
        self.listener.as_str()
    }

    /// The cause of the failure.
    #[must_use]
    pub fn cause(&self) -> &Cause {
        &self.cause
    }

    /// Returns the cause of the failure.
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
