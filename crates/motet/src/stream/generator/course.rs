//! A body on its way from item to item, to its end.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tokio::task::coop;

use super::slot::{Key, Slot};
use crate::{mutant, sim};

/// So many items count as one operation of tokio's budget: one for each item cost as much again as the item.
const ITEMS_PER_OPERATION: u8 = 32;

/// What a body gives: items, and in the end its output.
pub(super) enum Step<T, O> {
    Item(T),
    /// The output is given once.
    End(Option<O>),
}

pin_project! {
    pub(super) struct Course<T, F: Future> {
        slot: Slot<T>,
        // Kept while an item that was emitted before is given.
        output: Option<F::Output>,
        // The body has returned or panicked.
        over: bool,
        // How many items are left of an operation.
        left: u8,
        #[pin]
        body: Option<F>,
    }
}

impl<T, F: Future> Course<T, F> {
    pub(super) fn new(body: impl FnOnce(Key<T>) -> F) -> Self {
        let (slot, key) = Slot::new();
        Self { slot, output: None, over: false, left: 0, body: Some(body(key)) }
    }

    #[inline]
    pub(super) fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Step<T, F::Output>> {
        let mut this = self.project();
        let body = match this.body.as_mut().as_pin_mut() {
            Some(body) if !*this.over => body,
            _ => {
                // One that panicked goes now, when nothing unwinds.
                this.body.set(None);
                return Poll::Ready(end(this.slot, this.output));
            }
        };
        if *this.left == 0 {
            // Asked for and not held meanwhile: with a single operation left, one that the body needs would never be
            // there.
            drop(ready!(coop::poll_proceed(cx)));
        }
        // Until it has returned: one that panics is not polled again.
        *this.over = true;
        let polled = this.slot.open(cx, |cx| body.poll(cx));
        *this.over = polled.is_ready();
        if let Poll::Ready(output) = polled {
            *this.output = Some(output);
            this.body.set(None);
            return Poll::Ready(end(this.slot, this.output));
        }
        let Some(item) = this.slot.take() else { return Poll::Pending };
        match this.left.checked_sub(1) {
            Some(left) => *this.left = left,
            None => {
                if coop::has_budget_remaining()
                    && let Poll::Ready(operation) = coop::poll_proceed(cx)
                {
                    operation.made_progress();
                }
                // Each item is an operation where interleavings are explored.
                *this.left = if sim::is_current() { 0 } else { ITEMS_PER_OPERATION - 1 };
            }
        }
        Poll::Ready(Step::Item(item))
    }

    /// Asks whether there is nothing more to come.
    pub(super) fn is_over(&self) -> bool {
        self.over && self.slot.is_empty() && self.output.is_none()
    }
}

/// What comes after the body: first what it emitted last.
fn end<T, O>(slot: &mut Slot<T>, output: &mut Option<O>) -> Step<T, O> {
    if mutant!("stream.drop_last_emit") {
        drop(slot.take());
    }
    match slot.take() {
        Some(item) => Step::Item(item),
        None => Step::End(output.take()),
    }
}
