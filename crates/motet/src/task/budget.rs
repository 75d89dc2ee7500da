//! Tokio's coop budget, shared out in smaller parts than its units.
//!
//! A unit is meant for an operation of I/O or of a channel, of some tens of nanoseconds or more. Where ours take a
//! fraction of that, what keeps them fair costs more than they do: taking the unit, and above all leaving the worker
//! after every 128. So a unit pays for a few of them.

use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::task::{Context, Poll, ready};

use tokio::task::coop::{RestoreOnPending, poll_proceed};

use crate::sim;

/// Operations for a unit: an item into a queue, or out of one; a step of a submit. So many take as long as one of tokio's
/// own channel; with 4 a queue between two threads is twice as fast as with 1, and with 32 no faster than with 4.
const OPERATIONS: u8 = 4;

thread_local! {
    /// How many operations the unit that was spent last has paid for. Of this thread, which is as good as of the task:
    /// whoever goes on and on in one poll has the thread to itself.
    static PAID_FOR: Cell<u8> = const { Cell::new(0) };
}

/// The right to one operation. Dropped, it is given back.
#[must_use = "it is given back when this is dropped"]
pub(crate) struct Share {
    _unit: Option<RestoreOnPending>,
}

/// Asks for a share of the budget; the operation that comes after it has spent the last unit asks for the next.
///
/// What does not come about is not counted, so that all in all no more come about than are paid for.
#[inline(always)]
pub(crate) fn poll_share(cx: &mut Context<'_>) -> Poll<Share> {
    // The simulator suspends tasks by the budget: at each operation, in the same way in each run.
    let is_paid_for = PAID_FOR.get() > 0 && !sim::is_current();
    Poll::Ready(Share { _unit: if is_paid_for { None } else { Some(ready!(poll_proceed(cx))) } })
}

impl Share {
    /// The operation has come about.
    #[inline(always)]
    pub(crate) fn spend(self) {
        PAID_FOR.set((PAID_FOR.get() + 1) % OPERATIONS);
        // Not `made_progress` and a drop that has nothing to restore: that is a call into tokio.
        let _spent = ManuallyDrop::new(self);
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    /// How many operations come about in one poll, each after so many that do not.
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
    async fn only_operations_that_complete_use_the_budget() {
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
