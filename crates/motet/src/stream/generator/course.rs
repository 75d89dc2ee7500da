//! A body on its way from item to item, to its end.

use std::mem::ManuallyDrop;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tokio::task::coop;

use super::slot::{Key, Slot};
use crate::{mutant, sim};

/// So many items count as one operation of tokio's budget: one for each item cost as much again as the item.
const ITEMS_PER_OPERATION: i8 = 32;

/// What a body gives: items, and in the end its output.
pub(super) enum Step<T, O> {
    Item(T),
    /// The output is given once.
    End(Option<O>),
}

pin_project! {
    pub(super) struct Course<T, F: Future> {
        slot: Slot<T>,
        // How many items are left of an operation; none when it is over.
        left: i8,
        // The body has returned or panicked.
        over: bool,
        #[pin]
        body: Option<F>,
        // Kept while an item that was emitted before is given.
        output: Option<F::Output>,
    }
}

impl<T, F: Future> Course<T, F> {
    pub(super) fn new(body: impl FnOnce(Key<T>) -> F) -> Self {
        let (slot, key) = Slot::new();
        Self { slot, left: 0, over: false, body: Some(body(key)), output: None }
    }

    #[inline]
    pub(super) fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Step<T, F::Output>> {
        if self.left == 0
            && let Some(polled) = self.as_mut().begin(cx)
        {
            return polled;
        }
        let this = self.as_mut().project();
        this.slot.wake_waiter();
        let Some(body) = this.body.as_pin_mut() else { return Poll::Ready(self.end()) };
        let unwinds = Unwinds { left: this.left, over: this.over };
        let polled = this.slot.open(body, cx);
        let _returned = ManuallyDrop::new(unwinds);
        if let Poll::Ready(output) = polled {
            return Poll::Ready(self.returned(output));
        }
        let this = self.project();
        let Some(item) = this.slot.take() else { return Poll::Pending };
        *this.left -= 1;
        if *this.left < 0 {
            *this.left = begin_operation(cx);
        }
        Poll::Ready(Step::Item(item))
    }

    /// Asks whether there is nothing more to come.
    pub(super) fn is_over(&self) -> bool {
        self.over && self.slot.is_empty() && self.output.is_none()
    }
}

// What is done once in a while, out of the way of the rest.
impl<T, F: Future> Course<T, F> {
    /// Does what is due before the body is polled; gives what there is instead of that.
    #[cold]
    #[inline(never)]
    fn begin(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Option<Poll<Step<T, F::Output>>> {
        if self.over {
            return Some(Poll::Ready(self.end()));
        }
        // Asked for and not held meanwhile: with a single operation left, one that the body needs would never be there.
        coop::poll_proceed(cx).map(drop).is_pending().then_some(Poll::Pending)
    }

    #[cold]
    #[inline(never)]
    fn returned(mut self: Pin<&mut Self>, output: F::Output) -> Step<T, F::Output> {
        let this = self.as_mut().project();
        (*this.left, *this.over, *this.output) = (0, true, Some(output));
        self.end()
    }

    /// What comes after the body: first what it emitted last.
    #[cold]
    #[inline(never)]
    fn end(self: Pin<&mut Self>) -> Step<T, F::Output> {
        let mut this = self.project();
        // One that panicked goes now, when nothing unwinds.
        this.body.set(None);
        if mutant!("stream.drop_last_emit") {
            drop(this.slot.take());
        }
        match this.slot.take() {
            Some(item) => Step::Item(item),
            None => Step::End(this.output.take()),
        }
    }
}

/// Takes an operation for this item and those after it, of which it gives the number.
#[cold]
#[inline(never)]
fn begin_operation(cx: &mut Context<'_>) -> i8 {
    if coop::has_budget_remaining()
        && let Poll::Ready(operation) = coop::poll_proceed(cx)
    {
        operation.made_progress();
    }
    // Each item is an operation where interleavings are explored.
    if sim::is_current() { 0 } else { ITEMS_PER_OPERATION - 1 }
}

/// Notes that the body has panicked: it is not polled again.
struct Unwinds<'a> {
    left: &'a mut i8,
    over: &'a mut bool,
}

impl Drop for Unwinds<'_> {
    fn drop(&mut self) {
        (*self.left, *self.over) = (0, true);
    }
}
