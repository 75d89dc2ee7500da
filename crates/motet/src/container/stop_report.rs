use std::error::Error;
use std::fmt;
use std::panic::Location;
use std::time::Duration;

use super::factory::BoxError;
use crate::task::{Name, ReleaseError};

/// How the components of a container were stopped.
#[derive(Debug, Default)]
pub struct StopReport {
    pub(crate) components: Vec<Stopped>,
    pub(crate) took: Duration,
    pub(crate) cut_off: bool,
}

/// How a component was stopped.
#[derive(Debug)]
#[non_exhaustive]
pub struct Stopped {
    /// Its module and type.
    pub name: Name,
    /// Where it was provided.
    pub site: &'static Location<'static>,
    /// How long it took.
    pub took: Duration,
    /// What went wrong, in order. Nothing of it kept the next from being stopped.
    pub failures: Vec<StopFailed>,
}

impl StopReport {
    /// Gives the components that had been built, in the order in which their stop ended.
    #[must_use]
    pub fn components(&self) -> &[Stopped] {
        &self.components
    }

    /// Says how long it took.
    #[must_use]
    pub fn took(&self) -> Duration {
        self.took
    }

    /// Gives those with which something went wrong.
    pub fn failures(&self) -> impl Iterator<Item = &Stopped> {
        self.components.iter().filter(|component| !component.failures.is_empty())
    }

    /// Asks whether the stop was cut off, by the end of the runtime or by code that blocked for longer than all of it may
    /// take: what became of the components is not known then.
    #[must_use]
    pub fn is_cut_off(&self) -> bool {
        self.cut_off
    }

    /// Asks whether nothing went wrong.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        !self.cut_off && self.failures().next().is_none()
    }

    /// The report of a stop that did not come to its end.
    pub(crate) fn of_cut_off() -> Self {
        Self { cut_off: true, ..Self::default() }
    }

    /// The same for who has room for an error alone.
    pub(crate) fn to_result(&self) -> Result<(), BoxError> {
        let mut words = String::new();
        for component in self.failures() {
            let before = if words.is_empty() { "could not be stopped as they should:" } else { "," };
            words.push_str(&format!("{before} `{}`", component.name));
            for failure in &component.failures {
                words.push_str(&format!(" ({failure}"));
                let mut source = failure.source();
                while let Some(error) = source {
                    words.push_str(&format!(": {error}"));
                    source = error.source();
                }
                words.push(')');
            }
        }
        if words.is_empty() { Ok(()) } else { Err(words.into()) }
    }
}

impl fmt::Display for StopReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.cut_off {
            return f.write_str("the stop was cut off");
        }
        write!(f, "stopped {} in {:?}", self.components.len(), self.took)?;
        for component in &self.components {
            write!(f, "\n  `{}` in {:?}", component.name, component.took)?;
            for (at, failure) in component.failures.iter().enumerate() {
                write!(f, "{} {failure}", if at == 0 { ":" } else { ";" })?;
            }
        }
        Ok(())
    }
}

/// Something that went wrong while a component was stopped.
#[derive(Debug)]
pub struct StopFailed(pub(crate) StopCause);

#[derive(Debug)]
pub(crate) enum StopCause {
    Returned(BoxError),
    Panicked(String),
    TimedOut(Duration),
    /// A task of the component.
    TaskPanicked(String),
    /// A cleanup that it had deferred, or a resource of its scope.
    Release(ReleaseError),
    /// Tasks and cleanups of its scope, which the scope around waits for now.
    Left(Duration),
    /// The drop of the value.
    DropPanicked(String),
}

impl StopFailed {
    /// Asks whether something took longer than it was allowed.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        match &self.0 {
            StopCause::TimedOut(_) | StopCause::Left(_) => true,
            StopCause::Release(failed) => failed.is_timeout(),
            _ => false,
        }
    }

    /// Asks whether something panicked.
    #[must_use]
    pub fn is_panic(&self) -> bool {
        match &self.0 {
            StopCause::Panicked(_) | StopCause::TaskPanicked(_) | StopCause::DropPanicked(_) => true,
            StopCause::Release(failed) => failed.is_panic(),
            _ => false,
        }
    }
}

impl fmt::Display for StopFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            StopCause::Returned(_) => f.write_str("`on_stop` failed"),
            StopCause::Panicked(message) => write!(f, "`on_stop` panicked: {message}"),
            StopCause::TimedOut(limit) => write!(f, "`on_stop` took longer than {limit:?} and was dropped"),
            StopCause::TaskPanicked(message) => write!(f, "a task of it panicked: {message}"),
            StopCause::Release(failed) => failed.fmt(f),
            StopCause::Left(limit) => write!(f, "its tasks and cleanups did not end within {limit:?}"),
            StopCause::DropPanicked(message) => write!(f, "its drop panicked: {message}"),
        }
    }
}

impl Error for StopFailed {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.0 {
            StopCause::Returned(error) => Some(&**error),
            StopCause::Release(failed) => failed.source(),
            _ => None,
        }
    }
}
