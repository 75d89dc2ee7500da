use std::fmt;
use std::mem::ManuallyDrop;

use super::SendError;
use super::core::Core;
use super::counts::NoPlace;
use super::sync::{spin_loop, yield_now};
use crate::mutant;

/// A slot in a queue that is reserved for one item.
///
/// The slot counts as used until the permit is used or dropped, and no other sender can take it.
///
/// # Drop
/// The slot goes to the first sender in line, or becomes free.
#[must_use = "the slot is released when the permit is dropped"]
pub struct Permit<'a, T> {
    pub(super) core: &'a Core<T>,
}

impl<T> Permit<'_, T> {
    /// Sends the item into the slot, without waiting.
    ///
    /// # Errors
    /// [`SendError`] with the item, if the queue was closed after the permit was granted.
    pub fn send(self, item: T) -> Result<(), SendError<T>> {
        let mut item = item;
        let mut looks = 0;
        loop {
            match self.core.push_held(item) {
                Ok(()) => {
                    // The slot is used, so the drop must not release it.
                    let _used = ManuallyDrop::new(self);
                    return Ok(());
                }
                Err((NoPlace::Closed, back)) => return Err(SendError(back)),
                // The receiver that freed the slot is still moving its item out.
                Err((NoPlace::Full | NoPlace::Busy, back)) => item = back,
            }
            looks += 1;
            if looks < 32 { spin_loop() } else { yield_now() }
        }
    }
}

impl<T> Drop for Permit<'_, T> {
    fn drop(&mut self) {
        if !mutant!("queue.keep_permit") {
            self.core.release(1);
        }
    }
}

impl<T> fmt::Debug for Permit<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").finish_non_exhaustive()
    }
}
