use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::task::Name;

/// The error of one run of a child: the child, the moment and the cause.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ChildRunError {
    /// The child.
    pub child: Name,
    /// The moment when the supervisor saw its end.
    pub at: Instant,
    /// The cause.
    pub(super) cause: FailureCause,
}

#[derive(Debug, Clone)]
pub(super) enum FailureCause {
    Error(Arc<dyn Error + Send + Sync>),
    Panicked(String),
    /// Without an error, though it is [`Restart::Permanent`](super::Restart::Permanent).
    Returned,
    /// It did not stop within this time, and was dropped.
    NotStopped(Duration),
}

impl ChildRunError {
    /// Returns `true` if the child panicked.
    #[must_use]
    pub fn is_panic(&self) -> bool {
        matches!(self.cause, FailureCause::Panicked(_))
    }

    /// Returns `true` if the child did not stop within its stop timeout, and was dropped.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self.cause, FailureCause::NotStopped(_))
    }
}

impl fmt::Display for ChildRunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let child = &self.child;
        match &self.cause {
            FailureCause::Error(_) => write!(f, "child `{child}` failed"),
            FailureCause::Panicked(message) => write!(f, "child `{child}` panicked: {message}"),
            FailureCause::Returned => write!(f, "child `{child}` returned, but is permanent"),
            FailureCause::NotStopped(timeout) => {
                write!(f, "child `{child}` did not stop within {timeout:?} and was dropped")
            }
        }
    }
}

impl Error for ChildRunError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.cause {
            FailureCause::Error(error) => Some(&**error),
            FailureCause::Panicked(_) | FailureCause::Returned | FailureCause::NotStopped(_) => None,
        }
    }
}

/// The error of a supervisor whose children failed more often than its intensity allows.
///
/// All children have been stopped when it is returned. A retry makes sense only once the cause of the failures is fixed.
#[derive(Debug)]
#[non_exhaustive]
pub struct SupervisorError {
    /// The supervisor.
    pub supervisor: Name,
    /// The child whose failure exceeded the intensity.
    pub child: Name,
    /// The allowed number of restarts in `within`.
    pub max_restarts: u32,
    /// The length of the window of restarts.
    pub within: Duration,
    /// The last failures of all children, at most eight, the decisive one last.
    pub failures: Vec<ChildRunError>,
}

impl fmt::Display for SupervisorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { supervisor, child, max_restarts, within, .. } = self;
        let restarts = if *max_restarts == 1 { "restart" } else { "restarts" };
        write!(
            f,
            "supervisor `{supervisor}` gave up on `{child}` after {max_restarts} {restarts} in {within:?}"
        )
    }
}

impl Error for SupervisorError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.failures.last().map(|last| last as _)
    }
}
