//! Where an item is handed over from the body of a generator to its stream.
//!
//! While a stream polls its body, a [`Frame`] on its stack says where its [`Slot`] is, and a thread-local points to the
//! innermost frame, which points to the one around it. An emit looks for the frame of its stream and finds it however
//! deep it is called: in a generator within a generator, or behind futures of others.
//!
//! # Safety
//! 1. A frame is in the chain exactly while [`Slot::open`] runs, which puts it in and takes it out, by a guard also when
//!    the body panics. So whatever is found in the chain is alive, and its slot is borrowed mutably by that `open` and
//!    used by nobody else.
//! 2. A number is given to one slot and one key, made together, of one type of items, and never again. Whoever finds a
//!    frame with the number of their key has found a slot of that type. An address would not do: the next stream may be
//!    at the same one.
//! 3. A key is invariant in the type of its items, so it cannot become one of another type or lifetime.
//! 4. No code of a user runs while there is a reference to what is in a slot.
#![allow(unsafe_code, reason = "the frame of a stream points to its slot")]

use std::cell::Cell;
use std::marker::PhantomData;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use crate::mutant;

/// What opens one slot, from within.
pub(super) struct Key<T> {
    number: u64,
    items: PhantomData<fn(T) -> T>,
}

pub(super) struct Slot<T> {
    number: u64,
    item: Option<T>,
    /// Whom to wake when the item is taken: who waits within a task of the body's own, as in `FuturesUnordered`, which
    /// polls it again only if it is woken.
    waits: Option<Waker>,
}

struct Frame {
    number: u64,
    slot: *mut (),
    /// The waker with which the body is polled.
    waker: *const Waker,
    around: *const Self,
}

thread_local! {
    static INNERMOST: Cell<*const Frame> = const { Cell::new(ptr::null()) };
}

impl<T> Slot<T> {
    pub(super) fn new() -> (Self, Key<T>) {
        let number = next_number();
        (Self { number, item: None, waits: None }, Key { number, items: PhantomData })
    }

    /// Polls the body, which finds the slot meanwhile.
    #[inline]
    pub(super) fn open<R>(&mut self, cx: &mut Context<'_>, poll: impl FnOnce(&mut Context<'_>) -> R) -> R {
        if let Some(waits) = self.waits.take()
            && !mutant!("stream.never_wake_group")
        {
            waits.wake();
        }
        let frame = Frame {
            number: self.number,
            slot: ptr::from_mut(self).cast(),
            waker: cx.waker(),
            around: INNERMOST.get(),
        };
        let _entered = Entered::new(&frame);
        poll(cx)
    }

    #[inline]
    pub(super) fn take(&mut self) -> Option<T> {
        self.item.take()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.item.is_none()
    }
}

impl<T> Key<T> {
    /// Puts the item into the slot, and is ready when it has been taken from there. Until the item is inside it stays
    /// where it is.
    ///
    /// # Panics
    /// If the slot is not open on this thread.
    #[inline]
    pub(super) fn poll_put(&self, item: &mut Option<T>, cx: &Context<'_>) -> Poll<()> {
        let frame = find(self.number);
        // SAFETY: 1. The waker is borrowed by `open` as the slot is.
        let (slot, known) = unsafe { ((*frame).slot.cast::<Slot<T>>(), &*(*frame).waker) };
        // Before the slot is touched: wakers are cloned by somebody's code.
        let waits = if known.will_wake(cx.waker()) { None } else { Some(cx.waker().clone()) };
        // SAFETY: 1 and 2; and by 4 this is the only reference, since what follows moves values and calls nobody: what
        // is assigned to is empty.
        let slot = unsafe { &mut *slot };
        if slot.item.is_some() {
            return occupied(slot, waits);
        }
        if item.is_none() {
            return Poll::Ready(());
        }
        slot.item = item.take();
        occupied(slot, waits)
    }
}

#[inline]
fn occupied<T>(slot: &mut Slot<T>, waits: Option<Waker>) -> Poll<()> {
    if waits.is_some() {
        let replaced = std::mem::replace(&mut slot.waits, waits);
        // The reference to the slot is used no more.
        drop(replaced);
    }
    Poll::Pending
}

/// Puts a frame into the chain until it is dropped.
struct Entered<'a>(&'a Frame);

impl<'a> Entered<'a> {
    #[inline]
    fn new(frame: &'a Frame) -> Self {
        INNERMOST.set(frame);
        Self(frame)
    }
}

impl Drop for Entered<'_> {
    #[inline]
    fn drop(&mut self) {
        INNERMOST.set(self.0.around);
    }
}

#[inline]
fn find(number: u64) -> *const Frame {
    let mut at = INNERMOST.get();
    loop {
        // SAFETY: 1: every frame in the chain is alive, those around it too.
        match unsafe { at.as_ref() } {
            Some(frame) if frame.number == number => return at,
            Some(frame) => at = frame.around,
            None => outside(),
        }
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
        // 64 bits are not used up: at a million streams a second it takes half a million years.
        number = BLOCKS.fetch_add(BLOCK, Ordering::Relaxed);
    }
    NEXT.set(number + 1);
    number
}
