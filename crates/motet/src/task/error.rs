use std::convert::Infallible;
use std::error::Error;
use std::fmt;

use super::{Name, Reason};

/// Says why a scope did not give its value.
///
/// A panic is none of these: a scope rethrows it.
#[derive(Debug)]
#[non_exhaustive]
pub enum ScopeError<E = Infallible> {
    /// The body or a child returned an error.
    Failed {
        /// What failed first.
        first: ChildError<E>,
        /// What else failed before all had ended, in order.
        others: Vec<ChildError<E>>,
        /// Releases that failed after that.
        release: Vec<ReleaseError>,
    },
    /// The scope was cancelled before its body was done.
    Cancelled {
        /// Why, by whom and when.
        reason: Reason,
        /// Releases that failed after that.
        release: Vec<ReleaseError>,
    },
    /// The deadline passed before the body or a child was done.
    DeadlineExceeded {
        /// Children that were waiting when it passed; at most 32 are named.
        unfinished: Vec<Name>,
        /// Releases that failed after that.
        release: Vec<ReleaseError>,
    },
    /// Body and children were done, but these resources could not be released.
    Release(Vec<ReleaseError>),
}

/// An error with the name of the task that returned it.
#[derive(Debug)]
pub struct ChildError<E> {
    /// The task; `None` for the scope's body.
    pub task: Option<Name>,
    /// What it returned.
    pub error: E,
}

/// Says that the release of a resource failed, timed out or panicked.
#[derive(Debug)]
pub struct ReleaseError {
    pub(crate) resource: Name,
    pub(crate) source: ReleaseErrorCause,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ReleaseErrorCause {
    #[error(transparent)]
    Returned(Box<dyn Error + Send + Sync>),
    #[error("it took longer than {0:?} and was dropped")]
    TimedOut(std::time::Duration),
    #[error("it panicked: {0}")]
    Panicked(String),
    #[error("the runtime went away")]
    CutOff,
    #[error("its scope has ended without it")]
    ScopeEnded,
}

impl ReleaseError {
    /// Gives the name of the resource.
    #[must_use]
    pub fn resource(&self) -> &str {
        self.resource.as_str()
    }

    /// Asks whether the release took longer than it was allowed.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self.source, ReleaseErrorCause::TimedOut(_))
    }

    /// Asks whether the release panicked.
    #[must_use]
    pub fn is_panic(&self) -> bool {
        matches!(self.source, ReleaseErrorCause::Panicked(_))
    }
}

impl fmt::Display for ReleaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "release of `{}` failed", self.resource)
    }
}

impl Error for ReleaseError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.source {
            ReleaseErrorCause::Returned(error) => Some(&**error),
            own => Some(own),
        }
    }
}

impl<E> ScopeError<E> {
    /// Gives the first error that the body or a child returned; `None` if the scope ended for another reason.
    pub fn into_error(self) -> Option<E> {
        match self {
            Self::Failed { first, .. } => Some(first.error),
            Self::Cancelled { .. } | Self::DeadlineExceeded { .. } | Self::Release(_) => None,
        }
    }

    /// Asks whether the scope was cancelled before its body was done.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Cancelled { .. })
    }

    /// Asks whether the deadline passed.
    #[must_use]
    pub fn is_deadline(&self) -> bool {
        matches!(self, Self::DeadlineExceeded { .. })
    }

    /// Gives the releases that failed.
    #[must_use]
    pub fn release_failures(&self) -> &[ReleaseError] {
        match self {
            Self::Failed { release, .. }
            | Self::Cancelled { release, .. }
            | Self::DeadlineExceeded { release, .. }
            | Self::Release(release) => release,
        }
    }
}

impl<E> fmt::Display for ScopeError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed { first, others, .. } => {
                match &first.task {
                    Some(task) => write!(f, "task `{task}` failed")?,
                    None => f.write_str("the body of the scope failed")?,
                }
                match others.len() {
                    0 => Ok(()),
                    more => write!(f, ", and {more} more"),
                }
            }
            Self::Cancelled { reason, .. } => write!(f, "the scope was cancelled: {reason}"),
            Self::DeadlineExceeded { unfinished, .. } => {
                f.write_str("the scope's deadline passed")?;
                for (at, name) in unfinished.iter().enumerate() {
                    write!(f, "{}`{name}`", if at == 0 { " before the end of " } else { ", " })?;
                }
                Ok(())
            }
            Self::Release(failed) => {
                f.write_str("resources could not be released:")?;
                for (at, one) in failed.iter().enumerate() {
                    write!(f, "{} `{}`", if at == 0 { "" } else { "," }, one.resource)?;
                }
                Ok(())
            }
        }
    }
}

impl<E: Error + 'static> Error for ScopeError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Failed { first, .. } => Some(&first.error),
            Self::Cancelled { .. } | Self::DeadlineExceeded { .. } => None,
            Self::Release(failed) => failed.first().and_then(Error::source),
        }
    }
}

/// Says why a task did not give its value.
///
/// Being cancelled is not a failure of the scope: only whoever awaits the task hears of it.
#[derive(Debug)]
#[non_exhaustive]
pub enum TaskError<E = Infallible> {
    /// It returned an error, and the scope isolates its tasks.
    Error {
        /// The task.
        task: Name,
        /// What it returned.
        error: E,
    },
    /// It returned an error, which the scope has and will return.
    Reported {
        /// The task.
        task: Name,
    },
    /// It was cancelled.
    Cancelled {
        /// The task.
        task: Name,
        /// Why.
        reason: Reason,
    },
    /// It was started with [`Nursery::start`](super::Nursery::start) and returned before it was ready.
    NeverReady {
        /// The task.
        task: Name,
    },
    /// It panicked. Unless it isolates its tasks, the scope rethrows the panic.
    Panicked {
        /// The task.
        task: Name,
        /// The words of the panic.
        message: String,
    },
}

impl<E> TaskError<E> {
    /// Gives the name of the task.
    #[must_use]
    pub fn task(&self) -> &str {
        match self {
            Self::Error { task, .. }
            | Self::Reported { task }
            | Self::NeverReady { task }
            | Self::Cancelled { task, .. }
            | Self::Panicked { task, .. } => task.as_str(),
        }
    }

    /// Gives the task's own error; `None` if it ended for another reason, or its scope has the error.
    pub fn into_error(self) -> Option<E> {
        match self {
            Self::Error { error, .. } => Some(error),
            Self::Reported { .. }
            | Self::NeverReady { .. }
            | Self::Cancelled { .. }
            | Self::Panicked { .. } => None,
        }
    }

    /// Asks whether the task was cancelled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Cancelled { .. })
    }
}

impl TaskError {
    pub(crate) fn widen<E>(self) -> TaskError<E> {
        match self {
            Self::Error { error, .. } => match error {},
            Self::Reported { task } => TaskError::Reported { task },
            Self::NeverReady { task } => TaskError::NeverReady { task },
            Self::Cancelled { task, reason } => TaskError::Cancelled { task, reason },
            Self::Panicked { task, message } => TaskError::Panicked { task, message },
        }
    }
}

impl<E: fmt::Debug> fmt::Display for TaskError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Error { task, error } => write!(f, "task `{task}` failed: {error:?}"),
            Self::Reported { task } => write!(f, "task `{task}` failed; its scope has the error"),
            Self::NeverReady { task } => write!(f, "task `{task}` returned before it was ready"),
            Self::Cancelled { task, reason } => write!(f, "task `{task}` was cancelled: {reason}"),
            Self::Panicked { task, message } => write!(f, "task `{task}` panicked: {message}"),
        }
    }
}

// For any `E` that can be shown, so that `?` works in a scope whose error is a boxed one, which is no `Error`.
impl<E: fmt::Debug> Error for TaskError<E> {}

/// Gives back what a closed scope did not take.
///
/// A scope closes when its body, children, services and cleanups have ended. Its children can always start
/// more; only a handle that outlived the scope meets this.
pub struct ScopeClosedError<F>(pub F);

impl<F> fmt::Debug for ScopeClosedError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ScopeClosedError").finish_non_exhaustive()
    }
}

impl<F> fmt::Display for ScopeClosedError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the scope has ended and takes no more tasks")
    }
}

impl<F> Error for ScopeClosedError<F> {}
