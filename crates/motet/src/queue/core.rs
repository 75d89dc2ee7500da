//! The core of a queue: the state that all handles share, and the path of an item in and out.
//!
//! # Fast path
//! While no waiter is in line, no item is aside (returned or due later) and the queue is open, a send or a receive takes no
//! lock:
//! 1. it reads the [flags](flag), one word that is rarely written ([`QueueCore::push`], [`QueueCore::pop_fast`]);
//! 2. it claims a position with one compare-and-swap on the tail or head cursor ([`Cursors`]);
//! 3. it writes or reads the slot of that position, and stamps it ([`Ring`](super::ring::Ring)); or, for other orders than
//!    first in, first out, it takes the lock of the store for steps 2 and 3 ([`Storage`]);
//! 4. it reads the flags again, and feeds the waiters on the other side if there are any (`after_push`, `after_take`).
//!
//! # Slow path
//! If the flags or the cursors stop the fast path, the caller yields a few times, and then joins the line under the lock of
//! [`SlowState`] ([`SendWaiter`](super::send_waiter::SendWaiter), [`RecvWaiter`](super::recv_waiter::RecvWaiter)). An
//! operation that makes an item or a slot available grants it to the first waiter in line, and wakes that waiter. A grant
//! counts in the cursors as a promised item or a held slot, so no other caller can take it.
//!
//! # Why no wake is lost
//! A waiter sets its flag, and then reads the cursors again. An operation changes a cursor, and then reads the flags. All of
//! these accesses are sequentially consistent, so at least one of the two sees the other.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, OnceLock, PoisonError};

use tokio::time::Instant;

use super::atomics::{AtomicU32, AtomicUsize, Mutex, MutexGuard, Ordering, in_one_order};
use super::close::End;
use super::cursors::{Claim, Cursors, NoItem, NoSlot};
use super::dead_letters::DeadLetterSink;
use super::orders::{Entry, Later};
use super::storage::{DueFn, Storage};
use super::waiters::{WaiterKey, Waiters};
use crate::mutant;
use crate::observe::Registration;
use crate::sync::{Notify, Padded, WakeList};

/// The state of an item after it was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Take {
    /// The item is settled, and its slot is free.
    Settled,
    /// The item is leased, and keeps its slot.
    Leased,
}

/// Flags that an operation checks before it takes the fast path: one word, which is rarely written.
pub(super) mod flag {
    /// Senders are in line: no new sender goes before them, and an operation that frees slots grants these slots to
    /// them.
    pub(in super::super) const SENDERS: u32 = 1;
    /// Receivers are in line.
    pub(in super::super) const RECEIVERS: u32 = 2;
    /// Items came back from leases, or are due later: they come before the items in the storage.
    pub(in super::super) const ASIDE: u32 = 4;
    /// A `join` or a closed queue waits for the last item to be settled.
    pub(in super::super) const WATCHED: u32 = 8;
    /// No item is handed out any more.
    pub(in super::super) const ENDED: u32 = 16;
    /// Leases are void.
    pub(in super::super) const FENCED: u32 = 32;
}

pub(super) struct QueueCore<T> {
    pub(super) cursors: Cursors,
    pub(super) storage: Storage<T>,
    flags: Padded<AtomicU32>,
    /// On cache lines of its own: otherwise every operation would have to load the read-only fields again whenever a
    /// waiter parks.
    slow: Padded<Mutex<SlowState<T>>>,
    /// The number of items that were handed out as leases and are not settled: held, returned, due later, or on their
    /// way to the dead letters. An item is counted before it leaves the storage, so that at every moment it is counted
    /// at least once.
    pub(super) unsettled: Padded<AtomicUsize>,
    /// The number of `Sender`s.
    sender_handles: AtomicUsize,
    /// The number of `Receiver`s.
    receiver_handles: AtomicUsize,
    pub(super) closed: Notify,
    pub(super) settled: Notify,
    /// The queue for dead letters.
    pub(super) letters: Option<Arc<dyn DeadLetterSink<T>>>,
    pub(super) registration: OnceLock<Registration>,
}

/// The part of the state that only waiters, operations that wake them, and returned items touch.
pub(super) struct SlowState<T> {
    pub(super) senders: Waiters,
    pub(super) receivers: Waiters,
    /// Items that are ready and come before those in the storage; each of them holds a slot by count.
    pub(super) front: VecDeque<Entry<T>>,
    pub(super) later: Later<T>,
    /// The parked receiver whose timer is set to the earliest due time.
    pub(super) timer: Option<WaiterKey>,
    /// The number of calls of `join` that wait.
    pub(super) joiners: usize,
    /// The number of items that were dropped because the last receiver was dropped.
    pub(super) abandoned: usize,
}

impl<T> QueueCore<T> {
    /// The name of the queue in snapshots, for reports.
    pub(super) fn name(&self) -> Option<String> {
        self.registration.get()?.name()
    }

    pub(super) fn new(
        cursors: Cursors,
        storage: Storage<T>,
        letters: Option<Arc<dyn DeadLetterSink<T>>>,
    ) -> Self {
        Self {
            cursors,
            storage,
            flags: Padded(AtomicU32::new(0)),
            slow: Padded(Mutex::new(SlowState {
                senders: Waiters::new(),
                receivers: Waiters::new(),
                front: VecDeque::new(),
                later: Later::new(),
                timer: None,
                joiners: 0,
                abandoned: 0,
            })),
            unsettled: Padded(AtomicUsize::new(0)),
            sender_handles: AtomicUsize::new(1),
            receiver_handles: AtomicUsize::new(1),
            closed: Notify::default(),
            settled: Notify::default(),
            letters,
            registration: OnceLock::new(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, SlowState<T>> {
        self.slow.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[inline(always)]
    pub(super) fn has(&self, flags: u32) -> bool {
        in_one_order();
        self.flags.0.load(Ordering::SeqCst) & flags != 0
    }

    /// Sets flags. Flags are written under the lock only.
    pub(super) fn raise(&self, _: &SlowState<T>, flags: u32) {
        self.flags.0.fetch_or(flags, Ordering::SeqCst);
        in_one_order();
    }

    pub(super) fn lower(&self, _: &SlowState<T>, flags: u32) {
        if self.has(flags) {
            self.flags.0.fetch_and(!flags, Ordering::SeqCst);
        }
    }

    pub(super) fn unsettled(&self) -> usize {
        self.unsettled.0.load(Ordering::SeqCst)
    }

    // Handles.

    pub(super) fn add_sender(&self) {
        self.sender_handles.fetch_add(1, Ordering::Relaxed);
    }

    /// Adds a sender, unless the last one was dropped: a queue that the last sender has closed stays closed.
    pub(super) fn add_sender_unless_last_dropped(&self) -> bool {
        if mutant!("queue.upgrade_closed") {
            self.add_sender();
            return true;
        }
        let mut senders = self.sender_handles.load(Ordering::Relaxed);
        // A `fetch_add` that is undone if the count was 0 would raise the count for a moment, and a second weak sender would
        // take the closed queue for an open one.
        while senders != 0 {
            match self.sender_handles.compare_exchange_weak(
                senders,
                senders + 1,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return true,
                Err(now) => senders = now,
            }
        }
        false
    }

    pub(super) fn drop_sender(&self) {
        if self.sender_handles.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.close();
        }
    }

    pub(super) fn add_receiver(&self) {
        self.receiver_handles.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn drop_receiver(&self) {
        if self.receiver_handles.fetch_sub(1, Ordering::AcqRel) == 1 {
            drop(self.end(End::Abandoned));
        }
    }
}

impl<T> QueueCore<T> {
    // Items in.

    /// Moves an item in for a new sender, which must not overtake a sender in line.
    #[inline(always)]
    pub(super) fn push(&self, item: T) -> Result<(), (NoSlot, T)> {
        if self.has(flag::SENDERS) {
            let why = if self.cursors.is_closed() { NoSlot::Closed } else { NoSlot::Full };
            return Err((why, item));
        }
        if let Storage::Later(due) = &self.storage {
            return self.push_later(item, due);
        }
        self.storage.push(&self.cursors, Claim::Open, item)?;
        self.after_push();
        Ok(())
    }

    #[cold]
    fn push_later(&self, item: T, due: &DueFn<T>) -> Result<(), (NoSlot, T)> {
        // Called before a slot is held: `due` is code of the user, and may panic.
        let due = due(&item);
        if let Err(why) = self.cursors.hold(1) {
            return Err((why, item));
        }
        self.schedule_held(item, due).inspect_err(|_| self.release(1))
    }

    fn schedule_held(&self, item: T, due: Instant) -> Result<(), (NoSlot, T)> {
        let mut wakes = WakeList::default();
        let mut slow = self.lock();
        if self.cursors.is_closed() {
            return Err((NoSlot::Closed, item));
        }
        self.unsettled.0.fetch_add(1, Ordering::SeqCst);
        self.schedule(&mut slow, Entry::new(item), due, &mut wakes);
        drop(slow);
        wakes.wake();
        Ok(())
    }

    /// Moves an item into a slot that the caller holds. If the item is returned, the caller still holds the slot.
    pub(super) fn push_held(&self, item: T) -> Result<(), (NoSlot, T)> {
        if let Storage::Later(due) = &self.storage {
            let due = due(&item);
            return self.schedule_held(item, due);
        }
        self.storage.push(&self.cursors, Claim::Granted, item)?;
        self.after_push();
        Ok(())
    }

    /// Moves in as many items as there are free slots, for a new sender.
    pub(super) fn push_many(&self, items: &mut VecDeque<T>) -> Result<(), NoSlot> {
        if self.has(flag::SENDERS) {
            return Err(if self.cursors.is_closed() { NoSlot::Closed } else { NoSlot::Full });
        }
        if matches!(self.storage, Storage::Later(_)) {
            return push_first(items, |item| self.push(item));
        }
        let most = items.len();
        self.storage.push_many(&self.cursors, Claim::Open, items, most)?;
        self.after_push();
        Ok(())
    }

    /// Moves items into slots that the caller holds, and returns their number. The caller still holds the other slots.
    pub(super) fn push_many_held(&self, items: &mut VecDeque<T>, held: u32) -> Result<u32, NoSlot> {
        if matches!(self.storage, Storage::Later(_)) {
            return push_first(items, |item| self.push_held(item)).map(|()| 1);
        }
        let slots = self.storage.push_many(&self.cursors, Claim::Granted, items, held as usize)?;
        self.after_push();
        Ok(slots as u32)
    }

    /// Wakes receivers after items came in. The claim of a slot and the parking of receivers have one order for all
    /// threads: either a receiver that parks finds the item, or this check finds the receiver.
    #[inline(always)]
    fn after_push(&self) {
        if self.has(flag::RECEIVERS) {
            if mutant!("queue.lose_wake") {
                return;
            }
            self.feed_receivers();
        }
    }

    #[cold]
    fn feed_receivers(&self) {
        let mut wakes = WakeList::default();
        let mut slow = self.lock();
        self.grant_items(&mut slow, &mut wakes);
        drop(slow);
        wakes.wake();
    }

    // Items out.

    /// Takes and settles an item for a new receiver, if the fast path is open.
    #[inline(always)]
    pub(super) fn pop_fast(&self) -> Result<T, NoItem> {
        if self.has(flag::RECEIVERS | flag::ASIDE | flag::ENDED) {
            return Err(NoItem::Empty);
        }
        let item = self.storage.pop_item(&self.cursors, Claim::Open)?;
        self.after_take();
        Ok(item)
    }

    /// Takes an item for a new receiver, if the fast path is open.
    pub(super) fn take_fast(&self, take: Take) -> Result<Entry<T>, NoItem> {
        if self.has(flag::RECEIVERS | flag::ASIDE | flag::ENDED) {
            return Err(NoItem::Empty);
        }
        let taken = self.take(Claim::Open, take);
        // Also after a failed lease: another thread may have seen the counts while they were too high.
        if taken.is_ok() || take == Take::Leased {
            self.after_take();
        }
        taken
    }

    /// Takes up to `most` items, if the fast path is open.
    pub(super) fn take_many(&self, into: &mut Vec<T>, most: usize) -> usize {
        if most == 0 || self.has(flag::RECEIVERS | flag::ASIDE | flag::ENDED) {
            return 0;
        }
        let taken = self.storage.pop_many(&self.cursors, Claim::Open, into, most).unwrap_or(0);
        if taken > 0 {
            self.after_take();
        }
        taken
    }

    /// Takes an item from the storage, and wakes no waiter.
    pub(super) fn take(&self, claim: Claim, take: Take) -> Result<Entry<T>, NoItem> {
        match take {
            Take::Settled => self.storage.pop(&self.cursors, claim),
            Take::Leased if self.cursors.len() == 0 => Err(NoItem::Empty),
            Take::Leased => {
                // Both counts are raised before the item is taken: its slot must not look free, nor the item settled.
                self.unsettled.0.fetch_add(1, Ordering::SeqCst);
                let taken = match self.cursors.hold_for_item() {
                    true => self.storage.pop(&self.cursors, claim).inspect_err(|_| self.cursors.release(1)),
                    false => Err(NoItem::Busy),
                };
                if taken.is_err() {
                    self.unsettled.0.fetch_sub(1, Ordering::SeqCst);
                }
                taken
            }
        }
    }

    /// Wakes senders after slots became free. See [`after_push`](Self::after_push).
    #[inline(always)]
    pub(super) fn after_take(&self) {
        if self.has(flag::SENDERS | flag::WATCHED) {
            self.feed_senders();
        }
    }

    #[cold]
    fn feed_senders(&self) {
        if self.has(flag::SENDERS) {
            let mut wakes = WakeList::default();
            let mut slow = self.lock();
            self.grant_slots(&mut slow, &mut wakes);
            drop(slow);
            wakes.wake();
        }
        self.notify_if_settled();
    }

    // Held slots.

    /// Holds up to `want` slots for a new sender, and returns their number.
    pub(super) fn hold(&self, want: u32) -> Result<u32, NoSlot> {
        if self.has(flag::SENDERS) {
            return Err(if self.cursors.is_closed() { NoSlot::Closed } else { NoSlot::Full });
        }
        self.cursors.hold(want)
    }

    /// Releases slots that were held and not used.
    pub(super) fn release(&self, slots: u32) {
        self.cursors.release(slots);
        self.after_take();
    }

    /// Settles an item that was leased.
    pub(super) fn settle(&self) {
        self.cursors.release(1);
        self.unsettled.0.fetch_sub(1, Ordering::SeqCst);
        self.after_take();
    }

    /// Stops counting a lease whose item is back in the storage, which counts it by position.
    pub(super) fn forget_lease(&self, _: &SlowState<T>) {
        self.unsettled.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Pushes the first of `items`. If the item is refused, it becomes the first of `items` again.
fn push_first<T>(
    items: &mut VecDeque<T>,
    push: impl FnOnce(T) -> Result<(), (NoSlot, T)>,
) -> Result<(), NoSlot> {
    let Some(item) = items.pop_front() else { return Ok(()) };
    push(item).map_err(|(why, item)| {
        items.push_front(item);
        why
    })
}

impl<T> fmt::Debug for QueueCore<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueCore")
            .field("cursors", &self.cursors)
            .field("storage", &self.storage)
            .finish_non_exhaustive()
    }
}
