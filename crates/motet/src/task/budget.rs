//! Tokio's coop budget, divided into smaller parts than its units.
//!
//! A unit is meant for one operation of I/O or of a channel, of some tens of nanoseconds or more. An operation of motet can
//! take a fraction of that; then the unit costs more than the operation, and so does leaving the worker after every 128
//! units. Therefore one unit pays for several operations.

use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::task::{Context, Poll, ready};

use tokio::task::coop::{RestoreOnPending, poll_proceed};

use crate::sim;

/// The operations that one unit pays for: an item sent or received, a step of a submit. Four of them take as long as one
/// operation of tokio's channel. With 4, a queue between two threads is twice as fast as with 1; with 32 it is no faster.
const OPERATIONS: u8 = 4;

thread_local! {
    /// The operations that the last spent unit still pays for. It is kept per thread instead of per task: a task that does
    /// many operations in one poll has the thread to itself.
    static PAID_FOR: Cell<u8> = const { Cell::new(0) };
}

/// A permit for one operation. Dropping it returns it.
#[must_use = "it is given back when this is dropped"]
pub(crate) struct Share {
    _unit: Option<RestoreOnPending>,
}

/// Takes a part of the budget. When the last unit is used up, the next operation takes a further unit.
///
/// An operation that does not take place is not counted, so that no more operations take place than were paid for.
#[inline(always)]
pub(crate) fn poll_share(cx: &mut Context<'_>) -> Poll<Share> {
    // The simulator suspends tasks by the budget: at each operation, in the same way in each run.
    let is_paid_for = PAID_FOR.get() > 0 && !sim::is_current();
    Poll::Ready(Share { _unit: if is_paid_for { None } else { Some(ready!(poll_proceed(cx))) } })
}

impl Share {
    /// Records that the operation took place.
    #[inline(always)]
    pub(crate) fn spend(self) {
        PAID_FOR.set((PAID_FOR.get() + 1) % OPERATIONS);
        // `made_progress` and a drop that restores nothing would be a further call into tokio.
        let _spent = ManuallyDrop::new(self);
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    /// Counts the operations that take place in one poll, each after a number of operations that do not.
    async fn in_one_poll(attempts: usize) -> usize {
        poll_fn(|cx| {
            let mut count = 0;
            while count < 100_000 {
                for _ in 0..attempts {
                    drop(poll_share(cx));
                }
                let Poll::Ready(share) = poll_share(cx) else { break };
                share.spend();
                count += 1;
            }
            Poll::Ready(count)
        })
        .await
    }

    #[tokio::test]
    async fn only_operations_that_complete_use_the_coop_budget() {
        let mut units = 0;
        poll_fn(|cx| {
            while let Poll::Ready(unit) = poll_proceed(cx) {
                unit.made_progress();
                units += 1;
            }
            Poll::Ready(())
        })
        .await;
        for attempts in 0..5 {
            tokio::task::yield_now().await;
            let count = in_one_poll(attempts).await;
            let most = units * usize::from(OPERATIONS);
            assert!((most - 3..=most + 3).contains(&count), "{count} with {attempts} attempts each");
        }
    }
}
