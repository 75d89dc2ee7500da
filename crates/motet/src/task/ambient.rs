//! Which scope the code that runs now belongs to.
//!
//! A scope that is opened without a word about its parent becomes a child of the scope whose task opens it.
//! The handle is moved into the thread's slot for the time of a poll and moved back: no reference is counted.

use std::cell::Cell;
use std::sync::Arc;

use super::core::Core;

thread_local! {
    static CURRENT: Cell<Option<Arc<Core>>> = const { Cell::new(None) };
}

/// Puts `slot` into place until it is dropped; `slot` holds what was there before.
pub(crate) struct Inside<'a>(&'a mut Option<Arc<Core>>);

impl<'a> Inside<'a> {
    pub(crate) fn enter(slot: &'a mut Option<Arc<Core>>) -> Self {
        swap(slot);
        Self(slot)
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        swap(self.0);
    }
}

fn swap(slot: &mut Option<Arc<Core>>) {
    // While a thread ends its slot is gone: nothing can be opened there any more.
    let _ = CURRENT.try_with(|current| *slot = current.replace(slot.take()));
}

/// The scope that the code which runs now belongs to.
pub(crate) fn current() -> Option<Arc<Core>> {
    CURRENT
        .try_with(|current| {
            let core = current.take();
            current.set(core.clone());
            core
        })
        .ok()
        .flatten()
}
