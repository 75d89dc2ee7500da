use std::fmt;
use std::sync::Arc;

use super::bulkhead::BulkheadShared;
use crate::mutant;
use crate::resilience::policy_handle::PolicyHandle;

/// A permit of a [`Bulkhead`](super::Bulkhead).
///
/// # Drop
/// The permit is free, and goes to the first waiter.
#[must_use = "a permit that is dropped is free again"]
pub struct BulkheadPermit<'a>(PolicyHandle<'a, BulkheadShared>);

impl<'a> BulkheadPermit<'a> {
    pub(super) fn new(shared: &'a Arc<BulkheadShared>) -> Self {
        Self(PolicyHandle::Borrowed(shared))
    }

    /// Turns the permit into one that does not borrow the handle, for a call that outlives it. The permit counts as
    /// another handle.
    pub fn into_owned(mut self) -> BulkheadPermit<'static> {
        BulkheadPermit(self.0.take_owned())
    }
}

impl Drop for BulkheadPermit<'_> {
    fn drop(&mut self) {
        let Some(shared) = self.0.get() else { return };
        if mutant!("bulkhead.keep_place") {
            shared.line.leave_without_permit();
            return;
        }
        shared.line.leave();
    }
}

impl fmt::Debug for BulkheadPermit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BulkheadPermit").finish_non_exhaustive()
    }
}
