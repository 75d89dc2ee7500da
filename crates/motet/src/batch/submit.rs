use std::pin::Pin;
use std::task::{Context, Poll, ready};

use super::entering::{Entered, Entering, Wants};
use super::error::SubmitError;
use super::slots::Answer;
use crate::sim::Site;
use crate::task::budget::poll_share;

/// The future of [`Batcher::submit`](super::Batcher::submit).
#[must_use = "an item is not submitted until the future is awaited"]
pub(super) struct Submit<'a, T, R, E> {
    entering: Entering<'a, T, R, E>,
    /// Set once the item is in a batch.
    entered: Option<Entered<T, R, E>>,
    site: Site,
}

/// The item is never pinned.
impl<T, R, E> Unpin for Submit<'_, T, R, E> {}

impl<'a, T, R, E> Submit<'a, T, R, E> {
    #[track_caller]
    pub(super) fn new(entering: Entering<'a, T, R, E>) -> Self {
        let site = Site::named("batcher", "submit", || Some(entering.shared().name.to_string()));
        Self { entering, entered: None, site }
    }
}

impl<T, R, E> Future for Submit<'_, T, R, E> {
    type Output = Result<R, SubmitError<T, E>>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let entered = self.site.enter();
        let polled = self.poll_inner(cx);
        entered.leave(polled)
    }
}

impl<T, R, E> Submit<'_, T, R, E> {
    #[inline]
    fn poll_inner(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<<Self as Future>::Output> {
        let share = ready!(poll_share(cx));
        let this = &mut *self;
        let Some(Entered { slots, slot, .. }) = &this.entered else {
            let entered = ready!(this.entering.poll(Wants::Answer, cx));
            share.spend();
            this.entered = match entered {
                Ok(entered) => Some(entered),
                Err(refused) => return Poll::Ready(Err(refused.into())),
            };
            return Poll::Pending;
        };
        let Some(answer) = this.entering.shared().answer(slots, *slot, cx) else { return Poll::Pending };
        share.spend();
        this.entered = None;
        Poll::Ready(match answer {
            Answer::Each(result) => result.map_err(SubmitError::Failed),
            Answer::All(failure) => Err(SubmitError::of_batch(failure)),
            Answer::Back(Some(item)) => Err(SubmitError::Closed(item)),
            Answer::Back(None) => unreachable!("only this future takes the answer of its slot"),
        })
    }
}

impl<T, R, E> Drop for Submit<'_, T, R, E> {
    #[inline]
    fn drop(&mut self) {
        if let Some(Entered { slots, slot, weight }) = self.entered.take() {
            self.entering.shared().leave(&slots, slot, weight);
        }
    }
}
