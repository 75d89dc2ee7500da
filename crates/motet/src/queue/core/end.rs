//! The end of a queue, and who waits for it.

use super::super::counts::{Claim, NoItem};
use super::super::sync::{Ordering, yield_now};
use super::super::waiters::{State, Wakes};
use super::{Core, Slow, flag};
use crate::mutant;

impl<T> Core<T> {
    /// Whether nothing is inside, and nothing can come back.
    pub(in crate::queue) fn is_settled(&self) -> bool {
        // A lease counts itself before its item leaves its place. What is sent by whoever works on the last item is
        // inside before that is settled, so the two are asked as of one moment.
        self.counts.is_empty_while(|| self.unsettled() == 0) || self.has(flag::FENCED)
    }

    pub(in crate::queue) fn is_finished(&self) -> bool {
        self.counts.is_closed() && self.is_settled()
    }

    /// Wakes those who wait for the last item to be settled, if it is.
    pub(in crate::queue) fn look_whether_settled(&self) {
        if !self.has(flag::WATCHED) || !self.is_settled() {
            return;
        }
        let mut wakes = Wakes::default();
        let mut slow = self.lock();
        // Under the lock: what comes back to a store is for a moment counted twice, never not at all.
        if !self.is_settled() {
            return;
        }
        if self.counts.is_closed() {
            self.dismiss_receivers(&mut slow, &mut wakes);
        }
        drop(slow);
        self.settled.notify_waiters();
        wakes.wake();
    }

    fn dismiss_receivers(&self, slow: &mut Slow<T>, wakes: &mut Wakes) {
        while let Some(first) = slow.receivers.first() {
            wakes.add(slow.receivers.settle(first, State::Released));
        }
        self.lower(slow, flag::RECEIVERS);
        self.mind_timer(slow, wakes);
    }

    /// Lets no more items in, and refuses those who wait to bring one.
    pub(in crate::queue) fn close(&self) {
        let first = self.counts.close();
        let mut wakes = Wakes::default();
        let mut slow = self.lock();
        self.raise(&slow, flag::WATCHED);
        while let Some(sender) = slow.senders.first()
            && !mutant!("queue.close_and_tell_nobody")
        {
            wakes.add(slow.senders.settle(sender, State::Released));
        }
        if slow.senders.waiting() == 0 {
            self.lower(&slow, flag::SENDERS);
        }
        drop(slow);
        wakes.wake();
        if first {
            self.closed.notify_waiters();
        }
        self.look_whether_settled();
    }

    /// Closes, and takes out all that is inside.
    pub(in crate::queue) fn end(&self, how: End) -> Vec<T> {
        self.close();
        // Nobody finds the queue settled before it is known what was left.
        self.unsettled.0.fetch_add(1, Ordering::SeqCst);
        let mut wakes = Wakes::default();
        let mut slow = self.lock();
        // Together: what a holder gives back from now on was not left behind.
        self.raise(&slow, flag::ENDED | if how == End::Handed { flag::FENCED } else { 0 });
        let mut left: Vec<T> = slow.front.drain(..).map(|entry| entry.item).collect();
        let due_later: Vec<T> = slow.later.drain().map(|entry| entry.item).collect();
        self.lower(&slow, flag::ASIDE);
        self.dismiss_receivers(&mut slow, &mut wakes);
        drop(slow);
        wakes.wake();
        let aside = left.len() + due_later.len();
        (0..aside).for_each(|_| self.counts.release(1));
        loop {
            match self.place.pop(&self.counts, Claim::All) {
                Ok(entry) => left.push(entry.item),
                Err(NoItem::Empty) => break,
                // A sender on another thread is about to write it.
                Err(NoItem::Busy) => yield_now(),
            }
        }
        left.extend(due_later);
        if how == End::Abandoned {
            self.lock().abandoned += left.len();
        }
        self.unsettled.0.fetch_sub(aside + 1, Ordering::SeqCst);
        self.look_whether_settled();
        left
    }

    /// Whether all is settled, with how many were left behind.
    pub(in crate::queue) fn outcome(&self) -> Option<usize> {
        let slow = self.lock();
        self.is_settled().then_some(slow.abandoned)
    }

    /// Asks to be told when all is settled.
    pub(in crate::queue) fn watch(&self) -> Watch<'_, T> {
        let mut slow = self.lock();
        slow.joiners += 1;
        self.raise(&slow, flag::WATCHED);
        Watch(self)
    }
}

/// What becomes of the items of a queue that ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::queue) enum End {
    /// The caller has them, and leases are void.
    Handed,
    /// Nobody is there to take them.
    Abandoned,
}

pub(in crate::queue) struct Watch<'a, T>(&'a Core<T>);

impl<T> Drop for Watch<'_, T> {
    fn drop(&mut self) {
        let mut slow = self.0.lock();
        slow.joiners -= 1;
        if slow.joiners == 0 && !self.0.counts.is_closed() {
            self.0.lower(&slow, flag::WATCHED);
        }
    }
}
