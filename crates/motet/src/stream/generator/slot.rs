//! Where an item is handed over from the body of a generator to its stream.
//!
//! While a stream polls its body, a thread-local points to the stream's [`Slot`], which points to the one that was
//! there before. An emit looks for the slot of its stream and finds it however deep it is called: in a generator within
//! a generator, or behind futures of others.
//!
//! Mostly its slot is the innermost, is empty, and the body is polled with the waker that the stream is polled with. That
//! is inlined into the body, and nothing is called; in a body that is inlined into its stream the compiler even sees
//! through the thread-local. All else is kept out of the way of that.
//!
//! # Safety
//! 1. A slot is in the chain exactly while [`Slot::open`] runs, which puts it in and takes it out, by a guard also when
//!    the body panics. So whatever is found in the chain is alive, and so is the waker that `open` borrows. `open`
//!    borrows the slot mutably, and leaves it alone meanwhile: it is used by emits alone, through the chain.
//! 2. A number is given to one slot and one key, made together, of one type of items, and never again. Whoever finds a
//!    slot with the number of their key has found one of that type. An address would not do: the next stream may be at
//!    the same one.
//! 3. A key is invariant in the type of its items, so it cannot become one of another type or lifetime.
//! 4. There is an item in a slot exactly while its mark is that of a full one.
//! 5. No code of a user runs while there is a reference to what is in a slot, or between its item and its mark.
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
use crate::task::wakers::wake_each;

/// What opens one slot, from within.
pub(super) struct Key<T> {
    number: u64,
    items: PhantomData<fn(T) -> T>,
}

// The link is first: it is found without the type of the items.
#[repr(C)]
pub(super) struct Slot<T> {
    link: Link,
    item: UnsafeCell<MaybeUninit<T>>,
    /// Whom to wake when the item is taken: who waits within a task of the body's own, as in `FuturesUnordered`, which
    /// polls it again only if it is woken.
    waits: Cell<Option<Waker>>,
}

struct Link {
    /// The number of the slot if it is empty, its complement if it is full: with one comparison an emit knows that this
    /// slot is its own, and has room.
    mark: Cell<u64>,
    /// The waker with which the body is polled. It and `around` mean something while the slot is open.
    waker: Cell<*const Waker>,
    around: Cell<*const Self>,
}

// SAFETY: the pointers are followed while the slot is open, which is a call, by the thread that makes the call and set
// them there. The item and the waker may be sent.
unsafe impl<T: Send> Send for Slot<T> {}
// SAFETY: of a slot that is shared nothing is read but its mark, and nothing is written: it is borrowed mutably while it
// is open.
unsafe impl<T: Send> Sync for Slot<T> {}
// A panic in a body leaves the chain as it was.
impl<T: UnwindSafe> UnwindSafe for Slot<T> {}
impl<T: RefUnwindSafe> RefUnwindSafe for Slot<T> {}

/// The end of the chain, so that an emit need not ask whether there is a slot at all.
struct Nobody(Link);

// SAFETY: nobody has its number, so nothing is written to it.
unsafe impl Sync for Nobody {}

static NOBODY: Nobody =
    Nobody(Link { mark: Cell::new(0), waker: Cell::new(ptr::null()), around: Cell::new(ptr::null()) });

thread_local! {
    static INNERMOST: Cell<*const Link> = const { Cell::new(&raw const NOBODY.0) };
}

impl<T> Slot<T> {
    pub(super) fn new() -> (Self, Key<T>) {
        let number = next_number();
        let link =
            Link { mark: Cell::new(number), waker: Cell::new(ptr::null()), around: Cell::new(ptr::null()) };
        let item = UnsafeCell::new(MaybeUninit::uninit());
        (Self { link, item, waits: Cell::new(None) }, Key { number, items: PhantomData })
    }

    /// Polls the body, which finds the slot meanwhile.
    // Not inlined by force: the body is inlined here as long as it is called in this one place.
    #[inline]
    pub(super) fn open<F: Future>(&mut self, body: Pin<&mut F>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let around = INNERMOST.get();
        self.link.waker.set(cx.waker());
        self.link.around.set(around);
        let _restored = Restored(around);
        // Of the whole slot: an emit finds the item behind the link.
        INNERMOST.set(ptr::from_mut(self).cast());
        body.poll(cx)
    }

    /// Tells who waits for it that their item was taken.
    #[inline]
    pub(super) fn wake_waiter(&mut self) {
        if self.waits.get_mut().is_some() {
            self.wake();
        }
    }

    #[cold]
    #[inline(never)]
    fn wake(&self) {
        if let Some(waits) = self.waits.take()
            && !mutant!("stream.never_wake_group")
        {
            wake_each([waits]);
        }
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
        // The highest bit; no number has it.
        self.link.mark.get().cast_signed() >= 0
    }

    /// Puts the item inside; the slot is empty.
    #[inline(always)]
    fn put(&self, item: &mut Option<T>) {
        if let Some(item) = item.take() {
            // SAFETY: 1 and 5: nobody else has a reference; by 4 there is nothing inside that would have to be dropped.
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
    /// The same key, for an emit that holds it instead of its yielder.
    #[inline(always)]
    pub(super) const fn again(&self) -> Self {
        Self { number: self.number, items: PhantomData }
    }

    /// Puts the item into the slot, and is ready when it has been taken from there. Until the item is inside it stays
    /// where it is.
    ///
    /// # Panics
    /// If the slot is not open on this thread.
    #[inline(always)]
    pub(super) fn poll_put(&self, item: &mut Option<T>, cx: &Context<'_>) -> Poll<()> {
        let innermost = INNERMOST.get();
        // SAFETY: 1.
        let link = unsafe { &*innermost };
        let has_room = link.mark.get() == self.number;
        if item.is_none() {
            if has_room || self.is_taken_afar(innermost) {
                return Poll::Ready(());
            }
        } else if has_room && ptr::eq(link.waker.get(), cx.waker()) {
            // SAFETY: 1 and 2.
            unsafe { &*innermost.cast::<Slot<T>>() }.put(item);
            return Poll::Pending;
        }
        self.put_from_afar(item, cx);
        Poll::Pending
    }

    /// The answer from within another generator. It writes nothing, and the compiler knows after it what it knew before.
    #[cold]
    #[inline(never)]
    fn is_taken_afar(&self, innermost: *const Link) -> bool {
        self.find(innermost).is_some_and(Slot::is_empty)
    }

    /// From within another generator, with a waker of somebody's own, or while the slot is full.
    #[cold]
    #[inline(never)]
    fn put_from_afar(&self, item: &mut Option<T>, cx: &Context<'_>) {
        let Some(slot) = self.find(INNERMOST.get()) else { outside() };
        // SAFETY: 1.
        let known = unsafe { &*slot.link.waker.get() };
        // Before the slot is looked at: wakers are cloned by somebody's code.
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
            // SAFETY: 1: every slot in the chain is alive, those around it too.
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

/// Takes the innermost slot out of the chain when it is dropped.
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
    panic!(
        "an item is emitted outside of its generator: a yielder works in the body it was made for, and nowhere else"
    )
}

/// Numbers are given out to threads in blocks, so that two that make streams do not write to the same place.
fn next_number() -> u64 {
    const BLOCK: u64 = 4096;
    static BLOCKS: AtomicU64 = AtomicU64::new(0);
    thread_local! {
        static NEXT: Cell<u64> = const { Cell::new(0) };
    }
    let mut number = NEXT.get();
    if number.is_multiple_of(BLOCK) {
        // 63 bits are not used up: at a million streams a second it takes a quarter of a million years. Zero is nobody's.
        number = BLOCKS.fetch_add(BLOCK, Ordering::Relaxed) + 1;
    }
    NEXT.set(number + 1);
    number
}
