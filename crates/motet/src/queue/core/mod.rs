//! The state that all handles of a queue share.

mod end;
mod grants;
mod items;

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, OnceLock, PoisonError};

pub(super) use self::end::End;
pub(super) use self::items::Take;
use super::counts::Counts;
use super::letters::Letters;
use super::place::Place;
use super::store::{Entry, Later};
use super::sync::{AtomicU32, AtomicUsize, Mutex, MutexGuard, Ordering, Padded, in_one_order};
use super::waiters::{Key, Waiters};
use crate::observe::Registration;
use crate::task::notify::Notify;

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

pub(super) struct Core<T> {
    pub(super) counts: Counts,
    pub(super) place: Place<T>,
    flags: Padded<AtomicU32>,
    /// On cache lines of its own: otherwise every operation would have to load the read-only fields again whenever a
    /// waiter parks.
    slow: Padded<Mutex<Slow<T>>>,
    /// The number of items that were handed out as leases and are not settled: held, returned, due later, or on their
    /// way to the dead letters. An item is counted before it leaves the storage, so that at every moment it is counted
    /// at least once.
    unsettled: Padded<AtomicUsize>,
    senders: AtomicUsize,
    receivers: AtomicUsize,
    pub(super) closed: Notify,
    pub(super) settled: Notify,
    pub(super) letters: Option<Arc<dyn Letters<T>>>,
    pub(super) registration: OnceLock<Registration>,
}

/// The part of the state that only waiters, operations that wake them, and returned items touch.
pub(super) struct Slow<T> {
    pub(super) senders: Waiters,
    pub(super) receivers: Waiters,
    /// Items that are ready and come before those in the storage; each of them holds a slot by count.
    pub(super) front: VecDeque<Entry<T>>,
    pub(super) later: Later<T>,
    /// The parked receiver whose timer is set to the earliest due time.
    pub(super) timer: Option<Key>,
    joiners: usize,
    pub(super) abandoned: usize,
}

impl<T> Core<T> {
    /// The name of the queue in snapshots, for reports.
    pub(super) fn name(&self) -> Option<String> {
        self.registration.get()?.name()
    }

    pub(super) fn new(counts: Counts, place: Place<T>, letters: Option<Arc<dyn Letters<T>>>) -> Self {
        Self {
            counts,
            place,
            flags: Padded(AtomicU32::new(0)),
            slow: Padded(Mutex::new(Slow {
                senders: Waiters::default(),
                receivers: Waiters::default(),
                front: VecDeque::new(),
                later: Later::new(),
                timer: None,
                joiners: 0,
                abandoned: 0,
            })),
            unsettled: Padded(AtomicUsize::new(0)),
            senders: AtomicUsize::new(1),
            receivers: AtomicUsize::new(1),
            closed: Notify::default(),
            settled: Notify::default(),
            letters,
            registration: OnceLock::new(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Slow<T>> {
        self.slow.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[inline(always)]
    pub(super) fn has(&self, flags: u32) -> bool {
        in_one_order();
        self.flags.0.load(Ordering::SeqCst) & flags != 0
    }

    /// Sets flags. Flags are written under the lock only.
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
        self.unsettled.0.load(Ordering::SeqCst)
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

impl<T> fmt::Debug for Core<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core")
            .field("counts", &self.counts)
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}
