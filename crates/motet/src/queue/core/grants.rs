//! Operations under the lock: grants to waiters, and items that came back or are due later.

use tokio::time::Instant;

use super::super::counts::{Claim, NoItem};
use super::super::place::Place;
use super::super::store::Entry;
use super::super::sync::Ordering;
use super::super::waiters::{State, Wakes};
use super::{Core, Slow, Take, flag};
use crate::mutant;

impl<T> Core<T> {
    /// Takes an item from the front or from the storage. For `Claim::Open`, no receiver may be in line.
    pub(in crate::queue) fn take_any(
        &self,
        slow: &mut Slow<T>,
        claim: Claim,
        take: Take,
        wakes: &mut Wakes,
    ) -> Result<Entry<T>, NoItem> {
        let may = claim == Claim::Granted || self.counts.has_unpromised(slow.front.len());
        let Some(entry) = slow.front.pop_front_if(|_| may) else {
            let entry = self.take(claim, take)?;
            self.grant_places(slow, wakes);
            return Ok(entry);
        };
        if claim == Claim::Granted {
            self.counts.unpromise();
        }
        if slow.front.is_empty() && slow.later.len() == 0 {
            self.lower(slow, flag::ASIDE);
        }
        if take == Take::Settled {
            self.counts.release(1);
            self.unsettled.0.fetch_sub(1, Ordering::SeqCst);
            self.grant_places(slow, wakes);
        }
        Ok(entry)
    }

    /// Grants free slots to the senders in line: to the first as many as it wants, then to the next.
    pub(in crate::queue) fn grant_places(&self, slow: &mut Slow<T>, wakes: &mut Wakes) {
        while let Some(first) = slow.senders.first()
            && let Ok(places) = self.counts.hold(slow.senders.want(first))
        {
            wakes.add(slow.senders.settle(first, State::Granted(places)));
        }
        if slow.senders.waiting() == 0 {
            self.lower(slow, flag::SENDERS);
        }
    }

    /// Grants items to the receivers in line.
    pub(in crate::queue) fn grant_items(&self, slow: &mut Slow<T>, wakes: &mut Wakes) {
        while let Some(first) = slow.receivers.first()
            && self.counts.promise(slow.front.len())
        {
            wakes.add(slow.receivers.settle(first, State::Granted(1)));
        }
        if slow.receivers.waiting() == 0 {
            self.lower(slow, flag::RECEIVERS);
        }
        self.mind_timer(slow, wakes);
    }

    /// Ensures that one of the parked receivers has a timer for the earliest due time.
    pub(in crate::queue) fn mind_timer(&self, slow: &mut Slow<T>, wakes: &mut Wakes) {
        if let Some(key) = slow.timer
            && (slow.later.len() == 0 || slow.receivers.state(key) != State::Waiting)
        {
            slow.timer = None;
        }
        if slow.timer.is_none()
            && slow.later.len() > 0
            && let Some(first) = slow.receivers.first()
        {
            // The receiver reads the clock when it is polled.
            wakes.add(slow.receivers.nudge(first));
        }
    }

    /// Stores an item that is due later.
    pub(in crate::queue) fn schedule(
        &self,
        slow: &mut Slow<T>,
        entry: Entry<T>,
        due: Instant,
        wakes: &mut Wakes,
    ) {
        let first = slow.later.next_due().is_none_or(|next| due < next);
        slow.later.push(entry, due);
        self.raise(slow, flag::ASIDE);
        match slow.timer {
            Some(key) if first && !mutant!("queue.keep_timer") => wakes.add(slow.receivers.nudge(key)),
            _ => self.mind_timer(slow, wakes),
        }
    }

    /// Moves the items that are due by now to the front: of the queue, or of their rank if items have ranks.
    pub(in crate::queue) fn advance(&self, slow: &mut Slow<T>) {
        if slow.later.len() == 0 {
            return;
        }
        let now = Instant::now();
        let Place::Store(store) = &self.place else {
            while let Some(entry) = slow.later.pop_due(now) {
                slow.front.push_back(entry);
            }
            return;
        };
        let due: Vec<Entry<T>> = std::iter::from_fn(|| slow.later.pop_due(now)).collect();
        // In reverse order, so that the first item ends up before the others.
        for entry in due.into_iter().rev() {
            store.push_front(&self.counts, entry);
            self.forget_lease(slow);
        }
        if slow.later.len() == 0 {
            self.lower(slow, flag::ASIDE);
        }
    }
}
