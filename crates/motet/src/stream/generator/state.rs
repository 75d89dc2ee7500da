//! The state of a generator: its body, and the item that the body has emitted.

use std::mem::ManuallyDrop;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tokio::task::coop;

use super::slot::{Key, Slot};
use crate::{mutant, sim};

/// The number of items that count as one operation of tokio's budget. One operation per item would double the cost of an
/// item.
const ITEMS_PER_OPERATION: i8 = 32;

/// An item of the body, or its output.
pub(super) enum GeneratorStep<T, O> {
    Item(T),
    /// The output is returned once, and then `None`.
    End(Option<O>),
}

pin_project! {
    pub(super) struct GeneratorState<T, F: Future> {
        slot: Slot<T>,
        // The items that are left of an operation; 0 after the end of the body.
        left: i8,
        // `true` if the body has returned or panicked.
        over: bool,
        #[pin]
        body: Option<F>,
        // Stored while the last item is yielded.
        output: Option<F::Output>,
    }
}

impl<T, F: Future> GeneratorState<T, F> {
    pub(super) fn new(body: impl FnOnce(Key<T>) -> F) -> Self {
        let (slot, key) = Slot::new();
        Self { slot, left: 0, over: false, body: Some(body(key)), output: None }
    }

    #[inline]
    pub(super) fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<GeneratorStep<T, F::Output>> {
        if self.left == 0
            && let Some(polled) = self.as_mut().begin(cx)
        {
            return polled;
        }
        let this = self.as_mut().project();
        this.slot.wake_waiter();
        let Some(body) = this.body.as_pin_mut() else { return Poll::Ready(self.end()) };
        let guard = PanicGuard { left: this.left, over: this.over };
        let polled = this.slot.open(body, cx);
        let _returned = ManuallyDrop::new(guard);
        if let Poll::Ready(output) = polled {
            return Poll::Ready(self.returned(output));
        }
        let this = self.project();
        let Some(item) = this.slot.take() else { return Poll::Pending };
        *this.left -= 1;
        if *this.left < 0 {
            *this.left = begin_operation(cx);
        }
        Poll::Ready(GeneratorStep::Item(item))
    }

    /// Returns `true` if the stream has ended.
    pub(super) fn is_over(&self) -> bool {
        self.over && self.slot.is_empty() && self.output.is_none()
    }
}

// The rare steps. They are not inlined, so that the path of an item stays small.
impl<T, F: Future> GeneratorState<T, F> {
    /// Runs before the body is polled, when an operation has been used up. If it returns a value, the body is not polled.
    #[cold]
    #[inline(never)]
    fn begin(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Option<Poll<GeneratorStep<T, F::Output>>> {
        if self.over {
            return Some(Poll::Ready(self.end()));
        }
        // The budget is checked, and not held while the body runs: with one operation left, the body could not have it.
        coop::poll_proceed(cx).map(drop).is_pending().then_some(Poll::Pending)
    }

    #[cold]
    #[inline(never)]
    fn returned(mut self: Pin<&mut Self>, output: F::Output) -> GeneratorStep<T, F::Output> {
        let this = self.as_mut().project();
        (*this.left, *this.over, *this.output) = (0, true, Some(output));
        self.end()
    }

    /// Returns the last item of the body, and then its output.
    #[cold]
    #[inline(never)]
    fn end(self: Pin<&mut Self>) -> GeneratorStep<T, F::Output> {
        let mut this = self.project();
        // A body that panicked is dropped here, where no `PanicGuard` is active.
        this.body.set(None);
        if mutant!("stream.drop_last_emit") {
            drop(this.slot.take());
        }
        match this.slot.take() {
            Some(item) => GeneratorStep::Item(item),
            None => GeneratorStep::End(this.output.take()),
        }
    }
}

/// Takes an operation of the budget for this item and the following ones, and returns the number of the following ones.
#[cold]
#[inline(never)]
fn begin_operation(cx: &mut Context<'_>) -> i8 {
    if coop::has_budget_remaining()
        && let Poll::Ready(operation) = coop::poll_proceed(cx)
    {
        operation.made_progress();
    }
    // In a simulation, each item is an operation, so that more interleavings are explored.
    if sim::is_current() { 0 } else { ITEMS_PER_OPERATION - 1 }
}

/// Notes on drop that the body has panicked, so that it is not polled again.
struct PanicGuard<'a> {
    left: &'a mut i8,
    over: &'a mut bool,
}

impl Drop for PanicGuard<'_> {
    fn drop(&mut self) {
        (*self.left, *self.over) = (0, true);
    }
}
