use std::error::Error;
use std::fmt;

use super::failed::{Cause, ListenerFailed};
use crate::task::Name;

/// What became of an event: how every listener ended.
#[derive(Debug, Default)]
#[must_use = "it says which listeners failed"]
pub struct Emitted {
    succeeded: usize,
    skipped: usize,
    /// There if a listener failed, or names were asked for: a word, so that a success carries next to nothing.
    details: Option<Box<Details>>,
}

#[derive(Debug, Default)]
struct Details {
    failed: Vec<ListenerFailed>,
    /// Those that succeeded, where they were asked for.
    names: Vec<Name>,
}

impl Emitted {
    /// Counts the listeners that came to a good end.
    #[must_use]
    pub fn succeeded(&self) -> usize {
        self.succeeded
    }

    /// Names the listeners that came to a good end, in the order in which they did. Empty unless it was asked for by
    /// [`Emit::with_names`](super::Emit::with_names).
    #[must_use]
    pub fn names(&self) -> &[Name] {
        self.details.as_ref().map_or(&[], |details| &details.names)
    }

    /// Gives the listeners that failed, panicked or timed out, in the order in which they did.
    #[must_use]
    pub fn failed(&self) -> &[ListenerFailed] {
        self.details.as_ref().map_or(&[], |details| &details.failed)
    }

    /// Counts the listeners that went off after the emit had begun and before it came to them.
    #[must_use]
    pub fn skipped(&self) -> usize {
        self.skipped
    }

    /// Asks whether no listener failed.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.failed().is_empty()
    }

    /// Gives how many listeners succeeded, or an error if one did not.
    ///
    /// # Errors
    /// [`EmitFailed`] with all that failed. The others have heard the event: a second emit tells them twice.
    pub fn into_result(self) -> Result<usize, EmitFailed> {
        match self.details {
            Some(details) if !details.failed.is_empty() => Err(EmitFailed(details.failed)),
            _ => Ok(self.succeeded),
        }
    }

    #[inline]
    pub(super) fn skip(&mut self) {
        self.skipped += 1;
    }

    #[inline]
    pub(super) fn note(&mut self, listener: &Name, named: bool, result: Result<(), Cause>) {
        match result {
            Ok(()) if !named => self.succeeded += 1,
            result => self.note_with_name(listener.clone(), result),
        }
    }

    #[cold]
    fn note_with_name(&mut self, listener: Name, result: Result<(), Cause>) {
        let details = self.details.get_or_insert_default();
        match result {
            Ok(()) => {
                self.succeeded += 1;
                details.names.push(listener);
            }
            Err(cause) => details.failed.push(ListenerFailed { listener, cause }),
        }
    }
}

/// Says that at least one listener failed; its source is the first.
#[derive(Debug)]
pub struct EmitFailed(Vec<ListenerFailed>);

impl EmitFailed {
    /// Gives all that failed, the first one first; never empty.
    #[must_use]
    pub fn listeners(&self) -> &[ListenerFailed] {
        &self.0
    }
}

impl fmt::Display for EmitFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => f.write_str("a listener did not come to a good end"),
            count => write!(f, "{count} listeners did not come to a good end"),
        }
    }
}

impl Error for EmitFailed {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.first().map(|first| first as _)
    }
}
