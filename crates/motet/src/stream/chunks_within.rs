use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::{FusedStream, Stream};
use pin_project_lite::pin_project;
use tokio::task::coop;
use tokio::time::{Sleep, sleep};

use crate::mutant;
use crate::task::timeout::poll_limit;

pin_project! {
    /// The stream of [`chunks_within`](super::StreamCombinators::chunks_within).
    #[must_use = "a stream does nothing unless it is read"]
    pub struct ChunksWithin<S: Stream> {
        #[pin]
        stream: Option<S>,
        max_items: usize,
        within: Duration,
        chunk: Vec<S::Item>,
        // The timer of a chunk that waits for further items.
        #[pin]
        timer: Option<Sleep>,
    }
}

impl<S: Stream> ChunksWithin<S> {
    pub(super) fn new(stream: S, max_items: usize, within: Duration) -> Self {
        Self { stream: Some(stream), max_items, within, chunk: Vec::new(), timer: None }
    }
}

impl<S: Stream> Stream for ChunksWithin<S> {
    type Item = Vec<S::Item>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let had_budget = coop::has_budget_remaining();
        let mut this = self.project();
        while let Some(stream) = this.stream.as_mut().as_pin_mut() {
            match stream.poll_next(cx) {
                Poll::Ready(Some(item)) => {
                    if mutant!("stream.timer_per_item") {
                        this.timer.set(None);
                    }
                    this.chunk.push(item);
                    if this.chunk.len() >= *this.max_items {
                        break;
                    }
                }
                Poll::Ready(None) => this.stream.set(None),
                Poll::Pending if this.chunk.is_empty() => return Poll::Pending,
                Poll::Pending => {
                    // Without a timer, the first item was taken in this poll.
                    if this.timer.is_none() {
                        this.timer.set(Some(sleep(*this.within)));
                    }
                    if let Some(timer) = this.timer.as_mut().as_pin_mut() {
                        ready!(poll_limit(timer, had_budget, cx));
                    }
                    break;
                }
            }
        }
        this.timer.set(None);
        let chunk = std::mem::take(this.chunk);
        Poll::Ready((!chunk.is_empty()).then_some(chunk))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let held = usize::from(!self.chunk.is_empty());
        let (least, most) = self.stream.as_ref().map_or((0, Some(0)), Stream::size_hint);
        ((least / self.max_items).max(held), most.and_then(|most| most.checked_add(held)))
    }
}

impl<S: Stream> FusedStream for ChunksWithin<S> {
    fn is_terminated(&self) -> bool {
        self.stream.is_none() && self.chunk.is_empty()
    }
}

impl<S: Stream> fmt::Debug for ChunksWithin<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChunksWithin")
            .field("max_items", &self.max_items)
            .field("within", &self.within)
            .field("held", &self.chunk.len())
            .finish_non_exhaustive()
    }
}
