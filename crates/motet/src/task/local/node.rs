//! A child on the heap, in one allocation: the state that its wakers share, the data of its owner, and its future or its
//! output.
//!
//! Wakers can be used and dropped on any thread, also when the child and its set are gone. They access only `state`,
//! `next_ready` and `queue`. Everything else, above all the future and the output, belongs to the owner: the one task that
//! holds the set and the handles of its children. A node that is freed contains neither a future nor an output.
#![allow(unsafe_code, reason = "futures of any type behind one pointer, shared with wakers on other threads")]

use std::alloc::{Layout, dealloc};
use std::cell::{Cell, UnsafeCell};
use std::mem::{ManuallyDrop, offset_of};
use std::pin::Pin;
use std::process::abort;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering, fence};
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Waker};

use super::queue::Queue;

/// The node is in the queue, or is being pushed: a further wake has no effect.
const QUEUED: usize = 1;
/// The node has ended and is not polled again.
const ENDED: usize = 2;
/// The weight of a reference.
const REF: usize = 4;

pub(super) struct Header {
    /// References, and the two bits above.
    state: AtomicUsize,
    /// The link of the queue.
    pub(super) next_ready: AtomicPtr<Self>,
    pub(super) queue: Arc<Queue>,
    kind: &'static Kind,

    // The fields from here on belong to the owner.
    phase: Cell<Phase>,
    /// `true` while the handle exists, which may take the output.
    pub(super) awaited: Cell<bool>,
    pub(super) tag: usize,
    pub(super) newer: Cell<Option<NonNull<Self>>>,
    pub(super) older: Cell<Option<NonNull<Self>>>,
    /// The waker of the task that waits for the output.
    pub(super) joiner: Cell<Option<Waker>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// The slot holds the future.
    Running,
    /// The slot holds the output.
    Done,
    /// The slot is empty: the output was taken.
    Taken,
    /// The slot is empty: the future was dropped, or no handle was left for its output.
    Gone,
}

/// The functions and the layout of the type of a node's future.
struct Kind {
    poll: unsafe fn(NonNull<Header>, &mut Context<'_>) -> Poll<()>,
    drop_future: unsafe fn(NonNull<Header>),
    /// How far from the header the slot begins.
    slot: usize,
    layout: Layout,
}

#[repr(C)]
struct Node<F: Future> {
    header: Header,
    slot: UnsafeCell<Slot<F>>,
}

/// Both begin at the slot's address.
#[repr(C)]
union Slot<F: Future> {
    future: ManuallyDrop<F>,
    output: ManuallyDrop<F::Output>,
}

impl<F: Future> Node<F> {
    const KIND: &'static Kind = &Kind {
        poll: Self::poll,
        drop_future: Self::drop_future,
        slot: offset_of!(Self, slot),
        layout: Layout::new::<Self>(),
    };

    /// # Safety
    /// The header is that of a `Node<F>` whose phase is `Running`, and the caller is its owner.
    unsafe fn poll(header: NonNull<Header>, cx: &mut Context<'_>) -> Poll<()> {
        // SAFETY: as above; while it is running the slot holds the future, which stays where it is until it is
        // dropped. No other code makes a reference to the slot: handles check the phase first.
        unsafe {
            let slot = (*header.cast::<Self>().as_ptr()).slot.get();
            let future = Pin::new_unchecked(&mut *(*slot).future);
            let Poll::Ready(output) = future.poll(cx) else { return Poll::Pending };
            let header_ref = header.as_ref();
            // Before user code runs: if the destructor panics, or looks at its own handle, nothing is there.
            header_ref.phase.set(Phase::Gone);
            ManuallyDrop::drop(&mut (*slot).future);
            // Asked after the destructor, which may have dropped the handle.
            if header_ref.awaited.get() {
                ptr::write(&raw mut (*slot).output, ManuallyDrop::new(output));
                header_ref.phase.set(Phase::Done);
            }
            Poll::Ready(())
        }
    }

    /// # Safety
    /// The header is that of a `Node<F>` whose phase is `Running`, and the caller is its owner.
    unsafe fn drop_future(header: NonNull<Header>) {
        // SAFETY: as above; the phase marks the slot as empty before user code can look.
        unsafe {
            header.as_ref().phase.set(Phase::Gone);
            ManuallyDrop::drop(&mut (*(*header.cast::<Self>().as_ptr()).slot.get()).future);
        }
    }
}

/// A counted reference to a node.
pub(super) struct NodeRef(NonNull<Header>);

impl NodeRef {
    /// Moves a future to the heap, as a node that is queued for its first poll. Returns three references: for the set, for
    /// the queue and for the handle.
    ///
    /// # Safety
    /// The future is dropped, by [`end`](Self::end), before anything that it borrows; or never.
    pub(super) unsafe fn queued<F: Future>(queue: Arc<Queue>, tag: usize, future: F) -> [Self; 3] {
        let header = Header {
            state: AtomicUsize::new(QUEUED + 3 * REF),
            next_ready: AtomicPtr::new(ptr::null_mut()),
            queue,
            kind: Node::<F>::KIND,
            phase: Cell::new(Phase::Running),
            awaited: Cell::new(true),
            tag,
            newer: Cell::new(None),
            older: Cell::new(None),
            joiner: Cell::new(None),
        };
        let slot = UnsafeCell::new(Slot { future: ManuallyDrop::new(future) });
        let raw = NonNull::from(Box::leak(Box::new(Node { header, slot }))).cast();
        [Self(raw), Self(raw), Self(raw)]
    }

    pub(super) fn into_raw(self) -> *mut Header {
        ManuallyDrop::new(self).0.as_ptr()
    }

    /// # Safety
    /// `raw` comes from [`into_raw`](Self::into_raw), whose reference it takes back.
    pub(super) unsafe fn from_raw(raw: *mut Header) -> Self {
        // SAFETY: what `into_raw` gives is never null.
        Self(unsafe { NonNull::new_unchecked(raw) })
    }

    pub(super) fn raw(&self) -> NonNull<Header> {
        self.0
    }

    pub(super) fn header(&self) -> &Header {
        // SAFETY: a reference is counted, so the node is there. Its header is only ever shared.
        unsafe { self.0.as_ref() }
    }

    /// Marks the node as not queued, so that the next wake queues it again, and gives up the reference of the queue, which
    /// is `self`.
    ///
    /// Only while the phase is [`Running`](Phase::Running): then the set has a reference too, which the result
    /// borrows.
    pub(super) fn unqueue(self) -> ManuallyDrop<Self> {
        assert_eq!(self.phase(), Phase::Running);
        // Acquire: what a waker's thread did before its wake is seen by the poll.
        self.header().state.fetch_sub(QUEUED + REF, Ordering::AcqRel);
        ManuallyDrop::new(self)
    }

    /// Polls the future, with a waker that borrows this reference.
    ///
    /// Only the owner, and only while the phase is [`Running`](Phase::Running).
    pub(super) fn poll(&self) -> Poll<()> {
        assert_eq!(self.phase(), Phase::Running);
        // SAFETY: the waker is not dropped, so it gives back no reference, and `self` outlives it.
        let waker = ManuallyDrop::new(unsafe { Waker::new(self.0.as_ptr().cast(), &WAKER) });
        // SAFETY: it is running; nodes do not leave the owner's hands but as wakers, which do not poll.
        unsafe { (self.header().kind.poll)(self.0, &mut Context::from_waker(&waker)) }
    }

    /// Ends the node and releases this reference: wakes are ignored from now on, and the future is dropped if it is still
    /// there.
    pub(super) fn end(self) {
        let state = &self.header().state;
        if self.phase() == Phase::Running {
            state.fetch_or(ENDED, Ordering::Relaxed);
            // SAFETY: it is running, and only the owner ends a node.
            unsafe { (self.header().kind.drop_future)(self.0) }
        } else if state.load(Ordering::Acquire) >= 2 * REF {
            // Both in one exchange: the bit is not set yet, so that adding it cannot carry.
            let this = ManuallyDrop::new(self);
            if this.header().state.fetch_sub(REF - ENDED, Ordering::Release) < 2 * REF {
                fence(Ordering::Acquire);
                free(this.0);
            }
        }
    }

    pub(super) fn phase(&self) -> Phase {
        self.header().phase.get()
    }

    /// Returns a pointer to the output, if it is there.
    ///
    /// It may be read if `T` is the output's type, and read out once [`taken`](Self::taken) is called.
    pub(super) fn output<T>(&self) -> Option<NonNull<T>> {
        let there = self.phase() == Phase::Done;
        // SAFETY: the slot lies within the allocation.
        there.then(|| unsafe { self.0.byte_add(self.header().kind.slot).cast() })
    }

    /// Notes that the output was read out.
    pub(super) fn taken(&self) {
        self.header().phase.set(Phase::Taken);
    }
}

impl Drop for NodeRef {
    fn drop(&mut self) {
        let state = &self.header().state;
        // The last reference needs no exchange: no other reference is left to count. Acquire pairs with the
        // release of those who were there.
        if state.load(Ordering::Acquire) < 2 * REF {
            return free(self.0);
        }
        if state.fetch_sub(REF, Ordering::Release) < 2 * REF {
            fence(Ordering::Acquire);
            free(self.0);
        }
    }
}

fn free(node: NonNull<Header>) {
    // SAFETY: called with the last reference in hand. The slot needs no drop: the owner ended the node before it
    // released it, and a handle takes the output along when it is dropped.
    unsafe {
        let layout = node.as_ref().kind.layout;
        ptr::drop_in_place(node.as_ptr());
        dealloc(node.as_ptr().cast(), layout);
    }
}

static WAKER: RawWakerVTable = RawWakerVTable::new(clone, wake, wake_by_ref, forget);

/// # Safety
/// For this and the next three: `data` is a header with a reference that the waker holds, or borrows.
unsafe fn clone(data: *const ()) -> RawWaker {
    // SAFETY: as above.
    let header = unsafe { &*data.cast::<Header>() };
    if header.state.fetch_add(REF, Ordering::Relaxed) > isize::MAX as usize {
        // Like `Arc`: a count that wraps would free a node in use.
        abort();
    }
    RawWaker::new(data, &WAKER)
}

unsafe fn wake(data: *const ()) {
    // SAFETY: the waker's reference comes along.
    let node = unsafe { NodeRef::from_raw(data.cast_mut().cast()) };
    if mark(node.header(), 0) {
        Queue::push(node);
    }
}

unsafe fn wake_by_ref(data: *const ()) {
    // SAFETY: the waker keeps its reference; `mark` counts one for the queue.
    let node = ManuallyDrop::new(unsafe { NodeRef::from_raw(data.cast_mut().cast()) });
    if mark(node.header(), REF) {
        Queue::push(ManuallyDrop::into_inner(node));
    }
}

unsafe fn forget(data: *const ()) {
    // SAFETY: the waker's reference comes along.
    drop(unsafe { NodeRef::from_raw(data.cast_mut().cast()) });
}

/// Marks the node as queued, and counts `refs` in the same exchange. Returns `true` if the caller has to push it.
fn mark(header: &Header, refs: usize) -> bool {
    let mut state = header.state.load(Ordering::Relaxed);
    loop {
        if state & ENDED != 0 {
            return false;
        }
        // Written even if the node is queued already: after a mere load, the next poll might not see the writes that this
        // wake announces.
        let queued = state & QUEUED != 0;
        let next = if queued { state } else { state + QUEUED + refs };
        match header.state.compare_exchange_weak(state, next, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => return !queued,
            Err(found) => state = found,
        }
    }
}
