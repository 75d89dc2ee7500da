use std::error::Error;
use std::fmt;
use std::panic::Location;
use std::time::Duration;

use super::factory::BoxError;
use crate::task::cause::with_sources;
use crate::task::{Name, ReleaseError};

/// The report of a container's stop.
#[derive(Debug, Default)]
pub struct StopReport {
    pub(crate) components: Vec<Stopped>,
    pub(crate) took: Duration,
    pub(crate) cut_off: bool,
}

/// The stop of a component.
#[derive(Debug)]
#[non_exhaustive]
#[allow(unnameable_types, reason = "users read it through its report")]
pub struct Stopped {
    /// The module and the type of the component.
    pub name: Name,
    /// The place where it was provided.
    pub site: &'static Location<'static>,
    /// The duration of the stop.
    pub took: Duration,
    /// The failures, in order. No failure prevented the following steps of the stop. Each has `is_timeout()` and
    /// `is_panic()`.
    pub failures: Vec<StopError>,
}

impl StopReport {
    /// The components that had been built, in the order in which their stop ended.
    #[must_use]
    pub fn components(&self) -> &[Stopped] {
        &self.components
    }

    /// The duration of the whole stop.
    #[must_use]
    pub fn took(&self) -> Duration {
        self.took
    }

    /// The components whose stop had failures.
    pub fn failures(&self) -> impl Iterator<Item = &Stopped> {
        self.components.iter().filter(|component| !component.failures.is_empty())
    }

    /// Returns `true` if the stop did not finish: the runtime shut down, or code blocked the thread for longer than the
    /// time limit of the whole stop. The state of the components is unknown then.
    #[must_use]
    pub fn is_cut_off(&self) -> bool {
        self.cut_off
    }

    /// Returns `true` if the stop finished without failures.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        !self.cut_off && self.failures().next().is_none()
    }

    /// The report of a stop that did not finish.
    pub(crate) fn of_cut_off() -> Self {
        Self { cut_off: true, ..Self::default() }
    }

    /// Returns the report as a `Result` with a single error.
    pub(crate) fn to_result(&self) -> Result<(), BoxError> {
        let mut words = String::new();
        for component in self.failures() {
            let before = if words.is_empty() { "components failed to stop:" } else { "," };
            words.push_str(&format!("{before} `{}`", component.name));
            for failure in &component.failures {
                words.push_str(&format!(" ({})", with_sources(failure)));
            }
        }
        if words.is_empty() { Ok(()) } else { Err(words.into()) }
    }
}

impl fmt::Display for StopReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.cut_off {
            return f.write_str("the stop did not finish");
        }
        write!(f, "components stopped: {}, in {:?}", self.components.len(), self.took)?;
        for component in &self.components {
            write!(f, "\n  `{}` in {:?}", component.name, component.took)?;
            for (at, failure) in component.failures.iter().enumerate() {
                write!(f, "{} {failure}", if at == 0 { ":" } else { ";" })?;
            }
        }
        Ok(())
    }
}

/// A failure during the stop of a component.
#[derive(Debug)]
#[allow(unnameable_types, reason = "users read it through its report")]
pub struct StopError(pub(crate) StopCause);

#[derive(Debug)]
pub(crate) enum StopCause {
    Returned(BoxError),
    Panicked(String),
    TimedOut(Duration),
    /// A task of the component panicked.
    TaskPanicked(String),
    /// A cleanup that the component deferred, or the release of a resource of its scope, failed.
    Release(ReleaseError),
    /// Tasks and cleanups of the component did not end in time; the enclosing scope waits for them.
    Left(Duration),
    /// The drop of the value panicked.
    DropPanicked(String),
}

impl StopError {
    /// Returns `true` if a step of the stop exceeded its time limit.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        match &self.0 {
            StopCause::TimedOut(_) | StopCause::Left(_) => true,
            StopCause::Release(failed) => failed.is_timeout(),
            _ => false,
        }
    }

    /// Returns `true` if a step of the stop panicked.
    #[must_use]
    pub fn is_panic(&self) -> bool {
        match &self.0 {
            StopCause::Panicked(_) | StopCause::TaskPanicked(_) | StopCause::DropPanicked(_) => true,
            StopCause::Release(failed) => failed.is_panic(),
            _ => false,
        }
    }
}

impl fmt::Display for StopError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            StopCause::Returned(_) => f.write_str("`on_stop` failed"),
            StopCause::Panicked(message) => write!(f, "`on_stop` panicked: {message}"),
            StopCause::TimedOut(limit) => write!(f, "`on_stop` took longer than {limit:?} and was dropped"),
            StopCause::TaskPanicked(message) => write!(f, "a task of the component panicked: {message}"),
            StopCause::Release(failed) => failed.fmt(f),
            StopCause::Left(limit) => write!(f, "its tasks and cleanups did not end within {limit:?}"),
            StopCause::DropPanicked(message) => write!(f, "the drop of the component panicked: {message}"),
        }
    }
}

impl Error for StopError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.0 {
            StopCause::Returned(error) => Some(&**error),
            StopCause::Release(failed) => failed.source(),
            _ => None,
        }
    }
}
