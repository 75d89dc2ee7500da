use std::error::Error;
use std::fmt;

/// The error of a stream that could not be set up: its scope has ended, or a setting is invalid. It hands back the stream.
pub struct StreamSetupError<S> {
    pub(super) stream: S,
    pub(super) problem: SetupProblem,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SetupProblem {
    ScopeClosed,
    /// The setting with this name is zero.
    Zero(&'static str),
}

impl<S> StreamSetupError<S> {
    /// Returns `true` if the scope has ended, so that it starts no more tasks.
    #[must_use]
    pub fn is_scope_closed(&self) -> bool {
        self.problem == SetupProblem::ScopeClosed
    }

    /// Returns the stream, of which no item has been taken.
    #[must_use]
    pub fn into_stream(self) -> S {
        self.stream
    }

    pub(super) fn map<T>(self, map: impl FnOnce(S) -> T) -> StreamSetupError<T> {
        StreamSetupError { stream: map(self.stream), problem: self.problem }
    }
}

impl<S> fmt::Display for StreamSetupError<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problem {
            SetupProblem::ScopeClosed => f.write_str("the scope has ended and starts no more tasks"),
            SetupProblem::Zero(setting) => write!(f, "`{setting}` is 0; it must be at least 1"),
        }
    }
}

impl<S> fmt::Debug for StreamSetupError<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamSetupError").field("problem", &self.problem).finish_non_exhaustive()
    }
}

impl<S> Error for StreamSetupError<S> {}
