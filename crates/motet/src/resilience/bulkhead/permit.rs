use std::sync::Arc;
use std::{fmt, mem};

use super::compartment::Shared;
use crate::mutant;

/// A place in a [`Bulkhead`](super::Bulkhead).
///
/// # Drop
/// The place is free, and goes to whoever waits first.
#[must_use = "the place is free when the permit is dropped"]
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

    /// Makes a permit that borrows nothing, for a call that outlives the handle. It counts one more handle.
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
