use std::convert::Infallible;
use std::error::Error;
use std::fmt;

use super::cause::{Cause, FindCause, opaque};
use super::{Name, Reason};

/// The error of a scope that did not return its value.
///
/// A panic is not reported here: the scope rethrows it.
///
/// It implements [`Error`] also where `E` is a boxed error or `anyhow::Error`, so `?` converts it like any other error. Its
/// source is the first error of the body or a child; an `E` that is a text is a part of the message.
/// [`into_error`](Self::into_error) returns that error itself. `docs/guide/scopes.md` has a program for each kind of `E`.
#[derive(Debug)]
#[non_exhaustive]
pub enum ScopeError<E = Infallible> {
    /// The body or a child returned an error.
    Failed {
        /// The first error.
        first: ChildError<E>,
        /// Further errors, in the order in which they were returned.
        others: Vec<ChildError<E>>,
        /// Releases that failed afterwards.
        release: Vec<ReleaseError>,
    },
    /// The scope was cancelled before its body returned.
    Cancelled {
        /// The reason.
        reason: Reason,
        /// Releases that failed afterwards.
        release: Vec<ReleaseError>,
    },
    /// The deadline passed before the body and all children had ended.
    DeadlineExceeded {
        /// Children that had not ended at the deadline; at most 32 are named.
        unfinished: Vec<Name>,
        /// Releases that failed afterwards.
        release: Vec<ReleaseError>,
    },
    /// The body and all children succeeded, but these releases failed.
    Release(Vec<ReleaseError>),
}

/// An error of a child of a scope, with the name of the task that returned it.
pub struct ChildError<E> {
    /// The task; `None` for the body of the scope.
    pub task: Option<Name>,
    /// The error that the task returned.
    pub error: E,
    find_cause: FindCause<E>,
}

impl<E> ChildError<E> {
    /// The code that returns the error of a scope sets how its cause is found: a child does not know.
    pub(crate) fn new(task: Option<Name>, error: E) -> Self {
        Self { task, error, find_cause: opaque }
    }

    pub(crate) fn found_by(self, find_cause: FindCause<E>) -> Self {
        Self { find_cause, ..self }
    }

    fn cause(&self) -> Cause<'_> {
        (self.find_cause)(&self.error)
    }

    /// Prints the error with the number of further errors.
    fn print(&self, f: &mut fmt::Formatter<'_>, others: usize) -> fmt::Result {
        match &self.task {
            Some(task) => write!(f, "task `{task}` failed")?,
            None => f.write_str("the body of the scope failed")?,
        }
        if others > 0 {
            write!(f, ", and {others} more")?;
        }
        match self.cause() {
            Cause::Text(text) => write!(f, ": {text}"),
            Cause::Source(_) | Cause::Opaque => Ok(()),
        }
    }
}

impl<E: fmt::Debug> fmt::Debug for ChildError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildError").field("task", &self.task).field("error", &self.error).finish()
    }
}

impl<E> fmt::Display for ChildError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.print(f, 0)
    }
}

impl<E: fmt::Debug> Error for ChildError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self.cause() {
            Cause::Source(error) => Some(error),
            Cause::Text(_) | Cause::Opaque => None,
        }
    }
}

/// The error of a release that failed, timed out or panicked.
#[derive(Debug)]
pub struct ReleaseError {
    pub(crate) resource: Name,
    pub(crate) source: ReleaseErrorCause,
}

#[derive(Debug)]
pub(crate) enum ReleaseErrorCause {
    Returned(Box<dyn Error + Send + Sync>),
    TimedOut(std::time::Duration),
    Panicked(String),
    CutOff,
    ScopeEnded,
}

impl fmt::Display for ReleaseErrorCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Returned(error) => error.fmt(f),
            Self::TimedOut(timeout) => write!(f, "it took longer than {timeout:?} and was dropped"),
            Self::Panicked(message) => write!(f, "it panicked: {message}"),
            Self::CutOff => f.write_str("the runtime shut down first"),
            Self::ScopeEnded => f.write_str("its scope ended before the release started"),
        }
    }
}

impl Error for ReleaseErrorCause {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Returned(error) => error.source(),
            _ => None,
        }
    }
}

impl ReleaseError {
    /// The name of the resource.
    #[must_use]
    pub fn resource(&self) -> &str {
        self.resource.as_str()
    }

    /// Returns `true` if the release exceeded its timeout.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self.source, ReleaseErrorCause::TimedOut(_))
    }

    /// Returns `true` if the release panicked.
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
    /// Returns the first error of the body or a child; `None` if the scope ended for another reason.
    pub fn into_error(self) -> Option<E> {
        match self {
            Self::Failed { first, .. } => Some(first.error),
            Self::Cancelled { .. } | Self::DeadlineExceeded { .. } | Self::Release(_) => None,
        }
    }

    /// Returns `true` if the scope was cancelled before its body returned.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Cancelled { .. })
    }

    /// Returns `true` if the deadline passed.
    #[must_use]
    pub fn is_deadline(&self) -> bool {
        matches!(self, Self::DeadlineExceeded { .. })
    }

    /// The releases that failed.
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
            Self::Failed { first, others, .. } => first.print(f, others.len()),
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

impl<E: fmt::Debug> Error for ScopeError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Failed { first, .. } => first.source(),
            Self::Cancelled { .. } | Self::DeadlineExceeded { .. } => None,
            Self::Release(failed) => failed.first().and_then(Error::source),
        }
    }
}

/// The error of a task that did not return its value.
///
/// A cancelled task does not make its scope fail: only the caller that awaits the task receives the error.
#[derive(Debug)]
#[non_exhaustive]
pub enum TaskError<E = Infallible> {
    /// The task returned an error, and either its scope has [`Policy::Isolate`](super::Policy::Isolate), or the task was
    /// spawned by [`Nursery::start`](super::Nursery::start) and was not ready yet.
    Error {
        /// The task.
        task: Name,
        /// The error that the task returned.
        error: E,
    },
    /// The task returned an error, which the scope keeps and returns.
    Reported {
        /// The task.
        task: Name,
    },
    /// The task was cancelled.
    Cancelled {
        /// The task.
        task: Name,
        /// The reason.
        reason: Reason,
    },
    /// The task was spawned by [`Nursery::start`](super::Nursery::start), and returned before it was ready.
    NeverReady {
        /// The task.
        task: Name,
    },
    /// The task panicked. The scope rethrows the panic, unless it isolates tasks.
    Panicked {
        /// The task.
        task: Name,
        /// The message of the panic.
        message: String,
    },
}

impl<E> TaskError<E> {
    /// The name of the task.
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

    /// Returns the error of the task; `None` if the task ended for another reason, or its scope has the error.
    pub fn into_error(self) -> Option<E> {
        match self {
            Self::Error { error, .. } => Some(error),
            Self::Reported { .. }
            | Self::NeverReady { .. }
            | Self::Cancelled { .. }
            | Self::Panicked { .. } => None,
        }
    }

    /// Returns `true` if the task was cancelled.
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

// For every `E: Debug`, so that `?` also works in a scope with a boxed error, which does not implement `Error`.
impl<E: fmt::Debug> Error for TaskError<E> {}

/// The error of a scope that has ended. It hands back the future or closure that the scope refused.
///
/// A scope closes when its body, children, services and cleanups have ended. Its children can always start further
/// children: only a handle that outlived its scope is refused. A stopped container refuses likewise.
pub struct ScopeClosedError<F> {
    scope: Name,
    refused: F,
    /// The scope is open, but its container is stopped.
    container: bool,
}

impl<F> ScopeClosedError<F> {
    pub(crate) fn new(scope: &Name, refused: F) -> Self {
        Self { scope: scope.clone(), refused, container: false }
    }

    /// The error of a stopped container in the scope.
    pub(crate) fn of_container(scope: &Name, refused: F) -> Self {
        Self { container: true, ..Self::new(scope, refused) }
    }

    /// The name of the scope.
    #[must_use]
    pub fn scope(&self) -> &str {
        self.scope.as_str()
    }

    /// Like `self`, with another value in the place of the refused one.
    #[cfg(any(feature = "metrics", feature = "tokio-util"))]
    pub(crate) fn map<T>(self, change: impl FnOnce(F) -> T) -> ScopeClosedError<T> {
        let Self { scope, refused, container } = self;
        ScopeClosedError { scope, refused: change(refused), container }
    }

    /// Returns the future or closure that was refused.
    pub fn into_inner(self) -> F {
        self.refused
    }
}

impl<F> fmt::Debug for ScopeClosedError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScopeClosedError").field("scope", &self.scope).finish_non_exhaustive()
    }
}

impl<F> fmt::Display for ScopeClosedError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scope, container, .. } = self;
        match container {
            false => write!(f, "the scope `{scope}` has ended and starts no more tasks"),
            true => write!(f, "the container in the scope `{scope}` is stopped"),
        }
    }
}

impl<F> Error for ScopeClosedError<F> {}
