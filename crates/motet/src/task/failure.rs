//! The failure of a task, on its way from the task to its handle.

use std::collections::BTreeSet;
use std::panic::Location;
use std::sync::{Mutex, PoisonError};

use super::cause::{FindCause, printed};
use super::{Name, TaskError};

/// The failure of a task, which its handle receives.
pub(crate) enum Failure<E> {
    Ended(TaskError<E>),
    /// An error that is reported to nothing but the handle. In a box, so that a task that succeeds does not grow.
    Kept(Box<KeptError<E>>),
}

/// The error of a task, which is logged if the handle of the task is gone.
pub(crate) struct KeptError<E> {
    pub(crate) task: Name,
    pub(crate) site: &'static Location<'static>,
    pub(crate) find_cause: FindCause<E>,
    /// `None` once the handle has received it.
    pub(crate) error: Option<E>,
}

impl<E> Failure<E> {
    /// Converts the failure when the handle receives it.
    pub(crate) fn received(self) -> TaskError<E> {
        match self {
            Self::Ended(error) => error,
            Self::Kept(mut kept) => {
                let error = kept.error.take().expect("taken here alone, which consumes");
                TaskError::Error { task: kept.task.clone(), error }
            }
        }
    }
}

impl<E> Drop for KeptError<E> {
    fn drop(&mut self) {
        let Some(error) = &self.error else { return };
        let (task, site, find_cause) = (&self.task, self.site, self.find_cause);
        if is_first(site) {
            crate::log::warn!(%task, %site, error = printed(&find_cause(error)), "a task failed after its handle was dropped, and its scope does not return errors: await the task; further failures of tasks of this line are logged as DEBUG");
        } else {
            crate::log::debug!(%task, %site, error = printed(&find_cause(error)), "a task failed after its handle was dropped");
        }
    }
}

/// Returns `true` at the first call with a line: an error that is lost in each run of a task is to be fixed once.
pub(crate) fn is_first(site: &'static Location<'static>) -> bool {
    static LOGGED: Mutex<BTreeSet<&Location<'_>>> = Mutex::new(BTreeSet::new());
    LOGGED.lock().unwrap_or_else(PoisonError::into_inner).insert(site)
}
