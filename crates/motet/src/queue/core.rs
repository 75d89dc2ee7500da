//! What all handles of a queue share: the quick way to an item, which takes no lock, and the wakes after it.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, OnceLock, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

use super::counts::{Claim, Counts, NoItem, NoPlace};
use super::letters::Letters;
use super::place::Place;
use super::store::{Entry, Later};
use super::sync::{AtomicU32, AtomicUsize, Mutex, MutexGuard, Ordering, Padded, in_one_order};
use super::waiters::{Key, State, Waiters, Wakes};
use crate::mutant;
use crate::observe::Registration;

/// What an operation must know before it takes the quick way, in one word that is seldom written.
pub(super) mod flag {
    /// Senders are in line: no newcomer goes before them, and whoever makes room grants it to them.
    pub(in super::super) const SENDERS: u32 = 1;
    /// Receivers are in line.
    pub(in super::super) const RECEIVERS: u32 = 2;
    /// Items came back from leases, or are due later: they come before those in the ring.
    pub(in super::super) const ASIDE: u32 = 4;
    /// Somebody waits for the last item to be settled.
    pub(in super::super) const WATCHED: u32 = 8;
    /// Nothing is handed out any more.
    pub(in super::super) const ENDED: u32 = 16;
    /// Leases are void.
    pub(in super::super) const FENCED: u32 = 32;
}

pub(super) struct Core<T> {
    pub(super) counts: Counts,
    pub(super) place: Place<T>,
    flags: Padded<AtomicU32>,
    slow: Mutex<Slow<T>>,
    /// Items that were handed out as leases and are not settled: with a holder, returned, due later, or on their way
    /// to the dead letters. Counted before the item leaves its place, so that it is never in neither.
    unsettled: AtomicUsize,
    senders: AtomicUsize,
    receivers: AtomicUsize,
    pub(super) closed: Notify,
    pub(super) settled: Notify,
    pub(super) letters: Option<Arc<dyn Letters<T>>>,
    pub(super) registration: OnceLock<Registration>,
}

/// What is touched only by those who wait, who wake them, and who bring something back.
pub(super) struct Slow<T> {
    pub(super) senders: Waiters,
    pub(super) receivers: Waiters,
    /// Ready, and before all in the place; each holds its place by count.
    pub(super) front: VecDeque<Entry<T>>,
    pub(super) later: Later<T>,
    /// The parked receiver that has set its timer to what is due first.
    pub(super) timer: Option<Key>,
    joiners: usize,
    pub(super) abandoned: usize,
}

/// What becomes of an item that is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Take {
    /// It is settled, and its place is free.
    Settled,
    /// It is leased, and keeps its place.
    Leased,
}

impl<T> Core<T> {
    pub(super) fn new(counts: Counts, place: Place<T>, letters: Option<Arc<dyn Letters<T>>>) -> Self {
        Self {
            counts,
            place,
            flags: Padded(AtomicU32::new(0)),
            slow: Mutex::new(Slow {
                senders: Waiters::default(),
                receivers: Waiters::default(),
                front: VecDeque::new(),
                later: Later::new(),
                timer: None,
                joiners: 0,
                abandoned: 0,
            }),
            unsettled: AtomicUsize::new(0),
            senders: AtomicUsize::new(1),
            receivers: AtomicUsize::new(1),
            closed: Notify::new(),
            settled: Notify::new(),
            letters,
            registration: OnceLock::new(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Slow<T>> {
        self.slow.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[inline(always)]
    pub(super) fn has(&self, flags: u32) -> bool {
        in_one_order();
        self.flags.0.load(Ordering::SeqCst) & flags != 0
    }

    /// Flags are written under the lock.
    pub(super) fn raise(&self, _: &Slow<T>, flags: u32) {
        self.flags.0.fetch_or(flags, Ordering::SeqCst);
        in_one_order();
    }

    pub(super) fn lower(&self, _: &Slow<T>, flags: u32) {
        if self.has(flags) {
            self.flags.0.fetch_and(!flags, Ordering::SeqCst);
        }
    }

    pub(super) fn unsettled(&self) -> usize {
        self.unsettled.load(Ordering::SeqCst)
    }

    // Items in.

    /// Moves an item in as a newcomer, who goes before nobody in line.
    #[inline(always)]
    pub(super) fn push(&self, item: T) -> Result<(), (NoPlace, T)> {
        if self.has(flag::SENDERS) {
            let why = if self.counts.is_closed() { NoPlace::Closed } else { NoPlace::Full };
            return Err((why, item));
        }
        if let Place::Later(_) = &self.place {
            return self.push_later(item);
        }
        self.place.push(&self.counts, Claim::Open, item)?;
        self.after_push();
        Ok(())
    }

    #[cold]
    fn push_later(&self, item: T) -> Result<(), (NoPlace, T)> {
        if let Err(why) = self.counts.hold() {
            return Err((why, item));
        }
        self.push_held(item).inspect_err(|_| self.release())
    }

    /// Moves an item into a place that the caller holds. It is held still when the item comes back.
    pub(super) fn push_held(&self, item: T) -> Result<(), (NoPlace, T)> {
        if let Place::Later(due) = &self.place {
            let due = due(&item);
            let mut wakes = Wakes::default();
            let mut slow = self.lock();
            if self.counts.is_closed() {
                return Err((NoPlace::Closed, item));
            }
            self.unsettled.fetch_add(1, Ordering::SeqCst);
            self.schedule(&mut slow, Entry::new(item), due, &mut wakes);
            drop(slow);
            wakes.wake();
            return Ok(());
        }
        self.place.push(&self.counts, Claim::Granted, item)?;
        self.after_push();
        Ok(())
    }

    /// Moves in as many as there is room for now.
    pub(super) fn push_many(&self, items: &mut VecDeque<T>) -> Result<(), NoPlace> {
        if self.has(flag::SENDERS) {
            return Err(if self.counts.is_closed() { NoPlace::Closed } else { NoPlace::Full });
        }
        self.place.push_many(&self.counts, items)?;
        self.after_push();
        Ok(())
    }

    /// Wakes for items that came in. The claim before it and the parking of receivers are in one order for all
    /// threads, so either a receiver that parks finds the item, or this finds the receiver.
    #[inline(always)]
    fn after_push(&self) {
        if self.has(flag::RECEIVERS) && !mutant!("queue.lose_wake") {
            self.feed_receivers();
        }
    }

    #[cold]
    fn feed_receivers(&self) {
        let mut wakes = Wakes::default();
        let mut slow = self.lock();
        self.grant_items(&mut slow, &mut wakes);
        drop(slow);
        wakes.wake();
    }

    // Items out.

    /// Takes an item as a newcomer and settles it, if nothing speaks against the quick way.
    #[inline(always)]
    pub(super) fn pop_quickly(&self) -> Result<T, NoItem> {
        if self.has(flag::RECEIVERS | flag::ASIDE | flag::ENDED) {
            return Err(NoItem::Empty);
        }
        let item = self.place.pop_item(&self.counts, Claim::Open)?;
        self.after_take();
        Ok(item)
    }

    /// Takes an item as a newcomer, if nothing speaks against the quick way.
    pub(super) fn take_quickly(&self, take: Take) -> Result<Entry<T>, NoItem> {
        if self.has(flag::RECEIVERS | flag::ASIDE | flag::ENDED) {
            return Err(NoItem::Empty);
        }
        let taken = self.take(Claim::Open, take);
        // Also after a lease that came to nothing: somebody may have seen the counts that were ahead.
        if taken.is_ok() || take == Take::Leased {
            self.after_take();
        }
        taken
    }

    /// Takes more items, if nothing speaks against the quick way.
    pub(super) fn take_many(&self, into: &mut Vec<T>, most: usize) -> usize {
        if most == 0 || self.has(flag::RECEIVERS | flag::ASIDE | flag::ENDED) {
            return 0;
        }
        let taken = self.place.pop_many(&self.counts, Claim::Open, into, most).unwrap_or(0);
        if taken > 0 {
            self.after_take();
        }
        taken
    }

    /// Takes an item from its place, and wakes nobody.
    fn take(&self, claim: Claim, take: Take) -> Result<Entry<T>, NoItem> {
        match take {
            Take::Settled => self.place.pop(&self.counts, claim),
            Take::Leased if self.counts.len() == 0 => Err(NoItem::Empty),
            Take::Leased => {
                // Both before the item is taken: its place must not look free, nor it settled.
                self.unsettled.fetch_add(1, Ordering::SeqCst);
                let taken = match self.counts.hold_for_item() {
                    true => self.place.pop(&self.counts, claim).inspect_err(|_| self.counts.release()),
                    false => Err(NoItem::Busy),
                };
                if taken.is_err() {
                    self.unsettled.fetch_sub(1, Ordering::SeqCst);
                }
                taken
            }
        }
    }

    /// Wakes for the room that was made. As [`after_push`](Self::after_push).
    #[inline(always)]
    pub(super) fn after_take(&self) {
        if self.has(flag::SENDERS | flag::WATCHED) {
            self.feed_senders();
        }
    }

    #[cold]
    fn feed_senders(&self) {
        if self.has(flag::SENDERS) {
            let mut wakes = Wakes::default();
            let mut slow = self.lock();
            self.grant_places(&mut slow, &mut wakes);
            drop(slow);
            wakes.wake();
        }
        self.look_whether_settled();
    }

    // What is held.

    /// Holds a place as a newcomer.
    pub(super) fn hold(&self) -> Result<(), NoPlace> {
        if self.has(flag::SENDERS) {
            return Err(if self.counts.is_closed() { NoPlace::Closed } else { NoPlace::Full });
        }
        self.counts.hold()
    }

    /// Gives up a place that was held for nothing.
    pub(super) fn release(&self) {
        self.counts.release();
        self.after_take();
    }

    /// Settles an item that was leased.
    pub(super) fn settle(&self) {
        self.counts.release();
        self.unsettled.fetch_sub(1, Ordering::SeqCst);
        self.after_take();
    }

    /// A lease whose item is back where items are counted by position.
    pub(super) fn forget_lease(&self, _: &Slow<T>) {
        self.unsettled.fetch_sub(1, Ordering::SeqCst);
    }

    // Under the lock.

    /// Takes an item by whatever way; for a newcomer nobody is in line.
    pub(super) fn take_any(
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
            self.counts.release();
            self.unsettled.fetch_sub(1, Ordering::SeqCst);
            self.grant_places(slow, wakes);
        }
        Ok(entry)
    }

    /// Grants places to the senders in line.
    pub(super) fn grant_places(&self, slow: &mut Slow<T>, wakes: &mut Wakes) {
        while let Some(first) = slow.senders.first()
            && self.counts.hold().is_ok()
        {
            wakes.add(slow.senders.settle(first, State::Granted));
        }
        if slow.senders.waiting() == 0 {
            self.lower(slow, flag::SENDERS);
        }
    }

    /// Grants items to the receivers in line.
    pub(super) fn grant_items(&self, slow: &mut Slow<T>, wakes: &mut Wakes) {
        while let Some(first) = slow.receivers.first()
            && self.counts.promise(slow.front.len())
        {
            wakes.add(slow.receivers.settle(first, State::Granted));
        }
        if slow.receivers.waiting() == 0 {
            self.lower(slow, flag::RECEIVERS);
        }
        self.mind_timer(slow, wakes);
    }

    /// Sees to it that one of the parked receivers has a timer for what is due first.
    pub(super) fn mind_timer(&self, slow: &mut Slow<T>, wakes: &mut Wakes) {
        if let Some(key) = slow.timer
            && (slow.later.len() == 0 || slow.receivers.state(key) != State::Waiting)
        {
            slow.timer = None;
        }
        if slow.timer.is_none()
            && slow.later.len() > 0
            && let Some(first) = slow.receivers.first()
        {
            // It looks at the time when it is polled.
            wakes.add(slow.receivers.nudge(first));
        }
    }

    /// Puts away what is due later.
    pub(super) fn schedule(&self, slow: &mut Slow<T>, entry: Entry<T>, due: Instant, wakes: &mut Wakes) {
        let first = slow.later.next_due().is_none_or(|next| due < next);
        slow.later.push(entry, due);
        self.raise(slow, flag::ASIDE);
        match slow.timer {
            Some(key) if first && !mutant!("queue.keep_timer") => wakes.add(slow.receivers.nudge(key)),
            _ => self.mind_timer(slow, wakes),
        }
    }

    /// Moves what is due by now to the front.
    pub(super) fn advance(&self, slow: &mut Slow<T>) {
        if slow.later.len() == 0 {
            return;
        }
        let now = Instant::now();
        while let Some(entry) = slow.later.pop_due(now) {
            slow.front.push_back(entry);
        }
    }

    // The end.

    /// Whether nothing is inside, and nothing can come back.
    pub(super) fn is_settled(&self) -> bool {
        // In this order: a lease counts itself before its item leaves its place.
        (self.counts.len() == 0 && self.unsettled() == 0) || self.has(flag::FENCED)
    }

    pub(super) fn is_finished(&self) -> bool {
        self.counts.is_closed() && self.is_settled()
    }

    /// Wakes those who wait for the last item to be settled, if it is.
    pub(super) fn look_whether_settled(&self) {
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
    pub(super) fn close(&self) {
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
    pub(super) fn end(&self, how: End) -> Vec<T> {
        self.close();
        // Nobody finds the queue settled before it is known what was left.
        self.unsettled.fetch_add(1, Ordering::SeqCst);
        let mut wakes = Wakes::default();
        let mut slow = self.lock();
        self.raise(&slow, flag::ENDED);
        let mut left: Vec<T> = slow.front.drain(..).map(|entry| entry.item).collect();
        let due_later: Vec<T> = slow.later.drain().map(|entry| entry.item).collect();
        self.lower(&slow, flag::ASIDE);
        self.dismiss_receivers(&mut slow, &mut wakes);
        drop(slow);
        wakes.wake();
        let aside = left.len() + due_later.len();
        (0..aside).for_each(|_| self.counts.release());
        loop {
            match self.place.pop(&self.counts, Claim::All) {
                Ok(entry) => left.push(entry.item),
                Err(NoItem::Empty) => break,
                // A sender on another thread is about to write it.
                Err(NoItem::Busy) => super::sync::yield_now(),
            }
        }
        left.extend(due_later);
        let mut slow = self.lock();
        match how {
            End::Handed => self.raise(&slow, flag::FENCED),
            End::Abandoned => slow.abandoned += left.len(),
        }
        drop(slow);
        self.unsettled.fetch_sub(aside + 1, Ordering::SeqCst);
        self.look_whether_settled();
        left
    }

    /// Whether all is settled, with how many were left behind.
    pub(super) fn outcome(&self) -> Option<usize> {
        let slow = self.lock();
        self.is_settled().then_some(slow.abandoned)
    }

    /// Asks to be told when all is settled.
    pub(super) fn watch(&self) -> Watch<'_, T> {
        let mut slow = self.lock();
        slow.joiners += 1;
        self.raise(&slow, flag::WATCHED);
        Watch(self)
    }

    // Handles.

    pub(super) fn add_sender(&self) {
        self.senders.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn drop_sender(&self) {
        if self.senders.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.close();
        }
    }

    pub(super) fn add_receiver(&self) {
        self.receivers.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn drop_receiver(&self) {
        if self.receivers.fetch_sub(1, Ordering::AcqRel) == 1 {
            drop(self.end(End::Abandoned));
        }
    }
}

/// What becomes of the items of a queue that ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The caller has them, and leases are void.
    Handed,
    /// Nobody is there to take them.
    Abandoned,
}

pub(super) struct Watch<'a, T>(&'a Core<T>);

impl<T> Drop for Watch<'_, T> {
    fn drop(&mut self) {
        let mut slow = self.0.lock();
        slow.joiners -= 1;
        if slow.joiners == 0 && !self.0.counts.is_closed() {
            self.0.lower(&slow, flag::WATCHED);
        }
    }
}

impl<T> fmt::Debug for Core<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core")
            .field("counts", &self.counts)
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}
