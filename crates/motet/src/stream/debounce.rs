use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::{FusedStream, Stream};
use pin_project_lite::pin_project;
use tokio::task::coop;
use tokio::time::{Sleep, sleep};

use crate::task::timeout::poll_limit;

pin_project! {
    /// The stream of [`debounce`](super::StreamCombinators::debounce).
    #[must_use = "a stream does nothing unless it is read"]
    pub struct Debounce<S: Stream> {
        #[pin]
        stream: Option<S>,
        quiet: Duration,
        latest: Option<S::Item>,
        // Started at the latest item.
        #[pin]
        timer: Option<Sleep>,
    }
}

impl<S: Stream> Debounce<S> {
    pub(super) fn new(stream: S, quiet: Duration) -> Self {
        Self { stream: Some(stream), quiet, latest: None, timer: None }
    }
}

impl<S: Stream> Stream for Debounce<S> {
    type Item = S::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        let had_budget = coop::has_budget_remaining();
        let mut this = self.project();
        while let Some(stream) = this.stream.as_mut().as_pin_mut() {
            match stream.poll_next(cx) {
                Poll::Ready(Some(item)) => {
                    *this.latest = Some(item);
                    this.timer.set(None);
                }
                Poll::Ready(None) => this.stream.set(None),
                Poll::Pending if this.latest.is_none() => return Poll::Pending,
                Poll::Pending => {
                    // Without a timer, the latest item was taken in this poll.
                    if this.timer.is_none() {
                        this.timer.set(Some(sleep(*this.quiet)));
                    }
                    if let Some(timer) = this.timer.as_mut().as_pin_mut() {
                        ready!(poll_limit(timer, had_budget, cx));
                    }
                    break;
                }
            }
        }
        this.timer.set(None);
        Poll::Ready(this.latest.take())
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let held = usize::from(self.latest.is_some());
        let most = self.stream.as_ref().map_or(Some(0), |stream| stream.size_hint().1);
        (held, most.and_then(|most| most.checked_add(held)))
    }
}

impl<S: Stream> FusedStream for Debounce<S> {
    fn is_terminated(&self) -> bool {
        self.stream.is_none() && self.latest.is_none()
    }
}

impl<S: Stream> fmt::Debug for Debounce<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Debounce")
            .field("quiet", &self.quiet)
            .field("holds_one", &self.latest.is_some())
            .finish_non_exhaustive()
    }
}
