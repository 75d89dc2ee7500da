use std::fmt;
use std::mem::ManuallyDrop;

use super::SendError;
use super::core::Core;
use super::counts::NoPlace;
use super::sync::{spin_loop, yield_now};
use crate::mutant;

/// A place in a queue, held for one item.
///
/// It counts towards the capacity until it is used or dropped; nobody can take the place away.
///
/// # Drop
/// The place goes to the sender that is first in line, or is free.
#[must_use = "the place is given up when this is dropped"]
pub struct Permit<'a, T> {
    pub(super) core: &'a Core<T>,
}

impl<T> Permit<'_, T> {
    /// Sends the item into the place: at once.
    ///
    /// # Errors
    /// [`SendError`] with the item, if the queue has been closed since.
    pub fn send(self, item: T) -> Result<(), SendError<T>> {
        let mut item = item;
        let mut looks = 0;
        loop {
            match self.core.push_held(item) {
                Ok(()) => {
                    // Nothing is left to be given up.
                    let _used = ManuallyDrop::new(self);
                    return Ok(());
                }
                Err((NoPlace::Closed, back)) => return Err(SendError(back)),
                // The receiver that made the room is not quite done with it.
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
