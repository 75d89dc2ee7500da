//! The slot in which the body of a generator hands an item to its stream.
//!
//! While a stream polls its body, a thread-local points to the [`Slot`] of the stream, and this slot points to the slot
//! that was there before: the slots form a chain. An emit searches the chain for the slot of its stream, so it works in a
//! generator within a generator, and within futures that poll the body of another generator.
//!
//! In the common case, the slot is the innermost one, it is empty, and the emit is polled with the waker of the stream.
//! This case is inlined into the body and calls no function; if the body is inlined into its stream, the compiler also
//! removes the thread-local. All other cases are in functions that are not inlined.
//!
//! # Safety
//! 1. A slot is in the chain exactly while [`Slot::open`] runs, which adds it and removes it, with a guard also when the
//!    body panics. So every slot of the chain is alive, and so is the waker that `open` borrows. `open` borrows the slot
//!    mutably, and does not use it while the body runs: only emits use it, through the chain.
//! 2. A number belongs to one slot and one key, which are created together for one type of items, and is never reused. So
//!    a slot with the number of a key has the item type of that key. An address would not be enough: the next stream may
//!    have the same one.
//! 3. A key is invariant in the type of its items, so it cannot become a key of another type or lifetime.
//! 4. A slot contains an item exactly while its mark is that of a full slot.
//! 5. No user code runs while there is a reference to the content of a slot, or between the writes of its item and its
//!    mark.
#![allow(unsafe_code, reason = "a thread-local points to the slot of a stream")]

use std::cell::{Cell, UnsafeCell};
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::pin::Pin;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use crate::mutant;
use crate::sync::wake_each;

/// The access of the body to its slot.
pub(super) struct Key<T> {
    number: u64,
    items: PhantomData<fn(T) -> T>,
}

// The link is the first field: it is read without knowledge of the item type.
#[repr(C)]
pub(super) struct Slot<T> {
    link: Link,
    item: UnsafeCell<MaybeUninit<T>>,
    /// The waker to wake when the item is taken: that of an emit in a group of the body, such as `FuturesUnordered`,
    /// which polls the emit again only if it is woken.
    waits: Cell<Option<Waker>>,
}

struct Link {
    /// The number of the slot if it is empty, the complement of the number if it is full. One comparison shows an emit
    /// that the slot is its own, and empty.
    mark: Cell<u64>,
    /// The waker with which the body is polled. It and `around` are valid while the slot is open.
    waker: Cell<*const Waker>,
    around: Cell<*const Self>,
}

// SAFETY: the pointers are followed only while the slot is open, during a call, by the thread that makes the call and has
// set them. The item and the waker are `Send`.
unsafe impl<T: Send> Send for Slot<T> {}
// SAFETY: through a shared reference, only the mark is read, and nothing is written: a slot is borrowed mutably while it is
// open.
unsafe impl<T: Send> Sync for Slot<T> {}
// A panic in a body restores the chain.
impl<T: UnwindSafe> UnwindSafe for Slot<T> {}
impl<T: RefUnwindSafe> RefUnwindSafe for Slot<T> {}

/// The end of the chain, so that an emit need not check whether there is a slot at all.
struct ChainEnd(Link);

// SAFETY: no key has its number, so nothing is written to it.
unsafe impl Sync for ChainEnd {}

static CHAIN_END: ChainEnd =
    ChainEnd(Link { mark: Cell::new(0), waker: Cell::new(ptr::null()), around: Cell::new(ptr::null()) });

thread_local! {
    static INNERMOST: Cell<*const Link> = const { Cell::new(&raw const CHAIN_END.0) };
}

impl<T> Slot<T> {
    pub(super) fn new() -> (Self, Key<T>) {
        let number = next_number();
        let link =
            Link { mark: Cell::new(number), waker: Cell::new(ptr::null()), around: Cell::new(ptr::null()) };
        let item = UnsafeCell::new(MaybeUninit::uninit());
        (Self { link, item, waits: Cell::new(None) }, Key { number, items: PhantomData })
    }

    /// Polls the body, with the slot in the chain.
    // `inline` and not `inline(always)`: the body is inlined here because this is its only call.
    #[inline]
    pub(super) fn open<F: Future>(&mut self, body: Pin<&mut F>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let around = INNERMOST.get();
        self.link.waker.set(cx.waker());
        self.link.around.set(around);
        let _restored = Restored(around);
        // A pointer to the whole slot: an emit reaches the item through it.
        INNERMOST.set(ptr::from_mut(self).cast());
        body.poll(cx)
    }

    /// Wakes the emit that waits for its item to be taken.
    #[inline]
    pub(super) fn wake_waiter(&mut self) {
        if self.waits.get_mut().is_some() {
            self.wake();
        }
    }

    #[cold]
    #[inline(never)]
    fn wake(&self) {
        let waits = self.waits.take();
        if mutant!("stream.never_wake_group") {
            return;
        }
        wake_each(waits);
    }

    #[inline]
    pub(super) fn take(&mut self) -> Option<T> {
        if self.is_empty() {
            return None;
        }
        // SAFETY: 4.
        let item = unsafe { self.item.get_mut().assume_init_read() };
        self.link.mark.set(!self.link.mark.get());
        Some(item)
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        // The sign bit is set in the complement of every number.
        self.link.mark.get().cast_signed() >= 0
    }

    /// Puts the item into the slot, which is empty.
    #[inline(always)]
    fn put(&self, item: &mut Option<T>) {
        if let Some(item) = item.take() {
            // SAFETY: 1 and 5: there is no other reference. 4: there is no item that would have to be dropped.
            unsafe { (*self.item.get()).write(item) };
            self.link.mark.set(!self.link.mark.get());
        }
    }
}

impl<T> Drop for Slot<T> {
    fn drop(&mut self) {
        drop(self.take());
    }
}

impl<T> Key<T> {
    /// A copy of the key for an emit.
    #[inline(always)]
    pub(super) const fn again(&self) -> Self {
        Self { number: self.number, items: PhantomData }
    }

    /// Puts the item into the slot, and is ready when the stream has taken it. Until the slot is empty, the item stays in
    /// `item`.
    ///
    /// # Panics
    /// If the slot is not open on this thread.
    #[inline(always)]
    pub(super) fn poll_put(&self, item: &mut Option<T>, cx: &Context<'_>) -> Poll<()> {
        let innermost = INNERMOST.get();
        // SAFETY: 1.
        let link = unsafe { &*innermost };
        let is_free = link.mark.get() == self.number;
        if item.is_none() {
            if is_free || self.is_taken_in_chain(innermost) {
                return Poll::Ready(());
            }
        } else if is_free && ptr::eq(link.waker.get(), cx.waker()) {
            // SAFETY: 1 and 2.
            unsafe { &*innermost.cast::<Slot<T>>() }.put(item);
            return Poll::Pending;
        }
        self.put_in_chain(item, cx);
        Poll::Pending
    }

    /// Returns `true` if a slot that is not the innermost one is empty. It writes nothing, so the compiler need not reload
    /// the values of the body.
    #[cold]
    #[inline(never)]
    fn is_taken_in_chain(&self, innermost: *const Link) -> bool {
        self.find(innermost).is_some_and(Slot::is_empty)
    }

    /// The rare cases of an emit: within another generator, with the waker of a group, or while the slot is full; then the
    /// item waits.
    #[cold]
    #[inline(never)]
    fn put_in_chain(&self, item: &mut Option<T>, cx: &Context<'_>) {
        let Some(slot) = self.find(INNERMOST.get()) else { outside() };
        // SAFETY: 1.
        let known = unsafe { &*slot.link.waker.get() };
        // Before the slot is read: the clone of a waker may run user code.
        let waits = if known.will_wake(cx.waker()) { None } else { Some(cx.waker().clone()) };
        if slot.is_empty() {
            slot.put(item);
        }
        if waits.is_some() {
            slot.waits.set(waits);
        }
    }

    fn find(&self, mut at: *const Link) -> Option<&Slot<T>> {
        loop {
            // SAFETY: 1: every slot of the chain is alive.
            let link = unsafe { at.as_ref() }?;
            let mark = link.mark.get();
            if mark == self.number || mark == !self.number {
                // SAFETY: 1 and 2.
                return Some(unsafe { &*at.cast::<Slot<T>>() });
            }
            at = link.around.get();
        }
    }
}

/// Removes the innermost slot from the chain when it is dropped.
struct Restored(*const Link);

impl Drop for Restored {
    #[inline(always)]
    fn drop(&mut self) {
        INNERMOST.set(self.0);
    }
}

#[cold]
#[inline(never)]
#[track_caller]
fn outside() -> ! {
    panic!("an item was emitted outside of its generator; emit it in the body that received the yielder")
}

/// Returns a new number. A thread takes numbers in blocks, so that threads that create streams do not share a cache line.
fn next_number() -> u64 {
    const BLOCK: u64 = 4096;
    static BLOCKS: AtomicU64 = AtomicU64::new(0);
    thread_local! {
        static NEXT: Cell<u64> = const { Cell::new(0) };
    }
    let mut number = NEXT.get();
    if number.is_multiple_of(BLOCK) {
        // 63 bits last for 290 000 years at a million streams per second. Zero is the number of the end of the chain.
        number = BLOCKS.fetch_add(BLOCK, Ordering::Relaxed) + 1;
    }
    NEXT.set(number + 1);
    number
}
