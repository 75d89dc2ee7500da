//! Operations under the lock: grants to waiters, and items that came back or are due later.

use tokio::time::Instant;

use super::atomics::Ordering;
use super::core::{QueueCore, SlowState, Take, flag};
use super::cursors::{Claim, NoItem};
use super::orders::Entry;
use super::storage::Storage;
use super::waiters::WaiterState;
use crate::mutant;
use crate::sync::WakeList;

impl<T> QueueCore<T> {
    /// Takes an item from the front or from the storage. For `Claim::Open`, no receiver may be in line.
    pub(super) fn take_any(
        &self,
        slow: &mut SlowState<T>,
        claim: Claim,
        take: Take,
        wakes: &mut WakeList,
    ) -> Result<Entry<T>, NoItem> {
        let may = claim == Claim::Granted || self.cursors.has_unpromised(slow.front.len());
        let Some(entry) = slow.front.pop_front_if(|_| may) else {
            let entry = self.take(claim, take)?;
            self.grant_slots(slow, wakes);
            return Ok(entry);
        };
        if claim == Claim::Granted {
            self.cursors.unpromise();
        }
        if slow.front.is_empty() && slow.later.len() == 0 {
            self.lower(slow, flag::ASIDE);
        }
        if take == Take::Settled {
            self.cursors.release(1);
            self.unsettled.0.fetch_sub(1, Ordering::SeqCst);
            self.grant_slots(slow, wakes);
        }
        Ok(entry)
    }

    /// Grants free slots to the senders in line: to the first as many as it wants, then to the next.
    pub(super) fn grant_slots(&self, slow: &mut SlowState<T>, wakes: &mut WakeList) {
        while let Some(first) = slow.senders.first()
            && let Ok(slots) = self.cursors.hold(slow.senders.want(first))
        {
            wakes.extend(slow.senders.settle(first, WaiterState::Granted(slots)));
        }
        if slow.senders.waiting() == 0 {
            self.lower(slow, flag::SENDERS);
        }
    }

    /// Grants items to the receivers in line.
    pub(super) fn grant_items(&self, slow: &mut SlowState<T>, wakes: &mut WakeList) {
        while let Some(first) = slow.receivers.first()
            && self.cursors.promise(slow.front.len())
        {
            wakes.extend(slow.receivers.settle(first, WaiterState::Granted(1)));
        }
        if slow.receivers.waiting() == 0 {
            self.lower(slow, flag::RECEIVERS);
        }
        self.ensure_timer(slow, wakes);
    }

    /// Ensures that one of the parked receivers has a timer for the earliest due time.
    pub(super) fn ensure_timer(&self, slow: &mut SlowState<T>, wakes: &mut WakeList) {
        if let Some(key) = slow.timer
            && (slow.later.len() == 0 || slow.receivers.state(key) != WaiterState::Waiting)
        {
            slow.timer = None;
        }
        if slow.timer.is_none()
            && slow.later.len() > 0
            && let Some(first) = slow.receivers.first()
        {
            // The receiver reads the clock when it is polled.
            wakes.extend(slow.receivers.nudge(first));
        }
    }

    /// Stores an item that is due later.
    pub(super) fn schedule(
        &self,
        slow: &mut SlowState<T>,
        entry: Entry<T>,
        due: Instant,
        wakes: &mut WakeList,
    ) {
        let mut first = slow.later.next_due().is_none_or(|next| due < next);
        if mutant!("queue.keep_timer") {
            first = false;
        }
        slow.later.push(entry, due);
        self.raise(slow, flag::ASIDE);
        match slow.timer {
            Some(key) if first => wakes.extend(slow.receivers.nudge(key)),
            _ => self.ensure_timer(slow, wakes),
        }
    }

    /// Moves the items that are due by now to the front: of the queue, or of their rank if items have ranks.
    pub(super) fn advance(&self, slow: &mut SlowState<T>) {
        if slow.later.len() == 0 {
            return;
        }
        let now = Instant::now();
        let Storage::Store(store) = &self.storage else {
            while let Some(entry) = slow.later.pop_due(now) {
                slow.front.push_back(entry);
            }
            return;
        };
        let due: Vec<Entry<T>> = std::iter::from_fn(|| slow.later.pop_due(now)).collect();
        // In reverse order, so that the first item ends up before the others.
        for entry in due.into_iter().rev() {
            store.push_front(&self.cursors, entry);
            self.forget_lease(slow);
        }
        if slow.later.len() == 0 {
            self.lower(slow, flag::ASIDE);
        }
    }
}
