use std::error::Error;
use std::fmt;

use super::error::{ListenerError, ListenerErrorCause};
use crate::task::Name;

/// The result of an emit: how every listener ended.
#[derive(Debug, Default)]
#[must_use = "it reports which listeners failed"]
pub struct Emitted {
    succeeded: usize,
    skipped: usize,
    /// `Some` if a listener failed or names are kept. A single word, so that the result of a success is small.
    details: Option<Box<Details>>,
}

#[derive(Debug, Default)]
struct Details {
    failed: Vec<ListenerError>,
    /// The listeners that succeeded, if names are kept.
    names: Vec<Name>,
}

impl Emitted {
    /// The number of listeners that succeeded.
    #[must_use]
    pub fn succeeded(&self) -> usize {
        self.succeeded
    }

    /// The names of the listeners that succeeded, in the order in which they ended. Empty unless
    /// [`EmitterBuilder::keep_names`](super::EmitterBuilder::keep_names) is set.
    #[must_use]
    pub fn names(&self) -> &[Name] {
        self.details.as_ref().map_or(&[], |details| &details.names)
    }

    /// The listeners that failed, panicked or timed out, in the order in which they ended.
    #[must_use]
    pub fn failed(&self) -> &[ListenerError] {
        self.details.as_ref().map_or(&[], |details| &details.failed)
    }

    /// The number of listeners that were removed after the emit had begun and before they were called.
    #[must_use]
    pub fn skipped(&self) -> usize {
        self.skipped
    }

    /// Returns `true` if no listener failed.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.failed().is_empty()
    }

    /// Returns the number of listeners that succeeded, or an error if a listener failed.
    ///
    /// # Errors
    /// [`EmitError`] with all listeners that failed. The other listeners have handled the event: a second emit calls
    /// them again.
    pub fn into_result(self) -> Result<usize, EmitError> {
        match self.details {
            Some(details) if !details.failed.is_empty() => Err(EmitError(details.failed)),
            _ => Ok(self.succeeded),
        }
    }

    #[inline]
    pub(super) fn skip(&mut self) {
        self.skipped += 1;
    }

    #[inline]
    pub(super) fn note(&mut self, listener: &Name, named: bool, result: Result<(), ListenerErrorCause>) {
        match result {
            Ok(()) if !named => self.succeeded += 1,
            result => self.note_with_name(listener.clone(), result),
        }
    }

    #[cold]
    fn note_with_name(&mut self, listener: Name, result: Result<(), ListenerErrorCause>) {
        let details = self.details.get_or_insert_default();
        match result {
            Ok(()) => {
                self.succeeded += 1;
                details.names.push(listener);
            }
            Err(cause) => details.failed.push(ListenerError { listener, cause }),
        }
    }
}

/// The error of an emit of which at least one listener failed; its source is the first failure.
#[derive(Debug)]
pub struct EmitError(Vec<ListenerError>);

impl EmitError {
    /// The listeners that failed, in the order in which they ended; never empty.
    #[must_use]
    pub fn listeners(&self) -> &[ListenerError] {
        &self.0
    }
}

impl fmt::Display for EmitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => f.write_str("1 listener failed"),
            count => write!(f, "{count} listeners failed"),
        }
    }
}

impl Error for EmitError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.first().map(|first| first as _)
    }
}
