//! The engine: futures of any types, each polled only after it was woken.
#![allow(
    unsafe_code,
    reason = "a set forgets the lifetimes of its futures; the caller of `push` guarantees them"
)]

use std::any::Any;
use std::cell::Cell;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker, ready};
use std::thread;

use tokio::task::coop;

use super::node::{Header, NodeRef, Phase};
use super::queue::{Asleep, Queue};
use crate::sim;
use crate::sync::wake_each;

/// The number of polls of children after which the set yields to the other work of the task. It equals tokio's budget, and
/// also holds where tokio keeps no budget.
const POLLS: u32 = 128;

/// Futures that run in the task that polls the set. One allocation per future.
pub(super) struct Set {
    queue: Arc<Queue>,
    /// All children that have not ended, last pushed first. Each is a reference counted.
    newest: Cell<Option<NonNull<Header>>>,
    /// The children to be polled next, in order; linked through the queue's link, each a reference counted.
    ready: Cell<*mut Header>,
    /// The last of them, if there is one.
    ready_last: Cell<*mut Header>,
    /// Polls since the set last gave way.
    polls: Cell<u32>,
}

/// The number of polls that count as one operation of tokio's budget; operations of the children count by themselves. With
/// one operation for each poll, the budget was a quarter of the cost of a poll.
const POLLS_PER_OPERATION: u32 = 8;

/// The payload of a panic.
pub(super) type Payload = Box<dyn Any + Send>;

impl Set {
    pub(super) fn new() -> Self {
        Self {
            queue: Arc::new(Queue::new()),
            newest: Cell::new(None),
            ready: Cell::new(ptr::null_mut()),
            ready_last: Cell::new(ptr::null_mut()),
            polls: Cell::new(0),
        }
    }

    /// Adds a future, which is polled after all children that are woken already.
    ///
    /// # Safety
    /// The set is cleared or dropped before a value that the future borrows is dropped; or the set is leaked.
    pub(super) unsafe fn push<F: Future>(&self, tag: usize, future: F) -> Handle<F::Output> {
        // SAFETY: the caller's promise; clearing ends every node.
        let [mine, queued, handle] = unsafe { NodeRef::queued(Arc::clone(&self.queue), tag, future) };
        self.link(mine);
        // The nodes in order are counted references, kept as pointers.
        let queued = ManuallyDrop::new(queued).raw();
        self.append(queued, queued);
        Handle { node: handle, output: PhantomData }
    }

    /// Polls the woken children until one ends, and returns its tag; `None` if no child is left.
    ///
    /// # Panics
    /// With a child's panic, once all children have been dropped.
    pub(super) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<usize>> {
        if self.newest.get().is_none() {
            self.polls.set(0);
            return Poll::Ready(None);
        }
        loop {
            if self.ready.get().is_null()
                && let Some((first, last)) = self.queue.take()
            {
                self.append(first, last);
            }
            if self.ready.get().is_null() {
                match self.queue.sleep(cx.waker()) {
                    Asleep::No => continue,
                    Asleep::Yes => {
                        self.polls.set(0);
                        return Poll::Pending;
                    }
                }
            }
            ready!(self.give_way(cx));
            let ended = self.poll_first();
            // One poll of each group is charged: the first after each yield or sleep, so that no turn is free. In a
            // simulation every poll is charged.
            if self.polls.get() % POLLS_PER_OPERATION == 1 || sim::is_current() {
                Self::charge(cx);
            }
            if ended.is_some() {
                return Poll::Ready(ended);
            }
        }
    }

    /// Returns `Pending`, with a wake of the task, if the set has to yield to the executor.
    fn give_way(&self, cx: &mut Context<'_>) -> Poll<()> {
        let polls = self.polls.get() + 1;
        if polls > POLLS {
            self.polls.set(0);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        // Without budget, the resources of tokio that the children poll would all be pending, so further polls would be
        // useless.
        if !coop::has_budget_remaining() {
            self.polls.set(0);
            // Wakes the task.
            ready!(coop::poll_proceed(cx)).made_progress();
        }
        self.polls.set(polls);
        Poll::Ready(())
    }

    /// Charges the poll of a child to tokio's budget, if the child has left some of it.
    ///
    /// The charge follows the poll: before it, the charge could take the last operation of the budget, and a task that has
    /// one operation at each poll would make no progress.
    fn charge(cx: &mut Context<'_>) {
        if coop::has_budget_remaining()
            && let Poll::Ready(operation) = coop::poll_proceed(cx)
        {
            operation.made_progress();
        }
    }

    /// Polls the child that is first in order. Returns its tag if it has ended.
    fn poll_first(&self) -> Option<usize> {
        let first = self.ready.get();
        // SAFETY: a node in order is a counted reference, and its link belongs to the set.
        let node = unsafe {
            self.ready.set((*first).next_ready.load(Ordering::Relaxed));
            NodeRef::from_raw(first)
        };
        if node.phase() != Phase::Running {
            return None;
        }
        let tag = node.header().tag;
        let node = node.unqueue();
        match catch_unwind(AssertUnwindSafe(|| node.poll())) {
            Ok(Poll::Pending) => None,
            Ok(Poll::Ready(())) => {
                self.retire(node.raw());
                Some(tag)
            }
            Err(payload) => {
                // The set is left empty, and nothing panics a second time while this panic is on its way.
                drop(self.clear());
                resume_unwind(payload)
            }
        }
    }

    /// Drops all children, the last pushed first, and returns the first panic of their destructors.
    pub(super) fn clear(&self) -> Option<Payload> {
        let mut panic = None;
        // A destructor may push further children: the loop ends when none is left.
        while let Some(newest) = self.newest.get() {
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| self.retire(newest))) {
                panic.get_or_insert(payload);
            }
        }
        panic
    }

    /// [`clear`](Self::clear) for a destructor.
    pub(super) fn clear_on_drop(&self) {
        go_on(self.clear());
    }

    /// Ends a child and releases it.
    fn retire(&self, node: NonNull<Header>) {
        // SAFETY: it is in the list, which holds a reference to it.
        let node = unsafe { NodeRef::from_raw(node.as_ptr()) };
        self.unlink(node.header());
        let joiner = node.header().joiner.take();
        node.end();
        wake_each(joiner);
    }

    fn link(&self, node: NodeRef) {
        let older = self.newest.get();
        node.header().older.set(older);
        if let Some(older) = older {
            // SAFETY: it is in the list, which holds a reference to it.
            unsafe { older.as_ref() }.newer.set(Some(node.raw()));
        }
        self.newest.set(NonNull::new(node.into_raw()));
    }

    fn unlink(&self, node: &Header) {
        let (newer, older) = (node.newer.take(), node.older.take());
        match newer {
            // SAFETY: it is in the list, which holds a reference to it.
            Some(newer) => unsafe { newer.as_ref() }.older.set(older),
            None => self.newest.set(older),
        }
        if let Some(older) = older {
            // SAFETY: as above.
            unsafe { older.as_ref() }.newer.set(newer);
        }
    }

    /// Puts a chain of nodes behind those to be polled.
    fn append(&self, first: NonNull<Header>, last: NonNull<Header>) {
        let before = self.ready_last.replace(last.as_ptr());
        match self.ready.get().is_null() {
            true => self.ready.set(first.as_ptr()),
            // SAFETY: while there are nodes in order, the last of them is one: a counted reference.
            false => unsafe { (*before).next_ready.store(first.as_ptr(), Ordering::Relaxed) },
        }
    }
}

impl Drop for Set {
    fn drop(&mut self) {
        let panic = self.clear();
        self.queue.close();
        let mut rest = self.ready.replace(ptr::null_mut());
        while !rest.is_null() {
            // SAFETY: a node in order is a counted reference.
            unsafe {
                let next = (*rest).next_ready.load(Ordering::Relaxed);
                drop(NodeRef::from_raw(rest));
                rest = next;
            }
        }
        go_on(panic);
    }
}

/// Rethrows a panic of a destructor, unless the thread is already panicking: a second panic would abort the process.
fn go_on(panic: Option<Payload>) {
    if let Some(payload) = panic
        && !thread::panicking()
    {
        resume_unwind(payload);
    }
}

/// The handle of a child, which takes its output. Dropping it does not stop the child.
pub(super) struct Handle<T> {
    node: NodeRef,
    output: PhantomData<T>,
}

impl<T> Handle<T> {
    /// Looks at the output, if the child has ended.
    pub(super) fn peek(&self) -> Option<&T> {
        // SAFETY: `T` is the type of the output, from `push`; it leaves its place by `&mut self` alone.
        self.node.output().map(|output| unsafe { output.as_ref() })
    }

    /// Takes the output, if the child has ended and it was not taken before.
    pub(super) fn take(&mut self) -> Option<T> {
        // SAFETY: `T` is the type of the output, from `push`; it is not read again, because it counts as taken.
        self.node.output().map(|output: NonNull<T>| unsafe {
            self.node.taken();
            output.read()
        })
    }

    /// Takes the output, or waits for it.
    ///
    /// # Panics
    /// If the output was taken before.
    #[track_caller]
    pub(super) fn poll_take(&mut self, waker: &Waker) -> Poll<T> {
        if let Some(output) = self.take() {
            return Poll::Ready(output);
        }
        let joiner = &self.node.header().joiner;
        match self.node.phase() {
            Phase::Running => {
                let waker = match joiner.take() {
                    Some(current) if current.will_wake(waker) => current,
                    _ => waker.clone(),
                };
                joiner.set(Some(waker));
            }
            // Its scope is being dropped, or a panic of the child is on its way through it.
            Phase::Gone => {}
            Phase::Done | Phase::Taken => panic!("a `LocalTask` was polled after it returned its value"),
        }
        Poll::Pending
    }
}

impl<T> Drop for Handle<T> {
    fn drop(&mut self) {
        self.node.header().awaited.set(false);
        drop(self.node.header().joiner.take());
        drop(self.take());
    }
}
