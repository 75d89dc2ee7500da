use std::sync::Arc;
use std::{fmt, mem};

use super::compartment::Shared;
use crate::mutant;

/// A permit of a [`Bulkhead`](super::Bulkhead).
///
/// # Drop
/// The permit is free, and goes to the first waiter.
#[must_use = "a permit that is dropped is free again"]
pub struct BulkheadPermit<'a>(Held<'a>);

enum Held<'a> {
    Borrowed(&'a Arc<Shared>),
    Owned(Arc<Shared>),
    Moved,
}

impl<'a> BulkheadPermit<'a> {
    pub(super) fn new(shared: &'a Arc<Shared>) -> Self {
        Self(Held::Borrowed(shared))
    }

    /// Turns the permit into one that does not borrow the handle, for a call that outlives it. The permit counts as
    /// another handle.
    pub fn into_owned(mut self) -> BulkheadPermit<'static> {
        BulkheadPermit(match mem::replace(&mut self.0, Held::Moved) {
            Held::Borrowed(shared) => Held::Owned(Arc::clone(shared)),
            Held::Owned(shared) => Held::Owned(shared),
            Held::Moved => Held::Moved,
        })
    }
}

impl Drop for BulkheadPermit<'_> {
    fn drop(&mut self) {
        let shared = match &self.0 {
            Held::Borrowed(shared) => *shared,
            Held::Owned(shared) => shared,
            Held::Moved => return,
        };
        shared.line.leave(!mutant!("bulkhead.keep_place"));
    }
}

impl fmt::Debug for BulkheadPermit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BulkheadPermit").finish_non_exhaustive()
    }
}
